# SPDX-License-Identifier: Apache-2.0
"""Why a contraction stayed real-valued, in a person's words."""

from __future__ import annotations

import numpy as np
from xdsl.ir import BlockArgument, Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.sources import location_text

FEW_LEVELS = 8
JITTER = 1e-5


def why_real(activation: SSAValue, weight: np.ndarray) -> str:
    """One sentence about the activation and the weights of a float contraction."""
    return f"{_activation(activation)}; {_weight(weight)}"


def _activation(value: SSAValue) -> str:
    while not isinstance(value, BlockArgument) and isinstance(
        value.owner, ops.Transpose | ops.Reshape | ops.Pad
    ):
        value = value.owner.operands[0]
    if isinstance(value, BlockArgument):
        return "its activation is the network's input"
    owner = value.owner
    assert isinstance(owner, Operation)
    where = location_text(owner) if not isinstance(owner, ops.Fused) else _made_by(owner, value)
    return f"its activation is real-valued, from {where}" if where else "its activation is real-valued"


def _made_by(fused: ops.Fused, value: SSAValue) -> str:
    inside = fused.results_inside[list(fused.outputs).index(value)]  # type: ignore[arg-type]
    return "" if isinstance(inside, BlockArgument) else location_text(inside.owner)  # type: ignore[arg-type]


def _weight(weight: np.ndarray) -> str:
    magnitude = np.abs(weight.reshape(weight.shape[0], -1))
    largest = magnitude.max(axis=1, keepdims=True)
    levels = np.unique(weight)
    if weight[0].size > 1 and (magnitude >= largest * (1 - JITTER)).all() and (largest > 0).all():
        return "its weights are binary (+-s per channel)"
    if levels.size <= FEW_LEVELS:
        return f"its weights have {levels.size} levels: " + ", ".join(f"{level:g}" for level in levels)
    return "its weights are real-valued"
