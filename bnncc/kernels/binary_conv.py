# SPDX-License-Identifier: Apache-2.0
"""Binary convolution and dense layers: exclusive-or and popcount, in three forms.

- 32-bit lanes (AVX-512 VPOPCNTDQ): one word of activations against a vector of output channels.
- byte lanes (AVX2, SSE, NEON): the same with bytes; up to 31 counts of at most 8 are summed in a byte, then
  widened.
- scalar code: one word against a block of output channels, in plain loops.

Stored forms. Activations are the plain words (seen as bytes in the second form). Weights: [vectors][steps]
[planes][lanes], the steps of the window in the order ky, kx, channel item; a vector's lanes are consecutive
output channels; a second plane of bits tells which weights are not zero, where some are. See `binary_plan`
for the table of border cases.

Activations and weights of a few bits are counted plane by plane, those of the largest exponent first, and the
sums are doubled in between.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.binary_plan import BinaryPlan, Threshold
from bnncc.kernels.borders import Cases
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue, Position
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
from bnncc.plan.kernel import BinaryConv, KernelSpec
from bnncc.plan.layout import WORD_BITS, Element

BYTE_STEPS = 31
"""Counts of up to 8 that a byte holds the sum of."""


def default(spec: KernelSpec, isa: Isa) -> Schedule:
    """A good schedule without tuning.

    Real outputs are large: then a tile spans many channels of few pixels, which lie together in memory, and
    the loop over the channels is the inner one.
    """
    lanes = default_lanes(spec, isa)
    pixels = Pixels.of(spec, _root(spec).window)
    vectors = -(-spec.shape[3] // lanes)
    if isa.popcount == "scalar":
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


_TILES = {
    ("vector32", False): (16, 2),
    ("vector32", True): (16, 4),
    ("bytes", False): (4, 8),
    ("bytes", True): (4, 4),
}
"""Accumulators and channel vectors of a register tile, without and with real outputs."""


def default_lanes(spec: KernelSpec, isa: Isa) -> int:
    """Output channels of a vector."""
    if isa.popcount == "scalar":
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
    return schedules(default(spec, isa), pixels, spec.shape[3], range(4, 25))


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is a BinaryConv; schedule: the fields of a Schedule."""
    tile = Schedule(**schedule) if schedule else default(spec, isa)
    plan = BinaryPlan.of(spec, "uint8" if isa.popcount == "bytes" else "uint32", tile.lanes)
    form = _FORMS[isa.popcount](plan)
    threshold = Threshold.of(spec)
    if threshold and not plan.root.ternary_input:
        finish = _PackedThreshold(form, threshold)
    else:
        finish = _General(form, isa)
    parameters = (*form.inputs(), *finish.operands(), form.weight(), *finish.constants(), *finish.outputs())

    def body(buffers: Buffers) -> None:
        finish.attach(buffers)
        for place in register_tiles(form.pixels, plan.channels, finish.schedule(tile)):
            finish.store(place, form.count(place, buffers))

    symbol = kernel_symbol(spec, isa, asdict(tile))
    function = emit.function(symbol, parameters, body)
    return Kernel(symbol, spec, function, parameters, finish.pack, asdict(tile), _describe(isa, tile))


def _describe(isa: Isa, tile: Schedule) -> str:
    counted = {"vector32": "words counted in 32-bit lanes", "bytes": "bytes counted in byte lanes"}
    counting = counted.get(isa.popcount, "words counted one by one")
    vectors = f"{tile.channel_vectors} vectors of {tile.lanes} channels"
    return f"{counting}, {tile.rows}x{tile.pixels} pixels, {vectors}"


def _root(spec: KernelSpec) -> BinaryConv:
    assert isinstance(spec.root, BinaryConv)
    return spec.root


# --- Counting mismatches ---------------------------------------------------------------------


class _Form:
    """How the mismatches of a register tile are counted.

    Sums are keyed by (pixel, vector) of the tile; those for the taps of a ternary input that count at all
    by (pixel, ~vector).
    """

    dtype = "int32"
    """Of the sums."""

    def __init__(self, plan: BinaryPlan):
        self.plan = plan
        self.pixels = Pixels.of(plan.spec, plan.root.window)
        more = tuple(f"input{b}" for b in range(1, plan.root.grid.planes))
        self.names = ("input", "mask") if plan.root.ternary_input else ("input", *more)

    def inputs(self) -> tuple[Parameter, ...]:
        """Parameters of the root's inputs."""
        layouts = zip(self.names, self.plan.spec.inputs, strict=True)
        return tuple(emit.input_parameter(name, layout, self.plan.dtype) for name, layout in layouts)

    def weight(self) -> Parameter:
        """Parameter of the weights."""
        plan = self.plan
        extent = plan.channels.stored * plan.steps * plan.planes
        doc = f"weight bits [vectors][{plan.steps}][{plan.planes}][lanes]"
        return emit.constant_parameter("weight", plan.dtype, extent, doc)

    def count(self, tile: Tile, buffers: Buffers) -> Sums:
        """Emit the counting of a tile."""
        raise NotImplementedError

    def starts(self, tile: Tile) -> list[list[Index]]:
        """For each pixel and input the item at which the pixel's window starts."""
        window, items = self.plan.root.window, self.plan.items_per_word
        result = []
        for row, column in tile.pixels():
            n, y, x = self.pixels.position(tile.image, row, column)
            top, left = y * window.stride_y - window.top, x * window.stride_x - window.left
            result.append(
                [
                    emit.pixel_address(layout, n, top, left, items) + tile.group * self.plan.items
                    for layout in self.plan.spec.inputs
                ]
            )
        return result

    def weight_at(self, vector: Vector, number: Index, plane: int) -> list[Index]:
        """The places of a step's weights in their buffer: signs, and where masked which are not zero."""
        plan = self.plan
        first = number * plan.planes + plane * plan.planes_each
        return [
            vector.channel * (plan.steps * plan.planes) + (first + i) * vector.width
            for i in range(plan.planes_each)
        ]

    def read_at(self, starts: list[Index], plane: int, buffers: Buffers) -> list[tuple[Buffer, Index]]:
        """The buffers to read a plane of the activations from, the mask included, and where they start."""
        chosen = range(2) if self.plan.root.ternary_input else (plane,)
        return [(buffers[self.names[i]], starts[i]) for i in chosen]

    def doubled(self, sums: Sums) -> Iterator[tuple[int, int]]:
        """The pairs (plane of the activations, plane of the weights) to count, the sums doubled where it is
        their turn."""
        for turn, pairs in enumerate(self.plan.exponents()):
            for total in sums.values() if turn else ():
                self.double(total)
            yield from pairs

    def double(self, total: Buffer) -> None:
        """Emit the doubling of a local."""
        value = emit.load(total, 0, _extent(total))
        emit.store(total, value + value, 0)

    def zeros(self, tile: Tile, dtype: str) -> Sums:
        """Locals for every sum, zeroed."""
        kinds = 2 if self.plan.root.ternary_input else 1
        sums = {
            (p, key): emit.local(dtype, vector.width, "mismatches")
            for p in range(tile.rows * tile.columns)
            for v, vector in enumerate(tile.vectors)
            for key in (v, ~v)[:kinds]
        }
        for total in sums.values():
            self.clear(total)
        return sums

    def clear(self, total: Buffer) -> None:
        """Emit the zeroing of a local."""
        emit.store(total, emit.constant(0, total.dtype, _extent(total)), 0)


class _Lanes(_Form):
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
        lanes = _extent(part)
        wide = T.Cast(emit.vector_type(self.dtype, lanes), emit.load(part, 0, lanes))
        emit.store(total, emit.load(total, 0, lanes) + wide, 0)


class _Scalar(_Form):
    """Plain loops over a block of output channels."""

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
        for lane in each_lane(_extent(total)):
            T.buffer_store(total, total[lane] + total[lane], [lane])

    def clear(self, total: Buffer) -> None:
        for lane in each_lane(_extent(total)):
            T.buffer_store(total, tirx.const(0, total.dtype), [lane])

    def _add(self, total: Buffer, lane: Index, bits: Value) -> None:
        T.buffer_store(total, total[lane] + T.Cast("int32", T.popcount(bits)), [lane])


def _extent(local: Buffer) -> int:
    return int(local.shape[0])


_FORMS = {"vector32": _Words, "bytes": _Bytes, "scalar": _Scalar}


# --- What follows the counts -----------------------------------------------------------------


def _case(plan: BinaryPlan, y: Index, x: Index) -> Index:
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

    def __init__(self, form: _Form, threshold: Threshold):
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
        return self.plan.pack_weight(weight), self.plan.pack_limits(weight, thresholds, self.form.dtype)

    def schedule(self, schedule: Schedule) -> Schedule:
        """The nearest one whose tiles `store` can take."""
        return schedule

    def attach(self, buffers: Buffers) -> None:
        """Use these parameters."""
        self.buffers = buffers

    def store(self, tile: Tile, sums: Sums) -> None:
        """Emit comparisons and stores of a tile."""
        per_word = WORD_BITS // self.item_bits
        for p, (row, column) in enumerate(tile.pixels()):
            n, y, x = self.form.pixels.position(tile.image, row, column)
            limits = _case(self.plan, y, x) * self.plan.channels.stored
            pixel = emit.address(self.layout, n, y, x, 0, per_word)
            for v, vector in enumerate(tile.vectors):
                bits = self._bits(sums[p, v], limits + vector.channel, vector)
                for i, item in enumerate(bits):
                    place = pixel + vector.channel // self.item_bits + i
                    T.buffer_store(self.buffers["output"], item, [place])
                self._clear_rest(pixel, vector)

    def _bits(self, total: Buffer, limit: Index, vector: Vector) -> list[Value]:
        if isinstance(self.form, _Scalar):
            return [self._scalar_bits(total, limit, vector)]
        width = min(self.item_bits, vector.width)
        return [
            self._lane_bits(emit.load(total, i, width), emit.load(self.buffers["limit"], limit + i, width))
            for i in range(0, vector.width, width)
        ]

    def _lane_bits(self, count: Value, limit: Value) -> Value:
        lanes = emit.lanes_of(count)
        mask = T.reinterpret(f"uint{lanes}", T.Cast(f"uint1x{lanes}", count <= limit))
        return mask if lanes == self.item_bits else T.Cast(f"uint{self.item_bits}", mask)

    def _scalar_bits(self, total: Buffer, limit: Index, vector: Vector) -> Value:
        word = emit.local("uint32", 1, "word")
        T.buffer_store(word, tirx.const(0, "uint32"), [0])
        for lane in each_lane(vector.valid):
            bit = T.Cast("uint32", total[lane] <= self.buffers["limit"][limit + lane])
            T.buffer_store(word, word[0] | (bit << T.Cast("uint32", lane)), [0])
        return word[0]

    def _clear_rest(self, pixel: Index, vector: Vector) -> None:
        """Emit zeros for what of the last word no vector computes."""
        if vector in self.plan.channels.rest[-1:]:
            first = vector.channel + vector.width
            for place in range(-(-first // self.item_bits), self.layout.depth * WORD_BITS // self.item_bits):
                T.buffer_store(
                    self.buffers["output"], tirx.const(0, f"uint{self.item_bits}"), [pixel + place]
                )


class _General:
    """Any other epilogue, fed with value = base[case][o] - step*m; of a ternary input with taps - 2*m."""

    def __init__(self, form: _Form, isa: Isa):
        self.form, self.plan = form, form.plan
        self.step = form.plan.root.grid.step
        self.epilogue = Epilogue(form.plan.spec, isa)
        self.buffers: Buffers = {}

    def operands(self) -> tuple[Parameter, ...]:
        """Those of the epilogue."""
        return self.epilogue.operands

    def constants(self) -> tuple[Parameter, ...]:
        """The table of border cases and the constants of the epilogue."""
        if self.plan.root.ternary_input:
            return self.epilogue.constants
        extent = self.plan.cases * self.plan.channels.stored
        doc = f"base [{self.plan.cases}][channels]: the value is base - {self.step} * mismatches"
        return emit.constant_parameter("base", "int32", extent, doc), *self.epilogue.constants

    def outputs(self) -> tuple[Parameter, ...]:
        """Those of the epilogue."""
        return self.epilogue.outputs

    def pack(self, constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Weights, the table, and what the epilogue reads."""
        weight = self.plan.pack_weight(constants[0])
        table = () if self.plan.root.ternary_input else (self.plan.pack_base(constants[0]),)
        return weight, *table, *self.epilogue.pack(constants)

    def schedule(self, schedule: Schedule) -> Schedule:
        """The nearest one whose tiles `store` can take."""
        return self.plan.channels.whole_units(schedule)

    def attach(self, buffers: Buffers) -> None:
        """Use these parameters."""
        self.buffers = buffers
        self.epilogue.attach(buffers)

    def store(self, tile: Tile, sums: Sums) -> None:
        """Emit the epilogue of a tile."""

        def value(pixel: int, position: Position, number: int, offset: Index, lanes: int) -> Value:
            channel = tile.vectors[number].channel + offset
            mismatches = _as_int32(local_piece(sums[pixel, number], offset, lanes))
            if self.plan.root.ternary_input:
                most = _as_int32(local_piece(sums[pixel, ~number], offset, lanes))
            else:
                row = _case(self.plan, position[1], position[2]) * self.plan.channels.stored
                most = emit.load(self.buffers["base"], row + channel, lanes)
            return most - mismatches * emit.constant(self.step, "int32", lanes)

        store_tile(self.epilogue, self.form.pixels, tile, value)


def _as_int32(value: Value) -> Value:
    return T.Cast(emit.vector_type("int32", emit.lanes_of(value)), value)
