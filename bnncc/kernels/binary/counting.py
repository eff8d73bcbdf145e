# SPDX-License-Identifier: Apache-2.0
"""How a binary convolution counts the mismatches of a register tile: what all forms have in common."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.binary.halved import Halved
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.kernel import Parameter
from bnncc.kernels.nest import Pixels, Tile, Vector, each_lane
from bnncc.kernels.tiles import Sums, local_piece


class Form:
    """How the mismatches of a register tile are counted.

    Sums are keyed by (pixel, vector) of the tile; those for the taps of a ternary input that count at all
    by (pixel, ~vector).
    """

    is_scalar = False
    """Whether sums are read one by one."""

    dtype = "int32"
    """Of the sums."""

    halved: Halved | None = None
    """What the epilogue becomes where it is fed with half of the value."""

    def __init__(self, plan: BinaryPlan):
        self.plan = plan
        self.pixels = Pixels.of(plan.spec, plan.root.window)
        more = tuple(f"input{b}" for b in range(1, plan.root.grid.planes))
        self.names = ("input", "mask") if plan.root.ternary_input else ("input", *more)

    def inputs(self) -> tuple[Parameter, ...]:
        """Parameters of the root's inputs."""
        layouts = zip(self.names, self.plan.spec.inputs, strict=True)
        return tuple(emit.input_parameter(name, layout, self.plan.dtype) for name, layout in layouts)

    def weight(self) -> Parameter:
        """Parameter of the weights."""
        plan = self.plan
        extent = plan.channels.stored * plan.steps * plan.planes
        doc = f"weight bits [vectors][{plan.steps}][{plan.planes}][lanes]"
        return emit.constant_parameter("weight", plan.dtype, extent, doc)

    def pack_weight(self, weight: np.ndarray) -> np.ndarray:
        """int8 [O, KH, KW, C/groups] in the stored form of `weight`."""
        return self.plan.pack_weight(weight)

    def count(self, tile: Tile, buffers: Buffers) -> Sums:
        """Emit the counting of a tile."""
        raise NotImplementedError

    def compared(self, total: Buffer, limits: Buffer, first: Index, vector: Vector) -> Value:
        """The bits total[lane] <= limits[first + lane] of a vector as a word; for forms that are scalar."""
        word = emit.local("uint32", 1, "word")
        T.buffer_store(word, tirx.const(0, "uint32"), [0])
        for lane in each_lane(vector.valid):
            bit = T.Cast("uint32", total[lane] <= limits[first + lane])
            T.buffer_store(word, word[0] | (bit << T.Cast("uint32", lane)), [0])
        return word[0]

    def value(self, total: Buffer, offset: Index, lanes: int, most: Value) -> Value:
        """most - step * mismatches, of `lanes` lanes of a sum from `offset` on; half of it where the epilogue
        is `halved`, and most with it."""
        count = as_int32(local_piece(total, offset, lanes))
        if self.halved is not None:
            return less_clipped(most, count) if self.halved.clips else most - count
        return most - count * emit.constant(self.plan.root.grid.step, "int32", lanes)

    def starts(self, tile: Tile) -> list[list[Index]]:
        """For each pixel and input the item at which the pixel's window starts."""
        window, items = self.plan.root.window, self.plan.items_per_word
        result = []
        for row, column in tile.pixels():
            n, y, x = self.pixels.position(tile.image, row, column)
            top, left = y * window.stride_y - window.top, x * window.stride_x - window.left
            result.append(
                [
                    emit.pixel_address(layout, n, top, left, items) + tile.group * self.plan.items
                    for layout in self.plan.spec.inputs
                ]
            )
        return result

    def weight_at(self, vector: Vector, number: Index, plane: int) -> list[Index]:
        """The places of a step's weights in their buffer: signs, and where masked which are not zero."""
        plan = self.plan
        first = number * plan.planes + plane * plan.planes_each
        return [
            vector.channel * (plan.steps * plan.planes) + (first + i) * vector.width
            for i in range(plan.planes_each)
        ]

    def read_at(self, starts: list[Index], plane: int, buffers: Buffers) -> list[tuple[Buffer, Index]]:
        """The buffers to read a plane of the activations from, the mask included, and where they start."""
        chosen = range(2) if self.plan.root.ternary_input else (plane,)
        return [(buffers[self.names[i]], starts[i]) for i in chosen]

    def doubled(self, sums: Sums) -> Iterator[tuple[int, int]]:
        """The pairs (plane of the activations, plane of the weights) to count, the sums doubled where it is
        their turn."""
        for turn, pairs in enumerate(self.plan.exponents()):
            for total in sums.values() if turn else ():
                self.double(total)
            yield from pairs

    def double(self, total: Buffer) -> None:
        """Emit the doubling of a local."""
        value = emit.load(total, 0, extent_of(total))
        emit.store(total, value + value, 0)

    def zeros(self, tile: Tile, dtype: str) -> Sums:
        """Locals for every sum, zeroed."""
        kinds = 2 if self.plan.root.ternary_input else 1
        sums = {
            (p, key): emit.local(dtype, vector.width, "mismatches")
            for p in range(tile.rows * tile.columns)
            for v, vector in enumerate(tile.vectors)
            for key in (v, ~v)[:kinds]
        }
        for total in sums.values():
            self.clear(total)
        return sums

    def clear(self, total: Buffer) -> None:
        """Emit the zeroing of a local."""
        emit.store(total, emit.constant(0, total.dtype, extent_of(total)), 0)


def as_int32(value: Value) -> Value:
    """Numbers in lanes of 32 bits."""
    return T.Cast(emit.vector_type("int32", emit.lanes_of(value)), value)


def less_clipped(most: Value, count: Value) -> Value:
    """most - count, 0 where it would be negative: subtractions of words that saturate, as both are numbers of
    16 bits in lanes of 32."""
    lanes = emit.lanes_of(count)
    words = emit.vector_type("uint16", 2 * lanes)
    difference = T.call_llvm_pure_intrin(
        words, "llvm.usub.sat", T.reinterpret(words, most), T.reinterpret(words, count)
    )
    return T.reinterpret(emit.vector_type("int32", lanes), difference)


def extent_of(local: Buffer) -> int:
    """Elements of a local."""
    return int(local.shape[0])
