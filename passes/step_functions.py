# SPDX-License-Identifier: Apache-2.0
"""Values that are step functions of one float32: found exactly, by evaluating them.

A value computed element by element from one real value x and from uniform constants is a function of a
float32. Pieces of it are constant (what follows comparisons, roundings and signs) or monotone (what sums,
products by constants, clips and the like leave); where a monotone piece is compared or rounded, the float32
at which the answer changes is found by bisection over the floats themselves, so no rounding is overlooked.
Whatever is neither is unknown, which does no harm where a Select never takes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from xdsl.dialects.builtin import f32
from xdsl.ir import Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, shape_of
from bnncc.passes.matching import ELEMENTWISE, constant_of, discard, uniform_value
from bnncc.reference import evaluate_operation

MOST_OPERATIONS = 48
"""Between a value and the x that it is a function of."""

MOST_STEPS = 16
"""Of one function."""

LARGEST = int(np.array(np.finfo(np.float32).max).view(np.int32))
"""The key of the largest finite float32; see `key_of`."""

STEPPED = (ops.Compare, ops.Binarize, ops.Round, ops.Floor, ops.Ceil)
"""Operations that make constant pieces of monotone ones."""

MONOTONE = (ops.Add, ops.Sub, ops.Mul, ops.Div, ops.Max, ops.Min, ops.Neg, ops.Relu, ops.Clip)
"""Operations that are monotone in any operand while the others are constant (a divisor may not vary)."""


def key_of(number: float) -> int:
    """The rank of a finite float32 among all of them; either zero has rank 0."""
    bits = int(np.array(number, np.float32).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def number_of(key: int | np.ndarray) -> np.ndarray:
    """The float32 of a rank."""
    keys = np.asarray(key, np.int64)
    return np.copysign(np.abs(keys).astype(np.int32).view(np.float32), keys).astype(np.float32)


@dataclass(frozen=True)
class Piece:
    """What a function does from one float32 (by its key) up to the next piece.

    value: a NumPy scalar where it is constant. monotone: it varies, in one direction; neither: unknown."""

    start: int
    value: np.generic | None = None
    monotone: bool = False

    def same_as(self, other: Piece) -> bool:
        """Whether both are the same constant."""
        return self.value is not None and other.value is not None and bool(self.value == other.value)


@dataclass(frozen=True)
class StepFunction:
    """`input` below starts[1] gives levels[0], then levels[1] and so on; starts[0] is the least float32."""

    input: SSAValue
    starts: tuple[int, ...]
    levels: tuple[float, ...]


def step_function(value: SSAValue) -> StepFunction | None:
    """The value as a step function of the value farthest from it that it is one of, or None."""
    order = cone(value)
    if not any(isinstance(op, STEPPED) for op in order):
        return None
    for leaf in reversed(list(dominators(value, order))):
        if element_of(leaf) != f32:
            continue
        pieces = Analysis(leaf, order).pieces(value)
        if pieces and 2 <= len(pieces) <= MOST_STEPS and all(p.value is not None for p in pieces):
            levels = tuple(float(p.value) for p in pieces if p.value is not None)
            if all(math.isfinite(level) for level in levels):
                return StepFunction(leaf, tuple(p.start for p in pieces), levels)
    return None


def cone(value: SSAValue) -> list[Operation]:
    """The element-wise operations that a value is computed by, producers first; MOST_OPERATIONS at most."""
    order: list[Operation] = []
    seen: set[Operation] = set()

    def visit(op: Operation) -> None:
        seen.add(op)
        for operand in op.operands:
            before = operand.owner
            if before not in seen and expandable(operand) and len(seen) < MOST_OPERATIONS:
                assert isinstance(before, Operation)
                visit(before)
        order.append(op)

    if expandable(value):
        assert isinstance(value.owner, Operation)
        visit(value.owner)
    return order


def expandable(value: SSAValue) -> bool:
    """Whether a value is made element by element from values of its shape and from uniform constants."""
    op = value.owner
    if not isinstance(op, ELEMENTWISE):
        return False
    shape = shape_of(value)
    return all(
        uniform_value(v) is not None if constant_of(v) is not None else shape_of(v) == shape
        for v in op.operands
    )


def dominators(value: SSAValue, order: Sequence[Operation]) -> Iterator[SSAValue]:
    """The values through which all that `value` is computed from passes, nearest first."""
    frontier = {value}
    for op in reversed(order):
        if op.results[0] not in frontier:
            continue
        frontier.remove(op.results[0])
        frontier.update(v for v in op.operands if constant_of(v) is None)
        if len(frontier) == 1:
            yield next(iter(frontier))


class Analysis:
    """The pieces of every value between `leaf` and what is asked for."""

    def __init__(self, leaf: SSAValue, order: Sequence[Operation]):
        self.leaf = leaf
        self.order = order
        self.known: dict[SSAValue, list[Piece]] = {leaf: [Piece(-LARGEST, monotone=True)]}

    def pieces(self, value: SSAValue) -> list[Piece]:
        """The pieces of a value, neighbours differing; empty where there are too many."""
        for op in self.order:
            result = op.results[0]
            if result not in self.known and all(self.operand(v) is not None for v in op.operands):
                self.known[result] = joined(self.apply(op))
        return self.known.get(value, [])

    def operand(self, value: SSAValue) -> list[Piece] | None:
        """The pieces of an operand: one for a constant, None for what does not depend on the leaf."""
        array = constant_of(value)
        if array is None:
            return self.known.get(value)
        return [Piece(-LARGEST, array.reshape(-1)[0])]

    def apply(self, op: Operation) -> list[Piece]:
        """The pieces of an operation's result from those of its operands."""
        functions = [self.operand(v) or [] for v in op.operands]
        starts = sorted({piece.start for pieces in functions for piece in pieces})
        if not all(functions) or len(starts) > MOST_STEPS:
            return []
        result: list[Piece] = []
        for start, after in zip(starts, [*starts[1:], LARGEST + 1], strict=True):
            at = [piece_at(pieces, start) for pieces in functions]
            result += self.combine(op, at, start, after)
        return result

    def combine(self, op: Operation, at: Sequence[Piece], start: int, after: int) -> list[Piece]:
        """What `op` makes of one piece of each operand, from `start` up to `after`."""
        values = [piece.value for piece in at if piece.value is not None]
        if len(values) == len(at):
            (array,) = evaluate_operation(op, [np.reshape(v, (1,)) for v in values])
            return [Piece(start, array.reshape(-1)[0])]
        if isinstance(op, ops.Select) and at[0].value is not None:
            taken = at[1] if at[0].value else at[2]
            return [Piece(start, taken.value, taken.monotone)]
        varying = [i for i, piece in enumerate(at) if piece.value is None]
        if len(varying) != 1 or not at[varying[0]].monotone:
            return [Piece(start)]
        if isinstance(op, STEPPED):
            return self.steps(op, start, after)
        kept = isinstance(op, MONOTONE) or (isinstance(op, ops.Cast) and element_of(op.result) == f32)
        return [Piece(start, monotone=kept and not (isinstance(op, ops.Div) and varying[0] == 1))]

    def steps(self, op: Operation, start: int, after: int) -> list[Piece]:
        """The constant pieces of a comparison or rounding of something monotone, by bisection."""
        if isinstance(op, ops.Compare) and op.kind.data in ("eq", "ne"):
            # Equal from where it is not below any more to where it is above.
            equal, compared = op.kind.data == "eq", partial(self.compared, op)
            bounds = [key for kind in ("ge", "gt") for key in changes(partial(compared, kind), start, after)]
            starts = [start, *sorted(set(bounds))]
            return [Piece(key, np.bool_(compared("eq", np.array([key]))[0] == equal)) for key in starts]

        def function(keys: np.ndarray) -> np.ndarray:
            return self.sample(op.results[0], keys)

        ends = function(np.array([start, after - 1])).astype(np.float64)
        if not abs(ends[1] - ends[0]) <= MOST_STEPS:
            return [Piece(start)]
        starts = [start, *changes(function, start, after)]
        return [Piece(key, value) for key, value in zip(starts, function(np.array(starts)), strict=True)]

    def compared(self, op: ops.Compare, kind: str, keys: np.ndarray) -> np.ndarray:
        """Another comparison of the operands of `op`."""
        left, right = (self.sample(v, keys) for v in (op.left, op.right))
        comparison = ops.Compare(kind, op.left, op.right)
        (result,) = evaluate_operation(comparison, [left, right])
        discard([comparison])
        return result.reshape(-1)

    def sample(self, value: SSAValue, keys: np.ndarray) -> np.ndarray:
        """The value where the leaf is each of the float32 of these keys, evaluated operation by operation."""
        return evaluate_at(self.leaf, value, number_of(keys))


def evaluate_at(leaf: SSAValue, value: SSAValue, x: np.ndarray) -> np.ndarray:
    """`value` [n] for values x [n] of the leaf, by the operations between them."""
    known: dict[SSAValue, np.ndarray] = {leaf: x}

    def visit(v: SSAValue) -> np.ndarray:
        if v not in known:
            array = constant_of(v)
            if array is not None:
                known[v] = array.reshape(-1)[:1]
            else:
                assert isinstance(v.owner, Operation)
                (known[v],) = evaluate_operation(v.owner, [visit(operand) for operand in v.owner.operands])
        return known[v]

    return np.broadcast_to(visit(value), x.shape)


def changes(function: Callable[[np.ndarray], np.ndarray], start: int, after: int) -> list[int]:
    """The keys in (start, after) at which a monotone function of keys changes, ascending."""
    found: list[int] = []
    intervals = [(start, after - 1)]
    low_high = function(np.array([start, after - 1]))
    values = {start: low_high[0], after - 1: low_high[1]}
    while intervals:
        low, high = intervals.pop()
        if values[low] == values[high]:
            continue
        if high == low + 1:
            found.append(high)
            continue
        middle = (low + high) // 2
        values[middle] = function(np.array([middle]))[0]
        intervals += [(low, middle), (middle, high)]
    return sorted(found)


def piece_at(pieces: Sequence[Piece], key: int) -> Piece:
    """The piece that holds at this key."""
    return [piece for piece in pieces if piece.start <= key][-1]


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbours of the same constant are one piece."""
    return [p for i, p in enumerate(pieces) if i == 0 or not p.same_as(pieces[i - 1])]
