# SPDX-License-Identifier: Apache-2.0
"""What verifiers of several operations ask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import DYNAMIC_INDEX, TensorType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.traits import OpTrait
from xdsl.utils.exceptions import VerifyException

from bnncc.dialect.types import element_of, numpy_type, shape_of


class StaticTensors(OpTrait):
    """Operands and results are tensors of static shapes, of elements that the dialect has."""

    def verify(self, op: Operation) -> None:
        """Runs before the operation's own verifier, which may take this for granted."""
        for value in (*op.operands, *op.results):
            expect(isinstance(value.type, TensorType), "tensors", value.type)
            expect(DYNAMIC_INDEX not in shape_of(value), "static shapes", value.type)
            try:
                numpy_type(element_of(value))
            except KeyError:
                raise VerifyException(f"expected a domain or usual numbers, got {value.type}") from None


def expect(condition: bool, expected: str, found: object) -> None:
    """Raise VerifyException("expected ..., got ...") unless the condition holds."""
    if not condition:
        raise VerifyException(f"expected {expected}, got {found}")


def types_text(types: Sequence[Attribute]) -> str:
    """Types as an error message shows them."""
    return ", ".join(map(str, types)) or "none"


def channels_of(value: SSAValue) -> int:
    """The extent of the last dimension; raises VerifyException where there is none."""
    expect(shape_of(value) != (), "a dimension of channels", value.type)
    return shape_of(value)[-1]


def verify_broadcast(operands: Sequence[SSAValue], result: SSAValue) -> None:
    """Check that the operands' shapes broadcast to the result's."""
    shapes = [shape_of(value) for value in operands]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise VerifyException(f"expected shapes that broadcast, got {shapes}") from None
    expect(shape_of(result) == shape, f"result shape {shape}", shape_of(result))


def verify_kept_element(value: SSAValue, result: SSAValue) -> None:
    """Check that the result has the element type of a value that it is made of."""
    expect(element_of(result) == element_of(value), f"result element {element_of(value)}", element_of(result))
