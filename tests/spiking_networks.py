# SPDX-License-Identifier: Apache-2.0
"""Random spiking networks, written out over time as exporters do, whose float32 arithmetic is exact.

All numbers are small multiples of powers of two, leaks are 0.5: what a pass changes shows as a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from tests.unit.networks import Network

NEURONS = ("delayed", "immediate", "to zero", "current", "integrator", "recurrent", "hears next")
"""Kinds: leaky ones reset a step late, ones reset at once, ones reset to zero, ones behind a synaptic
current, ones that never fire, ones that hear their layer, ones that hear, a step late, the layer after."""


@dataclass
class Value:
    """A name and its shape."""

    name: str
    shape: tuple[int, ...]


class SpikingNetwork(Network):
    """The same nodes for every step. States begin as zeros that are written out, or their first step is
    simplified, as tracing exporters leave it."""

    def __init__(self, seed: int, steps: int = 6):
        super().__init__(seed)
        self.steps = steps
        self.is_simplified = bool(self.pick([True, False]))
        self.weights: dict[tuple[int, str], str] = {}
        self.states: dict[tuple[int, str], Value | None] = {}
        self.heard: dict[int, Value] = {}
        size = self.pick([7, 8, 9])
        self.image = (1, self.pick([1, 2]), size, size)
        count = self.pick([1, 2, 3])
        self.plan = [
            (
                self.pick(["conv", "padded", "dense"] if number else ["conv", "padded"]),
                self.pick(["none", "average", "maximum"]),
                self.pick(NEURONS[:-1] if number + 1 == count else NEURONS),
                self.pick([3, 4]),
            )
            for number in range(count)
        ]
        self.collects = self.pick(["spikes", "membrane", "last", "sum"])
        self.half, self.one, self.axis = (
            self.constant(np.float32(0.5)),
            self.constant(np.float32(1.0)),
            self.constant([0], np.int64),
        )

    unimportant: frozenset[str] = frozenset()
    """Every membrane's value matters."""

    def batches(self, count: int, shape: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Spikes for the network, more of them in each."""
        return [
            {"x": (self.random.random(shape) < 0.25 * (number + 1)).astype(np.float32)}
            for number in range(count)
        ]

    def model(self) -> onnx.ModelProto:
        """The network."""
        outputs: list[Value] = []
        for step in range(self.steps):
            name = self.node("Gather", "x", self.constant(step, np.int64), axis=0)
            value, membrane = Value(name, self.image), Value(name, self.image)
            for number, (kind, pool, neuron, channels) in enumerate(self.plan):
                value = self.layer(number, kind, value, channels)
                value, membrane = self.neuron(number, neuron, value)
                self.heard[number] = value
                value = self.pool(pool, value)
            outputs.append(membrane if self.collects == "membrane" else value)
        return self.finished(self.joined(outputs))

    def joined(self, values: list[Value]) -> str:
        """What is collected of all steps."""
        if self.collects == "last":
            return values[-1].name
        if self.collects == "sum":
            total = values[0].name
            for value in values[1:]:
                total = self.node("Add", total, value.name)
            return total
        parts = [self.node("Unsqueeze", value.name, self.axis) for value in values]
        return self.node("Concat", *parts, *(parts if self.collects == "twice" else ()), axis=0)

    def finished(self, output: str) -> onnx.ModelProto:
        """The model."""
        float_ = onnx.TensorProto.FLOAT
        given = helper.make_tensor_value_info("x", float_, [self.steps, *self.image])
        found = helper.make_empty_tensor_value_info(output)
        graph = helper.make_graph(self.nodes, "spiking", [given], [found], self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def shared(self, number: int, name: str, shape: tuple[int, ...]) -> str:
        """A weight, the same in all steps."""
        if (number, name) not in self.weights:
            numbers = self.numbers([-0.5, -0.25, 0, 0.25, 0.5, 0.75], *shape)
            self.weights[number, name] = self.constant(numbers)
        return self.weights[number, name]

    def layer(self, number: int, kind: str, x: Value, channels: int) -> Value:
        """Weights and a bias."""
        bias = self.shared(number, "bias", (channels,))
        if kind == "dense" or len(x.shape) == 2:
            inputs = int(np.prod(x.shape[1:]))
            flat = self.node("Flatten", x.name, axis=1) if len(x.shape) > 2 else x.name
            weight = self.shared(number, "weight", (channels, inputs))
            return Value(self.node("Gemm", flat, weight, bias, transB=1), (1, channels))
        pad = 1 if kind == "padded" or min(x.shape[2:]) < 3 else 0
        weight = self.shared(number, "weight", (channels, x.shape[1], 3, 3))
        height, width = (extent + 2 * pad - 2 for extent in x.shape[2:])
        name = self.node("Conv", x.name, weight, bias, pads=[pad] * 4)
        return Value(name, (1, channels, height, width))

    def pool(self, kind: str, x: Value) -> Value:
        """Two by two; what is left over is dropped."""
        if kind == "none" or len(x.shape) == 2 or min(x.shape[2:]) < 4:
            return x
        operator = "AveragePool" if kind == "average" else "MaxPool"
        shape = (*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2)
        return Value(self.node(operator, x.name, kernel_shape=[2, 2], strides=[2, 2]), shape)

    def fires(self, membrane: str) -> str:
        """[membrane > 1] as numbers."""
        return self.node("Cast", self.node("Greater", membrane, self.one), to=onnx.TensorProto.FLOAT)

    def old(self, number: int, name: str, shape: tuple[int, ...]) -> str | None:
        """A state before this step; None where it is zero and the exporter knew."""
        found = self.states.get((number, name))
        if found is not None:
            return found.name
        return None if self.is_simplified else self.shared_zero(shape)

    def shared_zero(self, shape: tuple[int, ...]) -> str:
        """Zeros."""
        return self.constant(np.zeros(shape, np.float32))

    def leaked(self, number: int, name: str, current: Value) -> str:
        """0.5 state + current."""
        old = self.old(number, name, current.shape)
        if old is None:
            return current.name
        return self.node("Add", self.node("Mul", old, self.half), current.name)

    def neuron(self, number: int, kind: str, current: Value) -> tuple[Value, Value]:
        """(spikes, membrane) of a layer."""
        shape = current.shape
        if kind == "current":
            current = Value(self.leaked(number, "i", current), shape)
            self.states[number, "i"] = current
        if kind in ("recurrent", "hears next"):
            current = Value(self.hearing(number, kind, current), shape)
        new = self.leaked(number, "v", current)
        old = self.old(number, "v", shape)
        if kind in ("delayed", "current", "recurrent", "hears next") and old is not None:
            new = self.node("Sub", new, self.fires(old))
        spikes = new if kind == "integrator" else self.fires(new)
        kept = new
        if kind == "immediate":
            kept = self.node("Sub", new, spikes)
        if kind == "to zero":
            kept = self.node("Mul", new, self.node("Sub", self.one, spikes))
        self.states[number, "v"] = Value(kept, shape)
        return Value(spikes, shape), Value(new, shape)

    def hearing(self, number: int, kind: str, current: Value) -> str:
        """The current and what spikes of the step before add to it."""
        source = self.heard.get(number + 1 if kind == "hears next" else number)
        if source is None:
            return current.name
        total = self.node("ReduceSum", source.name, self.shared_axes(len(source.shape)), keepdims=1)
        if len(source.shape) != len(current.shape):
            total = self.node("Reshape", total, self.constant([1] * len(current.shape), np.int64))
        return self.node("Add", current.name, self.node("Mul", total, self.half))

    def shared_axes(self, rank: int) -> str:
        """All dimensions but the first."""
        return self.constant(list(range(1, rank)), np.int64)
