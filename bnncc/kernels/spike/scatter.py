# SPDX-License-Identifier: Apache-2.0
"""Convolution of spikes that scatters: every event is looked at once, and its weights are added to the sums
of all outputs whose windows see it.

The sums of the output rows that are not complete wait in a ring of scratch memory, beside margins for the
columns that lie outside the image; halos of inputs, which hold zeros, are not read. What a step costs hardly
depends on the image, only on how many events there are: sums are cleared and read once for each output, and
additions go to memory. So it is the form for few events, and for windows that neither slide nor fit tables.
Groups are what it alone can do.

Stored form of the weights: [C][KH * KW][outputs of a group, rounded up], int8 or float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.c_helpers import ADD_TO_SUMS, ROW_ORDER
from bnncc.kernels.emit import Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import each, each_lane, tiles
from bnncc.kernels.spike.events import EventIsa, as_index
from bnncc.plan.c_values import C_TYPES
from bnncc.plan.density import Contraction, Costs, gather_cycles, scatter_cycles
from bnncc.plan.kernel import KernelSpec, SpikeConv
from bnncc.plan.layout import WORD_BITS, Element

MOST_ADDITIONS = 64
"""Of vectors that are written out for one event."""

MOST_SHORT = (1 << 15) - 1
"""What sums of int16 hold."""

FEW_ON_CORES = 0.03
"""Density up to which it is the better form on cores without vectors, where sums are pairs of int16: it takes
.75 to .82 of the instructions at .01 on Cortex-M4, .8 to .95 at .03, 1 to 1.05 at .1."""

PAIRS = 4
"""Outputs of one word of int8 weights."""


def supports(spec: KernelSpec) -> bool:
    """Whether this form computes `spec`."""
    root = spec.root
    assert isinstance(root, SpikeConv)
    return root.input.element is Element.BIT


def fits(spec: KernelSpec, isa: Isa) -> bool:
    """Whether this form computes `spec`, and is better than to walk over the bits of every window."""
    root = spec.root
    assert isinstance(root, SpikeConv)
    if root.groups > 1:
        return True
    if not supports(spec) or root.window.height * root.window.width == 1:
        return False
    if isa.is_scalar:
        return Scatter.of(spec, isa).is_paired and root.density <= FEW_ON_CORES
    (n, h, w, inputs), (_, rows, columns, outputs) = root.input.shape, spec.shape
    layer = Contraction(
        n * rows * columns,
        root.window.height,
        root.window.width,
        inputs,
        outputs,
        len(root.planes),
        input_pixels=n * h * w,
    )
    gathers, scatters = (
        Costs(isa.vector_bits // (8 * np.dtype(total).itemsize)) for total in _totals(spec, isa)
    )
    return scatter_cycles(layer, root.density, scatters) < gather_cycles(layer, root.density, gathers)


def _totals(spec: KernelSpec, isa: Isa) -> tuple[str, str]:
    """The types of sums in registers, of the other form, and of those in memory."""
    is_float = spec.constants[0].element is Element.F32
    return "float32" if is_float else "int16", Scatter.of(spec, isa).total


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`. There is nothing to schedule."""
    plan = Scatter.of(spec, isa)
    epilogue = Epilogue(spec, isa)
    weight = "uint32" if plan.is_paired else str(np.dtype(plan.root.weight.dtype))
    doc = f"weight [{plan.root.input.shape[3]}][{plan.taps}][{plan.row}]"
    extent = plan.root.input.shape[3] * plan.taps * plan.row // (PAIRS if plan.is_paired else 1)
    size = plan.ring * plan.ring_row
    parameters = (
        *(emit.input_parameter(f"plane{b}", layout) for b, layout in enumerate(plan.root.planes)),
        *epilogue.operands,
        emit.constant_parameter("weight", weight, extent, doc),
        *epilogue.constants,
        *epilogue.outputs,
        Parameter("scratch", plan.total, size, False, C_TYPES[plan.total], "sums that are not complete"),
    )

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        for image in each(spec.shape[0], "image"):
            plan.clear(buffers, 0, size)
            for step in each(plan.ring - 1 + spec.shape[1], "step"):
                plan.scatter_rows(buffers, image, step)
                done = emit.bind_index(step % plan.ring * plan.ring_row)
                with _when(step >= plan.ring - 1):
                    plan.finish_row(epilogue, buffers, (image, step - (plan.ring - 1)), done)
                plan.clear(buffers, done, plan.ring_row)

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return plan.pack(constants[0]), *epilogue.pack(constants)

    tile = {"scatter": 1}
    symbol = kernel_symbol(spec, isa, tile)
    description = (
        f"events, each added to {plan.taps} outputs of {plan.group_outputs} channels as {plan.total}"
    )
    function = emit.function(symbol, parameters, body)
    bytes_ = size * np.dtype(plan.total).itemsize
    return Kernel(symbol, spec, function, parameters, pack, tile, description, bytes_)


@dataclass(frozen=True)
class Axis:
    """One axis of a window: output y reads inputs y * stride + tap * dilation - before."""

    taps: int
    stride: int
    dilation: int
    before: int

    def meets(self, phase: int) -> list[tuple[int, int]]:
        """(tap, distance): input q * stride + phase - before is met by output q + distance with this tap."""
        places = ((tap, phase - tap * self.dilation) for tap in range(self.taps))
        return [(tap, place // self.stride) for tap, place in places if place % self.stride == 0]

    @property
    def reach(self) -> int:
        """Outputs that are not complete when the first of them is about to be, less one."""
        return (self.taps - 1) * self.dilation // self.stride

    def phases(self, inputs: int) -> Iterator[tuple[int, int, int]]:
        """(phase, first q, how many) of the inputs inside the image."""
        for phase in range(self.stride):
            first = -(-(self.before - phase) // self.stride)
            last = (inputs - 1 + self.before - phase) // self.stride
            if last >= first and self.meets(phase):
                yield phase, first, last - first + 1


@dataclass(frozen=True)
class Scatter:
    """One kernel of this form. margin: columns of sums before those of the output, width: in all; total: the
    type of the sums; is_paired: whether a word of weights is added to two pairs of them."""

    spec: KernelSpec
    root: SpikeConv
    events: EventIsa
    lanes: int
    rows: Axis
    columns: Axis
    margin: int
    width: int
    total: str
    is_paired: bool

    @property
    def _vector(self) -> int:
        """Sums that are loaded and stored together."""
        return 1 if self.is_paired else self.lanes

    @staticmethod
    def of(spec: KernelSpec, isa: Isa) -> Scatter:
        """The facts of a spec."""
        root = spec.root
        assert isinstance(root, SpikeConv)
        window = root.window
        rows = Axis(window.height, window.stride_y, window.dilation_y, window.top)
        columns = Axis(window.width, window.stride_x, window.dilation_x, window.left)
        places = [
            q + distance
            for phase, first, count in columns.phases(root.input.shape[2])
            for q in (first, first + count - 1)
            for _, distance in columns.meets(phase)
        ]
        margin = max(0, -min(places, default=0))
        width = margin + max(spec.shape[2], 1 + max(places, default=0))
        taps = window.height * window.width * root.input.shape[3] // root.groups
        is_short = root.weight is Element.I8 and taps * 128 * ((1 << len(root.planes)) - 1) <= MOST_SHORT
        is_paired = is_short and "+dsp" in isa.features and not root.more and root.groups == 1
        total = "float32" if root.weight is Element.F32 else "int32"
        if is_short and (is_paired or not isa.is_scalar):
            total = "int16"
        lanes = (
            PAIRS if is_paired else 1 if isa.is_scalar else isa.vector_bits // (8 * np.dtype(total).itemsize)
        )
        return Scatter(spec, root, EventIsa.of(isa), lanes, rows, columns, margin, width, total, is_paired)

    @property
    def taps(self) -> int:
        """Of the window."""
        return self.rows.taps * self.columns.taps

    @property
    def ring(self) -> int:
        """Output rows whose sums wait."""
        return self.rows.reach + 1

    @property
    def group_outputs(self) -> int:
        """Output channels of a group."""
        return self.spec.shape[3] // self.root.groups

    @property
    def row(self) -> int:
        """Stored weights of an input and a tap."""
        return self.group_outputs if self.root.groups > 1 else self.depth

    @property
    def depth(self) -> int:
        """Sums of a pixel: whole vectors, or the words that the epilogue may read."""
        return -(-self.spec.shape[3] // self.lanes) * self.lanes

    @property
    def ring_row(self) -> int:
        """Sums of an output row."""
        return self.width * self.depth

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """[O, KH, KW, C/groups] to the stored form."""
        o, kh, kw, c = weight.shape
        grouped = weight.reshape(self.root.groups, o // self.root.groups, kh, kw, c)
        rows = grouped.transpose(0, 4, 2, 3, 1).reshape(-1, o // self.root.groups)
        stored = np.zeros((len(rows), self.row), weight.dtype)
        stored[:, : rows.shape[1]] = rows
        if not self.is_paired:
            return stored.reshape(-1)
        return (
            np.ascontiguousarray(stored.reshape(-1, PAIRS)[:, ROW_ORDER])
            .view("<u4")
            .astype(np.uint32)
            .ravel()
        )

    # --- Emission -----------------------------------------------------------------------------------------

    def clear(self, buffers: Buffers, start: Index, count: int) -> None:
        """Emit zeros in `count` sums, whole vectors."""
        zeros = emit.constant(0, self.total, self._vector)
        for number in each(count // self._vector, "sum"):
            emit.store(buffers["scratch"], zeros, start + number * self._vector)

    def scatter_rows(self, buffers: Buffers, image: Index, step: Index) -> None:
        """Emit the events of the input rows that output row `step - (ring - 1)` is the first to wait for."""
        for late in reversed(range(self.rows.stride)):
            reached = (self.rows.taps - 1) * self.rows.dilation - late
            found = self.rows.meets(reached)
            if reached < 0 or not found:
                continue
            first = reached - (self.ring - 1) * self.rows.stride - self.rows.before
            row = emit.bind_index(step * self.rows.stride + first)
            inside = tirx.And(_const(row) >= 0, _const(row) < self.root.input.shape[1])
            with _when(inside):
                slots = {}
                for tap, distance in found:
                    slots[tap] = emit.bind_index((step + distance) % self.ring * self.ring_row)
                self._scatter_row(buffers, image, row, slots)

    def _scatter_row(self, buffers: Buffers, image: Index, row: Index, slots: dict[int, Index]) -> None:
        """Emit the events of one input row. slots: where the sums of each row of taps begin."""
        cell, channels = self.events.cell(), self.root.input.shape[3]
        for phase, first, count in self.columns.phases(self.root.input.shape[2]):
            taps = [
                (ky * self.columns.taps + kx, slot, distance)
                for ky, slot in slots.items()
                for kx, distance in self.columns.meets(phase)
            ]
            for number in each(count, "column"):
                q = number + first
                column = q * self.columns.stride + (phase - self.columns.before)
                places = [
                    (tap, emit.bind_index(slot + (q + (distance + self.margin)) * self.depth))
                    for tap, slot, distance in taps
                ]
                for plane, layout in enumerate(self.root.planes):
                    start = emit.pixel_address(layout, image, row, column)
                    for word in self.events.words(buffers[f"plane{plane}"], start, channels, 0):
                        for event in self.events.each(word, cell):
                            self._add(buffers, event, plane, places)

    def _add(self, buffers: Buffers, event: Value, plane: int, places: list[tuple[int, Index]]) -> None:
        """Emit the additions of one event to the sums of each tap."""
        index, scratch, weight = self.events.index, buffers["scratch"], buffers["weight"]
        begin = emit.bind(event * tirx.const(self.taps * self.row, index))
        shift: Index = 0
        if self.root.groups > 1:
            inputs = self.root.input.shape[3] // self.root.groups
            group = T.truncdiv(event, tirx.const(inputs, index))
            shift = emit.bind(group * tirx.const(self.group_outputs, index))
        if self.is_paired:
            for tap, place in places:
                source = T.address_of(weight[T.shift_right(begin + tap * self.row, tirx.const(2, index))])
                sums = T.address_of(scratch[place])
                T.evaluate(
                    T.call_extern("int32", ADD_TO_SUMS, sums, source, tirx.const(self.row // PAIRS, "int32"))
                )
            return
        for offset, count, lanes in self._pieces(len(places)):
            for tap, place in places:
                for at in range(0, count, lanes) if lanes > 1 or count == 1 else each_lane(count):
                    source = begin + tirx.const(tap * self.row, index) + as_index(offset + at, index)
                    target = as_index(place, index) + shift + as_index(offset + at, index)
                    added = emit.load(weight, source, lanes)
                    total = emit.load(scratch, target, lanes) + self._weighed(added, plane)
                    emit.store(scratch, total, target)

    def _pieces(self, taps: int) -> Iterator[tuple[Index, int, int]]:
        """(offset, count, lanes) of a row of weights: vectors, in a loop where they are many."""
        if self._vector == 1:
            yield 0, self.row, 1
            return
        whole = self.row // self.lanes
        for first, count in tiles(whole, max(1, MOST_ADDITIONS // taps), "vectors"):
            yield first * self.lanes, count * self.lanes, self.lanes
        for offset, lanes in emit.pieces(self.row - whole * self.lanes, self.lanes):
            yield whole * self.lanes + offset, lanes, lanes

    def _weighed(self, weight: Value, plane: int) -> Value:
        """A weight in the type of the sums, times 2^plane."""
        lanes = emit.lanes_of(weight)
        wanted = emit.vector_type(self.total, lanes)
        value = weight if str(weight.ty.dtype) == wanted else T.Cast(wanted, weight)
        return value * emit.constant(1 << plane, self.total, lanes) if plane else value

    def finish_row(
        self, epilogue: Epilogue, buffers: Buffers, row: tuple[Index, Index], start: Index
    ) -> None:
        """Emit the epilogue of a complete row, image and y; its sums begin at `start`."""
        channels = self.spec.shape[3]
        size = channels if not self.spec.writes_bits else WORD_BITS
        for x in each(self.spec.shape[2], "column"):
            place = emit.bind_index(start + (x + self.margin) * self.depth)
            for first, count in tiles(channels, size, "channels"):

                def value(offset: Index, lanes: int, place: Index = place, first: Index = first) -> Value:
                    loaded = emit.load(buffers["scratch"], place + first + offset, lanes)
                    if self.total != "int16":
                        return loaded
                    return T.Cast(emit.vector_type("int32", lanes), loaded)

                is_last = isinstance(first, int) and first + count == channels
                available = self.depth - first if is_last else count
                epilogue.store((*row, x), first, count, value, available=available)


def _const(index: Index) -> Value:
    return tirx.const(index, "int32") if isinstance(index, int) else index


@contextmanager
def _when(condition: Value) -> Iterator[None]:
    """What is emitted inside runs where a condition holds; a Python True needs no test."""
    if condition is True:
        yield
        return
    with T.If(condition), T.Then():
        yield
