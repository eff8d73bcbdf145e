# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions of bytes: every channel by itself, channels in the lanes of vectors.

Bytes and weights are widened to 32 bits and multiplied there; LLVM takes the instructions for products of
16 bits where they are faster, for both fit those. Stored weights, int8: [vectors][steps][lanes].
"""

from __future__ import annotations

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.byte.plan import BytePlan, zeros
from bnncc.kernels.emit import Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.nest import UNROLLED_TAPS, Tile, Vector, each_lane, walk
from bnncc.kernels.tiles import Sums


def accumulate(plan: BytePlan, tile: Tile, buffers: Buffers, isa: Isa) -> Sums:
    """Emit the sums of a tile."""
    return (_accumulate_scalars if isa.is_scalar else _accumulate_vectors)(plan, tile, buffers)


def _accumulate_vectors(plan: BytePlan, tile: Tile, buffers: Buffers) -> Sums:
    sums, starts = zeros(tile, "int32"), plan.starts(tile)
    for offset, number in walk(plan.outer, UNROLLED_TAPS):
        for v, vector in enumerate(tile.vectors):
            place = vector.channel * plan.steps + number * vector.width
            weight = emit.bind(_widened(emit.load(buffers["weight"], place, vector.width)))
            for p, start in enumerate(starts):
                x = _widened(load_channels(plan, buffers, start + offset, vector))
                emit.store(sums[p, v], emit.load(sums[p, v], 0, vector.width) + x * weight, 0)
    return sums


def _widened(value: Value) -> Value:
    return T.Cast(emit.vector_type("int32", emit.lanes_of(value)), value)


def load_channels(plan: BytePlan, buffers: Buffers, pixel: Index, vector: Vector) -> Value:
    """The input's channels of a vector; zeros beyond the last, where there may be no memory."""
    stride = plan.root.input.strides[3]
    first = pixel + vector.channel * stride
    if vector.valid == vector.width:
        return emit.load(buffers["input"], first, vector.width, stride)
    present = [buffers["input"][first + lane * stride] for lane in range(vector.valid)]
    return emit.concatenate([*present, *[tirx.const(0, "uint8")] * (vector.width - vector.valid)])


def _accumulate_scalars(plan: BytePlan, tile: Tile, buffers: Buffers) -> Sums:
    """The same in loops over the lanes."""
    sums, starts = zeros(tile, "int32", loop=True), plan.starts(tile)
    stride = plan.root.input.strides[3]
    for offset, number in walk(plan.outer):
        for v, vector in enumerate(tile.vectors):
            for lane in each_lane(vector.valid):
                place = vector.channel * plan.steps + number * vector.width + lane
                weight = emit.bind(T.Cast("int32", buffers["weight"][place]))
                for p, start in enumerate(starts):
                    x = T.Cast("int32", buffers["input"][start + offset + (vector.channel + lane) * stride])
                    T.buffer_store(sums[p, v], sums[p, v][lane] + x * weight, [lane])
    return sums
