# SPDX-License-Identifier: Apache-2.0
"""Real convolution, pointwise and dense layers in float32: one activation against a vector of outputs.

Stored form of the weights: [vectors][steps][lanes], the steps of the window in the order ky, kx, channel; a
vector's lanes are consecutive output channels. Activations may lie in any strides, so that a channels-first
image is read as it is. Groups whose outputs do not fill vectors are left to `grouped`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.emit import Buffers
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.nest import (
    Pixels,
    Schedule,
    Tile,
    each_lane,
    even_tile,
    register_schedule,
    schedules,
    walk,
)
from bnncc.kernels.real import grouped
from bnncc.kernels.real.plan import (
    RealPlan,
    add_product,
    assemble_kernel,
    default_lanes,
    root_of,
    zeros,
)
from bnncc.kernels.tiles import Sums
from bnncc.plan.kernel import KernelSpec

ACCUMULATORS = (12, 14)
"""Vectors of sums that the registers hold; the second of 512 bits."""

STREAMS = 4
"""Vectors of a dense layer of one sample; each has its weights elsewhere."""


def default(spec: KernelSpec, isa: Isa) -> Schedule:
    """A good schedule without tuning: as many accumulators as the registers of the target hold."""
    return _default(spec, isa, _lanes(spec, isa))


def candidates(spec: KernelSpec, isa: Isa) -> Iterator[Schedule]:
    """Schedules worth measuring, the default first; of groups also with vectors half as long."""
    longest, pixels = _lanes(spec, isa), Pixels.of(spec, root_of(spec).window)
    has_halves = (
        longest > 4 and root_of(spec).groups > 1 and not (isa.is_scalar or grouped.is_depthwise(spec))
    )
    for lanes in (longest, longest // 2) if has_halves else (longest,):
        if grouped.fits(spec, lanes):
            yield from grouped.candidates(spec, isa, lanes)
        else:
            yield from schedules(_default(spec, isa, lanes), pixels, spec.shape[3], range(3, 25))


def _lanes(spec: KernelSpec, isa: Isa) -> int:
    """Output channels of a vector: shorter ones where long ones and groups would seldom end together."""
    longest, most = default_lanes(spec, isa), ACCUMULATORS[isa.vector_bits == 512]
    shorter = [] if isa.is_scalar else [longest >> i for i in range(3) if longest >> i >= 4]
    soon = (n for n in shorter if not grouped.fits(spec, n) or grouped.unit_of(spec, n) // n <= most)
    return next(soon, longest)


def _default(spec: KernelSpec, isa: Isa, lanes: int) -> Schedule:
    if grouped.fits(spec, lanes):
        return grouped.default(spec, isa, lanes)
    pixels = Pixels.of(spec, root_of(spec).window)
    accumulators = 0 if isa.is_scalar else ACCUMULATORS[isa.vector_bits == 512]
    schedule = register_schedule(pixels, spec.shape[3], lanes, accumulators)
    if root_of(spec).groups > 1:
        # Vectors of other groups read other inputs: in the order of memory, if they take turns.
        return replace(schedule, channels_outermost=0)
    if isa.vector_bits >= 256 and pixels.rows * pixels.columns == 1:
        # A dense layer waits for its weights: fewer streams of them are faster where the cache holds none.
        return replace(schedule, channel_vectors=even_tile(-(-spec.shape[3] // lanes), STREAMS))
    return schedule


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is a RealConv; schedule: the fields of a Schedule."""
    tile = Schedule(**schedule) if schedule else default(spec, isa)
    if grouped.fits(spec, tile.lanes):
        return grouped.make(spec, isa, tile)
    plan = RealPlan.of(spec, tile.lanes)
    accumulate = _accumulate_scalars if isa.is_scalar else _accumulate_vectors
    return assemble_kernel(spec, isa, tile, plan, accumulate)


def _accumulate_vectors(plan: RealPlan, tile: Tile, buffers: Buffers) -> Sums:
    """Emit the sums of a tile, one multiplication and addition of vectors a step."""
    sums = zeros(tile)
    starts = plan.starts(tile)
    for offset, number in walk(plan.levels):
        weights = [
            emit.bind(emit.load(buffers["weight"], plan.weight_at(v, number), v.width)) for v in tile.vectors
        ]
        for p, start in enumerate(starts):
            spread = {
                width: emit.bind(emit.broadcast(buffers["input"][start + offset], width))
                for width in {v.width for v in tile.vectors}
            }
            for v, weight in enumerate(weights):
                add_product(sums[p, v], spread[emit.lanes_of(weight)], weight)
    return sums


def _accumulate_scalars(plan: RealPlan, tile: Tile, buffers: Buffers) -> Sums:
    """The same in loops over the lanes."""
    sums = zeros(tile, loop=True)
    starts = plan.starts(tile)
    for offset, number in walk(plan.levels):
        inputs = [emit.bind(buffers["input"][start + offset]) for start in starts]
        for v, vector in enumerate(tile.vectors):
            for lane in each_lane(vector.valid):
                weight = emit.bind(buffers["weight"][plan.weight_at(vector, number) + lane])
                for p, x in enumerate(inputs):
                    T.buffer_store(sums[p, v], sums[p, v][lane] + x * weight, [lane])
    return sums
