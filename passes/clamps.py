# SPDX-License-Identifier: Apache-2.0
"""Clamps in front of a decision: comparisons and selections that are clips, and clips that decide nothing."""

from __future__ import annotations

import math

import numpy as np
from xdsl.dialects.builtin import f32
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of
from bnncc.passes.decisions import MIRRORED
from bnncc.passes.matching import constant_of, has_one_use, producer, replace, uniform_value


class SelectToClip(RewritePattern):
    """Where(x > c, c, x) is a clip from above, Where(x < c, c, x) one from below."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Select, rewriter: PatternRewriter) -> None:
        """Match the comparison and the bound."""
        compare = producer(op.condition, ops.Compare)
        bound = uniform_value(op.then)
        if compare is None or bound is None or uniform_value(compare.right) != bound:
            return
        x, kind = op.otherwise, compare.kind.data
        if compare.left != x or element_of(x) != f32 or x.type != op.result.type:
            return
        if kind in ("gt", "ge"):
            replace(rewriter, op, [ops.Clip(x, -math.inf, bound)])
        elif kind in ("lt", "le"):
            replace(rewriter, op, [ops.Clip(x, bound, math.inf)])


class MergeClips(RewritePattern):
    """A clip of a clip is one."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Clip, rewriter: PatternRewriter) -> None:
        """Intersect the intervals."""
        inner = producer(op.input, ops.Clip)
        if inner is None or not has_one_use(op.input):
            return
        low, high = op.low.value.data, op.high.value.data
        bounds = (min(max(b, low), high) for b in (inner.low.value.data, inner.high.value.data))
        replace(rewriter, op, [ops.Clip(inner.input, *bounds)])


class DropBeforeBinarize(RewritePattern):
    """Clipping to an interval around 0 and tanh change no sign."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Binarize, rewriter: PatternRewriter) -> None:
        """Skip the operation."""
        before = op.input.owner
        around = isinstance(before, ops.Clip) and before.low.value.data < 0 < before.high.value.data
        if isinstance(before, ops.Clip | ops.Tanh) and (around or isinstance(before, ops.Tanh)):
            replace(rewriter, op, [ops.Binarize(before.input, op.zero.value.data)])


class DropClipBeforeCompare(RewritePattern):
    """A clip changes no comparison with numbers inside its bounds (or at one, as the kind allows)."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Compare, rewriter: PatternRewriter) -> None:
        """Skip the clip; where a select takes the clipped value too, that may be one more clip."""
        clip, bound = producer(op.left, ops.Clip), constant_of(op.right)
        if clip is None or bound is None or op.kind.data not in MIRRORED:
            return
        if any(clip.result in use.operation.operands for use in op.result.uses):
            return
        low, high = np.float32(clip.low.value.data), np.float32(clip.high.value.data)
        inside = (low < bound) & (bound < high)
        at = bound == (high if op.kind.data in ("ge", "lt") else low)
        if (inside | (at & (low < high))).all():
            replace(rewriter, op, [ops.Compare(op.kind.data, clip.input, op.right)])
