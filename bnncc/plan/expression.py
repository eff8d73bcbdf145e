# SPDX-License-Identifier: Apache-2.0
"""Epilogues: what a kernel does with each value of its root before it stores it.

An expression is a tree over one output position [n, h, w, c]; the same object may stand in it more than once,
which `plan.graph` makes use of. Real values are float32, rounded after
each operation (a compiler may contract a*b+c); Accumulator of a binary contraction is an exact int32.
A boolean expression (Compare, Flip, BitOf) is what packed outputs store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Literal

UnaryKind = Literal[
    "neg", "abs", "relu", "sqrt", "exp", "log", "tanh", "sigmoid", "round", "floor", "ceil", "sign", "erf"
]
BinaryKind = Literal["add", "sub", "mul", "div", "max", "min", "pow"]
CompareKind = Literal["ge", "gt", "ne", "le", "lt", "eq"]


@dataclass(frozen=True)
class Expression:
    """A node; its fields that are Expressions are its children."""

    def children(self) -> Iterator[Expression]:
        """The direct operands, in order."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Expression):
                yield value


@dataclass(frozen=True)
class Accumulator(Expression):
    """The root's value at this position: int32 of a binary contraction or an integer pool, float32 of
    a real one, boolean of a pool over bits. Absent from a Map kernel."""


@dataclass(frozen=True)
class Operand(Expression):
    """Operand `index` of the kernel at this position; a dimension of extent 1 is broadcast.

    float32 and int32 as stored, u8 and i8 as int32, packed bits as boolean (see FromBit)."""

    index: int


@dataclass(frozen=True)
class Channel(Expression):
    """Constant `index` of the kernel, a vector [c]: its element for this channel."""

    index: int


@dataclass(frozen=True)
class Scalar(Expression):
    """A float32 number."""

    value: float


@dataclass(frozen=True)
class Integer(Expression):
    """An int32 number."""

    value: int


@dataclass(frozen=True)
class ToFloat(Expression):
    """int32 to float32 (exact below 2^24)."""

    value: Expression


@dataclass(frozen=True)
class ToLevel(Expression):
    """float32 to int32, towards zero; what is not above 0 is 0, NaN too."""

    value: Expression


@dataclass(frozen=True)
class ToInteger(Expression):
    """float32 within the range of int32 to int32, towards zero."""

    value: Expression


@dataclass(frozen=True)
class MulShift(Expression):
    """int32: (left * right + 2^(shift - 1)) >> shift, the product in 64 bits; with shift 16 both factors are
    numbers of 16 bits."""

    left: Expression
    right: Expression
    shift: int


@dataclass(frozen=True)
class Lookup(Expression):
    """float32: entry `place`, an int32, of constant `index` of the kernel, a table of one row after the
    other."""

    place: Expression
    index: int


@dataclass(frozen=True)
class BitOf(Expression):
    """Boolean: bit `plane` of an int32 that is not negative."""

    value: Expression
    plane: int


@dataclass(frozen=True)
class FromBit(Expression):
    """A boolean as float32: `high` where it holds, else `low`. Bipolar: (-1, 1)."""

    value: Expression
    low: float = -1.0
    high: float = 1.0


@dataclass(frozen=True)
class Unary(Expression):
    """kind(value); round is to even; sign(0) is 0."""

    kind: UnaryKind
    value: Expression


@dataclass(frozen=True)
class Binary(Expression):
    """kind(left, right)."""

    kind: BinaryKind
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Compare(Expression):
    """Boolean: left kind right; both int32 or both float32."""

    kind: CompareKind
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Select(Expression):
    """`then` where the boolean condition holds, else `otherwise`."""

    condition: Expression
    then: Expression
    otherwise: Expression


@dataclass(frozen=True)
class Flip(Expression):
    """Boolean: value, negated in the channels where constant `index` (i32 [c], values 0 and 1) is 1."""

    value: Expression
    index: int


def replaced(expression: Expression, old: Expression, new: Expression) -> Expression:
    """The expression with `new` wherever a part of it equals `old`; what is shared stays shared."""
    found: dict[int, Expression] = {}

    def visit(part: Expression) -> Expression:
        if id(part) not in found:
            found[id(part)] = new if part == old else rebuilt(part)
        return found[id(part)]

    def rebuilt(part: Expression) -> Expression:
        children = {
            f.name: value for f in fields(part) if isinstance(value := getattr(part, f.name), Expression)
        }
        visited = {name: visit(child) for name, child in children.items()}
        same = all(visited[name] is child for name, child in children.items())
        return part if same else replace(part, **visited)

    return visit(expression)
