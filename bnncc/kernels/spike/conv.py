# SPDX-License-Identifier: Apache-2.0
"""Convolutions and dense layers of spikes: for every bit that is set, the weights of its input are added.

Five forms. Here the one for every window, which gathers: a tile of outputs stays in registers while the bits
of its window are walked over (dense layers are windows of one pixel). Windows of stride 1 whose sums fit the
registers slide instead (`spike/slide.py`): every bit is looked at once for all outputs that it meets. Where a
row of the window is few bits, these look up sums in a table (`spike/table.py`). Cores without vectors list
the events first (`spike/list.py`). Where events are few, and for groups, they scatter (`spike/scatter.py`).

Stored form of the weights: [tiles][KH * KW * C][outputs of a tile], int8 or float32. Counts of several planes
are summed from the highest plane down, the sum doubled in between, which rounds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.epilogue_values import Position
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import each, each_lane, even_tile
from bnncc.kernels.output_tiles import OutputTile, Tiling
from bnncc.kernels.spike import list as spike_list
from bnncc.kernels.spike import scatter as spike_scatter
from bnncc.kernels.spike import slide as spike_slide
from bnncc.kernels.spike import table as spike_table
from bnncc.kernels.spike.events import EventIsa, as_index
from bnncc.kernels.spike.words import window_words
from bnncc.plan.kernel import KernelSpec, SpikeConv
from bnncc.plan.layout import WORD_BITS, Element


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is SpikeConv. schedule: that of a form, of which `slide` or `table`
    says which it is; here `vectors` of outputs that are summed at a time. By default what suits the
    target."""
    form = _default_form(spec, isa) if schedule is None else next((f for f in FORMS if schedule.get(f)), "")
    if form:
        return FORMS[form](spec, isa, schedule)
    gather = Gather.of(spec, isa, (schedule or {}).get("vectors"))
    epilogue = Epilogue(spec, isa)
    doc = f"weight [{gather.tiling.tiles}][{gather.taps}][{gather.tiling.width}]"
    parameters = (
        *(emit.input_parameter(f"plane{b}", layout) for b, layout in enumerate(gather.root.planes)),
        *epilogue.operands,
        emit.constant_parameter("weight", str(gather.dtype), gather.taps * gather.tiling.stored, doc),
        *epilogue.constants,
        *epilogue.outputs,
    )

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        n, h, w, _ = spec.shape
        for image in each(n, "image"):
            for y in each(h, "row"):
                for x in each(w, "column"):
                    for tile in gather.tiling.each():
                        gather.emit(epilogue, buffers, (image, y, x), tile)

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return gather.pack(constants[0]), *epilogue.pack(constants)

    tile = gather.schedule
    symbol = kernel_symbol(spec, isa, tile)
    description = f"events, {gather.tiling.width} outputs at a time"
    return Kernel(symbol, spec, emit.function(symbol, parameters, body), parameters, pack, tile, description)


FORMS: dict[str, Callable[[KernelSpec, Isa, TileParameters | None], Kernel]] = {
    "table": spike_table.make,
    "list": spike_list.make,
    "slide": spike_slide.make,
    "scatter": spike_scatter.make,
}
"""The other forms, by the tile parameter that names each."""


def _default_form(spec: KernelSpec, isa: Isa) -> str:
    """What suits the target and the density; "" for the form of this file."""
    root = spec.root
    assert isinstance(root, SpikeConv)
    if root.groups > 1:
        return "scatter"
    if spike_table.fits(spec, isa):
        return "table"
    if spike_list.fits(spec, isa):
        return "scatter" if spike_scatter.fits(spec, isa) else "list"
    if spike_slide.fits(spec, isa):
        return "slide"
    return "scatter" if spike_scatter.fits(spec, isa) else ""


def candidates(spec: KernelSpec, isa: Isa) -> Iterator[TileParameters]:
    """Tile parameters worth measuring: the default's, those of the other forms that compute `spec`."""
    root = spec.root
    assert isinstance(root, SpikeConv)
    yield make(spec, isa).schedule
    if root.groups > 1 or spike_table.fits(spec, isa):
        return
    if spike_list.fits(spec, isa):
        yield {"list": 1}
    if spike_slide.fits(spec, isa):
        yield {"slide": 1, "vectors": spike_slide.most_vectors(root, isa)}
    if not isa.is_scalar:
        yield Gather.of(spec, isa).schedule
    if spike_scatter.supports(spec):
        yield {"scatter": 1}


@dataclass(frozen=True)
class Gather:
    """One kernel of this form. dtype: of the weights; total: of the sums."""

    spec: KernelSpec
    root: SpikeConv
    isa: Isa
    events: EventIsa
    tiling: Tiling

    @staticmethod
    def of(spec: KernelSpec, isa: Isa, vectors: int | None = None) -> Gather:
        """With tiles of so many vectors, or as many as the registers hold."""
        root = spec.root
        assert isinstance(root, SpikeConv)
        window, outputs = root.window, spec.shape[3]
        lanes = sum_lanes(root, isa)
        if vectors is None:
            vectors = even_tile(-(-outputs // lanes), _most_vectors(root, isa))
        if spec.writes_bits and -(-outputs // lanes) > vectors:
            unit = max(1, WORD_BITS // lanes)
            vectors = -(-vectors // unit) * unit
        taps = window.height * window.width * root.input.shape[3]
        tiling = Tiling(outputs, lanes, min(vectors, -(-outputs // lanes)) * lanes, taps)
        return Gather(spec, root, isa, EventIsa.of(isa), tiling)

    @property
    def schedule(self) -> TileParameters:
        """Its tile parameters."""
        return {"vectors": self.tiling.width // self.tiling.lanes, "slide": 0}

    @property
    def dtype(self) -> np.dtype:
        """Of the weights."""
        return np.dtype(self.root.weight.dtype)

    @property
    def taps(self) -> int:
        """Inputs of one sum."""
        return self.tiling.taps

    @property
    def total(self) -> str:
        """The type of the sums."""
        return "float32" if self.root.weight is Element.F32 else "int32"

    @property
    def is_short(self) -> bool:
        """Whether int8 weights are summed as int16 at first."""
        return self.root.weight is Element.I8 and not self.isa.is_scalar

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """[O, KH, KW, C] to the stored form."""
        return self.tiling.pack(weight.reshape(len(weight), -1).T)

    def emit(self, epilogue: Epilogue, buffers: Buffers, position: Position, tile: OutputTile) -> None:
        """The sums of a tile of outputs of one pixel, and what follows them."""
        step = tile.width if self.isa.is_scalar else self.tiling.lanes
        totals = Sums(self.total, tile.width, step, self.isa.is_scalar)
        cell = self.events.cell()
        for number, layout in reversed(list(enumerate(self.root.planes))):
            if number < len(self.root.more):
                totals.update(lambda old, at: old + old)
            plane = buffers[f"plane{number}"]
            for chunk in window_words(self.events, self.root, layout, plane, position):
                short = Sums("int16", tile.width, step) if self.is_short else totals
                for word in chunk():
                    for row in self.events.each(word, cell):
                        self._add_row(short, buffers["weight"], row, tile)
                if self.is_short:
                    totals.update(lambda old, at, short=short: old + _cast("int32", short.at(at)))
        epilogue.store(position, tile.first, tile.valid, totals.piece, available=tile.width)

    def _add_row(self, sums: Sums, weight: Buffer, row: Value, tile: OutputTile) -> None:
        """Emit the addition of the weights of one input."""
        index = self.events.index
        start = emit.bind(row * tirx.const(tile.width, index) + as_index(tile.start, index))
        lanes = 1 if self.isa.is_scalar else sums.step

        def added(old: Value, at: Index) -> Value:
            place = start + as_index(at, index)
            return old + _cast(sums.dtype, emit.load(weight, place, lanes))

        sums.update(added)


def sum_lanes(root: SpikeConv, isa: Isa) -> int:
    """Outputs of a vector."""
    if isa.is_scalar:
        return 1
    return isa.lanes if root.weight is Element.F32 else isa.vector_bits // 16


def _most_vectors(root: SpikeConv, isa: Isa) -> int:
    """Vectors of sums that registers hold beside what else is needed."""
    if isa.is_scalar:
        return WORD_BITS
    has_many = isa.vector_bits == 512 or isa.triple.startswith("aarch64")
    if root.weight is Element.I8:
        return 8 if has_many else 6
    return 16 if has_many else 12


class Sums:
    """Sums of neighbouring outputs in locals of `step`: vectors, or in scalar code one array."""

    def __init__(self, dtype: str, width: int, step: int, is_scalar: bool = False):
        """All zero."""
        self.dtype = dtype
        self.step = step
        self.is_scalar = is_scalar
        self.locals = [emit.local(dtype, step, "sum") for _ in range(width // step)]
        self.update(lambda old, at: emit.constant(0, dtype, 1 if is_scalar else step))

    def at(self, offset: Index) -> Value:
        """The vector, or the scalar, at an offset."""
        if self.is_scalar:
            return self.locals[0][offset]
        return emit.load(self.locals[offset // self.step], 0, self.step)

    def update(self, function: Callable[[Value, Index], Value]) -> None:
        """Emit sum = function(sum, offset) for all."""
        if self.is_scalar:
            for lane in each_lane(self.step):
                T.buffer_store(self.locals[0], function(self.at(lane), lane), [lane])
            return
        for number, vector in enumerate(self.locals):
            emit.store(vector, function(self.at(number * self.step), number * self.step), 0)

    def piece(self, offset: Index, lanes: int) -> Value:
        """Sums [offset, offset + lanes)."""
        if self.is_scalar:
            return self.at(offset)
        assert isinstance(offset, int)
        size = min(lanes, self.step)
        starts = range(offset, offset + lanes, size)
        return emit.concatenate(
            [emit.extract(self.at(at // self.step * self.step), at % self.step, size) for at in starts]
        )


def _cast(dtype: str, value: Value) -> Value:
    """To another scalar type, lane by lane."""
    wanted = emit.vector_type(dtype, emit.lanes_of(value))
    return value if str(value.ty.dtype) == wanted else T.Cast(wanted, value)
