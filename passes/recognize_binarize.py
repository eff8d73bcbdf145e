# SPDX-License-Identifier: Apache-2.0
"""recognize-binarize: the many ways of writing a binarised activation become `cast(binarize(x))`.

A value that depends on one sign or one comparison only, through constants that do not vary, has two or three
levels. Where they are -a and +a it is a * binarize(x), however it was computed: Where(x >= 0, 1, -1),
2 * Cast(x >= 0) - 1, Sign(Sign(x) + 0.1), Where(Sign(x) == 0, 1, Sign(x)) and so on. Straight-through
estimators leave Add(Sub(s, P), P) behind, clamps leave comparisons in front: both go.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32, i1
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, is_number, shape_of
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
from bnncc.passes.step_functions import (
    StepFunction,
    cone,
    dominators,
    evaluate_at,
    key_of,
    number_of,
    step_function,
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


def is_canonical(op: Operation) -> bool:
    """The cast of a binarize or of a comparison, and a constant times it, are what this pass aims at. That of
    one whose input has levels itself is not."""
    if isinstance(op, ops.Cast):
        if element_of(op.input) == i1:
            return (
                isinstance(op.input.owner, ops.Compare) and levels_of_operands(op.input.owner, DEPTH) is None
            )
        binarize = producer(op.input, ops.Binarize)
        return binarize is not None and levels_of_operands(binarize, DEPTH) is None
    if not isinstance(op, ops.Mul):
        return False
    return any(
        (binary_input(a) is not None or is_compared(a)) and constant_of(b) is not None
        for a, b in ((op.left, op.right), (op.right, op.left))
    )


def is_compared(value: SSAValue) -> bool:
    """Whether a value is the cast of a comparison."""
    cast = producer(value, ops.Cast)
    return cast is not None and isinstance(cast.input.owner, ops.Compare)


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
    """What a straight-through estimator leaves, (s - P) + P, (s + P) - P, P - (P - s) or s + (P - P), is s
    where P is small enough to cancel."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Add | ops.Sub, rewriter: PatternRewriter) -> None:
        """Look for s and P among the operands and theirs."""
        for sign, estimate in self.candidates(op):
            if is_binarized(sign) and cancels(op, sign, estimate):
                replace(rewriter, op, [], sign)
                return

    def candidates(self, op: ops.Add | ops.Sub) -> Iterator[tuple[SSAValue, SSAValue]]:
        """Pairs (s, P) that the operation computes s from, if P is finite."""
        if isinstance(op, ops.Add):
            for difference, estimate in ((op.left, op.right), (op.right, op.left)):
                sub = producer(difference, ops.Sub)
                if sub is not None and sub.right == estimate:
                    yield sub.left, estimate
                if sub is not None and sub.left == sub.right:
                    yield estimate, sub.left
            return
        add, sub = producer(op.left, ops.Add), producer(op.right, ops.Sub)
        if add is not None and op.right in add.operands:
            yield (add.right if add.left == op.right else add.left), op.right
        if sub is not None and sub.left == op.left:
            yield sub.right, op.left


LARGEST_PROBE = key_of(2.0**23)

PROBES = np.concatenate(
    [
        number_of(np.arange(-LARGEST_PROBE, LARGEST_PROBE + 1, 12011)),
        np.arange(-64, 65, dtype=np.float32) / 16,
        np.linspace(-2, 2, 4001, dtype=np.float32),
    ]
)
"""Float32 of every magnitude up to 2^23, at which estimators are tried out."""


def cancels(op: Operation, sign: SSAValue, estimate: SSAValue) -> bool:
    """Whether an estimator adds nothing to the sign.

    With s in {-1, 0, +1} and |P| <= 1 it adds nothing where s and P that is taken away have one sign, as in
    every estimator of sign(x); otherwise 2^-24 at most, which is rounding and not what anybody meant. Any
    other P that depends on the same x as s is tried out, at float32 of all magnitudes: the identity, say, is
    exact as far as 2^24."""
    if within_one(estimate) and binary_input(sign) is not None:
        return True
    order = cone(op.results[0])
    for leaf in dominators(op.results[0], order):
        if element_of(leaf) == f32 and leaf != sign:
            results, signs = (evaluate_at(leaf, value, PROBES) for value in (op.results[0], sign))
            if (results == signs).all():
                return True
    return False


def within_one(value: SSAValue, depth: int = DEPTH) -> bool:
    """Whether a value is known to lie in [-1, +1]."""
    op = value.owner
    match op:
        case ops.Clip():
            return op.low.value.data >= -1 and op.high.value.data <= 1
        case ops.Tanh() | ops.Sigmoid() | ops.Erf():
            return True
        case ops.Cast():
            return not is_number(element_of(op.input)) or element_of(op.input) == i1
        case ops.Constant():
            return bool((np.abs(op.array) <= 1).all())
        case ops.Mul() | ops.Neg() | ops.Max() | ops.Min() if depth:
            return all(within_one(v, depth - 1) for v in op.operands)
        case ops.Select() if depth:
            return all(within_one(v, depth - 1) for v in (op.then, op.otherwise))
    return False


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
