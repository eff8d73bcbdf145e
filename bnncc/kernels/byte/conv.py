# SPDX-License-Identifier: Apache-2.0
"""Convolutions and dense layers of bytes and small integer weights: 8-bit pixels in front of binary weights.

Output channels lie in the lanes. A step multiplies a few neighbouring activations, the same in every lane,
with as many weights of each channel and adds the products up:

- four bytes at a time in lanes of 32 bits (VPDPBUSD of AVX-512 VNNI);
- two in lanes of 16 bits (PMADDUBSW of SSSE3, AVX2, AVX-512BW), widened before they can overflow;
- four as two pairs of 16 bits in lanes of 32 (PMADDWD), for weights so large that they would at once;
- one in lanes of 16 or 32 bits, where there is no such instruction or no such neighbours;
- four in lanes of 32 bits by NEON (`byte.neon`);
- in depthwise layers, a few rows of a column (`byte.columns`), or one byte at a time;
- four by Arm's DSP extension (`byte.rows`, `byte.taps`); 16 by MVE or RISC-V's vectors (`byte.vectors`);
- one after the other in plain loops (portable C).

A run of neighbouring bytes that does not divide by the bytes of a step ends in a step that reads some of them
once more, with zero weights: nothing beyond the image is read.

Stored weights, int8 or int16: [vectors][steps][lanes][bytes of a step]; the pairs of PMADDWD
[vectors][steps][2][lanes][2].
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.byte import columns as byte_columns
from bnncc.kernels.byte import depthwise as byte_depthwise
from bnncc.kernels.byte import neon as byte_neon
from bnncc.kernels.byte import rows as byte_rows
from bnncc.kernels.byte import taps as byte_taps
from bnncc.kernels.byte import vectors as byte_vectors
from bnncc.kernels.byte.plan import BytePlan, as_int32, zeros
from bnncc.kernels.byte.steps import add_products, load_item, load_weights, spread_item
from bnncc.kernels.emit import Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.epilogue_values import Position
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import (
    Levels,
    Schedule,
    Tile,
    each_lane,
    even_tile,
    register_schedule,
    register_tiles,
    schedules,
    walk,
    walk_chunks,
)
from bnncc.kernels.tiles import Sums, local_piece, store_tile
from bnncc.plan.kernel import KernelSpec


def default(spec: KernelSpec, isa: Isa) -> Schedule:
    """A good schedule without tuning: as many accumulators as the registers of the target hold."""
    plan = BytePlan.of(spec, isa)
    if plan.method.neon:
        return byte_neon.schedule(plan, isa)
    if plan.is_depthwise:
        columns = even_tile(plan.pixels.columns, 4 if isa.is_scalar else 7)
        return Schedule(plan.channels.lanes, 1, columns, 1, channels_outermost=0)
    # Products of pairs take a register on their way to the sum; with 12 of 16 for sums, AVX2 was a quarter
    # slower than with 8.
    accumulators = 0 if isa.is_scalar else 14 if isa.vector_bits == 512 else 8
    return register_schedule(plan.pixels, spec.shape[3], plan.channels.lanes, accumulators)


def candidates(spec: KernelSpec, isa: Isa) -> Iterator[TileParameters]:
    """Tile parameters worth measuring, the default first."""
    plan = BytePlan.of(spec, isa)
    if _in_c(plan, isa) is not None:
        yield make(spec, isa).schedule
        return
    for schedule in schedules(default(spec, isa), plan.pixels, spec.shape[3], range(3, 25)):
        yield schedule.parameters()


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is a ByteConv; schedule: the fields of a Schedule."""
    plan = BytePlan.of(spec, isa)
    form = _in_c(plan, isa)
    if form is not None:
        return form.make(plan, isa)
    tile_parameters = Schedule(**schedule) if schedule else default(spec, isa)
    epilogue = Epilogue(spec, isa)
    total = plan.channels.stored * plan.steps * plan.together
    doc = f"weight [vectors][{plan.steps}][lanes][{plan.together}]"
    parameters = (
        emit.input_parameter("input", plan.root.input),
        *epilogue.operands,
        emit.constant_parameter("weight", plan.method.weight, total, doc),
        *((plan.base_parameter,) if plan.lowest else ()),
        *epilogue.constants,
        *epilogue.outputs,
    )
    accumulate = byte_depthwise.accumulate if plan.is_depthwise else _accumulate
    if plan.method.neon:
        accumulate = byte_neon.accumulate
    elif plan.method.by_columns:
        accumulate = byte_columns.accumulate

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        for tile in register_tiles(plan.pixels, plan.channels, plan.channels.whole_units(tile_parameters)):
            sums = accumulate(plan, tile, buffers, isa)

            def value(
                pixel: int,
                position: Position,
                number: int,
                offset: Index,
                lanes: int,
                sums: Sums = sums,
                tile: Tile = tile,
            ) -> Value:
                sum_ = as_int32(local_piece(sums[pixel, number], offset, lanes))
                if not plan.lowest:
                    return sum_
                return sum_ + emit.load(buffers["base"], tile.vectors[number].channel + offset, lanes)

            store_tile(epilogue, plan.pixels, tile, value)

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        table = (plan.pack_base(constants[0]),) if plan.lowest else ()
        return plan.pack_weight(constants[0]), *table, *epilogue.pack(constants)

    tile = tile_parameters.parameters()
    symbol = kernel_symbol(spec, isa, tile)
    description = (
        f"{plan.together} bytes a step, {tile_parameters.rows}x{tile_parameters.pixels} pixels, "
        f"{tile_parameters.channel_vectors} vectors of {plan.channels.lanes}"
    )
    return Kernel(symbol, spec, emit.function(symbol, parameters, body), parameters, pack, tile, description)


def _in_c(plan: BytePlan, isa: Isa) -> ModuleType | None:
    """The template of a micro-kernel in C that computes a contraction, the best one, if there is one."""
    return next((form for form in (byte_vectors, byte_rows, byte_taps) if form.fits(plan, isa)), None)


def _accumulate(plan: BytePlan, tile: Tile, buffers: Buffers, isa: Isa) -> Sums:
    """Emit the sums of a tile."""
    return (_accumulate_scalars if isa.is_scalar else _accumulate_vectors)(plan, tile, buffers)


def _accumulate_vectors(plan: BytePlan, tile: Tile, buffers: Buffers) -> Sums:
    """Emit the sums of a tile; those in 16 bits are widened where they could overflow."""
    if plan.method.lane_bits == 32:
        sums = zeros(tile, "int32")
        for stage in plan.stages:
            _add_steps(plan, tile, buffers, sums, stage.levels, stage.offset, stage.first)
        return sums
    if plan.steps <= plan.short_steps():
        sums = zeros(tile, "int16")
        for stage in plan.stages:
            _add_steps(plan, tile, buffers, sums, stage.levels, stage.offset, stage.first)
        return sums
    totals = zeros(tile, "int32")
    for stage in plan.stages:
        for offset, number, levels in walk_chunks(stage.levels, plan.short_steps()):
            sums = zeros(tile, "int16")
            _add_steps(plan, tile, buffers, sums, levels, stage.offset + offset, stage.first + number)
            for key, total in totals.items():
                lanes = int(total.shape[0])
                part = as_int32(emit.load(sums[key], 0, lanes))
                emit.store(total, emit.load(total, 0, lanes) + part, 0)
    return totals


def _add_steps(
    plan: BytePlan, tile: Tile, buffers: Buffers, sums: Sums, levels: Levels, offset: Index, number: Index
) -> None:
    """Emit the steps of `levels`, the first of which is number `number`, at byte `offset` of the window."""
    starts, method = plan.starts(tile), plan.method
    for further, step in walk(levels):
        weights = []
        for vector in tile.vectors:
            place = (vector.channel * plan.steps + (number + step) * vector.width) * plan.together
            weights.append(load_weights(method, buffers["weight"], place, vector.width))
        for p, start in enumerate(starts):
            item = emit.bind(load_item(method, buffers["input"], start + offset + further))
            spread = {vector.width: spread_item(method, item, vector.width) for vector in tile.vectors}
            for v, vector in enumerate(tile.vectors):
                add_products(method, sums[p, v], spread[vector.width], weights[v], vector.width)


def _accumulate_scalars(plan: BytePlan, tile: Tile, buffers: Buffers) -> Sums:
    """The same in loops over the lanes."""
    sums = zeros(tile, "int32", loop=True)
    starts = plan.starts(tile)
    (stage,) = plan.stages
    for offset, number in walk(stage.levels):
        inputs = [emit.bind(T.Cast("int32", buffers["input"][start + offset])) for start in starts]
        for v, vector in enumerate(tile.vectors):
            place = vector.channel * plan.steps + number * vector.width
            for lane in each_lane(vector.valid):
                weight = emit.bind(T.Cast("int32", buffers["weight"][place + lane]))
                for p, x in enumerate(inputs):
                    T.buffer_store(sums[p, v], sums[p, v][lane] + x * weight, [lane])
    return sums
