# SPDX-License-Identifier: Apache-2.0
"""Binary convolution and dense layers: exclusive-or and popcount, in four forms.

- 32-bit lanes (AVX-512 VPOPCNTDQ): one word of activations against a vector of output channels.
- byte lanes (AVX2, SSE, NEON): the same with bytes; up to 31 counts of at most 8 are summed in a byte, then
  widened.
- bytes along the reduction (AArch64): see `binary.along`; taken where it costs fewer instructions.
- scalar code: one word against a block of output channels, in plain loops.

Stored forms. Activations are the plain words (seen as bytes in the second form). Weights: [vectors][steps]
[planes][lanes], the steps of the window in the order ky, kx, channel item; a vector's lanes are consecutive
output channels; a second plane of bits tells which weights are not zero, where some are. What follows the
counts is in `binary.finish`.

Activations and weights of a few bits are counted plane by plane, those of the largest exponent first, and the
sums are doubled in between.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.binary import along as binary_along
from bnncc.kernels.binary.counting import Form, extent_of
from bnncc.kernels.binary.finish import finish_of
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import (
    Levels,
    Pixels,
    Schedule,
    Tile,
    each_lane,
    even_tile,
    register_tiles,
    schedules,
    walk,
    walk_chunks,
)
from bnncc.kernels.tiles import Sums
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
