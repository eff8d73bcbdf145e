# SPDX-License-Identifier: Apache-2.0
"""Value domains: element types that say which values a tensor can hold.

A domain says nothing about storage; the plan's layouts do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import (
    AnyFloat,
    IntAttr,
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
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException


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


LEVEL_BITS = 8
"""Bits of the widest level type."""

PLANE_BITS = 4
"""Levels of at most so many bits are stored as bit-planes, wider ones as bytes."""


@irdl_attr_definition
class Level(ParametrizedAttribute, TypeAttribute):
    """One integer in lowest .. highest, `!bnn.level<lowest, highest>`, at most 256 of them around 0 or above.

    What is stored is value - lowest: bit b of it in plane b, or a byte where it has more than 4 bits.
    `domain_name` calls it by the bits that it has: u2 is 0 .. 3 (or 0 .. 2), s2 is -2 .. 1 (or -1 .. 1)."""

    name = "bnn.level"
    low: IntAttr
    high: IntAttr

    def __init__(self, low: int | IntAttr, high: int | IntAttr):
        super().__init__(*(IntAttr(v) if isinstance(v, int) else v for v in (low, high)))

    @property
    def lowest(self) -> int:
        """The smallest value."""
        return self.low.data

    @property
    def highest(self) -> int:
        """The largest value."""
        return self.high.data

    @property
    def planes(self) -> int:
        """How many bits tell the values apart."""
        return (self.highest - self.lowest).bit_length()

    @property
    def is_byte(self) -> bool:
        """Whether a byte holds a value, rather than planes of bits."""
        return self.planes > PLANE_BITS

    def verify(self) -> None:
        """Check the range."""
        if not 0 < self.highest - self.lowest < 1 << LEVEL_BITS:
            raise VerifyException(
                f"expected 2 to {1 << LEVEL_BITS} levels, got {self.lowest} .. {self.highest}"
            )
        if not -255 <= self.lowest <= self.highest <= 255:
            raise VerifyException(f"expected levels of 8 bits, got {self.lowest} .. {self.highest}")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        """<lowest, highest>"""
        with parser.in_angle_brackets():
            low = parser.parse_integer()
            parser.parse_punctuation(",")
            return [IntAttr(low), IntAttr(parser.parse_integer())]

    def print_parameters(self, printer: Printer) -> None:
        """<lowest, highest>"""
        printer.print_string(f"<{self.lowest}, {self.highest}>")


MOST_DIMENSIONS = 4
"""Of the tensors that kernels of our own work on: [n, h, w, c]."""

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


_VALUES: dict[Attribute, frozenset[int]] = {
    bipolar: frozenset((-1, 1)),
    spike: frozenset((0, 1)),
    ternary: frozenset((-1, 0, 1)),
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
    """How `reference.py` holds an element: domains as int8 values (levels beyond in what holds them), numbers
    as themselves.

    Raises KeyError for a type that has no NumPy counterpart here."""
    if isinstance(element, Level):
        if element.lowest >= -128 and element.highest <= 127:
            return np.int8
        return np.uint8 if element.lowest >= 0 else np.int16
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


def domain_values(element: Attribute) -> frozenset[int] | None:
    """Which numbers a domain holds; None for a type of ordinary numbers."""
    if isinstance(element, Level):
        return frozenset(range(element.lowest, element.highest + 1))
    return _VALUES.get(element)


def level_type(lowest: int, highest: int) -> Attribute:
    """The domain of the integers lowest .. highest."""
    return spike if (lowest, highest) == (0, 1) else Level(lowest, highest)


def domain_name(element: Attribute) -> str:
    """The domain as people write it: "bipolar", "f32", "i8", "u2"; "1..4" for levels that are no usual
    integers."""
    if isinstance(element, Level):
        half = 1 << element.planes - 1
        if element.lowest == 0:
            return f"u{element.planes}"
        is_signed = -half <= element.lowest < 0 and element.highest < half
        return f"s{element.planes}" if is_signed else f"{element.lowest}..{element.highest}"
    return str(element).removeprefix("!bnn.")
