# SPDX-License-Identifier: Apache-2.0
"""Convolution of spikes by a sliding patch of sums: every set bit is looked at once.

An input pixel meets KH x KW output pixels. Their sums, of `vectors` vectors of output channels, stay in
registers while the window slides along a row; one loop runs over all bits of the pixel, so that the branch
that is missed at its end hides behind many additions. Sums of incomplete rows wait in scratch memory.

Stored form of the weights: [tiles][planes * C][KH * KW][outputs of a tile], float32, those of plane b times
2^b.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.bias import bias_of, without_bias
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.epilogue_values import BYTE_BITS
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import each, tiles
from bnncc.kernels.output_tiles import OutputTile, Tiling
from bnncc.kernels.spike.events import EventIsa, Word, as_index
from bnncc.plan.kernel import KernelSpec, SpikeConv
from bnncc.plan.layout import WORD_BITS, Element, words

MOST_TILES = 4
"""Tiles that are written out where packed bits are stored, whose place must be known."""


def fits(spec: KernelSpec, isa: Isa) -> bool:
    """Whether this form computes `spec`, and is the faster one."""
    root = spec.root
    assert isinstance(root, SpikeConv)
    window, (_, h, w, _), (_, rows, columns, outputs) = root.window, root.input.shape, spec.shape
    steps = (window.stride_y, window.stride_x, window.dilation_y, window.dilation_x)
    if isa.is_scalar or root.weight is not Element.F32 or steps != (1, 1, 1, 1):
        return False
    if window.height < 2 or window.width < 2 or rows < window.height or columns < window.width:
        return False
    pads = (window.top, window.left, rows - h + window.height - 1 - window.top)
    pads += (columns - w + window.width - 1 - window.left,)
    inside = all(0 <= pad < size for pad, size in zip(pads, 2 * (window.height, window.width), strict=True))
    vectors = most_vectors(root, isa)
    return inside and vectors > 0 and (not spec.writes_bits or _writes_bytes(outputs, vectors * isa.lanes))


def _writes_bytes(outputs: int, width: int) -> bool:
    """Whether tiles are whole bytes of packed bits, in a loop or few enough to be written out."""
    return width % BYTE_BITS == 0 and (outputs % WORD_BITS == 0 or -(-outputs // width) <= MOST_TILES)


def most_vectors(root: SpikeConv, isa: Isa) -> int:
    """Vectors of channels whose patch of sums fits the registers; 0 if none."""
    registers = 28 if isa.vector_bits == 512 or isa.triple.startswith("aarch64") else 12
    return registers // (root.window.height * root.window.width)


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`; schedule: `vectors` of output channels."""
    slide = Slide.of(spec, isa, (schedule or {}).get("vectors"))
    tiling, root = slide.tiling, slide.root
    bias = bias_of(spec) if tiling.stored <= words(spec.shape[3]) * WORD_BITS else None
    epilogue = Epilogue(spec if bias is None else without_bias(spec, bias), isa)
    doc = f"weight [{tiling.tiles}][{slide.events_of_pixel}][{slide.taps}][{tiling.width}]"
    scratch = slide.waiting * tiling.width
    parameters = (
        *(emit.input_parameter(f"plane{b}", layout) for b, layout in enumerate(root.planes)),
        *epilogue.operands,
        emit.constant_parameter("weight", "float32", tiling.taps * tiling.stored, doc),
        *epilogue.constants,
        *epilogue.outputs,
        Parameter("scratch", "float32", scratch, False, "float", "sums of rows that are not complete"),
    )

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        for image in each(spec.shape[0], "image"):
            in_loop = not spec.writes_bits or epilogue.may_loop(tiling.width)
            for tile in tiling.each(in_loop):
                slide.emit(epilogue, buffers, image, tile, bias)

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return slide.pack(constants[0]), *epilogue.pack(constants)

    tile = {"vectors": tiling.width // tiling.lanes, "slide": 1}
    symbol = kernel_symbol(spec, isa, tile)
    description = (
        f"events, {root.window.height}x{root.window.width} sums of {tiling.width} outputs that slide"
    )
    function = emit.function(symbol, parameters, body)
    return Kernel(symbol, spec, function, parameters, pack, tile, description, 4 * scratch)


@dataclass(frozen=True)
class Meeting:
    """Which taps of one axis an input position meets: those from `first` to `last`, of which those in
    `enters` start a sum and those in `leaves` complete one."""

    first: int
    last: int
    enters: tuple[int, ...]
    leaves: tuple[int, ...]

    @property
    def taps(self) -> range:
        """All of them."""
        return range(self.first, self.last + 1)


@dataclass(frozen=True)
class Axis:
    """One axis: `inputs` positions, `outputs` positions, `taps`; output p reads inputs p - before + tap."""

    inputs: int
    outputs: int
    taps: int
    before: int

    def meeting(self, position: int) -> Meeting:
        """Of one input position."""
        newest = position + self.before
        taps = [tap for tap in range(self.taps) if 0 <= newest - tap < self.outputs]
        enters = tuple(tap for tap in taps if tap == 0 or position == 0)
        leaves = tuple(tap for tap in taps if tap == self.taps - 1 or position == self.inputs - 1)
        return Meeting(taps[0], taps[-1], enters, leaves)

    def runs(self) -> list[tuple[int, int, Meeting]]:
        """(first, count, meeting) of neighbouring inputs that meet the same taps; those that meet none, which
        no output reads, are left out."""
        used = [p for p in range(self.inputs) if any(self._is_met(p, tap) for tap in range(self.taps))]
        return [
            (run[0], len(run), meeting)
            for meeting, run in ((m, list(r)) for m, r in groupby(used, key=self.meeting))
        ]

    def _is_met(self, position: int, tap: int) -> bool:
        return 0 <= position + self.before - tap < self.outputs


@dataclass(frozen=True)
class Slide:
    """One kernel of this form. A patch is a local for every (kernel row, output column modulo KW, vector)."""

    spec: KernelSpec
    root: SpikeConv
    events: EventIsa
    tiling: Tiling
    rows: Axis
    columns: Axis

    @staticmethod
    def of(spec: KernelSpec, isa: Isa, vectors: int | None = None) -> Slide:
        """With patches of so many vectors, or as many as the registers hold."""
        root = spec.root
        assert isinstance(root, SpikeConv)
        window, (_, h, w, channels), (_, rows, columns, outputs) = root.window, root.input.shape, spec.shape
        vectors = min(vectors or most_vectors(root, isa), -(-outputs // isa.lanes))
        taps = len(root.planes) * channels * window.height * window.width
        tiling = Tiling(outputs, isa.lanes, vectors * isa.lanes, taps)
        vertical = Axis(h, rows, window.height, window.top)
        horizontal = Axis(w, columns, window.width, window.left)
        return Slide(spec, root, EventIsa.of(isa), tiling, vertical, horizontal)

    @property
    def taps(self) -> int:
        """Of the window."""
        return self.root.window.height * self.root.window.width

    @property
    def events_of_pixel(self) -> int:
        """Bits of a pixel."""
        return len(self.root.planes) * self.root.input.shape[3]

    @property
    def waiting(self) -> int:
        """Sums of one channel that wait: a row for every tap but the last of the window's height."""
        return (self.root.window.height - 1) * self.columns.outputs

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """float32 [O, KH, KW, C] to the stored form."""
        scales = np.float32(2) ** np.arange(len(self.root.planes), dtype=np.float32)
        rows = weight.transpose(3, 1, 2, 0) * scales[:, None, None, None, None]
        return self.tiling.pack(rows.astype(np.float32).reshape(self.tiling.taps, -1))

    def emit(
        self, epilogue: Epilogue, buffers: Buffers, image: Index, tile: OutputTile, bias: int | None
    ) -> None:
        """All pixels of an image, for one tile of outputs. bias: the constant that sums begin with."""
        patch = Patch(self, epilogue, buffers, image, tile, bias)
        for first, count, meeting in self.rows.runs():
            for row in each(count, "row"):
                self._emit_row(patch, row + first if first else row, meeting)

    def _emit_row(self, patch: Patch, row: Index, rows: Meeting) -> None:
        """One input row."""
        period = self.columns.taps
        patch.look_ahead(row, self.columns.runs()[0][0])
        for first, count, columns in self.columns.runs():
            for start, size in tiles(count, period, "columns"):
                for i in range(size):
                    phase = first + i + (start if isinstance(start, int) else 0)
                    patch.meet(row, start + (first + i), phase, rows, columns)


class Patch:
    """The sums in registers of one tile of channels, and what happens to them at each input pixel."""

    def __init__(
        self,
        slide: Slide,
        epilogue: Epilogue,
        buffers: Buffers,
        image: Index,
        tile: OutputTile,
        bias: int | None,
    ) -> None:
        window, lanes = slide.root.window, slide.tiling.lanes
        self.slide = slide
        self.epilogue = epilogue
        self.buffers = buffers
        self.image = image
        self.tile = tile
        self.lanes = lanes
        self.vectors = range(tile.width // lanes)
        self.bias = bias
        self.cell = slide.events.cell()
        self.ahead = slide.events.cell()
        """The word of the next pixel, where that is one: known before the bits of this pixel have been walked
        over, whose number no processor foresees."""
        self.sums: dict[tuple[int, int, int], Buffer] = {
            (kr, slot, v): emit.local("float32", lanes, "sum")
            for kr in range(window.height)
            for slot in range(window.width)
            for v in self.vectors
        }

    def meet(self, row: Index, column: Index, phase: int, rows: Meeting, columns: Meeting) -> None:
        """Emit an input pixel: sums enter, its bits are added, sums leave. phase: its column, modulo KW."""
        window = self.slide.root.window
        slots = {kc: (phase + window.left - kc) % window.width for kc in columns.taps}
        for kc in columns.enters:
            for kr in rows.taps:
                self._enter(kr, slots[kc], column + (window.left - kc), kr in rows.enters)
        for word in self._next(row, column) if self._is_one_word else self._words(row, column):
            for event in self.slide.events.each(word, self.cell):
                self._add(event, rows, slots)
        for kc in columns.leaves:
            for kr in rows.taps:
                x = column + (window.left - kc)
                if kr in rows.leaves:
                    self._finish(kr, slots[kc], (self.image, row + (window.top - kr), x))
                else:
                    for v in self.vectors:
                        emit.store(
                            self.buffers["scratch"], self._sum(kr, slots[kc], v), self._place(kr, x, v)
                        )

    def _enter(self, kr: int, slot: int, x: Index, is_new: bool) -> None:
        """Start the sums of an output pixel, or go on with those that wait."""
        for v in self.vectors:
            if is_new and self.bias is not None:
                place = self.tile.first + v * self.lanes
                value = emit.load(self.buffers[f"constant{self.bias}"], place, self.lanes)
            elif is_new:
                value = emit.constant(0, "float32", self.lanes)
            else:
                value = emit.load(self.buffers["scratch"], self._place(kr - 1, x, v), self.lanes)
            emit.store(self.sums[kr, slot, v], value, 0)

    def _add(self, event: Value, rows: Meeting, slots: dict[int, int]) -> None:
        """Emit the additions of one event."""
        index, width = self.slide.events.index, self.tile.width
        start = emit.bind(
            event * tirx.const(self.slide.taps * width, index) + as_index(self.tile.start, index)
        )
        for kc, slot in slots.items():
            for kr in rows.taps:
                for v in self.vectors:
                    tap = kr * self.slide.root.window.width + kc
                    place = start + tirx.const(tap * width + v * self.lanes, index)
                    total = self._sum(kr, slot, v) + emit.load(self.buffers["weight"], place, self.lanes)
                    emit.store(self.sums[kr, slot, v], total, 0)

    def _finish(self, kr: int, slot: int, position: tuple[Index, Index, Index]) -> None:
        """Hand complete sums to the epilogue."""

        def value(offset: Index, lanes: int) -> Value:
            assert isinstance(offset, int)
            step = min(lanes, self.lanes)
            parts = [
                emit.extract(self._sum(kr, slot, at // self.lanes), at % self.lanes, step)
                for at in range(offset, offset + lanes, step)
            ]
            return emit.concatenate(parts)

        self.epilogue.store(position, self.tile.first, self.tile.valid, value, available=self.tile.width)

    def _sum(self, kr: int, slot: int, v: int) -> Value:
        return emit.load(self.sums[kr, slot, v], 0, self.lanes)

    def _place(self, kr: int, x: Index, v: int) -> Index:
        """Where the sums of kernel row kr wait."""
        width = self.slide.tiling.width
        return (kr * self.slide.columns.outputs + x) * width + v * self.lanes

    @property
    def _is_one_word(self) -> bool:
        """Whether the bits of all planes of a pixel are one word."""
        channels = self.slide.root.input.shape[3]
        return len(self.slide.root.planes) * channels <= self.slide.events.bits and channels <= WORD_BITS

    def look_ahead(self, row: Index, column: Index) -> None:
        """Load the word of the pixel that is next."""
        if self._is_one_word:
            T.buffer_store(self.ahead, self._joined(row, column), [0])

    def _next(self, row: Index, column: Index) -> Iterator[Word]:
        """The word of a pixel, which was loaded before; then that of the next one in its row."""
        word = Word(emit.bind(self.ahead[0]), 0)
        last = self.slide.columns.inputs - 1
        if isinstance(column, int):
            self.look_ahead(row, min(column + 1, last))
        else:
            self.look_ahead(row, tirx.min(column + 1, tirx.const(last, "int32")))
        yield word

    def _joined(self, row: Index, column: Index) -> Value:
        """The bits of all planes of a pixel as one word."""
        events, planes = self.slide.events, self.slide.root.planes
        places = [emit.pixel_address(layout, self.image, row, column) for layout in planes]
        value = events.widen(self.buffers["plane0"][places[0]])
        for b in range(1, len(planes)):
            value = value | events.widen(self.buffers[f"plane{b}"][places[b]], b * planes[b].shape[3])
        return value

    def _words(self, row: Index, column: Index) -> Iterator[Word]:
        """The words of an input pixel, plane by plane."""
        events, planes = self.slide.events, self.slide.root.planes
        channels = planes[0].shape[3]
        for b, layout in enumerate(planes):
            start = emit.pixel_address(layout, self.image, row, column)
            yield from events.words(self.buffers[f"plane{b}"], start, channels, b * channels)
