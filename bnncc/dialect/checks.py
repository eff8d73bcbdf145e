# SPDX-License-Identifier: Apache-2.0
"""What verifiers of several operations ask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.ir import SSAValue
from xdsl.utils.exceptions import VerifyException

from bnncc.dialect.types import element_of, shape_of


def expect(condition: bool, expected: str, found: object) -> None:
    """Raise VerifyException("expected ..., got ...") unless the condition holds."""
    if not condition:
        raise VerifyException(f"expected {expected}, got {found}")


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
