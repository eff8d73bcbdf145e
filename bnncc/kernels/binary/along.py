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
from bnncc.kernels.binary.counting import Form
from bnncc.kernels.binary.plan import BinaryPlan
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

BYTE = 255
"""The most that a byte holds."""

MOST_COUNTS = 31
"""Counts of up to 8 that a byte holds the sum of."""

FEW_COUNTS = MOST_COUNTS // 4
"""Counts of up to 8 of which a byte holds the sum for four pixels or channels."""


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


def candidates(pixels: Pixels) -> Iterator[Schedule]:
    """Schedules worth measuring: tiles of up to twice ACCUMULATORS sums."""
    for columns in sorted({even_tile(pixels.columns, most) for most in (1, 2, 3, 4, 6, 8)}):
        for rows in sorted({even_tile(pixels.rows, most) for most in (1, 2, 3)}):
            for channels in (1, 2, 4, 8):
                if rows * columns * channels <= 2 * ACCUMULATORS:
                    yield Schedule(LANES, rows, columns, 1, 1, channels)


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

        def operands(number: int, plane: int) -> _Operands:
            return _Operands(self, buffers[self.names[number]], starts[number], buffers["weight"], row, plane)

        turns = [planes for pairs in self.plan.exponents() for planes in pairs]
        if len(turns) == 1 and self._fits_short:
            return _Counter(slots, operands(*turns[0])).count(self.stages)
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

    def _parts(self, slots: _Slots, operands: _Operands) -> Iterator[list[Value]]:
        """The sums of all steps; where 16 bits do not hold them, of some steps at a time."""
        if self._fits_short:
            yield _Counter(slots, operands).count(self.stages)
            return
        for stage in self.stages:
            for offset, number, levels in walk_chunks(stage.levels, MOST_COUNTS):
                counter = _Counter(slots, operands)
                counter.add(_Steps.of(stage, offset, number, levels))
                yield counter.finished()


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


@dataclass(frozen=True)
class _Part:
    """Sums of some steps: of each key of `group` slots a vector of bytes that are at most `most`, or of lanes
    of 16 bits (`most` is 0 then)."""

    group: int
    values: dict[Key, Value]
    most: int

    @property
    def is_wide(self) -> bool:
        """Whether its lanes are of 16 bits."""
        return not self.most

    def widened(self) -> _Part:
        """In lanes of 16 bits."""
        if self.is_wide:
            return self
        return _Part(self.group, {key: _widened(value) for key, value in self.values.items()}, 0)

    def plus(self, other: _Part) -> _Part:
        """The sums of both. A vector of bytes is added to one of 16 bits by one instruction."""
        left, right = self, other
        if self.is_wide or other.is_wide or self.most + other.most > BYTE:
            left, right = self.widened(), other.widened()
        values = {key: emit.bind(value + right.values[key]) for key, value in left.values.items()}
        return _Part(self.group, values, left.most + right.most)


class _Counter:
    """Counts some steps for all slots."""

    def __init__(self, slots: _Slots, operands: _Operands):
        self.order, self.operands = slots.order, operands
        self.parts: list[_Part] = []
        """What is counted so far, to be added up."""

    def count(self, stages: Sequence[_Stage]) -> list[Value]:
        """Count all steps of all stages: the sums in vectors of SUMS lanes of 16 bits."""
        for stage in stages:
            if count_steps(stage.levels) > 2 * MOST_COUNTS:
                self._loop(stage)
            else:
                self._add_all(_Steps.of(stage, 0, 0, stage.levels))
        return self.finished()

    def _add_all(self, steps: _Steps) -> None:
        """Count up to twice the steps that a byte holds the sum of: first a few, whose sums are merged at
        once and then take a quarter of the registers."""
        many = len(steps.offsets)
        few = max(FEW_COUNTS, many - MOST_COUNTS) if many > MOST_COUNTS else 0
        for offsets in (steps.offsets[:few], steps.offsets[few:]):
            if offsets:
                self.add(_Steps(steps.stage, offsets))

    def finished(self) -> list[Value]:
        """The sums so far, in vectors of SUMS lanes of 16 bits."""
        self._raise(SUMS)
        total = functools.reduce(_Part.plus, self.parts).widened()
        return [total.values[key] for key in self._keys(SUMS)]

    def add(self, steps: _Steps) -> None:
        """Count some steps, no more than a byte holds the sum of."""
        group, most = steps.stage.shared, 8 * len(steps.offsets)
        counts = {}
        self._raise(group)
        if self.parts and (last := self.parts[-1]).group == group:
            if not last.is_wide and last.most + most <= BYTE:
                counts, most = last.values, last.most + most
                self.parts.pop()
        self.parts = [self._squeezed(part) for part in self.parts]
        self.parts.append(_Part(group, self._counted(counts, steps), most))

    def _loop(self, stage: _Stage) -> None:
        """Count the steps of a stage in loops. Sums are merged after them: one instruction adds a vector of
        bytes to a wider one, and merging would take as many again in each turn."""
        group = stage.shared
        self._raise(group)
        totals = {key: emit.local("int16", SUMS, "total") for key in self._distinct_keys(group)}
        for total in totals.values():
            emit.store(total, emit.broadcast(T.int16(0), SUMS), 0)
        for offset, number, levels in walk_chunks(stage.levels, MOST_COUNTS):
            counts = self._counted({}, _Steps.of(stage, offset, number, levels))
            for key, total in totals.items():
                emit.store(total, emit.load(total, 0, SUMS) + _widened(counts[key]), 0)
        self.parts.append(
            _Part(group, {key: emit.bind(emit.load(total, 0, SUMS)) for key, total in totals.items()}, 0)
        )

    def _keys(self, group: int) -> list[Key]:
        """The vectors of `group` slots; beyond the last slot its vector is repeated."""
        if group == 1:
            return [(slot,) for slot in self.order]
        halves = self._keys(group // 2)
        return [halves[i] + halves[min(i + 1, len(halves) - 1)] for i in range(0, len(halves), 2)]

    def _distinct_keys(self, group: int) -> list[Key]:
        return sorted(set(self._keys(group)), key=lambda key: key[0])

    def _counted(self, counts: dict[Key, Value], steps: _Steps) -> dict[Key, Value]:
        """`counts`, which may be empty, and the mismatches of some steps."""
        keys = self._distinct_keys(steps.stage.shared)
        for offset, number in steps.offsets:
            weights = {c: self.operands.weights(c, number) for c in sorted({key[0][1] for key in keys})}
            pixels: dict[tuple[int, ...], Value] = {}
            for key in keys:
                which = tuple(p for p, _ in key)
                if which not in pixels:
                    pixels[which] = self.operands.pixels(which, steps.stage.size, offset)
                sign, *nonzero = weights[key[0][1]]
                bits = T.popcount(functools.reduce(operator.and_, nonzero, pixels[which] ^ sign))
                counts = {**counts, key: emit.bind(counts[key] + bits if key in counts else bits)}
        return counts

    def _raise(self, group: int) -> None:
        """Merge the parts of less than `group` slots a vector until they have as many."""
        while self.parts and (lowest := min(part.group for part in self.parts)) < group:
            low = [part for part in self.parts if part.group == lowest]
            others = [part for part in self.parts if part.group != lowest]
            self.parts = [*others, self._merged(functools.reduce(_Part.plus, low))]

    def _squeezed(self, part: _Part) -> _Part:
        """In as few vectors as its bytes allow."""
        while part.group < SUMS and not part.is_wide and 2 * part.most <= BYTE:
            part = self._merged(part)
        return part

    def _merged(self, part: _Part) -> _Part:
        """Two vectors become one of as many lanes, by adding neighbours."""
        if 2 * part.most > BYTE:
            part = part.widened()
        half = part.group
        merged: dict[Key, Value] = {}
        for key in self._keys(2 * half):
            if key not in merged:
                merged[key] = _added(part.values[key[:half]], part.values[key[half:]])
        return _Part(2 * half, merged, 2 * part.most)
