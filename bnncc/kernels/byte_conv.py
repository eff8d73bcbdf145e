# SPDX-License-Identifier: Apache-2.0
"""Convolutions and dense layers of bytes and small integer weights: 8-bit pixels in front of binary weights.

Output channels lie in the lanes. A step multiplies a few neighbouring activations, the same in every lane,
with as many weights of each channel and adds the products up:

- four bytes at a time in lanes of 32 bits (VPDPBUSD of AVX-512 VNNI);
- two in lanes of 16 bits (PMADDUBSW of SSSE3, AVX2, AVX-512BW), widened before they can overflow;
- four as two pairs of 16 bits in lanes of 32 (PMADDWD), for weights so large that they would at once;
- one in lanes of 16 or 32 bits, where there is no such instruction or no such neighbours;
- one after the other in plain loops (portable C).

A run of neighbouring bytes that does not divide by the bytes of a step ends in a step that reads some of them
once more, with zero weights: nothing beyond the image is read.

Stored weights, int8 or int16: [vectors][steps][lanes][bytes of a step]; the pairs of PMADDWD
[vectors][steps][2][lanes][2].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.byte_steps import Method, add_products, load_item, load_weights, method_of, spread_item
from bnncc.kernels.emit import Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue, Position
from bnncc.kernels.interleave import pad_lanes
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import (
    Channels,
    Level,
    Levels,
    Pixels,
    Schedule,
    Tile,
    count_steps,
    each_lane,
    fuse,
    register_schedule,
    register_tiles,
    schedules,
    walk,
    walk_chunks,
)
from bnncc.kernels.tiles import Sums, local_piece, store_tile
from bnncc.plan.kernel import ByteConv, KernelSpec
from bnncc.plan.layout import WORD_BITS


@dataclass(frozen=True)
class Stage:
    """Steps of a window: `levels` walks them from byte `offset` of it on. first: the number of steps
    before."""

    levels: Levels
    offset: int
    first: int


@dataclass(frozen=True)
class BytePlan:
    """Facts of a contraction of bytes. outer: the walk over the runs of the window; run: bytes of a run,
    `stride` apart."""

    spec: KernelSpec
    root: ByteConv
    channels: Channels
    pixels: Pixels
    outer: Levels
    run: int
    stride: int
    method: Method

    @property
    def together(self) -> int:
        """Neighbouring bytes of a step."""
        return self.method.together

    @staticmethod
    def of(spec: KernelSpec, isa: Isa) -> BytePlan:
        """Plan for the vectors of an instruction set."""
        root = root_of(spec)
        window, strides = root.window, root.input.strides
        levels = fuse(
            (
                Level(window.height, window.dilation_y * strides[1]),
                Level(window.width, window.dilation_x * strides[2]),
                Level(root.input.shape[3], strides[3]),
            )
        )
        last = levels[-1] if levels else Level(1, 1)
        method = method_of(isa, last, root.weight_planes)
        lanes = default_lanes(spec, isa, method)
        unit = max(lanes, WORD_BITS) if spec.writes_bits else lanes
        channels = Channels(1, spec.shape[3], lanes, unit, narrowest=8 if method.together == 2 else 4)
        pixels = Pixels.of(spec, window)
        return BytePlan(spec, root, channels, pixels, levels[:-1], last.extent, last.stride, method)

    @property
    def runs(self) -> int:
        """Runs of a window."""
        return count_steps(self.outer)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The steps that lie side by side, then those at the ends of the runs."""
        whole, rest = divmod(self.run, self.together)
        stages = (Stage(fuse((*self.outer, Level(whole, self.together * self.stride))), 0, 0),)
        if rest:
            stages += (Stage(self.outer, self.run - self.together, self.runs * whole),)
        return stages

    @property
    def steps(self) -> int:
        """Steps of a window."""
        return self.runs * -(-self.run // self.together)

    def short_steps(self) -> int:
        """How many steps 16 bits hold the sum of."""
        return self.method.short_steps(self.root.weight_planes)

    def starts(self, tile: Tile) -> list[Index]:
        """Where in the input's buffer the window of each pixel starts."""
        window, result = self.root.window, []
        for row, column in tile.pixels():
            n, y, x = self.pixels.position(tile.image, row, column)
            top, left = y * window.stride_y - window.top, x * window.stride_x - window.left
            result.append(emit.pixel_address(self.root.input, n, top, left))
        return result

    def pack_weight(self, weight: np.ndarray) -> np.ndarray:
        """int8 [O, KH, KW, C] to the stored form, flat."""
        runs = weight.reshape(len(weight), self.runs, self.run)
        whole, rest = divmod(self.run, self.together)
        parts = [runs[:, :, : whole * self.together].reshape(len(weight), -1, self.together)]
        if rest:
            last = np.zeros((len(weight), self.runs, self.together), np.int8)
            last[:, :, -rest:] = runs[:, :, -rest:]
            parts.append(last)
        return self.method.pack(np.concatenate(parts, axis=1), self.channels)

    def pack_base(self, weight: np.ndarray) -> np.ndarray:
        """What each channel has to be added, because byte 0 stands for `lowest`: int32 [stored]."""
        total = weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int32) * self.root.lowest
        return pad_lanes(total.astype(np.int32), self.channels)


def root_of(spec: KernelSpec) -> ByteConv:
    """The root of `spec`."""
    assert isinstance(spec.root, ByteConv)
    return spec.root


def default_lanes(spec: KernelSpec, isa: Isa, method: Method) -> int:
    """Output channels of a vector; in scalar code, of an inner loop."""
    if isa.is_scalar:
        return WORD_BITS if spec.writes_bits else min(16, spec.shape[3])
    return isa.vector_bits // method.lane_bits


def default(spec: KernelSpec, isa: Isa) -> Schedule:
    """A good schedule without tuning: as many accumulators as the registers of the target hold."""
    plan = BytePlan.of(spec, isa)
    # Products of pairs take a register on their way to the sum; with 12 of 16 for sums, AVX2 was a quarter
    # slower than with 8.
    accumulators = 0 if isa.is_scalar else 14 if isa.vector_bits == 512 else 8
    return register_schedule(plan.pixels, spec.shape[3], plan.channels.lanes, accumulators)


def candidates(spec: KernelSpec, isa: Isa) -> Iterator[Schedule]:
    """Schedules worth measuring, the default first."""
    return schedules(default(spec, isa), BytePlan.of(spec, isa).pixels, spec.shape[3], range(3, 25))


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is a ByteConv; schedule: the fields of a Schedule."""
    plan = BytePlan.of(spec, isa)
    tile_parameters = Schedule(**schedule) if schedule else default(spec, isa)
    epilogue = Epilogue(spec, isa)
    total = plan.channels.stored * plan.steps * plan.together
    doc = f"weight [vectors][{plan.steps}][lanes][{plan.together}]"
    base = emit.constant_parameter("base", "int32", plan.channels.stored, "the sum of no levels")
    parameters = (
        emit.input_parameter("input", plan.root.input),
        *epilogue.operands,
        emit.constant_parameter("weight", plan.method.weight, total, doc),
        *((base,) if plan.root.lowest else ()),
        *epilogue.constants,
        *epilogue.outputs,
    )
    accumulate = _accumulate_scalars if isa.is_scalar else _accumulate_vectors

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        for tile in register_tiles(plan.pixels, plan.channels, plan.channels.whole_units(tile_parameters)):
            sums = accumulate(plan, tile, buffers)

            def value(
                pixel: int,
                position: Position,
                number: int,
                offset: Index,
                lanes: int,
                sums: Sums = sums,
                tile: Tile = tile,
            ) -> Value:
                sum_ = _as_int32(local_piece(sums[pixel, number], offset, lanes))
                if not plan.root.lowest:
                    return sum_
                return sum_ + emit.load(buffers["base"], tile.vectors[number].channel + offset, lanes)

            store_tile(epilogue, plan.pixels, tile, value)

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        table = (plan.pack_base(constants[0]),) if plan.root.lowest else ()
        return plan.pack_weight(constants[0]), *table, *epilogue.pack(constants)

    tile = tile_parameters.parameters()
    symbol = kernel_symbol(spec, isa, tile)
    description = (
        f"{plan.together} bytes a step, {tile_parameters.rows}x{tile_parameters.pixels} pixels, "
        f"{tile_parameters.channel_vectors} vectors of {plan.channels.lanes}"
    )
    return Kernel(symbol, spec, emit.function(symbol, parameters, body), parameters, pack, tile, description)


def _accumulate_vectors(plan: BytePlan, tile: Tile, buffers: Buffers) -> Sums:
    """Emit the sums of a tile; those in 16 bits are widened where they could overflow."""
    if plan.method.lane_bits == 32:
        sums = _zeros(tile, "int32")
        for stage in plan.stages:
            _add_steps(plan, tile, buffers, sums, stage.levels, stage.offset, stage.first)
        return sums
    if plan.steps <= plan.short_steps():
        sums = _zeros(tile, "int16")
        for stage in plan.stages:
            _add_steps(plan, tile, buffers, sums, stage.levels, stage.offset, stage.first)
        return sums
    totals = _zeros(tile, "int32")
    for stage in plan.stages:
        for offset, number, levels in walk_chunks(stage.levels, plan.short_steps()):
            sums = _zeros(tile, "int16")
            _add_steps(plan, tile, buffers, sums, levels, stage.offset + offset, stage.first + number)
            for key, total in totals.items():
                lanes = int(total.shape[0])
                part = _as_int32(emit.load(sums[key], 0, lanes))
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
    sums = _zeros(tile, "int32", loop=True)
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


def _zeros(tile: Tile, dtype: str, loop: bool = False) -> Sums:
    """Locals for the sums of a tile, zeroed; in a loop over the lanes where asked for."""
    sums = {
        (p, v): emit.local(dtype, vector.width, "sum")
        for p in range(tile.rows * tile.columns)
        for v, vector in enumerate(tile.vectors)
    }
    for (_, v), total in sums.items():
        if loop:
            for lane in each_lane(tile.vectors[v].valid):
                T.buffer_store(total, tirx.const(0, dtype), [lane])
        else:
            emit.store(total, emit.constant(0, dtype, tile.vectors[v].width), 0)
    return sums


def _as_int32(value: Value) -> Value:
    return T.Cast(emit.vector_type("int32", emit.lanes_of(value)), value)
