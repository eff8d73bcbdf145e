# SPDX-License-Identifier: Apache-2.0
"""What operations are made of besides operands: lists of integers, arrays, as attributes and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import BytesAttr, DenseArrayBase, DenseIntOrFPElementsAttr
from xdsl.ir import Attribute
from xdsl.irdl import ParsePropInAttrDict

from bnncc.dialect.types import i64, number_type, numpy_type, tensor

IN_DICT = (ParsePropInAttrDict(),)
"""Options of operations whose properties are printed between braces."""


def ints(values: Sequence[int]) -> DenseArrayBase:
    """A property that holds integers."""
    return DenseArrayBase.from_list(i64, list(values))


def unpack(values: DenseArrayBase) -> tuple[int, ...]:
    """The integers of a property made by `ints`."""
    return tuple(int(v) for v in values.get_values())  # type: ignore[attr-defined]


def inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes this one."""
    return tuple(int(axis) for axis in np.argsort(permutation))


def elements(shape: Sequence[int], data: np.ndarray, element: Attribute) -> DenseIntOrFPElementsAttr:
    """Numbers in row-major order as an attribute."""
    type_ = tensor(shape, element)
    return DenseIntOrFPElementsAttr(type_, BytesAttr(data.tobytes()))  # type: ignore[arg-type]


def vector(values: np.ndarray, dtype: type[np.generic]) -> DenseIntOrFPElementsAttr:
    """A property that holds one number per channel."""
    data = np.ascontiguousarray(values, dtype=dtype).reshape(-1)
    return elements(data.shape, data, number_type(data.dtype))


def vector_of(values: DenseIntOrFPElementsAttr) -> np.ndarray:
    """The numbers of a property made by `vector`."""
    return np.frombuffer(values.data.data, numpy_type(values.get_element_type()))
