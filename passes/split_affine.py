# SPDX-License-Identifier: Apache-2.0
"""split-affine: two levels that are not symmetric are a symmetric pair and an offset.

AdaBin's weights are b[o] +- a[o], its activations c +- t. A contraction is linear in both:

    sum x * (b + a*s) = a * sum x*s + b * sum x          sum (t*s + c) * w = t * sum s*w + c * sum w

so it becomes contractions of signs, which run on bit kernels, and a constant: where the padding is 0, what
the offset adds is less at the border, and the constant is an image.
"""

from __future__ import annotations

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.types import shape_of
from bnncc.passes.infer_domains import contracted, scaled_input, weight_levels
from bnncc.passes.matching import apply_patterns, compress, constant_of, has_one_use, replace, uniform_value
from bnncc.reference import evaluate_operation

TOLERANCE = 1e-5
"""Weights that differ by no more than this part of the largest are equal: folding leaves such jitter."""

LEAST_TAPS = 3
"""Weights of fewer taps to a channel always have two levels at most."""


def offset_input(value: SSAValue) -> tuple[SSAValue, float] | None:
    """(x, c) where the value is x + c with one number c."""
    op = value.owner
    if not isinstance(op, ops.Add | ops.Sub):
        return None
    pairs = [(op.left, op.right)] if isinstance(op, ops.Sub) else [(op.left, op.right), (op.right, op.left)]
    for x, offset in pairs:
        number = uniform_value(offset)
        if number is not None and x.type == value.type:
            return x, -number if isinstance(op, ops.Sub) else number
    return None


class SinkOffset(RewritePattern):
    """The maximum of x + c is the maximum of x, plus c."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.MaxPool, rewriter: PatternRewriter) -> None:
        """Exchange the pool with the addition of an offset to signs."""
        found = offset_input(op.input)
        if found is None or scaled_input(found[0]) is None or not has_one_use(op.input):
            return
        geometry = (ops.unpack(p) for p in (op.kernel, op.strides, op.dilations, op.pads))
        pooled = ops.MaxPool(found[0], *geometry)
        constant = ops.Constant(np.asarray(found[1], np.float32))
        replace(rewriter, op, [pooled, constant, ops.Add(pooled.result, constant.result)])


class SplitActivation(RewritePattern):
    """A contraction of t * s + c with weights of two levels is one of t * s, plus what c adds."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Conv2d | ops.Dense, rewriter: PatternRewriter) -> None:
        """Evaluate the contraction of the offset alone."""
        found, weight = offset_input(op.input), constant_of(op.weight)
        if found is None or weight is None or weight.dtype != np.float32 or scaled_input(found[0]) is None:
            return
        if two_levels(weight) is None and weight_levels(weight) is None:
            return
        shape = (1, *shape_of(op.input)[1:])
        (added,) = evaluate_operation(op, [np.full(shape, found[1], np.float32), weight])
        signs = contracted(op, found[0], op.weight)
        constant = ops.Constant(compress(np.ascontiguousarray(added, np.float32)))
        replace(rewriter, op, [signs, constant, ops.Add(signs.results[0], constant.result)])


class SplitWeight(RewritePattern):
    """A contraction of signs with weights b[o] +- a[o] is one with +- a[o], plus b[o] times their sum."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Conv2d | ops.Dense, rewriter: PatternRewriter) -> None:
        """Check activation, then weight."""
        weight = constant_of(op.weight)
        if weight is None or weight.dtype != np.float32 or scaled_input(op.input) is None:
            return
        levels = two_levels(weight)
        if levels is None or weight_levels(weight) is not None or one_is_zero(weight):
            return
        middle, deviation, signs = levels
        rows = (-1, *(1,) * (weight.ndim - 1))
        pair = ops.Constant((signs * deviation.reshape(rows)).astype(np.float32))
        first = contracted(op, op.input, pair.result)
        new = [pair, first, *self.offset(op, middle, weight)]
        replace(rewriter, op, [*new, ops.Add(first.results[0], new[-1].results[0])])

    def offset(self, op: ops.Conv2d | ops.Dense, middle: np.ndarray, weight: np.ndarray) -> list[Operation]:
        """Operations that end in b[o] times the sum of the inputs: one sum for all channels, or with groups
        one for each."""
        if isinstance(op, ops.Conv2d) and op.groups.value.data > 1:
            rows = (-1, *(1,) * (weight.ndim - 1))
            spread = np.broadcast_to(middle.reshape(rows), weight.shape).astype(np.float32)
            constant = ops.Constant(spread)
            return [constant, contracted(op, op.input, constant.result)]
        ones = ops.Constant(np.ones((1, *weight.shape[1:]), np.float32))
        total = contracted(op, op.input, ones.result)
        constant = ops.Constant(middle.astype(np.float32))
        return [ones, total, constant, ops.Mul(total.results[0], constant.result)]


def two_levels(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(b, a float64 [o], signs int8) with weight = b +- a, up to TOLERANCE of the channel's largest
    magnitude; None for other weights. A channel of one level has b = 0."""
    rows = weight.reshape(weight.shape[0], -1).astype(np.float64)
    if rows.shape[1] < LEAST_TAPS or not np.isfinite(rows).all():
        return None
    low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
    limit = TOLERANCE * np.abs(rows).max(axis=1, keepdims=True)
    above = rows > (low + high) / 2
    if not np.where(above, high - rows <= limit, rows - low <= limit).all():
        return None
    single = (high - low <= limit).reshape(-1)
    means = [
        np.where(side, rows, 0).sum(axis=1) / np.maximum(side.sum(axis=1), 1) for side in (above, ~above)
    ]
    upper, lower = means
    middle = np.where(single, 0, (upper + lower) / 2)
    deviation = np.where(single, rows.mean(axis=1), (upper - lower) / 2)
    signs = np.where(above | single[:, None], 1, -1).astype(np.int8)
    return middle, deviation, signs.reshape(weight.shape)


def one_is_zero(weight: np.ndarray) -> bool:
    """Whether the levels of every channel are 0 and another: no offset is needed for those."""
    rows = weight.reshape(weight.shape[0], -1)
    return bool(((rows == 0).any(axis=1) | (rows == rows[:, :1]).all(axis=1)).all())


class SplitAffinePass(ModulePass):
    """Split every contraction of two levels that are not symmetric."""

    name = "split-affine"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        apply_patterns(op, SinkOffset(), SplitActivation(), SplitWeight())
