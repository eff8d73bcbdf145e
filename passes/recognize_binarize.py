# SPDX-License-Identifier: Apache-2.0
"""recognize-binarize: the many ways of writing a binarised activation become `cast(binarize(x))`.

A value that depends on one sign or one comparison only, through constants that do not vary, has two or three
levels. Where they are -a and +a it is a * binarize(x), however it was computed: Where(x >= 0, 1, -1),
2 * Cast(x >= 0) - 1, Sign(Sign(x) + 0.1), Where(Sign(x) == 0, 1, Sign(x)) and so on. What
straight-through estimators leave behind (`estimators`) and clamps in front of comparisons (`clamps`) go.
"""

from __future__ import annotations

import math

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, shape_of
from bnncc.passes.clamps import DropBeforeBinarize, DropClipBeforeCompare, MergeClips, SelectToClip
from bnncc.passes.decisions import MIRRORED, is_canonical, levels_of
from bnncc.passes.estimators import DropEstimator
from bnncc.passes.matching import ELEMENTWISE, apply_patterns, constant_of, producer, replace, uniform_value
from bnncc.passes.step_functions import StepFunction, number_of, step_function


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


class RecognizeSteps(RewritePattern):
    """A step function of two levels is one comparison, whatever made it: s * cast(binarize(x - t)) for -s and
    +s, s * cast(x >= t) for 0 and s. One of -s, 0 at x = 0 only, and +s is s * cast(binarize(x))."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rewrite where the value first has such levels."""
        if not isinstance(op, ELEMENTWISE) or element_of(op.results[0]) != f32 or is_canonical(op):
            return
        if all(constant_of(v) is not None for v in op.operands):
            return
        steps = step_function(op.results[0])
        if steps is None or shape_of(steps.input) != shape_of(op.results[0]):
            return
        if is_stepped(op, steps.input):
            return
        new = stepped(steps)
        if new is None:
            return
        low, high = steps.levels[0], steps.levels[-1]
        scale = abs(low) if low == -high else low + high
        if scale != 1:
            constant = ops.Constant(np.asarray(scale, np.float32))
            new += [constant, ops.Mul(new[-1].results[0], constant.result)]
        replace(rewriter, op, new)


def stepped(steps: StepFunction) -> list[Operation] | None:
    """Operations that end in the cast of one binarize or comparison, the step function but for its scale."""
    match steps.levels:
        case (a, 0.0, b) if a == -b and steps.starts[1:] == (0, 1):
            return signed(steps.input, 0, 0 if b > 0 else 1, zero=0)
        case (a, b) if a == -b:
            # Decreasing, it is +1 up to the number before the step.
            return signed(steps.input, steps.starts[1] - (b < 0), int(b < 0), zero=1)
        case (a, b) if a == 0 or b == 0:
            falls = b == 0
            bound, kind = steps.starts[1] - falls, "le" if falls else "ge"
            if bound == 1 - 2 * falls:
                bound, kind = 0, "lt" if falls else "gt"
            constant = ops.Constant(number_of(bound))
            compare = ops.Compare(kind, steps.input, constant.result)
            return [constant, compare, ops.Cast(compare.result)]
    return None


def signed(x: SSAValue, bound: int, falls: int, zero: int) -> list[Operation]:
    """cast(binarize(x - t)), or of t - x where it falls; t is the float32 of key `bound`."""
    new: list[Operation] = []
    if abs(bound) == 1 and zero == 1 and (bound > 0) != bool(falls):
        bound, zero = 0, -1
    if bound:
        constant = ops.Constant(number_of(bound))
        operands = (constant.result, x) if falls else (x, constant.result)
        new = [constant, ops.Sub(*operands)]
    elif falls:
        new = [ops.Neg(x)]
    binarize = ops.Binarize(new[-1].results[0] if new else x, zero)
    return [*new, binarize, ops.Cast(binarize.result)]


def is_stepped(op: Operation, x: SSAValue) -> bool:
    """Whether `op` already casts a binarize of x, perhaps less a constant, or a comparison of x."""
    decision = op.input.owner if isinstance(op, ops.Cast) else None
    if isinstance(decision, ops.Binarize):
        if decision.input == x:
            return True
        decision = decision.input.owner
    if not isinstance(decision, ops.Compare | ops.Sub | ops.Neg):
        return False
    return x in decision.operands and all(v == x or constant_of(v) is not None for v in decision.operands)


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
            RecognizeSteps(),
            AddNegToSub(),
            DropEstimator(),
            DropBeforeBinarize(),
            DropClipBeforeCompare(),
        )
