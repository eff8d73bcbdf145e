# SPDX-License-Identifier: Apache-2.0
"""Counting mismatches with the reduction along the lanes, where a vector counts the bits of its bytes (NEON).

A vector is 16 bytes of the window, as they lie in memory: activations are shared by a block of output
channels, weights by the pixels of the tile. Each (pixel, channel) adds the counts of its vectors bytewise:
exclusive-or, count, add and nothing else; at the end the bytes of several sums are added up by pairs.

The window is a few runs of neighbouring bytes, its rows as a rule. A run is cut into vectors of 16 bytes and
into pieces of 8 and of 4 for what is left. Two pixels share a vector made of their pieces of 8 bytes, four
pixels one made of pieces of 4. By then the sums of these pixels have been put together in one vector too, by
adding neighbouring bytes, so that no lane is ever idle:

    of one pixel          |           16 sums          |
    of two pixels         |  8 sums of p | 8 of p + 1  |
    of four pixels        |4 of p| p + 1 | p + 2 | ... |

Stored weights, bytes, for each block of channels: all vectors of 16 bytes, all pieces of 8, all of 4, in the
order of the runs; of each the planes, in them the channels of the block side by side. A piece is repeated to
fill a vector.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T
from tvm.sym import Analyzer

from bnncc.kernels import emit
from bnncc.kernels.binary_plan import BinaryPlan
from bnncc.kernels.counting import Form
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Parameter
from bnncc.kernels.nest import (
    Level,
    Levels,
    Pixels,
    Schedule,
    Tile,
    count_steps,
    each,
    even_tile,
    fuse,
    walk,
    walk_chunks,
)
from bnncc.kernels.tiles import Sums

BYTES = 16
"""Of a vector."""

LANES = 16
"""Output channels that are finished together."""

SUMS = 8
"""Lanes of a vector of finished sums, 16 bits each."""

ACCUMULATORS = 8
"""Registers that a tile may take for its sums: a quarter of them. With 16, LLVM keeps fewer activations in
registers and executes more instructions, 3.6 to 4.2 a vector where it is 3.4 to 3.6."""

MOST_COUNTS = 31
"""Counts of up to 8 that a byte holds the sum of."""


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
        shapes.insert(0 if any(stage.shared > 1 for stage in _stages(plan.levels)) else 1, (2, 2))
    rows, columns = min(shapes, key=lambda s: -(-pixels.rows // s[0]) * -(-pixels.columns // s[1]))
    return Schedule(LANES, rows, columns, 1, 1, min(8, ACCUMULATORS // _power_of_two(rows * columns)))


def instructions(plan: BinaryPlan, schedule: Schedule) -> float:
    """About how many instructions one output takes. The numbers fit what QEMU counted for cortex-a72."""
    pixels, stages = schedule.rows * schedule.pixels, list(_stages(plan.levels))
    group = max(stage.shared for stage in stages)
    vectors = sum(count_steps(stage.levels) * -(-pixels // stage.shared) / pixels for stage in stages)
    merging = 0.5 * (group.bit_length() - 1) * max(1, group / pixels)
    return plan.counted_pairs * ((2.5 + plan.planes_each) * vectors + 1.2 + merging)


def _neon(dtype: str, name: str, *values: Value) -> Value:
    return emit.bind(T.call_llvm_pure_intrin(dtype, f"llvm.aarch64.neon.{name}", *values))


def _added(left: Value, right: Value) -> Value:
    """Neighbouring lanes added: those of `left`, then those of `right`."""
    dtype = str(left.ty.dtype)
    return _neon(dtype, "addp.v16i8" if dtype == "uint8x16" else "addp.v8i16", left, right)


def _widened(value: Value) -> Value:
    """Neighbouring bytes added to lanes of 16 bits."""
    return _neon("int16x8", "uaddlp.v8i16.v16i8", value)


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


class Along(Form):
    """The form. block: output channels of a register tile, which are finished LANES together."""

    def __init__(self, plan: BinaryPlan, block: int):
        super().__init__(plan)
        assert plan.dtype == "uint32" and not plan.root.ternary_input and block in (1, 2, 4, 8)
        self.block = block
        self.dtype = "int16" if plan.max_count < 1 << 15 else "int32"
        self.stages = tuple(_stages(plan.levels))
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
        slots = _Slots(tile.rows * tile.columns, self.block, max(stage.shared for stage in self.stages))
        starts = [_Places.of([start[b] for start in self.starts(tile)]) for b in range(len(self.names))]
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

    def _block(self, slots: _Slots, starts: Sequence[_Places], row: Index, buffers: Buffers) -> list[Value]:
        """The sums of a block of channels whose weights start at `row`, in vectors of SUMS."""

        def chunk(planes: tuple[int, int], steps: Sequence[_Steps]) -> list[Value]:
            number, plane = planes
            operands = _Operands(
                self, buffers[self.names[number]], starts[number], buffers["weight"], row, plane
            )
            counts = _Counter(slots, operands).count(steps)
            return counts if self.dtype == "int16" else [T.Cast(f"int32x{SUMS}", count) for count in counts]

        turns = list(self.plan.exponents())
        if len(turns) == 1 and self._is_one_chunk:
            return chunk(turns[0][0], next(self._chunks()))
        totals = {(i, 0): emit.local(self.dtype, SUMS, "total") for i in range(slots.stored // SUMS)}
        for total in totals.values():
            self.clear(total)
        for planes in self.doubled(totals):
            for steps in self._chunks():
                for total, count in zip(totals.values(), chunk(planes, steps), strict=True):
                    emit.store(total, emit.load(total, 0, SUMS) + count, 0)
        return [emit.load(total, 0, SUMS) for total in totals.values()]

    @property
    def _is_one_chunk(self) -> bool:
        return sum(count_steps(stage.levels) for stage in self.stages) <= MOST_COUNTS

    def _chunks(self) -> Iterator[list[_Steps]]:
        """What is counted at once: all stages where they are few steps, else some steps of one, in loops."""
        if self._is_one_chunk:
            yield [_Steps.of(stage, 0, 0, stage.levels) for stage in self.stages]
            return
        for stage in self.stages:
            for offset, number, levels in walk_chunks(stage.levels, MOST_COUNTS):
                yield [_Steps.of(stage, offset, number, levels)]


@dataclass(frozen=True)
class _Stage:
    """All pieces of one size: bytes [start, stop) of each run of `run_bytes`, walked by `levels` in the
    input. first: the number of pieces in the stages before."""

    size: int
    start: int
    stop: int
    run_bytes: int
    levels: Levels
    first: int

    @property
    def shared(self) -> int:
        """Pixels that share a vector."""
        return BYTES // self.size


def _stages(levels: Levels) -> Iterator[_Stage]:
    """The stages of a walk over words."""
    is_run = bool(levels) and levels[-1].stride == 1
    run_bytes, outer = (4 * levels[-1].extent, levels[:-1]) if is_run else (4, levels)
    runs = tuple(Level(level.extent, 4 * level.stride) for level in outer)
    start = first = 0
    for size in (BYTES, BYTES // 2, BYTES // 4):
        count = (run_bytes - start) // size
        if count:
            stop = start + count * size
            levels = fuse((*runs, Level(count, size)))
            yield _Stage(size, start, stop, run_bytes, levels, first)
            start, first = stop, first + count_steps(levels)


@dataclass(frozen=True)
class _Steps:
    """Some pieces of one stage: how far each lies from the start of the window, and its number among those
    stored."""

    stage: _Stage
    offsets: tuple[tuple[Index, Index], ...]

    @staticmethod
    def of(stage: _Stage, offset: Index, number: Index, levels: Levels) -> _Steps:
        """The steps of `levels`, of which the first is (offset, number)."""
        steps = list(walk(levels, count_steps(levels)))
        return _Steps(
            stage,
            tuple((stage.start + offset + o, stage.first + number + n) for o, n in steps),
        )


@dataclass(frozen=True)
class _Places:
    """Where the windows of the pixels start: an index and a number known now, for each pixel."""

    starts: tuple[tuple[Index, int], ...]

    @staticmethod
    def of(words: Sequence[Index]) -> _Places:
        """From indices of words; most are a known number of words from the first."""
        analyzer = Analyzer()
        first = emit.bind_index(words[0] * 4)
        result: list[tuple[Index, int]] = []
        for word in words:
            distance = word - words[0]
            distance = distance if isinstance(distance, int) else analyzer.simplify(distance)
            known = distance if isinstance(distance, int) else getattr(distance, "value", None)
            result.append((emit.bind_index(word * 4), 0) if known is None else (first, 4 * int(known)))
        return _Places(tuple(result))

    def follow(self, pixels: Sequence[int], size: int) -> bool:
        """Whether the pieces of these pixels lie one behind the other."""
        (base, first), *others = (self.starts[p] for p in pixels)
        return all(b is base and at == first + i * size for i, (b, at) in enumerate(others, start=1))


Slot = tuple[int, int]
"""A (pixel, channel) of a register tile."""


@dataclass(frozen=True)
class _Slots:
    """The order of the sums of `pixels` x `channels` in vectors, such that `group` pixels of one channel are
    neighbours. Where pixels are missing in a group the last stands for them."""

    pixels: int
    channels: int
    group: int

    @property
    def order(self) -> list[Slot]:
        """The slot of each place."""
        return [
            (min(first + p, self.pixels - 1), c)
            for first in range(0, self.pixels, self.group)
            for c in range(self.channels)
            for p in range(self.group)
        ]

    @property
    def stored(self) -> int:
        """Places in whole vectors of sums."""
        return -(-len(self.order) // SUMS) * SUMS

    def gathered(self, pixel: int, sums: Buffer, blocks: int) -> Buffer:
        """The sums of all channels of a pixel as one local; `sums` are those of `blocks` blocks."""
        places = [self.order.index((pixel, c)) for c in range(self.channels)]
        vectors = sorted({place // SUMS for place in places})
        parts = [emit.load(sums, b * self.stored + i * SUMS, SUMS) for b in range(blocks) for i in vectors]
        chosen = [
            (b * len(vectors) + vectors.index(place // SUMS)) * SUMS + place % SUMS
            for b in range(blocks)
            for place in places
        ]
        result = emit.local(sums.dtype, blocks * self.channels, "mismatches")
        emit.store(result, tirx.Shuffle(parts, list[Any](chosen)), 0)
        return result


class _Operands:
    """What is compared: plane `plane` of the weights in `row`, and one plane of the activations."""

    def __init__(self, form: Along, source: Buffer, places: _Places, weight: Buffer, row: Index, plane: int):
        self.form, self.source, self.places, self.weight, self.row = form, source, places, weight, row
        each_plane = form.plan.planes_each
        self.planes = range(plane * each_plane, (plane + 1) * each_plane)

    def pixels(self, pixels: Sequence[int], size: int, offset: Index) -> Value:
        """A vector of the pieces of some pixels."""
        if self.places.follow(pixels, size):
            return emit.bind(self._piece(pixels[0], offset, BYTES))
        return emit.bind(emit.concatenate([self._piece(p, offset, size) for p in pixels]))

    def _piece(self, pixel: int, offset: Index, size: int) -> Value:
        base, distance = self.places.starts[pixel]
        return emit.load(self.source, base + (offset + distance), size)

    def weights(self, channel: int, number: Index) -> list[Value]:
        """A channel's vector of weights, of each stored plane: signs, and which are not zero."""
        block, planes = self.form.block, self.form.plan.planes
        places = [((number * planes + plane) * block + channel) * BYTES for plane in self.planes]
        return [emit.bind(emit.load(self.weight, self.row + place, BYTES)) for place in places]


Key = tuple[Slot, ...]
"""The slots that share a vector."""


class _Counter:
    """Counts some steps for all slots."""

    def __init__(self, slots: _Slots, operands: _Operands):
        self.order, self.operands = slots.order, operands
        self.group = 1
        self.values: dict[Key, Value] = {}
        self.most = 0
        """What a lane of `values` holds at most; widened, where it is beyond a byte."""
        self.is_wide = False

    def count(self, chunk: Sequence[_Steps]) -> list[Value]:
        """The sums in vectors of SUMS lanes of 16 bits."""
        for steps in chunk:
            while self.group < steps.stage.shared:
                self._merge()
            self._add(steps)
        while self.group < SUMS:
            self._merge()
        self._widen()
        return [self.values[key] for key in self._keys(SUMS)]

    def _keys(self, group: int) -> list[Key]:
        """The vectors of `group` slots; beyond the last slot its vector is repeated."""
        if group == 1:
            return [(slot,) for slot in self.order]
        halves = self._keys(group // 2)
        return [halves[i] + halves[min(i + 1, len(halves) - 1)] for i in range(0, len(halves), 2)]

    def _add(self, steps: _Steps) -> None:
        keys = sorted(set(self._keys(self.group)), key=lambda key: key[0])
        fresh = bool(self.values) and (self.is_wide or self.most + 8 * len(steps.offsets) > 255)
        counts: dict[Key, Value] = {} if fresh else self.values
        for offset, number in steps.offsets:
            self._step(keys, counts, steps.stage.size, offset, number)
        if not fresh:
            self.most += 8 * len(steps.offsets)
            return
        self._widen()
        for key in keys:
            self.values[key] = emit.bind(self.values[key] + _widened(counts[key]))

    def _step(
        self, keys: list[Key], counts: dict[Key, Value], size: int, offset: Index, number: Index
    ) -> None:
        weights = {c: self.operands.weights(c, number) for c in sorted({key[0][1] for key in keys})}
        pixels: dict[tuple[int, ...], Value] = {}
        for key in keys:
            which = tuple(p for p, _ in key)
            if which not in pixels:
                pixels[which] = self.operands.pixels(which, size, offset)
            sign, *nonzero = weights[key[0][1]]
            bits = T.popcount(functools.reduce(operator.and_, nonzero, pixels[which] ^ sign))
            counts[key] = emit.bind(counts[key] + bits if key in counts else bits)

    def _merge(self) -> None:
        """Two vectors become one of as many lanes, by adding neighbours."""
        if not self.values:
            self.group *= 2
            return
        if 2 * self.most > 255:
            self._widen()
        merged: dict[Key, Value] = {}
        for key in self._keys(2 * self.group):
            if key not in merged:
                left, right = (self.values[half] for half in (key[: self.group], key[self.group :]))
                merged[key] = _added(left, right)
        self.values, self.group, self.most = merged, 2 * self.group, 2 * self.most

    def _widen(self) -> None:
        if not self.is_wide:
            self.values = {key: _widened(value) for key, value in self.values.items()}
            self.is_wide = True
