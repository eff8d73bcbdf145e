# SPDX-License-Identifier: Apache-2.0
"""eliminate-common-subexpressions: equal operations of equal operands are one.

Exporters repeat themselves: one of them writes the polynomial of a straight-through estimator twice.
"""

from __future__ import annotations

from collections.abc import Hashable

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.traits import Pure

from bnncc.passes.matching import apply_patterns, copy_source, main_block


def key_of(op: Operation) -> Hashable:
    """What two operations share if they compute the same; locations and sources do not count."""
    properties = tuple(sorted(op.properties.items()))
    return op.name, op.operands, properties, tuple(op.result_types)


class EliminateCommonSubexpressionsPass(ModulePass):
    """Keep the first of several equal operations."""

    name = "eliminate-common-subexpressions"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the function; regions are looked at from outside only."""
        known: dict[Hashable, Operation] = {}
        for operation in list(main_block(op).ops):
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
        apply_patterns(op)
