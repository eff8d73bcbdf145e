# SPDX-License-Identifier: Apache-2.0
"""Expressions as a graph: equal subexpressions of all outputs are one node, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from bnncc.plan.expression import Expression


@dataclass
class Node:
    """One distinct expression. operands: numbers of the nodes of its children. uses: how often other nodes
    and outputs refer to it."""

    expression: Expression
    operands: tuple[int, ...]
    uses: int = 0


@dataclass(frozen=True)
class Graph:
    """nodes: operands before their users. roots: the node of each output."""

    nodes: tuple[Node, ...]
    roots: tuple[int, ...]

    @staticmethod
    def of(expressions: Sequence[Expression]) -> Graph:
        """Number the nodes. Each Python object is visited once, so that sharing costs nothing."""
        nodes: list[Node] = []
        by_key: dict[tuple, int] = {}
        by_identity: dict[int, int] = {}

        def visit(expression: Expression) -> int:
            if id(expression) in by_identity:
                return by_identity[id(expression)]
            operands = tuple(visit(child) for child in expression.children())
            key = (*shallow_key(expression), operands)
            number = by_key.setdefault(key, len(nodes))
            if number == len(nodes):
                nodes.append(Node(expression, operands))
                for operand in operands:
                    nodes[operand].uses += 1
            by_identity[id(expression)] = number
            return number

        roots = tuple(visit(expression) for expression in expressions)
        for root in roots:
            nodes[root].uses += 1
        return Graph(tuple(nodes), roots)

    def key(self) -> tuple:
        """Plain data that tells two graphs apart."""
        return (tuple((*shallow_key(node.expression), node.operands) for node in self.nodes), self.roots)


def shallow_key(expression: Expression) -> tuple:
    """The type and the fields that are no expressions (a number by its representation: 0.0 is not -0.0)."""
    values = (getattr(expression, field.name) for field in fields(expression))
    return (
        type(expression).__name__,
        *(repr(value) for value in values if not isinstance(value, Expression)),
    )
