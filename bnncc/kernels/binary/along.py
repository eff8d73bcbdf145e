# SPDX-License-Identifier: Apache-2.0
"""Counting mismatches with the reduction along the lanes, where a vector counts the bits of its bytes (NEON).

A vector is 16 bytes of the window, as they lie in memory: activations are shared by a block of output
channels, weights by the pixels of the tile. Each (pixel, channel) adds the counts of its vectors bytewise:
exclusive-or, count, add and nothing else; at the end the bytes of several sums are added up by pairs
(`binary.pairwise`). How the window is cut into vectors is written in `binary.pieces`.

Stored weights, bytes, for each block of channels: all vectors of 16 bytes, all pieces of 8, all of 4, in the
order of the runs; of each the planes, in them the channels of the block side by side. A piece is repeated to
fill a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.binary.counting import Form
from bnncc.kernels.binary.pairwise import MOST_COUNTS, SUMS, Counter, Slots
from bnncc.kernels.binary.pieces import BYTES, Operands, Places, Steps, stages_of
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.emit import Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Parameter
from bnncc.kernels.nest import Pixels, Schedule, Tile, count_steps, each, even_tile, walk_chunks
from bnncc.kernels.tiles import Sums

LANES = 16
"""Output channels that are finished together."""

ACCUMULATORS = 8
"""Registers that a tile may take for its sums: a quarter of them. With 16, LLVM keeps fewer activations in
registers and executes more instructions, 3.6 to 4.2 a vector where it is 3.4 to 3.6."""


def is_possible(isa: Isa) -> bool:
    """Whether the instructions of this form are there. On Armv7, with 16 registers and pairwise additions of
    half vectors, it lost to channels in the lanes."""
    return isa.popcount == "bytes" and isa.architecture == "aarch64"


def default(plan: BinaryPlan, pixels: Pixels) -> Schedule:
    """A good schedule without tuning: up to four pixels in a tile, such that there are few tiles."""
    shapes = [(1, even_tile(pixels.columns, 4))]
    if pixels.columns < 4:
        shapes.append((even_tile(pixels.rows, 4 // pixels.columns), pixels.columns))
    elif pixels.rows > 1:
        # Two rows of two want fewer different vectors of activations, unless more tiles are cut off.
        shapes.insert(0 if any(stage.shared > 1 for stage in stages_of(plan.levels)) else 1, (2, 2))
    rows, columns = min(shapes, key=lambda s: -(-pixels.rows // s[0]) * -(-pixels.columns // s[1]))
    return Schedule(LANES, rows, columns, 1, 1, min(8, ACCUMULATORS // _power_of_two(rows * columns)))


def candidates(pixels: Pixels) -> Iterator[Schedule]:
    """Schedules worth measuring: tiles of up to twice ACCUMULATORS sums."""
    for columns in sorted({even_tile(pixels.columns, most) for most in (1, 2, 3, 4, 6, 8)}):
        for rows in sorted({even_tile(pixels.rows, most) for most in (1, 2, 3)}):
            for channels in (1, 2, 4, 8):
                if rows * columns * channels <= 2 * ACCUMULATORS:
                    yield Schedule(LANES, rows, columns, 1, 1, channels)


def instructions(plan: BinaryPlan, schedule: Schedule) -> float:
    """About how many instructions one output takes. The numbers fit what QEMU counted for cortex-a72."""
    pixels, stages = schedule.rows * schedule.pixels, list(stages_of(plan.levels))
    group = max(stage.shared for stage in stages)
    vectors = sum(count_steps(stage.levels) * -(-pixels // stage.shared) / pixels for stage in stages)
    merging = 0.5 * (group.bit_length() - 1) * max(1, group / pixels)
    return plan.counted_pairs * ((2.5 + plan.planes_each) * vectors + 1.2 + merging)


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


class Along(Form):
    """The form. block: output channels of a register tile, which are finished LANES together."""

    def __init__(self, plan: BinaryPlan, block: int):
        super().__init__(plan)
        assert plan.dtype == "uint32" and not plan.root.ternary_input and block in (1, 2, 4, 8)
        self.block = block
        self.dtype = "int16" if plan.max_count < 1 << 15 else "int32"
        self.stages = tuple(stages_of(plan.levels))
        self.stored_bytes = BYTES * plan.planes * sum(count_steps(stage.levels) for stage in self.stages)
        """Of the weights of a channel."""

    # --- Parameters ---------------------------------------------------------------------------------------

    def inputs(self) -> tuple[Parameter, ...]:
        layouts = zip(self.names, self.plan.spec.inputs, strict=True)
        return tuple(emit.input_parameter(name, layout, "uint8") for name, layout in layouts)

    def weight(self) -> Parameter:
        extent = self.plan.channels.stored * self.stored_bytes
        pieces = ", ".join(f"{count_steps(stage.levels)} of {stage.size} bytes" for stage in self.stages)
        doc = f"weight bits [blocks][{pieces}, repeated][{self.plan.planes}][{self.block} channels][{BYTES}]"
        return emit.constant_parameter("weight", "uint8", extent, doc)

    def pack_weight(self, weight: np.ndarray) -> np.ndarray:
        rows = self.plan.weight_items(weight)  # [O, steps, planes]
        rows = np.pad(rows, [(0, self.plan.channels.stored - len(rows)), (0, 0), (0, 0)])
        rows = np.ascontiguousarray(rows.transpose(0, 2, 1)).astype("<u4").view(np.uint8)
        blocks = rows.reshape(-1, self.block, self.plan.planes, 4 * self.plan.steps)
        places = np.arange(4 * self.plan.steps).reshape(-1, self.stages[-1].run_bytes)
        parts = []
        for stage in self.stages:
            chosen = np.tile(places[:, stage.start : stage.stop].reshape(-1, stage.size), stage.shared)
            pieces = blocks[..., chosen]  # [blocks, channels, planes, pieces, bytes]
            parts.append(pieces.transpose(0, 3, 2, 1, 4).reshape(len(blocks), -1))
        return np.concatenate(parts, axis=1).reshape(-1)

    # --- Code ---------------------------------------------------------------------------------------------

    def count(self, tile: Tile, buffers: Buffers) -> Sums:
        slots = Slots(tile.rows * tile.columns, self.block, max(stage.shared for stage in self.stages))
        starts = [Places.of([start[b] for start in self.starts(tile)]) for b in range(len(self.names))]
        result: Sums = {}
        for v, vector in enumerate(tile.vectors):
            blocks = vector.width // self.block
            sums = emit.local(self.dtype, blocks * slots.stored, "sums")
            for block in each(blocks, "block"):
                row = emit.bind_index((vector.channel + block * self.block) * self.stored_bytes)
                totals = self._block(slots, starts, row, buffers)
                for i, total in enumerate(totals):
                    emit.store(sums, total, block * slots.stored + i * SUMS)
            for p in range(slots.pixels):
                result[p, v] = slots.gathered(p, sums, blocks)
        return result

    def _block(self, slots: Slots, starts: Sequence[Places], row: Index, buffers: Buffers) -> list[Value]:
        """The sums of a block of channels whose weights start at `row`, in vectors of SUMS."""

        def operands(number: int, plane: int) -> Operands:
            source = buffers[self.names[number]]
            return Operands(self.plan, self.block, source, starts[number], buffers["weight"], row, plane)

        turns = [planes for pairs in self.plan.exponents() for planes in pairs]
        if len(turns) == 1 and self._fits_short:
            return Counter(slots, operands(*turns[0])).count(self.stages)
        totals = {(i, 0): emit.local(self.dtype, SUMS, "total") for i in range(slots.stored // SUMS)}
        for total in totals.values():
            self.clear(total)
        for planes in self.doubled(totals):
            for sums in self._parts(slots, operands(*planes)):
                for total, value in zip(totals.values(), sums, strict=True):
                    emit.store(total, emit.load(total, 0, SUMS) + T.Cast(f"{self.dtype}x{SUMS}", value), 0)
        return [emit.load(total, 0, SUMS) for total in totals.values()]

    @property
    def _fits_short(self) -> bool:
        """Whether 16 bits hold the sum over all steps of a pair of planes."""
        return 32 * self.plan.steps < 1 << 15

    def _parts(self, slots: Slots, operands: Operands) -> Iterator[list[Value]]:
        """The sums of all steps; where 16 bits do not hold them, of some steps at a time."""
        if self._fits_short:
            yield Counter(slots, operands).count(self.stages)
            return
        for stage in self.stages:
            for offset, number, levels in walk_chunks(stage.levels, MOST_COUNTS):
                counter = Counter(slots, operands)
                counter.add(Steps.of(stage, offset, number, levels))
                yield counter.finished()
