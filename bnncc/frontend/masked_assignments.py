# SPDX-License-Identifier: Apache-2.0
"""`x[mask] = value` as exporters write it becomes Where(mask, value, x).

An assignment to what a mask selects is exported as ScatterND at the indices that NonZero finds; how many
there are is known only when the network runs, so no shape can be given to what lies between. What it computes
is Where, as long as the mask has the shape of x (which the importer checks, as it knows shapes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx
from onnx import helper

from bnncc.diagnostics import BnnccError
from bnncc.frontend.checks import Node
from bnncc.frontend.kinds import Kind
from bnncc.frontend.shapes import attribute
from bnncc.frontend.signatures import problem_with

REPEATING = frozenset({"Expand", "Reshape", "Identity", "Squeeze", "Unsqueeze"})
"""Operators that keep a single number, however often they repeat it."""


def masked_assignments(nodes: Sequence[Node]) -> list[Node]:
    """The same nodes, each ScatterND at the indices of a mask replaced by Where, `masked` set."""
    sound = [node for node in nodes if problem_with(node.proto, node.opset) is None]
    makers = {name: node for node in sound for name in node.proto.output if name}
    found = {id(node) for node in sound if node.operator == "ScatterND"}
    return [as_where(node, makers) if id(node) in found else node for node in nodes]


def as_where(node: Node, makers: Mapping[str, Node]) -> Node:
    """Where in place of a ScatterND at the indices of a mask; any other node as it is."""
    if attribute(node.proto, "reduction", b"none") != b"none":
        return node
    data, indices, updates = node.proto.input
    mask = mask_of(indices, makers)
    if mask is None:
        return node
    value = repeated(updates, mask, makers)
    where = helper.make_node("Where", [mask, value, data], node.proto.output, node.proto.name)
    return replace(node, proto=where, masked=True)


def mask_of(indices: str, makers: Mapping[str, Node]) -> str | None:
    """The mask whose true elements these indices are: Transpose(NonZero(mask))."""
    transpose = made_by(indices, "Transpose", makers)
    if transpose is None or attribute(transpose, "perm", [1, 0]) != [1, 0]:
        return None
    found = made_by(transpose.input[0], "NonZero", makers)
    return None if found is None else found.input[0]


def repeated(updates: str, mask: str, makers: Mapping[str, Node]) -> str:
    """What is assigned: the one number that is repeated, or y of y[mask]."""
    maker = makers.get(updates)
    while maker is not None and maker.operator in REPEATING:
        updates = maker.proto.input[0]
        maker = makers.get(updates)
    gather = made_by(updates, "GatherND", makers)
    if gather is not None and mask_of(gather.input[1], makers) == mask:
        return gather.input[0]
    return updates


def made_by(name: str, operator: str, makers: Mapping[str, Node]) -> onnx.NodeProto | None:
    """The node that makes a value, if it is of this operator."""
    node = makers.get(name)
    return node.proto if node is not None and node.operator == operator else None


def check_mask(node: Node, kinds: Mapping[str, Kind]) -> None:
    """The mask selects single elements, and what is assigned is one number or has the shape of x; raises
    BnnccError otherwise."""
    mask, value, data = (kinds[name] for name in node.proto.input)
    single = all(size == 1 for size in value.shape) and len(value.shape) <= len(data.shape)
    if mask.shape != data.shape or not (single or value.shape == data.shape):
        raise BnnccError(
            node.location,
            f"an assignment by a mask {mask} of {value} to {data} is not supported",
            "a mask of the same shape, and one number or a tensor of the same shape, are",
        )
