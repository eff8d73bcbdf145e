# SPDX-License-Identifier: Apache-2.0
"""Sums of bytes by the micro-kernels for Arm's MVE and RISC-V's vectors, `runtime/src/byte_mve.h` and
`byte_riscv.h`. Here are the loops around them, which copy the windows of a tile of pixels into rows, in
memory that the caller lends, and hand the sums of some channels to the epilogue.

A window that lies in one piece (dense layers, 1x1) is not copied. Stored weights:
[blocks of channels][steps][channels of a block][bytes of a step]; in depthwise layers [blocks][taps][channels
of a block].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc import runtime
from bnncc.kernels import emit
from bnncc.kernels.byte.plan import BytePlan, store_sums
from bnncc.kernels.byte.steps import CENTRE
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.interleave import merge_groups
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import Level, Tile, each, even_tile, pixel_tiles, tiles, walk

MOST_PIXELS = 3
"""Of a tile."""

TAP_PIXELS = 2
"""Of a tile in depthwise layers: a single pixel is summed twice."""

WORD = 4
"""Bytes."""


@dataclass(frozen=True)
class Blocks:
    """block: channels whose weights are stored together. part: channels that are summed at a time."""

    block: int
    part: int


@dataclass(frozen=True)
class Vectors:
    """Vectors that micro-kernels are written for.

    name: of their functions. header: their text. feature: of LLVM, what it takes. step: bytes of a window
    that a channel's weights are stored together for. many, single, taps: where tiles are several pixels, a
    single one, and in depthwise layers. is_centred: whether weights are stored 128 higher, so that
    micro-kernels ask for the sum of a window's bytes, and write the sums of whole blocks; else blocks are
    smaller where there are fewer channels, and micro-kernels ask for their size."""

    name: str
    header: str
    feature: str
    instruction: str
    tap_instruction: str
    step: int
    many: Blocks
    single: Blocks
    taps: Blocks
    is_centred: bool

    def fitting(self, blocks: Blocks, plan: BytePlan) -> Blocks:
        """Blocks for the channels of a group."""
        if self.is_centred or plan.spec.writes_bits:
            return blocks
        size = even_tile(plan.channels.count, blocks.part)
        return Blocks(size, size)


MVE = Vectors(
    *("mve", "byte_mve.h", "+mve", "VMLADAVA", "VMULLB and VMULLT"),
    *(16, Blocks(2, 32), Blocks(6, 96), Blocks(8, 32), True),
)
RISCV = Vectors(
    *("rvv", "byte_riscv.h", "+v", "VWMACC", "VWMACC"),
    *(1, Blocks(64, 64), Blocks(64, 64), Blocks(64, 64), False),
)


def vectors_of(isa: Isa) -> Vectors | None:
    """Those of an instruction set that C code is written for."""
    return next((v for v in (MVE, RISCV) if isa.is_scalar and v.feature in isa.features), None)


def fits(plan: BytePlan, isa: Isa) -> bool:
    """Whether this form computes a contraction."""
    vectors = vectors_of(isa)
    return vectors is not None and (not plan.is_depthwise or plan.root.input.strides[3] == 1)


def make(plan: BytePlan, isa: Isa) -> Kernel:
    """The kernel. There is nothing to schedule."""
    vectors = vectors_of(isa)
    assert vectors is not None
    form = (Taps if plan.is_depthwise else Rows)(plan, vectors)
    channels = max(plan.channels.stored, -(-plan.spec.shape[3] // form.blocks.block) * form.blocks.block)
    spec, epilogue = plan.spec, Epilogue(plan.spec, isa, in_four_lanes=vectors is MVE)
    parameters = (
        emit.input_parameter("input", plan.root.input),
        *epilogue.operands,
        form.weight,
        replace(plan.base_parameter, extent=channels),
        *epilogue.constants,
        *epilogue.outputs,
        *form.scratch,
    )

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        for place in pixel_tiles(plan.pixels, 1, form.pixels):
            for group in each(plan.channels.groups, "group"):
                _sum_group(form, Tile(group, (), *place), epilogue, buffers)

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        base = plan.pack_base(constants[0])
        base = np.pad(base, (0, channels - len(base)))
        return form.pack(constants[0]), base, *epilogue.pack(constants)

    tile = {"rows": form.pixels}
    symbol = kernel_symbol(spec, isa, tile)
    function = emit.function(symbol, parameters, body)
    scratch_bytes = sum(parameter.extent for parameter in form.scratch)
    return Kernel(
        symbol, spec, function, parameters, pack, tile, form.description, scratch_bytes, scratch_of_tile=True
    )


def _sum_group(form: Rows | Taps, tile: Tile, epilogue: Epilogue, buffers: Buffers) -> None:
    """Emit the outputs of a tile in the channels of its group."""
    plan, blocks = form.plan, form.blocks
    sum_part = form.prepare(tile, buffers)
    for first, count in tiles(plan.channels.count, blocks.part, "part"):
        pitch = -(-count // blocks.block) * blocks.block if form.vectors.is_centred else count
        sums = emit.local("int32", form.pixels * pitch, "sums")
        sum_part(first, count, sums, pitch)
        store_sums(plan, tile, first, count, sums, pitch, epilogue)


def sources(text: str) -> list[str]:
    """The C text of the functions that `text` calls."""
    return [runtime.source_text(v.header) for v in (MVE, RISCV) if f"bnncc_{v.name}_" in text]


SumPart = Callable[[Index, int, Buffer, int], None]
"""(first channel of the group, how many, sums, pitch): emits the sums of some channels of a tile,
[pixels][pitch]."""


@dataclass(frozen=True)
class Rows:
    """The windows of a tile as rows of steps, and how they are multiplied."""

    plan: BytePlan
    vectors: Vectors

    @property
    def pixels(self) -> int:
        """Of a tile."""
        return even_tile(self.plan.pixels.columns, MOST_PIXELS)

    @property
    def blocks(self) -> Blocks:
        """Of channels."""
        blocks = self.vectors.many if self.pixels > 1 else self.vectors.single
        return self.vectors.fitting(blocks, self.plan)

    @property
    def bytes(self) -> int:
        """Of a window."""
        return self.plan.runs * self.plan.run

    @property
    def steps(self) -> int:
        """Of a window."""
        return -(-self.bytes // self.vectors.step)

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return self.steps * self.vectors.step

    @property
    def is_one_piece(self) -> bool:
        """Whether a window is a row where it lies."""
        return self.plan.runs == self.plan.stride == 1 and self.bytes == self.row

    @property
    def stored(self) -> int:
        """Channels of a group, with those that complete its last block."""
        return -(-self.plan.channels.count // self.blocks.block) * self.blocks.block

    @property
    def weight(self) -> Parameter:
        """In words where micro-kernels want addresses that divide by four."""
        number = self.plan.channels.groups * self.stored // self.blocks.block
        doc = f"weight bytes [{number}][{self.steps}][{self.blocks.block}][{self.vectors.step}]"
        doc += f", {CENTRE} higher" if self.vectors.is_centred else ""
        extent = self.plan.channels.groups * self.stored * self.row // self.unit
        return emit.constant_parameter("weight", "uint32" if self.unit == WORD else "int8", extent, doc)

    @property
    def unit(self) -> int:
        """Bytes of an item of the stored weights."""
        return WORD if self.vectors.is_centred else 1

    @property
    def scratch(self) -> tuple[Parameter, ...]:
        """Memory for the rows, if any."""
        if self.is_one_piece:
            return ()
        return (Parameter("scratch", "uint8", self.pixels * self.row, False, "uint8_t", "scratch: windows"),)

    @property
    def description(self) -> str:
        """For the report."""
        return f"{self.vectors.instruction}, {self.pixels}x{self.blocks.block} pixels by channels"

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """int8 [O, KH, KW, C/groups] to the stored form; behind the end of a window are zeros."""
        plan, block = self.plan, self.blocks.block
        taps = merge_groups(weight, plan.root.groups, plan.joined).reshape(
            plan.channels.groups, plan.channels.count, self.bytes
        )
        if self.vectors.is_centred:
            taps = taps.astype(np.int16) + CENTRE
        beyond = self.stored - plan.channels.count
        taps = np.pad(taps.astype(np.uint8), [(0, 0), (0, beyond), (0, self.row - self.bytes)])
        items = taps.reshape(-1, block, self.steps, self.vectors.step).transpose(0, 2, 1, 3)
        stored = np.ascontiguousarray(items).reshape(-1)
        return stored.view("<u4").astype(np.uint32) if self.unit == WORD else stored.view(np.int8)

    def prepare(self, tile: Tile, buffers: Buffers) -> SumPart:
        """Emit the rows of a tile, and the sums of their bytes where those are wanted."""
        starts = [emit.bind_index(start) for start in self.plan.starts(tile)]
        windows = emit.local("uint32", tile.columns, "windows") if self.vectors.is_centred else None
        for pixel, start in enumerate(starts):
            if windows is not None:
                T.buffer_store(windows, tirx.const(0, "uint32"), [pixel])
            self._gather(pixel, start, windows, buffers)
        if self.is_one_piece:
            rows, pitch = T.address_of(buffers["input"][starts[0]]), _distance(self.plan)
        else:
            rows, pitch = T.address_of(buffers["scratch"][0]), self.row
        name = f"products_{tile.columns}"
        if windows is not None:
            name = f"{name}x{self.blocks.block}"

        def sum_part(first: Index, count: int, sums: Buffer, sum_pitch: int) -> None:
            place = (tile.group * self.stored + first) * self.row // self.unit
            base = T.address_of(buffers["base"][tile.group * self.plan.channels.count + first])
            tables = (
                T.address_of(buffers["weight"][place]),
                *((self.blocks.block, base) if windows is None else (base, T.address_of(windows[0]))),
            )
            to = (count, T.address_of(sums[0]), sum_pitch)
            T.evaluate(self._call("int32", name, rows, pitch, self.steps, *tables, *to))

        return sum_part

    def _gather(self, pixel: int, start: Index, windows: Buffer | None, buffers: Buffers) -> None:
        """Emit the runs of a window side by side, and the sum of their bytes, as far as they are wanted."""
        if self.is_one_piece and windows is None:
            return
        if self.plan.stride != 1:
            self._gather_bytes(pixel, start, windows, buffers)
            return
        name = "add_up" if self.is_one_piece else "gather"
        for offset, number in walk(self.plan.outer):
            run = (T.address_of(buffers["input"][start + offset]), self.plan.run)
            if not self.is_one_piece:
                run = (T.address_of(buffers["scratch"][pixel * self.row + number * self.plan.run]), *run)
            if windows is None:
                T.evaluate(self._call("int32", name, *run))
            else:
                T.buffer_store(windows, self._call("uint32", name, *run, windows[pixel]), [pixel])

    def _gather_bytes(self, pixel: int, start: Index, windows: Buffer | None, buffers: Buffers) -> None:
        """The same where the channels of a pixel lie apart."""
        for offset, number in walk((*self.plan.outer, Level(self.plan.run, self.plan.stride))):
            byte = emit.bind(buffers["input"][start + offset])
            T.buffer_store(buffers["scratch"], byte, [pixel * self.row + number])
            if windows is not None:
                T.buffer_store(windows, windows[pixel] + T.Cast("uint32", byte), [pixel])

    def _call(self, dtype: str, name: str, *arguments: Value) -> Value:
        return T.call_extern(dtype, f"bnncc_{self.vectors.name}_{name}", *arguments)


@dataclass(frozen=True)
class Taps:
    """Windows of depthwise layers, every channel of which is summed by itself."""

    plan: BytePlan
    vectors: Vectors

    scratch = ()

    @property
    def pixels(self) -> int:
        """Of a tile."""
        return TAP_PIXELS

    @property
    def blocks(self) -> Blocks:
        """Of channels."""
        return self.vectors.fitting(self.vectors.taps, self.plan)

    @property
    def weight(self) -> Parameter:
        """Bytes of channels side by side."""
        block, steps = self.blocks.block, self.plan.steps
        number = -(-self.plan.spec.shape[3] // block)
        doc = f"weight [{number}][{steps}][{block}]"
        return emit.constant_parameter("weight", "int8", number * steps * block, doc)

    @property
    def description(self) -> str:
        """For the report."""
        return f"{self.vectors.tap_instruction}, {self.pixels} pixels, every channel by itself"

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """int8 [C, KH, KW, 1] to the stored form."""
        block = self.blocks.block
        taps = np.pad(weight.reshape(-1, self.plan.steps), [(0, -len(weight) % block), (0, 0)])
        return np.ascontiguousarray(taps.reshape(-1, block, self.plan.steps).transpose(0, 2, 1)).reshape(-1)

    def prepare(self, tile: Tile, buffers: Buffers) -> SumPart:
        """Name where the first window starts."""
        plan, window, strides = self.plan, self.plan.root.window, self.plan.root.input.strides
        start = emit.bind_index(plan.start(tile.image, tile.row, tile.column))
        next_pixel = _distance(plan) if tile.columns > 1 else 0

        block = () if self.vectors.is_centred else (self.blocks.block,)

        def sum_part(first: Index, count: int, sums: Buffer, pitch: int) -> None:
            T.evaluate(
                T.call_extern(
                    "int32",
                    f"bnncc_{self.vectors.name}_taps",
                    T.address_of(buffers["input"][start + first]),
                    next_pixel,
                    window.height,
                    window.dilation_y * strides[1],
                    window.width,
                    window.dilation_x * strides[2],
                    T.address_of(buffers["weight"][first * plan.steps]),
                    *block,
                    T.address_of(buffers["base"][first]),
                    count,
                    T.address_of(sums[0]),
                    pitch,
                )
            )

        return sum_part


def _distance(plan: BytePlan) -> int:
    """Bytes from the window of a pixel to that of the next."""
    strides = plan.root.input.strides
    return strides[0] if plan.pixels.order == "batch" else strides[2] * plan.root.window.stride_x
