# SPDX-License-Identifier: Apache-2.0
"""Element-wise operators of ONNX and QONNX."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from xdsl.dialects.builtin import f32, i1, i32
from xdsl.ir import Block, Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, shape_of
from bnncc.passes.matching import constant_of
from bnncc.passes.onnx.node import Conversion, Node, NotConvertible

NUMBERS = (f32, i32)
"""What element-wise arithmetic works on."""


def numbers(node: Node, *slots: int) -> list[SSAValue]:
    """Inputs that are all float32 or all int32."""
    values = [node.input(slot) for slot in slots] or node.inputs()
    for value in values:
        if element_of(value) not in NUMBERS or element_of(value) != element_of(values[0]):
            found = ", ".join(str(element_of(value)) for value in values)
            raise NotConvertible(f"its inputs are of types {found}", "export the model in float32")
    return values


def unary(kind: Callable[[SSAValue], Operation]) -> Conversion:
    """An operator of one input that the dialect has."""

    def convert(node: Node) -> SSAValue:
        return node.add(kind(*numbers(node, 0)))

    return convert


def variadic(kind: Callable[[SSAValue, SSAValue], Operation]) -> Conversion:
    """An operator of two inputs, or of many taken from left to right."""

    def convert(node: Node) -> SSAValue:
        first, *others = numbers(node)
        for other in others:
            first = node.add(kind(first, other))
        return first

    return convert


def divide(node: Node) -> SSAValue:
    """Div of real numbers. Integers are cut off towards zero, which no kernel of ours does."""
    if node.result_element != f32:
        raise NotConvertible("it divides integers")
    return variadic(ops.Div)(node)


def comparison(kind: str) -> Conversion:
    """An operator that compares numbers."""

    def convert(node: Node) -> SSAValue:
        return node.add(ops.Compare(kind, *numbers(node, 0, 1)))

    return convert


def power(node: Node) -> SSAValue:
    """Pow; a square, a root or nothing where the exponent says so."""
    base = node.real(0)
    exponent = constant_of(node.input(1))
    if exponent is None:
        return node.add(ops.Pow(base, node.real(1)))
    if exponent.size == 1 and np.broadcast_shapes(exponent.shape, shape_of(base)) == shape_of(base):
        match float(exponent.item()):
            case 1.0:
                return base
            case 2.0:
                return node.add(ops.Mul(base, base))
            case 0.5:
                return node.add(ops.Sqrt(base))
    return node.add(ops.Pow(base, node.constant(exponent.astype(np.float32))))


def sign(node: Node) -> SSAValue:
    """Sign: 0 stays 0."""
    return node.add(ops.Cast(node.add(ops.Binarize(node.real(0), 0))))


def clip(node: Node) -> SSAValue:
    """Clip; the bounds are attributes in old operator sets and constant inputs in new ones."""
    x = node.real(0)
    bounds = []
    for slot, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        bound = node.array(slot, name).item() if node.has_input(slot) else node.parameter(name, default)
        bounds.append(float(bound))
    return node.add(ops.Clip(x, *bounds))


def hard_sigmoid(node: Node) -> SSAValue:
    """max(0, min(1, alpha * x + beta))."""
    alpha, beta = node.parameter("alpha", 0.2), node.parameter("beta", 0.5)
    return _hard_sigmoid(node, alpha, beta)


def hard_swish(node: Node) -> SSAValue:
    """x * max(0, min(1, x / 6 + 1/2))."""
    return node.add(ops.Mul(node.real(0), _hard_sigmoid(node, 1 / 6, 0.5)))


def _hard_sigmoid(node: Node, alpha: float, beta: float) -> SSAValue:
    scaled = node.add(ops.Mul(node.real(0), node.scalar(alpha)))
    return node.add(ops.Clip(node.add(ops.Add(scaled, node.scalar(beta))), 0.0, 1.0))


def leaky_relu(node: Node) -> SSAValue:
    """x where x >= 0, else alpha * x."""
    return node.add(ops.PRelu(node.real(0), node.scalar(node.parameter("alpha", 0.01))))


def prelu(node: Node) -> SSAValue:
    """x where x >= 0, else slope * x."""
    return node.add(ops.PRelu(node.real(0), node.real(1)))


def reciprocal(node: Node) -> SSAValue:
    """1 / x."""
    return node.add(ops.Div(node.scalar(1.0), node.real(0)))


def cast(node: Node) -> SSAValue:
    """Cast between the types that kernels have."""
    value = node.input(0)
    for element in (element_of(value), node.result_element):
        if element not in (*NUMBERS, i1) and str(element) not in ("i8", "ui8"):
            raise NotConvertible(f"it casts {element_of(value)} to {node.result_element}")
    return (
        value if element_of(value) == node.result_element else node.add(ops.Cast(value, node.result_element))
    )


def where(node: Node) -> SSAValue:
    """Where."""
    return node.add(ops.Select(node.input(0), *numbers(node, 1, 2)))


def logical_not(node: Node) -> SSAValue:
    """Not."""
    no, yes = node.constant(np.asarray(False)), node.constant(np.asarray(True))
    return node.add(ops.Select(booleans(node)[0], no, yes))


def logical_and(node: Node) -> SSAValue:
    """And."""
    left, right = booleans(node)
    return node.add(ops.Select(left, right, node.constant(np.asarray(False))))


def logical_or(node: Node) -> SSAValue:
    """Or."""
    left, right = booleans(node)
    return node.add(ops.Select(left, node.constant(np.asarray(True)), right))


def booleans(node: Node) -> list[SSAValue]:
    """All inputs, which are comparisons or made of such: others are TVM's."""
    values = node.inputs()
    if any(element_of(v) != i1 or isinstance(v.owner, ops.Onnx | Block) for v in values):
        raise NotConvertible("its inputs are no comparisons")
    return values


def bipolar_quant(node: Node) -> SSAValue:
    """QONNX BipolarQuant(x, s): s where x >= 0, else -s."""
    bits = node.add(ops.Binarize(node.real(0), 1))
    return node.add(ops.Mul(node.add(ops.Cast(bits)), node.constant(node.array(1, "scale"))))


ROUNDING: dict[str, type[ops.UnaryOperation]] = {
    "ROUND": ops.Round,
    "HALF_EVEN": ops.Round,
    "FLOOR": ops.Floor,
    "CEIL": ops.Ceil,
}
"""Rounding modes of QONNX Quant that the dialect has."""


def quant(node: Node) -> SSAValue:
    """QONNX Quant(x, scale, zero point, bits): x rounded to an integer of so many bits and scaled back."""
    scale, zero_point = node.array(1, "scale"), node.array(2, "zero point")
    bits = node.array(3, "bit width").item()
    signed = bool(node.parameter("signed", 1))
    levels = node.add(ops.Div(node.real(0), node.constant(scale)))
    levels = node.add(ops.Add(levels, node.constant(zero_point)))
    integers = _one_bit(node, levels) if bits == 1 and signed else _rounded(node, levels, bits, signed)
    moved = node.add(ops.Sub(integers, node.constant(zero_point)))
    return node.add(ops.Mul(moved, node.constant(scale)))


def _one_bit(node: Node, levels: SSAValue) -> SSAValue:
    return node.add(ops.Cast(node.add(ops.Binarize(levels, 1))))


def _rounded(node: Node, levels: SSAValue, bits: float, signed: bool) -> SSAValue:
    mode = node.parameter("rounding_mode", "ROUND").upper()
    if mode not in ROUNDING:
        raise NotConvertible(f"it rounds by '{mode}'", f"supported are {', '.join(ROUNDING)}")
    narrow = bool(node.parameter("narrow", 0))
    half = 2 ** (bits - 1)
    low, high = (narrow - half, half - 1) if signed else (0, 2**bits - 1 - narrow)
    return node.add(ROUNDING[mode](node.add(ops.Clip(levels, low, high))))


MOST_THRESHOLDS = 255
"""Of a MultiThreshold: each is a comparison."""


def multi_threshold(node: Node) -> SSAValue:
    """FINN MultiThreshold(x, t): how many thresholds t[c] x reaches, scaled and moved; t [channels, n]."""
    x, thresholds = node.real(0), node.array(1, "thresholds")
    steps = thresholds.shape[1]
    if steps > MOST_THRESHOLDS:
        raise NotConvertible(f"it has {steps} thresholds", f"at most {MOST_THRESHOLDS} are supported")
    first = node.parameter("data_layout", "NCHW").upper().startswith("NC")
    trailing = (1,) * (len(shape_of(x)) - 2) if first else ()
    count = None
    for step in range(steps):
        bound = node.constant(thresholds[:, step].astype(np.float32).reshape(-1, *trailing))
        reached = node.add(ops.Cast(node.add(ops.Compare("ge", x, bound))))
        count = reached if count is None else node.add(ops.Add(count, reached))
    assert count is not None, "a tensor of the dialect has elements"
    scaled = node.add(ops.Mul(count, node.scalar(node.parameter("out_scale", 1.0))))
    return node.add(ops.Add(scaled, node.scalar(node.parameter("out_bias", 0.0))))


def xnor_popcount_matmul(node: Node) -> SSAValue:
    """FINN XnorPopcountMatMul(a, b): how many bits are equal, (K + (2 a - 1) (2 b - 1)) / 2."""
    bits = node.array(1, "right-hand side").astype(np.float32)
    signs = node.add(ops.Sub(node.add(ops.Mul(node.real(0), node.scalar(2.0))), node.scalar(1.0)))
    product = node.add(ops.Dense(signs, node.constant(np.ascontiguousarray(2 * bits.T - 1))))
    return node.add(ops.Mul(node.add(ops.Add(product, node.scalar(len(bits)))), node.scalar(0.5)))


ARITHMETIC: dict[str, Conversion] = {
    "Add": variadic(ops.Add),
    "Sub": variadic(ops.Sub),
    "Mul": variadic(ops.Mul),
    "Div": divide,
    "Max": variadic(ops.Max),
    "Min": variadic(ops.Min),
    "Sum": variadic(ops.Add),
    "Pow": power,
    "Neg": unary(ops.Neg),
    "Abs": unary(ops.Abs),
    "Relu": unary(ops.Relu),
    "Sqrt": unary(ops.Sqrt),
    "Exp": unary(ops.Exp),
    "Log": unary(ops.Log),
    "Tanh": unary(ops.Tanh),
    "Sigmoid": unary(ops.Sigmoid),
    "Round": unary(ops.Round),
    "Floor": unary(ops.Floor),
    "Ceil": unary(ops.Ceil),
    "Erf": unary(ops.Erf),
    "Reciprocal": reciprocal,
    "Sign": sign,
    "Clip": clip,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Cast": cast,
    "Where": where,
    "GreaterOrEqual": comparison("ge"),
    "Greater": comparison("gt"),
    "LessOrEqual": comparison("le"),
    "Less": comparison("lt"),
    "Equal": comparison("eq"),
    "Not": logical_not,
    "And": logical_and,
    "Or": logical_or,
}

QUANTIZERS: dict[str, Conversion] = {
    "BipolarQuant": bipolar_quant,
    "Quant": quant,
    "IntQuant": quant,
    "MultiThreshold": multi_threshold,
    "XnorPopcountMatMul": xnor_popcount_matmul,
}
