# SPDX-License-Identifier: Apache-2.0
"""Sums of bytes by NEON's instructions.

They multiply signed bytes by signed bytes, so activations are taken 128 lower (one XOR for up to 16 of them),
and a table adds 128 times the sum of the weights of each channel.

- SDOT adds the products of four bytes to a sum of 32 bits; a lane of the activations counts for all channels.
- Without it, SMULL multiplies two bytes of four channels, SMLAL adds the products of two more, and SADALP
  adds neighbours to sums of 32 bits. Two products fit 16 bits unless weights are as large as activations,
  -128: then every product is widened by itself.
- In depthwise layers SMULL and SMLAL take two taps of eight channels, whose products SADDW widens.
"""

from __future__ import annotations

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.byte.plan import BytePlan, Stage, zeros
from bnncc.kernels.byte.steps import CENTRE
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.nest import (
    UNROLLED_TAPS,
    Schedule,
    Tile,
    Vector,
    even_tile,
    register_schedule,
    walk,
    walk_chunks,
)
from bnncc.kernels.tiles import Sums

SIGNED_PLANES = 7
"""Weights below 2^7 in magnitude: two products with activations of -128 to 127 fit 16 bits."""

ACCUMULATORS = {"dot": 20, "pairs": 12}
"""Sums that registers hold beside what they are made of."""

FEW_ACCUMULATORS = 8
"""The same where every product is widened by itself, or registers are half as many (32-bit Arm)."""


def schedule(plan: BytePlan, isa: Isa) -> Schedule:
    """A good schedule without tuning."""
    lanes, method, outputs = plan.channels.lanes, plan.method, plan.spec.shape[3]
    if plan.is_depthwise:
        return Schedule(lanes, 1, even_tile(plan.pixels.columns, 4), 1, channels_outermost=0)
    widens = method.neon == "pairs" and plan.root.weight_planes > SIGNED_PLANES
    few = widens or isa.architecture != "aarch64"
    accumulators = FEW_ACCUMULATORS if few else ACCUMULATORS[method.neon]
    return register_schedule(
        plan.pixels, outputs, lanes, accumulators, most_vectors=min(4, accumulators // 4)
    )


def accumulate(plan: BytePlan, tile: Tile, buffers: Buffers, isa: Isa) -> Sums:
    """Emit the sums of a tile."""
    sums = zeros(tile, "int32")
    if plan.is_depthwise:
        _add_taps(plan, tile, buffers, sums, isa)
        return sums
    for stage in plan.stages:
        _add_stage(plan, tile, buffers, sums, stage, isa)
    return sums


def _add_stage(plan: BytePlan, tile: Tile, buffers: Buffers, sums: Sums, stage: Stage, isa: Isa) -> None:
    """Emit the steps of a stage: the activations of several steps are one load."""
    starts, dot = plan.starts(tile), plan.method.neon == "dot"
    for further, turn in walk(stage.levels):
        items = [
            _Items(buffers["input"], start + stage.offset + further, stage.loads, dot) for start in starts
        ]
        for unit in range(stage.loads):
            step = turn * stage.loads + (stage.first + unit)
            weights = [_load_weights(plan, buffers["weight"], v, step) for v in tile.vectors]
            for p, item in enumerate(items):
                spread = item.spread(unit)
                for v, weight in enumerate(weights):
                    total = emit.load(sums[p, v], 0, 4)
                    if dot:
                        total = T.call_llvm_pure_intrin(
                            "int32x4", "llvm.aarch64.neon.sdot", total, weight[0], spread[0]
                        )
                    else:
                        total = _plus_pairs(total, weight, spread, plan.root.weight_planes, isa)
                    emit.store(sums[p, v], total, 0)


def _load_weights(plan: BytePlan, buffer: Buffer, vector: Vector, step: Index) -> list[Value]:
    """The weights of a step: of four channels, four bytes each; or two bytes each, and two more."""
    place = (vector.channel * plan.steps + step * vector.width) * plan.together
    if plan.method.neon == "dot":
        return [emit.bind(emit.load(buffer, place, 16))]
    return [emit.bind(emit.load(buffer, place + first, 8)) for first in (0, 8)]


class _Items:
    """The activations of `steps` steps at `index` of a buffer, as signed bytes."""

    def __init__(self, buffer: Buffer, index: Index, steps: int, dot: bool):
        self.dtype, self.copies = ("int32", 4) if dot else ("int16", 4)
        self.lanes = 1 if dot else 2
        """Elements of dtype in a step."""
        count = steps * self.lanes
        if steps == 1:
            size = 4 // self.lanes
            loads = [emit.load(buffer, index + size * i, size) for i in range(self.lanes)]
            spread = [emit.broadcast(T.reinterpret(self.dtype, load), self.copies) for load in loads]
            self.spreads = [emit.bind(_centred(T.reinterpret(f"uint8x{size * 4}", x))) for x in spread]
            return
        items = emit.bind(
            T.reinterpret(f"{self.dtype}x{count}", _centred(emit.load(buffer, index, 4 * steps)))
        )
        self.spreads = [
            T.reinterpret(f"int8x{16 // self.lanes}", emit.broadcast(emit.extract(items, i), self.copies))
            for i in range(count)
        ]

    def spread(self, step: int) -> list[Value]:
        """The bytes of a step as those that weights are multiplied by."""
        return [emit.bind(x) for x in self.spreads[step * self.lanes : (step + 1) * self.lanes]]


def _centred(value: Value) -> Value:
    """Bytes of 0 to 255, 128 lower."""
    lanes = emit.lanes_of(value)
    return T.reinterpret(f"int8x{lanes}", value ^ emit.constant(CENTRE, "uint8", lanes))


def _plus_pairs(total: Value, weights: list[Value], items: list[Value], planes: int, isa: Isa) -> Value:
    """Sums and the products of four bytes of each channel."""
    products = [_product(w, x, isa) for w, x in zip(weights, items, strict=True)]
    if planes <= SIGNED_PLANES:
        products = [products[0] + products[1]]
    for product in products:
        total = _plus_neighbours(total, product, isa)
    return total


def _product(left: Value, right: Value, isa: Isa) -> Value:
    """Eight products of 16 bits (SMULL)."""
    name = "llvm.aarch64.neon.smull" if isa.architecture == "aarch64" else "llvm.arm.neon.vmulls"
    return T.call_llvm_pure_intrin("int16x8", name, left, right)


def _plus_neighbours(total: Value, products: Value, isa: Isa) -> Value:
    """int32x4 and the sums of neighbours of int16x8 (SADALP)."""
    if isa.architecture == "aarch64":
        return total + T.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp", products)
    return T.call_llvm_pure_intrin("int32x4", "llvm.arm.neon.vpadals", total, products)


def _add_taps(plan: BytePlan, tile: Tile, buffers: Buffers, sums: Sums, isa: Isa) -> None:
    """Emit the sums of a depthwise layer."""
    starts, together = plan.starts(tile), 2 if plan.root.weight_planes <= SIGNED_PLANES else 1
    for offset, number, levels in walk_chunks(plan.outer, UNROLLED_TAPS):
        taps = list(walk(levels, UNROLLED_TAPS))
        for first in range(0, len(taps), together):
            some = taps[first : first + together]
            for v, vector in enumerate(tile.vectors):
                places = [(vector.channel * plan.steps + (number + tap) * 8) for _, tap in some]
                weights = [emit.bind(emit.load(buffers["weight"], place, 8)) for place in places]
                for p, start in enumerate(starts):
                    pixels = [_load_channels(plan, buffers, start + offset + at, vector) for at, _ in some]
                    products = [_product(x, w, isa) for x, w in zip(pixels, weights, strict=True)]
                    product = sum(products[1:], products[0])
                    emit.store(sums[p, v], emit.load(sums[p, v], 0, 8) + T.Cast("int32x8", product), 0)


def _load_channels(plan: BytePlan, buffers: Buffers, pixel: Index, vector: Vector) -> Value:
    """The input's channels of a vector as signed bytes; anything beyond the last, where there may be no
    memory."""
    stride = plan.root.input.strides[3]
    first = pixel + vector.channel * stride
    if vector.valid == vector.width:
        return emit.bind(_centred(emit.load(buffers["input"], first, 8, stride)))
    present = [buffers["input"][first + lane * stride] for lane in range(vector.valid)]
    return emit.bind(_centred(emit.concatenate([*present, *[tirx.const(0, "uint8")] * (8 - vector.valid)])))
