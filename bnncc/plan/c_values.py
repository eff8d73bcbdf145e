# SPDX-License-Identifier: Apache-2.0
"""How stored numbers are spelled in C: the types of elements, and literals that give back exactly a value."""

from __future__ import annotations

import math

C_TYPES = {
    "bool": "uint8_t",
    "float16": "uint16_t",
    "float32": "float",
    "float64": "double",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "uint64": "uint64_t",
}
"""The C type that holds an element, by its NumPy name. Half floats pass as their bits."""


class Pointer:
    """A pointer parameter of a function: what a class of parameters has besides its own fields."""

    name: str
    c_type: str
    is_const: bool

    @property
    def declaration(self) -> str:
        """As in a C prototype, without `restrict`."""
        return f"{'const ' if self.is_const else ''}{self.c_type} *{self.name}"


def float_literal(value: float) -> str:
    """Nine digits give back every float32; infinities and NaN by their <math.h> names."""
    if not math.isfinite(value):
        return _special(value)
    text = f"{value:.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def double_literal(value: float) -> str:
    """Seventeen digits give back every float64."""
    if not math.isfinite(value):
        return _special(value)
    text = f"{value:.17g}"
    return text if "." in text or "e" in text else f"{text}.0"


def _special(value: float) -> str:
    if math.isnan(value):
        return "NAN"
    return "INFINITY" if value > 0 else "-INFINITY"
