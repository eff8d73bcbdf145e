# SPDX-License-Identifier: Apache-2.0
"""Straight-through estimators, which give a binarised activation a gradient, leave arithmetic behind that
cancels: Add(Sub(s, P), P) is s."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from xdsl.dialects.builtin import f32, i1
from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, is_number
from bnncc.passes.decisions import DEPTH, is_binarized
from bnncc.passes.matching import binary_input, producer, replace
from bnncc.passes.step_functions import cone, dominators, evaluate_at, key_of, number_of


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
