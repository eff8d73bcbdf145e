# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions of bytes on cores with Arm's DSP extension: UXTB16 and SXTB16 unpack the bytes of
four channels, SMLABB and SMLATT multiply and add, by a function of `runtime/src/byte_products.h`.

Stored weights: [blocks][taps] words of four channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.byte.plan import BytePlan
from bnncc.kernels.emit import Buffer, Buffers, Index
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import UNROLLED_TAPS, each, pixel_tiles, tiles, walk
from bnncc.plan.layout import WORD_BITS

BLOCK = 4
"""Channels of a word."""

CHANNELS = WORD_BITS
"""Whose sums are kept at a time: a word of bits, where those are written."""

TAP = "bnncc_byte_tap"
"""(sums, bytes, weight): adds the products of four channels."""


def fits(plan: BytePlan, isa: Isa) -> bool:
    """Whether this form computes a contraction."""
    is_whole = plan.root.input.shape[3] % BLOCK == 0 and plan.root.input.strides[3] == 1
    return isa.is_scalar and "+dsp" in isa.features and plan.is_depthwise and is_whole


def make(plan: BytePlan, isa: Isa) -> Kernel:
    """The kernel. There is nothing to schedule."""
    taps = Taps(plan)
    spec, epilogue = plan.spec, Epilogue(plan.spec, isa)
    words = spec.shape[3] // BLOCK * plan.steps
    parameters = (
        emit.input_parameter("input", plan.root.input),
        *epilogue.operands,
        emit.constant_parameter("weight", "uint32", words, f"weight [blocks][{plan.steps}], four channels"),
        *((plan.base_parameter,) if plan.lowest else ()),
        *epilogue.constants,
        *epilogue.outputs,
    )

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        for place in pixel_tiles(plan.pixels, 1, 1):
            image, row, column, _, _ = place
            position = plan.pixels.position(image, row, column)
            start = emit.bind_index(plan.start(image, row, column))
            for first, count in tiles(spec.shape[3], CHANNELS, "part"):
                sums = taps.sum(start, first, count, buffers)
                epilogue.store(position, first, count, lambda offset, lanes, sums=sums: sums[offset])

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        table = (plan.pack_base(constants[0]),) if plan.lowest else ()
        return taps.pack(constants[0]), *table, *epilogue.pack(constants)

    tile = {"taps": 1}
    symbol = kernel_symbol(spec, isa, tile)
    function = emit.function(symbol, parameters, body)
    return Kernel(symbol, spec, function, parameters, pack, tile, "four channels a word, SMLABB and SMLATT")


@dataclass(frozen=True)
class Taps:
    """The sums of a pixel."""

    plan: BytePlan

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """int8 [C, KH, KW, 1] to the stored form."""
        blocks = weight.reshape(-1, BLOCK, self.plan.steps).transpose(0, 2, 1)
        return np.ascontiguousarray(blocks).view("<u4").astype(np.uint32).reshape(-1)

    def sum(self, start: Index, first: Index, count: int, buffers: Buffers) -> Buffer:
        """Emit the sums of some channels of the window at `start`."""
        sums = emit.local("int32", CHANNELS, "sums")
        for block in each(count // BLOCK, "block"):
            channel = emit.bind_index(first + block * BLOCK)
            totals = emit.local("int32", BLOCK, "total")
            for lane in range(BLOCK):
                base = buffers["base"][channel + lane] if self.plan.lowest else tirx.const(0, "int32")
                T.buffer_store(totals, base, [lane])
            for offset, number in walk(self.plan.outer, UNROLLED_TAPS):
                place = T.address_of(buffers["input"][start + channel + offset])
                weight = buffers["weight"][(first // BLOCK + block) * self.plan.steps + number]
                T.evaluate(T.call_extern("int32", TAP, T.address_of(totals[0]), place, weight))
            for lane in range(BLOCK):
                T.buffer_store(sums, totals[lane], [block * BLOCK + lane])
        return sums
