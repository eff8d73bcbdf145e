# SPDX-License-Identifier: Apache-2.0
"""Binary convolutions three words wide: a full adder over the three taps of a kernel row (AVX-512 VPOPCNTDQ).

Three differing words (kx = 0, 1, 2 at one channel word) cost three counts and three additions. A full adder
leaves two of each, and is nearly free on stored sums: of the words a, b, c of activations and of weights let

    u = a ^ b, v = b ^ c, s = a ^ b ^ c

These are linear: the exclusive-or of the stored words of both sides gives the same three of the differences.
The adder's sum is s, its carry (u | v) ^ s, one VPTERNLOG; so 8 operations for three words, not 9, and
mismatches = count(s) + 2 count(carry). At stride 1, v of a pixel is u of the next one, and is not stored.

Eight operations take four cycles on a Zen 4, as loops of nothing else do. Measured there, and not taken:

- A second adder, over the s of three rows, which needs 23 operations for nine words instead of 24, but seven
  VPTERNLOG, not three, and 12.4 cycles.
- A chain of adders that takes in two words a step: 2.5 operations a word, not 2.67 (no circuit of VPTERNLOG
  on stored sums takes in four words with fewer). With the running sum stored, too, 1.30 cycles a word in
  assembly, not 1.37; as a layer 1.00 of this kernel's time at 512 channels, 1.35 at 64.
- One pixel in eight counted by POPCNT, in general registers, for which vectors leave the time: an eighth is
  gained in a short loop of assembly while nothing runs on the core's other thread, 0 (64 channels) to 2.5 %
  (128) in an assembler's tile of a layer. LLVM's code of it takes 1.10 to 1.22.
- One accumulator, to which VPDPWSSDS adds the carries doubled: as fast in the least of the turns, 3 to 8 %
  slower in the medians of a busy machine.
- The loop over the channels inside, with the numbers of pixels asked for earlier: layers with a residual
  connection up to a fifth faster where others use the caches, 1 % slower where not; networks the same.
- Other orders of the operations, and epilogues woven into the counting instruction by instruction: 3 % in
  assembly, nothing in LLVM's code.

Stored forms. Activations: the three-word form of `plan.layout`, as their producer wrote it, or made of the
plain words by this kernel in memory that the caller lends. Weights: [vectors][rows * words][u, v, s][lanes].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.binary.counting import Form
from bnncc.kernels.binary.finish import finish_of
from bnncc.kernels.binary.halved import Halved
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.binary.put_off import emit_tiles
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.interleave import interleave, pack_channels
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import Level, Pixels, Schedule, Tile, each, even_tile, tiles, walk
from bnncc.kernels.tiles import Sums, local_piece
from bnncc.plan.kernel import BinaryConv, KernelSpec
from bnncc.plan.layout import WORD_BITS, Element, Layout

MARK = "triple"
"""The tile parameter that schedules of this template have, always 1."""

TAPS = 3
"""Taps of a kernel row."""

WORD_PAIRS = {4: "avx512.vpdpwssds.128", 8: "avx512.vpdpwssds.256", 16: "avx512.vpdpwssds.512"}
"""Addition of the sums of products of neighbours, by lanes of the result. They saturate, which no sum here
does: of those that do not, LLVM makes a product and an addition again."""

FEW_PIXELS = 256
"""Of an image: so many or fewer."""

MOST_PIXELS = 8
"""Of a tile: two accumulators each, and 32 registers."""


def supports(spec: KernelSpec, isa: Isa) -> bool:
    """Whether this template makes kernels of `spec`: one bit on both sides, three taps in a row, side by side
    at stride 1, and no zeros among the weights."""
    root = spec.root
    if not isinstance(root, BinaryConv) or isa.popcount != "vector32":
        return False
    window = root.window
    if (window.width, window.stride_x, window.dilation_x) != (TAPS, 1, 1) or root.input.strides[3] != 1:
        return False
    if root.ternary_input or root.ternary_weight or root.grid.planes > 1 or root.weight_planes > 1:
        return False
    return not BinaryPlan.of(spec, "uint32", isa.lanes).masked


def default(spec: KernelSpec, isa: Isa) -> Schedule:
    """A good schedule without tuning: 7 or 8 pixels by one vector, which share the weights.

    Real outputs of few pixels are written with the loop over the channels inside, so that those of a pixel,
    which lie together, are written together; of more pixels, the weights would have to be read too often."""
    pixels = _pixels(spec)
    exact = (size for size in (7, 8) if pixels.columns % size == 0)
    columns = next(exact, even_tile(pixels.columns, MOST_PIXELS))
    rows = even_tile(pixels.rows, MOST_PIXELS // columns)
    has_reals = any(output.layout.element is not Element.BIT for output in spec.outputs)
    is_small = pixels.rows * pixels.columns <= FEW_PIXELS
    return Schedule(isa.lanes, rows, columns, 1, 0 if has_reals and is_small else 1)


def candidates(spec: KernelSpec, isa: Isa) -> Iterator[TileParameters]:
    """Tile parameters worth measuring, the default first."""
    best, pixels = default(spec, isa), _pixels(spec)
    yield parameters_of(best)
    for most, vectors in ((7, 1), (8, 1), (6, 1), (5, 1), (4, 1), (10, 1), (14, 1), (4, 2), (3, 2), (2, 4)):
        columns = even_tile(pixels.columns, most)
        rows = even_tile(pixels.rows, max(1, most // columns))
        for outermost in (1, 0):
            if vectors <= -(-spec.shape[3] // isa.lanes):
                yield parameters_of(Schedule(isa.lanes, rows, columns, vectors, outermost))


def parameters_of(schedule: Schedule) -> dict[str, int]:
    """The tile parameters of a schedule of this template."""
    return {MARK: 1, **schedule.parameters()}


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, which `supports` took; schedule: the fields of a Schedule, and MARK."""
    given = {name: value for name, value in (schedule or {}).items() if name != MARK}
    tile = Schedule(**given) if given else default(spec, isa)
    form = ThreeWords(plan_of(spec, tile.lanes), isa)
    finish = finish_of(form, isa)
    parameters = (
        *form.inputs(),
        *finish.operands(),
        form.weight(),
        *finish.constants(),
        *finish.outputs(),
        *form.scratch(),
    )

    def body(buffers: Buffers) -> None:
        finish.attach(buffers)
        form.transform(buffers, isa.lanes)
        emit_tiles(form, finish, finish.schedule(tile), buffers)

    named = parameters_of(tile)
    symbol = kernel_symbol(spec, isa, named)
    function = emit.function(symbol, parameters, body)
    vectors = f"{tile.channel_vectors} vectors of {tile.lanes} channels"
    description = f"a full adder over three words, {tile.rows}x{tile.pixels} pixels, {vectors}"
    scratch_bytes = sum(4 * parameter.extent for parameter in form.scratch())
    return Kernel(symbol, spec, function, parameters, finish.pack, named, description, scratch_bytes)


def plan_of(spec: KernelSpec, lanes: int) -> BinaryPlan:
    """The plan of a convolution in vectors of so many channels. Where all words of a pixel's bits are full,
    they may be written half by half, and tiles need not be whole words wide."""
    plan = BinaryPlan.of(spec, "uint32", lanes)
    if plan.channels.count % WORD_BITS == 0:
        return replace(plan, channels=replace(plan.channels, unit=lanes))
    return plan


def _pixels(spec: KernelSpec) -> Pixels:
    assert isinstance(spec.root, BinaryConv)
    return Pixels.of(spec, spec.root.window)


class ThreeWords(Form):
    """Counts by a full adder; one step of the reduction is a row of the window at one channel word."""

    def __init__(self, plan: BinaryPlan, isa: Isa):
        super().__init__(plan)
        self.has_word_pairs = isa.has_byte_dot and self.plan.max_count * plan.root.grid.step < 1 << 15
        """Whether one instruction adds a multiple of a count."""
        if self.plan.max_count < 1 << 15:
            self.halved = Halved.of(plan.spec)
        root, window = plan.root, plan.root.window
        self.is_ready = root.input.form != "plain"
        self.stored = root.input if self.is_ready else _scratch_layout(plan.spec)
        self.corner = (window.top, window.left) if self.is_ready else (0, 0)
        """Where the window of output pixel (0, 0) starts, up and left of pixel (0, 0) of `stored`."""

    @property
    def adders(self) -> int:
        """Steps of one window."""
        return self.plan.root.window.height * self.plan.items

    def weight(self) -> Parameter:
        """Parameter of the weights."""
        extent = self.plan.channels.stored * self.adders * TAPS
        doc = f"weight bits [vectors][{self.adders}][a^b, b^c, a^b^c][lanes]"
        return emit.constant_parameter("weight", "uint32", extent, doc)

    def scratch(self) -> tuple[Parameter, ...]:
        """Parameter of the memory for the stored form of the activations, where they do not have it."""
        if self.is_ready:
            return ()
        doc = "a^b and a^b^c of the input"
        return (Parameter("scratch", "uint32", self.stored.extent, False, "uint32_t", doc),)

    def pack_weight(self, weight: np.ndarray) -> np.ndarray:
        """int8 [O, KH, 3, C/groups] in the stored form of `weight`."""
        bits = (weight > 0) ^ self.stored.stores_complements
        a, b, c = np.moveaxis(pack_channels(bits, "uint32"), 2, 0)
        return interleave(np.stack((a ^ b, b ^ c, a ^ b ^ c), axis=-1), self.plan.channels)

    # --- The activations ----------------------------------------------------------------------------------

    def transform(self, buffers: Buffers, lanes: int) -> None:
        """Emit the making of the stored form of the whole input, where it does not have it."""
        if self.is_ready:
            return
        stored, window, layout = self.stored, self.plan.root.window, self.plan.root.input
        for n in each(stored.shape[0], "image"):
            for y in each(stored.shape[1], "row"):
                source = emit.bind(emit.pixel_address(layout, n, y - window.top, -window.left))
                target = emit.bind(emit.pixel_address(stored, n, y, 0))
                _transform_row(buffers, layout, stored, source, target, lanes)

    # --- Counting -----------------------------------------------------------------------------------------

    def count(self, tile: Tile, buffers: Buffers, after_first: Callable[[], None] | None = None) -> Sums:
        """Emit the counting of a tile; after_first: emits what stands behind its first step."""
        pixels = self._offsets(tile)
        start = emit.bind_index(self._start(tile))
        adders = _Adders(self, tile, buffers, start, pixels)
        window, words = self.plan.root.window, self.plan.items
        step = window.dilation_y * self.stored.strides[1]
        adders.add(0, 0, is_first=True)
        if after_first is not None:
            after_first()
        for word in each(words - 1, "word"):
            adders.add(word + 1, word + 1)
        rest = (Level(window.height - 1, step), Level(words, 1))
        for offset, number in walk(rest) if window.height > 1 else ():
            adders.add(step + offset, words + number)
        return adders.sums()

    def value(self, total: Buffer, offset: Index, lanes: int, most: Value) -> Value:
        """most - step * mismatches, or half of it."""
        if self.halved is not None or not self.has_word_pairs or lanes not in WORD_PAIRS:
            return super().value(total, offset, lanes, most)
        return _plus_product(most, local_piece(total, offset, lanes), -self.plan.root.grid.step)

    def _start(self, tile: Tile) -> Index:
        """The place of u of a tile's first pixel."""
        n, y, x = self.pixels.position(tile.image, tile.row, tile.column)
        top, left = self.corner
        place = emit.pixel_address(self.stored, n, y * self.plan.root.window.stride_y - top, x - left)
        return place + tile.group * self.plan.items

    def _offsets(self, tile: Tile) -> list[int]:
        """Of u of every pixel of a tile from that of the first."""
        image, row, pixel, _ = self.stored.strides
        if self.pixels.order == "batch":
            pixel = image
        row *= self.plan.root.window.stride_y
        return [dy * row + dx * pixel for dy in range(tile.rows) for dx in range(tile.columns)]


class _Adders:
    """The accumulators of a tile: sums and carries of every (pixel, vector)."""

    def __init__(self, form: ThreeWords, tile: Tile, buffers: Buffers, start: Index, pixels: list[int]):
        self.form, self.tile, self.buffers, self.start, self.pixels = form, tile, buffers, start, pixels
        keys = [(p, v) for p in range(len(pixels)) for v in range(len(tile.vectors))]
        self.ones = {key: emit.local("int32", tile.vectors[key[1]].width, "ones") for key in keys}
        self.twos = {key: emit.local("int32", tile.vectors[key[1]].width, "twos") for key in keys}

    def add(self, offset: Index, number: Index, is_first: bool = False) -> None:
        """Emit step `number`, whose activations lie `offset` from those of the first one. The first step
        stores instead of adding."""
        stored = self.form.stored
        for v, vector in enumerate(self.tile.vectors):
            width, place = vector.width, (vector.channel * self.form.adders + number * vector.width) * TAPS
            wu, wv, ws = (
                emit.bind(emit.load(self.buffers["weight"], place + i * width, width)) for i in range(TAPS)
            )
            us = {at: self._word(at, offset, width) for at in self._all_u()}
            for p, at in enumerate(self.pixels):
                total = emit.bind(self._word(at + stored.sums_apart, offset, width) ^ ws)
                carry = ((us[at] ^ wu) | (us[at + stored.strides[2]] ^ wv)) ^ total
                _accumulate(self.ones[p, v], total, is_first)
                _accumulate(self.twos[p, v], carry, is_first)

    def _all_u(self) -> list[int]:
        """Offsets of the u that pixels and those to their right have."""
        return sorted({at + i * self.form.stored.strides[2] for at in self.pixels for i in range(2)})

    def _word(self, at: int, offset: Index, width: int) -> Value:
        """A stored word in every lane."""
        buffer = self.buffers["input" if self.form.is_ready else "scratch"]
        return emit.bind(emit.broadcast(buffer[self.start + offset + at], width))

    def sums(self) -> Sums:
        """The sums of mismatches."""
        has_pairs = self.form.has_word_pairs
        return {key: _Counts(ones, self.twos[key], has_pairs) for key, ones in self.ones.items()}


@dataclass(frozen=True)
class _Counts:
    """Sums of mismatches, `ones` and twice `twos`, added up where they are read; by one instruction where it
    `has_word_pairs`, which is 1 % of the time of a layer of 64 channels that ends in a threshold."""

    ones: Buffer
    twos: Buffer
    has_word_pairs: bool

    @property
    def shape(self) -> tuple[int]:
        """As of a buffer."""
        return self.ones.shape

    @property
    def dtype(self) -> str:
        """Of an element."""
        return str(self.ones.dtype)

    def vload(self, index: Sequence[Index], dtype: str) -> Value:
        """Neighbouring lanes."""
        ones, twos = self.ones.vload(index, dtype), emit.bind(self.twos.vload(index, dtype))
        if self.has_word_pairs and emit.lanes_of(twos) in WORD_PAIRS:
            return _plus_product(ones, twos, 2)
        return ones + (twos + twos)


def _plus_product(total: Value, count: Value, factor: int) -> Value:
    """total + factor * count for counts below 2^15: one instruction, which adds the products of both halves
    of a lane, of which the upper one is 0."""
    lanes = emit.lanes_of(count)
    words = emit.vector_type("int16", 2 * lanes)
    factors = T.reinterpret(words, emit.constant(factor & 0xFFFF, "int32", lanes))
    return T.call_llvm_pure_intrin(
        total.ty.dtype, f"llvm.x86.{WORD_PAIRS[lanes]}", total, T.reinterpret(words, count), factors
    )


def _accumulate(total: Buffer, bits: Value, is_first: bool) -> None:
    lanes = emit.lanes_of(bits)
    count = T.Cast(emit.vector_type("int32", lanes), T.popcount(bits))
    emit.store(total, count if is_first else emit.load(total, 0, lanes) + count, 0)


def _scratch_layout(spec: KernelSpec) -> Layout:
    """What a convolution reads in three-word form: rows and columns from the window's top left corner at
    output pixel (0, 0) on, up to the last one that some u is needed of."""
    root = spec.root
    assert isinstance(root, BinaryConv)
    window, (n, height, width, _), words = root.window, spec.shape, root.input.depth
    rows = (height - 1) * window.stride_y + (window.height - 1) * window.dilation_y + 1
    columns = width + TAPS - 2
    row = 2 * columns * words
    shape, strides = (n, rows, columns, root.input.shape[3]), (rows * row, row, words, 1)
    return Layout(Element.BIT, shape, strides, form="three-word")


def _transform_row(
    buffers: Buffers, layout: Layout, stored: Layout, source: Index, target: Index, lanes: int
) -> None:
    """Emit u and s of a row of pixels; s of the last pixel is not used. Where the words of a row lie in one
    piece it is one loop: all that u and s need is the same word of the next pixels."""
    words, step, last = stored.depth, layout.strides[2], stored.shape[2] - 1
    rows, count = (1, last * words) if step == words else (last, words)

    def store(source: Index, target: Index, width: int, has_sum: bool) -> None:
        a, b = (emit.load(buffers["input"], source + i * step, width) for i in range(2))
        u = emit.bind(a ^ b)
        emit.store(buffers["scratch"], u, target)
        if has_sum:
            s = u ^ emit.load(buffers["input"], source + 2 * step, width)
            emit.store(buffers["scratch"], s, target + stored.sums_apart)

    for x in each(rows, "column"):
        for first, size in tiles(count, lanes, "word"):
            for offset, width in emit.pieces(size, lanes):
                at = first + offset
                store(source + x * step + at, target + x * words + at, width, has_sum=True)
    for offset, width in emit.pieces(words, lanes):
        store(source + last * step + offset, target + last * words + offset, width, has_sum=False)
