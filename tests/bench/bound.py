# SPDX-License-Identifier: Apache-2.0
"""What binary layers with AVX-512 VPOPCNTDQ take at least.

1x1 layers, epilogue and memory included: a model, not a measurement. A vector is 16 output channels of one
pixel. It takes an exclusive-or, a count and an addition for each word of the reduction, one addition spared;
then the epilogue takes an operation for each node of its expressions that computes something, an addition to
a product with it, and two more where it begins with a number: the sum is doubled and taken from a table. Two
vector operations start in a cycle (Zen 4); loads and stores go beside them. Meanwhile the layer's inputs,
operands, weights and outputs move once between the caches, 32 bytes a cycle. The bound is the longer of the
two. A cycle is the time of one count, of which one starts in a cycle.

3x3 layers: what a kernel takes in the same run that was written by hand, moving of numbers not included: see
`by_hand`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bnncc.plan.expression import Accumulator, Binary, Channel, Integer, Operand, Scalar
from bnncc.plan.graph import Graph, Node
from bnncc.plan.kernel import BinaryConv, KernelSpec
from bnncc.plan.layout import WORD_BITS
from bnncc.plan.threshold import Threshold

LANES = 16
OPERATIONS_A_CYCLE = 2
BYTES_A_CYCLE = 32
OPERATIONS_A_WORD = 3
LEAVES = (Accumulator, Channel, Operand, Scalar, Integer)
"""Expressions that take no operation of their own: what they read is an operand of another one."""


@dataclass(frozen=True)
class Bound:
    """Cycles of one layer: of the counting, of the epilogue, and of moving the bytes meanwhile."""

    counting: float
    epilogue: float
    moving: float

    @property
    def cycles(self) -> float:
        """The least that the layer takes."""
        return max(self.counting + self.epilogue, self.moving)

    @staticmethod
    def of(spec: KernelSpec) -> Bound:
        """The bound of a layer whose root is a BinaryConv."""
        assert isinstance(spec.root, BinaryConv)
        vectors = math.prod(spec.shape[:3]) * -(-spec.shape[3] // LANES)
        outputs, *window, channels = spec.constants[0].shape
        words = math.prod(window) * -(-channels // WORD_BITS)
        layouts = (*spec.inputs, *spec.operands, *(output.layout for output in spec.outputs))
        moved = sum(layout.bytes for layout in layouts) + outputs * words * 4
        return Bound(
            vectors * (words * OPERATIONS_A_WORD - 1) / OPERATIONS_A_CYCLE,
            vectors * epilogue_operations(spec) / OPERATIONS_A_CYCLE,
            moved / BYTES_A_CYCLE,
        )


def epilogue_operations(spec: KernelSpec) -> int:
    """Vector operations of one vector of channels after the counting."""
    nodes = Graph.of([output.expression for output in spec.outputs]).nodes
    computed = sum(not isinstance(node.expression, LEAVES) for node in nodes)
    fused = sum(_adds_product(nodes, node) for node in nodes)
    return computed - fused + (0 if Threshold.of(spec) else 2)


def _adds_product(nodes: Sequence[Node], node: Node) -> bool:
    """Whether the node is a sum one side of which is a product that nothing else uses: one operation."""

    def is_product(number: int) -> bool:
        expression = nodes[number].expression
        return isinstance(expression, Binary) and expression.kind == "mul" and nodes[number].uses == 1

    is_sum = isinstance(node.expression, Binary) and node.expression.kind in ("add", "sub")
    return is_sum and any(is_product(number) for number in node.operands)
