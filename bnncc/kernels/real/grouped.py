# SPDX-License-Identifier: Apache-2.0
"""Convolutions of float32 in small groups: vectors of output channels that run across groups.

A lane multiplies inputs of its own group. For every input channel of a group, a pixel's channels are spread
over the lanes; with 2 groups of 2 inputs and 2 outputs:

    pixel a0 a1 b0 b1  ->  a0 a0 b0 b0 for channel 0, a1 a1 b1 b1 for channel 1

It is done once for all taps of a row of the window and all pixels of the tile that see the pixel, so there
are fewer shuffles than products. In depthwise convolutions the pixel is spread as it is.

Stored form of the weights: [vectors][steps][lanes], the steps of the window in the order ky, kx, channel; the
sums of vectors are taken in the order ky, channel, kx.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, cast

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.nest import (
    UNROLLED_TAPS,
    Channels,
    Pixels,
    Schedule,
    Tile,
    each,
    each_lane,
    even_tile,
    fuse,
    register_schedule,
    schedules,
    tiles,
    walk,
)
from bnncc.kernels.real import plan as real_plan
from bnncc.kernels.real.plan import RealPlan
from bnncc.kernels.tiles import Sums
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.layout import WORD_BITS

CHOICES = {
    (16, 1): "llvm.x86.avx512.permvar.sf.512",
    (16, 2): "llvm.x86.avx512.vpermi2var.ps.512",
    (8, 1): "llvm.x86.avx2.permps",
}
"""By (lanes, vectors to choose from), what chooses lanes by numbers that are not known before."""


def fits(spec: KernelSpec, lanes: int) -> bool:
    """Whether `spec` is of this kind: vectors of `lanes` outputs, or words of bits, do not divide groups."""
    root = real_plan.root_of(spec)
    part = max(lanes, WORD_BITS) if spec.writes_bits else lanes
    return root.groups > 1 and spec.shape[3] // root.groups % part > 0


def unit_of(spec: KernelSpec, lanes: int) -> int:
    """Outputs after which a vector, a group and a word of bits end together; a register tile has them all."""
    words = WORD_BITS if spec.writes_bits else 1
    return math.lcm(lanes, spec.shape[3] // real_plan.root_of(spec).groups, words)


def plan_of(spec: KernelSpec, lanes: int) -> RealPlan:
    """The plan for vectors of `lanes` channels, in which the outputs of all groups count as those of one."""
    root = real_plan.root_of(spec)
    inputs = root.input.shape[3] // root.groups
    levels = fuse(real_plan.window_levels(root, inputs))
    channels = Channels(1, spec.shape[3], lanes, unit_of(spec, lanes))
    return RealPlan(spec, root, channels, Pixels.of(spec, root.window), inputs, levels)


def default(spec: KernelSpec, isa: Isa, lanes: int) -> Schedule:
    """A good schedule without tuning. Channels are innermost, as every vector of them reads other inputs."""
    plan = plan_of(spec, lanes)
    if is_depthwise(spec):
        columns = even_tile(plan.pixels.columns, 4 if isa.is_scalar else 7)
        return Schedule(lanes, 1, columns, 1, channels_outermost=0)
    vectors = plan.channels.unit // lanes
    accumulators = 10 if isa.vector_bits == 512 else 8
    most = 0 if isa.is_scalar else max(1, accumulators // vectors)
    schedule = register_schedule(plan.pixels, lanes, lanes, most)
    return replace(schedule, channel_vectors=vectors, channels_outermost=0)


def candidates(spec: KernelSpec, isa: Isa, lanes: int) -> Iterator[Schedule]:
    """Schedules worth measuring, the default first."""
    best, plan = default(spec, isa, lanes), plan_of(spec, lanes)
    for schedule in schedules(best, plan.pixels, spec.shape[3], range(1, 15)):
        if plan.channels.whole_units(schedule) == schedule or schedule == best:
            yield schedule


def make(spec: KernelSpec, isa: Isa, schedule: Schedule) -> Kernel:
    """The kernel of `spec`, which `fits` the schedule's lanes."""
    vectors = functools.partial(_accumulate_vectors, chooses=isa.chooses_lanes)
    accumulate = _accumulate_scalars if isa.is_scalar else vectors
    return real_plan.assemble_kernel(spec, isa, schedule, plan_of(spec, schedule.lanes), accumulate)


def is_depthwise(spec: KernelSpec) -> bool:
    """Whether there are as many groups as channels, in and out."""
    root = real_plan.root_of(spec)
    return 1 < root.groups == root.input.shape[3] == spec.shape[3]


# --- Which lanes see what --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """How pixels are spread over the lanes of a vector: lane l belongs to group `first` + `groups[l]`."""

    plan: RealPlan
    first: Index
    groups: tuple[int, ...]

    @staticmethod
    def of(plan: RealPlan, tile: Tile, number: int) -> Spread:
        """Of a vector of a tile; its lanes without a channel go with the last that has one. A tile whose
        place is not known begins a unit."""
        outputs, vector = plan.spec.shape[3] // plan.root.groups, tile.vectors[number]
        is_known = isinstance(vector.channel, int)
        unit_first = 0 if is_known else tile.vectors[0].channel // outputs
        channel = vector.channel if is_known else number * vector.width
        first = channel // outputs
        lanes = (min(lane, vector.valid - 1) for lane in range(vector.width))
        return Spread(plan, unit_first + first, tuple((channel + lane) // outputs - first for lane in lanes))

    @property
    def count(self) -> int:
        """Groups in the vector."""
        return self.groups[-1] + 1

    @property
    def sources(self) -> int:
        """Vectors as long as this one that hold all channels of these groups, where those lie together; 0
        where single channels are loaded instead, as few are wanted of many."""
        vectors = -(-self.count * self.plan.inputs // len(self.groups))
        is_near = self.count > 1 and self.plan.root.input.strides[3] == 1 and vectors <= 2
        return vectors if is_near else 0

    def place(self, pixel: Index, group: Index = 0) -> Index:
        """Where the channels of a group begin."""
        return pixel + (self.first + group) * (self.plan.inputs * self.plan.root.input.strides[3])

    def order(self, channel: Index) -> Value:
        """What lanes of the sources an input channel of the groups is in, int32."""
        firsts = [tirx.const(group * self.plan.inputs, "int32") for group in self.groups]
        return emit.bind(emit.concatenate(firsts) + emit.broadcast(channel, len(firsts)))

    def load(self, buffer: Buffer, pixel: Index, channel: Index) -> Value:
        """An input channel of each lane's group; a known one, if there are sources."""
        stride, start = self.plan.root.input.strides[3], self.place(pixel)
        if self.sources:
            lanes = [group * self.plan.inputs + channel for group in self.groups]
            pieces = emit.pieces(self.count * self.plan.inputs, len(lanes))
            return _shuffled([emit.load(buffer, start + offset, width) for offset, width in pieces], lanes)
        if self.count == 1:
            return emit.broadcast(buffer[start + channel * stride], len(self.groups))
        firsts = [self.place(pixel, group) for group in range(self.count)]
        return _shuffled([buffer[first + channel * stride] for first in firsts], self.groups)

    def choose(self, buffer: Buffer, pixel: Index, order: Value) -> Value:
        """The same by an instruction, from sources that are filled up with what is there."""
        width, rest = len(self.groups), self.count * self.plan.inputs
        vectors = []
        for first in range(0, rest, width):
            pieces = emit.pieces(min(width, rest - first), width)
            parts = [emit.load(buffer, self.place(pixel) + first + at, count) for at, count in pieces]
            available = sum(count for _, count in pieces)
            vectors.append(_shuffled(parts, [lane % available for lane in range(width)]))
        arguments = [vectors[0], order, *vectors[1:]]
        return T.call_llvm_pure_intrin(f"float32x{width}", CHOICES[width, self.sources], *arguments)


def _shuffled(parts: list[Value], lanes: Sequence[int]) -> Value:
    """Lanes of the parts. TIR chooses no more lanes than there are, so that short parts are repeated."""
    available, indices = sum(map(emit.lanes_of, parts)), cast(list[Any], list(lanes))
    if indices == list(range(available)):
        return emit.concatenate(parts)
    return tirx.Shuffle(parts * -(-len(lanes) // available), indices)


# --- The sums --------------------------------------------------------------------------------------------


def _accumulate_vectors(plan: RealPlan, tile: Tile, buffers: Buffers, chooses: bool) -> Sums:
    """Emit the sums of a tile, one multiplication and addition of vectors a step."""
    sums, starts = real_plan.zeros(tile), plan.starts(tile)
    spreads = [Spread.of(plan, tile, number) for number in range(len(tile.vectors))]
    near = [spread for spread in spreads if spread.sources]
    # Of shuffles that it knows LLVM makes several, whose parts it shares between the channels by way of the
    # stack: the sums take up to 1.3 times as long.
    chooses = chooses and all((len(spread.groups), spread.sources) in CHOICES for spread in near)
    for row in _rows(plan, unrolled=bool(near) and not chooses):
        orders = {
            v: spread.order(row.channel) for v, spread in enumerate(spreads) if spread.sources and chooses
        }
        weights = {
            (tap, v): emit.bind(emit.load(buffers["weight"], plan.weight_at(vector, number), vector.width))
            for tap, number in enumerate(row.steps)
            for v, vector in enumerate(tile.vectors)
        }
        for pixel, uses in _pixels_seen(plan, tile, starts):
            for v, spread in enumerate(spreads):
                if v in orders:
                    inputs = spread.choose(buffers["input"], pixel + row.offset, orders[v])
                else:
                    inputs = spread.load(buffers["input"], pixel + row.offset, row.channel)
                inputs = emit.bind(inputs)
                for p, tap in uses:
                    real_plan.add_product(sums[p, v], inputs, weights[tap, v])
    return sums


@dataclass(frozen=True)
class Row:
    """The taps of a row of the window, of one input channel of the groups: how far the row is from the first,
    and the numbers of its steps."""

    offset: Index
    channel: Index
    steps: list[Index]


def _rows(plan: RealPlan, unrolled: bool) -> Iterator[Row]:
    """All of them, in loops; those over channels only where they need not be known."""
    window, inputs = plan.root.window, plan.inputs
    together = min(window.height, max(1, UNROLLED_TAPS // (window.width * inputs)))
    for first, count in tiles(window.height, together, "tap"):
        for y in range(count):
            offset = (first + y) * (window.dilation_y * plan.root.input.strides[1])
            for channel in range(inputs) if unrolled else each(inputs, "channel"):
                step = (first + y) * (window.width * inputs) + channel
                yield Row(offset, channel, [step + x * inputs for x in range(window.width)])


def _pixels_seen(
    plan: RealPlan, tile: Tile, starts: Sequence[Index]
) -> Iterator[tuple[Index, list[tuple[int, int]]]]:
    """What a row of the window sees: where a pixel is, and (pixel of the tile, tap) of those that see it."""
    window = plan.root.window
    seen: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
    for p in range(tile.rows * tile.columns):
        y, x = divmod(p, tile.columns)
        for tap in range(window.width):
            is_row = plan.pixels.order != "batch"
            column = (x * window.stride_x + tap * window.dilation_x,) if is_row else (x, tap)
            seen[y, *column].append((p, tap))
    for _, uses in sorted(seen.items()):
        p, tap = uses[0]
        yield starts[p] + tap * (window.dilation_x * plan.root.input.strides[2]), uses


def _accumulate_scalars(plan: RealPlan, tile: Tile, buffers: Buffers) -> Sums:
    """The same in loops over the lanes."""
    sums, starts = real_plan.zeros(tile, loop=True), plan.starts(tile)
    for offset, number in walk(plan.levels):
        for v, vector in enumerate(tile.vectors):
            spread = Spread.of(plan, tile, v)
            for group, first, count in _runs(spread.groups[: vector.valid]):
                places = [spread.place(start, group) for start in starts]
                inputs = [emit.bind(buffers["input"][place + offset]) for place in places]
                for lane in each_lane(count):
                    weight = emit.bind(buffers["weight"][plan.weight_at(vector, number) + first + lane])
                    for p, x in enumerate(inputs):
                        T.buffer_store(sums[p, v], sums[p, v][first + lane] + x * weight, [first + lane])
    return sums


def _runs(groups: Sequence[int]) -> Iterator[tuple[Index, Index, int]]:
    """(group, first lane, lanes) of all groups; in a loop where they have equally many lanes."""
    counts = [len(list(run)) for _, run in groupby(groups)]
    if len(set(counts)) == 1:
        for group in each(len(counts), "group"):
            yield group, group * counts[0], counts[0]
    else:
        for group, count in enumerate(counts):
            yield group, sum(counts[:group]), count
