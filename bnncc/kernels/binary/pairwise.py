# SPDX-License-Identifier: Apache-2.0
"""Sums of counts in the bytes of vectors, added up by pairs of neighbours (NEON).

By the time that pixels share a vector (`binary.pieces`) their sums have been put together in one vector too,
by adding neighbouring bytes, so that no lane is ever idle:

    of one pixel          |           16 sums          |
    of two pixels         |  8 sums of p | 8 of p + 1  |
    of four pixels        |4 of p| p + 1 | p + 2 | ... |
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.binary.pieces import Operands, Stage, Steps
from bnncc.kernels.emit import Buffer, Value
from bnncc.kernels.nest import count_steps, walk_chunks

SUMS = 8
"""Lanes of a vector of finished sums, 16 bits each."""

BYTE = 255
"""The most that a byte holds."""

MOST_COUNTS = 31
"""Counts of up to 8 that a byte holds the sum of."""

FEW_COUNTS = MOST_COUNTS // 4
"""Counts of up to 8 of which a byte holds the sum for four pixels or channels."""

Slot = tuple[int, int]
"""A (pixel, channel) of a register tile."""


@dataclass(frozen=True)
class Slots:
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


class Counter:
    """Counts some steps for all slots."""

    def __init__(self, slots: Slots, operands: Operands):
        self.order, self.operands = slots.order, operands
        self.parts: list[_Part] = []
        """What is counted so far, to be added up."""

    def count(self, stages: Sequence[Stage]) -> list[Value]:
        """Count all steps of all stages: the sums in vectors of SUMS lanes of 16 bits."""
        for stage in stages:
            if count_steps(stage.levels) > 2 * MOST_COUNTS:
                self._loop(stage)
            else:
                self._add_all(Steps.of(stage, 0, 0, stage.levels))
        return self.finished()

    def _add_all(self, steps: Steps) -> None:
        """Count up to twice the steps that a byte holds the sum of: first a few, whose sums are merged at
        once and then take a quarter of the registers."""
        many = len(steps.offsets)
        few = max(FEW_COUNTS, many - MOST_COUNTS) if many > MOST_COUNTS else 0
        for offsets in (steps.offsets[:few], steps.offsets[few:]):
            if offsets:
                self.add(Steps(steps.stage, offsets))

    def finished(self) -> list[Value]:
        """The sums so far, in vectors of SUMS lanes of 16 bits."""
        self._raise(SUMS)
        total = functools.reduce(_Part.plus, self.parts).widened()
        return [total.values[key] for key in self._keys(SUMS)]

    def add(self, steps: Steps) -> None:
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

    def _loop(self, stage: Stage) -> None:
        """Count the steps of a stage in loops. Sums are merged after them: one instruction adds a vector of
        bytes to a wider one, and merging would take as many again in each turn."""
        group = stage.shared
        self._raise(group)
        totals = {key: emit.local("int16", SUMS, "total") for key in self._distinct_keys(group)}
        for total in totals.values():
            emit.store(total, emit.broadcast(T.int16(0), SUMS), 0)
        for offset, number, levels in walk_chunks(stage.levels, MOST_COUNTS):
            counts = self._counted({}, Steps.of(stage, offset, number, levels))
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

    def _counted(self, counts: dict[Key, Value], steps: Steps) -> dict[Key, Value]:
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


def _neon(dtype: str, name: str, *values: Value) -> Value:
    return emit.bind(T.call_llvm_pure_intrin(dtype, f"llvm.aarch64.neon.{name}", *values))


def _added(left: Value, right: Value) -> Value:
    """Neighbouring lanes added: those of `left`, then those of `right`."""
    dtype = str(left.ty.dtype)
    return _neon(dtype, "addp.v16i8" if dtype == "uint8x16" else "addp.v8i16", left, right)


def _widened(value: Value) -> Value:
    """Neighbouring bytes added to lanes of 16 bits."""
    return _neon("int16x8", "uaddlp.v8i16.v16i8", value)
