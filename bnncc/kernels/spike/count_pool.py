# SPDX-License-Identifier: Apache-2.0
"""Counting spikes over a window, on whole words: bit-sliced adders, no bit is looked at by itself.

The outputs are planes of the counts. Where a pixel is one word, vectors run along the columns.
"""

from __future__ import annotations

from collections.abc import Iterator

from bnncc.kernels import emit
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import each, tiles
from bnncc.plan.expression import Accumulator, BitOf
from bnncc.plan.kernel import KernelSpec, Pool
from bnncc.plan.layout import Element


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is a Pool of kind "count". There is nothing to schedule."""
    root = spec.root
    assert isinstance(root, Pool) and root.kind == "count" and root.input.element is Element.BIT
    planes = [_plane(output.expression) for output in spec.outputs]
    parameters = (
        emit.input_parameter("input", root.input),
        *(
            emit.layout_parameter(f"output{i}", output.layout, is_const=False)
            for i, output in enumerate(spec.outputs)
        ),
    )
    n, h, w, _ = spec.shape
    is_wide = _runs_along_columns(spec, isa)

    def body(buffers: Buffers) -> None:
        counting = _Counting(spec, root, buffers, isa)
        for image in each(n, "image"):
            for y in each(h, "row"):
                if is_wide:
                    for x, lanes in _column_pieces(w, isa.lanes):
                        _store(spec, buffers, planes, (image, y, x), 0, counting.columns(image, y, x, lanes))
                    continue
                for x in each(w, "column"):
                    for first, lanes in _word_pieces(root.input.depth, isa):
                        words = counting.words(image, y, x, first, lanes)
                        _store(spec, buffers, planes, (image, y, x), first, words)

    symbol = kernel_symbol(spec, isa, {})
    function = emit.function(symbol, parameters, body)
    description = f"count of {root.window.height}x{root.window.width}, in planes of bits"
    return Kernel(symbol, spec, function, parameters, lambda constants: (), {}, description)


def _plane(expression: object) -> int:
    assert isinstance(expression, BitOf) and expression.value == Accumulator(), "planes of the count"
    return expression.plane


def _runs_along_columns(spec: KernelSpec, isa: Isa) -> bool:
    root = spec.root
    assert isinstance(root, Pool)
    layouts = (root.input, *(output.layout for output in spec.outputs))
    single = all(layout.depth == 1 and layout.strides[2] == 1 for layout in layouts)
    return not isa.is_scalar and single and root.window.stride_x <= 2 and root.window.dilation_x == 1


def _column_pieces(count: int, lanes: int) -> Iterator[tuple[Index, int]]:
    for first, size in tiles(count, lanes, "columns"):
        for offset, width in emit.pieces(size, lanes):
            yield first + offset, width


def _word_pieces(count: int, isa: Isa) -> Iterator[tuple[Index, int]]:
    if isa.is_scalar:
        for first in each(count, "word"):
            yield first, 1
        return
    yield from _column_pieces(count, isa.lanes)


class _Counting:
    """Sums of words over windows."""

    def __init__(self, spec: KernelSpec, root: Pool, buffers: Buffers, isa: Isa):
        window, (_, h, w, _), (_, rows, columns, _) = root.window, root.input.shape, spec.shape
        inside = (rows - 1) * window.stride_y + (window.height - 1) * window.dilation_y < h
        inside &= (columns - 1) * window.stride_x + (window.width - 1) * window.dilation_x < w
        assert inside and not window.top and not window.left, "windows inside the image"
        self.root = root
        self.buffer: Buffer = buffers["input"]

    def columns(self, n: Index, y: Index, x: Index, lanes: int) -> list[Value]:
        """The planes of the counts of neighbouring pixels of one word."""
        window = self.root.window
        counts: list[Value] = []
        number = 0
        for ky in range(window.height):
            row = y * window.stride_y + ky * window.dilation_y
            start = emit.pixel_address(self.root.input, n, row, x * window.stride_x)
            for word in self._row(emit.bind_index(start), lanes):
                counts, number = _added(counts, number, word), number + 1
        return counts

    def _row(self, start: Index, lanes: int) -> Iterator[Value]:
        """For every tap of a row, the words of `lanes` pixels."""
        width = self.root.window.width
        if self.root.window.stride_x == 1:
            for kx in range(width):
                yield emit.bind(emit.load(self.buffer, start + kx, lanes))
            return
        for kx in range(0, width - 1, 2):
            both = emit.bind(emit.load(self.buffer, start + kx, 2 * lanes))
            yield emit.bind(emit.every_other(both, 0))
            yield emit.bind(emit.every_other(both, 1))
        if width % 2:
            yield emit.bind(emit.load(self.buffer, start + width - 1, lanes, 2))

    def words(self, n: Index, y: Index, x: Index, first: Index, lanes: int) -> list[Value]:
        """The planes of the counts of some words of a pixel."""
        window = self.root.window
        counts: list[Value] = []
        number = 0
        for ky in range(window.height):
            for kx in range(window.width):
                row = y * window.stride_y + ky * window.dilation_y
                column = x * window.stride_x + kx * window.dilation_x
                place = emit.pixel_address(self.root.input, n, row, column) + first
                word = emit.bind(emit.load(self.buffer, place, lanes))
                counts, number = _added(counts, number, word), number + 1
        return counts


def _added(counts: list[Value], number: int, word: Value) -> list[Value]:
    """Planes of counts up to `number`, and one more word."""
    result, carry = [], word
    for plane in counts:
        result.append(emit.bind(plane ^ carry))
        carry = emit.bind(plane & carry)
    return [*result, carry] if (number + 1).bit_length() > len(counts) else result


def _store(
    spec: KernelSpec,
    buffers: Buffers,
    planes: list[int],
    position: tuple[Index, Index, Index],
    first: Index,
    counts: list[Value],
) -> None:
    """Write the planes asked for; those above the highest count are 0."""
    for number, (plane, output) in enumerate(zip(planes, spec.outputs, strict=True)):
        zero = emit.constant(0, "uint32", emit.lanes_of(counts[0]))
        value = counts[plane] if plane < len(counts) else zero
        place = emit.pixel_address(output.layout, *position) + first
        emit.store(buffers[f"output{number}"], value, place)
