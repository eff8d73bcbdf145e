# SPDX-License-Identifier: Apache-2.0
"""recognize-binarize: the many ways of writing a binarised activation become `cast(binarize(x))`.

A value that depends on one sign or one comparison only, through constants that do not vary, has two or three
levels. Where they are -a and +a it is a * binarize(x), however it was computed: Where(x >= 0, 1, -1),
2 * Cast(x >= 0) - 1, Sign(Sign(x) + 0.1), Where(Sign(x) == 0, 1, Sign(x)) and so on. Straight-through
estimators leave Add(Sub(s, P), P) behind, clamps leave comparisons in front: both go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, shape_of
from bnncc.passes.matching import (
    ELEMENTWISE,
    apply_patterns,
    binary_input,
    constant_of,
    has_one_use,
    producer,
    replace,
    uniform_value,
)
from bnncc.reference import evaluate_operation

DEPTH = 8
"""How many operations may lie between a comparison and what is made of it."""

MIRRORED = {"ge": "le", "gt": "lt", "le": "ge", "lt": "gt"}
"""The comparison with its operands exchanged."""


@dataclass(frozen=True)
class Levels:
    """A value as a function of its leaf: a comparison (false, true) or a binarize (-1, +1 or -1, 0, +1)."""

    leaf: ops.Compare | ops.Binarize
    values: np.ndarray


def levels_of(value: SSAValue, depth: int = DEPTH) -> Levels | None:
    """The levels of a value that depends on one leaf and on uniform constants, or None."""
    op = value.owner
    if isinstance(op, ops.Compare) and levels_of_operands(op, depth) is None:
        return Levels(op, np.array([False, True]))
    if isinstance(op, ops.Binarize):
        inner = levels_of_operands(op, depth)
        if inner is None:
            states = [-1, 0, 1] if op.zero.value.data == 0 else [-1, 1]
            return Levels(op, np.array(states, np.int8))
    if not isinstance(op, ELEMENTWISE) or depth == 0:
        return None
    return levels_of_operands(op, depth)


def levels_of_operands(op: Operation, depth: int) -> Levels | None:
    """The levels of what `op` computes from operands that depend on one leaf, or None."""
    leaf, arrays = None, []
    for operand in op.operands:
        constant = constant_of(operand)
        if constant is not None:
            if uniform_value(operand) is None:
                return None
            arrays.append(constant.reshape(-1)[:1])
            continue
        found = levels_of(operand, depth - 1) if depth > 0 else None
        if found is None or leaf not in (None, found.leaf) or shape_of(operand) != shape_of(op.results[0]):
            return None
        leaf = found.leaf
        arrays.append(found.values)
    if leaf is None:
        return None
    (values,) = evaluate_operation(op, arrays)
    return Levels(leaf, values)


class RecognizeLevels(RewritePattern):
    """A value of levels -a and +a is a * binarize(x)."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rewrite where the levels first become symmetric."""
        if not isinstance(op, ELEMENTWISE) or element_of(op.results[0]) != f32 or is_canonical(op):
            return
        levels = levels_of(op.results[0])
        if levels is None or shape_of(levels.leaf.result) != shape_of(op.results[0]):
            return
        low, high = float(levels.values[0]), float(levels.values[-1])
        middle = float(levels.values[1]) if len(levels.values) == 3 else high
        if low == 0 or high != -low or abs(middle) not in (0.0, abs(low)) or not math.isfinite(low):
            return
        zero = round(middle / high) if len(levels.values) == 3 else None
        new = binarized(levels.leaf, zero)
        if new is None:
            return
        scale = ops.Constant(np.asarray(high, np.float32))
        cast = ops.Cast(new[-1].results[0])
        replace(rewriter, op, [*new, cast, scale, ops.Mul(cast.result, scale.result)])


def is_canonical(op: Operation) -> bool:
    """cast(binarize(x)) and a constant times it are what this pass aims at. The cast of a binarize whose
    input has levels itself is not."""
    if isinstance(op, ops.Cast):
        binarize = producer(op.input, ops.Binarize)
        return binarize is not None and levels_of_operands(binarize, DEPTH) is None
    if not isinstance(op, ops.Mul):
        return False
    return any(
        binary_input(a) is not None and constant_of(b) is not None
        for a, b in ((op.left, op.right), (op.right, op.left))
    )


def binarized(leaf: ops.Compare | ops.Binarize, zero: int | None) -> list[Operation] | None:
    """Operations that end in a binarize: +1 in the leaf's last state, -1 in its first one, and for three
    states `zero` in the middle one."""
    if isinstance(leaf, ops.Binarize):
        return [ops.Binarize(leaf.input, leaf.zero.value.data if zero is None else zero)]
    kind, left, right = leaf.kind.data, leaf.left, leaf.right
    if element_of(left) != f32 or kind not in MIRRORED:
        return None
    if constant_of(left) is not None and constant_of(right) is None:
        kind, left, right = MIRRORED[kind], right, left
    new: list[Operation] = []
    if uniform_value(right) != 0 or shape_of(left) != shape_of(leaf.result):
        new.append(ops.Sub(left, right))
        left = new[-1].results[0]
    if kind in ("le", "lt"):
        # x <= 0 is -x >= 0: the zero goes with the side that includes it.
        new.append(ops.Neg(left))
        left = new[-1].results[0]
    new.append(ops.Binarize(left, 1 if kind in ("ge", "le") else -1))
    return new


class DropEstimator(RewritePattern):
    """What a straight-through estimator leaves, (s - P) + P, is s.

    Exact for every s in {-1, 0, +1} and |P| up to 1, which is what estimators make."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Add, rewriter: PatternRewriter) -> None:
        """Look for the difference on either side."""
        for difference, estimate in ((op.left, op.right), (op.right, op.left)):
            sub = producer(difference, ops.Sub)
            if sub is not None and sub.right == estimate and is_binarized(sub.left):
                replace(rewriter, op, [], sub.left)
                return


class DropReversedEstimator(RewritePattern):
    """(s + P) - P is s too."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Sub, rewriter: PatternRewriter) -> None:
        """Look for P on either side of the sum."""
        add = producer(op.left, ops.Add)
        if add is None:
            return
        for sign, estimate in ((add.left, add.right), (add.right, add.left)):
            if estimate == op.right and is_binarized(sign):
                replace(rewriter, op, [], sign)
                return


class AddNegToSub(RewritePattern):
    """x + (-y) is x - y."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Add, rewriter: PatternRewriter) -> None:
        """Look for a neg on either side."""
        for x, negated in ((op.left, op.right), (op.right, op.left)):
            neg = producer(negated, ops.Neg)
            if neg is not None:
                replace(rewriter, op, [ops.Sub(x, neg.input)])
                return


def is_binarized(value: SSAValue) -> bool:
    """Whether a value is cast(binarize(x)), perhaps times a constant."""
    if binary_input(value) is not None:
        return True
    mul = producer(value, ops.Mul)
    return mul is not None and any(binary_input(v) is not None for v in mul.operands) and is_canonical(mul)


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


class DropClipBeforeBinarize(RewritePattern):
    """Clipping to an interval around 0 changes no sign."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Binarize, rewriter: PatternRewriter) -> None:
        """Skip the clip."""
        clip = producer(op.input, ops.Clip)
        if clip is not None and clip.low.value.data < 0 < clip.high.value.data:
            replace(rewriter, op, [ops.Binarize(clip.input, op.zero.value.data)])


class RecognizeBinarizePass(ModulePass):
    """Bring every binarised activation to one form."""

    name = "recognize-binarize"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        apply_patterns(
            op,
            SelectToClip(),
            MergeClips(),
            RecognizeLevels(),
            AddNegToSub(),
            DropEstimator(),
            DropReversedEstimator(),
            DropClipBeforeBinarize(),
        )
