# SPDX-License-Identifier: Apache-2.0
"""What the front end knows of a tensor before it has a value: element type and static shape."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper
from xdsl.dialects.builtin import TensorType

from bnncc.dialect.types import number_type, tensor

LARGEST_TENSOR = 4 << 30
"""A tensor of more bytes than this is taken for a mistake (or an attack), not for a network's."""


class Kind(NamedTuple):
    """Element type and shape of a tensor; a dimension is None where it is unknown."""

    dtype: np.dtype
    shape: tuple[int | None, ...]

    @property
    def bytes(self) -> int:
        """The size of the tensor; unknown dimensions count as 1."""
        return self.dtype.itemsize * prod(1 if size is None else size for size in self.shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape, where all of it is known."""
        known = tuple(size for size in self.shape if size is not None)
        assert len(known) == len(self.shape), self
        return known

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join('?' if size is None else str(size) for size in self.shape)}]"


def kind_of(array: np.ndarray) -> Kind:
    """The kind of a value that is known."""
    return Kind(array.dtype, array.shape)


def element_type(number: int) -> np.dtype:
    """The NumPy type of an ONNX element type; raises ValueError where the dialect has none."""
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(number))
        number_type(dtype)
    except KeyError:
        raise ValueError(f"element type {element_name(number)} is not supported") from None
    return dtype


def element_name(number: int) -> str:
    """An ONNX element type as people write it: "bfloat16"."""
    return (
        TensorProto.DataType.Name(number).lower() if number in TensorProto.DataType.values() else str(number)
    )


def kind_from_proto(proto: onnx.TypeProto) -> Kind | None:
    """The kind that a type states, or None where it states no element type or no rank.

    Raises ValueError for what is no tensor, or of an element type that the dialect lacks."""
    which = proto.WhichOneof("value")
    if which is None:
        return None
    if which != "tensor_type":
        raise ValueError(f"it is a {which.removesuffix('_type').replace('_', ' ')}, not a tensor")
    if proto.tensor_type.elem_type == TensorProto.UNDEFINED:
        return None
    dtype = element_type(proto.tensor_type.elem_type)
    if not proto.tensor_type.HasField("shape"):
        return None
    dims = proto.tensor_type.shape.dim
    return Kind(dtype, tuple(d.dim_value if d.HasField("dim_value") else None for d in dims))


def proto_of(kind: Kind) -> onnx.TypeProto:
    """The ONNX type of a kind."""
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(kind.dtype), kind.shape)


def dialect_type(kind: Kind) -> TensorType:
    """The dialect's type of a static kind."""
    return tensor(kind.sizes, number_type(kind.dtype))
