# SPDX-License-Identifier: Apache-2.0
"""What follows the counts of a binary layer: comparisons with limits where the whole epilogue is a threshold,
else the values that the epilogue is fed with.

Whatever counts (a `Form`) hands over the mismatches of a register tile. See `binary.plan` for the table of
border cases.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit, neighbours
from bnncc.kernels.binary.counting import Form, as_int32
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.epilogue_values import Position
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Parameter
from bnncc.kernels.nest import Schedule, Tile, Vector
from bnncc.kernels.tiles import Sums, local_piece, store_tile
from bnncc.plan.borders import Cases
from bnncc.plan.layout import WORD_BITS
from bnncc.plan.threshold import Threshold


def finish_of(form: Form, isa: Isa) -> _PackedThreshold | _General:
    """What follows the counting of `form`."""
    threshold = Threshold.of(form.plan.spec)
    if threshold and not form.plan.root.ternary_input:
        return _PackedThreshold(form, threshold)
    return _General(form, isa)


def border_case(plan: BinaryPlan, y: Index, x: Index) -> Index:
    """The border case of output pixel (y, x)."""
    if not plan.has_cases:
        return 0
    rows, columns = plan.borders.rows, plan.borders.columns
    return _axis_case(rows, y) * columns.count + _axis_case(columns, x)


def _axis_case(cases: Cases, position: Index) -> Index:
    if cases.count == 1:
        return 0
    if isinstance(position, int):
        return cases.case(position)
    return T.min(position, cases.first) + T.max(position - cases.last, 0)


class _PackedThreshold:
    """The whole epilogue is an integer threshold: a bit is m <= limit[case][o], a comparison of counts."""

    def __init__(self, form: Form, threshold: Threshold):
        self.form, self.plan, self.threshold = form, form.plan, threshold
        self.layout = form.plan.spec.outputs[0].layout
        self.item_bits = min(WORD_BITS, form.plan.channels.lanes)
        self.buffers: Buffers = {}

    def operands(self) -> tuple[Parameter, ...]:
        """None: a threshold reads constants only."""
        return ()

    def constants(self) -> tuple[Parameter, ...]:
        """The limits."""
        extent = self.plan.cases * self.plan.channels.stored
        doc = f"limits [{self.plan.cases}][channels]: the bit is mismatches <= limit"
        return (emit.constant_parameter("limit", self.form.dtype, extent, doc),)

    def outputs(self) -> tuple[Parameter, ...]:
        """The packed bits."""
        dtype = f"uint{self.item_bits}"
        return (emit.layout_parameter("output", self.layout, is_const=False, dtype=dtype),)

    def pack(self, constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Weights, negated in the channels whose comparison points the other way, and limits."""
        signs, thresholds = self.threshold.at_least(constants)
        weight = constants[0] * signs.astype(np.int8)[:, None, None, None]
        return self.form.pack_weight(weight), self.plan.pack_limits(weight, thresholds, self.form.dtype)

    def schedule(self, schedule: Schedule) -> Schedule:
        """The nearest one whose tiles `store` can take."""
        return schedule

    def attach(self, buffers: Buffers) -> None:
        """Use these parameters."""
        self.buffers = buffers

    def prefetch(self, tile: Tile) -> None:
        """Nothing: bits are few."""

    def store(self, tile: Tile, sums: Sums) -> None:
        """Emit comparisons and stores of a tile."""
        per_word = WORD_BITS // self.item_bits
        if self.layout.form != "plain":
            self._store_rows(tile, sums, per_word)
            return
        for p, (row, column) in enumerate(tile.pixels()):
            pixel, limits = self._pixel(tile, row, column, per_word)
            for v, vector in enumerate(tile.vectors):
                bits = self._bits(sums[p, v], limits + vector.channel, vector)
                for i, item in enumerate(bits):
                    place = pixel + vector.channel // self.item_bits + i
                    T.buffer_store(self.buffers["output"], item, [place])
                self._clear_rest(pixel, vector)

    def _pixel(self, tile: Tile, row: Index, column: Index, per_word: int) -> tuple[Index, Index]:
        """Where the bits of a pixel go, in items, and where its limits are."""
        n, y, x = self.form.pixels.position(tile.image, row, column)
        limits = border_case(self.plan, y, x) * self.plan.channels.stored
        return emit.address(self.layout, n, y, x, 0, per_word), limits

    def _store_rows(self, tile: Tile, sums: Sums, per_word: int) -> None:
        """The same in three-word form: the pixels of a row together."""
        buffer, pixels = self.buffers["output"], tile.pixels()
        for v, vector in enumerate(tile.vectors):
            for first in range(0, len(pixels), tile.columns):
                rows = []
                for p in range(first, first + tile.columns):
                    _, limits = self._pixel(tile, *pixels[p], per_word)
                    rows.append(self._bits(sums[p, v], limits + vector.channel, vector))
                start, _ = self._pixel(tile, *pixels[first], per_word)
                place = start + vector.channel // self.item_bits
                for i, bits in enumerate(zip(*rows, strict=True)):
                    neighbours.store_row(
                        self.layout,
                        per_word,
                        place + i,
                        bits,
                        lambda at: buffer[at],
                        lambda item, at: T.buffer_store(buffer, item, [at]),
                    )

    def _bits(self, total: Buffer, limit: Index, vector: Vector) -> list[Value]:
        if self.form.is_scalar:
            return [self.form.compared(total, self.buffers["limit"], limit, vector)]
        width = min(self.item_bits, vector.width)
        return [
            self._lane_bits(emit.load(total, i, width), emit.load(self.buffers["limit"], limit + i, width))
            for i in range(0, vector.width, width)
        ]

    def _lane_bits(self, count: Value, limit: Value) -> Value:
        lanes = emit.lanes_of(count)
        mask = T.reinterpret(f"uint{lanes}", T.Cast(f"uint1x{lanes}", count <= limit))
        return mask if lanes == self.item_bits else T.Cast(f"uint{self.item_bits}", mask)

    def _clear_rest(self, pixel: Index, vector: Vector) -> None:
        """Emit zeros for what of the last word no vector computes."""
        if vector in self.plan.channels.rest[-1:]:
            first = vector.channel + vector.width
            for place in range(-(-first // self.item_bits), self.layout.depth * WORD_BITS // self.item_bits):
                T.buffer_store(
                    self.buffers["output"], tirx.const(0, f"uint{self.item_bits}"), [pixel + place]
                )


class _General:
    """Any other epilogue, fed with value = base[case][o] - step*m, or half of it; of a ternary input with
    taps - 2*m."""

    def __init__(self, form: Form, isa: Isa):
        self.form, self.plan = form, form.plan
        self.epilogue = Epilogue(form.halved.spec if form.halved else form.plan.spec, isa)
        self.buffers: Buffers = {}

    def operands(self) -> tuple[Parameter, ...]:
        """Those of the epilogue."""
        return self.epilogue.operands

    def constants(self) -> tuple[Parameter, ...]:
        """The table of border cases and the constants of the epilogue."""
        if self.plan.root.ternary_input:
            return self.epilogue.constants
        extent = self.plan.cases * self.plan.channels.stored
        step = 1 if self.form.halved else self.plan.root.grid.step
        value = "half the value" if self.form.halved else "the value"
        doc = f"base [{self.plan.cases}][channels]: {value} is base - {step} * mismatches"
        return emit.constant_parameter("base", "int32", extent, doc), *self.epilogue.constants

    def outputs(self) -> tuple[Parameter, ...]:
        """Those of the epilogue."""
        return self.epilogue.outputs

    def pack(self, constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Weights, the table, and what the epilogue reads."""
        weight, halved = self.form.pack_weight(constants[0]), self.form.halved
        if self.plan.root.ternary_input:
            return weight, *self.epilogue.pack(constants)
        base = self.plan.pack_base(constants[0])
        if halved is not None:
            base, constants = halved.table(base), halved.constants(constants)
        return weight, base, *self.epilogue.pack(constants)

    def schedule(self, schedule: Schedule) -> Schedule:
        """The nearest one whose tiles `store` can take."""
        return self.plan.channels.whole_units(schedule)

    def attach(self, buffers: Buffers) -> None:
        """Use these parameters."""
        self.buffers = buffers
        self.epilogue.attach(buffers)

    def prefetch(self, tile: Tile) -> None:
        """Ask for the memory that `store` will need."""
        for row, column in tile.pixels():
            position = self.form.pixels.position(tile.image, row, column)
            for vector in tile.vectors:
                self.epilogue.prefetch(position, vector.channel, vector.valid)

    def store(self, tile: Tile, sums: Sums) -> None:
        """Emit the epilogue of a tile."""

        def value(pixel: int, position: Position, number: int, offset: Index, lanes: int) -> Value:
            channel = tile.vectors[number].channel + offset
            if self.plan.root.ternary_input:
                most = as_int32(local_piece(sums[pixel, ~number], offset, lanes))
            else:
                row = border_case(self.plan, position[1], position[2]) * self.plan.channels.stored
                most = emit.load(self.buffers["base"], row + channel, lanes)
            return self.form.value(sums[pixel, number], offset, lanes, most)

        store_tile(self.epilogue, self.form.pixels, tile, value)
