# SPDX-License-Identifier: Apache-2.0
"""fold-constants: evaluate what depends on constants only, and drop operations that change nothing."""

from __future__ import annotations

import math

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, i1
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, shape_of
from bnncc.passes.matching import (
    ELEMENTWISE,
    apply_patterns,
    compress,
    constant_of,
    replace,
    uniform_value,
)
from bnncc.reference import evaluate_operation

FOLDABLE = (*ELEMENTWISE, ops.Transpose, ops.Reshape, ops.Pad, ops.Concat)

NEUTRAL: dict[type[Operation], tuple[float, bool]] = {
    ops.Add: (0.0, True),
    ops.Sub: (0.0, False),
    ops.Mul: (1.0, True),
    ops.Div: (1.0, False),
    ops.Pow: (1.0, False),
}
"""The right operand that changes nothing, and whether the left one may be it too."""


class FoldConstants(RewritePattern):
    """An operation of constants is a constant."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Evaluate it with the reference."""
        if not isinstance(op, FOLDABLE):
            return
        arrays = [constant_of(operand) for operand in op.operands]
        known = [array for array in arrays if array is not None]
        if not known or len(known) < len(arrays):
            return
        (result,) = evaluate_operation(op, known)
        replace(rewriter, op, [ops.Constant(result, element_of(op.results[0]))])


class DropNeutral(RewritePattern):
    """x + 0, x * 1 and the like are x."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Replace by the operand that is left."""
        if type(op) not in NEUTRAL:
            return
        number, either = NEUTRAL[type(op)]
        left, right = op.operands
        if uniform_value(right) == number and left.type == op.results[0].type:
            replace(rewriter, op, [], left)
        elif either and uniform_value(left) == number and right.type == op.results[0].type:
            replace(rewriter, op, [], right)


class DropSilence(RewritePattern):
    """0 times a decision as a number is 0, as a reset to 0 writes it: s * 0 added."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Mul, rewriter: PatternRewriter) -> None:
        """Replace by zeros."""
        for decided, zero in ((op.left, op.right), (op.right, op.left)):
            number = uniform_value(zero)
            is_bit = isinstance(decided.owner, ops.Cast) and element_of(decided.owner.input) == i1
            if is_bit and number == 0 and not np.signbit(number):
                array = np.zeros(shape_of(op.result), np.float32)
                replace(rewriter, op, [ops.Constant(array, element_of(op.result))])
                return


class DropIdentity(RewritePattern):
    """A cast to the same type and a clip without bounds change nothing."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Cast | ops.Clip, rewriter: PatternRewriter) -> None:
        """Replace by the input."""
        if isinstance(op, ops.Clip) and (op.low.value.data, op.high.value.data) != (-math.inf, math.inf):
            return
        if op.input.type == op.result.type:
            replace(rewriter, op, [], op.input)


class CompressConstants(RewritePattern):
    """A constant operand that repeats itself along a dimension holds it once."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Shrink the constants of an element-wise operation where broadcasting restores them."""
        if not isinstance(op, ELEMENTWISE):
            return
        operands = [_compressed(operand) for operand in op.operands]
        new = [constant for constant in operands if isinstance(constant, ops.Constant)]
        values = [v.result if isinstance(v, ops.Constant) else v for v in operands]
        shapes = [shape_of(value) for value in values]
        if not new or np.broadcast_shapes(*shapes) != shape_of(op.results[0]):
            return
        for constant in new:
            constant.location = op.location
            rewriter.insert(constant)
        op.operands = values
        rewriter.notify_op_modified(op)


def _compressed(value: SSAValue) -> SSAValue | ops.Constant:
    array = constant_of(value)
    if array is None:
        return value
    small = compress(array)
    return value if small.shape == array.shape else ops.Constant(small, element_of(value))


class FoldConstantsPass(ModulePass):
    """Fold, drop and compress until nothing is left to do."""

    name = "fold-constants"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        apply_patterns(op, FoldConstants(), DropNeutral(), DropSilence(), DropIdentity(), CompressConstants())
