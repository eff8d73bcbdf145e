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
`binary.plan` for the cases of the border.
"""

from __future__ import annotations

import functools
import operator

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.binary.finish import border_case
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.binary.word_counts import Count, Counter, Popcounts, Words
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.epilogue_values import Position
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import Pixels, each, each_lane
from bnncc.plan.kernel import BinaryConv, KernelSpec
from bnncc.plan.layout import WORD_BITS
from bnncc.plan.threshold import Threshold

SIGN = 1 << 31


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
    counting = Popcounts if isa.popcount == "words" else Counter
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
        symbol,
        spec,
        function,
        parameters,
        finish.pack,
        tile,
        description,
        4 * counter.scratch_words,
        scratch_of_tile=True,
    )


class _SignBits:
    """The whole epilogue is an integer threshold: the bit is the sign of -(limit + 1) + mismatches."""

    def __init__(self, counter: Counter, threshold: Threshold):
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

    def __init__(self, counter: Counter, isa: Isa):
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
