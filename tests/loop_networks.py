# SPDX-License-Identifier: Apache-2.0
"""Random networks whose steps are a Scan or a Loop: bodies of any shape, states that hand on, swap or forget
their values, parts of any rank, captured values, numbers of steps known or not.

All numbers are small multiples of powers of two and are clipped, so that float32 rounds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
HALVES = (-1.0, -0.5, 0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Value:
    """A name and its shape."""

    name: str
    shape: tuple[int, ...]


Made = tuple[str, tuple[int, ...]]
"""The name of a value and its shape, before it is clipped."""


class LoopNetwork:
    """The network of a seed. form: "scan", "loop" (a known number of trips) or "counted" (an input says)."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.form = self.pick(["scan", "loop", "counted"])
        self.steps = self.pick([1, 3, 4])
        self.channels = self.pick([2, 3])
        self.batch = self.pick([1, 1, 2])
        side = self.pick([1, 4])
        self.image = (self.batch, self.channels, side, side)
        self.vector = (self.batch, 3)
        self.made = 0
        self.gain: Value | None = None
        """A factor of every step."""
        self.parts: list[Value] = []
        """What is different in every step."""

    def pick(self, options: Sequence[Any]) -> Any:
        """One of several things."""
        return options[int(self.random.integers(len(options)))]

    def numbers(self, *shape: int) -> np.ndarray:
        """Multiples of 1/2."""
        return self.random.choice(np.asarray(HALVES, np.float32), shape)

    def constant(self, array: Any, dtype: type = np.float32) -> str:
        """Append an initializer of the main graph, which bodies may read; its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node to what is being written; the name of its output."""
        self.made += 1
        name = f"{operator}_{self.made}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name

    def start(self, shape: tuple[int, ...]) -> str:
        """What a state begins with."""
        kind = self.pick(["zeros", "zeros", "numbers", "input"])
        if kind == "input":
            return self.node("Mul", self.constant(self.numbers(*shape)), "scale")
        return self.constant(np.zeros(shape) if kind == "zeros" else self.numbers(*shape))

    def operation(self, values: list[Value]) -> Value:
        """One more value of a body, of earlier ones."""
        x = self.pick(values)
        alike = [value for value in values if value.shape == x.shape]
        kinds = ["add", "add", "leak", "fire", "fire", "relu", "gain", "select", "abs"]
        if len(x.shape) == 4:
            kinds += ["conv", "conv", "binary", "turned", "pool", "norm", "flatten", "joined", "mean"]
        elif len(x.shape) == 2 and x.shape[1] > 1:
            kinds += ["dense", "dense", "signs", "as image", "joined"]
        kind = self.pick(kinds)
        name, shape = getattr(self, "_" + kind.replace(" ", "_"))(x, alike)
        clipped = self.node("Clip", name, self.constant(-4.0), self.constant(4.0))
        return Value(clipped, shape)

    def _add(self, x: Value, alike: list[Value]) -> Made:
        return self.node(self.pick(["Add", "Sub"]), x.name, self.pick(alike).name), x.shape

    def _leak(self, x: Value, alike: list[Value]) -> Made:
        return self.node("Mul", x.name, self.constant(0.5)), x.shape

    def _fire(self, x: Value, alike: list[Value]) -> Made:
        level = self.constant(self.pick([0.5, 1.0]))
        fired = self.node(self.pick(["Greater", "GreaterOrEqual"]), x.name, level)
        return self.node("Cast", fired, to=FLOAT), x.shape

    def _select(self, x: Value, alike: list[Value]) -> Made:
        fired = self.node("Less", x.name, self.constant(0.5))
        other = self.pick([self.constant(0.0), self.constant(-0.5), self.pick(alike).name])
        return self.node("Where", fired, self.pick(alike).name, other), x.shape

    def _relu(self, x: Value, alike: list[Value]) -> Made:
        return self.node("Relu", x.name), x.shape

    def _abs(self, x: Value, alike: list[Value]) -> Made:
        return self.node("Abs", x.name), x.shape

    def _gain(self, x: Value, alike: list[Value]) -> Made:
        rank = len(x.shape)
        channel = (x.shape[1], *(1,) * (rank - 2))
        options = ["scale"] + [self.constant(self.numbers(*channel))] * 2
        if self.gain is not None:
            options.append(self.gain.name)
        return self.node("Mul", x.name, self.pick(options)), x.shape

    def _conv(self, x: Value, alike: list[Value]) -> Made:
        weight = self.constant(self.numbers(self.channels, x.shape[1], 3, 3))
        return self.node("Conv", x.name, weight, pads=[1] * 4), (x.shape[0], self.channels, *x.shape[2:])

    def signs_of(self, x: Value) -> str:
        """-1 and +1."""
        above = self.node("GreaterOrEqual", x.name, self.constant(0.0))
        return self.node("Where", above, self.constant(1.0), self.constant(-1.0))

    def _signs(self, x: Value, alike: list[Value]) -> Made:
        weight = self.constant(self.random.choice([-1.0, 1.0], (x.shape[1], 3)))
        return self.node("MatMul", self.signs_of(x), weight), (x.shape[0], 3)

    def _binary(self, x: Value, alike: list[Value]) -> Made:
        weight = self.constant(self.random.choice([-1.0, 1.0], (self.channels, x.shape[1], 3, 3)))
        signs = self.signs_of(x)
        return self.node("Conv", signs, weight, pads=[1] * 4), (x.shape[0], self.channels, *x.shape[2:])

    def _turned(self, x: Value, alike: list[Value]) -> Made:
        c = x.shape[1]
        turned = self.node("Transpose", x.name, perm=[0, 2, 3, 1])
        scaled = self.node("Mul", turned, self.constant(self.numbers(c)))
        return self.node("Transpose", scaled, perm=[0, 3, 1, 2]), x.shape

    def _pool(self, x: Value, alike: list[Value]) -> Made:
        return self.node("MaxPool", x.name, kernel_shape=[3, 3], pads=[1] * 4), x.shape

    def _norm(self, x: Value, alike: list[Value]) -> Made:
        c = x.shape[1]
        scale, bias, mean = (self.constant(self.numbers(c)) for _ in range(3))
        variance = self.constant(self.random.choice([0.25, 1, 4], c))
        return self.node("BatchNormalization", x.name, scale, bias, mean, variance, epsilon=0.0), x.shape

    def _flatten(self, x: Value, alike: list[Value]) -> Made:
        flat = self.node("Flatten", x.name, axis=1)
        weight = self.constant(self.numbers(int(np.prod(x.shape[1:])), 3))
        return self.node("MatMul", flat, weight), (x.shape[0], 3)

    def _mean(self, x: Value, alike: list[Value]) -> Made:
        mean = self.node("GlobalAveragePool", x.name)
        return self.node("Add", x.name, mean), x.shape

    def _dense(self, x: Value, alike: list[Value]) -> Made:
        return self.node("MatMul", x.name, self.constant(self.numbers(x.shape[1], 3))), (x.shape[0], 3)

    def _as_image(self, x: Value, alike: list[Value]) -> Made:
        c, side = self.image[1], self.image[2]
        wide = self.node("MatMul", x.name, self.constant(self.numbers(x.shape[1], c * side * side)))
        return self.node("Reshape", wide, self.constant(self.image, np.int64)), self.image

    def _joined(self, x: Value, alike: list[Value]) -> Made:
        other = self.pick(alike)
        joined = self.node("Concat", x.name, other.name, axis=1)
        if len(x.shape) == 2:
            return self.node("MatMul", joined, self.constant(self.numbers(2 * x.shape[1], 3))), (
                x.shape[0],
                3,
            )
        weight = self.constant(self.numbers(self.channels, 2 * x.shape[1], 1, 1))
        return self.node("Conv", joined, weight), (x.shape[0], self.channels, *x.shape[2:])

    def model(self) -> onnx.ModelProto:
        """The network."""
        shapes = [self.pick([self.image, self.vector]) for _ in range(self.pick([1, 2, 3]))]
        starts = [self.start(shape) for shape in shapes]
        before, self.nodes = self.nodes, []
        states = [Value(f"old{i}", shape) for i, shape in enumerate(shapes)]
        body = self.body(states)
        loop = self.loop(body, starts)
        given = [info("x", (self.steps, *self.image)), info("scale", (1,))]
        if self.gain is not None:
            given.append(info("g", (self.steps, *self.gain.shape)))
        if self.form == "counted":
            given.append(info("trips", (), INT64))
        results = [helper.make_empty_tensor_value_info(name) for name in loop.output]
        graph = helper.make_graph([*before, loop], "loops", given, results, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def body(self, states: Sequence[Value]) -> onnx.GraphProto:
        """One step: new states, then what is collected of it."""
        x = Value("xt", self.image)
        self.gain = Value("gt", self.pick([(1,), (1, 1)])) if self.pick([True, False]) else None
        self.parts = [x] if self.gain is None else [x, self.gain]
        if self.form != "scan":
            for part, whole in zip(self.parts, "xg", strict=False):
                self.nodes.append(helper.make_node("Gather", [whole, "i"], [part.name], axis=0))
        values = [x, *states]
        for _ in range(self.pick(range(3, 9))):
            values.append(self.operation(values))
        new = [self.next_state(values, state) for state in states]
        collected = [self.pick(values) for _ in range(self.pick([1, 2, 3]))]
        outputs = [info(self.node("Identity", value.name), value.shape) for value in (*new, *collected)]
        inputs = [info(value.name, value.shape) for value in states]
        if self.form == "scan":
            inputs += [info(part.name, part.shape) for part in self.parts]
        else:
            self.nodes.append(helper.make_node("Identity", ["go"], ["on"]))
            inputs = [info("i", (), INT64), info("go", (), BOOL), *inputs]
            outputs = [info("on", (), BOOL), *outputs]
        return helper.make_graph(self.nodes, "body", inputs, outputs)

    def loop(self, body: onnx.GraphProto, starts: Sequence[str]) -> onnx.NodeProto:
        """The node around the body."""
        if self.form == "scan":
            names = [f"y{i}" for i in range(len(body.output))]
            read = [*starts, *"xg"[: len(self.parts)]]
            return helper.make_node("Scan", read, names, "time", body=body, num_scan_inputs=len(self.parts))
        names = [f"y{i}" for i in range(len(body.output) - 1)]
        trips = "trips" if self.form == "counted" else self.constant(self.steps, np.int64)
        yes = self.constant(True, np.bool_)
        return helper.make_node("Loop", [trips, yes, *starts], names, "time", body=body)

    def next_state(self, values: list[Value], state: Value) -> Value:
        """What a state becomes: something computed, or what another state or a part was, or a constant."""
        alike = [value for value in values if value.shape == state.shape]
        if self.random.random() < 0.06:
            return Value(self.constant(self.numbers(*state.shape)), state.shape)
        chosen = self.pick(alike)
        if self.random.random() < 0.6:
            half = self.node("Mul", state.name, self.constant(0.5))
            return Value(self.node("Add", half, chosen.name), state.shape)
        return chosen

    def inputs(self) -> dict[str, np.ndarray]:
        """Spikes and a few numbers."""
        given = {
            "x": self.random.choice(np.asarray([0, 0, 1, 0.5, -1], np.float32), (self.steps, *self.image)),
            "scale": np.asarray([self.pick([0.5, 1.0, -1.0])], np.float32),
        }
        if self.gain is not None:
            given["g"] = self.numbers(self.steps, *self.gain.shape)
        if self.form == "counted":
            given["trips"] = np.asarray(self.random.integers(0, self.steps + 1), np.int64)
        return given


def info(name: str, shape: Sequence[int], kind: int = FLOAT) -> onnx.ValueInfoProto:
    """A typed value."""
    return helper.make_tensor_value_info(name, kind, shape)
