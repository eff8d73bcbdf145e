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
from bnncc.dialect.types import element_of
from bnncc.passes.fold_constants import CompressConstants, DropNeutral
from bnncc.passes.matching import apply_patterns, constant_of, has_one_use, producer, replace


class FoldBatchNorm(RewritePattern):
    """batch_norm(x) is x * (scale / sqrt(variance + epsilon)) + (bias - mean * that)."""

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
            factors = ops.Constant(factor.astype(np.float32))
            offsets = ops.Constant((bias - mean * factor).astype(np.float32))
        product = ops.Mul(op.input, factors.result)
        replace(rewriter, op, [factors, product, offsets, ops.Add(product.result, offsets.result)])


class DivideByMultiplying(RewritePattern):
    """x / c is x * (1 / c) where 1 / c is exact: where c is a power of two, and not so small that 1 / c is
    infinite."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Div, rewriter: PatternRewriter) -> None:
        """Check every divisor."""
        divisor = constant_of(op.right)
        if divisor is None or element_of(op.left) != f32 or not (np.abs(np.frexp(divisor)[0]) == 0.5).all():
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


TINY = float(np.finfo(np.float32).tiny)
"""The smallest float32 of full precision."""

ROUNDS = 1 << 20
"""What is added to numbers of this size loses bits worth an eighth and more: it may be meant so, as
in (x + 1.5 * 2^23) - 1.5 * 2^23, which rounds."""


def combined(kind: type[Operation], first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
    """The one constant that does what two do, combined in float64; None where float32 does not hold it, or
    rounding in between may be meant."""
    if kind is ops.Add:
        return None if max(np.abs(first).max(), np.abs(second).max()) >= ROUNDS else first + second
    with np.errstate(over="ignore"):
        product = (first * second).astype(np.float32)
    lost = ~np.isfinite(product) | ((np.abs(product) < TINY) & (first != 0) & (second != 0))
    return None if lost.any() else product


class MergeConstants(RewritePattern):
    """(x * c) * d is x * (c * d), and (x + c) + d is x + (c + d), if nothing else reads the inner one."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Mul | ops.Add, rewriter: PatternRewriter) -> None:
        """Combine the constants."""
        kind = type(op)
        outer = split(op)
        inner = None if outer is None else producer(outer[0], kind)
        if outer is None or inner is None or not has_one_use(inner.result) or element_of(op.result) != f32:
            return
        split_inner = split(inner)
        if split_inner is None or split_inner[0].type != op.result.type:
            return
        x, first = split_inner
        both = combined(kind, first.astype(np.float64), outer[1].astype(np.float64))
        if both is not None:
            constant = ops.Constant(both.astype(np.float32))
            replace(rewriter, op, [constant, kind(x, constant.result)])


def split(op: ops.Mul | ops.Add) -> tuple[SSAValue, np.ndarray] | None:
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
