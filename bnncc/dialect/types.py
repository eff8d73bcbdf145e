# SPDX-License-Identifier: Apache-2.0
"""Value domains: element types that say which values a tensor can hold.

A domain says nothing about storage; the plan's layouts do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import (
    AnyFloat,
    IntegerType,
    Signedness,
    TensorType,
    f16,
    f32,
    f64,
    i1,
    i8,
    i16,
    i32,
)
from xdsl.ir import Attribute, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import irdl_attr_definition


@irdl_attr_definition
class Bipolar(ParametrizedAttribute, TypeAttribute):
    """One value in {-1, +1}; the stored bit is 1 for +1."""

    name = "bnn.bipolar"


@irdl_attr_definition
class Spike(ParametrizedAttribute, TypeAttribute):
    """One value in {0, 1}; the stored bit is the value."""

    name = "bnn.spike"


@irdl_attr_definition
class Ternary(ParametrizedAttribute, TypeAttribute):
    """One value in {-1, 0, +1}: a sign bit (1 for +1) and a mask bit (1 for non-zero)."""

    name = "bnn.ternary"


bipolar, spike, ternary = Bipolar(), Spike(), Ternary()
ui8 = IntegerType(8, Signedness.UNSIGNED)
i64 = IntegerType(64)

_NUMPY: dict[Attribute, type[np.generic]] = {
    f16: np.float16,
    f32: np.float32,
    f64: np.float64,
    i8: np.int8,
    i16: np.int16,
    i32: np.int32,
    i64: np.int64,
    ui8: np.uint8,
    IntegerType(16, Signedness.UNSIGNED): np.uint16,
    IntegerType(32, Signedness.UNSIGNED): np.uint32,
    IntegerType(64, Signedness.UNSIGNED): np.uint64,
    i1: np.bool_,
    bipolar: np.int8,
    spike: np.int8,
    ternary: np.int8,
}


def tensor(shape: Sequence[int], element: Attribute) -> TensorType:
    """A ranked, static tensor type."""
    return TensorType(element, list(shape))


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """The static shape of a tensor value."""
    assert isinstance(value.type, TensorType), value.type
    return value.type.get_shape()


def element_of(value: SSAValue) -> Attribute:
    """The element type (the domain) of a tensor value."""
    assert isinstance(value.type, TensorType), value.type
    return value.type.get_element_type()


def numpy_type(element: Attribute) -> type[np.generic]:
    """How `reference.py` holds an element: domains as int8 values, numbers as themselves.

    Raises KeyError for a type that has no NumPy counterpart here."""
    return _NUMPY[element]


def number_type(dtype: np.dtype) -> Attribute:
    """The element type of ordinary numbers of a NumPy type.

    Raises KeyError for a type that the dialect does not have (strings, complex numbers)."""
    matches = [t for t, n in _NUMPY.items() if n == dtype.type and is_number(t)]
    if not matches:
        raise KeyError(str(dtype))
    return matches[0]


def is_number(element: Attribute) -> bool:
    """Whether the element type is an ordinary number rather than a domain."""
    return isinstance(element, AnyFloat | IntegerType)


def domain_name(element: Attribute) -> str:
    """The domain as people write it: "bipolar", "f32", "i8"."""
    return str(element).removeprefix("!bnn.")
