# SPDX-License-Identifier: Apache-2.0
"""A bias as the first term of the sums that it is added to."""

from __future__ import annotations

from dataclasses import replace

from bnncc.plan.expression import Accumulator, Binary, Channel, replaced
from bnncc.plan.graph import Graph
from bnncc.plan.kernel import KernelSpec


def bias_of(spec: KernelSpec) -> int | None:
    """Which constant is added to the root's value, if that has no other use."""
    nodes = Graph.of([output.expression for output in spec.outputs]).nodes
    if sum(node.uses for node in nodes if node.expression == Accumulator()) != 1:
        return None
    for node in nodes:
        match node.expression:
            case Binary("add", Accumulator(), Channel(index)) | Binary("add", Channel(index), Accumulator()):
                return index
    return None


def without_bias(spec: KernelSpec, bias: int) -> KernelSpec:
    """The spec for a root whose value has the bias in it; the constant stays a parameter."""
    outputs = []
    for output in spec.outputs:
        expression = output.expression
        for pair in ((Accumulator(), Channel(bias)), (Channel(bias), Accumulator())):
            expression = replaced(expression, Binary("add", *pair), Accumulator())
        outputs.append(replace(output, expression=expression))
    return replace(spec, outputs=tuple(outputs))
