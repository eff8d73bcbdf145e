# SPDX-License-Identifier: Apache-2.0
"""settle-integers: quantised tensors lose what only stands between two halves of a quantiser.

QuantizeLinear makes bytes, DequantizeLinear takes them apart: zero points are added and subtracted, integers
cast to bytes and back, clipped and rounded once more. Where a value is proved to be integers all of that
changes nothing, and what is left between two layers is one cast to a domain and one from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32, i8
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.types import Level, element_of, ui8
from bnncc.passes.infer_domains import rebuilt
from bnncc.passes.levels import INTEGERS, Levels, Range
from bnncc.passes.matching import apply_patterns, constant_of, has_one_use, producer, replace, uniform_value

BYTES = (ui8, i8)

MOVING = (ops.Transpose, ops.Reshape, ops.Concat)
"""Operations that only move values."""

LARGEST = 1 << 15
"""Integers up to this magnitude survive a multiplication by a scale and the division by it, rounded."""


def is_within(known: Range, low: float, high: float) -> bool:
    """Whether a value is proved to be integers from low to high."""
    return known.exact and low <= known.low and known.high <= high


class MoveBytes(RewritePattern):
    """What moves bytes that were numbers moves the numbers, which settle before."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Exchange the operation with the casts in front of it."""
        if not isinstance(op, MOVING) or element_of(op.results[0]) not in BYTES:
            return
        casts = [producer(operand, ops.Cast) for operand in op.operands]
        inputs = [cast.input for cast in casts if cast is not None and element_of(cast.input) == f32]
        if len(inputs) < len(casts):
            return
        inner = rebuilt(op, inputs)
        assert inner is not None, "numbers can be moved"
        replace(rewriter, op, [inner, ops.Cast(inner.results[0], element_of(op.results[0]))])


@dataclass
class KnowingLevels(RewritePattern):
    """A pattern that asks what is known of values."""

    levels: Levels


class SettleCast(KnowingLevels):
    """Integers that a type holds come back from it as they were."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Cast, rewriter: PatternRewriter) -> None:
        """Look behind two casts."""
        inner = producer(op.input, ops.Cast)
        if inner is None or inner.input.type != op.result.type:
            return
        between = element_of(inner.result)
        if element_of(op.result) == f32 and between in BYTES:
            known = self.levels.of(inner.input)
            if is_within(known, *_bounds(INTEGERS[between])):
                replace(rewriter, op, [], inner.input)
        elif isinstance(element_of(op.result), Level) and between == f32:
            replace(rewriter, op, [], inner.input)


def _bounds(known: Range) -> tuple[float, float]:
    return known.low, known.high


class SettleOffset(KnowingLevels):
    """(x + c) - c is x for integers."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Sub, rewriter: PatternRewriter) -> None:
        """The same number added and subtracted."""
        number, add = uniform_value(op.right), producer(op.left, ops.Add)
        if number is None or add is None or number != round(number) or abs(number) > LARGEST:
            return
        for x, added in ((add.left, add.right), (add.right, add.left)):
            if uniform_value(added) == number and x.type == op.result.type:
                if is_within(self.levels.of(x), -LARGEST, LARGEST):
                    replace(rewriter, op, [], x)
                return


class MoveOffset(KnowingLevels):
    """The maximum of integers x + c is c more than that of x."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.MaxPool, rewriter: PatternRewriter) -> None:
        """Exchange the pool with the addition."""
        add = producer(op.input, ops.Add)
        if add is None or not has_one_use(op.input) or uniform_value(add.right) is None:
            return
        is_scalar = constant_of(add.right) is not None and add.left.type == op.input.type
        if not is_scalar or not is_within(self.levels.of(add.left), -LARGEST, LARGEST):
            return
        inner = rebuilt(op, [add.left])
        assert inner is not None, "numbers can be pooled"
        constant = ops.Constant(np.asarray(uniform_value(add.right), np.float32))
        replace(rewriter, op, [inner, constant, ops.Add(inner.results[0], constant.result)])


class SettleRound(KnowingLevels):
    """Integers are rounded already, also those that were scaled and are divided by the same scale."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Round, rewriter: PatternRewriter) -> None:
        """Of x, or of x * s / s."""
        value = unscaled(op.input)
        if value is not None and is_within(self.levels.of(value), -LARGEST, LARGEST):
            replace(rewriter, op, [], value)


def unscaled(value: SSAValue) -> SSAValue | None:
    """x of x * s / s, or the value itself where nothing divides."""
    div = producer(value, ops.Div)
    if div is None:
        return value
    number, mul = uniform_value(div.right), producer(div.left, ops.Mul)
    if not number or mul is None or not math.isfinite(number):
        return None
    for x, scale in ((mul.left, mul.right), (mul.right, mul.left)):
        if uniform_value(scale) == number and x.type == value.type:
            return x
    return None


class SettleClip(KnowingLevels):
    """A clip of what lies within its bounds changes nothing."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Clip, rewriter: PatternRewriter) -> None:
        """Compare the bounds."""
        if is_within(self.levels.of(op.input), op.low.value.data, op.high.value.data):
            replace(rewriter, op, [], op.input)


KNOWING = (MoveOffset, SettleCast, SettleOffset, SettleRound, SettleClip)


class SettleIntegersPass(ModulePass):
    """Apply until nothing is left to settle."""

    name = "settle-integers"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        if not any(isinstance(inner, ops.Cast) and _is_quantised(inner) for inner in op.walk()):
            return
        changed = True
        while changed:
            # What was found out of a value stays true; with less in front of it, more may be.
            levels = Levels()
            changed = apply_patterns(op, MoveBytes(), *(kind(levels) for kind in KNOWING))


def _is_quantised(cast: ops.Cast) -> bool:
    element = element_of(cast.result)
    return element in BYTES or isinstance(element, Level)
