# SPDX-License-Identifier: Apache-2.0
"""Setting the halo of a tensor."""

from __future__ import annotations

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import each, tiles
from bnncc.plan.kernel import FillHalo, KernelSpec
from bnncc.plan.layout import WORD_BITS, Element, Layout


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is FillHalo. There is nothing to schedule."""
    root = spec.root
    assert isinstance(root, FillHalo)
    layout, halo = root.target, root.target.halo
    parameters = (emit.layout_parameter("target", layout, is_const=False),)
    n, h, w, _ = layout.shape

    def body(buffers: Buffers) -> None:
        rectangles = (
            ((-halo.top, -halo.left), (halo.top, halo.left + w + halo.right)),
            ((0, -halo.left), (h, halo.left)),
            ((0, w), (h, halo.right)),
            ((h, -halo.left), (halo.bottom, halo.left + w + halo.right)),
        )
        for image in each(n, "image"):
            for (top, left), (rows, columns) in rectangles:
                for row in each(rows if columns else 0, "row"):
                    for apart in sorted({0, layout.sums_apart}):
                        _fill_row(buffers["target"], root, isa, (image, top + row, left), columns, apart)

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return constants

    symbol = kernel_symbol(spec, isa, {})
    description = f"fill the halo with {root.value}"
    return Kernel(symbol, spec, emit.function(symbol, parameters, body), parameters, pack, {}, description)


def _fill_row(
    buffer: Buffer, root: FillHalo, isa: Isa, start: tuple[Index, Index, Index], columns: int, apart: int
) -> None:
    """Fill `columns` pixels of a row from pixel `start` on; apart: how far from their place."""
    layout = root.target
    first = emit.pixel_address(layout, *start) + apart
    if layout.strides[2:] == (layout.depth, 1) and _is_uniform(root):
        _fill(buffer, root, isa, first, columns * layout.depth)
        return
    for x in each(columns, "column"):
        pixel = first + x * layout.strides[2]
        for c in each(layout.depth - 1 if layout.element is Element.BIT else layout.depth, "channel"):
            T.buffer_store(buffer, _element(root), [pixel + c * layout.strides[3]])
        if layout.element is Element.BIT:
            T.buffer_store(buffer, _last_word(root), [pixel + layout.depth - 1])


def _fill(buffer: Buffer, root: FillHalo, isa: Isa, first: Index, count: int) -> None:
    """Fill `count` neighbouring elements."""
    if isa.is_scalar:
        for i in each(count):
            T.buffer_store(buffer, _element(root), [first + i])
        return
    for start, size in tiles(count, isa.lanes):
        for offset, lanes in emit.pieces(size, isa.lanes):
            emit.store(buffer, emit.broadcast(_element(root), lanes), first + start + offset)


def _is_uniform(root: FillHalo) -> bool:
    """Whether all stored elements of a pixel are the same."""
    layout: Layout = root.target
    return layout.element is not Element.BIT or root.value <= 0 or layout.shape[3] % WORD_BITS == 0


def _element(root: FillHalo) -> Value:
    if root.target.element is Element.BIT:
        return tirx.const(0xFFFFFFFF if root.value > 0 else 0, "uint32")
    return tirx.const(root.value, root.target.element.dtype)


def _last_word(root: FillHalo) -> Value:
    channels = root.target.shape[3]
    used = (channels - 1) % WORD_BITS + 1
    return tirx.const((1 << used) - 1 if root.value > 0 else 0, "uint32")
