# SPDX-License-Identifier: Apache-2.0
"""Integers behind a scale and an offset that no step divides: normalised pixels (q - 127.5) / 127.5, levels
(2 q - 3) / 3.

A contraction is linear: of a * q + c it is that of a * q, plus what c adds, which is known now; where the
padding is 0, less of it at the border."""

from __future__ import annotations

import math

import numpy as np
from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern
from xdsl.rewriter import InsertPoint

from bnncc.dialect import operations as ops
from bnncc.dialect.sources import SOURCE
from bnncc.dialect.types import domain_values, element_of, shape_of
from bnncc.passes.infer_domains import contracted
from bnncc.passes.levels import Levels, domain_of, has_kernel, weight_levels
from bnncc.passes.matching import compress, constant_of, first_move, replace, uniform_value
from bnncc.passes.step_functions import evaluate_at
from bnncc.reference import evaluate_operation

LARGEST = float(np.finfo(np.float32).max)

LONGEST = 8
"""Operations that are looked through."""

ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""What float32 may make of a * q + c, as a part of the largest: an offset that is taken away again rounds to
multiples of a number, which may be meant."""


def affine(levels: Levels, value: SSAValue) -> tuple[SSAValue, float, float] | None:
    """(q, a, c) with value = a * q + c, q integers that a domain holds; None where there are none."""
    scale, offset, result = 1.0, 0.0, value
    for _ in range(LONGEST):
        known = levels.of(value)
        domain = domain_of(known) if known.exact else None
        if domain is not None:
            integers = np.array(sorted(domain_values(domain) or ()), np.float32)
            numbers = evaluate_at(value, result, integers)
            return (value, scale, offset) if is_line(integers, numbers, scale, offset) else None
        op = value.owner
        if not isinstance(op, ops.Add | ops.Sub | ops.Mul | ops.Div):
            return None
        left, number = op.left, uniform_value(op.right)
        if number is None and isinstance(op, ops.Add | ops.Mul):
            left, number = op.right, uniform_value(op.left)
        if not number or not math.isfinite(number) or left.type != value.type:
            return None
        match op:
            case ops.Add():
                offset += scale * number
            case ops.Sub():
                offset -= scale * number
            case ops.Mul():
                scale *= number
            case ops.Div():
                scale /= number
        value = left
    return None


def is_line(integers: np.ndarray, numbers: np.ndarray, scale: float, offset: float) -> bool:
    """Whether numbers are scale * integers + offset but for ROUNDING."""
    line = scale * integers.astype(np.float64) + offset
    return bool((np.abs(numbers - line) <= ROUNDING * np.abs(line).max()).all())


class SplitOffset(RewritePattern):
    """The contraction of a * q + c with weights of few levels is that of a * q, plus a constant."""

    def __init__(self, levels: Levels):
        self.levels = levels

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Conv2d | ops.Dense, rewriter: PatternRewriter) -> None:
        """Check the weight, then the activation: it must not be a number times integers by itself."""
        weight, reader = constant_of(op.weight), first_move(op)
        value = reader.operands[0]
        if weight is None or weight.dtype != np.float32 or element_of(value) != f32:
            return
        if weight_levels(weight) is None or self.levels.of(value).bounds() is not None:
            return
        found = affine(self.levels, value)
        if found is None or max(map(abs, found[1:])) > LARGEST:
            return
        integers, scale, offset = found
        domain = domain_of(self.levels.of(integers))
        assert domain is not None
        if not has_kernel(op, domain):
            return
        everywhere = np.full((1, *shape_of(op.input)[1:]), offset, np.float32)
        (added,) = evaluate_operation(op, [everywhere, weight])
        factor = ops.Constant(np.asarray(scale, np.float32))
        scaled = ops.Mul(integers, factor.result)
        scaled.location = factor.location = op.location
        rewriter.insert([factor, scaled], InsertPoint.before(reader))
        reader.operands[0] = scaled.result
        while reader is not op:  # what moves the value moves another one now
            reader.attributes.pop(SOURCE, None)
            (use,) = reader.results[0].uses
            reader = use.operation
        inner = contracted(op, op.input, op.weight)
        constant = ops.Constant(compress(np.ascontiguousarray(added, np.float32)))
        replace(rewriter, op, [inner, constant, ops.Add(inner.results[0], constant.result)])
