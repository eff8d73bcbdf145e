# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolution in float32: every channel by itself, channels in the lanes of vectors.

Stored form of the weights: [vectors][steps][lanes], the steps of the window in the order ky, kx.
"""

from __future__ import annotations

from collections.abc import Iterator

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit, real_plan
from bnncc.kernels.emit import Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.nest import (
    UNROLLED_TAPS,
    Channels,
    Level,
    Pixels,
    Schedule,
    Tile,
    Vector,
    each_lane,
    even_tile,
    fuse,
    schedules,
    walk,
)
from bnncc.kernels.real_plan import RealPlan
from bnncc.kernels.tiles import Sums
from bnncc.plan.kernel import KernelSpec, RealConv
from bnncc.plan.layout import WORD_BITS


def fits(spec: KernelSpec) -> bool:
    """Whether `spec` is a convolution of this kind: as many groups as channels, in and out."""
    root = spec.root
    return isinstance(root, RealConv) and 1 < root.groups == root.input.shape[3] == spec.shape[3]


def plan_of(spec: KernelSpec, lanes: int) -> RealPlan:
    """The plan for vectors of `lanes` channels; in it all groups count as one of a single input channel."""
    root = spec.root
    assert isinstance(root, RealConv)
    unit = max(lanes, WORD_BITS) if spec.writes_bits else lanes
    window, strides = root.window, root.input.strides
    levels = (
        Level(window.height, window.dilation_y * strides[1]),
        Level(window.width, window.dilation_x * strides[2]),
    )
    channels = Channels(1, spec.shape[3], lanes, unit)
    return RealPlan(spec, root, channels, Pixels.of(spec, window), 1, 1, fuse(levels))


def default(spec: KernelSpec, isa: Isa) -> Schedule:
    """A good schedule without tuning."""
    lanes = real_plan.default_lanes(spec, isa)
    columns = Pixels.of(spec, real_plan.root_of(spec).window).columns
    return Schedule(lanes, 1, even_tile(columns, 4 if isa.is_scalar else 7), 1, channels_outermost=0)


def candidates(spec: KernelSpec, isa: Isa) -> Iterator[Schedule]:
    """Schedules worth measuring, the default first."""
    pixels = Pixels.of(spec, real_plan.root_of(spec).window)
    return schedules(default(spec, isa), pixels, spec.shape[3], range(1, 15))


def make(spec: KernelSpec, isa: Isa, schedule: Schedule) -> Kernel:
    """The kernel of `spec`, for which `fits` holds."""
    plan = plan_of(spec, schedule.lanes)
    accumulate = _accumulate_scalars if isa.is_scalar else _accumulate_vectors
    return real_plan.assemble_kernel(spec, isa, schedule, plan, accumulate)


def _accumulate_vectors(plan: RealPlan, tile: Tile, buffers: Buffers) -> Sums:
    """Emit the sums of a tile, one multiplication and addition of vectors a tap."""
    sums = real_plan.zeros(tile)
    starts = plan.starts(tile)
    for offset, number in walk(plan.levels, UNROLLED_TAPS):
        for v, vector in enumerate(tile.vectors):
            weight = emit.bind(emit.load(buffers["weight"], plan.weight_at(vector, number), vector.width))
            for p, start in enumerate(starts):
                real_plan.add_product(
                    sums[p, v], _load_channels(plan, buffers, start + offset, vector), weight
                )
    return sums


def _load_channels(plan: RealPlan, buffers: Buffers, pixel: Index, vector: Vector) -> Value:
    """The input's channels of a vector; zeros beyond the last, where there may be no memory."""
    stride = plan.root.input.strides[3]
    first = pixel + vector.channel * stride
    if vector.valid == vector.width:
        return emit.load(buffers["input"], first, vector.width, stride)
    present = [buffers["input"][first + lane * stride] for lane in range(vector.valid)]
    return emit.concatenate([*present, *[tirx.const(0, "float32")] * (vector.width - vector.valid)])


def _accumulate_scalars(plan: RealPlan, tile: Tile, buffers: Buffers) -> Sums:
    """The same in loops over the lanes."""
    sums = real_plan.zeros(tile, loop=True)
    starts = plan.starts(tile)
    stride = plan.root.input.strides[3]
    for offset, number in walk(plan.levels):
        for v, vector in enumerate(tile.vectors):
            for lane in each_lane(vector.valid):
                weight = emit.bind(buffers["weight"][plan.weight_at(vector, number) + lane])
                for p, start in enumerate(starts):
                    x = buffers["input"][start + offset + (vector.channel + lane) * stride]
                    T.buffer_store(sums[p, v], sums[p, v][lane] + x * weight, [lane])
    return sums
