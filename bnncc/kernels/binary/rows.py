# SPDX-License-Identifier: Apache-2.0
"""Binary convolutions by a micro-kernel in C, where TIR cannot reach an instruction or a vector's length.

A micro-kernel (a header of `runtime/src`) counts the bits in which a few rows of activations, each all bytes
of a window side by side, differ from the weights of many channels. Here are the loops around it, which copy
the windows of a tile of pixels into rows, in memory that the caller lends, and hand the sums to the epilogue.

A window that lies in one piece (dense layers, 1x1) is not copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T
from tvm.sym import Analyzer

from bnncc.kernels import emit
from bnncc.kernels.binary import micro_kernels
from bnncc.kernels.binary.counting import Form
from bnncc.kernels.binary.finish import finish_of
from bnncc.kernels.binary.micro_kernels import MicroKernel
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import Pixels, Tile, Vector, each, each_lane, pixel_tiles, walk
from bnncc.kernels.tiles import Sums
from bnncc.plan.kernel import BinaryConv, KernelSpec
from bnncc.plan.layout import WORD_BITS

MOST_PIXELS = 4
"""Of a tile."""


def supports(spec: KernelSpec, isa: Isa) -> bool:
    """Whether a micro-kernel of the instruction set computes `spec`: no weight and no activation is zero."""
    root = spec.root
    if not isinstance(root, BinaryConv) or root.ternary_input:
        return False
    plan = BinaryPlan.of(spec, "uint32", WORD_BITS)
    return not plan.masked and micro_kernels.choose(plan, isa) is not None


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, which `supports` took; schedule: rows and pixels of a tile."""
    plan = BinaryPlan.of(spec, "uint32", WORD_BITS)
    micro = micro_kernels.choose(plan, isa)
    assert micro is not None
    pixels = Pixels.of(spec, plan.root.window)
    tile = dict(schedule) if schedule else default(plan, pixels)
    form = Rows(plan, micro, (tile["rows"], tile["pixels"]), isa)
    finish = finish_of(form, isa)
    parameters = (
        *form.inputs(),
        *finish.operands(),
        form.weight(),
        *finish.constants(),
        *finish.outputs(),
        form.scratch(),
    )

    def body(buffers: Buffers) -> None:
        finish.attach(buffers)
        for place in pixel_tiles(pixels, tile["rows"], tile["pixels"]):
            for group, vectors in _groups(plan):
                form.count_group(Tile(group, (), *place), buffers)
                for vector in vectors:
                    part = Tile(group, (vector,), *place)
                    finish.store(part, form.count(part, buffers))

    symbol = kernel_symbol(spec, isa, tile)
    function = emit.function(symbol, parameters, body)
    description = f"{micro.description}, {tile['rows']}x{tile['pixels']} pixels"
    scratch_bytes = 4 * parameters[-1].extent
    return Kernel(
        symbol,
        spec,
        function,
        parameters,
        finish.pack,
        tile,
        description,
        scratch_bytes,
        scratch_of_tile=True,
    )


def instructions(spec: KernelSpec, isa: Isa) -> float:
    """About how many instructions one output takes with vectors of the length that the target expects; the
    numbers fit what QEMU counted of `arm_sve`."""
    plan = BinaryPlan.of(spec, "uint32", WORD_BITS)
    vectors = -(-WORD_BITS * plan.steps // isa.scalable_bits)
    return plan.counted_pairs * (3.9 * vectors + 11.5)


def default(plan: BinaryPlan, pixels: Pixels) -> dict[str, int]:
    """A good tile: four pixels share the weights."""
    columns = min(pixels.columns, MOST_PIXELS)
    rows = 1 if columns > 1 and _is_one_piece(plan) else min(pixels.rows, MOST_PIXELS // columns)
    return {"rows": rows, "pixels": columns}


def _is_one_piece(plan: BinaryPlan) -> bool:
    return not plan.levels or (len(plan.levels) == 1 and plan.levels[0].stride == 1)


def _groups(plan: BinaryPlan) -> Iterator[tuple[Index, Iterator[Vector]]]:
    """Each group with its vectors, in loops."""
    channels = plan.channels
    for group in each(channels.groups, "group"):
        yield group, _vectors(plan, group)


def _vectors(plan: BinaryPlan, group: Index) -> Iterator[Vector]:
    channels = plan.channels
    for block in each(channels.regular, "block"):
        yield Vector((group * channels.regular + block) * WORD_BITS, WORD_BITS, WORD_BITS)
    yield from channels.rest


@dataclass(frozen=True)
class _Part:
    """The sums of one pixel and a vector of channels: element lane is whole[first + lane * pitch]."""

    whole: Buffer
    first: Index
    pitch: int
    width: int

    @property
    def shape(self) -> tuple[int]:
        """As of a buffer."""
        return (self.width,)

    def __getitem__(self, lane: Index) -> Value:
        return self.whole[self.first + lane * self.pitch]

    def vload(self, index: Sequence[Index], dtype: str) -> Value:
        """Neighbouring lanes, where they lie together."""
        assert self.pitch == 1
        return self.whole.vload([self.first + index[0]], dtype)

    @property
    def dtype(self) -> str:
        """Of an element."""
        return str(self.whole.dtype)


class Rows(Form):
    """The form. scratch: the sums of all channels of a group and all pixels of a tile, then the rows."""

    def __init__(self, plan: BinaryPlan, micro: MicroKernel, tile: tuple[int, int], isa: Isa):
        super().__init__(plan)
        self.is_scalar = isa.is_scalar
        self.micro, self.most_pixels = micro, tile[0] * tile[1]
        self.is_one_piece = _is_one_piece(plan) and 1 in tile
        stored = plan.channels.stored // plan.channels.groups
        self.sums = stored * self.most_pixels
        self.channel_pitch = 1 if micro.rows_first else self.most_pixels
        self.pixel_pitch = stored if micro.rows_first else 1
        self.rows = 0 if self.is_one_piece else self.most_pixels * len(self.names) * plan.steps

    def weight(self) -> Parameter:
        extent = self.micro.stored_channels(self.plan) * self.plan.planes * self.plan.steps
        doc = self.micro.weight_doc(self.plan)
        return emit.constant_parameter("weight", "uint32", extent, doc)

    def pack_weight(self, weight: np.ndarray) -> np.ndarray:
        items = self.plan.weight_items(weight)  # [O, steps, planes]
        items = np.pad(items, [(0, self.micro.stored_channels(self.plan) - len(items)), (0, 0), (0, 0)])
        return self.micro.stored(np.ascontiguousarray(items.transpose(0, 2, 1)))

    def scratch(self) -> Parameter:
        """Memory for the sums and the rows of a tile."""
        channels = self.sums // self.most_pixels
        by_row, by_channel = f"[{self.most_pixels}][{channels}]", f"[{channels}][{self.most_pixels}]"
        doc = f"scratch: sums {by_row if self.micro.rows_first else by_channel}"
        if self.rows:
            doc += f", windows [{len(self.names)}][{self.most_pixels}][{self.plan.steps}]"
        return Parameter("scratch", "int32", self.sums + self.rows, False, "int32_t", doc)

    def count_group(self, tile: Tile, buffers: Buffers) -> None:
        """Emit the counting for all channels of a group, into the scratch memory."""
        sums, rows = buffers["scratch"], self._gather(tile, buffers)
        _call(self.micro.clear, T.address_of(sums[0]), self.sums)
        for turn, pairs in enumerate(self.plan.exponents()):
            if turn:
                for index in each_lane(self.sums):
                    T.buffer_store(sums, sums[index] + sums[index], [index])
            for number, plane in pairs:
                self._count_plane(tile, rows[number], plane, buffers)

    def _gather(self, tile: Tile, buffers: Buffers) -> list[tuple[Buffer, Index, Index]]:
        """For each plane of the activations the buffer, the first word and the words from window to window:
        where they lie if each is in one piece, else of copies."""
        starts = self.starts(tile)
        result: list[tuple[Buffer, Index, Index]] = []
        for b, name in enumerate(self.names):
            if self.is_one_piece:
                result.append((buffers[name], emit.bind_index(starts[0][b]), _stride([s[b] for s in starts])))
                continue
            first = self.sums + b * self.most_pixels * self.plan.steps
            for p, start in enumerate(starts):
                self._copy(buffers[name], start[b], buffers["scratch"], first + p * self.plan.steps)
            result.append((buffers["scratch"], first, self.plan.steps))
        return result

    def _copy(self, source: Buffer, start: Index, rows: Buffer, first: int) -> None:
        levels = self.plan.levels
        run, outer = (levels[-1].extent, levels[:-1]) if levels[-1].stride == 1 else (1, levels)
        start = emit.bind_index(start)
        for offset, number in walk(outer):
            to, where = T.address_of(rows[first + number * run]), T.address_of(source[start + offset])
            _call(self.micro.copy, to, where, 4 * run)

    def _count_plane(
        self, tile: Tile, rows: tuple[Buffer, Index, Index], plane: int, buffers: Buffers
    ) -> None:
        source, first, stride = rows
        plan, done, pixels = self.plan, 0, tile.rows * tile.columns
        channel = tile.group * plan.channels.count
        place = channel * (plan.planes * plan.steps) + self.micro.plane_start(plane, plan)
        while done < pixels:
            some = 1 << ((pixels - done).bit_length() - 1)
            _call(
                f"{self.micro.count}_{some}",
                T.address_of(source[first + done * stride]),
                4 * stride,
                4 * plan.steps,
                T.address_of(buffers["weight"][place]),
                4 * plan.planes * plan.steps,
                plan.channels.count,
                T.address_of(buffers["scratch"][done * self.pixel_pitch]),
                self.pixel_pitch * self.channel_pitch,
            )
            done += some

    def count(self, tile: Tile, buffers: Buffers) -> Sums:
        (vector,) = tile.vectors
        first = (vector.channel - tile.group * self.plan.channels.count) * self.channel_pitch
        return {
            (p, 0): _Part(buffers["scratch"], first + p * self.pixel_pitch, self.channel_pitch, vector.width)
            for p in range(tile.rows * tile.columns)
        }

    def compared(self, total: _Part, limits: Buffer, first: Index, vector: Vector) -> Value:
        sums, limit = T.address_of(total.whole[total.first]), T.address_of(limits[first])
        return T.call_extern("uint32", self.micro.compare, sums, total.pitch, limit, vector.valid)


def _call(name: str, *arguments: Value) -> None:
    """Emit a call; numbers are size_t, of which the micro-kernels have processors of 64 bits."""
    values = [tirx.const(value, "int64") if isinstance(value, int) else value for value in arguments]
    T.evaluate(T.call_extern("int32", name, *values))


def _stride(starts: list[Index]) -> int:
    """The distance of neighbours, 0 of a single one."""
    analyzer, zero = Analyzer(), tirx.const(0, "int32")
    distances = {analyzer.simplify(zero + after - before).value for before, after in pairwise(starts)}  # type: ignore[attr-defined]
    assert len(distances) < 2, distances
    return next(iter(distances), 0)
