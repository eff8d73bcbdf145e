# SPDX-License-Identifier: Apache-2.0
"""Binary convolution and dense layers: exclusive-or and popcount, in four forms.

- 32-bit lanes (AVX-512 VPOPCNTDQ): one word of activations against a vector of output channels.
- byte lanes (AVX2, SSE, NEON): the same with bytes; up to 31 counts of at most 8 are summed in a byte, then
  widened.
- bytes along the reduction (AArch64): see `binary.along`; taken where it costs fewer instructions.
- scalar code: one word against a block of output channels, in plain loops.

Stored forms. Activations are the plain words (seen as bytes in the second form). Weights: [vectors][steps]
[planes][lanes], the steps of the window in the order ky, kx, channel item; a vector's lanes are consecutive
output channels; a second plane of bits tells which weights are not zero, where some are. See `binary.plan`
for the table of border cases.

Activations and weights of a few bits are counted plane by plane, those of the largest exponent first, and the
sums are doubled in between.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit, neighbours
from bnncc.kernels.binary import along as binary_along
from bnncc.kernels.binary.counting import Form, as_int32, extent_of
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.epilogue_values import Position
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import (
    Levels,
    Pixels,
    Schedule,
    Tile,
    Vector,
    each_lane,
    even_tile,
    register_tiles,
    schedules,
    walk,
    walk_chunks,
)
from bnncc.kernels.tiles import Sums, local_piece, store_tile
from bnncc.plan.borders import Cases
from bnncc.plan.kernel import BinaryConv, KernelSpec
from bnncc.plan.layout import WORD_BITS, Element
from bnncc.plan.threshold import Threshold

BYTE_STEPS = 31
"""Counts of up to 8 that a byte holds the sum of."""


def default(spec: KernelSpec, isa: Isa) -> Schedule:
    """A good schedule without tuning.

    Real outputs are large: then a tile spans many channels of few pixels, which lie together in memory, and
    the loop over the channels is the inner one.
    """
    lanes = default_lanes(spec, isa)
    pixels = Pixels.of(spec, _root(spec).window)
    if along := _along(spec, isa, pixels):
        return along
    vectors = -(-spec.shape[3] // lanes)
    if _FORMS[isa.popcount] is _Scalar:
        return Schedule(lanes, 1, min(pixels.columns, 4), 1)
    has_reals = any(output.layout.element is not Element.BIT for output in spec.outputs)
    accumulators, most_vectors = _TILES[isa.popcount, has_reals]
    channel_vectors = even_tile(vectors, most_vectors)
    most_pixels = 7 if vectors == 1 else max(1, accumulators // channel_vectors)
    columns = even_tile(pixels.columns, most_pixels)
    rows = even_tile(pixels.rows, max(1, most_pixels // columns))
    if rows * columns == 1:
        channel_vectors = even_tile(vectors, max(most_vectors, 8))
    return Schedule(lanes, rows, columns, channel_vectors, 0 if has_reals else 1)


def _along(spec: KernelSpec, isa: Isa, pixels: Pixels) -> Schedule | None:
    """The schedule with vectors along the reduction, where that is cheaper than channels in the lanes."""
    if not binary_along.is_possible(isa) or _root(spec).ternary_input:
        return None
    words = BinaryPlan.of(spec, "uint32", binary_along.LANES)
    schedule = binary_along.default(words, pixels)
    return schedule if binary_along.instructions(words, schedule) == instructions(spec) else None


def instructions(spec: KernelSpec) -> float:
    """About how many instructions one output takes on NEON, in the better of the two forms."""
    words = BinaryPlan.of(spec, "uint32", binary_along.LANES)
    schedule = binary_along.default(words, Pixels.of(spec, _root(spec).window))
    in_lanes = _instructions_in_byte_lanes(BinaryPlan.of(spec, "uint8", binary_along.LANES))
    return min(binary_along.instructions(words, schedule), in_lanes)


def _instructions_in_byte_lanes(plan: BinaryPlan) -> float:
    """About how many instructions one output takes on NEON, by the same counts as those of the other form."""
    return plan.counted_pairs * ((0.24 + 0.07 * plan.planes_each) * plan.steps + 0.5)


_TILES = {
    ("vector32", False): (16, 2),
    ("vector32", True): (16, 4),
    ("bytes", False): (4, 8),
    ("bytes", True): (4, 4),
}
"""Accumulators and channel vectors of a register tile, without and with real outputs."""


def default_lanes(spec: KernelSpec, isa: Isa) -> int:
    """Output channels of a vector."""
    if _FORMS[isa.popcount] is _Scalar:
        return WORD_BITS
    if isa.popcount == "vector32":
        return isa.vector_bits // 32
    lanes = isa.vector_bits // 8
    while lanes > 16 and lanes > spec.shape[3]:
        lanes //= 2
    return lanes


def candidates(spec: KernelSpec, isa: Isa) -> Iterator[Schedule]:
    """Schedules worth measuring, the default first."""
    pixels = Pixels.of(spec, _root(spec).window)
    yield from schedules(default(spec, isa), pixels, spec.shape[3], range(4, 25))
    if binary_along.is_possible(isa) and not _root(spec).ternary_input:
        yield from binary_along.candidates(pixels)


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is a BinaryConv; schedule: the fields of a Schedule."""
    tile = Schedule(**schedule) if schedule else default(spec, isa)
    form = _form(spec, isa, tile)
    plan = form.plan
    finish = finish_of(form, isa)
    parameters = (*form.inputs(), *finish.operands(), form.weight(), *finish.constants(), *finish.outputs())

    def body(buffers: Buffers) -> None:
        finish.attach(buffers)
        for place in register_tiles(form.pixels, plan.channels, finish.schedule(tile)):
            finish.store(place, form.count(place, buffers))

    symbol = kernel_symbol(spec, isa, tile.parameters())
    function = emit.function(symbol, parameters, body)
    return Kernel(symbol, spec, function, parameters, finish.pack, tile.parameters(), _describe(isa, tile))


def finish_of(form: Form, isa: Isa) -> _PackedThreshold | _General:
    """What follows the counting of `form`."""
    threshold = Threshold.of(form.plan.spec)
    if threshold and not form.plan.root.ternary_input:
        return _PackedThreshold(form, threshold)
    return _General(form, isa)


def _describe(isa: Isa, tile: Schedule) -> str:
    if tile.along:
        return f"vectors along the reduction, {tile.rows}x{tile.pixels} pixels by {tile.along} channels"
    counted = {"vector32": "words counted in 32-bit lanes", "bytes": "bytes counted in byte lanes"}
    counting = counted.get(isa.popcount, "words counted one by one")
    vectors = f"{tile.channel_vectors} vectors of {tile.lanes} channels"
    return f"{counting}, {tile.rows}x{tile.pixels} pixels, {vectors}"


def _root(spec: KernelSpec) -> BinaryConv:
    assert isinstance(spec.root, BinaryConv)
    return spec.root


# --- Counting mismatches ---------------------------------------------------------------------


class _Lanes(Form):
    """Output channels in the lanes of vectors."""

    def add_steps(
        self,
        tile: Tile,
        buffers: Buffers,
        sums: Sums,
        planes: tuple[int, int],
        loops: Levels,
        at: tuple[Index, Index] = (0, 0),
    ) -> None:
        """Emit the steps of `loops` from (offset, number) `at` on, for one plane of the activations and one
        of the weights."""
        starts = [self.read_at(places, planes[0], buffers) for places in self.starts(tile)]
        for offset, number in walk(loops):
            weights = [
                [
                    emit.bind(emit.load(buffers["weight"], place, v.width))
                    for place in self.weight_at(v, at[1] + number, planes[1])
                ]
                for v in tile.vectors
            ]
            for p, places in enumerate(starts):
                items = [buffer[place + at[0] + offset] for buffer, place in places]
                self._add_pixel(tile, sums, p, items, weights)

    def _add_pixel(self, tile: Tile, sums: Sums, p: int, items: list, weights: list) -> None:
        spread = {
            width: [emit.bind(emit.broadcast(item, width)) for item in items]
            for width in {vector.width for vector in tile.vectors}
        }
        for v, vector in enumerate(tile.vectors):
            (x, *mask), (sign, *nonzero) = spread[vector.width], weights[v]
            counting = [*mask, *nonzero]
            self._add(sums[p, v], functools.reduce(operator.and_, counting, x ^ sign))
            if mask:
                self._add(sums[p, ~v], functools.reduce(operator.and_, counting))

    def _add(self, total: Buffer, bits: Value) -> None:
        lanes = emit.lanes_of(bits)
        count = T.Cast(emit.vector_type(total.dtype, lanes), T.popcount(bits))
        emit.store(total, emit.load(total, 0, lanes) + count, 0)


class _Words(_Lanes):
    """32-bit lanes."""

    def count(self, tile: Tile, buffers: Buffers) -> Sums:
        sums = self.zeros(tile, self.dtype)
        for planes in self.doubled(sums):
            self.add_steps(tile, buffers, sums, planes, self.plan.levels)
        return sums


class _Bytes(_Lanes):
    """Byte lanes, widened after BYTE_STEPS steps at the latest."""

    def __init__(self, plan: BinaryPlan):
        super().__init__(plan)
        self.dtype = "int16" if plan.max_count < 1 << 15 else "int32"

    def count(self, tile: Tile, buffers: Buffers) -> Sums:
        sums = self.zeros(tile, self.dtype)
        for planes in self.doubled(sums):
            for offset, number, loops in walk_chunks(self.plan.levels, BYTE_STEPS):
                parts = self.zeros(tile, "uint8")
                self.add_steps(tile, buffers, parts, planes, loops, (offset, number))
                for key, part in parts.items():
                    self._widen(sums[key], part)
        return sums

    def _widen(self, total: Buffer, part: Buffer) -> None:
        lanes = extent_of(part)
        wide = T.Cast(emit.vector_type(self.dtype, lanes), emit.load(part, 0, lanes))
        emit.store(total, emit.load(total, 0, lanes) + wide, 0)


class _Scalar(Form):
    """Plain loops over a block of output channels."""

    is_scalar = True

    def count(self, tile: Tile, buffers: Buffers) -> Sums:
        sums = self.zeros(tile, self.dtype)
        for planes in self.doubled(sums):
            self._add_plane(tile, buffers, sums, planes)
        return sums

    def _add_plane(self, tile: Tile, buffers: Buffers, sums: Sums, planes: tuple[int, int]) -> None:
        starts = [self.read_at(places, planes[0], buffers) for places in self.starts(tile)]
        for offset, number in walk(self.plan.levels):
            items = [[emit.bind(buffer[place + offset]) for buffer, place in places] for places in starts]
            for v, vector in enumerate(tile.vectors):
                for lane in each_lane(vector.valid):
                    sign, *nonzero = (
                        emit.bind(buffers["weight"][place + lane])
                        for place in self.weight_at(vector, number, planes[1])
                    )
                    for p, (x, *mask) in enumerate(items):
                        counting = [*mask, *nonzero]
                        self._add(sums[p, v], lane, functools.reduce(operator.and_, counting, x ^ sign))
                        if mask:
                            self._add(sums[p, ~v], lane, functools.reduce(operator.and_, counting))

    def double(self, total: Buffer) -> None:
        for lane in each_lane(extent_of(total)):
            T.buffer_store(total, total[lane] + total[lane], [lane])

    def clear(self, total: Buffer) -> None:
        for lane in each_lane(extent_of(total)):
            T.buffer_store(total, tirx.const(0, total.dtype), [lane])

    def _add(self, total: Buffer, lane: Index, bits: Value) -> None:
        T.buffer_store(total, total[lane] + T.Cast("int32", T.popcount(bits)), [lane])


_FORMS = {"vector32": _Words, "bytes": _Bytes, "words": _Scalar, "scalar": _Scalar, "none": _Scalar}


def _form(spec: KernelSpec, isa: Isa, tile: Schedule) -> Form:
    if tile.along:
        return binary_along.Along(BinaryPlan.of(spec, "uint32", tile.lanes), tile.along)
    return _FORMS[isa.popcount](
        BinaryPlan.of(spec, "uint8" if isa.popcount == "bytes" else "uint32", tile.lanes)
    )


# --- What follows the counts -----------------------------------------------------------------


def border_case(plan: BinaryPlan, y: Index, x: Index) -> Index:
    """The border case of output pixel (y, x)."""
    if not plan.has_cases:
        return 0
    rows, columns = plan.borders.rows, plan.borders.columns
    return _axis_case(rows, y) * columns.count + _axis_case(columns, x)


def _axis_case(cases: Cases, position: Index) -> Index:
    if cases.count == 1:
        return 0
    if isinstance(position, int):
        return cases.case(position)
    return T.min(position, cases.first) + T.max(position - cases.last, 0)


class _PackedThreshold:
    """The whole epilogue is an integer threshold: a bit is m <= limit[case][o], a comparison of counts."""

    def __init__(self, form: Form, threshold: Threshold):
        self.form, self.plan, self.threshold = form, form.plan, threshold
        self.layout = form.plan.spec.outputs[0].layout
        self.item_bits = min(WORD_BITS, form.plan.channels.lanes)
        self.buffers: Buffers = {}

    def operands(self) -> tuple[Parameter, ...]:
        """None: a threshold reads constants only."""
        return ()

    def constants(self) -> tuple[Parameter, ...]:
        """The limits."""
        extent = self.plan.cases * self.plan.channels.stored
        doc = f"limits [{self.plan.cases}][channels]: the bit is mismatches <= limit"
        return (emit.constant_parameter("limit", self.form.dtype, extent, doc),)

    def outputs(self) -> tuple[Parameter, ...]:
        """The packed bits."""
        dtype = f"uint{self.item_bits}"
        return (emit.layout_parameter("output", self.layout, is_const=False, dtype=dtype),)

    def pack(self, constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Weights, negated in the channels whose comparison points the other way, and limits."""
        signs, thresholds = self.threshold.at_least(constants)
        weight = constants[0] * signs.astype(np.int8)[:, None, None, None]
        return self.form.pack_weight(weight), self.plan.pack_limits(weight, thresholds, self.form.dtype)

    def schedule(self, schedule: Schedule) -> Schedule:
        """The nearest one whose tiles `store` can take."""
        return schedule

    def attach(self, buffers: Buffers) -> None:
        """Use these parameters."""
        self.buffers = buffers

    def prefetch(self, tile: Tile) -> None:
        """Nothing: bits are few."""

    def store(self, tile: Tile, sums: Sums) -> None:
        """Emit comparisons and stores of a tile."""
        per_word = WORD_BITS // self.item_bits
        if self.layout.form != "plain":
            self._store_rows(tile, sums, per_word)
            return
        for p, (row, column) in enumerate(tile.pixels()):
            pixel, limits = self._pixel(tile, row, column, per_word)
            for v, vector in enumerate(tile.vectors):
                bits = self._bits(sums[p, v], limits + vector.channel, vector)
                for i, item in enumerate(bits):
                    place = pixel + vector.channel // self.item_bits + i
                    T.buffer_store(self.buffers["output"], item, [place])
                self._clear_rest(pixel, vector)

    def _pixel(self, tile: Tile, row: Index, column: Index, per_word: int) -> tuple[Index, Index]:
        """Where the bits of a pixel go, in items, and where its limits are."""
        n, y, x = self.form.pixels.position(tile.image, row, column)
        limits = border_case(self.plan, y, x) * self.plan.channels.stored
        return emit.address(self.layout, n, y, x, 0, per_word), limits

    def _store_rows(self, tile: Tile, sums: Sums, per_word: int) -> None:
        """The same in three-word form: the pixels of a row together."""
        buffer, pixels = self.buffers["output"], tile.pixels()
        for v, vector in enumerate(tile.vectors):
            for first in range(0, len(pixels), tile.columns):
                rows = []
                for p in range(first, first + tile.columns):
                    _, limits = self._pixel(tile, *pixels[p], per_word)
                    rows.append(self._bits(sums[p, v], limits + vector.channel, vector))
                start, _ = self._pixel(tile, *pixels[first], per_word)
                place = start + vector.channel // self.item_bits
                for i, bits in enumerate(zip(*rows, strict=True)):
                    neighbours.store_row(
                        self.layout,
                        per_word,
                        place + i,
                        bits,
                        lambda at: buffer[at],
                        lambda item, at: T.buffer_store(buffer, item, [at]),
                    )

    def _bits(self, total: Buffer, limit: Index, vector: Vector) -> list[Value]:
        if self.form.is_scalar:
            return [self.form.compared(total, self.buffers["limit"], limit, vector)]
        width = min(self.item_bits, vector.width)
        return [
            self._lane_bits(emit.load(total, i, width), emit.load(self.buffers["limit"], limit + i, width))
            for i in range(0, vector.width, width)
        ]

    def _lane_bits(self, count: Value, limit: Value) -> Value:
        lanes = emit.lanes_of(count)
        mask = T.reinterpret(f"uint{lanes}", T.Cast(f"uint1x{lanes}", count <= limit))
        return mask if lanes == self.item_bits else T.Cast(f"uint{self.item_bits}", mask)

    def _clear_rest(self, pixel: Index, vector: Vector) -> None:
        """Emit zeros for what of the last word no vector computes."""
        if vector in self.plan.channels.rest[-1:]:
            first = vector.channel + vector.width
            for place in range(-(-first // self.item_bits), self.layout.depth * WORD_BITS // self.item_bits):
                T.buffer_store(
                    self.buffers["output"], tirx.const(0, f"uint{self.item_bits}"), [pixel + place]
                )


class _General:
    """Any other epilogue, fed with value = base[case][o] - step*m, or half of it; of a ternary input with
    taps - 2*m."""

    def __init__(self, form: Form, isa: Isa):
        self.form, self.plan = form, form.plan
        self.epilogue = Epilogue(form.halved.spec if form.halved else form.plan.spec, isa)
        self.buffers: Buffers = {}

    def operands(self) -> tuple[Parameter, ...]:
        """Those of the epilogue."""
        return self.epilogue.operands

    def constants(self) -> tuple[Parameter, ...]:
        """The table of border cases and the constants of the epilogue."""
        if self.plan.root.ternary_input:
            return self.epilogue.constants
        extent = self.plan.cases * self.plan.channels.stored
        step = 1 if self.form.halved else self.plan.root.grid.step
        value = "half the value" if self.form.halved else "the value"
        doc = f"base [{self.plan.cases}][channels]: {value} is base - {step} * mismatches"
        return emit.constant_parameter("base", "int32", extent, doc), *self.epilogue.constants

    def outputs(self) -> tuple[Parameter, ...]:
        """Those of the epilogue."""
        return self.epilogue.outputs

    def pack(self, constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Weights, the table, and what the epilogue reads."""
        weight, halved = self.form.pack_weight(constants[0]), self.form.halved
        if self.plan.root.ternary_input:
            return weight, *self.epilogue.pack(constants)
        base = self.plan.pack_base(constants[0])
        if halved is not None:
            base, constants = halved.table(base), halved.constants(constants)
        return weight, base, *self.epilogue.pack(constants)

    def schedule(self, schedule: Schedule) -> Schedule:
        """The nearest one whose tiles `store` can take."""
        return self.plan.channels.whole_units(schedule)

    def attach(self, buffers: Buffers) -> None:
        """Use these parameters."""
        self.buffers = buffers
        self.epilogue.attach(buffers)

    def prefetch(self, tile: Tile) -> None:
        """Ask for the memory that `store` will need."""
        for row, column in tile.pixels():
            position = self.form.pixels.position(tile.image, row, column)
            for vector in tile.vectors:
                self.epilogue.prefetch(position, vector.channel, vector.valid)

    def store(self, tile: Tile, sums: Sums) -> None:
        """Emit the epilogue of a tile."""

        def value(pixel: int, position: Position, number: int, offset: Index, lanes: int) -> Value:
            channel = tile.vectors[number].channel + offset
            if self.plan.root.ternary_input:
                most = as_int32(local_piece(sums[pixel, ~number], offset, lanes))
            else:
                row = border_case(self.plan, position[1], position[2]) * self.plan.channels.stored
                most = emit.load(self.buffers["base"], row + channel, lanes)
            return self.form.value(sums[pixel, number], offset, lanes, most)

        store_tile(self.epilogue, self.form.pixels, tile, value)
