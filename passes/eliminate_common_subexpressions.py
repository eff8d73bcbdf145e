# SPDX-License-Identifier: Apache-2.0
"""eliminate-common-subexpressions: equal operations of equal operands are one.

Exporters repeat themselves: one of them writes the polynomial of a straight-through estimator twice.
"""

from __future__ import annotations

from collections.abc import Hashable

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation
from xdsl.passes import ModulePass
from xdsl.traits import Pure

from bnncc.passes.matching import all_blocks, apply_patterns, copy_source


def key_of(op: Operation) -> Hashable:
    """What two operations share if they compute the same; locations and sources do not count."""
    properties = tuple(sorted(op.properties.items()))
    return op.name, op.operands, properties, tuple(op.result_types)


class EliminateCommonSubexpressionsPass(ModulePass):
    """Keep the first of several equal operations."""

    name = "eliminate-common-subexpressions"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the function and its loops; other regions are looked at from outside only."""
        for block in all_blocks(op):
            eliminate(block)
        apply_patterns(op)


def eliminate(block: Block) -> None:
    """Keep the first of equal operations in one block."""
    known: dict[Hashable, Operation] = {}
    for operation in list(block.ops):
        if operation.regions or not operation.has_trait(Pure):
            continue
        first = known.setdefault(key_of(operation), operation)
        if first is operation:
            continue
        copy_source(operation, first)
        for old, new in zip(operation.results, first.results, strict=True):
            old.replace_all_uses_with(new)
        operation.detach()
        operation.erase()
