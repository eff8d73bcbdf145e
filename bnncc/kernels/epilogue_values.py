# SPDX-License-Identifier: Apache-2.0
"""The values of an epilogue's expressions: numbers, booleans, or words of bits, of channels of one pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit, functions
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.plan.expression import (
    Accumulator,
    Binary,
    BitOf,
    Channel,
    Compare,
    Flip,
    FromBit,
    Integer,
    Lookup,
    MulShift,
    Operand,
    Scalar,
    Select,
    ToFloat,
    ToInteger,
    ToLevel,
    Unary,
)
from bnncc.plan.graph import Graph, Node
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.layout import WORD_BITS, Element, Layout

Position = tuple[Index, Index, Index]
"""n, y, x of an output pixel."""

Accumulate = Callable[[Index, int], Value]
"""(offset, lanes) -> the root's values of channels first + offset, ..., `lanes` of them. The offset is a
Python int in vector code and a loop variable in scalar code."""

Threshold = Callable[[int, Index, int], Value]
"""(index, offset, lanes) -> the booleans "accumulator >= constant `index`" of these channels."""

COMPARISONS = {"ge": tirx.GE, "gt": tirx.GT, "le": tirx.LE, "lt": tirx.LT, "eq": tirx.EQ, "ne": tirx.NE}
BYTE_BITS = 8


@dataclass(frozen=True)
class Scope:
    """What expressions refer to. buffers: the function's, by the names of its parameters."""

    spec: KernelSpec
    graph: Graph
    isa: Isa
    buffers: Buffers


class Values:
    """The nodes of the graph at one position, for `lanes` channels from first + offset on."""

    def __init__(
        self,
        scope: Scope,
        position: Position,
        first: Index,
        offset: Index,
        lanes: int,
        accumulator: Accumulate | None,
        threshold: Threshold | None,
    ):
        self.scope = scope
        self.position = position
        self.first = first
        self.offset = offset
        self.lanes = lanes
        self.accumulator = accumulator
        self.threshold = threshold
        self.is_c = scope.isa.is_scalar
        self.known: dict[int, Value] = {}

    @property
    def channel(self) -> Index:
        """The first channel."""
        return self.first + self.offset

    def value(self, number: int) -> Value:
        """The value of a node; named, if it is used more than once."""
        if number not in self.known:
            node = self.scope.graph.nodes[number]
            value = self.evaluate(node)
            can_bind = self.is_c or not is_boolean(value)
            if node.uses > 1 and can_bind and not isinstance(node.expression, Scalar | Integer):
                value = emit.bind(value)
            self.known[number] = value
        return self.known[number]

    def evaluate(self, node: Node) -> Value:
        """The node from its operands."""
        match node.expression:
            case Accumulator():
                assert self.accumulator is not None, "this kernel has no accumulator"
                return self.accumulator(self.offset, self.lanes)
            case Operand(index=index):
                return self.operand(index)
            case Channel(index=index):
                return self.constant(index)
            case Integer(value=value):
                return emit.constant(value, "int32", self.lanes)
            case Scalar(value=value):
                return functions.number(value, self.lanes, self.is_c)
            case Flip(index=index):
                return _differ(self.value(node.operands[0]), self.flags(index))
            case Compare() if self.threshold is not None and self.is_threshold(node):
                right = self.scope.graph.nodes[node.operands[1]].expression
                assert isinstance(right, Channel)
                return self.threshold(right.index, self.offset, self.lanes)
            case Binary(kind="max" | "min") if len(set(node.operands)) == 1:
                return self.value(node.operands[0])
            case expression:
                values = [self.value(operand) for operand in node.operands]
                return self.apply(expression, values)

    def apply(self, expression: object, values: list[Value]) -> Value:
        """An operation on numbers or booleans."""
        match expression, values:
            case ToFloat(), [x]:
                return self.as_float(x)
            case ToLevel(), [x]:
                return self.as_level(x)
            case ToInteger(), [x]:
                return T.Cast(emit.vector_type("int32", self.lanes), self.as_float(x))
            case MulShift(shift=shift), [left, right]:
                return self.mul_shift(left, right, shift)
            case Lookup(index=index), [place]:
                return self.scope.buffers[f"constant{index}"][place]
            case BitOf(plane=plane), [x]:
                bit, zero = (emit.constant(v, "int32", self.lanes) for v in (1 << plane, 0))
                return tirx.NE(x & bit, zero)
            case FromBit(low=low, high=high), [x]:
                yes, no = (functions.number(v, self.lanes, self.is_c) for v in (high, low))
                return tirx.Select(x, yes, no)
            case Unary(kind=kind), [x]:
                return functions.unary(kind, emit.bind(self.as_float(x)), self.is_c)
            case Binary(kind=kind), [left, right]:
                return self.binary(kind, *self.alike(left, right))
            case Compare(kind=kind), [left, right]:
                left, right = self.alike(left, right)
                if kind == "ne" and not _is_integer(left):
                    return tirx.Not(tirx.EQ(left, right))  # LLVM would be told that NaN does not differ
                return COMPARISONS[kind](left, right)
            case Select(), [condition, then, otherwise]:
                if is_boolean(then):
                    return tirx.Or(tirx.And(condition, then), tirx.And(tirx.Not(condition), otherwise))
                return tirx.Select(condition, *self.alike(then, otherwise))
        raise AssertionError(f"no code for {expression}")

    def mul_shift(self, left: Value, right: Value, shift: int) -> Value:
        """A product without its lowest bits, rounded."""
        wide, narrow = ("int64" if shift > 16 else "int32"), "int32"
        factors = [
            T.Cast(emit.vector_type(wide, self.lanes), x) if wide != narrow else x for x in (left, right)
        ]
        half, bits = (emit.constant(v, wide, self.lanes) for v in (1 << shift - 1, shift))
        result = T.shift_right(factors[0] * factors[1] + half, bits)
        return T.Cast(emit.vector_type(narrow, self.lanes), result) if wide != narrow else result

    def binary(self, kind: str, left: Value, right: Value) -> Value:
        """An arithmetic operation on two numbers of one type."""
        match kind:
            case "add":
                return left + right
            case "sub":
                return left - right
            case "mul":
                return left * right
            case "div":
                return left / right
            case "pow":
                return functions.power(left, right)
        left, right = emit.bind(left), emit.bind(right)
        if emit.is_number(right):
            left, right = right, left
        # The comparison is false for NaN, which so survives from the right side, the one that is no number.
        condition = left > right if kind == "max" else left < right
        if not emit.is_number(left) and not _is_integer(left):
            condition = tirx.Or(condition, functions.is_nan(left))
        return tirx.Select(condition, left, right)

    def is_threshold(self, node: Node) -> bool:
        """Whether the node is accumulator >= channel constant."""
        nodes = self.scope.graph.nodes
        left, right = (nodes[operand].expression for operand in node.operands)
        is_ge = isinstance(node.expression, Compare) and node.expression.kind == "ge"
        return is_ge and isinstance(left, Accumulator) and isinstance(right, Channel)

    def operand(self, index: int) -> Value:
        """Operand `index` at this position."""
        layout = self.scope.spec.operands[index]
        buffer = self.scope.buffers[f"operand{index}"]
        if layout.element is Element.BIT:
            return self.bits(layout, buffer)
        place = emit.address(layout, *self.position, self.channel)
        stride = layout.strides[3] if layout.shape[3] > 1 else 0
        value = emit.load(buffer, place, self.lanes, stride)
        if layout.element in (Element.U8, Element.I8, Element.I16):
            return T.Cast(emit.vector_type("int32", self.lanes), value)
        return value

    def bits(self, layout: Layout, buffer: Buffer) -> Value:
        """Booleans from packed bits."""
        if layout.shape[3] == 1:
            unit = 1 if self.is_c else 4
            word = buffer[emit.address(layout, *self.position, 0, unit)]
            return _spread(T.Cast("int32", word), 0, self.lanes, is_one=True)
        if self.is_c:
            word = buffer[emit.address(layout, *self.position, quotient(self.channel, WORD_BITS))]
            bit = T.Cast("uint32", _remainder(self.channel, WORD_BITS))
            one, zero = tirx.const(1, "uint32"), tirx.const(0, "uint32")
            return tirx.NE(T.shift_right(word, bit) & one, zero)
        assert isinstance(self.offset, int)
        byte, bit = self.first // BYTE_BITS + self.offset // BYTE_BITS, self.offset % BYTE_BITS
        place = emit.address(layout, *self.position, byte, 4)
        if self.lanes <= BYTE_BITS:
            return _spread(T.Cast("int32", buffer[place]), bit, self.lanes)
        mask = emit.load(buffer, place, self.lanes // BYTE_BITS)
        return _spread(T.reinterpret(f"uint{self.lanes}", mask), 0, self.lanes)

    def constant(self, index: int) -> Value:
        """Channel constant `index`."""
        return emit.load(self.scope.buffers[f"constant{index}"], self.channel, self.lanes)

    def flags(self, index: int) -> Value:
        """Channel constant `index` as booleans."""
        return tirx.NE(self.constant(index), emit.constant(0, "int32", self.lanes))

    def as_float(self, x: Value) -> Value:
        """A number as float32."""
        if x.ty.dtype.startswith("float"):
            return x
        return T.Cast(emit.vector_type("float32", self.lanes), x)

    def as_level(self, x: Value) -> Value:
        """A number as int32, 0 where it is not above 0: the conversion of NaN would not be defined."""
        x, zero = emit.bind(self.as_float(x)), functions.number(0.0, self.lanes, self.is_c)
        return T.Cast(emit.vector_type("int32", self.lanes), tirx.Select(x > zero, x, zero))

    def alike(self, left: Value, right: Value) -> tuple[Value, Value]:
        """Both as float32 unless both are integers."""
        if _is_integer(left) and _is_integer(right):
            return left, right
        return self.as_float(left), self.as_float(right)


class Words(Values):
    """The same on whole words of bits; `first` and `offset` count words."""

    def evaluate(self, node: Node) -> Value:
        """The node from its operands."""
        if isinstance(node.expression, Flip):
            return self.value(node.operands[0]) ^ self.constant(node.expression.index)
        return super().evaluate(node)

    def operand(self, index: int) -> Value:
        """Words of an operand."""
        place = emit.address(self.scope.spec.operands[index], *self.position, self.channel)
        return emit.load(self.scope.buffers[f"operand{index}"], place, self.lanes)


def bits_of_word(word: Value, offset: Index, lanes: int) -> Value:
    """Booleans from bits offset, offset + 1, ... of a uint32 word."""
    if lanes == 1:
        one, zero = tirx.const(1, "uint32"), tirx.const(0, "uint32")
        return tirx.NE(T.shift_right(word, T.Cast("uint32", _expression(offset))) & one, zero)
    assert isinstance(offset, int)
    return _spread(T.shift_right(word, tirx.const(offset, "uint32")), 0, lanes)


def _spread(bits: Value, first: int, lanes: int, is_one: bool = False) -> Value:
    """Lane i: whether bit first + i of an integer of at most 32 bits is set; bit `first` in every lane if
    is_one."""
    ones = emit.constant(1, "uint32", lanes)
    zeros = emit.constant(0, "uint32", lanes)
    word = emit.broadcast(T.Cast("uint32", bits), lanes)
    if is_one or lanes == 1:
        return tirx.NE(word & emit.constant(1 << first, "uint32", lanes), zeros)
    numbers = T.Cast(emit.vector_type("uint32", lanes), T.Ramp(tirx.const(first, "int32"), 1, lanes))
    return tirx.NE(word & T.shift_left(ones, numbers), zeros)


def _differ(left: Value, right: Value) -> Value:
    """Booleans that are not equal; TVM's own comparison takes them for floats. LLVM makes it one
    exclusive-or."""
    return tirx.Or(tirx.And(left, tirx.Not(right)), tirx.And(tirx.Not(left), right))


def is_boolean(value: Value) -> bool:
    """Whether it is a truth value, or a vector of them."""
    return value.ty.dtype.startswith("bool")


def _is_integer(value: Value) -> bool:
    return value.ty.dtype.startswith("int")


def _expression(index: Index) -> Value:
    return tirx.const(index, "int32") if isinstance(index, int) else index


def quotient(index: Index, divisor: int) -> Index:
    """index / divisor, a power of two; index is not negative."""
    if isinstance(index, int):
        return index // divisor
    return T.shift_right(index, tirx.const(divisor.bit_length() - 1, "int32"))


def _remainder(index: Index, divisor: int) -> Index:
    if isinstance(index, int):
        return _expression(index % divisor)
    return index & tirx.const(divisor - 1, "int32")
