# SPDX-License-Identifier: Apache-2.0
"""Binary convolutions by table lookup (PSHUFB), for x86 without a vector popcount.

A byte of a vector is one output channel; its weights lie one nibble to a byte and are the index of the
lookup. The nibbles of a pixel and of its right neighbour select one of 256 rows of 16 bytes: entry n of it
holds count(x0 ^ n) + 16 count(x1 ^ n). So one lookup counts 4 bits of the reduction for two pixels and all
lanes.

Three lookups are added up to l, whose fields reach 12. Then, b0 and b1 being the bytes of a word of 16 bits,
f and s the counts of the first and the second pixel over a chunk of 48 nibbles (up to 192, within a byte):

    a += l        added as bytes:                     a = f + 16 s mod 256
    h += l >> 4   shifted as words, added as bytes:   h1 = s1, h0 = s0 + 16 f1 mod 256

Hence s0 = h0 - 16 f1 = h0 - 16 a1, and f = a - 16 s, all mod 256. Counts go to sums of 16 bits, those of even
and of odd bytes apart: a vector's even bytes are the first half of its channels, the odd ones the second.

Stored forms. Activations: [images][rows][columns][nibbles] uint16, the row's place in the table (16 times its
number), made of the plain bits in memory that the caller lends. Weights: [vectors][nibbles][lanes] uint8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.binary.counting import Form, extent_of
from bnncc.kernels.binary.finish import finish_of
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.interleave import pack_channels
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import (
    Level,
    Pixels,
    Schedule,
    Tile,
    count_steps,
    each,
    even_tile,
    fuse,
    register_tiles,
    tiles,
    walk,
)
from bnncc.kernels.tiles import Sums
from bnncc.plan.kernel import BinaryConv, KernelSpec
from bnncc.plan.layout import WORD_BITS

MARK = "pairs"
"""The tile parameter that schedules of this template have."""

SHUFFLES = {16: "llvm.x86.ssse3.pshuf.b.128", 32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}
"""The lookup within 16 bytes, by lanes of a vector."""

TILES = {16: (4, 1), 32: (2, 2), 64: (2, 2)}
"""Pairs of pixels and vectors of a register tile, by lanes: two accumulators for each of their product."""

CHUNK = 48
"""Nibbles whose counts a byte holds the sum of."""

GROUP = 3
"""Lookups that are added up before their halves are parted."""

NIBBLES = WORD_BITS // 4
"""Of a word."""

TABLE_ROW = 16
"""Bytes of a row of the table."""


@dataclass(frozen=True)
class PairSchedule:
    """Tile parameters: `pairs` of neighbouring pixels by `blocks` vectors of `lanes` output channels;
    `channels_outermost` is 1 where the loop over the channels is outside those over pixels, else 0."""

    pairs: int
    blocks: int
    lanes: int
    channels_outermost: int = 1


def supports(spec: KernelSpec, isa: Isa) -> bool:
    """Whether this template makes kernels of `spec`: one bit on both sides, no zeros among the weights, whole
    words of output channels, neighbours to share a lookup, and sums that 16 bits hold. Three quarters
    of a pixel's bytes must hold channels: `binary.conv` takes twice the time for a byte, but skips others."""
    root = spec.root
    if not isinstance(root, BinaryConv) or not isa.has_byte_pairs or isa.popcount != "bytes":
        return False
    if root.ternary_input or root.ternary_weight or root.grid.planes > 1 or root.weight_planes > 1:
        return False
    pixels = Pixels.of(spec, root.window)
    if pixels.order == "batch" or pixels.columns < 2 or root.input.strides[3] != 1:
        return False
    plan = BinaryPlan.of(spec, "uint32", SHORTEST)
    if plan.masked or plan.channels.count % WORD_BITS or plan.max_count >= 1 << 15:
        return False
    return BinaryPlan.of(spec, "uint8", SHORTEST).items >= 3 * plan.items


SHORTEST = 8
"""Lanes of a half of the shortest vector."""


def default(spec: KernelSpec, isa: Isa) -> PairSchedule:
    """A good schedule without tuning."""
    channels = BinaryPlan.of(spec, "uint32", SHORTEST).channels.count
    lanes = isa.vector_bits // 8
    while channels % lanes:
        lanes //= 2
    pairs, blocks = TILES[lanes]
    return PairSchedule(
        even_tile(_pair_pixels(spec).columns, pairs), even_tile(channels // lanes, blocks), lanes
    )


def candidates(spec: KernelSpec, isa: Isa) -> Iterator[TileParameters]:
    """Tile parameters worth measuring, the default first."""
    best = default(spec, isa)
    yield asdict(best)
    columns = _pair_pixels(spec).columns
    vectors = BinaryPlan.of(spec, "uint32", SHORTEST).channels.count // best.lanes
    for pairs, blocks in ((2, 2), (4, 1), (3, 1), (2, 1), (1, 2), (1, 4), (7, 1), (3, 2), (4, 2)):
        for outermost in (1, 0):
            tile = PairSchedule(even_tile(columns, pairs), min(blocks, vectors), best.lanes, outermost)
            if extent_in_bytes(tile) < 1024:
                yield asdict(tile)


def extent_in_bytes(tile: PairSchedule) -> int:
    """Bytes of the accumulators of a tile."""
    return 2 * tile.pairs * tile.blocks * tile.lanes


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, which `supports` took; schedule: the fields of a PairSchedule."""
    tile = PairSchedule(**schedule) if schedule else default(spec, isa)
    form = Pairs(plan_of(spec, tile.lanes), tile.lanes)
    finish = finish_of(form, isa)
    parameters = (
        *form.inputs(),
        *finish.operands(),
        form.weight(),
        emit.constant_parameter("table", "uint8", 256 * TABLE_ROW, "counts of two nibbles against a third"),
        *finish.constants(),
        *finish.outputs(),
        form.scratch(),
    )
    walked = Schedule(tile.lanes // 2, 1, tile.pairs, 2 * tile.blocks, tile.channels_outermost)

    def body(buffers: Buffers) -> None:
        finish.attach(buffers)
        form.transform(buffers)
        for place in register_tiles(_pair_pixels(spec), form.plan.channels, walked):
            sums = form.count(place, buffers)
            for part, chosen in form.parts(place, sums):
                finish.store(part, chosen)

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        weight, *others = finish.pack(constants)
        return (weight, table(), *others)

    symbol = kernel_symbol(spec, isa, asdict(tile))
    function = emit.function(symbol, parameters, body)
    description = (
        f"nibbles of two pixels looked up, {tile.pairs} pairs, {tile.blocks} vectors of {tile.lanes} channels"
    )
    scratch_bytes = 2 * parameters[-1].extent
    return Kernel(symbol, spec, function, parameters, pack, asdict(tile), description, scratch_bytes)


def plan_of(spec: KernelSpec, lanes: int) -> BinaryPlan:
    """The plan of a convolution in halves of vectors, of which tiles may have any even number."""
    plan = BinaryPlan.of(spec, "uint32", lanes // 2)
    return replace(plan, channels=replace(plan.channels, unit=lanes // 2))


def table() -> np.ndarray:
    """uint8 [256][16], flat: row x0 + 16 x1 holds count(x0 ^ n) + 16 count(x1 ^ n) for n = 0..15."""
    counts = np.array([[bin(x ^ n).count("1") for n in range(16)] for x in range(16)], np.uint8)
    return (counts[None] + 16 * counts[:, None]).reshape(-1)


def _pair_pixels(spec: KernelSpec) -> Pixels:
    """The output pixels, two neighbours of a row taken as one."""
    assert isinstance(spec.root, BinaryConv)
    pixels = Pixels.of(spec, spec.root.window)
    return replace(pixels, columns=-(-pixels.columns // 2))


class Pairs(Form):
    """Counts of two pixels by one lookup.

    Sums are keyed by (pixel, half vector) of a tile whose columns are pairs: pixels 2p and 2p + 1 are those
    of pair p."""

    dtype = "int16"

    def __init__(self, plan: BinaryPlan, lanes: int):
        super().__init__(plan)
        self.lanes = lanes
        window = plan.root.window
        self.rows = 1 + (self.pixels.rows - 1) * window.stride_y + (window.height - 1) * window.dilation_y
        self.columns = (
            1 + (self.pixels.columns - 1) * window.stride_x + (window.width - 1) * window.dilation_x
        )
        self.pixel = plan.root.input.depth * NIBBLES
        self.row = self.columns * self.pixel
        self.levels = fuse(
            (
                Level(window.height, window.dilation_y * self.row),
                Level(window.width, window.dilation_x * self.pixel),
                Level(plan.items * NIBBLES, 1),
            )
        )
        self.steps = count_steps(self.levels)

    def inputs(self) -> tuple[Parameter, ...]:
        """The packed bits, seen as bytes."""
        return (emit.input_parameter("input", self.plan.root.input, "uint8"),)

    def weight(self) -> Parameter:
        """Parameter of the weights."""
        doc = f"weight nibbles [vectors][{self.steps}][lanes]"
        return emit.constant_parameter("weight", "uint8", self.plan.channels.stored * self.steps, doc)

    def scratch(self) -> Parameter:
        """Parameter of the memory for the stored form of the activations."""
        extent = self.pixels.images * self.rows * self.row
        return Parameter(
            "scratch", "uint16", extent, False, "uint16_t", "places in the table of pairs of nibbles"
        )

    def pack_weight(self, weight: np.ndarray) -> np.ndarray:
        """int8 [O, KH, KW, C/groups] in the stored form of `weight`."""
        octets = pack_channels(weight > 0, "uint32").reshape(len(weight), -1).astype("<u4").view(np.uint8)
        nibbles = np.stack((octets & 15, octets >> 4), axis=-1).reshape(-1, self.lanes, self.steps)
        halves = nibbles.reshape(-1, 2, self.lanes // 2, self.steps)
        return np.ascontiguousarray(halves.transpose(0, 3, 2, 1)).reshape(-1)

    # --- The activations ----------------------------------------------------------------------------------

    def transform(self, buffers: Buffers) -> None:
        """Emit the making of the stored form of the whole input."""
        window, layout = self.plan.root.window, self.plan.root.input
        for n in each(self.pixels.images, "image"):
            for y in each(self.rows, "row"):
                source = emit.bind(emit.pixel_address(layout, n, y - window.top, -window.left, 4))
                target = emit.bind((n * self.rows + y) * self.row)
                self._transform_row(buffers, source, target)

    def _transform_row(self, buffers: Buffers, source: Index, target: Index) -> None:
        """Each byte and the one `stride_x` pixels further, split into nibbles; one loop where the bytes of a
        row lie in one piece. The partner of a pixel near the end, which is not used, is the pixel itself."""
        step, size = 4 * self.plan.root.input.strides[2], 4 * self.plan.root.input.depth
        ahead = min(self.plan.root.window.stride_x, self.columns)
        for first, count, partner in (
            (0, self.columns - ahead, ahead * step),
            (self.columns - ahead, ahead, 0),
        ):
            rows, length = (1, count * size) if step == size else (count, size)
            for x in each(rows if length else 0, "column"):
                start = (first + x) * step
                for offset, width in _pieces(length):
                    place = source + start + offset
                    a = emit.bind(emit.load(buffers["input"], place, width))
                    b = emit.bind(emit.load(buffers["input"], place + partner, width))
                    to = target + (first + x) * self.pixel + 2 * offset
                    emit.store(buffers["scratch"], _places(a, b), to)

    # --- Counting -----------------------------------------------------------------------------------------

    def count(self, tile: Tile, buffers: Buffers) -> Sums:
        """Emit the counting of a tile of pairs."""
        half = self.lanes // 2
        keys = [(pixel, v) for pixel in range(2 * tile.columns) for v in range(len(tile.vectors))]
        sums = {key: emit.local("int16", half, "mismatches") for key in keys}
        for total in sums.values():
            self.clear(total)
        start = emit.bind_index(self._start(tile))
        *outer, run = self.levels
        assert run.stride == 1
        for offset, number in walk(tuple(outer)):
            for first, count in tiles(run.extent, _chunk(run.extent), "chunk"):
                lookups = _Lookups(self, tile, buffers)
                lookups.add_run(start + offset + first, number * run.extent + first, count)
                lookups.flush(sums)
        return sums

    def _start(self, tile: Tile) -> Index:
        """The place of the stored form of a tile's first pixel."""
        n, y, x = self.pixels.position(tile.image, tile.row, tile.column * 2)
        window = self.plan.root.window
        place = (n * self.rows + y * window.stride_y) * self.row + x * window.stride_x * self.pixel
        return place + tile.group * self.plan.items * NIBBLES

    def parts(self, tile: Tile, sums: Sums) -> Iterator[tuple[Tile, Sums]]:
        """A tile of pairs as tiles of pixels: the last pixel apart where rows may end before it."""
        first, columns = tile.column * 2, 2 * tile.columns
        if self.pixels.columns % 2 == 0:
            yield replace(tile, column=first, columns=columns), sums
            return
        yield replace(tile, column=first, columns=columns - 1), sums
        last = {(0, v): total for (pixel, v), total in sums.items() if pixel == columns - 1}
        end = replace(tile, column=first + columns - 1, columns=1)
        if not isinstance(end.column, int):
            with T.If(end.column < self.pixels.columns), T.Then():
                yield end, last
        elif end.column < self.pixels.columns:
            yield end, last


class _Lookups:
    """The accumulators a and h of a tile over one chunk."""

    def __init__(self, form: Pairs, tile: Tile, buffers: Buffers):
        self.form, self.tile, self.buffers, self.lanes = form, tile, buffers, form.lanes
        self.blocks = tile.vectors[::2]
        keys = [(p, v) for p in range(tile.columns) for v in range(len(self.blocks))]
        self.a = {key: emit.local("uint8", self.lanes, "both") for key in keys}
        self.h = {key: emit.local("uint8", self.lanes, "second") for key in keys}

    def add_run(self, place: Index, number: Index, count: int) -> None:
        """Emit the counting of `count` nibbles side by side, the first of them step `number`."""
        self._add(place, number, min(GROUP, count), is_first=True)
        for group in each(count // GROUP - 1, "group"):
            done = (group + 1) * GROUP
            self._add(place + done, number + done, GROUP)
        rest = count % GROUP if count > GROUP else 0
        if rest:
            self._add(place + count - rest, number + count - rest, rest)

    def _add(self, place: Index, number: Index, count: int, is_first: bool = False) -> None:
        """Emit up to three lookups for all pixels and vectors. The first ones store instead of adding."""
        weights = [
            [
                emit.bind(emit.load(self.buffers["weight"], at + i * self.lanes, self.lanes))
                for i in range(count)
            ]
            for at in (v.channel * self.form.steps + number * self.lanes for v in self.blocks)
        ]
        step = 2 * self.form.plan.root.window.stride_x * self.form.pixel
        for p in range(self.tile.columns):
            rows = [self._table_row(self.buffers["scratch"][place + p * step + i]) for i in range(count)]
            for v, chosen in enumerate(weights):
                found = [self._lookup(row, index) for row, index in zip(rows, chosen, strict=True)]
                three = emit.bind(sum(found[1:], start=found[0]))
                four = emit.constant(4, "uint16", self.lanes // 2)
                upper = self._bytes(self._words(three) >> four)
                for total, value in ((self.a[p, v], three), (self.h[p, v], upper)):
                    emit.store(total, value if is_first else emit.load(total, 0, self.lanes) + value, 0)

    def flush(self, sums: Sums) -> None:
        """Emit the addition of a chunk to the sums of both pixels of each pair."""
        half = self.lanes // 2
        four, high, both = (emit.constant(value, "uint16", half) for value in (4, 0xF0, 0xF0F))
        for (p, v), total in self.a.items():
            a, h = (emit.bind(emit.load(buffer, 0, self.lanes)) for buffer in (total, self.h[p, v]))
            second = emit.bind(h - self._bytes((self._words(a) >> four) & high))
            first = emit.bind(a - self._bytes((self._words(second) & both) << four))
            for pixel, counts in enumerate((first, second)):
                words = emit.bind(self._words(counts))
                self._add_words(sums[2 * p + pixel, 2 * v], words & emit.constant(255, "uint16", half))
                self._add_words(sums[2 * p + pixel, 2 * v + 1], words >> emit.constant(8, "uint16", half))

    def _add_words(self, total: Buffer, words: Value) -> None:
        lanes = extent_of(total)
        emit.store(total, emit.load(total, 0, lanes) + T.Cast(emit.vector_type("int16", lanes), words), 0)

    def _table_row(self, place: Value) -> Value:
        """A row of the table in every 16 bytes of a vector (VBROADCASTI128)."""
        row = emit.bind(emit.load(self.buffers["table"], T.Cast("int32", place), TABLE_ROW))
        return emit.bind(emit.concatenate([row] * (self.lanes // TABLE_ROW)))

    def _lookup(self, row: Value, index: Value) -> Value:
        return T.call_llvm_pure_intrin(f"uint8x{self.lanes}", SHUFFLES[self.lanes], row, index)

    def _words(self, value: Value) -> Value:
        return T.reinterpret(f"uint16x{self.lanes // 2}", value)

    def _bytes(self, value: Value) -> Value:
        return T.reinterpret(f"uint8x{self.lanes}", value)


def _chunk(extent: int) -> int:
    """The size of even chunks of a run: at most CHUNK, whole groups of lookups where the run has them."""
    size = even_tile(extent, CHUNK)
    return -(-size // GROUP) * GROUP


def _places(a: Value, b: Value) -> Value:
    """The places in the table of bytes and their partners: two of each, the low nibbles' first."""
    lanes = emit.lanes_of(a)
    four, high = (emit.constant(value, "uint8", lanes) for value in (4, 0xF0))
    low = emit.bind((a & emit.constant(15, "uint8", lanes)) | (b << four))
    upper = emit.bind((a >> four) | (b & high))
    numbers = T.Cast(f"uint16x{2 * lanes}", emit.side_by_side(low, upper))
    return numbers << emit.constant(4, "uint16", 2 * lanes)


def _pieces(count: int) -> Iterator[tuple[Index, int]]:
    """[0, count) bytes as (offset, width), the long ones in a loop."""
    for first, size in tiles(count, 16, "byte"):
        for offset, width in emit.pieces(size, 16):
            yield first + offset, width
