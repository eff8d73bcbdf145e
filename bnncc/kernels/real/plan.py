# SPDX-License-Identifier: Apache-2.0
"""What the templates of real convolutions share: the plan, the register tile, the assembly of the kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.epilogue_values import Position
from bnncc.kernels.interleave import interleave
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import (
    Channels,
    Level,
    Levels,
    Pixels,
    Schedule,
    Tile,
    Vector,
    count_steps,
    each_lane,
    fuse,
    register_tiles,
)
from bnncc.kernels.tiles import Sums, local_piece, store_tile
from bnncc.plan.kernel import KernelSpec, RealConv
from bnncc.plan.layout import WORD_BITS


@dataclass(frozen=True)
class RealPlan:
    """Facts of a real convolution. inputs: channels of a group. levels: the walk over its window."""

    spec: KernelSpec
    root: RealConv
    channels: Channels
    pixels: Pixels
    inputs: int
    levels: Levels

    @staticmethod
    def of(spec: KernelSpec, lanes: int) -> RealPlan:
        """Plan for vectors of `lanes` output channels, which divide the groups where there are several."""
        root = spec.root
        assert isinstance(root, RealConv)
        unit = max(lanes, WORD_BITS) if spec.writes_bits else lanes
        inputs, outputs = root.input.shape[3] // root.groups, spec.shape[3] // root.groups
        assert root.groups == 1 or outputs % unit == 0
        levels = fuse(window_levels(root, inputs))
        channels = Channels(root.groups, outputs, lanes, unit)
        return RealPlan(spec, root, channels, Pixels.of(spec, root.window), inputs, levels)

    @property
    def steps(self) -> int:
        """Steps of one window."""
        return count_steps(self.levels)

    def starts(self, tile: Tile) -> list[Index]:
        """Where in the input's buffer the window of each pixel starts."""
        channel = tile.group * (self.inputs * self.root.input.strides[3])
        return [start + channel for start in window_starts(self.root, self.pixels, tile)]

    def weight_at(self, vector: Vector, number: Index) -> Index:
        """The place of a step's weights in their buffer."""
        return vector.channel * self.steps + number * vector.width

    def pack_weight(self, weight: np.ndarray) -> np.ndarray:
        """float32 [O, KH, KW, C/groups] to the stored form, flat."""
        return interleave(weight.reshape(len(weight), self.steps), self.channels)


def root_of(spec: KernelSpec) -> RealConv:
    """The root of `spec`."""
    assert isinstance(spec.root, RealConv)
    return spec.root


def window_levels(root: RealConv, inputs: int) -> Levels:
    """The walk over the window of so many input channels."""
    window, strides = root.window, root.input.strides
    return (
        Level(window.height, window.dilation_y * strides[1]),
        Level(window.width, window.dilation_x * strides[2]),
        Level(inputs, strides[3]),
    )


def window_starts(root: RealConv, pixels: Pixels, tile: Tile) -> list[Index]:
    """Where in the input's buffer channel 0 of the first tap of each pixel of a tile lies."""
    window, result = root.window, []
    for row, column in tile.pixels():
        n, y, x = pixels.position(tile.image, row, column)
        top, left = y * window.stride_y - window.top, x * window.stride_x - window.left
        result.append(emit.pixel_address(root.input, n, top, left))
    return result


def default_lanes(spec: KernelSpec, isa: Isa) -> int:
    """Output channels of a vector; in scalar code, of an inner loop: whole groups, or a part of one."""
    if not isa.is_scalar:
        return isa.lanes
    if spec.writes_bits:
        return WORD_BITS
    groups = root_of(spec).groups
    outputs = spec.shape[3] // groups
    if groups == 1 or outputs <= 16:
        return min(16, min(16 // min(outputs, 16), groups) * outputs)
    return next(lanes for lanes in range(16, 0, -1) if outputs % lanes == 0)


def assemble_kernel(
    spec: KernelSpec,
    isa: Isa,
    schedule: Schedule,
    plan: RealPlan,
    accumulate: Callable[[RealPlan, Tile, Buffers], Sums],
) -> Kernel:
    """The kernel that sums register tiles by `accumulate` and hands them to the epilogue."""
    epilogue = Epilogue(spec, isa)
    doc = f"weight [vectors][{plan.steps}][lanes]"
    parameters = (
        emit.input_parameter("input", plan.root.input),
        *epilogue.operands,
        emit.constant_parameter("weight", "float32", plan.channels.stored * plan.steps, doc),
        *epilogue.constants,
        *epilogue.outputs,
    )

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        for tile in register_tiles(plan.pixels, plan.channels, plan.channels.whole_units(schedule)):
            sums = accumulate(plan, tile, buffers)

            def value(
                pixel: int, position: Position, number: int, offset: Index, lanes: int, sums: Sums = sums
            ) -> Value:
                return local_piece(sums[pixel, number], offset, lanes)

            store_tile(epilogue, plan.pixels, tile, value)

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return plan.pack_weight(constants[0]), *epilogue.pack(constants)

    tile = schedule.parameters()
    symbol = kernel_symbol(spec, isa, tile)
    description = (
        f"{schedule.rows}x{schedule.pixels} pixels, {schedule.channel_vectors} vectors of {schedule.lanes}"
    )
    return Kernel(symbol, spec, emit.function(symbol, parameters, body), parameters, pack, tile, description)


def zeros(tile: Tile, loop: bool = False) -> Sums:
    """Locals for the sums of a tile, zeroed; in a loop over the lanes where asked for."""
    sums = {
        (p, v): emit.local("float32", vector.width, "sum")
        for p in range(tile.rows * tile.columns)
        for v, vector in enumerate(tile.vectors)
    }
    for (_, v), total in sums.items():
        if loop:
            for lane in each_lane(tile.vectors[v].valid):
                T.buffer_store(total, tirx.const(0, "float32"), [lane])
        else:
            emit.store(total, emit.constant(0, "float32", tile.vectors[v].width), 0)
    return sums


def add_product(total: Buffer, left: Value, right: Value) -> None:
    """Emit total += left * right."""
    emit.store(total, emit.load(total, 0, emit.lanes_of(left)) + left * right, 0)
