# SPDX-License-Identifier: Apache-2.0
"""Sums of bytes on cores with Arm's DSP extension, by the micro-kernel of `runtime/src/byte_products.h`.

Windows of one or two pixels are widened to 16 bits, in memory that the caller lends, and multiplied by the
weights of a block of channels. Runs of bytes of which four make no whole are put side by side before that.

Stored weights: [groups][blocks][steps][2][2] words; a word stands for two bytes of the window, each half is
256 a + b for the weights a and b of two channels. Such an a must not be -128: where weights may be, a word
holds four of one channel, [groups][blocks][steps][4].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc import runtime
from bnncc.kernels import emit
from bnncc.kernels.byte.plan import BytePlan, store_sums
from bnncc.kernels.byte.taps import CHANNELS, TAP
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.interleave import merge_groups
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import Tile, each, each_lane, pixel_tiles, tiles, walk

SIGNED_PLANES = 7
"""Weights below 2^7 in magnitude are none of -128."""

STEP = 4
"""Bytes of a step, and channels of a block."""

MOST_STEPS = 64
"""That are summed at a time."""

PIXELS = 2
"""Of a tile, at most."""

PRODUCTS, WIDEN, JOIN = "bnncc_byte_products", "bnncc_byte_widen", "bnncc_byte_join"


def fits(plan: BytePlan, isa: Isa) -> bool:
    """Whether this form computes a contraction."""
    return isa.is_scalar and "+dsp" in isa.features and plan.stride == 1 and not plan.is_depthwise


def make(plan: BytePlan, isa: Isa) -> Kernel:
    """The kernel. There is nothing to schedule."""
    rows = Rows(plan)
    spec, epilogue = plan.spec, Epilogue(plan.spec, isa)
    parameters = (
        emit.input_parameter("input", plan.root.input),
        *epilogue.operands,
        emit.constant_parameter(
            "weight", "uint32", plan.channels.groups * rows.blocks * rows.steps * STEP, rows.doc
        ),
        *((plan.base_parameter,) if plan.lowest else ()),
        *epilogue.constants,
        *epilogue.outputs,
        rows.scratch,
    )

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        for place in pixel_tiles(plan.pixels, 1, PIXELS):
            for group in each(plan.channels.groups, "group"):
                tile = Tile(group, (), *place)
                rows.widen(tile, buffers)
                for first, count in tiles(plan.channels.count, CHANNELS, "part"):
                    sums = rows.sum(tile, first, count, buffers)
                    store_sums(plan, tile, first, count, sums, CHANNELS, epilogue)

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        table = (plan.pack_base(constants[0]),) if plan.lowest else ()
        return rows.pack(constants[0]), *table, *epilogue.pack(constants)

    schedule = {"rows": PIXELS}
    symbol = kernel_symbol(spec, isa, schedule)
    description = f"SMLAD, {PIXELS} pixels, {rows.words}"
    function = emit.function(symbol, parameters, body)
    return Kernel(
        symbol,
        spec,
        function,
        parameters,
        pack,
        schedule,
        description,
        4 * rows.scratch.extent,
        scratch_of_tile=True,
    )


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
        """Of channels of a group."""
        return -(-self.plan.channels.count // STEP)

    @property
    def is_apart(self) -> bool:
        """Whether a word holds weights of a single channel."""
        return self.plan.root.weight_planes > SIGNED_PLANES

    @property
    def words(self) -> str:
        """What words of weights hold."""
        return "a channel in a word" if self.is_apart else "two channels in a half of a word"

    @property
    def is_joined(self) -> bool:
        """Whether runs are put side by side before they are widened."""
        return self.plan.runs > 1 and self.plan.run % STEP > 0

    @property
    def doc(self) -> str:
        """How weights are stored."""
        blocks = self.plan.channels.groups * self.blocks
        return f"weight [{blocks}][{self.steps}][2][2], {self.words}"

    @property
    def scratch(self) -> Parameter:
        """Memory for the rows, and for runs side by side."""
        extent = self.steps * (2 * PIXELS + self.is_joined)
        return Parameter("scratch", "uint32", extent, False, "uint32_t", "scratch: windows of 16 bits")

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """int8 [O, KH, KW, C/groups] to the stored form."""
        plan = self.plan
        groups, outputs, taps = plan.channels.groups, plan.channels.count, self.bytes
        rows = merge_groups(weight, plan.root.groups, plan.joined).reshape(groups, outputs, taps)
        rows = np.pad(rows, [(0, 0), (0, self.blocks * STEP - outputs), (0, self.steps * STEP - taps)])
        rows = rows.reshape(groups * self.blocks, STEP, self.steps, STEP)
        if self.is_apart:
            stored = np.ascontiguousarray(rows.transpose(0, 2, 1, 3))
        else:
            halves = 256 * rows[:, 0::2].astype(np.int32) + rows[:, 1::2]
            stored = np.ascontiguousarray(halves[..., [0, 2, 1, 3]].transpose(0, 2, 1, 3)).astype("<i2")
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
        channel = tile.group * self.plan.channels.count + first
        for lane in each_lane(count):
            base = buffers["base"][channel + lane] if self.plan.lowest else tirx.const(0, "int32")
            for pixel in range(tile.columns):
                T.buffer_store(sums, base, [pixel * CHANNELS + lane])
        blocks, next_block = -(-count // STEP), STEP * self.steps
        for pixel in range(tile.columns):
            for lane in range(count, blocks * STEP):
                T.buffer_store(sums, tirx.const(0, "int32"), [pixel * CHANNELS + lane])
        name = f"{PRODUCTS}_apart_{tile.columns}" if self.is_apart else f"{PRODUCTS}_{tile.columns}"
        place = (tile.group * (self.blocks * STEP) + first) * self.steps
        for step, steps in tiles(self.steps, self.steps if self.is_apart else MOST_STEPS, "steps"):
            row = T.address_of(buffers["scratch"][2 * tile.columns * step])
            weight = T.address_of(buffers["weight"][place + STEP * step])
            _call(name, row, weight, steps, next_block, blocks, T.address_of(sums[0]), CHANNELS)
        return sums


def _call(name: str, *arguments: Value) -> None:
    T.evaluate(T.call_extern("int32", name, *arguments))
