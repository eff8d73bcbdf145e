# SPDX-License-Identifier: Apache-2.0
"""fold-batch-norm: what is left of batch normalisation becomes one multiplication and one addition.

Runs after fold-thresholds, which needs the original order of the float32 operations; the values here are
real and may be rounded otherwise in the last place.
"""

from __future__ import annotations

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, shape_of
from bnncc.passes.fold_constants import CompressConstants, DropNeutral
from bnncc.passes.matching import apply_patterns, channel_form, constant_of, has_one_use, producer, replace


class FoldBatchNorm(RewritePattern):
    """batch_norm(x) is x * (scale / sqrt(variance + epsilon)) + (bias - mean * that); of x * c, a scale that
    nothing else reads, it is x times both."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.BatchNorm, rewriter: PatternRewriter) -> None:
        """Compute both vectors in float64."""
        found = [constant_of(operand) for operand in list(op.operands)[1:]]
        arrays = [array.astype(np.float64) for array in found if array is not None]
        if len(arrays) != 4:
            return
        scale, bias, mean, variance = arrays
        # A variance below 0 gives NaN, as it does in the graph.
        with np.errstate(all="ignore"):
            factor = scale / np.sqrt(variance + op.epsilon.value.data)
            offsets = ops.Constant((bias - mean * factor).astype(np.float32))
        x, factor = with_scale(op.input, factor)
        with np.errstate(over="ignore"):
            factors = ops.Constant(factor.astype(np.float32))
        product = ops.Mul(x, factors.result)
        replace(rewriter, op, [factors, product, offsets, ops.Add(product.result, offsets.result)])


TINY = float(np.finfo(np.float32).tiny)
"""The smallest float32 of full precision."""


def with_scale(value: SSAValue, factor: np.ndarray) -> tuple[SSAValue, np.ndarray]:
    """What times a factor, float64 [c], is `value` times the one given: of x * c that is x, where float32
    holds the product of both."""
    found = scaled(value)
    if found is None or found[0].type != value.type:
        return value, factor
    x, constant = found
    scale = channel_form(constant, len(shape_of(value)))
    if scale is None:
        return value, factor
    product = scale.astype(np.float64) * factor
    with np.errstate(over="ignore"):
        held = product.astype(np.float32)
    lost = ~np.isfinite(held) | ((np.abs(held) < TINY) & (product != 0))
    return (value, factor) if lost.any() else (x, product)


class DivideByMultiplying(RewritePattern):
    """x / c is x * (1 / c) where 1 / c is exact: where c is a power of two, and not so small that 1 / c is
    infinite."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Div, rewriter: PatternRewriter) -> None:
        """Check every divisor."""
        divisor = constant_of(op.right)
        if divisor is None or element_of(op.left) != f32 or not is_power_of_two(divisor):
            return
        with np.errstate(over="ignore"):
            inverse = np.float32(1) / divisor
        if not np.isfinite(inverse).all():
            return
        constant = ops.Constant(inverse)
        replace(rewriter, op, [constant, ops.Mul(op.left, constant.result)])


class SubtractByAdding(RewritePattern):
    """x - c is x + (-c)."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Sub, rewriter: PatternRewriter) -> None:
        """Negate a constant."""
        constant = constant_of(op.right)
        if constant is None:
            return
        negated = ops.Constant(np.negative(constant))
        replace(rewriter, op, [negated, ops.Add(op.left, negated.result)])


class MergeConstants(RewritePattern):
    """(x * c) * d is x * (c * d) where x is an integer, c or d is a power of two and nothing else reads the
    inner one. Other products round twice; so do sums, where that may be meant: (x + 2^19) - 2^19 rounds to
    sixteenths."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Mul, rewriter: PatternRewriter) -> None:
        """Combine the constants."""
        outer = split(op)
        found = None if outer is None else scaled(outer[0])
        if outer is None or found is None or found[0].type != op.result.type:
            return
        x, first = found
        if is_integer(x) and merges_exactly(first, outer[1]):
            constant = ops.Constant(first * outer[1])
            replace(rewriter, op, [constant, ops.Mul(x, constant.result)])


def is_integer(value: SSAValue) -> bool:
    """Whether a value is an integer as float32."""
    cast = producer(value, ops.Cast)
    return cast is not None and element_of(value) == f32 and element_of(cast.input) != f32


MODERATE = 2.0**32
"""Products of two such numbers and an integer of 32 bits neither overflow nor lose bits near 0."""


def merges_exactly(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether (x * first) * second is x * (first * second) for every integer x."""
    moderate = all(
        ((np.abs(array) >= 1 / MODERATE) & (np.abs(array) <= MODERATE)).all() for array in (first, second)
    )
    return moderate and any(is_power_of_two(array) for array in (first, second))


def is_power_of_two(array: np.ndarray) -> bool:
    """Whether all numbers are powers of two or their negatives."""
    return bool((np.abs(np.frexp(array)[0]) == 0.5).all())


def scaled(value: SSAValue) -> tuple[SSAValue, np.ndarray] | None:
    """(x, c) where the value is x * c, c constant, and nothing else reads it."""
    mul = producer(value, ops.Mul)
    return None if mul is None or not has_one_use(value) else split(mul)


def split(op: ops.Mul) -> tuple[SSAValue, np.ndarray] | None:
    """The operand that is computed and the one that is constant, or None."""
    for value, other in ((op.left, op.right), (op.right, op.left)):
        array = constant_of(other)
        if array is not None and isinstance(value.owner, Operation):
            return value, array
    return None


class FoldBatchNormPass(ModulePass):
    """Multiply-add instead of batch normalisation, constants combined."""

    name = "fold-batch-norm"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        patterns = (FoldBatchNorm(), DivideByMultiplying(), SubtractByAdding(), MergeConstants())
        apply_patterns(op, *patterns, DropNeutral(), CompressConstants())
