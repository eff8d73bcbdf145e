# SPDX-License-Identifier: Apache-2.0
"""Pooling: the maximum or mean over a window, of numbers along the channels, of packed bits by whole words.

The columns of an output row fall into three parts: those whose window lies inside the image, where the taps
of a row are unrolled, and those before and after them, where they are counted. The rows of a window are
always counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit, functions
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.epilogue_values import bits_of_word
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import each, tiles
from bnncc.kernels.spike import count_pool
from bnncc.plan.kernel import KernelSpec, Pool
from bnncc.plan.layout import WORD_BITS, Element

MOST_UNROLLED = 8
"""Taps of a row that are unrolled at most."""


@dataclass(frozen=True)
class Axis:
    """One axis of a window: position p reads p*stride + k*dilation - before, 0 <= k < taps, of
    0..extent-1."""

    extent: int
    positions: int
    taps: int
    stride: int
    dilation: int
    before: int

    def inside(self) -> range:
        """The positions all of whose taps lie inside, in one run."""
        first = -(-self.before // self.stride)
        reach = (self.taps - 1) * self.dilation
        last = (self.extent - 1 - reach + self.before) // self.stride
        first = min(first, self.positions)
        return range(first, max(first, min(last + 1, self.positions)))

    def taps_inside(self, position: Index, is_inside: bool) -> tuple[Index, Index]:
        """The first tap inside the image, and how many there are (one run)."""
        if is_inside:
            return 0, self.taps
        start = self.before - position * self.stride
        first = _at_least(_ceiling(start, self.dilation), 0)
        end = _at_most(_ceiling(start + self.extent, self.dilation), self.taps)
        return emit.bind_index(first), emit.bind_index(end - first)


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is Pool. schedule: `vectors` of channels that are pooled side by
    side."""
    root = spec.root
    assert isinstance(root, Pool)
    if root.kind == "count":
        return count_pool.make(spec, isa)
    schedule = schedule or {"vectors": 1 if isa.is_scalar else 4}
    epilogue = Epilogue(spec, isa)
    pooling = _Pooling(root, epilogue, isa, schedule["vectors"])
    parameters = (
        emit.input_parameter("input", root.input),
        *epilogue.operands,
        *epilogue.constants,
        *epilogue.outputs,
    )

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        for n in each(spec.shape[0], "image"):
            for y in each(spec.shape[1], "row"):
                for x, is_inside in pooling.columns_of_row():
                    pooling.store_pixel(buffers["input"], (n, y, x), is_inside)

    symbol = kernel_symbol(spec, isa, schedule)
    description = f"{root.kind} over {root.window.height}x{root.window.width}, {pooling.items} side by side"
    function = emit.function(symbol, parameters, body)
    return Kernel(symbol, spec, function, parameters, epilogue.pack, dict(schedule), description)


class _Pooling:
    """What the code of one pixel depends on. An item is a channel, or a word of packed bits."""

    def __init__(self, root: Pool, epilogue: Epilogue, isa: Isa, vectors: int):
        window, (_, h, w, _) = root.window, root.input.shape
        _, out_h, out_w, _ = epilogue.spec.shape
        self.root = root
        self.epilogue = epilogue
        self.isa = isa
        self.rows = Axis(h, out_h, window.height, window.stride_y, window.dilation_y, window.top)
        self.columns = Axis(w, out_w, window.width, window.stride_x, window.dilation_x, window.left)
        self.is_bits = root.input.element is Element.BIT
        self.is_bytes = root.input.element is Element.U8
        self.sums_bytes = self.is_bytes and root.kind == "mean"
        self.rows_inside = len(self.rows.inside()) == out_h
        self.items = self._items(vectors)

    def _items(self, vectors: int) -> int:
        """Items that are pooled side by side."""
        if self.is_bits:
            return vectors * self.isa.lanes if self.epilogue.is_bitwise else 1
        if self.epilogue.writes_bits:
            return WORD_BITS
        return vectors * self.epilogue.lanes

    def columns_of_row(self) -> Iterator[tuple[Index, bool]]:
        """The columns of an output row, with whether the whole window lies inside the image's columns."""
        inside = self.columns.inside()
        parts = (
            (range(inside.start), False),
            (inside, True),
            (range(inside.stop, self.columns.positions), False),
        )
        for part, is_inside in parts:
            for x in each(len(part), "column"):
                yield x + part.start if part.start else x, is_inside

    def store_pixel(self, buffer: Buffer, position: tuple[Index, Index, Index], is_inside: bool) -> None:
        """Pool and store all channels of one output pixel."""
        n, y, x = position
        rows = self.rows.taps_inside(y, self.rows_inside)
        columns = self.columns.taps_inside(x, is_inside)
        top = y * self.rows.stride - self.rows.before
        left = x * self.columns.stride - self.columns.before
        start = emit.bind_index(emit.pixel_address(self.root.input, n, top, left))
        for first, count in self._tiles():
            sums = self._accumulate(buffer, start, rows, columns, first, count)
            self._store(position, first, count, sums, rows[1] * columns[1])

    def _tiles(self) -> Iterator[tuple[Index, int]]:
        """(first, count) of the items; a word that is not full stands by itself, at a known place."""
        depth = self.root.input.depth
        if not self.is_bits or self.epilogue.is_bitwise or self.root.input.shape[3] % WORD_BITS == 0:
            yield from tiles(depth, self.items)
            return
        yield from tiles(depth - 1, self.items)
        yield depth - 1, 1

    def _accumulate(
        self,
        buffer: Buffer,
        start: Index,
        rows: tuple[Index, Index],
        columns: tuple[Index, Index],
        first: Index,
        count: int,
    ) -> Buffer:
        """Emit the sums or maxima of items [first, first + count) into a local."""
        strides = self.root.input.strides
        dtype = "int32" if self.sums_bytes else self.root.input.element.dtype
        total = emit.local(dtype, count, "total")
        for offset, lanes in self._pieces(count):
            emit.store(total, self._neutral(lanes), offset)
        for ky in _count(rows):
            for kx in _count(columns):
                pixel = (
                    start + ky * (self.rows.dilation * strides[1]) + kx * (self.columns.dilation * strides[2])
                )
                for offset, lanes in self._pieces(count):
                    place = pixel + (first + offset) * strides[3]
                    value = emit.load(buffer, place, lanes, strides[3])
                    if self.sums_bytes:
                        value = T.Cast(emit.vector_type("int32", lanes), value)
                    emit.store(total, self._combine(emit.load(total, offset, lanes), value), offset)
        return total

    def _pieces(self, count: int) -> Iterator[tuple[Index, int]]:
        if self.isa.is_scalar:
            for item in each(count):
                yield item, 1
        else:
            is_byte_wise = self.is_bytes and not self.sums_bytes
            yield from emit.pieces(count, self.isa.lanes * (4 if is_byte_wise else 1))

    def _neutral(self, lanes: int) -> Value:
        element = self.root.input.element
        if self.sums_bytes:
            return emit.constant(0, "int32", lanes)
        if self.root.kind == "mean" or self.is_bits or self.is_bytes:
            return emit.constant(0, element.dtype, lanes)
        if element is Element.F32:
            return functions.number(float("-inf"), lanes, self.isa.is_scalar)
        return emit.constant(-(1 << 31), element.dtype, lanes)

    def _combine(self, total: Value, value: Value) -> Value:
        if self.is_bits:
            return total | value
        if self.root.kind == "mean":
            return total + value
        value = emit.bind(value)
        total = emit.bind(total)
        return tirx.Select(total > value, total, value)

    def _store(
        self, position: tuple[Index, Index, Index], first: Index, count: int, total: Buffer, taps: Index
    ) -> None:
        if self.epilogue.is_bitwise:
            words = lambda offset, lanes: emit.load(total, offset, lanes)  # noqa: E731
            self.epilogue.store_words(position, first, count, words)
            return
        if self.is_bits:
            word = emit.bind(total[0])
            channels = self.root.input.shape[3]
            rest = channels - first * WORD_BITS if isinstance(first, int) else WORD_BITS
            self.epilogue.store(
                position,
                first * WORD_BITS,
                min(WORD_BITS, rest),
                lambda offset, lanes: bits_of_word(word, offset, lanes),
                available=WORD_BITS,
            )
            return
        if self.root.kind == "max":
            self.epilogue.store(
                position, first, count, lambda offset, lanes: self._maximum(total, offset, lanes)
            )
            return
        divisor = self._divisor(taps)
        below = emit.bind_index(taps * self.root.lowest)

        def mean(offset: Index, lanes: int) -> Value:
            value = emit.load(total, offset, lanes)
            if self.root.lowest:
                value = value + emit.broadcast(T.int32(below) if isinstance(below, int) else below, lanes)
            if self.root.input.element is not Element.F32:
                value = T.Cast(emit.vector_type("float32", lanes), value)
            return value / emit.broadcast(divisor, lanes)

        self.epilogue.store(position, first, count, mean)

    def _maximum(self, total: Buffer, offset: Index, lanes: int) -> Value:
        value = emit.load(total, offset, lanes)
        return T.Cast(emit.vector_type("int32", lanes), value) if self.is_bytes else value

    def _divisor(self, taps: Index) -> Value:
        if self.root.count_outside:
            taps = self.rows.taps * self.columns.taps
        if isinstance(taps, int):
            return functions.number(taps, 1, self.isa.is_scalar)
        return emit.bind(T.Cast("float32", taps))


def _count(run: tuple[Index, Index]) -> Iterator[Index]:
    """The taps of a run: unrolled if they are few and known, else in a loop."""
    first, count = run
    if isinstance(first, int) and isinstance(count, int) and count <= MOST_UNROLLED:
        yield from range(first, first + count)
        return
    with T.serial(0, count) as k:
        yield first + k


def _ceiling(value: Index, divisor: int) -> Index:
    """value / divisor, rounded up."""
    if divisor == 1:
        return value
    return -(-value // divisor) if isinstance(value, int) else tirx.floordiv(value + divisor - 1, divisor)


def _at_least(value: Index, bound: int) -> Index:
    return max(value, bound) if isinstance(value, int) else T.max(value, bound)


def _at_most(value: Index, bound: int) -> Index:
    return min(value, bound) if isinstance(value, int) else T.min(value, bound)
