# SPDX-License-Identifier: Apache-2.0
"""Attributes of ONNX nodes as attributes of the dialect (`bnncc.dialect.parameters` is the way back)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, numpy_helper
from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, FloatAttr, IntegerAttr, StringAttr, f32
from xdsl.ir import Attribute

from bnncc.dialect.operations import Constant, ints
from bnncc.dialect.types import i64


def parameters_of(node: onnx.NodeProto) -> dict[str, Attribute]:
    """The attributes of a node for `bnn.onnx`: i64, f32, strings, arrays of these, dense tensors.

    Raises ValueError("... why ...") for one that the dialect cannot hold."""
    return {attribute.name: dialect_attribute(attribute) for attribute in node.attribute}


def dialect_attribute(attribute: AttributeProto) -> Attribute:
    """One attribute; raises ValueError for a graph, a type and the like."""
    kind = AttributeProto.AttributeType.Name(attribute.type)
    match kind:
        case "INT":
            return IntegerAttr(attribute.i, i64)
        case "FLOAT":
            return FloatAttr(attribute.f, f32)
        case "STRING":
            return string(attribute.s)
        case "INTS":
            return ints(attribute.ints)
        case "FLOATS":
            return DenseArrayBase.from_list(f32, list(attribute.floats))
        case "STRINGS":
            return ArrayAttr([string(text) for text in attribute.strings])
        case "TENSOR":
            return dense(attribute.name, numpy_helper.to_array(attribute.t))
    raise ValueError(f"attribute '{attribute.name}' is of type {kind.lower()}, which is not supported")


def string(text: bytes) -> StringAttr:
    """Text as ONNX stores it; bytes that are no UTF-8 are replaced."""
    return StringAttr(text.decode("utf-8", "replace"))


def dense(name: str, array: np.ndarray) -> Attribute:
    """A tensor; raises ValueError where the dialect has no such element type."""
    try:
        return Constant(array).value
    except KeyError:
        raise ValueError(f"attribute '{name}' holds elements of type {array.dtype}") from None
