# SPDX-License-Identifier: Apache-2.0
"""Quantised tensors of ONNX: QuantizeLinear, DequantizeLinear, and the operators that compute with integers.

A tensor of bytes with a zero point holds q = byte - zero point; the dialect has the domain of these q, whose
0 is the real 0, so that padding by zeros is padding by the zero point.
"""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import f32, i8, i32
from xdsl.ir import Attribute, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, level_type, shape_of, ui8
from bnncc.passes.onnx.node import Conversion, Node, NotConvertible
from bnncc.passes.onnx.windows import geometry

BYTES = {ui8: (0, 255), i8: (-128, 127)}
"""The first and the last value of the types that hold quantised numbers."""

HALF = 128
"""Half the values of a byte."""


def quantize_linear(node: Node) -> SSAValue:
    """QuantizeLinear: saturate(round(x / scale) + zero point), halves to even."""
    x, element = node.real(0), _byte(node.result_element)
    scale, zero = _parameters(node, 1, 2, shape_of(x))
    rounded = node.add(ops.Round(node.add(ops.Div(x, node.constant(scale)))))
    return saturated(node, rounded, zero, element)


def saturated(node: Node, rounded: SSAValue, zero: np.ndarray, element: Attribute) -> SSAValue:
    """Integers, the zero point not added yet, as bytes; what does not fit is cut off."""
    low, high = BYTES[element]
    if zero.size != 1:
        moved = node.add(ops.Add(rounded, node.constant(zero.astype(np.float32))))
        return node.add(ops.Cast(node.add(ops.Clip(moved, low, high)), element))
    offset = int(zero.item())
    inside = node.add(ops.Clip(rounded, low - offset, high - offset))
    levels = node.add(ops.Cast(inside, level_type(low - offset, high - offset)))
    return as_bytes(node, levels, offset, element)


def as_bytes(node: Node, levels: SSAValue, offset: int, element: Attribute) -> SSAValue:
    """Levels q as the bytes q + offset."""
    numbers = node.add(ops.Cast(levels))
    if offset:
        numbers = node.add(ops.Add(numbers, node.scalar(offset)))
    return node.add(ops.Cast(numbers, element))


def dequantize_linear(node: Node) -> SSAValue:
    """DequantizeLinear: (byte - zero point) * scale; of int32 sums too."""
    x = node.input(0)
    if element_of(x) not in (*BYTES, i32) or node.result_element != f32:
        raise NotConvertible(f"it turns {element_of(x)} into {node.result_element}")
    scale, zero = _parameters(node, 1, 2, shape_of(x))
    numbers = node.add(ops.Cast(x, f32))
    if zero.any():
        numbers = node.add(ops.Sub(numbers, node.constant(zero.astype(np.float32))))
    return node.add(ops.Mul(numbers, node.constant(scale)))


def _byte(element: Attribute) -> Attribute:
    if element not in BYTES:
        raise NotConvertible(f"it makes {element} of numbers", "quantise to int8 or uint8")
    return element


def _parameters(node: Node, scale: int, zero: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point, shaped to broadcast: numbers, or vectors along the attribute `axis`."""
    if node.parameter("block_size", 0):
        raise NotConvertible("it has a scale for every block", "quantise by tensor or by channel")
    found = node.array(scale, "scale")
    if found.dtype != np.float32:
        raise NotConvertible(f"its scale is of type {found.dtype}", "export the model in float32")
    zeros = node.array(zero, "zero point") if node.has_input(zero) else np.zeros((), np.int32)
    zeros = zeros.astype(np.int32)
    if (zeros == zeros.flat[0]).all():
        zeros = zeros.reshape(-1)[0].reshape(())
    if found.size == 1:
        return found.reshape(()), zeros
    if found.ndim != 1:
        raise NotConvertible(f"its scale has shape {found.shape}", "quantise by tensor or by channel")
    axis = node.axis("axis", 1, len(shape))
    along = (-1, *(1,) * (len(shape) - axis - 1))
    return found.reshape(along), zeros if zeros.size == 1 else zeros.reshape(along)


def levels_of_bytes(node: Node, slot: int, zero_slot: int) -> SSAValue:
    """An input of bytes without its zero point, as the levels that they are."""
    x = node.input(slot)
    offset = _zero(node, zero_slot)
    low, high = BYTES[_bytes_of(x)]
    numbers = node.add(ops.Cast(x, f32))
    if offset:
        numbers = node.add(ops.Sub(numbers, node.scalar(offset)))
    return node.add(ops.Cast(numbers, level_type(low - offset, high - offset)))


def _bytes_of(value: SSAValue) -> Attribute:
    if element_of(value) not in BYTES:
        raise NotConvertible(f"its input is of type {element_of(value)}", "quantise to int8 or uint8")
    return element_of(value)


def _zero(node: Node, slot: int) -> int:
    """A zero point that is one number."""
    if not node.has_input(slot):
        return 0
    zero = node.array(slot, "zero point")
    if not (zero == zero.flat[0]).all():
        raise NotConvertible("its activation has a zero point for every channel")
    return int(zero.flat[0])


def weight_of(node: Node, slot: int, zero_slot: int, axis: int) -> np.ndarray:
    """A constant weight without its zero point (one number, or one for each index along `axis`), int8."""
    weight = node.array(slot, "weight").astype(np.int32)
    if node.has_input(zero_slot):
        zero = node.array(zero_slot, "zero point of the weight").astype(np.int32)
        if zero.size > 1:
            zero = zero.reshape(*(-1 if i == axis else 1 for i in range(weight.ndim)))
        weight = weight - zero
    if weight.size and (weight.min() < -HALF or weight.max() >= HALF):
        raise NotConvertible("its weights without their zero point do not fit 8 bits")
    return weight.astype(np.int8)


def convolution(node: Node, x: SSAValue, weight: np.ndarray) -> SSAValue:
    """The int32 sums [n, h, w, o] of levels [n, c, h, w] and weights [o, c, h, w]."""
    rank = len(shape_of(x))
    if rank not in (3, 4) or weight.ndim != rank:
        raise NotConvertible(f"its weight is of rank {weight.ndim}, its input of rank {rank}")
    window = geometry(node, weight.shape[2:], shape_of(x)[2:])
    kernel = weight.reshape(*weight.shape[:2], *window.kernel).transpose(0, 2, 3, 1)
    group = int(node.parameter("group", 1))
    if group != 1 and not group == shape_of(x)[1] == len(weight):
        raise NotConvertible("it is grouped", "sums of bytes have kernels for one group, or one a channel")
    constant = node.add(ops.Constant(np.ascontiguousarray(kernel), level_of(kernel)))
    image = node.to_image(x)
    return node.add(ops.Conv2d(image, constant, window.strides, window.dilations, window.pads, group))


def level_of(weight: np.ndarray) -> Attribute:
    """The levels that a weight holds, at least two of them."""
    lowest, highest = min(int(weight.min()), 0), max(int(weight.max()), 1)
    return level_type(lowest, highest) if lowest < 0 or highest > 1 else level_type(-1, 1)


def conv_integer(node: Node) -> SSAValue:
    """ConvInteger: the int32 sums of bytes without their zero points."""
    x = levels_of_bytes(node, 0, 2)
    sums = convolution(node, x, weight_of(node, 1, 3, 0))
    return node.from_image(sums, len(shape_of(x)))


def matmul_integer(node: Node) -> SSAValue:
    """MatMulInteger by a constant matrix [k, o]."""
    weight = _matrix(node, 1, 3)
    x = levels_of_bytes(node, 0, 2)
    return node.add(ops.Dense(x, node.add(ops.Constant(weight, level_of(weight)))))


def _matrix(node: Node, slot: int, zero_slot: int) -> np.ndarray:
    """A constant matrix [k, o] as [o, k]."""
    weight = weight_of(node, slot, zero_slot, 1)
    if weight.ndim != 2 or len(shape_of(node.input(0))) < 2:
        raise NotConvertible(f"it multiplies shapes {shape_of(node.input(0))} and {weight.shape}")
    return np.ascontiguousarray(weight.T)


def qlinear_conv(node: Node) -> SSAValue:
    """QLinearConv: the sums and their int32 bias, scaled to bytes."""
    x = levels_of_bytes(node, 0, 2)
    sums = convolution(node, x, weight_of(node, 3, 5, 0))
    if node.has_input(8):
        sums = node.add(ops.Add(sums, node.constant(node.array(8, "bias").astype(np.int32).reshape(-1))))
    factor = node.array(1, "scale") * node.array(4, "scale").reshape(-1) / node.array(6, "scale")
    y = requantized(node, sums, factor, 7)
    return node.from_image(y, len(shape_of(x)))


def qlinear_matmul(node: Node) -> SSAValue:
    """QLinearMatMul by a constant matrix [k, o]."""
    if any(node.array(slot, "scale").size > 1 for slot in (1, 6)):
        raise NotConvertible("it has a scale for every row")
    weight = _matrix(node, 3, 5)
    x = levels_of_bytes(node, 0, 2)
    sums = node.add(ops.Dense(x, node.add(ops.Constant(weight, level_of(weight)))))
    factor = node.array(1, "scale") * node.array(4, "scale").reshape(-1) / node.array(6, "scale")
    return requantized(node, sums, factor, 7)


def requantized(node: Node, sums: SSAValue, factor: np.ndarray, zero_slot: int) -> SSAValue:
    """int32 sums [..., o] times a number, or one for each channel, as bytes, halves to even before the zero
    point is added."""
    if factor.dtype != np.float32:
        raise NotConvertible(f"its scales are of type {factor.dtype}", "export the model in float32")
    zero, element = _zero(node, zero_slot), _byte(node.result_element)
    factor = factor.reshape(()) if factor.size == 1 else factor
    scaled = node.add(ops.Mul(node.add(ops.Cast(sums, f32)), node.constant(factor)))
    rounded = node.add(ops.Round(scaled))
    return saturated(node, rounded, np.asarray(zero), element)


QUANTIZED: dict[str, Conversion] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "ConvInteger": conv_integer,
    "MatMulInteger": matmul_integer,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
}
