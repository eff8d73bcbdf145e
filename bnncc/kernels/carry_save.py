# SPDX-License-Identifier: Apache-2.0
"""Binary convolutions and dense layers for cores that take words one by one: carry-save on stored sums.

For each output pixel the K words of its window are gathered and transformed to stored sums once (see
`planes`); then, for each output channel, straight-line code adds up the differing bits. Where an instruction
counts the bits of a word, the words stay as they are, and it is called for each. K words are one turn
of that code or several of equal length, the last of which zero words fill. Where the core has vectors of
32-bit lanes (MVE), each lane is an output channel, and the stored sums lie in memory once for every lane.

Where the epilogue is an integer threshold, counting starts at -(limit + 1), so that the sign is the output
bit.

Stored forms. Output channels come in blocks of 32 of one group; lane j of vector s of a block with S vectors
is its channel j*S + s, so that the signs that a lane collects are neighbours in the output word. Weights:
[group][block][vector][words][lanes], with sums in the place of words; the table of thresholds likewise. See
`binary_plan` for the cases of the border.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.binary_conv import border_case
from bnncc.kernels.binary_plan import BinaryPlan
from bnncc.kernels.c_helpers import ADD_BYTES, BROADCAST
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.epilogue_values import Position
from bnncc.kernels.interleave import pack_channels
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import Pixels, each, each_lane, even_tile, walk
from bnncc.kernels.planes import Emitter, blocks, count_differences, stored, stored_block, total
from bnncc.plan.kernel import BinaryConv, KernelSpec
from bnncc.plan.layout import WORD_BITS
from bnncc.plan.threshold import Threshold

STACK_BYTES = 1023
"""What TVM keeps on the stack, at most; larger memory is lent by the caller."""

SIGN = 1 << 31


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


def supports(spec: KernelSpec) -> bool:
    """Whether the template computes this BinaryConv: bits against bits, no weight that is zero."""
    root = spec.root
    if not isinstance(root, BinaryConv) or root.ternary_input or root.ternary_weight:
        return False
    return root.grid.planes == root.weight_planes == 1 and BinaryPlan.of(spec, "uint32", 1).joined == 1


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of a spec that `supports` accepts; schedule: `words` of a turn, at most."""
    tile = dict(schedule or {"words": 36})
    plan = BinaryPlan.of(spec, "uint32", 1)
    assert supports(spec)
    counting = _Popcounts if isa.popcount == "words" else _Counter
    counter = counting(plan, isa, Words.of(plan.steps, tile["words"]))
    threshold = Threshold.of(spec)
    finish = _SignBits(counter, threshold) if threshold else _Numbers(counter, isa)
    parameters = (
        counter.input(),
        *finish.operands(),
        counter.weight(),
        *finish.constants(),
        *finish.outputs(),
        *counter.scratch(),
    )
    pixels = Pixels.of(spec, plan.root.window)

    def body(buffers: Buffers) -> None:
        finish.attach(buffers)
        for image in each(pixels.images, "image"):
            for row in each(pixels.rows, "row"):
                for column in each(pixels.columns, "column"):
                    position = pixels.position(image, row, column)
                    for group in each(plan.channels.groups, "group"):
                        finish.store(position, group, counter.gathered(buffers, position, group))

    symbol = kernel_symbol(spec, isa, tile)
    function = emit.function(symbol, parameters, body)
    words = counter.words
    description = f"{counter.description}, {words.turns} x {words.size} words"
    if counter.lanes > 1:
        description += f", {counter.lanes} channels in lanes"
    return Kernel(
        symbol, spec, function, parameters, finish.pack, tile, description, 4 * counter.scratch_words
    )


# --- Counting ----------------------------------------------------------------------------------------------


Count = Callable[[Index, Value], Value]
"""(vector of all groups, start) -> start + the number of differing bits, for each lane."""


class _Counter:
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


class _Popcounts(_Counter):
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


# --- What follows the counts -------------------------------------------------------------------------------


class _SignBits:
    """The whole epilogue is an integer threshold: the bit is the sign of -(limit + 1) + mismatches."""

    def __init__(self, counter: _Counter, threshold: Threshold):
        self.counter, self.plan, self.threshold = counter, counter.plan, threshold
        self.layout = counter.plan.spec.outputs[0].layout
        self.buffers: Buffers = {}

    def operands(self) -> tuple[Parameter, ...]:
        """None: a threshold reads constants only."""
        return ()

    def constants(self) -> tuple[Parameter, ...]:
        """Where counting starts."""
        extent = self.plan.cases * self.counter.blocks.order().size
        doc = f"start [{self.plan.cases}][vectors][lanes]: the bit is the sign of start + mismatches"
        return (emit.constant_parameter("start", "uint32", extent, doc),)

    def outputs(self) -> tuple[Parameter, ...]:
        """The packed bits."""
        return (emit.layout_parameter("output", self.layout, is_const=False),)

    def pack(self, constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Weights, negated in the channels whose comparison points the other way, and starts."""
        signs, thresholds = self.threshold.at_least(constants)
        weight = constants[0] * signs.astype(np.int8)[:, None, None, None]
        limits = self.plan.pack_limits(weight, thresholds, "int64").reshape(self.plan.cases, -1)
        starts = np.pad(-(limits + 1), ((0, 0), (0, 1)))[:, self.counter.blocks.order()]
        return self.counter.pack_weight(weight), starts.astype(np.uint32).reshape(-1)

    def attach(self, buffers: Buffers) -> None:
        """Use these parameters."""
        self.buffers = buffers

    def store(self, position: Position, group: Index, count: Count) -> None:
        """Emit the bits of a group's channels."""
        n, y, x = position
        blocks, lanes = self.counter.blocks, self.counter.lanes
        case = emit.bind_index(border_case(self.plan, y, x) * blocks.groups * blocks.vectors)
        pixel = emit.address(self.layout, n, y, x, 0) + group * (blocks.count // WORD_BITS)
        for block in each(blocks.each_group, "block"):
            bits = emit.local("uint32", lanes, "bits")
            emit.store(bits, self.counter.constant(0), 0)
            vectors = emit.bind_index(blocks.vectors_of(block))
            for step in each_lane(vectors):
                vector = emit.bind(group * blocks.vectors + block * blocks.full_vectors + step)
                start = emit.load(self.buffers["start"], (case + vector) * lanes, lanes)
                counted = count(vector, emit.bind(start))
                collected = emit.load(bits, 0, lanes) >> self.counter.constant(1)
                emit.store(bits, collected | (counted & self.counter.constant(SIGN)), 0)
            T.buffer_store(self.buffers["output"], self._joined(bits, vectors), [pixel + block])

    def _joined(self, bits: Buffer, vectors: Index) -> Value:
        """The word of a block: every lane has collected as many bits as there are vectors, at its top."""
        parts = []
        for lane in range(self.counter.lanes):
            shift = WORD_BITS - vectors * (lane + 1)
            parts.append(bits[lane] >> T.Cast("uint32", _expression(shift)))
        return functools.reduce(operator.or_, parts)


def _expression(index: Index) -> Value:
    return tirx.const(index, "int32") if isinstance(index, int) else index


class _Numbers:
    """Any other epilogue, fed with value = base[case][o] - step*m block by block."""

    def __init__(self, counter: _Counter, isa: Isa):
        self.counter, self.plan = counter, counter.plan
        self.step = counter.plan.root.grid.step
        self.epilogue = Epilogue(counter.plan.spec, isa)
        self.buffers: Buffers = {}

    def operands(self) -> tuple[Parameter, ...]:
        """Those of the epilogue."""
        return self.epilogue.operands

    def constants(self) -> tuple[Parameter, ...]:
        """The table of border cases and the constants of the epilogue."""
        extent = self.plan.cases * self.plan.spec.shape[3]
        doc = f"base [{self.plan.cases}][channels]: the value is base - {self.step} * mismatches"
        return emit.constant_parameter("base", "int32", extent, doc), *self.epilogue.constants

    def outputs(self) -> tuple[Parameter, ...]:
        """Those of the epilogue."""
        return self.epilogue.outputs

    def pack(self, constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Weights, the table, and what the epilogue reads."""
        weight = constants[0]
        return self.counter.pack_weight(weight), self.plan.pack_base(weight), *self.epilogue.pack(constants)

    def attach(self, buffers: Buffers) -> None:
        """Use these parameters."""
        self.buffers = buffers
        self.epilogue.attach(buffers)

    def store(self, position: Position, group: Index, count: Count) -> None:
        """Emit the epilogue of a group's channels."""
        blocks, lanes = self.counter.blocks, self.counter.lanes
        for block in each(blocks.each_group, "block"):
            sums = emit.local("uint32", WORD_BITS, "mismatches")
            for step in each_lane(emit.bind_index(blocks.vectors_of(block))):
                vector = emit.bind(group * blocks.vectors + block * blocks.full_vectors + step)
                emit.store(sums, count(vector, self.counter.constant(0)), step * lanes)
            self._store_block(position, group, block, sums)

    def _store_block(self, position: Position, group: Index, block: Index, sums: Buffer) -> None:
        blocks = self.counter.blocks
        first, last = group * blocks.count, blocks.each_group - 1
        if not blocks.rest or isinstance(block, int):
            self._store(
                position, first + block * WORD_BITS, blocks.rest or WORD_BITS, blocks.last_vectors, sums
            )
            return
        with T.If(block < last):
            with T.Then():
                self._store(position, first + block * WORD_BITS, WORD_BITS, blocks.full_vectors, sums)
            with T.Else():
                self._store(position, first + last * WORD_BITS, blocks.rest, blocks.last_vectors, sums)

    def _store(self, position: Position, first: Index, channels: int, vectors: int, sums: Buffer) -> None:
        """The epilogue of one block of so many channels in so many vectors."""
        row = border_case(self.plan, position[1], position[2]) * self.plan.spec.shape[3]
        lanes = self.counter.lanes

        def value(offset: Index, _lanes: int) -> Value:
            place = offset
            if lanes > 1:
                lane, vector = T.truncdiv(offset, vectors), T.truncmod(offset, vectors)
                place = vector * lanes + lane
            mismatches = T.Cast("int32", sums[place])
            return self.buffers["base"][row + first + offset] - mismatches * tirx.const(self.step, "int32")

        self.epilogue.store(position, first, channels, value)
