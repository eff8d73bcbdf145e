# SPDX-License-Identifier: Apache-2.0
"""From shapes of any rank up to 4 to the plan's [n, h, w, c], and views between them.

Rank 3 [n, w, c] is [n, 1, w, c]; rank 2 [n, c] is [n, 1, 1, c]; rank 1 [c] is [1, 1, 1, c].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from bnncc.plan.layout import WORD_BITS, Element, Halo, Layout

MAX_RANK = 4
AXES = {0: (), 1: (3,), 2: (0, 3), 3: (0, 2, 3), 4: (0, 1, 2, 3)}
"""Which of n, h, w, c each dimension of a tensor is, by rank."""


def canonical(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """The shape as [n, h, w, c]; of a rank above 4, which only opaque kernels, reshapes and transpositions
    know, all elements in one row."""
    if len(shape) > MAX_RANK:
        return (1, 1, 1, prod(shape))
    full = [1, 1, 1, 1]
    for axis, extent in zip(AXES[len(shape)], shape, strict=True):
        full[axis] = extent
    return (full[0], full[1], full[2], full[3])


def without_halo(layout: Layout) -> Layout:
    """The same image, its halo forgotten."""
    return replace(layout, halo=Halo())


def transposed(layout: Layout, rank: int, permutation: Sequence[int]) -> Layout:
    """The view whose dimension i is dimension permutation[i] of a tensor of this rank."""
    axes = AXES[rank]
    shape, strides = [1, 1, 1, 1], list(Layout.packed(layout.element, (1, 1, 1, 1)).strides)
    for axis, source in zip(axes, (axes[p] for p in permutation), strict=True):
        shape[axis], strides[axis] = layout.shape[source], layout.strides[source]
    return replace(layout, shape=_four(shape), strides=_four(strides), halo=Halo())


def turns(shape: Sequence[int], permutation: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """A transposition of any rank as such of at most four dimensions, each of row-major values in the order
    that the one before left: (shape, permutation) of each.

    Dimensions that stay neighbours are one. Where more than four are left, every turn brings what comes next
    forward, over all that stands before it."""
    runs = _runs([axis for axis in permutation if shape[axis] != 1], shape)
    extents = [prod(shape[axis] for axis in run) for run in runs]
    order = sorted(range(len(runs)), key=lambda number: runs[number])
    if len(runs) <= MAX_RANK:
        return [(tuple(extents[number] for number in order), tuple(order.index(n) for n in range(len(runs))))]
    result: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for done in range(len(runs)):
        place = order.index(done)
        if place != done:
            parts = (order[:done], order[done:place], [done], order[place + 1 :])
            result.append((tuple(prod(extents[n] for n in part) for part in parts), (0, 2, 1, 3)))
            order = [*parts[0], *parts[2], *parts[1], *parts[3]]
    return result


def _runs(axes: Sequence[int], shape: Sequence[int]) -> list[list[int]]:
    """Axes in order, as runs of such that follow each other in the shape, too, but for dimensions of 1."""
    runs: list[list[int]] = []
    for axis in axes:
        if runs and runs[-1][-1] < axis and prod(shape[runs[-1][-1] + 1 : axis]) == 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs


def moves_channels(rank: int, permutation: Sequence[int]) -> bool:
    """Whether a transposition moves the last dimension, along which bits are packed."""
    return permutation[rank - 1] != rank - 1


def broadcast(layout: Layout, rank: int, result_rank: int) -> Layout:
    """A tensor of `rank` as an operand of a result of `result_rank`: dimensions align at the right."""
    extents = [layout.shape[a] for a in AXES[rank]]
    steps = [layout.strides[a] for a in AXES[rank]]
    missing = result_rank - rank
    shape, strides = [1, 1, 1, 1], [0, 0, 0, 0]
    for axis, extent, step in zip(AXES[result_rank][missing:], extents, steps, strict=True):
        shape[axis], strides[axis] = extent, step
    if shape[3] == 1 and layout.element is not Element.BIT:
        strides[3] = 1
    return replace(layout, shape=_four(shape), strides=_four(strides), halo=Halo())


def reshaped(layout: Layout, shape: Sequence[int]) -> Layout | None:
    """The row-major view in another shape, or None where the values do not lie so."""
    if layout.element is Element.BIT and layout.shape[3] != canonical(shape)[3]:
        if layout.shape[3] % WORD_BITS or canonical(shape)[3] % WORD_BITS:
            return None
    if not _is_row_major(layout):
        return None
    return replace(Layout.packed(layout.element, canonical(shape)), offset=layout.offset)


def canonical_pads(pads: Sequence[int]) -> tuple[int, int, int, int]:
    """Pads per dimension as pads of [n, h, w, c]."""
    full = [0, 0, 0, 0]
    for axis, pad in zip(AXES[len(pads)], pads, strict=True):
        full[axis] = pad
    return _four(full)


def inner_view(whole: Layout, shape: tuple[int, int, int, int], start: tuple[int, int, int, int]) -> Layout:
    """The part of that canonical shape that begins at `start`; what lies around it within its rows and
    columns is its halo."""
    offset = whole.offset + sum(i * s for i, s in zip(start, whole.strides, strict=True))
    bottom = whole.shape[1] - shape[1] - start[1]
    right = whole.shape[2] - shape[2] - start[2]
    return replace(whole, shape=shape, offset=offset, halo=Halo(start[1], start[2], bottom, right))


def channel_slice(layout: Layout, axis: int, start: int, extent: int) -> Layout | None:
    """Elements start .. start+extent-1 of a canonical axis; None where packed bits cannot be cut so.
    A slice of channels keeps its part of the halo."""
    shape = list(layout.shape)
    shape[axis] = extent
    step = start
    if axis == 3 and layout.element is Element.BIT:
        whole = layout.shape[3]
        if start % WORD_BITS or (extent % WORD_BITS and start + extent != whole):
            return None
        step = start // WORD_BITS
    halo = layout.halo if axis == 3 else Halo()
    return replace(layout, shape=_four(shape), offset=layout.offset + step * layout.strides[axis], halo=halo)


def _is_row_major(layout: Layout) -> bool:
    """Whether the elements follow each other without gaps; dimensions of extent 1 do not matter."""
    expected = 1
    extents = (*layout.shape[:3], layout.depth)
    for extent, stride in zip(reversed(extents), reversed(layout.strides), strict=True):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


def _four(values: Sequence[int]) -> tuple[int, int, int, int]:
    a, b, c, d = values
    return (a, b, c, d)
