# SPDX-License-Identifier: Apache-2.0
"""From the values of a root to what is stored: the epilogue that all templates share.

A template makes one, puts its parameters in order, attaches it to the buffers of the function and then
hands over channels pixel by pixel:

    epilogue = Epilogue(spec, isa)
    parameters = (emit.input_parameter(...), *epilogue.operands, <own constants>, *epilogue.constants,
                  *epilogue.outputs)
    ...
    epilogue.attach(buffers)
    epilogue.store((n, y, x), first, count, lambda offset, lanes: <channels first+offset ... as a vector>)

Numbers of several channels are vectors; the code for portable C is scalar, in loops over the channels.

Packed bits are written bytewise by vector code (a comparison of 8, 16 or 32 lanes is a mask of as many
bits) and wordwise by scalar code. A kernel all of whose outputs are bits made of bits (`is_bitwise`: the
maximum over packed bits, for instance) is evaluated on whole words instead: see `store_words`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit, fixed_neurons, neighbours
from bnncc.kernels.c_helpers import FOUR_LANES
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue_values import (
    BYTE_BITS,
    Accumulate,
    Position,
    Scope,
    Threshold,
    Values,
    Words,
    is_boolean,
    quotient,
)
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Parameter
from bnncc.kernels.nest import each_lane
from bnncc.plan.expression import (
    Accumulator,
    Flip,
    Lookup,
    Operand,
)
from bnncc.plan.graph import Graph, Node
from bnncc.plan.kernel import BinaryConv, ByteConv, Constant, KernelSpec, Pool, RealConv, SpikeConv
from bnncc.plan.layout import WORD_BITS, Element, Layout, words

CACHE_LINE = 64
"""Bytes."""


@dataclass(frozen=True)
class Piece:
    """Channels first + offset, ..., evaluated in `lanes` lanes, of which the leading `valid` are stored."""

    offset: int
    lanes: int
    valid: int


class Epilogue:
    """The epilogue of a kernel for one instruction set.

    operands, constants, outputs: its parameters. constants are those after the weight of the root, if it
    has one.
    """

    def __init__(self, spec: KernelSpec, isa: Isa, in_four_lanes: bool = False):
        """in_four_lanes: ask the C compiler for vectors, as `c_helpers.FOUR_LANES` does."""
        self.spec = spec
        self.isa = isa
        self.in_four_lanes = in_four_lanes
        self.graph = Graph.of([output.expression for output in spec.outputs])
        self.layouts = tuple(output.layout for output in spec.outputs)
        writes_rows = isinstance(spec.root, BinaryConv) and not isa.is_scalar
        assert writes_rows or all(layout.form == "plain" for layout in self.layouts), "rows have no end"
        self.writes_bits = spec.writes_bits
        self.is_bitwise = _is_bitwise(spec, self.graph)
        self.reserved = 1 if isinstance(spec.root, BinaryConv | ByteConv | RealConv | SpikeConv) else 0
        self.neuron = fixed_neurons.match(spec, self.graph, isa)
        overwritten = {operand for operand, _ in spec.in_place}
        self.operands = tuple(
            emit.layout_parameter(
                f"operand{i}", layout, is_const=i not in overwritten, dtype=self._bit_type(layout)
            )
            for i, layout in enumerate(spec.operands)
        )
        self.constants = tuple(
            self._constant_parameter(self.reserved + i, constant)
            for i, constant in enumerate(spec.constants[self.reserved :])
        )
        self.outputs = tuple(
            emit.layout_parameter(f"output{i}", layout, is_const=False, dtype=self._bit_type(layout))
            for i, layout in enumerate(self.layouts)
        )
        self._scope = Scope(spec, self.graph, isa, {})
        self._row: dict[tuple[int, int], list[tuple[Index, Value]]] = {}
        """Bits in three-word form, by output and channel, that `end_row` will store, and where."""
        self._reads_numbers = any(
            isinstance(node.expression, Lookup)
            or (isinstance(node.expression, Operand) and spec.operands[node.expression.index].shape[3] > 1)
            for node in self.graph.nodes
        )
        """Whether channels beyond the last one would be read out of memory that may not be there."""

    @property
    def lanes(self) -> int:
        """Channels that are best handed over at once (or a multiple)."""
        return self.isa.bit_lanes if self.writes_bits else self.isa.lanes

    @property
    def granule(self) -> int:
        """`first` of `store` must be a multiple of this."""
        if not self.writes_bits:
            return 1
        return WORD_BITS if self.isa.is_scalar else BYTE_BITS

    def may_loop(self, count: int) -> bool:
        """Whether bits may be stored `count` channels at a time in a loop."""
        is_bytes = not self.isa.is_scalar and self.spec.shape[3] % WORD_BITS == 0
        return count % (BYTE_BITS if is_bytes else WORD_BITS) == 0

    def pack(self, constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """All constants of the Step -> the stored form of those in `self.constants`."""
        given = enumerate(constants[self.reserved :], self.reserved)
        return tuple(self._stored(array.astype(self._constant_type(i) or array.dtype)) for i, array in given)

    def attach(self, buffers: Buffers) -> None:
        """Use these parameters. An output that shares the buffer of an operand is written through the
        operand's pointer, so that no memory is reached through two pointers."""
        shared = {f"output{output}": buffers[f"operand{operand}"] for operand, output in self.spec.in_place}
        self._scope = replace(self._scope, buffers={**buffers, **shared})

    def store(
        self,
        position: Position,
        first: Index,
        count: int,
        accumulator: Accumulate | None = None,
        threshold: Threshold | None = None,
        available: int | None = None,
    ) -> None:
        """Evaluate and store channels [first, first + count) of one pixel in all outputs.

        first: a multiple of `granule`; where bits are written and it is no Python int, count is a multiple
        of 32, so that the last word of a pixel is written by a call that knows its place, and fills it with
        zeros (of 8 in vector code, where no word needs filling).
        threshold: evaluates "accumulator >= constant" in place of accumulator and constant, if given.
        available: how many channels the callbacks can give, at least `count`: those beyond are not stored,
        but save the narrow vectors at the end.
        """
        assert not self.is_bitwise or self.isa.is_scalar or count <= self.spec.shape[3]
        assert not self.writes_bits or isinstance(first, int) or self.may_loop(count)
        assert not isinstance(first, int) or first % self.granule == 0
        if self.isa.is_scalar:
            self._store_scalars(position, first, count, accumulator, threshold)
            return
        for group in self._groups(first, count, available or count):
            results = []
            for piece in group:
                values = Values(
                    self._scope, position, first, piece.offset, piece.lanes, accumulator, threshold
                )
                results.append([self._settled(values.value(root), piece) for root in self.graph.roots])
            for output, values in enumerate(zip(*results, strict=True)):
                self._store_group(output, position, first, group, values)
        if isinstance(first, int) and first + count == self.spec.shape[3]:
            self._fill_last_word(position)

    def end_row(self) -> None:
        """Emit the stores of bits in three-word form, which `store` puts off: the calls since the last time
        were for the same channels of pixels side by side, from left to right."""
        for (output, _), stores in self._row.items():
            self._store_neighbours(output, stores[0][0], [bits for _, bits in stores])
        self._row = {}

    def prefetch(self, position: Position, first: Index, count: int) -> None:
        """Ask for the cache lines of the numbers that `store` will read and write. Where that is done before
        the channels are counted, they have come by then."""
        shared = dict(self.spec.in_place)
        for i, layout in enumerate(self.spec.operands):
            self._prefetch(f"operand{i}", layout, (position, first, count), is_written=i in shared)
        for i, layout in enumerate(self.layouts):
            if i not in shared.values():
                self._prefetch(f"output{i}", layout, (position, first, count), is_written=True)

    def store_words(
        self, position: Position, first: Index, count: int, accumulator: Accumulate | None = None
    ) -> None:
        """The same for a bitwise kernel: words [first, first + count) of one pixel. accumulator(offset,
        lanes) gives uint32 words."""
        assert self.is_bitwise
        for offset, lanes in emit.pieces(count, self.isa.lanes):
            values = Words(self._scope, position, first, offset, lanes, accumulator, None)
            results = [emit.bind(values.value(root)) for root in self.graph.roots]
            for output, result in enumerate(results):
                index = emit.address(self.layouts[output], *position, first + offset)
                emit.store(self._scope.buffers[f"output{output}"], result, index)

    # --- Parameters ---------------------------------------------------------------------------------------

    def _bit_type(self, layout: Layout) -> str | None:
        """Packed bits are seen as bytes by vector code."""
        if layout.element is Element.BIT and not self.isa.is_scalar and not self.is_bitwise:
            return "uint8"
        return None

    def _constant_parameter(self, index: int, constant: Constant) -> Parameter:
        name = f"constant{index}"
        if self.is_bitwise:
            return emit.constant_parameter(
                name, "uint32", words(constant.shape[0]), "channels to flip, packed"
            )
        if len(constant.shape) == 2:
            rows, levels = constant.shape
            doc = f"{constant.element} [{rows}x{levels}], a table"
            return emit.constant_parameter(name, constant.element.dtype, rows * levels, doc)
        doc = f"{constant.element} [{constant.shape[0]}], one per channel, then zeros"
        extent = words(constant.shape[0]) * WORD_BITS
        return emit.constant_parameter(
            name, self._constant_type(index) or constant.element.dtype, extent, doc
        )

    def _constant_type(self, index: int) -> str | None:
        """The type of a constant that is stored in another one than it has."""
        if self.neuron is None or index not in self.neuron.constants(self.graph):
            return None
        return f"int{self.neuron.bits}"

    def _stored(self, array: np.ndarray) -> np.ndarray:
        if array.ndim == 2:
            return array.reshape(-1)
        padded = np.zeros(words(array.size) * WORD_BITS, array.dtype)
        padded[: array.size] = array.reshape(-1)
        if not self.is_bitwise:
            return padded
        return np.packbits(padded != 0, bitorder="little").view("<u4").astype(np.uint32)

    # --- Vectors ------------------------------------------------------------------------------------------

    def _prefetch(
        self, name: str, layout: Layout, part: tuple[Position, Index, int], is_written: bool
    ) -> None:
        if layout.element is Element.BIT or layout.shape[3] == 1 or layout.strides[3] != 1:
            return
        position, first, count = part
        for offset in range(0, count, CACHE_LINE // layout.element.bytes):
            emit.prefetch(
                self._scope.buffers[name], emit.address(layout, *position, first + offset), is_written
            )

    def _groups(self, first: Index, count: int, available: int) -> list[list[Piece]]:
        """What is computed before it is stored: one vector each, then narrower ones, then the single
        channels that are left, which share a byte of bits. Where nothing but constants and the root's
        values is read, one last vector that reaches beyond the end takes the place of the narrow ones."""
        smallest = BYTE_BITS if self.writes_bits else 2
        groups: list[list[Piece]] = []
        offset = 0
        while offset < count:
            rest, lanes = count - offset, self.lanes
            while lanes > smallest and lanes // 2 >= rest:
                lanes //= 2
            if lanes > rest and not self._can_exceed(first, offset + lanes, available):
                last = [
                    Piece(offset + start, width, width) for start, width in emit.pieces(rest, lanes, smallest)
                ]
                groups += [[piece] for piece in last if piece.lanes > 1]
                singles = [piece for piece in last if piece.lanes == 1]
                return [*groups, singles] if singles else groups
            groups.append([Piece(offset, lanes, min(lanes, rest))])
            offset += lanes
        return groups

    def _can_exceed(self, first: Index, end: int, available: int) -> bool:
        stored = words(self.spec.shape[3]) * WORD_BITS
        return (
            not self._reads_numbers and end <= available and isinstance(first, int) and first + end <= stored
        )

    def _settled(self, value: Value, piece: Piece) -> Value:
        """The value, computed before anything is stored: an output may lie where an operand was read."""
        if not is_boolean(value):
            return emit.bind(value)
        if piece.lanes == 1:
            return emit.bind(T.Cast("uint8", value))
        bits = T.Cast(f"uint1x{piece.lanes}", value)
        mask = T.reinterpret(f"uint{piece.lanes}", bits)
        if piece.valid < piece.lanes:
            mask = mask & tirx.const((1 << piece.valid) - 1, f"uint{piece.lanes}")
        return emit.bind(mask)

    def _store_group(
        self,
        output: int,
        position: Position,
        first: Index,
        group: Sequence[Piece],
        values: Sequence[Value],
    ) -> None:
        layout, buffer = self.layouts[output], self._scope.buffers[f"output{output}"]
        if layout.element is Element.BIT:
            byte = quotient(first, BYTE_BITS) + group[0].offset // BYTE_BITS
            place = emit.address(layout, *position, byte, 4)
            if layout.form == "plain":
                emit.store(buffer, _joined(group, values), place)
            else:
                self._row.setdefault((output, group[0].offset), []).append((place, values[0]))
            return
        for piece, value in zip(group, values, strict=True):
            for offset, lanes in emit.pieces(piece.valid, piece.lanes):
                index = emit.address(layout, *position, first + piece.offset + offset)
                part = emit.extract(value, offset, lanes)
                emit.store(buffer, _stored_as(layout.element, part), index, layout.strides[3])

    def _store_neighbours(self, output: int, place: Index, bits: Sequence[Value]) -> None:
        """Bits of pixels side by side in three-word form, whole vectors of channels from byte `place` on."""
        buffer, mask = self._scope.buffers[f"output{output}"], str(bits[0].ty.dtype)
        count = tvm.DataType(mask).bits // BYTE_BITS

        def load(at: Index) -> Value:
            return T.reinterpret(mask, emit.load(buffer, at, count))

        def store(value: Value, at: Index) -> None:
            emit.store(buffer, T.reinterpret(emit.vector_type("uint8", count), value), at)

        neighbours.store_row(self.layouts[output], 4, place, bits, load, store)

    def _fill_last_word(self, position: Position) -> None:
        """Zeros in the bytes of the last word that hold no channel."""
        channels = self.spec.shape[3]
        for output, layout in enumerate(self.layouts):
            if layout.element is Element.BIT:
                for byte in range(-(-channels // BYTE_BITS), 4 * words(channels)):
                    index = emit.address(layout, *position, byte, 4)
                    T.buffer_store(self._scope.buffers[f"output{output}"], tirx.const(0, "uint8"), [index])

    # --- Scalars ------------------------------------------------------------------------------------------

    def _store_scalars(
        self,
        position: Position,
        first: Index,
        count: int,
        accumulator: Accumulate | None,
        threshold: Threshold | None,
    ) -> None:
        if self.neuron is not None:

            def value(node: int, offset: Index) -> Value:
                return Values(self._scope, position, first, offset, 1, accumulator, threshold).value(node)

            fixed_neurons.store(
                self.neuron, self.spec, self.graph, self._scope.buffers, position, first, count, value
            )
            return
        chunk = WORD_BITS if self.writes_bits else count
        for start in range(0, count, chunk):
            packed = {
                output: emit.local("uint32", 1, "word")
                for output, layout in enumerate(self.layouts)
                if layout.element is Element.BIT
            }
            for word in packed.values():
                T.buffer_store(word, tirx.const(0, "uint32"), [0])
            if self.in_four_lanes and not packed:
                T.evaluate(T.call_extern("void", FOUR_LANES))
            for lane in each_lane(min(chunk, count - start)):
                offset = start + lane if start else lane
                values = Values(self._scope, position, first, offset, 1, accumulator, threshold)
                results = [values.value(root) for root in self.graph.roots]
                results = [r if is_boolean(r) else emit.bind(r) for r in results]
                for output, result in enumerate(results):
                    self._store_scalar(output, position, first + offset, lane, result, packed)
            for output, word in packed.items():
                index = emit.address(self.layouts[output], *position, first // WORD_BITS + start // WORD_BITS)
                T.buffer_store(self._scope.buffers[f"output{output}"], word[0], [index])

    def _store_scalar(
        self,
        output: int,
        position: Position,
        channel: Index,
        lane: Index,
        value: Value,
        packed: dict[int, Buffer],
    ) -> None:
        if output in packed:
            bit = T.shift_left(T.Cast("uint32", value), T.Cast("uint32", lane))
            T.buffer_store(packed[output], packed[output][0] | bit, [0])
            return
        index = emit.address(self.layouts[output], *position, channel)
        value = _stored_as(self.layouts[output].element, value)
        T.buffer_store(self._scope.buffers[f"output{output}"], value, [index])


def _stored_as(element: Element, value: Value) -> Value:
    """Numbers are computed in the type that is stored, but those of bytes and int16 in wider ones."""
    if element not in (Element.U8, Element.I8, Element.I16):
        return value
    return T.Cast(emit.vector_type(element.dtype, emit.lanes_of(value)), value)


def _joined(group: Sequence[Piece], values: Sequence[Value]) -> Value:
    """The mask of a vector, or single bits of one byte, as bytes."""
    if group[0].lanes > 1:
        return T.reinterpret(emit.vector_type("uint8", group[0].lanes // BYTE_BITS), values[0])
    first = group[0].offset
    return functools.reduce(
        operator.or_,
        (
            T.shift_left(value, tirx.const(piece.offset - first, "uint8"))
            for piece, value in zip(group, values, strict=True)
        ),
    )


def _is_bitwise(spec: KernelSpec, graph: Graph) -> bool:
    """Whether every output is bits made of bits of the same channel."""

    def is_bits(node: Node) -> bool:
        match node.expression:
            case Accumulator():
                return isinstance(spec.root, Pool) and spec.root.input.element is Element.BIT
            case Operand(index=index):
                layout = spec.operands[index]
                return layout.element is Element.BIT and layout.shape[3] == spec.shape[3]
            case expression:
                return isinstance(expression, Flip)

    outputs_bits = all(output.layout.element is Element.BIT for output in spec.outputs)
    return bool(spec.outputs) and outputs_bits and all(is_bits(node) for node in graph.nodes)
