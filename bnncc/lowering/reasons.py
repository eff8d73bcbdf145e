# SPDX-License-Identifier: Apache-2.0
"""Why a contraction stayed real-valued, in a person's words."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import i1
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.network import INPUTS, names_of, states_of
from bnncc.dialect.sources import location_text
from bnncc.dialect.types import element_of, is_number
from bnncc.lowering.spikes import density_of

FEW_LEVELS = 8
JITTER = 1e-5


def about_spikes(op: Operation) -> str:
    """How many spikes a contraction has, and which form that gives it; "" for one of none."""
    density = density_of(op)
    if density is None:
        return ""
    form = "float products of spikes" if is_number(element_of(op.operands[0])) else "events"
    if not is_number(element_of(op.operands[1])):
        form = "bits of spikes counted"
    origin = "measured" if density.measured else "assumed"
    return f"{form}: {density.bits:.2g} bits set per input, {origin}"


def why_real(activation: SSAValue, weight: np.ndarray) -> str:
    """One sentence about the activation and the weights of a float contraction."""
    return f"{_activation(activation)}; {_weight(weight)}"


def _activation(value: SSAValue) -> str:
    while not isinstance(value, BlockArgument) and isinstance(
        value.owner, ops.Transpose | ops.Reshape | ops.Pad
    ):
        value = value.owner.operands[0]
    if isinstance(value, BlockArgument):
        return f"its activation is {_argument(value)}"
    owner = value.owner
    assert isinstance(owner, Operation)
    if isinstance(owner, ops.Fused):
        value = owner.results_inside[list(owner.outputs).index(value)]  # type: ignore[arg-type]
    where = "" if isinstance(value, BlockArgument) else location_text(value.owner)  # type: ignore[arg-type]
    return f"its activation is {_kind(value)}, from {where}" if where else f"its activation is {_kind(value)}"


def _argument(value: BlockArgument) -> str:
    """Of the network, or of a loop over time, whose steps leave values to the next."""
    main = value.block.parent_op()
    if isinstance(main, FuncOp) and names_of(main, INPUTS)[value.index] not in states_of(main):
        return "the network's input"
    return "what the step before left"


def _kind(value: SSAValue) -> str:
    """What is known of the values of an activation."""
    if _is_of_domain(value):
        return "of few levels"
    op = value.owner
    if not isinstance(op, ops.Mul):
        return "real-valued"
    for signs, scale in ((op.left, op.right), (op.right, op.left)):
        if _is_of_domain(signs) and isinstance(scale.owner, ops.Constant) and scale.owner.array.size > 1:
            return "of few levels with a scale for every channel, which no sum of integers holds"
    return "real-valued"


def _is_of_domain(value: SSAValue) -> bool:
    """Whether a value is the cast of a condition or of a value of a domain."""
    op = value.owner
    if not isinstance(op, ops.Cast):
        return False
    return element_of(op.input) == i1 or not is_number(element_of(op.input))


def _weight(weight: np.ndarray) -> str:
    magnitude = np.abs(weight.reshape(weight.shape[0], -1))
    largest = magnitude.max(axis=1, keepdims=True)
    levels = np.unique(weight)
    if weight[0].size > 1 and (magnitude >= largest * (1 - JITTER)).all() and (largest > 0).all():
        return "its weights are binary (+-s per channel)"
    if levels.size <= FEW_LEVELS:
        return f"its weights have {levels.size} levels: " + ", ".join(f"{level:g}" for level in levels)
    return "its weights are real-valued"
