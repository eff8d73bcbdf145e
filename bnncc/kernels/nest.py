# SPDX-License-Identifier: Apache-2.0
"""Loop nests shared by the contraction templates: how outputs are tiled and how the window is walked.

Everything here emits into the IRBuilder that is open, or plans in plain Python what will be emitted.
An index is a Python int where it is known, so that single iterations leave no loop behind. Iterators open TIR loops:
what the body of a Python `for` over them emits lies inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tvm.script.ir_builder import tirx as T

from bnncc.kernels.emit import Index
from bnncc.plan.kernel import KernelSpec, Window
from bnncc.plan.layout import Layout


def tiles(extent: int, size: int) -> Iterator[tuple[Index, int]]:
    """(first, count) of tiles of `size`, in a loop, and of the rest, if any."""
    number, rest = divmod(extent, size)
    if number == 1:
        yield 0, size
    elif number > 1:
        with T.serial(0, number) as tile:
            yield tile * size, size
    if rest:
        yield number * size, rest


def each(extent: int) -> Iterator[Index]:
    """The index of a loop; of none where there is a single iteration."""
    for first, _ in tiles(extent, 1):
        yield first


def even_tile(extent: int, most: int) -> int:
    """The size that covers `extent` by as few tiles of at most `most` as possible, and evenly."""
    return -(-extent // -(-extent // most))


# --- The reduction -----------------------------------------------------------------------------------------------


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
    for first, count in tiles(level.extent, min(level.extent, max(1, unroll // inside))):
        for i in range(count):
            for offset, number in walk(inner, unroll):
                yield (first + i) * level.stride + offset, (first + i) * inside + number


@dataclass(frozen=True)
class Chunks:
    """A walk cut into chunks of bounded length: loops `outer`, tiles of `size` of `split`, each with `inner`."""

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
        for first, count in tiles(plan.split.extent, plan.size):
            start = offset + first * plan.split.stride
            started = number * plan.split.extent * inside + first * inside
            yield start, started, fuse((Level(count, plan.split.stride), *plan.inner))


# --- The outputs ---------------------------------------------------------------------------------------------


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
        if h > 1 and w > 1 and _is_pointwise(window) and all(_rows_follow(layout) for layout in layouts):
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
class TileSize:
    """Register tile: `rows` x `columns` pixels by `vectors` vectors of output channels.

    channels_outermost: whether the loop over the channels is outside those over the pixels."""

    rows: int
    columns: int
    vectors: int
    channels_outermost: bool = True


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

    def tile(self, size: TileSize) -> TileSize:
        """`size`, with as many vectors as make whole units of a loop's iterations."""
        per_unit = self.unit // self.lanes
        return replace(size, vectors=-(-size.vectors // per_unit) * per_unit)

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


def register_tiles(pixels: Pixels, channels: Channels, size: TileSize) -> Iterator[Tile]:
    """Tiles in loops such that every output is in one of them; those at the ends may be smaller."""
    if size.channels_outermost:
        for group, vectors in _vector_tiles(channels, size.vectors):
            for place in _pixel_tiles(pixels, size):
                yield Tile(group, vectors, *place)
    else:
        for place in _pixel_tiles(pixels, size):
            for group, vectors in _vector_tiles(channels, size.vectors):
                yield Tile(group, vectors, *place)


def _pixel_tiles(pixels: Pixels, size: TileSize) -> Iterator[tuple[Index, Index, Index, int, int]]:
    """(image, row, column, rows, columns) of every tile."""
    for image in each(pixels.images):
        for row, rows in tiles(pixels.rows, size.rows):
            for column, columns in tiles(pixels.columns, size.columns):
                yield image, row, column, rows, columns


def _vector_tiles(channels: Channels, size: int) -> Iterator[tuple[Index, tuple[Vector, ...]]]:
    """(group, vectors) of every tile."""
    lanes = channels.lanes
    if channels.regular:
        for group in each(channels.groups):
            for first, count in tiles(channels.regular, size):
                start = group * channels.regular + first
                yield group, tuple(Vector((start + i) * lanes, lanes, lanes) for i in range(count))
    rest = channels.rest
    for first in range(0, len(rest), size):
        yield 0, rest[first : first + size]
