# SPDX-License-Identifier: Apache-2.0
"""What a kernel computes of spikes: which of its results are some, and how many its input has."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import FloatAttr, StringAttr
from xdsl.ir import Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.sources import node_name
from bnncc.dialect.time import Scan
from bnncc.plan.program import Density, Spikes


def fired(values: Sequence[SSAValue]) -> list[Spikes]:
    """The results of a region that neurons fire: decisions, as bits or numbers, and numbers of spikes. Those
    of one decision are told once."""
    found: dict[str, Spikes] = {}
    for number, value in enumerate(values):
        op = decision(value)
        if op is not None:
            found.setdefault(node_name(op), Spikes(number, node_name(op)))
    return list(found.values())


def decision(value: SSAValue) -> Operation | None:
    """What decides a value made of one decision alone: a comparison, or how often a threshold fits."""
    op = value.owner
    while isinstance(op, ops.Cast | Scan):
        value = op.input if isinstance(op, ops.Cast) else op.inside(value)
        op = value.owner
    if isinstance(op, ops.Compare):
        return op
    return op if isinstance(op, ops.Relu) and isinstance(op.input.owner, ops.Floor) else None


def density_of(op: Operation | None) -> Density | None:
    """How many spikes the input of a contraction has, where that was asked."""
    if op is None or "density" not in op.attributes:
        return None
    bits, origin = op.attributes["density"], op.attributes["density_from"]
    assert isinstance(bits, FloatAttr) and isinstance(origin, StringAttr)
    return Density(bits.value.data, origin.data == "measured")
