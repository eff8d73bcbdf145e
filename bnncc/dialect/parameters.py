# SPDX-License-Identifier: Apache-2.0
"""The attributes of a `bnn.onnx` operation as plain Python values."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
)
from xdsl.ir import Attribute

from bnncc.dialect.structure import Onnx
from bnncc.dialect.types import numpy_type

Plain = int | float | str | np.ndarray | list[int] | list[float] | list[str]


def plain_parameters(op: Onnx) -> dict[str, Plain]:
    """Every attribute of the node by its name: int, float, str, array, or a list of numbers or strings."""
    return {name: plain(attribute) for name, attribute in op.parameters.data.items()}


def plain(attribute: Attribute) -> Plain:
    """One attribute as a Python value; a tensor as a read-only array."""
    match attribute:
        case IntegerAttr() | FloatAttr():
            return attribute.value.data
        case StringAttr():
            return attribute.data
        case ArrayAttr():
            return [plain(element) for element in attribute.data]  # type: ignore[return-value]
        case DenseArrayBase():
            return list(attribute.get_values())  # type: ignore[return-value]
        case DenseIntOrFPElementsAttr():
            dtype = numpy_type(attribute.get_element_type())
            return np.frombuffer(attribute.data.data, dtype).reshape(attribute.get_shape())
    raise AssertionError(f"no attribute of a node is a {type(attribute).__name__}")
