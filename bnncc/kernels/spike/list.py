# SPDX-License-Identifier: Apache-2.0
"""Spikes on cores without vectors: the events of a window are listed once, then every tile of outputs adds
the rows of weights that the list names.

The sums of a tile stay in registers. With Arm's DSP extension int8 weights are added in pairs: SXTAB16 adds
two bytes of a word to two int16 sums, the other two after a rotation that costs nothing, and after at most
255 events the pairs go into sums of 32 bits (255 * 128 < 2^15).

Stored form of the weights: [tiles][KH * KW * C][TILE].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.c_helpers import ADD_ROWS, ROW_ORDER
from bnncc.kernels.emit import Buffer, Buffers, Index
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.epilogue_values import Position
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import each
from bnncc.kernels.output_tiles import Tiling
from bnncc.kernels.spike.events import EventIsa
from bnncc.kernels.spike.words import window_words
from bnncc.plan.kernel import KernelSpec, SpikeConv
from bnncc.plan.layout import WORD_BITS, Element

TILE = 16
"""Outputs that are summed at a time."""


def fits(spec: KernelSpec, isa: Isa) -> bool:
    """Whether this form computes `spec`, and is the better one."""
    root = spec.root
    assert isinstance(root, SpikeConv)
    taps = root.window.height * root.window.width * root.input.shape[3]
    return isa.is_scalar and not root.more and taps < 1 << 16 and spec.shape[3] >= TILE // 2


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`. There is nothing to schedule."""
    plan = EventList.of(spec, isa)
    epilogue = Epilogue(spec, isa)
    dtype = "uint32" if plan.is_paired else str(np.dtype(plan.root.weight.dtype))
    doc = f"weight [{plan.tiling.tiles}][{plan.tiling.taps}][{TILE}]"
    extent = plan.tiling.taps * plan.tiling.stored // (4 if plan.is_paired else 1)
    parameters = (
        emit.input_parameter("plane0", plan.root.input),
        *epilogue.operands,
        emit.constant_parameter("weight", dtype, extent, doc),
        *epilogue.constants,
        *epilogue.outputs,
        Parameter("scratch", "uint16", plan.tiling.taps, False, "uint16_t", "events"),
    )

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        n, h, w, _ = spec.shape
        for image in each(n, "image"):
            for y in each(h, "row"):
                for x in each(w, "column"):
                    plan.emit(epilogue, buffers, (image, y, x))

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return plan.pack(constants[0]), *epilogue.pack(constants)

    tile = {"list": 1}
    symbol = kernel_symbol(spec, isa, tile)
    how = "pairs of int16" if plan.is_paired else plan.total
    description = f"a list of events, {TILE} outputs at a time as {how}"
    function = emit.function(symbol, parameters, body)
    return Kernel(symbol, spec, function, parameters, pack, tile, description, 2 * plan.tiling.taps)


@dataclass(frozen=True)
class EventList:
    """One kernel of this form."""

    spec: KernelSpec
    root: SpikeConv
    events: EventIsa
    tiling: Tiling
    is_paired: bool

    @staticmethod
    def of(spec: KernelSpec, isa: Isa) -> EventList:
        """The facts of a spec."""
        root = spec.root
        assert isinstance(root, SpikeConv)
        taps = root.window.height * root.window.width * root.input.shape[3]
        is_paired = root.weight is Element.I8 and "+dsp" in isa.features
        return EventList(spec, root, EventIsa.of(isa), Tiling(spec.shape[3], TILE, TILE, taps), is_paired)

    @property
    def total(self) -> str:
        """The type of the sums."""
        return "float32" if self.root.weight is Element.F32 else "int32"

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """[O, KH, KW, C] to the stored form."""
        stored = self.tiling.pack(weight.reshape(len(weight), -1).T)
        if not self.is_paired:
            return stored
        return np.ascontiguousarray(stored.reshape(-1, 4)[:, ROW_ORDER]).view(np.uint32).reshape(-1)

    def emit(self, epilogue: Epilogue, buffers: Buffers, position: Position) -> None:
        """One output pixel."""
        count = emit.local("int32", 1, "events")
        self._list_events(buffers, position, count)
        for first, valid, start in self._groups():
            totals = emit.local(self.total, -(-valid // TILE) * TILE, "total")
            for part in range(0, valid, TILE):
                begin = start + part * self.tiling.taps
                if self.is_paired:
                    self._add_pairs(buffers, count, totals, part, begin)
                else:
                    self._add_singly(buffers, count, totals, part, begin)
            epilogue.store(position, first, valid, lambda offset, lanes, totals=totals: totals[offset])

    def _groups(self) -> Iterator[tuple[Index, int, Index]]:
        """(first output, how many, where their weights start): tiles, or whole words of bits."""
        size = WORD_BITS if self.spec.writes_bits else TILE
        outputs, taps = self.spec.shape[3], self.tiling.taps
        whole = outputs // size
        for number in each(whole, "tile"):
            yield number * size, size, number * (size * taps)
        if outputs % size:
            yield whole * size, outputs % size, whole * size * taps

    def _list_events(self, buffers: Buffers, position: Position, count: Buffer) -> None:
        """Emit the listing of the window's events, as numbers of rows of weights."""
        T.buffer_store(count, tirx.const(0, "int32"), [0])
        cell = self.events.cell()
        for chunk in window_words(self.events, self.root, self.root.input, buffers["plane0"], position):
            for word in chunk():
                for row in self.events.each(word, cell):
                    T.buffer_store(buffers["scratch"], T.Cast("uint16", row), [count[0]])
                    T.buffer_store(count, count[0] + 1, [0])

    def _add_pairs(self, buffers: Buffers, count: Buffer, totals: Buffer, part: int, begin: Index) -> None:
        """Emit the sums of a tile in pairs of int16."""
        start = begin // 4 if isinstance(begin, int) else T.shift_right(begin, tirx.const(2, "int32"))
        events, weight = T.address_of(buffers["scratch"][0]), T.address_of(buffers["weight"][start])
        sums = T.address_of(totals[part])
        T.evaluate(T.call_extern("int32", ADD_ROWS, events, count[0], weight, sums))

    def _add_singly(self, buffers: Buffers, count: Buffer, totals: Buffer, part: int, begin: Index) -> None:
        """Emit the sums of a tile, output by output."""
        weight = buffers["weight"]
        sums = [emit.local(self.total, 1, "sum") for _ in range(TILE)]
        for total in sums:
            T.buffer_store(total, tirx.const(0, self.total), [0])
        with T.serial(0, count[0]) as event:
            at = emit.bind(begin + T.Cast("int32", buffers["scratch"][event]) * TILE)
            for lane, total in enumerate(sums):
                T.buffer_store(total, total[0] + T.Cast(self.total, weight[at + lane]), [0])
        for lane, total in enumerate(sums):
            T.buffer_store(totals, total[0], [part + lane])
