# SPDX-License-Identifier: Apache-2.0
"""Which values are known to be few equally spaced numbers, and which weights are: step * integer.

`Levels.of` proves it from the operations behind a value (casts, round, clip, comparisons), never from what a
quantiser usually looks like. NaN is left out of account, as everywhere in the dialect: it has no level."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from xdsl.dialects.builtin import f32, i1, i8, i32
from xdsl.ir import Attribute, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import (
    LEVEL_BITS,
    PLANE_BITS,
    Level,
    domain_values,
    element_of,
    level_type,
    ui8,
)
from bnncc.passes.matching import ELEMENTWISE, producer, uniform_value

TOLERANCE = 1e-5
"""Weights that differ from equally spaced levels by no more than this part of the largest are those levels:
folding leaves such jitter."""

LARGEST_WEIGHT = 1 << PLANE_BITS - 1
"""Weights are at most this many steps from 0, on one side of it: from -8 to 8 there are 17 levels."""

SIGNED_LEVELS = 1 << LEVEL_BITS - 1
"""Weights of 8 bits are -128 .. 127."""

BYTE_TOLERANCE = 1e-6
"""The tolerance for levels of 8 bits: a product of two float32 numbers, rounded."""

FEW_TAPS = 32
"""Taps of a channel that are looked at first."""

NEAR = 1e-6
"""Numbers of steps that differ by no more than this are equal: a scale was rounded to float32. Of bounds it
is a part: 255 steps are rounded to as many bits as one."""


FARTHEST = 1 << 9
"""Offsets are at most so many steps, twice as many as there are levels: a sum with more loses bits."""


@dataclass(frozen=True)
class Range:
    """low <= x <= high; where `step` is not None, x is a multiple of it but for rounding, and where `exact`
    an integer (then step is 1).

    The bounds are numbers of float32, rounded as the values are: what is a hair below 8 may be 8 there, which
    its floor is, too."""

    low: float = -math.inf
    high: float = math.inf
    step: float | None = None
    exact: bool = False

    def bounds(self) -> tuple[int, int] | None:
        """The first and the last multiple of the step, in steps; None where there is no step or no bound."""
        if self.step is None or not math.isfinite(self.low) or not math.isfinite(self.high):
            return None
        low, high = self.low / self.step, self.high / self.step
        return math.ceil(low - NEAR * max(1, abs(low))), math.floor(high + NEAR * max(1, abs(high)))

    def has(self, number: float) -> bool:
        """Whether a number is a multiple of the step."""
        if self.step is None or not math.isfinite(number / self.step):
            return False
        return abs(number / self.step - round(number / self.step)) <= NEAR

    def clipped(self, low: float, high: float) -> Range:
        """Of max(low, min(x, high))."""
        cutting = [bound for bound, cuts in ((low, self.low < low), (high, self.high > high)) if cuts]
        step = self.step if all(map(self.has, cutting)) else None
        bounds = min(max(self.low, low), high), max(min(self.high, high), low)
        return Range(*bounds, step, self.exact and all(bound.is_integer() for bound in cutting))

    def scaled(self, factor: float) -> Range:
        """Of factor * x."""
        if factor == 0 or not math.isfinite(factor):
            return ANYTHING
        step = None if self.step is None else self.step * abs(factor)
        low, high = sorted(_float32(bound * factor) for bound in (self.low, self.high))
        return Range(low, high, step, self.exact and abs(factor) == 1)

    def divided(self, divisor: float) -> Range:
        """Of x / divisor."""
        if divisor == 0 or not math.isfinite(divisor):
            return ANYTHING
        step = None if self.step is None else self.step / abs(divisor)
        low, high = sorted(_float32(bound / divisor) for bound in (self.low, self.high))
        return Range(low, high, step, self.exact and abs(divisor) == 1)

    def moved(self, offset: float) -> Range:
        """Of x + offset. A large one rounds multiples of a step to others, but integers to integers."""
        low, high = _float32(self.low + offset), _float32(self.high + offset)
        exact = self.exact and offset.is_integer()
        is_small = self.step is not None and abs(offset) <= FARTHEST * self.step
        step = self.step if exact or (is_small and self.has(offset)) else None
        return Range(low, high, step, exact)

    def union(self, other: Range) -> Range:
        """Of a value that is one or the other."""
        step = self.step if _alike(self.step, other.step) else None
        exact = self.exact and other.exact
        return Range(min(self.low, other.low), max(self.high, other.high), step, exact and step is not None)

    def plus(self, other: Range) -> Range:
        """Of the sum of two values."""
        both = self.union(other)
        return replace(both, low=_float32(self.low + other.low), high=_float32(self.high + other.high))


def _float32(number: float) -> float:
    """Rounded to float32 (of a result in float64, which makes no difference for one operation)."""
    with np.errstate(over="ignore"):
        return float(np.float32(number))


ANYTHING = Range()

INTEGERS = {
    i32: Range(step=1.0, exact=True),
    i8: Range(-128, 127, 1.0, True),
    ui8: Range(0, 255, 1.0, True),
}
"""What is known of integers that are cast to f32."""

TELLING = (*ELEMENTWISE, ops.Transpose, ops.Reshape, ops.MaxPool, ops.Pad, ops.Concat)
"""Operations whose result has the range that their operands have, or one that follows from it."""


def _alike(step: float | None, other: float | None) -> bool:
    return step is not None and other is not None and abs(step - other) <= NEAR * step


class Levels:
    """What is known of the values of one module; every value is looked at once."""

    def __init__(self) -> None:
        self._known: dict[SSAValue, Range] = {}

    def of(self, value: SSAValue) -> Range:
        """The range of a value of f32."""
        for earlier in self._unknown_behind(value):
            self._known[earlier] = self._find(earlier)
        return self._known[value]

    def _unknown_behind(self, value: SSAValue) -> Iterator[SSAValue]:
        """The value and those that it is computed from, as far as they tell something, each after those it
        depends on: chains may be longer than Python's stack is deep."""
        waiting = [value]
        while waiting:
            current = waiting[-1]
            op = current.owner
            looked_at = op.operands if isinstance(op, TELLING) and current not in self._known else ()
            unknown = [operand for operand in looked_at if operand not in self._known]
            waiting += unknown
            if not unknown:
                waiting.pop()
                if current not in self._known:
                    yield current

    def _find(self, value: SSAValue) -> Range:
        number = uniform_value(value)
        if number is not None:
            return _single(number)
        op = value.owner
        match op:
            case ops.Cast():
                return _cast(op)
            case ops.Round() | ops.Floor() | ops.Ceil():
                inner = self.of(op.input)
                low, high = (_rounded(op, bound) for bound in (inner.low, inner.high))
                return Range(low, high, 1.0, True)
            case ops.Clip():
                return self.of(op.input).clipped(op.low.value.data, op.high.value.data)
            case ops.Relu():
                return self.of(op.input).clipped(0.0, math.inf)
            case ops.Neg():
                return self.of(op.input).scaled(-1.0)
            case ops.Sigmoid():
                return Range(0.0, 1.0)
            case ops.Tanh():
                return Range(-1.0, 1.0)
            case ops.Select():
                return self._select(op)
            case ops.Transpose() | ops.Reshape() | ops.MaxPool():
                return self.of(op.input)
            case ops.Pad() if op.is_crop:
                return self.of(op.input)
            case ops.Pad():
                return self._joined(self.of(op.input), op.value.value.data)
            case ops.MeanPool():
                return self._mean(op)
            case ops.Concat():
                first, *rest = (self.of(operand) for operand in op.operands)
                for other in rest:
                    first = first.union(other)
                return first
            case ops.Add() | ops.Sub() | ops.Mul() | ops.Div() | ops.Max() | ops.Min():
                return self._arithmetic(op)
        return ANYTHING

    def _mean(self, op: ops.MeanPool) -> Range:
        """Of spikes: a count times one part, where every window counts the same taps."""
        inner, taps = self.of(op.input), math.prod(ops.unpack(op.kernel))
        domain, is_padded = element_of(op.input), any(ops.unpack(op.pads))
        if isinstance(domain, Level):
            return Range(min(domain.lowest, 0), max(domain.highest, 0))
        is_even = bool(op.count_outside.value.data) or not is_padded
        if inner.exact and (inner.low, inner.high) == (0, 1) and is_even:
            return Range(0.0, 1.0, 1 / taps)
        low, high = inner.low, inner.high
        if op.count_outside.value.data and is_padded:
            low, high = min(low, 0.0), max(high, 0.0)
        # Each sum is rounded, and the quotient.
        slack = (taps + 1) * float(np.finfo(np.float32).eps) * max(abs(low), abs(high))
        return Range(low - slack, high + slack) if math.isfinite(slack) else Range(low, high)

    def _arithmetic(self, op: ops.Add | ops.Sub | ops.Mul | ops.Div | ops.Max | ops.Min) -> Range:
        left, right = op.left, op.right
        if uniform_value(left) is not None and isinstance(op, ops.Add | ops.Mul | ops.Max | ops.Min):
            left, right = right, left
        number = uniform_value(right)
        match op:
            case ops.Add() if number is None:
                return self.of(left).plus(self.of(right))
            case ops.Div() if number is None:
                return Range(-1.0, 1.0) if _is_softsign(op) else ANYTHING
        if number is None:
            return ANYTHING
        inner = self.of(left)
        match op:
            case ops.Add():
                return inner.moved(number)
            case ops.Sub():
                return inner.moved(-number)
            case ops.Mul():
                return inner.scaled(number)
            case ops.Div():
                return inner.divided(number)
            case ops.Max():
                return inner.clipped(number, math.inf)
            case ops.Min():
                return inner.clipped(-math.inf, number)

    def _select(self, op: ops.Select) -> Range:
        then, otherwise = uniform_value(op.operands[1]), uniform_value(op.operands[2])
        if then is not None and otherwise is not None:
            return _pair(then, otherwise)
        if then is not None:
            return self._joined(self.of(op.operands[2]), then)
        if otherwise is not None:
            return self._joined(self.of(op.operands[1]), otherwise)
        return self.of(op.operands[1]).union(self.of(op.operands[2]))

    def _joined(self, inner: Range, number: float) -> Range:
        """Of a value that may be one more number."""
        step = inner.step if inner.has(number) else None
        return Range(
            min(inner.low, number), max(inner.high, number), step, inner.exact and number.is_integer()
        )


def _single(number: float) -> Range:
    if not math.isfinite(number):
        return ANYTHING
    is_integer = number == round(number)
    return Range(number, number, 1.0 if is_integer else None, is_integer)


def _pair(one: float, other: float) -> Range:
    """Of a value that is one of two numbers."""
    if not math.isfinite(one) or not math.isfinite(other):
        return ANYTHING
    low, high = sorted((one, other))
    if one == round(one) and other == round(other):
        return Range(low, high, 1.0, True)
    if 0.0 in (one, other):
        return Range(low, high, max(abs(low), abs(high)))
    return Range(low, high)


def _cast(op: ops.Cast) -> Range:
    source = element_of(op.input)
    values = {0, 1} if source == i1 else domain_values(source)
    if element_of(op.result) != f32:
        return ANYTHING
    if values is not None:
        return Range(min(values), max(values), 1.0, True)
    return INTEGERS.get(source, ANYTHING)


def _rounded(op: ops.Round | ops.Floor | ops.Ceil, bound: float) -> float:
    if math.isinf(bound):
        return bound
    match op:
        case ops.Round():
            return float(np.rint(bound))
        case ops.Floor():
            return math.floor(bound)
        case ops.Ceil():
            return math.ceil(bound)


def _is_softsign(op: ops.Div) -> bool:
    """Whether it is x / (|x| + c), c > 0."""
    add = producer(op.right, ops.Add)
    if add is None:
        return False
    for magnitude, constant in ((add.left, add.right), (add.right, add.left)):
        absolute, number = producer(magnitude, ops.Abs), uniform_value(constant)
        if absolute is not None and number is not None and number > 0:
            return absolute.input == op.left
    return False


def has_kernel(op: ops.Conv2d | ops.Dense, domain: Attribute) -> bool:
    """Whether integers of a domain can be summed: those that bytes hold with padding only where 0 is one of
    them."""
    if not isinstance(domain, Level) or not domain.is_byte or isinstance(op, ops.Dense):
        return True
    return not any(ops.unpack(op.pads)) or domain.lowest <= 0 <= domain.highest


def domain_of(known: Range, bits: int = LEVEL_BITS) -> Attribute | None:
    """The domain of the multiples of a step that a value may be, in steps, if so many bits hold them."""
    bounds = known.bounds()
    if bounds is None:
        return None
    lowest, highest = bounds
    is_small = lowest >= -255 and highest <= 255
    return level_type(lowest, highest) if is_small and 0 < highest - lowest < 1 << bits else None


def weight_levels(
    weight: np.ndarray, most_steps: int = LARGEST_WEIGHT, tolerance: float = TOLERANCE
) -> tuple[np.ndarray, np.ndarray] | None:
    """(levels int8, scale float64 [o]) with weight = scale * levels, or None.

    Levels are integers up to `most_steps` in magnitude, in each output channel the smallest that fit up to
    a tolerance. A channel of zeros only has scale 0 and levels +1, so that it does not make the whole weight
    ternary."""
    rows = weight.reshape(weight.shape[0], -1).astype(np.float64)
    largest = np.abs(rows).max(axis=1, initial=0.0)
    if not np.isfinite(largest).all():
        return None
    levels = np.ones(rows.shape, np.int8)
    scale = np.zeros(len(rows))
    todo = largest > 0
    for most in range(1, most_steps + 1):
        if not todo.any():
            break
        # A few taps of a channel tell most that do not fit.
        step = np.where(largest > 0, largest, 1) / most
        few = rows[:, :FEW_TAPS] / step[:, None]
        likely = np.flatnonzero(todo & (np.abs(few - np.rint(few)) <= 2 * tolerance * most).all(axis=1))
        part = rows[likely]
        found = np.rint(part / step[likely, None])
        fitted = _scale(part, found)
        near = np.abs(part - fitted[:, None] * found).max(axis=1, initial=0.0) <= tolerance * largest[likely]
        fits = near & ((found == 0) == (part == 0)).all(axis=1) & (found < SIGNED_LEVELS).all(axis=1)
        levels[likely[fits]], scale[likely[fits]] = found[fits], fitted[fits]
        todo[likely[fits]] = False
    bits = PLANE_BITS if most_steps == LARGEST_WEIGHT else LEVEL_BITS
    too_many = levels.size and int(levels.max()) - int(levels.min()) >= 1 << bits
    if todo.any() or too_many:
        return None
    return levels.reshape(weight.shape), scale


def byte_levels(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The same for integers of 8 bits, as quantisers make them."""
    return weight_levels(weight, SIGNED_LEVELS, BYTE_TOLERANCE)


def _scale(rows: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The mean step of each row, as float32 holds it."""
    total = np.maximum(np.abs(levels).sum(axis=1), 1)
    return (np.abs(rows).sum(axis=1) / total).astype(np.float32).astype(np.float64)
