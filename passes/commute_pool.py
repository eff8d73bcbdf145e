# SPDX-License-Identifier: Apache-2.0
"""commute-pool: binarize before pooling, so that the pool is an OR of bits.

Thresholds and signs do not decrease, so they may be exchanged with a maximum. In a channel whose threshold
answers in reverse the maximum is taken first and turned over afterwards, by a flip.
"""

from __future__ import annotations

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import unpack, vector_of
from bnncc.passes.matching import apply_patterns, has_one_use, producer, replace


def pooled(pool: ops.MaxPool, value: SSAValue) -> ops.MaxPool:
    """The same pool of another value."""
    return ops.MaxPool(value, *(unpack(p) for p in (pool.kernel, pool.strides, pool.dilations, pool.pads)))


class CommuteThreshold(RewritePattern):
    """threshold(max_pool(x)) is flip(max_pool(threshold(x)))."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Threshold, rewriter: PatternRewriter) -> None:
        """Exchange them if nothing else reads the pool."""
        pool = producer(op.input, ops.MaxPool)
        if pool is None or not has_one_use(pool.result):
            return
        signs = vector_of(op.signs)
        bits = ops.Threshold(pool.input, vector_of(op.thresholds), np.ones_like(signs))
        new: list[Operation] = [bits, pooled(pool, bits.result)]
        if (signs < 0).any():
            new.append(ops.Flip(new[-1].results[0], signs))
        replace(rewriter, op, new)


class CommuteBinarize(RewritePattern):
    """binarize(max_pool(x)) is max_pool(binarize(x)) where zeros go to one side."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Binarize, rewriter: PatternRewriter) -> None:
        """Exchange them if nothing else reads the pool."""
        pool = producer(op.input, ops.MaxPool)
        zero = op.zero.value.data
        if pool is None or zero == 0 or not has_one_use(pool.result):
            return
        bits = ops.Binarize(pool.input, zero)
        replace(rewriter, op, [bits, pooled(pool, bits.result)])


class CommutePoolPass(ModulePass):
    """Move max-pools behind thresholds and binarizes."""

    name = "commute-pool"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        apply_patterns(op, CommuteThreshold(), CommuteBinarize())
