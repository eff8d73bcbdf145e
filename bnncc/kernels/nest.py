# SPDX-License-Identifier: Apache-2.0
"""Loop nests shared by the contraction templates: how outputs are tiled and how the window is walked.

Everything here emits into the IRBuilder that is open, or plans in plain Python what will be emitted.
An index is a Python int where it is known, so that single iterations leave no loop behind. Iterators open TIR
loops: what the body of a Python `for` over them emits lies inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from bnncc.kernels.emit import Index
from bnncc.plan.kernel import KernelSpec, Window
from bnncc.plan.layout import Layout

UNROLLED_TAPS = 9
"""Taps of a depthwise window that stand unrolled, so that neighbouring pixels share their loads."""


def tiles(extent: int, size: int, name: str = "i") -> Iterator[tuple[Index, int]]:
    """(first, count) of tiles of `size`, in a loop, and of the rest, if any. The loop counts `name` (if its
    tiles are larger than 1, `name_tile`), for the reader of the generated C."""
    number, rest = divmod(extent, size)
    if number == 1:
        yield 0, size
    elif number > 1:
        with T.serial(0, number) as tile:
            IRBuilder.name(name if size == 1 else f"{name}_tile", tile)
            yield tile * size, size
    if rest:
        yield number * size, rest


def each(extent: int, name: str = "i") -> Iterator[Index]:
    """The index of a loop; of none where there is a single iteration."""
    for first, _ in tiles(extent, 1, name):
        yield first


def each_lane(extent: int) -> Iterator[Index]:
    """The index of a loop over the lanes of a vector that is handled element by element: a loop even around a
    single one, whose constant indices TVM would join to vector accesses that C does not have."""
    with T.serial(0, extent) as lane:
        IRBuilder.name("lane", lane)
        yield lane


def even_tile(extent: int, most: int) -> int:
    """The size that covers `extent` by as few tiles of at most `most` as possible, and evenly."""
    return -(-extent // -(-extent // most))


# --- The reduction ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Level:
    """One loop of a reduction: `extent` steps, each `stride` stored elements further in the input."""

    extent: int
    stride: int


Levels = tuple[Level, ...]


def fuse(levels: Sequence[Level]) -> Levels:
    """The same walk, outermost first, in as few loops as the strides allow."""
    result: list[Level] = []
    for level in levels:
        if level.extent == 1:
            continue
        if result and result[-1].stride == level.extent * level.stride:
            result[-1] = Level(result[-1].extent * level.extent, level.stride)
        else:
            result.append(level)
    return tuple(result)


def count_steps(levels: Sequence[Level]) -> int:
    """How many steps the walk has."""
    return math.prod(level.extent for level in levels)


def walk(levels: Levels, unroll: int = 1) -> Iterator[tuple[Index, Index]]:
    """(offset in the input, number) of every step, in loops over `levels`, outermost first; runs of up to
    `unroll` steps stand unrolled."""
    if not levels:
        yield 0, 0
        return
    level, inner = levels[0], levels[1:]
    inside = count_steps(inner)
    for first, count in tiles(level.extent, min(level.extent, max(1, unroll // inside)), "tap"):
        for i in range(count):
            for offset, number in walk(inner, unroll):
                yield (first + i) * level.stride + offset, (first + i) * inside + number


@dataclass(frozen=True)
class Chunks:
    """A walk cut into chunks: loops `outer`, tiles of `size` steps of `split`, in each of them `inner`."""

    outer: Levels
    split: Level
    size: int
    inner: Levels


def plan_chunks(levels: Levels, limit: int) -> Chunks:
    """Cut so that no chunk has more than `limit` steps, in as few and as even chunks as the loops allow."""
    kept = len(levels)
    while kept and count_steps(levels[kept - 1 :]) <= limit:
        kept -= 1
    if not kept:
        return Chunks((), Level(1, 0), 1, levels)
    split, inner = levels[kept - 1], levels[kept:]
    return Chunks(levels[: kept - 1], split, even_tile(split.extent, limit // count_steps(inner)), inner)


def walk_chunks(levels: Levels, limit: int) -> Iterator[tuple[Index, Index, Levels]]:
    """(offset, number of the first step, loops) of every chunk of at most `limit` steps."""
    plan = plan_chunks(levels, limit)
    inside = count_steps(plan.inner)
    for offset, number in walk(plan.outer):
        for first, count in tiles(plan.split.extent, plan.size, "tap"):
            start = offset + first * plan.split.stride
            started = number * plan.split.extent * inside + first * inside
            yield start, started, fuse((Level(count, plan.split.stride), *plan.inner))


# --- The outputs -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Pixels:
    """The output pixels as `images` x `rows` x `columns`, and the position [n, y, x] each stands for.

    "image" takes them as they are. "row" sees each image as one row, "batch" all images as one row; so
    small images and dense layers still fill a tile.
    """

    order: Literal["image", "row", "batch"]
    images: int
    rows: int
    columns: int

    @staticmethod
    def of(spec: KernelSpec, window: Window) -> Pixels:
        """The longest rows that the layouts of `spec` allow."""
        n, h, w, _ = spec.shape
        layouts = [*spec.inputs, *spec.operands, *(output.layout for output in spec.outputs)]
        if n > 1 and h == w == 1:
            return Pixels("batch", 1, 1, n)
        unpadded = _is_pointwise(window) and all(layout.shape[1:3] == (h, w) for layout in spec.inputs)
        if h > 1 and w > 1 and unpadded and all(_rows_follow(layout) for layout in layouts):
            return Pixels("row", n, 1, h * w)
        return Pixels("image", n, h, w)

    def position(self, image: Index, row: Index, column: Index) -> tuple[Index, Index, Index]:
        """[n, y, x] of a pixel, for layouts in which `of` found it addressable so."""
        return (column, 0, 0) if self.order == "batch" else (image, row, column)


def _is_pointwise(window: Window) -> bool:
    return window == Window(1, 1)


def _rows_follow(layout: Layout) -> bool:
    """Whether a pixel past the end of a row is the first of the next."""
    _, h, w, _ = layout.shape
    return h == w == 1 or (w > 1 and layout.strides[1] == w * layout.strides[2])


@dataclass(frozen=True)
class Schedule:
    """Tile parameters of a contraction.

    Vectors of `lanes` output channels; register tiles of `rows` x `pixels` output pixels by `channel_vectors`
    vectors; `channels_outermost` is 1 where the loop over the channels is outside those over pixels, else 0.
    along: where the lanes run along the reduction, how many channels a register tile has; else 0.
    """

    lanes: int
    rows: int
    pixels: int
    channel_vectors: int
    channels_outermost: int = 1
    along: int = 0

    def parameters(self) -> dict[str, int]:
        """By name, without what is not used."""
        return {name: value for name, value in asdict(self).items() if name != "along" or value}


def register_schedule(
    pixels: Pixels, channels: int, lanes: int, accumulators: int, most_vectors: int = 2
) -> Schedule:
    """Tiles of at most so many accumulators, for an output of so many channels, where there are pixels enough
    of at most so many vectors; accumulators: 0 for scalar code."""
    if not accumulators:
        return Schedule(lanes, 1, min(4, pixels.columns), 1)
    vectors = -(-channels // lanes)
    most_vectors = min(vectors, most_vectors)
    most_pixels = accumulators // most_vectors
    columns = even_tile(pixels.columns, most_pixels)
    rows = even_tile(pixels.rows, max(1, most_pixels // columns))
    return Schedule(lanes, rows, columns, even_tile(vectors, max(most_vectors, 8 // (rows * columns))))


def schedules(best: Schedule, pixels: Pixels, channels: int, accumulators: range) -> Iterator[Schedule]:
    """`best`, then others whose number of accumulators is in the range, for an output of so many channels."""
    yield best
    seen = {best}
    for most in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14):
        columns = even_tile(pixels.columns, most)
        for rows in sorted({1, even_tile(pixels.rows, max(1, most // columns))}):
            for vectors in (1, 2, 3, 4, 6, 8):
                if vectors > -(-channels // best.lanes) or rows * columns * vectors not in accumulators:
                    continue
                for outermost in (1, 0):
                    schedule = Schedule(best.lanes, rows, columns, vectors, outermost)
                    if schedule not in seen:
                        seen.add(schedule)
                        yield schedule


@dataclass(frozen=True)
class Vector:
    """Output channels [channel, channel + valid), computed in `width` lanes."""

    channel: Index
    width: int
    valid: int


@dataclass(frozen=True)
class Channels:
    """The output channels as vectors: in each of `groups` groups of `count` channels, full vectors of
    `lanes` as long as they fill whole units of `unit` channels, then the rest, whose place is known."""

    groups: int
    count: int
    lanes: int
    unit: int
    narrowest: int = 4
    """Lanes that the last vector has at least."""

    @property
    def regular(self) -> int:
        """Full vectors of a group that loops may run over."""
        return self.count // self.unit * self.unit // self.lanes

    @property
    def rest(self) -> tuple[Vector, ...]:
        """The vectors after the regular ones (one group only)."""
        first = self.regular * self.lanes
        return tuple(
            Vector(channel, self._width(self.count - channel), min(self.lanes, self.count - channel))
            for channel in range(first, self.count, self.lanes)
        )

    @property
    def stored(self) -> int:
        """Channels of all vectors, those beyond the last channel included."""
        return self.groups * self.regular * self.lanes + sum(vector.width for vector in self.rest)

    def whole_units(self, schedule: Schedule) -> Schedule:
        """`schedule`, with as many vectors as make every turn of a loop a whole number of units."""
        per_unit = self.unit // self.lanes
        return replace(schedule, channel_vectors=-(-schedule.channel_vectors // per_unit) * per_unit)

    def _width(self, valid: int) -> int:
        width = self.lanes
        while width // 2 >= max(valid, self.narrowest):
            width //= 2
        return width


@dataclass(frozen=True)
class Tile:
    """One register tile: pixels [row, row + rows) x [column, column + columns) of an image, by vectors."""

    group: Index
    vectors: tuple[Vector, ...]
    image: Index
    row: Index
    column: Index
    rows: int
    columns: int

    def pixels(self) -> list[tuple[Index, Index]]:
        """(row, column) of every pixel."""
        return [(self.row + dy, self.column + dx) for dy in range(self.rows) for dx in range(self.columns)]


def register_tiles(pixels: Pixels, channels: Channels, schedule: Schedule) -> Iterator[Tile]:
    """Tiles in loops such that every output is in one of them; those at the ends may be smaller."""
    if schedule.channels_outermost:
        for group, vectors in _vector_tiles(channels, schedule.channel_vectors):
            for place in pixel_tiles(pixels, schedule.rows, schedule.pixels):
                yield Tile(group, vectors, *place)
    else:
        for place in pixel_tiles(pixels, schedule.rows, schedule.pixels):
            for group, vectors in _vector_tiles(channels, schedule.channel_vectors):
                yield Tile(group, vectors, *place)


def pixel_tiles(
    pixels: Pixels, most_rows: int, most_columns: int
) -> Iterator[tuple[Index, Index, Index, int, int]]:
    """(image, row, column, rows, columns) of every tile."""
    for image in each(pixels.images, "image"):
        for row, rows in tiles(pixels.rows, most_rows, "row"):
            for column, columns in tiles(pixels.columns, most_columns, "column"):
                yield image, row, column, rows, columns


def _vector_tiles(channels: Channels, size: int) -> Iterator[tuple[Index, tuple[Vector, ...]]]:
    """(group, vectors) of every tile."""
    lanes = channels.lanes
    if channels.regular:
        for group in each(channels.groups, "group"):
            for first, count in tiles(channels.regular, size, "block"):
                start = group * channels.regular + first
                yield group, tuple(Vector((start + i) * lanes, lanes, lanes) for i in range(count))
    rest = channels.rest
    for first in range(0, len(rest), size):
        yield 0, rest[first : first + size]
