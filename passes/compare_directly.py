# SPDX-License-Identifier: Apache-2.0
"""compare-directly: x - c > 0 is x > c.

Simulators of spiking networks subtract the threshold and compare with 0. A difference of float32 numbers is 0
only if they are equal, and has the sign of the exact one otherwise (denormal numbers are kept), so the
subtraction decides nothing. Infinite and undefined constants stay, whose differences are other numbers.
"""

from __future__ import annotations

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, shape_of
from bnncc.passes.matching import apply_patterns, constant_of, replace, uniform_value


def difference(value: SSAValue) -> tuple[SSAValue, np.ndarray] | None:
    """(x, c) of a value x - c or x + -c whose shape is that of x."""
    op = value.owner
    if not isinstance(op, ops.Add | ops.Sub) or element_of(value) != f32:
        return None
    array = constant_of(op.right)
    if array is None or not np.isfinite(array).all() or shape_of(op.left) != shape_of(value):
        return None
    return op.left, -array if isinstance(op, ops.Add) else array


class CompareDirectly(RewritePattern):
    """Compare with the number that was subtracted."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Compare, rewriter: PatternRewriter) -> None:
        """Check that what is compared with 0 is a difference."""
        found = difference(op.left)
        if found is None or uniform_value(op.right) != 0 or shape_of(op.left) != shape_of(op.result):
            return
        value, array = found
        constant = ops.Constant(array)
        replace(rewriter, op, [constant, ops.Compare(op.kind.data, value, constant.result)])


class CompareDirectlyPass(ModulePass):
    """Rewrite every comparison of a difference."""

    name = "compare-directly"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        apply_patterns(op, CompareDirectly())
