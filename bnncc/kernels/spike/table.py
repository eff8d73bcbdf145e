# SPDX-License-Identifier: Apache-2.0
"""Convolution of few channels of spikes by tables: what a kernel row adds is a function of a few bits.

The KW * C bits that a row of the window sees index a table of sums, one vector of output channels an entry,
one table a kernel row: KH additions an output, no branch, and at low densities few entries are hot. Time (the
images of a batch) is the innermost loop, so that states stay in registers.

Three phases: rows of spikes as words of bits along the row; at each column the patterns that the rows show
there, those of several rows in one load; then the sums. Stored form of the weights: [tiles][KH][2^(KW * C) +
1] [outputs of a tile], float32; one entry more than a power of two, so that no two tables start in the same
set of a cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.bias import bias_of, without_bias
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import each, tiles
from bnncc.kernels.output_tiles import OutputTile, Tiling
from bnncc.plan import tables
from bnncc.plan.kernel import KernelSpec, SpikeConv
from bnncc.plan.layout import Element

LANES = 16
"""Rows whose patterns are found at once."""


def fits(spec: KernelSpec, isa: Isa) -> bool:
    """Whether this form computes `spec`, and is the faster one."""
    root = spec.root
    assert isinstance(root, SpikeConv)
    if isa.is_scalar or root.more or root.weight is not Element.F32:
        return False
    n, rows, columns, outputs = spec.shape
    layer = tables.Layer(root.window, root.input.shape[3], columns, outputs)
    # Numbers that are all 0 and 1 have no other form.
    pays = n * rows >= 16 or root.input.element is Element.F32
    return pays and tables.fit(layer, isa.vector_bits // 32)


def _most_width(isa: Isa) -> int:
    """Outputs of a tile at most."""
    return tables.MOST_VECTORS * isa.lanes


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`. schedule: `rows`, output rows that are summed side by side."""
    plan = Table.of(spec, isa, (schedule or {}).get("rows"))
    bias = bias_of(spec)
    epilogue = Epilogue(spec if bias is None else without_bias(spec, bias), isa)
    doc = f"tables [{plan.tiling.tiles}][{plan.root.window.height}][{plan.entries}][{plan.tiling.width}]"
    scratch = plan.row_words * plan.word_bits // 8 + plan.patterns * 2
    parameters = (
        emit.input_parameter("input", plan.root.input),
        *epilogue.operands,
        emit.constant_parameter("weight", "float32", plan.tiling.taps * plan.tiling.stored, doc),
        *epilogue.constants,
        *epilogue.outputs,
        Parameter("scratch", "uint16", scratch // 2, False, "uint16_t", "words of rows, then patterns"),
    )

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        plan.emit(epilogue, buffers)

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        added = None if bias is None else constants[bias]
        return plan.pack(constants[0], added), *epilogue.pack(constants)

    tile = {"rows": plan.rows, "table": 1}
    symbol = kernel_symbol(spec, isa, tile)
    description = f"tables of {plan.entries - 1} sums, {plan.rows} rows of {plan.tiling.width} outputs"
    function = emit.function(symbol, parameters, body)
    return Kernel(symbol, spec, function, parameters, pack, tile, description, scratch)


@dataclass(frozen=True)
class Table:
    """One kernel of this form. rows: output rows side by side, whose patterns are loaded together."""

    spec: KernelSpec
    root: SpikeConv
    tiling: Tiling
    lanes: int
    rows: int

    @staticmethod
    def of(spec: KernelSpec, isa: Isa, rows: int | None = None) -> Table:
        """With the rows given, or as many as two loads of patterns serve."""
        root = spec.root
        assert isinstance(root, SpikeConv)
        outputs, window = spec.shape[3], root.window
        width = min(-(-outputs // isa.lanes) * isa.lanes, _most_width(isa))
        entries = (1 << window.width * root.input.shape[3]) + 1
        tiling = Tiling(outputs, width, width, window.height * entries)
        return Table(spec, root, tiling, isa.lanes, min(rows or 2, spec.shape[1]))

    @property
    def entries(self) -> int:
        """Of a table, the spare one included."""
        return (1 << self.root.window.width * self.channels) + 1

    @property
    def channels(self) -> int:
        """Of the input."""
        return self.root.input.shape[3]

    @property
    def input_rows(self) -> int:
        """Rows that the windows reach, those outside the image included; whole vectors."""
        window = self.root.window
        reached = (self.spec.shape[1] - 1) * window.stride_y + window.height
        return -(-reached // LANES) * LANES

    @property
    def word_bits(self) -> int:
        """Of a row word: as many columns as the windows reach."""
        window = self.root.window
        reach = (self.spec.shape[2] - 1) * window.stride_x + window.width
        return tables.ROW_BITS // 2 if reach <= tables.ROW_BITS // 2 else tables.ROW_BITS

    @property
    def word_type(self) -> str:
        """Its type."""
        return f"uint{self.word_bits}"

    @property
    def row_words(self) -> int:
        """How many there are: [n][c][rows]."""
        return self.spec.shape[0] * self.channels * self.input_rows

    @property
    def patterns(self) -> int:
        """Patterns of a column: [n][rows], and what a load may reach beyond."""
        return self.spec.shape[0] * self.input_rows + LANES

    def pack(self, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        """float32 [O, KH, KW, C] to the stored form: bit c * KW + kx of a pattern is tap kx of channel c. The
        bias [O] is a term of the sums of the first row."""
        outputs, height, width, channels = weight.shape
        tables = np.zeros((height, self.entries, outputs), np.float32)
        patterns = np.arange(self.entries - 1)
        for bit in range(width * channels):
            is_set = (patterns >> bit & 1)[None, :, None]
            tables[:, :-1] += is_set * weight[:, :, bit % width, bit // width].T[:, None]
        if bias is not None:
            tables[0] += bias
        return self.tiling.pack(tables.reshape(self.tiling.taps, outputs))

    def emit(self, epilogue: Epilogue, buffers: Buffers) -> None:
        """The three phases."""
        scratch = buffers["scratch"]
        words = T.decl_buffer((self.row_words,), self.word_type, data=scratch.data)
        # The patterns lie behind the words, seen in units of 16 bits.
        first = self.row_words * self.word_bits // 16
        self._emit_rows(buffers["input"], words)
        for x in each(self.spec.shape[2], "column"):
            self._emit_patterns(words, scratch, first, x)
            in_loop = not self.spec.writes_bits or epilogue.may_loop(self.tiling.width)
            for tile in self.tiling.each(in_loop):
                for y, count in tiles(self.spec.shape[1], self.rows, "rows"):
                    for step in each(self.spec.shape[0], "step"):
                        self._emit_sums(epilogue, buffers, first, (step, y, x), count, tile)

    def _emit_rows(self, source: Buffer, words: Buffer) -> None:
        """Phase 1: bit i of word [n][c][r] is column i - left of row r - top; 0 outside the image."""
        layout, window = self.root.input, self.root.window
        n, h, _, channels = layout.shape
        for step in each(n, "step"):
            for c in range(channels):
                start = step * (channels * self.input_rows) + c * self.input_rows
                for r in [*range(window.top), *range(min(window.top + h, self.input_rows), self.input_rows)]:
                    T.buffer_store(words, tirx.const(0, self.word_type), [start + r])
                inside = min(h, self.input_rows - window.top)
                for r in each(inside, "row"):
                    word = self._row_word(source, step, r, c)
                    T.buffer_store(words, word, [start + r + window.top])

    def _row_word(self, source: Buffer, n: Index, y: Index, c: int) -> Value:
        """The spikes of a row, bit by column."""
        layout, left = self.root.input, self.root.window.left
        width = min(layout.shape[2], self.word_bits - left)
        start = emit.bind(emit.pixel_address(layout, n, y, 0))
        if layout.element is not Element.BIT:
            start = start + c * layout.strides[3]
        result: Value = tirx.const(0, self.word_type)
        for first, lanes in emit.pieces(width, LANES, 8):
            value = emit.load(source, start + first * layout.strides[2], lanes, layout.strides[2])
            if layout.element is Element.BIT:
                bit = emit.constant(1 << c, "uint32", lanes)
                is_set = tirx.NE(value & bit, emit.constant(0, "uint32", lanes))
            else:
                is_set = tirx.NE(value, emit.constant(0, "float32", lanes))
            mask = T.Cast(self.word_type, _mask(is_set, lanes))
            result = result | T.shift_left(mask, tirx.const(first + left, self.word_type))
        return result

    def _emit_patterns(self, words: Buffer, scratch: Buffer, first: int, x: Index) -> None:
        """Phase 2: of every row, where in a table the sums of its pattern at a column start."""
        window = self.root.window
        taps = emit.constant((1 << window.width) - 1, self.word_type, LANES)
        shift = x * window.stride_x
        shift = tirx.const(shift, self.word_type) if isinstance(shift, int) else T.Cast(self.word_type, shift)
        for step in each(self.spec.shape[0], "step"):
            for r in range(0, self.input_rows, LANES):
                result: Value | None = None
                for c in range(self.channels):
                    at = step * (self.channels * self.input_rows) + (c * self.input_rows + r)
                    bits = T.shift_right(emit.load(words, at, LANES), emit.broadcast(shift, LANES)) & taps
                    places = tirx.const(c * window.width, self.word_type)
                    bits = T.shift_left(bits, emit.broadcast(places, LANES)) if c else bits
                    result = bits if result is None else result | bits
                scale = tirx.const(self.tiling.width.bit_length() - 1, self.word_type)
                result = T.shift_left(result, emit.broadcast(scale, LANES))
                emit.store(scratch, T.Cast(f"uint16x{LANES}", result), first + step * self.input_rows + r)

    def _emit_sums(
        self,
        epilogue: Epilogue,
        buffers: Buffers,
        first: int,
        position: tuple[Index, Index, Index],
        rows: int,
        tile: OutputTile,
    ) -> None:
        """Phase 3: some output rows of a column at a step."""
        step, y, x = position
        window = self.root.window
        reached = (rows - 1) * window.stride_y + window.height
        start = first + step * self.input_rows + y * window.stride_y
        fields = _fields(buffers["scratch"], start, reached)
        for row in range(rows):
            taps = [fields[row * window.stride_y + ky] for ky in range(window.height)]
            sums = [self._sum(buffers["weight"], taps, tile, v) for v in range(0, tile.width, self.lanes)]

            def value(offset: Index, lanes: int, sums: list[Value] = sums) -> Value:
                assert isinstance(offset, int)
                size = min(lanes, self.lanes)
                parts = [
                    emit.extract(sums[at // self.lanes], at % self.lanes, size)
                    for at in range(offset, offset + lanes, size)
                ]
                return emit.concatenate(parts)

            epilogue.store((step, y + row, x), tile.first, tile.valid, value, available=tile.width)

    def _sum(self, weight: Buffer, taps: list[Value], tile: OutputTile, vector: int) -> Value:
        """The sum over kernel rows of one vector of outputs."""
        total: Value | None = None
        for ky, place in enumerate(taps):
            start = place + tirx.const(ky * self.entries * tile.width + vector, "int64")
            start = start + _wide(tile.start)
            row = emit.load(weight, start, self.lanes)
            total = row if total is None else total + row
        return emit.bind(total)


def _fields(patterns: Buffer, start: Index, count: int) -> list[Value]:
    """`count` neighbouring patterns as int64, four from each load."""
    result: list[Value] = []
    for first in range(0, count, 4):
        size = min(4, count - first)
        # A load of four is cheaper than three: what it reads beyond is memory of this kernel.
        size = 4 if size == 3 else size
        loaded = emit.load(patterns, start + first, size)
        joined = emit.bind(T.Cast("uint64", T.reinterpret(f"uint{16 * size}", loaded)))
        for i in range(min(size, count - first)):
            field = T.shift_right(joined, tirx.const(16 * i, "uint64")) if i else joined
            field = field & tirx.const(0xFFFF, "uint64") if i + 1 < size else field
            result.append(emit.bind(T.Cast("int64", field)))
    return result


def _mask(condition: Value, lanes: int) -> Value:
    """Booleans as bits of an integer, the first the lowest."""
    if lanes == 1:
        return T.Cast("uint8", condition)
    return T.reinterpret(f"uint{lanes}", T.Cast(f"uint1x{lanes}", condition))


def _wide(index: Index) -> Value:
    return tirx.const(index, "int64") if isinstance(index, int) else T.Cast("int64", index)
