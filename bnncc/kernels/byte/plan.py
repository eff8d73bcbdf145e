# SPDX-License-Identifier: Apache-2.0
"""What the templates of contractions of bytes share: the plan, and the locals that sums are kept in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.byte.steps import CENTRE, Method, method_of
from bnncc.kernels.emit import Buffer, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.interleave import merge_groups, pad_lanes
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Parameter
from bnncc.kernels.nest import Channels, Level, Levels, Pixels, Tile, count_steps, each_lane, fuse
from bnncc.kernels.tiles import Sums
from bnncc.plan.kernel import ByteConv, KernelSpec
from bnncc.plan.layout import WORD_BITS


@dataclass(frozen=True)
class Stage:
    """Steps of a window: `levels` walks them from byte `offset` of it on, `loads` steps at a time. first: the
    number of steps before. length: of these steps in a run."""

    levels: Levels
    offset: int
    first: int
    loads: int = 1
    length: int = 1


@dataclass(frozen=True)
class BytePlan:
    """Facts of a contraction of bytes. outer: the walk over the runs of the window; run: bytes of a run,
    `stride` apart. joined: groups merged into one of `channels.groups`, with zero weights between them."""

    spec: KernelSpec
    root: ByteConv
    channels: Channels
    pixels: Pixels
    outer: Levels
    run: int
    stride: int
    method: Method
    joined: int = 1

    @property
    def together(self) -> int:
        """Neighbouring bytes of a step."""
        return self.method.together

    @staticmethod
    def of(spec: KernelSpec, isa: Isa) -> BytePlan:
        """Plan for the vectors of an instruction set."""
        root = root_of(spec)
        window, strides = root.window, root.input.strides
        if is_depthwise(root, spec.shape[3]):
            return BytePlan._by_channel(spec, root, isa)
        depth, outputs = root.input.shape[3] // root.groups, spec.shape[3] // root.groups
        for joined in (m for m in range(1, root.groups + 1) if root.groups % m == 0):
            levels = fuse(
                (
                    Level(window.height, window.dilation_y * strides[1]),
                    Level(window.width, window.dilation_x * strides[2]),
                    Level(depth * joined, strides[3]),
                )
            )
            last = levels[-1] if levels else Level(1, 1)
            method = method_of(isa, last, root.weight_planes)
            lanes = default_lanes(spec, isa, method, outputs)
            unit = max(lanes, WORD_BITS) if spec.writes_bits else lanes
            if outputs * joined % unit == 0:
                break
        narrowest = 8 if method.together == 2 else 4
        channels = Channels(root.groups // joined, outputs * joined, lanes, unit, narrowest)
        pixels = Pixels.of(spec, window)
        return BytePlan(spec, root, channels, pixels, levels[:-1], last.extent, last.stride, method, joined)

    @staticmethod
    def _by_channel(spec: KernelSpec, root: ByteConv, isa: Isa) -> BytePlan:
        """Every channel by itself: steps are the taps of the window, and channels lie in the lanes."""
        window, strides = root.window, root.input.strides
        levels = fuse(
            (
                Level(window.height, window.dilation_y * strides[1]),
                Level(window.width, window.dilation_x * strides[2]),
            )
        )
        pixels = Pixels.of(spec, window)
        method = _method_by_channel(root, pixels, isa)
        lanes = 8 if isa.is_neon else default_lanes(spec, isa, method, spec.shape[3])
        unit = max(lanes, WORD_BITS) if spec.writes_bits else lanes
        channels = Channels(1, spec.shape[3], lanes, unit, narrowest=8 if isa.is_neon else 4)
        return BytePlan(spec, root, channels, pixels, levels, 1, 1, method)

    @property
    def lowest(self) -> int:
        """What the smallest factor that activations are multiplied as stands for, less that factor."""
        return self.root.lowest + (CENTRE if self.method.neon else 0)

    @property
    def is_depthwise(self) -> bool:
        """Whether every channel is summed by itself."""
        return is_depthwise(self.root, self.spec.shape[3])

    @property
    def runs(self) -> int:
        """Runs of a window."""
        return count_steps(self.outer)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The steps that lie side by side, as many as are loaded together, then fewer; then those at the ends
        of the runs."""
        whole, rest = divmod(self.run, self.together)
        stages: list[Stage] = []
        done = 0
        for loads in self.method.loads:
            turns = (whole - done) // loads
            if turns:
                levels = fuse((*self.outer, Level(turns, loads * self.together * self.stride)))
                offset = done * self.together * self.stride
                stages.append(Stage(levels, offset, self.runs * done, loads, turns * loads))
                done += turns * loads
        if rest:
            stages.append(Stage(self.outer, self.run - self.together, self.runs * whole))
        return tuple(stages)

    @property
    def steps(self) -> int:
        """Steps of a window."""
        if self.method.by_columns:
            return self.root.window.width * -(-self.root.window.height // self.together)
        return self.runs * -(-self.run // self.together)

    def short_steps(self) -> int:
        """How many steps 16 bits hold the sum of."""
        return self.method.short_steps(self.root.weight_planes)

    @property
    def base_parameter(self) -> Parameter:
        """What each channel has to be added (`pack_base`)."""
        return emit.constant_parameter("base", "int32", self.channels.stored, "the sum of no levels")

    def start(self, image: Index, row: Index, column: Index) -> Index:
        """Where in the input's buffer the window of a pixel starts."""
        window = self.root.window
        n, y, x = self.pixels.position(image, row, column)
        top, left = y * window.stride_y - window.top, x * window.stride_x - window.left
        return emit.pixel_address(self.root.input, n, top, left)

    def starts(self, tile: Tile) -> list[Index]:
        """Where in the input's buffer the window of each pixel starts."""
        starts = [self.start(tile.image, row, column) for row, column in tile.pixels()]
        if self.channels.groups == 1:
            return starts
        depth = self.root.input.shape[3] // self.channels.groups
        return [start + tile.group * (depth * self.root.input.strides[3]) for start in starts]

    def pack_weight(self, weight: np.ndarray) -> np.ndarray:
        """int8 [O, KH, KW, C] to the stored form, flat."""
        if self.method.by_columns:
            return self.method.pack(grouped(weight, self.together), self.channels)
        weight = merge_groups(weight, self.root.groups, self.joined)
        runs = weight.reshape(len(weight), self.runs, self.run)
        rest = self.run % self.together
        parts = []
        for stage in self.stages:
            first = stage.first // self.runs * self.together
            part = runs[:, :, first : first + stage.length * self.together]
            if part.shape[2] < self.together:
                part = np.pad(part, [(0, 0), (0, 0), (self.together - rest, 0)])
            parts.append(part.reshape(len(weight), -1, self.together))
        return self.method.pack(np.concatenate(parts, axis=1), self.channels)

    def pack_base(self, weight: np.ndarray) -> np.ndarray:
        """What each channel has to be added, because byte 0 stands for `lowest`: int32 [stored]."""
        total = weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int32) * self.lowest
        return pad_lanes(total.astype(np.int32), self.channels)


MOST_TAPS = 25
"""Of windows whose columns stand unrolled."""


def _method_by_channel(root: ByteConv, pixels: Pixels, isa: Isa) -> Method:
    """How every channel is summed by itself."""
    if isa.is_neon:
        return Method(1, 32, neon="pairs")
    height, width = root.window.height, root.window.width
    is_image = pixels.order == "image" and root.input.strides[3] == 1
    if isa.has_byte_pairs and is_image and height > 1 and height * width <= MOST_TAPS:
        return Method(4, 32, by_columns=True) if isa.has_byte_dot else Method(2, 32, "int16", by_columns=True)
    return Method(1, 32)


def grouped(weight: np.ndarray, together: int) -> np.ndarray:
    """int8 [C, KH, KW, 1] to [C, steps, rows of a group], for `byte.columns`."""
    channels, height, _, _ = weight.shape
    rows = np.pad(weight[..., 0].transpose(0, 2, 1), [(0, 0), (0, 0), (0, -height % together)])
    return rows.reshape(channels, -1, together)


def root_of(spec: KernelSpec) -> ByteConv:
    """The root of `spec`."""
    assert isinstance(spec.root, ByteConv)
    return spec.root


def default_lanes(spec: KernelSpec, isa: Isa, method: Method, outputs: int) -> int:
    """Output channels of a vector; in scalar code, of an inner loop. outputs: of a group, or all where every
    channel is summed by itself."""
    if not isa.is_scalar:
        return isa.vector_bits // method.lane_bits
    if spec.writes_bits:
        return WORD_BITS
    if outputs == spec.shape[3]:
        return min(16, outputs)
    # A whole part of a group: vectors across groups would multiply by the zeros between them.
    return next(lanes for lanes in range(16, 0, -1) if outputs % lanes == 0)


def is_depthwise(root: ByteConv, outputs: int) -> bool:
    """Whether there are as many groups as channels, in and out."""
    return 1 < root.groups == root.input.shape[3] == outputs


def zeros(tile: Tile, dtype: str, loop: bool = False) -> Sums:
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


def as_int32(value: Value) -> Value:
    """In lanes of 32 bits."""
    return T.Cast(emit.vector_type("int32", emit.lanes_of(value)), value)


def store_sums(
    plan: BytePlan, tile: Tile, first: Index, count: int, sums: Buffer, pitch: int, epilogue: Epilogue
) -> None:
    """Emit the epilogue of the sums [pixels][pitch] of channels [first, first + count) of a tile's group."""
    channel = emit.bind_index(tile.group * plan.channels.count + first)
    for pixel, at in enumerate(tile.pixels()):

        def value(offset: Index, lanes: int, start: int = pixel * pitch) -> Value:
            return sums[start + offset]

        epilogue.store(plan.pixels.position(tile.image, *at), channel, count, value)
