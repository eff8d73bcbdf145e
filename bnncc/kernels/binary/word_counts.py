# SPDX-License-Identifier: Apache-2.0
"""Counting differing bits word by word: the window of a pixel is gathered once, then counted against the
weights of each channel. For `carry_save`, which says how both are stored.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.c_helpers import ADD_BYTES, BROADCAST
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue_values import Position
from bnncc.kernels.interleave import pack_channels
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Parameter
from bnncc.kernels.nest import each, even_tile, walk
from bnncc.kernels.planes import Emitter, blocks, count_differences, stored, stored_block, total
from bnncc.plan.layout import WORD_BITS

STACK_BYTES = 1023
"""What TVM keeps on the stack, at most; larger memory is lent by the caller."""


@dataclass(frozen=True)
class Words:
    """The `count` words of a window as `turns` turns of straight-line code over `size` words."""

    count: int
    turns: int
    size: int

    @staticmethod
    def of(count: int, most: int) -> Words:
        """Turns of at most `most` words, as even as possible."""
        size = even_tile(count, most)
        return Words(count, -(-count // size), size)

    @property
    def stored(self) -> int:
        """Words in memory, those that fill the last turn included."""
        return self.turns * self.size


@dataclass(frozen=True)
class Blocks:
    """The output channels: `groups` groups of `count`, in blocks of 32, in vectors of `lanes`."""

    groups: int
    count: int
    lanes: int

    @property
    def each_group(self) -> int:
        """Blocks of a group."""
        return -(-self.count // WORD_BITS)

    @property
    def rest(self) -> int:
        """Channels of a group's last block, if they are not 32; else 0."""
        return self.count % WORD_BITS

    @property
    def full_vectors(self) -> int:
        """Vectors of a block of 32 channels."""
        return WORD_BITS // self.lanes

    @property
    def last_vectors(self) -> int:
        """Vectors of a group's last block."""
        return -(-(self.rest or WORD_BITS) // self.lanes)

    @property
    def vectors(self) -> int:
        """Vectors of a group."""
        return (self.each_group - 1) * self.full_vectors + self.last_vectors

    def vectors_of(self, block: Index) -> Index:
        """Vectors of a block."""
        if self.each_group == 1 or not self.rest:
            return self.last_vectors
        return T.min(self.full_vectors, self.vectors - block * self.full_vectors)

    def order(self) -> np.ndarray:
        """int [vectors of all groups, lanes]: the channel that each lane stands for, -1 for none."""
        group = np.full((self.vectors, self.lanes), -1)
        for block in range(self.each_group):
            first, at = block * WORD_BITS, block * self.full_vectors
            vectors = self.full_vectors if block < self.each_group - 1 else self.last_vectors
            channels = first + np.arange(self.lanes) * vectors + np.arange(vectors)[:, None]
            group[at : at + vectors] = np.where(channels < self.count, channels, -1)
        starts = np.arange(self.groups)[:, None, None] * self.count
        return np.where(group >= 0, group + starts, -1).reshape(-1, self.lanes)


Count = Callable[[Index, Value], Value]
"""(vector of all groups, start) -> start + the number of differing bits, for each lane."""


class Counter:
    """Gathers and transforms the words of a window, and counts in how many bits those of channels differ.

    Values are uint32 in `lanes` lanes."""

    description = "stored sums by carry-save addition"
    what = "stored sums of the weight bits"

    def __init__(self, plan: BinaryPlan, isa: Isa, words: Words):
        self.plan, self.isa, self.words = plan, isa, words
        self.lanes = isa.word_lanes
        self.blocks = Blocks(plan.channels.groups, plan.channels.count, self.lanes)
        self.emitter = Emitter(emit.bind, self.constant)
        self.is_staged = words.turns > 1
        sizes = [words.stored * self.lanes]
        if self.is_staged and self.lanes > 1:
            sizes.append(words.stored)
        self.sizes = sizes

    @property
    def scratch_words(self) -> int:
        """Words of memory that the caller must lend, where the stack is too small."""
        return sum(size for size in self.sizes if 4 * size > STACK_BYTES)

    def input(self) -> Parameter:
        """The parameter of the activations."""
        return emit.input_parameter("input", self.plan.root.input)

    def weight(self) -> Parameter:
        """The parameter of the weights."""
        vectors = self.blocks.groups * self.blocks.vectors
        extent = vectors * self.words.stored * self.lanes
        doc = f"{self.what} [vectors][{self.words.stored}][{self.lanes}]"
        return emit.constant_parameter("weight", "uint32", extent, doc)

    def scratch(self) -> tuple[Parameter, ...]:
        """The parameter of lent memory, if any is needed."""
        if not self.scratch_words:
            return ()
        doc = "the words of one window"
        return (Parameter("scratch", "uint32", self.scratch_words, False, "uint32_t", doc),)

    def pack_weight(self, weight: np.ndarray) -> np.ndarray:
        """int8 [O, KH, KW, C/groups] to [vectors][words][lanes], flat; zeros in lanes without a channel."""
        ((bits, _),) = self.plan.weight_bits(weight)
        words = pack_channels(bits, "uint32").reshape(len(weight), self.plan.steps)
        filled = np.pad(words, ((0, 1), (0, self.words.stored - self.plan.steps)))
        turns = filled.reshape(len(filled), self.words.turns, self.words.size)
        sums = np.stack(self.stored(list(np.moveaxis(turns, 2, 0))), axis=2).reshape(filled.shape)
        return np.ascontiguousarray(sums[self.blocks.order()].transpose(0, 2, 1)).reshape(-1)

    def gathered(self, buffers: Buffers, position: Position, group: Index) -> Count:
        """Emit the gathering of a pixel's window; what counts against it."""
        sums, *staged = self._memories(buffers)
        n, y, x = position
        window = self.plan.root.window
        top, left = y * window.stride_y - window.top, x * window.stride_x - window.left
        start = emit.pixel_address(self.plan.root.input, n, top, left) + group * self.plan.items
        if self.is_staged:
            self._stage(buffers["input"], start, sums, (staged or [sums])[0])
        else:
            places = [start + offset for offset, _ in walk(self.plan.levels, self.words.count)]
            self._transform([(buffers["input"], place) for place in places], sums, 0)
        return functools.partial(self._count, buffers["weight"], sums)

    def _memories(self, buffers: Buffers) -> list[_Memory]:
        """The stored sums, and the plain words where they lie apart."""
        result, used = [], 0
        for size in self.sizes:
            if 4 * size <= STACK_BYTES:
                result.append(_Memory(emit.local("uint32", size, "sums"), 0))
            else:
                result.append(_Memory(buffers["scratch"], used))
                used += size
        return result

    def _stage(self, source: Buffer, start: Index, sums: _Memory, plain: _Memory) -> None:
        """The words in memory first, in loops; then turn by turn."""
        for offset, number in walk(self.plan.levels):
            plain.store(source[start + offset], number)
        for missing in each(self.words.stored - self.words.count, "missing"):
            plain.store(tirx.const(0, "uint32"), self.words.count + missing)
        for turn in each(self.words.turns, "turn"):
            first = turn * self.words.size
            self._transform(
                [(plain.buffer, plain.first + first + i) for i in range(self.words.size)], sums, first
            )

    def _transform(self, places: Sequence[tuple[Buffer, Index]], sums: _Memory, at: Index) -> None:
        """Words, block by block, to stored sums from `at` on; a block may take the place of its words."""
        for first, size in blocks(len(places)):
            named = [emit.bind(buffer[place]) for buffer, place in places[first : first + size]]
            for i, value in enumerate(self.stored_block(named)):
                sums.store(self._broadcast(value), (at + first + i) * self.lanes)

    def _count(self, weight: Buffer, sums: _Memory, vector: Index, start: Value) -> Value:
        words, first = self.words, emit.bind_index(vector * self.words.stored)
        if words.turns == 1:
            return self._turn(weight, first, sums, 0, start)
        counted = emit.local("uint32", self.lanes, "counted")
        emit.store(counted, start, 0)
        for turn in each(words.turns, "turn"):
            at = emit.bind_index(turn * words.size)
            so_far = emit.load(counted, 0, self.lanes)
            emit.store(counted, self._turn(weight, first + at, sums, at, so_far), 0)
        return emit.load(counted, 0, self.lanes)

    def _turn(self, weight: Buffer, place: Index, sums: _Memory, at: Index, start: Value) -> Value:
        """The words from `place` of the weights and from `at` of the sums on, both in units of vectors."""

        def difference(i: int) -> Value:
            own = emit.load(weight, (place + i) * self.lanes, self.lanes)
            return emit.bind(sums.load((at + i) * self.lanes, self.lanes) ^ own)

        return self.sum(difference, start)

    def stored(self, words: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """What is stored of the words of a turn."""
        return stored(words, Emitter())

    def stored_block(self, words: Sequence[Value]) -> Sequence[Value]:
        """The same of values of one block."""
        return stored_block(words, Emitter(emit.bind))

    def sum(self, difference: Callable[[int], Value], start: Value) -> Value:
        """start + the differing bits of a turn; difference(i) is the exclusive-or of the stored words i."""
        fields = count_differences(self.emitter, difference, self.words.size)
        if not self.isa.adds_bytes or self.lanes > 1:
            return emit.bind(start + total(self.emitter, fields))
        result = start
        for field in fields:
            if field.weight:
                apart = T.call_pure_extern("uint32", ADD_BYTES, field.word, self.constant(0))
                result = emit.bind(result + (apart << self.constant(field.weight)))
            else:
                result = emit.bind(T.call_pure_extern("uint32", ADD_BYTES, field.word, result))
        return result

    def constant(self, value: int) -> Value:
        """A number in every lane."""
        return self._broadcast(tirx.const(value, "uint32"))

    def _broadcast(self, value: Value) -> Value:
        if self.lanes == 1:
            return value
        return T.call_pure_extern(emit.vector_type("uint32", self.lanes), BROADCAST, value)


class Popcounts(Counter):
    """The same by an instruction that counts the bits of a word."""

    description = "bits counted word by word"
    what = "weight bits"

    def stored(self, words: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return words

    def stored_block(self, words: Sequence[Value]) -> Sequence[Value]:
        return words

    def sum(self, difference: Callable[[int], Value], start: Value) -> Value:
        for i in range(self.words.size):
            start = emit.bind(start + T.popcount(difference(i)))
        return start


@dataclass(frozen=True)
class _Memory:
    """Words from `first` on in a buffer."""

    buffer: Buffer
    first: int

    def load(self, index: Index, lanes: int) -> Value:
        """Words from `index` on."""
        return emit.load(self.buffer, self.first + index, lanes)

    def store(self, value: Value, index: Index) -> None:
        """Store the lanes of a value from `index` on."""
        emit.store(self.buffer, value, self.first + index)
