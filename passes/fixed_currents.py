# SPDX-License-Identifier: Apache-2.0
"""Currents of neurons that are sums of integers: over binary or int8 weights, or of another membrane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import i16, i32
from xdsl.ir import Block, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import domain_values, element_of, shape_of
from bnncc.passes.matching import channel_form, constant_of

LIMIT = {16: 1 << 15, 32: 1 << 30}
"""What a membrane saturates at, by its bits."""


@dataclass(frozen=True)
class Sum:
    """A current that is `integers` * scale + bias for each channel; integers: i32 of magnitude `largest` at
    most."""

    integers: SSAValue
    scale: np.ndarray
    bias: np.ndarray
    largest: int


def sum_of(value: SSAValue) -> Sum | None:
    """The current as integers times a scale plus a bias, if it is; reshapes that keep the channels may stand
    between, and maxima of what is scaled by positive numbers."""
    scale, bias, rank = np.ones(()), np.zeros(()), len(shape_of(value))
    outside: list[np.ndarray] = []  # the scales of maxima
    moves: list[ops.Reshape | ops.MaxPool] = []
    while isinstance(op := value.owner, ops.Add | ops.Mul | ops.Reshape | ops.MaxPool):
        if isinstance(op, ops.Reshape | ops.MaxPool):
            if shape_of(op.input)[-1:] != shape_of(op.result)[-1:]:
                return None
            moves.append(op)
            outside += [scale] if isinstance(op, ops.MaxPool) else []
            value, rank = op.input, len(shape_of(op.input))
            continue
        constant, other = constant_of(op.right), op.left
        if constant is None:
            constant, other = constant_of(op.left), op.right
        numbers = None if constant is None else channel_form(constant.astype(np.float64), rank)
        if numbers is None or shape_of(other) != shape_of(op.result):
            return None
        if isinstance(op, ops.Add):
            bias = bias + scale * numbers
        else:
            scale = scale * numbers
        value = other
    if not isinstance(op, ops.Cast) or element_of(op.input) != i32 or not scale.all():
        return None
    if not all((scale * outer > 0).all() for outer in outside):
        return None
    return Sum(_moved(op.input, moves), scale, bias, largest(op.input))


def _moved(value: SSAValue, moves: Sequence[ops.Reshape | ops.MaxPool]) -> SSAValue:
    """The integers where the current is, the last of the moves first."""
    for move in reversed(moves):
        if isinstance(move, ops.Reshape):
            made: ops.Reshape | ops.MaxPool = ops.Reshape(value, shape_of(move.result))
        else:
            geometry = (ops.unpack(p) for p in (move.kernel, move.strides, move.dilations, move.pads))
            made = ops.MaxPool(value, *geometry)
        assert isinstance(move.parent, Block)
        move.parent.insert_op_after(made, move)
        made.location = move.location
        value = made.result
    return value


def largest(value: SSAValue) -> int:
    """A bound of the magnitude of integers."""
    op = value.owner
    if isinstance(op, ops.Conv2d | ops.Dense):
        weight = constant_of(op.weight)
        highest = max(map(abs, domain_values(element_of(op.input)) or {1}))
        if weight is not None:
            return highest * int(np.abs(weight.reshape(len(weight), -1).astype(np.int64)).sum(axis=1).max())
    # The lowest of its numbers is one more, and no less than a membrane may be.
    return LIMIT[16] - 1 if isinstance(op, ops.Cast) and element_of(op.input) == i16 else LIMIT[32] - 1
