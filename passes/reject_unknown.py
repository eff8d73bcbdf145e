# SPDX-License-Identifier: Apache-2.0
"""reject-unknown: say all at once which ONNX nodes have no counterpart, why, and what to do."""

from __future__ import annotations

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.passes import ModulePass

from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.dialect.sources import location_text

LONGEST_LIST = 20
"""Nodes listed before the rest is counted only."""


def complaint(op: ops.Onnx) -> str:
    """What is wrong with one node."""
    domain = f" of domain '{op.domain.data}'" if op.domain.data else ""
    reason = text(op, "reason") or "it was not converted"
    return f"operator {op.operator.data}{domain} is not supported: {reason}"


def text(op: ops.Onnx, name: str) -> str:
    """A discardable string attribute, or ""."""
    attribute = op.attributes.get(name)
    return attribute.data if isinstance(attribute, StringAttr) else ""


def rejection(nodes: list[ops.Onnx]) -> BnnccError:
    """One error for one node or many."""
    hints = list(dict.fromkeys(hint for op in nodes if (hint := text(op, "hint"))))
    hint = "; ".join(hints)
    if len(nodes) == 1:
        return BnnccError(location_text(nodes[0]), complaint(nodes[0]), hint)
    lines = [f"\n  {location_text(op) or 'a node'}: {complaint(op)}" for op in nodes[:LONGEST_LIST]]
    more = f"\n  and {len(nodes) - LONGEST_LIST} more" if len(nodes) > LONGEST_LIST else ""
    model = location_text(nodes[0]).partition(":")[0]
    return BnnccError(model, f"{len(nodes)} nodes are not supported:{''.join(lines)}{more}", hint)


class RejectUnknownPass(ModulePass):
    """Raise BnnccError if a `bnn.onnx` operation is left."""

    name = "reject-unknown"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Collect, then raise once."""
        nodes = [node for node in op.walk() if isinstance(node, ops.Onnx)]
        if nodes:
            raise rejection(nodes)
