# SPDX-License-Identifier: Apache-2.0
"""Values that depend on one decision only, a comparison or a binarize: their levels, and whether they have
the form that recognize-binarize brings them to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import i1
from xdsl.ir import Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, shape_of
from bnncc.passes.matching import ELEMENTWISE, binary_input, constant_of, producer, uniform_value
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


def is_canonical(op: Operation) -> bool:
    """The cast of a binarize or of a comparison, and a constant times it, are what the pass aims at. That of
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


def is_binarized(value: SSAValue) -> bool:
    """Whether a value is cast(binarize(x)), perhaps times a constant."""
    if binary_input(value) is not None:
        return True
    mul = producer(value, ops.Mul)
    return mul is not None and any(binary_input(v) is not None for v in mul.operands) and is_canonical(mul)
