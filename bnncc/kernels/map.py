# SPDX-License-Identifier: Apache-2.0
"""Maps: kernels without a root, whose outputs are functions of the operands at each position.

Vectors run along the channels. Where these are few, neighbouring pixels are taken as channels of one wide
pixel (`fold_pixels`); images whose rows follow each other without a gap are one row (`merge_rows`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bnncc.kernels import emit
from bnncc.kernels.emit import Buffers
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.epilogue_values import Position
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import each, tiles
from bnncc.plan.kernel import Constant, KernelSpec, Map
from bnncc.plan.layout import WORD_BITS, Element, Halo, Layout, words

MOST_FOLDED = 512
"""Channels that a wide pixel has at most where constants must be repeated for it."""


@dataclass(frozen=True)
class Shape:
    """What `fold_pixels` and `merge_rows` made of a spec: an equal one, and how often each constant is
    repeated."""

    spec: KernelSpec
    repeat: int


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is Map. schedule: `vectors` of channels evaluated per loop turn."""
    assert isinstance(spec.root, Map)
    schedule = schedule or {"vectors": 1 if isa.is_scalar else 2}
    shape = reshape(spec, isa)
    epilogue = Epilogue(shape.spec, isa)
    given = Epilogue(spec, isa)
    parameters = (*given.operands, *epilogue.constants, *given.outputs)

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        if spec.is_recurrent:
            _store_recurrence(epilogue, schedule["vectors"])
            return
        for n in each(shape.spec.shape[0], "image"):
            for y in each(shape.spec.shape[1], "row"):
                for x in each(shape.spec.shape[2], "column"):
                    _store_pixel(epilogue, (n, y, x), schedule["vectors"])

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return epilogue.pack(tuple(np.tile(array, shape.repeat) for array in constants))

    symbol = kernel_symbol(spec, isa, schedule)
    function = emit.function(symbol, parameters, body)
    lanes = "words" if epilogue.is_bitwise else f"{epilogue.lanes} lanes"
    description = f"map over {'x'.join(str(extent) for extent in shape.spec.shape)}, {lanes}"
    return Kernel(symbol, spec, function, parameters, pack, dict(schedule), description)


def _store_recurrence(epilogue: Epilogue, vectors: int) -> None:
    """Time innermost, so that the states of some channels of a pixel stay in registers."""
    n, h, w, channels = epilogue.spec.shape
    whole = epilogue.isa.is_scalar and not epilogue.writes_bits
    size = channels if whole else WORD_BITS if epilogue.writes_bits else epilogue.lanes * vectors
    for y in each(h, "row"):
        for x in each(w, "column"):
            for first, count in tiles(channels, size):
                for step in each(n, "step"):
                    epilogue.store((step, y, x), first, count, available=words(count) * WORD_BITS)


def _store_pixel(epilogue: Epilogue, position: Position, vectors: int) -> None:
    """Evaluate and store all channels of a pixel."""
    if epilogue.is_bitwise:
        for first, count in tiles(epilogue.layouts[0].depth, epilogue.isa.lanes):
            epilogue.store_words(position, first, count)
        return
    channels = epilogue.spec.shape[3]
    size = WORD_BITS if epilogue.writes_bits else epilogue.lanes * vectors
    at_once = epilogue.neuron is not None or (epilogue.isa.is_scalar and not epilogue.writes_bits)
    for first, count in tiles(channels, channels if at_once else size):
        epilogue.store(position, first, count, available=words(count) * WORD_BITS)


# --- Reshaping --------------------------------------------------------------------------------------------


def reshape(spec: KernelSpec, isa: Isa) -> Shape:
    """An equal spec with longer rows of channels, where the layouts allow."""
    repeat = 1
    if isa.is_scalar and not spec.constants and _can_fold(spec):
        return Shape(merge_rows(_folded(spec, spec.shape[2])), spec.shape[2])
    merged = merge_rows(spec)
    fold = _fold_factor(merged, isa)
    if fold > 1:
        repeat = fold
        merged = _folded(merged, fold)
    return Shape(merged, repeat)


def merge_rows(spec: KernelSpec) -> KernelSpec:
    """Rows that follow each other as pixels do become one row, images alike, in all tensors at once."""
    for outer in (1, 0):
        is_mergeable = spec.shape[outer] > 1 and (
            outer == 1 or (spec.shape[1] == 1 and not spec.is_recurrent)
        )
        single = spec.shape[2] == 1
        if is_mergeable and all(single or _follow(layout, outer) for layout in _layouts(spec)):
            spec = _with_layouts(spec, [_merged(layout, outer, single) for layout in _layouts(spec)])
    return spec


def _follow(layout: Layout, outer: int) -> bool:
    """Whether the rows (or images of one row) lie one after the other, or are all the same number."""
    if layout.shape[outer] == layout.shape[2] == 1:
        return True
    is_whole = layout.shape[outer] > 1 and layout.shape[2] > 1
    return is_whole and layout.strides[outer] == layout.strides[2] * layout.shape[2]


def _merged(layout: Layout, outer: int, single: bool) -> Layout:
    shape, strides = list(layout.shape), list(layout.strides)
    shape[2] *= shape[outer]
    shape[outer] = 1
    if single:
        strides[2] = strides[outer]
    return replace(layout, shape=tuple(shape), strides=tuple(strides), halo=Halo())


def _fold_factor(spec: KernelSpec, isa: Isa) -> int:
    """How many pixels of a row become one, 1 for none."""
    channels, width = spec.shape[3], spec.shape[2]
    if isa.is_scalar or not _can_fold(spec) or channels % isa.lanes == 0:
        return 1
    if not spec.constants:
        return width
    fold = isa.lanes // math.gcd(channels, isa.lanes)
    return fold if width % fold == 0 and fold * channels <= MOST_FOLDED else 1


def _can_fold(spec: KernelSpec) -> bool:
    """Whether in every tensor the channels of a row lie one after the other, or are all one number."""

    def is_dense(layout: Layout) -> bool:
        if layout.shape[2:] == (1, 1):
            return True
        channels = layout.shape[3]
        unit = channels == 1 or layout.strides[3] == 1
        return layout.shape[2:] == spec.shape[2:] and unit and layout.strides[2] == channels

    layouts = _layouts(spec)
    if any(len(constant.shape) > 1 for constant in spec.constants):
        return False  # a table says nothing of how often a row of channels repeats itself
    return all(layout.element is not Element.BIT and is_dense(layout) for layout in layouts)


def _folded(spec: KernelSpec, fold: int) -> KernelSpec:
    def fold_layout(layout: Layout) -> Layout:
        n, h, w, c = layout.shape
        if (w, c) == (1, 1) and spec.shape[2:] != (1, 1):
            return layout
        strides = (*layout.strides[:2], layout.strides[2] * fold, 1)
        return replace(layout, shape=(n, h, w // fold, c * fold), strides=strides, halo=Halo())

    constants = tuple(Constant(constant.element, (constant.shape[0] * fold,)) for constant in spec.constants)
    folded = _with_layouts(spec, [fold_layout(layout) for layout in _layouts(spec)])
    return replace(folded, constants=constants)


def _layouts(spec: KernelSpec) -> list[Layout]:
    """Of operands and outputs."""
    return [*spec.operands, *(output.layout for output in spec.outputs)]


def _with_layouts(spec: KernelSpec, layouts: list[Layout]) -> KernelSpec:
    count = len(spec.operands)
    outputs = tuple(
        replace(output, layout=layout) for output, layout in zip(spec.outputs, layouts[count:], strict=True)
    )
    return replace(spec, operands=tuple(layouts[:count]), outputs=outputs)
