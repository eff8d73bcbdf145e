# SPDX-License-Identifier: Apache-2.0
"""recognize-levels: activations of a few bits get the domain that says so.

Where the weights of a contraction have few levels and its input is proved to be step * q, q one of at most 16
integers, or of 256 (8-bit pixels), the input becomes cast(cast(q)) * step; infer-domains then makes the
contraction one of integers. What is computed up to q stays as it was, in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32, i1
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern
from xdsl.rewriter import InsertPoint

from bnncc.dialect import operations as ops
from bnncc.dialect.types import LEVEL_BITS, PLANE_BITS, element_of, shape_of
from bnncc.passes.affine_levels import SplitOffset
from bnncc.passes.infer_domains import scaled_input
from bnncc.passes.levels import Levels, domain_of, has_kernel, weight_levels
from bnncc.passes.matching import apply_patterns, constant_of, discard, first_move, producer, uniform_value


@dataclass(frozen=True)
class Integers:
    """A value is scale * q. made: operations that compute q, of `value` where there are none."""

    value: SSAValue
    scale: float
    domain: Attribute
    made: tuple[Operation, ...] = ()


class RecognizeLevels(RewritePattern):
    """The input of a contraction, or what is reshaped to be it, is cast(cast(q)) * scale."""

    def __init__(self, levels: Levels):
        self.levels = levels

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Conv2d | ops.Dense, rewriter: PatternRewriter) -> None:
        """Check the activation, then the weight."""
        weight = constant_of(op.weight)
        if weight is None or weight.dtype != np.float32:
            return
        value = unproved_input(op)
        # The weight first: what the search for integers builds must be used.
        if value is None or weight_levels(weight) is None:
            return
        found = integers_of(self.levels, value, LEVEL_BITS)
        if found is None:
            return
        if not has_kernel(op, found.domain):
            discard(found.made)
            return
        read_integers(op, found, rewriter)


def unproved_input(op: ops.Conv2d | ops.Dense) -> SSAValue | None:
    """The real input of a contraction, before it is reshaped to be that; None where its domain is known."""
    value = first_move(op).operands[0]
    return value if element_of(value) == f32 and scaled_input(value) is None else None


def read_integers(op: ops.Conv2d | ops.Dense, found: Integers, rewriter: PatternRewriter) -> None:
    """Let a contraction, or what is reshaped to be its input, read cast(q) * scale."""
    reader = first_move(op)
    before = reader.operands[0].owner
    made = [*found.made, *as_domain(found)]
    for operation in made:
        operation.location = before.location if isinstance(before, Operation) else op.location
    rewriter.insert(made, InsertPoint.before(reader))
    reader.operands[0] = made[-1].results[0]
    rewriter.notify_op_modified(reader)


def integers_of(levels: Levels, value: SSAValue, bits: int = PLANE_BITS) -> Integers | None:
    """The value as a number times integers of a domain of at most so many bits, or None."""
    known = levels.of(value)
    if known.exact:
        return _of_domain(levels, value, 1.0, bits)
    factor = _factor(value)
    if factor is not None and levels.of(factor[0]).exact:
        return _of_domain(levels, *factor, bits)
    domain = domain_of(known, bits)
    if domain is None or known.step is None or not _has_inverse(known.step):
        return None
    # Rounding to the nearest level makes up for how the multiples of the step were rounded.
    inverse = ops.Constant(np.asarray(1 / known.step, np.float32))
    scaled = ops.Mul(value, inverse.result)
    rounded = ops.Round(scaled.result)
    return Integers(rounded.result, known.step, domain, (inverse, scaled, rounded))


def _factor(value: SSAValue) -> tuple[SSAValue, float] | None:
    """(x, s) where the value is x * s or x / (1 / s)."""
    mul, div = producer(value, ops.Mul), producer(value, ops.Div)
    if mul is not None:
        for x, scale in ((mul.left, mul.right), (mul.right, mul.left)):
            number = uniform_value(scale)
            if number and x.type == value.type:
                return x, number
    if div is not None and div.left.type == value.type:
        number = uniform_value(div.right)
        return (div.left, 1 / number) if number and _has_inverse(number) else None
    return None


LARGEST = float(np.finfo(np.float32).max)


def _has_inverse(number: float) -> bool:
    """Whether float32 can hold x and 1 / x."""
    return 1 / LARGEST <= abs(number) <= LARGEST


def _of_domain(levels: Levels, value: SSAValue, scale: float, bits: int) -> Integers | None:
    domain = domain_of(levels.of(value), bits)
    return None if domain is None else Integers(value, scale, domain)


def as_domain(integers: Integers) -> list[Operation]:
    """The operations from q to cast(cast(q)) * scale."""
    cast = ops.Cast(_condition(integers.value) or integers.value, integers.domain)
    back = ops.Cast(cast.result)
    if integers.scale == 1:
        return [cast, back]
    scale = ops.Constant(np.asarray(integers.scale, np.float32))
    return [cast, back, scale, ops.Mul(back.result, scale.result)]


def _condition(value: SSAValue) -> SSAValue | None:
    """The boolean that the value is 1 or 0 of."""
    cast, select = producer(value, ops.Cast), producer(value, ops.Select)
    if cast is not None:
        return cast.input if element_of(cast.input) == i1 else None
    if select is None or shape_of(select.operands[0]) != shape_of(select.result):
        return None
    is_one_or_zero = uniform_value(select.operands[1]) == 1 and uniform_value(select.operands[2]) == 0
    return select.operands[0] if is_one_or_zero else None


class RecognizeLevelsPass(ModulePass):
    """Give inputs of few levels their domain."""

    name = "recognize-levels"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        levels = Levels()
        apply_patterns(op, SplitOffset(levels), RecognizeLevels(levels))
