# SPDX-License-Identifier: Apache-2.0
"""Operators on bytes of ONNX Runtime (domain com.microsoft, written by its quantising tool), as those of
ONNX: their inputs dequantised, the real operator, and its result quantised again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from onnx import NodeProto, TensorProto

from bnncc.frontend.shapes import attribute


class Writer(Protocol):
    """What an expansion offers (`contrib.Expansion`)."""

    proto: NodeProto

    def given(self, slot: int) -> str:
        """The name of an input, "" where it is left out."""
        ...

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Append a node; the name of its result."""
        ...

    def number(self, value: float) -> str:
        """Append a float32 constant."""
        ...

    def like(self, operator: str, *inputs: str) -> str:
        """Append a node with the attributes of the fused one."""
        ...


def _real(e: Writer, slot: int, **axis: int) -> str:
    """The tensor at a slot, behind which its scale and zero point stand."""
    return e.add("DequantizeLinear", *_present(e, slot, slot + 1, slot + 2), **axis)


def _bytes(e: Writer, value: str, slot: int) -> str:
    """A real value by the scale and zero point at a slot."""
    return e.add("QuantizeLinear", value, *_present(e, slot, slot + 1))


def _present(e: Writer, *slots: int) -> list[str]:
    return [name for slot in slots if (name := e.given(slot))]


def _of_two(operator: str) -> Callable[[Writer], str]:
    def write(e: Writer) -> str:
        return _bytes(e, e.add(operator, _real(e, 0), _real(e, 3)), 6)

    return write


def _of_one(operator: str) -> Callable[[Writer], str]:
    def write(e: Writer) -> str:
        if attribute(e.proto, "channels_last", 0):
            raise ValueError("channels last")
        given = {a.name: attribute(e.proto, a.name, None) for a in e.proto.attribute}
        given.pop("channels_last", None)
        return _bytes(e, e.add(operator, _real(e, 0), **given), 3)

    return write


def concat(e: Writer) -> str:
    """QLinearConcat: the result's parameters first, then three inputs for each tensor."""
    parts = [_real(e, slot) for slot in range(2, len(e.proto.input), 3)]
    return _bytes(e, e.like("Concat", *parts), 0)


def gemm(e: Writer) -> str:
    """QGemm: its bias has the scale of the products, alpha included, one for each column or one; without a
    scale of its own the result is real."""
    b_axis = 0 if attribute(e.proto, "transB", 0) else 1
    factors = [_real(e, 0), _real(e, 3, axis=b_axis)]
    if e.given(6):
        scale = e.add("Mul", e.given(1), e.given(4))
        alpha = attribute(e.proto, "alpha", 1.0)
        if alpha != 1:
            scale = e.add("Mul", scale, e.number(alpha))
        factors.append(e.add("Mul", e.add("Cast", e.given(6), to=TensorProto.FLOAT), scale))
    product = e.like("Gemm", *factors)
    return _bytes(e, product, 7) if e.given(7) else product


QUANTISED: dict[str, Callable[[Writer], str]] = {
    "QLinearAdd": _of_two("Add"),
    "QLinearMul": _of_two("Mul"),
    "QLinearSigmoid": _of_one("Sigmoid"),
    "QLinearLeakyRelu": _of_one("LeakyRelu"),
    "QLinearAveragePool": _of_one("AveragePool"),
    "QLinearGlobalAveragePool": _of_one("GlobalAveragePool"),
    "QLinearConcat": concat,
    "QGemm": gemm,
}
"""What writes out an operator."""
