# SPDX-License-Identifier: Apache-2.0
"""Operators of ONNX's own that have no kernel, written out as the ones that they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import onnx
from onnx import TensorProto

from bnncc.frontend.shapes import attribute


class Writer(Protocol):
    """What an expansion offers (`contrib.Expansion`)."""

    proto: onnx.NodeProto

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Append a node; the name of its result."""
        ...

    def number(self, value: float) -> str:
        """Append a float32 constant."""
        ...


Results = tuple[str, ...]


def celu(e: Writer) -> Results:
    """Celu(x) = alpha * Elu(x / alpha)."""
    alpha = e.number(attribute(e.proto, "alpha", 1.0))
    return (e.add("Mul", e.add("Elu", e.add("Div", e.proto.input[0], alpha)), alpha),)


def swish(e: Writer) -> Results:
    """Swish(x) = x * sigmoid(alpha * x)."""
    x, alpha = e.proto.input[0], attribute(e.proto, "alpha", 1.0)
    scaled = x if alpha == 1 else e.add("Mul", x, e.number(alpha))
    return (e.add("Mul", x, e.add("Sigmoid", scaled)),)


def dynamic_quantize_linear(e: Writer) -> Results:
    """The bytes of x, their scale and zero point: the range from the least to the greatest number, and 0, in
    255 steps. Where all of x is 0 the scale is 1, as in ONNX Runtime; the specification divides by 0."""
    x, zero, steps = e.proto.input[0], e.number(0), e.number(255)
    low = e.add("Min", e.add("ReduceMin", x, keepdims=0), zero)
    high = e.add("Max", e.add("ReduceMax", x, keepdims=0), zero)
    extent = e.add("Sub", high, low)
    scale = e.add("Where", e.add("Equal", extent, zero), e.number(1), e.add("Div", extent, steps))
    place = e.add("Clip", e.add("Neg", e.add("Div", low, scale)), zero, steps)
    zero_point = e.add("Cast", e.add("Round", place), to=TensorProto.UINT8)
    return e.add("QuantizeLinear", x, scale, zero_point), scale, zero_point


COMPOSED: dict[str, Callable[[Writer], Results]] = {
    "Celu": celu,
    "DynamicQuantizeLinear": dynamic_quantize_linear,
    "Swish": swish,
}
"""What writes out an operator."""
