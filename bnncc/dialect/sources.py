# SPDX-License-Identifier: Apache-2.0
"""Where a value comes from: the ONNX node (location) and the ONNX tensor that it equals (source).

`source` is a discardable attribute `["tensor name", array<i64: permutation>]`: the operation's single result
equals that tensor of the ONNX graph with its dimensions permuted. `verify` compares at these values.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, NameLoc, StringAttr
from xdsl.ir import Operation

from bnncc.dialect.operations import ints, unpack

SOURCE = "source"


def set_source(op: Operation, name: str, permutation: Sequence[int]) -> None:
    """Say that the result of `op` is ONNX tensor `name`, dimension i being its dimension permutation[i]."""
    op.attributes[SOURCE] = ArrayAttr([StringAttr(name), ints(permutation)])


def get_source(op: Operation) -> tuple[str, tuple[int, ...]] | None:
    """The ONNX tensor that the result equals and the permutation, or None."""
    attribute = op.attributes.get(SOURCE)
    if not isinstance(attribute, ArrayAttr):
        return None
    name, permutation = attribute.data
    assert isinstance(name, StringAttr) and isinstance(permutation, DenseArrayBase)
    return name.data, unpack(permutation)


def location_text(op: Operation) -> str:
    """The ONNX node behind an operation as people write it, "model.onnx:/conv1/Conv", or "" if unknown."""
    return op.location.desc.data if isinstance(op.location, NameLoc) else ""


def node_name(op: Operation) -> str:
    """The name of the ONNX node behind an operation, or the operation's own where there is none."""
    return location_text(op).partition(":")[2] or op.name
