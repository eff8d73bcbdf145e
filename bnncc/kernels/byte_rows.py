# SPDX-License-Identifier: Apache-2.0
"""Sums of bytes on cores with Arm's DSP extension, by the micro-kernel of `runtime/src/byte_products.h`.

Windows of one or two pixels are widened to 16 bits, in memory that the caller lends, and multiplied by the
weights of a block of channels. Runs of bytes of which four make no whole are put side by side before that.

Stored weights: [blocks][steps][2][2] words; a word holds two bytes of the window, of which each half is
256 a + b for the weights a and b of two channels. So a must not be -128.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc import runtime
from bnncc.kernels import emit
from bnncc.kernels.byte_plan import BytePlan
from bnncc.kernels.byte_taps import CHANNELS, TAP, channel_parts
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import Tile, each_lane, pixel_tiles, tiles, walk

SIGNED_PLANES = 7
"""Weights below 2^7 in magnitude."""

STEP = 4
"""Bytes of a step, and channels of a block."""

MOST_STEPS = 64
"""That are summed at a time."""

PIXELS = 2
"""Of a tile, at most."""

PRODUCTS, WIDEN, JOIN = "bnncc_byte_products", "bnncc_byte_widen", "bnncc_byte_join"


def fits(plan: BytePlan, isa: Isa) -> bool:
    """Whether this form computes a contraction."""
    small = plan.root.weight_planes <= SIGNED_PLANES
    return isa.is_scalar and "+dsp" in isa.features and small and plan.stride == plan.root.groups == 1


def make(plan: BytePlan, isa: Isa) -> Kernel:
    """The kernel. There is nothing to schedule."""
    rows = Rows(plan)
    spec, epilogue = plan.spec, Epilogue(plan.spec, isa)
    parameters = (
        emit.input_parameter("input", plan.root.input),
        *epilogue.operands,
        emit.constant_parameter("weight", "uint32", rows.blocks * rows.steps * STEP, rows.doc),
        *((plan.base_parameter,) if plan.lowest else ()),
        *epilogue.constants,
        *epilogue.outputs,
        rows.scratch,
    )

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        for place in pixel_tiles(plan.pixels, 1, PIXELS):
            tile = Tile(0, (), *place)
            rows.widen(tile, buffers)
            for first, count in channel_parts(spec):
                sums = rows.sum(tile, first, count, buffers)
                for pixel, at in enumerate(tile.pixels()):
                    position = plan.pixels.position(tile.image, *at)

                    def value(
                        offset: Index, lanes: int, start: int = pixel * CHANNELS, sums: Buffer = sums
                    ) -> Value:
                        return sums[start + offset]

                    epilogue.store(position, first, count, value)

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        table = (plan.pack_base(constants[0]),) if plan.lowest else ()
        return rows.pack(constants[0]), *table, *epilogue.pack(constants)

    tile = {"rows": PIXELS}
    symbol = kernel_symbol(spec, isa, tile)
    description = f"SMLAD, {PIXELS} pixels, two channels in a half of a word"
    function = emit.function(symbol, parameters, body)
    return Kernel(symbol, spec, function, parameters, pack, tile, description, 4 * rows.scratch.extent)


def sources(text: str) -> list[str]:
    """The C text of the functions that `text` calls."""
    if f"{PRODUCTS}_" not in text and TAP not in text:
        return []
    return [runtime.source_text("byte_products.h")]


@dataclass(frozen=True)
class Rows:
    """The windows of a tile as rows of steps, and how they are multiplied."""

    plan: BytePlan

    @property
    def bytes(self) -> int:
        """Of a window."""
        return self.plan.runs * self.plan.run

    @property
    def steps(self) -> int:
        """Of a window."""
        return -(-self.bytes // STEP)

    @property
    def blocks(self) -> int:
        """Of channels."""
        return -(-self.plan.spec.shape[3] // STEP)

    @property
    def is_joined(self) -> bool:
        """Whether runs are put side by side before they are widened."""
        return self.plan.runs > 1 and self.plan.run % STEP > 0

    @property
    def doc(self) -> str:
        """How weights are stored."""
        return f"weight [{self.blocks}][{self.steps}][2][2], two channels in a half"

    @property
    def scratch(self) -> Parameter:
        """Memory for the rows, and for runs side by side."""
        extent = self.steps * (2 * PIXELS + self.is_joined)
        return Parameter("scratch", "uint32", extent, False, "uint32_t", "scratch: windows of 16 bits")

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """int8 [O, KH, KW, C] to the stored form."""
        outputs, taps = len(weight), self.bytes
        padding = [(0, self.blocks * STEP - outputs), (0, self.steps * STEP - taps)]
        rows = np.pad(weight.reshape(outputs, taps).astype(np.int32), padding)
        halves = 256 * rows[0::2] + rows[1::2]
        halves = halves.reshape(self.blocks, 2, self.steps, STEP)[..., [0, 2, 1, 3]]
        stored = np.ascontiguousarray(halves.transpose(0, 2, 1, 3)).astype("<i2")
        return stored.view("<u4").astype(np.uint32).reshape(-1)

    def widen(self, tile: Tile, buffers: Buffers) -> None:
        """Emit the rows of a tile, whose steps take turns."""
        starts, pitch = self.plan.starts(tile), 2 * tile.columns
        for pixel, start in enumerate(starts):
            start = emit.bind_index(start)
            row = T.address_of(buffers["scratch"][2 * pixel])
            joined = T.address_of(buffers["scratch"][2 * PIXELS * self.steps])
            whole = self.plan.run // STEP
            for offset, number in walk(self.plan.outer):
                run = T.address_of(buffers["input"][start + offset])
                if self.is_joined:
                    _call(JOIN, joined, number * self.plan.run, run, self.plan.run)
                else:
                    row = T.address_of(buffers["scratch"][2 * pixel + number * whole * pitch])
                    _call(WIDEN, row, pitch, run, self.plan.run)
            if self.is_joined:
                _call(WIDEN, row, pitch, joined, self.bytes)

    def sum(self, tile: Tile, first: Index, count: int, buffers: Buffers) -> Buffer:
        """Emit the sums of some channels: int32 [pixels][CHANNELS]."""
        sums = emit.local("int32", PIXELS * CHANNELS, "sums")
        for lane in each_lane(count):
            base = buffers["base"][first + lane] if self.plan.lowest else tirx.const(0, "int32")
            for pixel in range(tile.columns):
                T.buffer_store(sums, base, [pixel * CHANNELS + lane])
        blocks, next_block = -(-count // STEP), STEP * self.steps
        for pixel in range(tile.columns):
            for lane in range(count, blocks * STEP):
                T.buffer_store(sums, tirx.const(0, "int32"), [pixel * CHANNELS + lane])
        for step, steps in tiles(self.steps, MOST_STEPS, "steps"):
            row = T.address_of(buffers["scratch"][2 * tile.columns * step])
            weight = T.address_of(buffers["weight"][first * self.steps + STEP * step])
            to = T.address_of(sums[0])
            _call(f"{PRODUCTS}_{tile.columns}", row, weight, steps, next_block, blocks, to, CHANNELS)
        return sums


def _call(name: str, *arguments: Value) -> None:
    T.evaluate(T.call_extern("int32", name, *arguments))
