# SPDX-License-Identifier: Apache-2.0
"""Random binary networks as ONNX models whose float32 arithmetic is exact.

All numbers are small multiples of powers of two, so a sum does not depend on its order and folding a
constant loses nothing: what a pass changes shows as a difference, and sums of exactly 0 occur all the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 6
"""Height and width of the input images."""


class Network:
    """A model under construction; a value is its name and its channels."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; the name of its output."""
        name = f"{operator}_{len(self.nodes)}"
        domain = attributes.pop("domain", "")
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, domain=domain, **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Append an initializer; its name."""
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def pick(self, options: Sequence[Any]) -> Any:
        """One of several things."""
        return options[int(self.random.integers(len(options)))]

    def numbers(self, options: Sequence[float], *shape: int) -> np.ndarray:
        """An array of numbers from a list."""
        return self.random.choice(np.asarray(options, np.float32), shape)

    def batch_norm(self, x: str, channels: int) -> str:
        """Scales of either sign and 0, offsets that make ties."""
        parameters = (
            self.numbers([-2, -1, -0.5, 0, 0.5, 1, 2], channels),
            self.numbers([-1, -0.5, 0, 0, 0.5, 1], channels),
            self.numbers([-2, -1, 0, 0, 1, 2], channels),
            self.numbers([0.25, 1, 4], channels),
        )
        return self.node("BatchNormalization", x, *map(self.constant, parameters), epsilon=0.0)

    def weight(self, *shape: int) -> np.ndarray:
        """Binary weights in one of the forms that they come in."""
        signs = self.numbers([-1, 1], *shape)
        scale = self.numbers([0.25, 0.5, 1, 2], shape[0], *(1 for _ in shape[1:]))
        match self.pick(["signs", "one scale", "scales", "zeros", "zero channel", "two bits", "odd"]):
            case "signs":
                return signs
            case "one scale":
                return signs * np.float32(0.5)
            case "scales":
                return signs * scale
            case "zeros":
                return signs * scale * self.numbers([0, 1, 1], *shape)
            case "two bits":
                return self.numbers([-2, -1, 0, 1], *shape) * scale
            case "odd":
                return self.numbers([-3, -1, 1, 3], *shape) * scale
            case _:
                scale[0] = 0
                return signs * scale

    def conv(self, x: str, channels: int, out: int, real: bool = False) -> str:
        """A 3x3 or 1x1 convolution, sometimes grouped, padded by 0, 1, -1 or not."""
        kernel, group = self.pick([1, 3]), self.pick([1, 2])
        shape = (out, channels // group, kernel, kernel)
        weight = self.numbers([-1, -0.5, 0.25, 1], *shape) if real else self.weight(*shape)
        pads = [kernel // 2] * 4
        padding = self.pick(["zero", "one", "minus one"])
        if padding != "zero" and kernel == 3:
            low_high = self.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
            x = self.node("Pad", x, low_high, self.constant(1.0 if padding == "one" else -1.0))
            pads = [0] * 4
        inputs = [x, self.constant(weight)]
        if self.pick([False, True]):
            inputs.append(self.constant(self.numbers([-1, 0, 0.5], out)))
        return self.node("Conv", *inputs, kernel_shape=[kernel, kernel], pads=pads, group=group)

    def model(self, shape: Sequence[int], output: str) -> onnx.ModelProto:
        """The finished model with one input x and one output."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "network", [x], [y], self.initializers)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("qonnx.custom_op.general", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def sign(network: Network, x: str) -> str:
    """torch.sign."""
    return network.node("Sign", x)


def larq(network: Network, x: str) -> str:
    """Sign(Sign(x) + 0.1)."""
    return network.node("Sign", network.node("Add", network.node("Sign", x), network.constant(0.1)))


def where(network: Network, x: str) -> str:
    """Where of one of four comparisons, either way round."""
    kind = network.pick(["GreaterOrEqual", "Greater", "Less", "LessOrEqual"])
    compared = network.node(kind, x, network.constant(network.pick([0.0, 0.5])))
    levels = network.pick([(1.0, -1.0), (-1.0, 1.0), (0.5, -0.5)])
    return network.node("Where", compared, *map(network.constant, levels))


def casts(network: Network, x: str) -> str:
    """2 * Cast(x >= 0) - 1."""
    compared = network.node("GreaterOrEqual", x, network.constant(0.0))
    doubled = network.node("Mul", network.node("Cast", compared, to=TensorProto.FLOAT), network.constant(2.0))
    return network.node("Sub", doubled, network.constant(1.0))


def bitorch(network: Network, x: str) -> str:
    """Where(Sign(x) == 0, 1, Sign(x))."""
    signs = network.node("Sign", x)
    zero = network.node("Equal", signs, network.constant(0.0))
    return network.node("Where", zero, network.constant(1.0), signs)


def quantizer(network: Network, x: str) -> str:
    """BipolarQuant."""
    scale = network.constant(network.pick([1.0, 0.5]))
    return network.node("BipolarQuant", x, scale, domain="qonnx.custom_op.general")


def clamped(network: Network, x: str) -> str:
    """Brevitas: a clamp by comparisons, then a comparison and a scale."""
    high, low = network.constant(2.0), network.constant(-2.0)
    x = network.node("Where", network.node("Greater", x, high), high, x)
    x = network.node("Where", network.node("Less", x, low), low, x)
    return casts(network, x)


def estimator(network: Network, x: str) -> str:
    """A straight-through estimator with a clip that is written twice."""
    signs = network.node("Sign", x)
    first, second = (network.node("Clip", x, network.constant(-1.0), network.constant(1.0)) for _ in range(2))
    difference = network.node("Sub", signs, first)
    order = network.pick([(difference, second), (second, difference)])
    return network.node("Add", *order)


IDIOMS: tuple[Callable[[Network, str], str], ...] = (
    sign,
    larq,
    where,
    casts,
    bitorch,
    quantizer,
    clamped,
    estimator,
)
"""Ways of writing a binarised activation."""


def rounded(network: Network, x: str) -> str:
    """What standard operators make of a quantiser: divide, add the zero point, round, clip, and back."""
    scale = network.constant(network.pick([1.0, 0.5]))
    zero_point = network.pick([0.0, 1.0])
    low, high = network.pick([(0.0, 3.0), (-2.0, 1.0), (-1.0, 1.0), (0.0, 1.0), (-8.0, 7.0)])
    y = network.node("Add", network.node("Div", x, scale), network.constant(zero_point))
    y = network.node("Clip", network.node("Round", y), network.constant(low), network.constant(high))
    y = network.node("Sub", y, network.constant(zero_point))
    return network.node("Mul", y, scale)


def quant(network: Network, x: str) -> str:
    """QONNX Quant of 2 to 4 bits."""
    parameters = (network.pick([1.0, 0.5]), network.pick([0.0, -1.0]), network.pick([2.0, 3.0, 4.0]))
    flags = {"signed": network.pick([0, 1]), "narrow": network.pick([0, 1]), "rounding_mode": "ROUND"}
    return network.node(
        "Quant", x, *map(network.constant, parameters), domain="qonnx.custom_op.general", **flags
    )


def fired(network: Network, x: str) -> str:
    """1 where a threshold is reached, else 0."""
    compared = network.node("GreaterOrEqual", x, network.constant(network.pick([0.0, 0.5])))
    if network.pick([False, True]):
        return network.node("Cast", compared, to=TensorProto.FLOAT)
    return network.node("Where", compared, network.constant(network.pick([1.0, 0.5])), network.constant(0.0))


LEVELS: tuple[Callable[[Network, str], str], ...] = (rounded, quant, fired)
"""Ways of writing an activation of a few bits."""


def block(network: Network, x: str, channels: int) -> str:
    """One layer: binarize, convolve, perhaps pool, normalise, activate, perhaps add what came in."""
    y = network.conv(network.pick(network.pick([IDIOMS, LEVELS]))(network, x), channels, channels)
    pooled = network.pick([False, False, True])
    if pooled:
        y = network.node("MaxPool", y, kernel_shape=[2, 2], pads=[0, 0, 1, 1], strides=[1, 1])
    if network.pick([False, True]):
        y = network.node("PRelu", y, network.constant(network.numbers([0.25, 0.5], channels, 1, 1)))
    if network.pick([False, True, True]):
        y = network.batch_norm(y, channels)
    return network.node("Add", y, x) if network.pick([False, True]) else y


def random_network(seed: int) -> onnx.ModelProto:
    """A network with a real stem, some binary layers and a classifier; x is [1, 2, SIZE, SIZE]."""
    network = Network(seed)
    channels = network.pick([4, 6])
    x = network.conv("x", 2, channels, real=True)
    for _ in range(network.pick([1, 2, 3])):
        x = block(network, x, channels)
    if network.pick([False, True]):
        x = network.pick(IDIOMS)(network, x)
    flat = network.node("Flatten", x)
    features = channels * SIZE * SIZE
    if network.pick([False, True]):
        flat = network.pick(IDIOMS)(network, flat)
    y = network.node("MatMul", flat, network.constant(network.weight(3, features).T))
    y = network.batch_norm(y, 3)
    return network.model((1, 2, SIZE, SIZE), y)


def random_input(seed: int) -> np.ndarray:
    """Multiples of 1/2 between -2 and 2."""
    random = np.random.default_rng(seed)
    return random.integers(-4, 5, (1, 2, SIZE, SIZE)).astype(np.float32) / 2
