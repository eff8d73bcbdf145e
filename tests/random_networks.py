# SPDX-License-Identifier: Apache-2.0
"""Random binary and spiking networks, each compiled for several targets and held against its ONNX graph.

    python -m tests.random_networks --count 1000
    python -m tests.random_networks --count 1000 --spiking

A seed is a network: layers of random kinds, shapes, paddings, scales and conventions of sign(0), tiny, and
two batches for it. In most of them every number is a small multiple of a power of two, so that float32 has
nothing to round: then all targets must give the graph's outputs exactly, and nothing may be explained away.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from bnncc import driver, verify
from bnncc.diagnostics import BnnccError
from bnncc.driver import Options
from bnncc.frontend.evaluate import ModelEvaluator
from tests.memory import memory_problems
from tests.random_blocks import dense_block, shuffled, split_units
from tests.spiking_networks import SpikingNetwork

TARGETS = ("native", "x86-64-v3", "c")
QONNX = "qonnx.custom_op.general"
EXACT = 0.75
"""The share of networks without anything to round."""

SAMPLES = 3
"""Batches of inputs for each network."""

MOST_LAYERS = 6
MOST_VALUES = 4000
"""Elements of the largest tensor."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: [n, c, h, w] or [n, c]. two_level: only -1, 0 and +1 occur in it."""

    name: str
    shape: tuple[int, ...]
    two_level: bool = False

    @property
    def is_image(self) -> bool:
        """Whether it has rows and columns."""
        return len(self.shape) == 4


class Generator:
    """Draws one network; `exact` networks hold only numbers that float32 adds and multiplies exactly."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.exact = self.chance(EXACT)
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.values: list[Value] = []
        self.unimportant: set[str] = set()
        """Tensors that only a sign is taken of: rounding does not show."""
        self.opset = int(self.rng.choice([13, 17, 20]))

    # Drawing.

    def chance(self, probability: float) -> bool:
        """True that often."""
        return bool(self.rng.random() < probability)

    def pick(self, options: Sequence, weights: Sequence[float] | None = None):
        """One of them."""
        share = None if weights is None else np.array(weights) / sum(weights)
        return options[int(self.rng.choice(len(options), p=share))]

    def whole(self, low: int, high: int) -> int:
        """An integer, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def numbers(self, shape: Sequence[int], zeros: float = 0.1) -> np.ndarray:
        """float32, some of them exactly 0, of either sign."""
        drawn = self.rng.normal(0, 1.5, shape)
        if self.exact:
            drawn = np.rint(2 * drawn) / 2
        return np.where(self.rng.random(shape) < zeros, 0, drawn).astype(np.float32)

    def scales(self, shape: Sequence[int]) -> np.ndarray:
        """float32 factors of either sign, mostly positive, seldom 0."""
        size = self.rng.choice([0.5, 1, 2], shape) if self.exact else self.rng.uniform(0.2, 2, shape)
        negative = self.rng.random(shape) < self.pick([0, 0.3, 1], [2, 2, 1])
        zero = self.rng.random(shape) < self.pick([0, 0.15], [3, 1])
        return np.where(zero, 0, np.where(negative, -size, size)).astype(np.float32)

    # Building.

    def node(self, operator: str, inputs: Sequence[Value | np.ndarray | None], shape: Sequence[int], **more):
        """Append a node with one result of this shape."""
        name = f"{operator}_{len(self.nodes)}"
        names = [self.name_of(value) for value in inputs]
        two_level = more.pop("two_level", False)
        self.nodes.append(helper.make_node(operator, names, [f"v{len(self.nodes)}"], name=name, **more))
        return Value(self.nodes[-1].output[0], tuple(int(size) for size in shape), two_level)

    def name_of(self, value: Value | np.ndarray | None) -> str:
        """The name of an operand; an array becomes an initializer."""
        if value is None:
            return ""
        if isinstance(value, Value):
            return value.name
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def per_channel(self, value: Value, numbers: Callable[[Sequence[int]], np.ndarray]) -> np.ndarray:
        """Numbers that broadcast to a value: one, or one per channel."""
        ones = [1] * (len(value.shape) - 2)
        return numbers(self.pick([(), (1, *ones), (value.shape[1], *ones)], [1, 1, 4]))

    # Layers. Each takes a value of the graph and gives another.

    def binarize(self, x: Value) -> Value:
        """One of the conventions of sign(0), in one of its spellings."""
        return self.pick([self.sign, self.sign, self.compare, self.larq, self.bipolar_quant])(x)

    def sign(self, x: Value) -> Value:
        """0 stays 0."""
        return self.node("Sign", [x], x.shape, two_level=True)

    def compare(self, x: Value) -> Value:
        """0 goes up or down."""
        operator = self.pick(["GreaterOrEqual", "Greater", "Less", "LessOrEqual"])
        threshold = np.float32(0) if self.chance(0.6) else self.per_channel(x, self.numbers)
        above = self.node(operator, [x, np.asarray(threshold)], x.shape)
        high, low = (np.float32(1), np.float32(-1)) if self.chance(0.8) else (np.float32(-1), np.float32(1))
        if self.chance(0.6):
            return self.node("Where", [above, np.asarray(high), np.asarray(low)], x.shape, two_level=True)
        number = self.node("Cast", [above], x.shape, to=TensorProto.FLOAT)
        twice = self.node("Mul", [number, np.asarray(high - low)], x.shape)
        return self.node("Add", [twice, np.asarray(low)], x.shape, two_level=True)

    def larq(self, x: Value) -> Value:
        """sign(sign(x) + 0.1): 0 goes up."""
        lifted = self.node("Add", [self.sign(x), np.asarray(np.float32(0.1))], x.shape)
        self.unimportant.update(self.nodes[-1].input[1:], self.nodes[-1].output)
        return self.node("Sign", [lifted], x.shape, two_level=True)

    def bipolar_quant(self, x: Value) -> Value:
        """QONNX's quantiser, 0 goes up; times a scale of 1."""
        return self.node(
            "BipolarQuant", [x, np.asarray(np.float32(1))], x.shape, domain=QONNX, two_level=True
        )

    def quantize(self, x: Value) -> Value:
        """Levels of 1 to 4 bits, in one of their spellings."""
        return self.pick([self.rounded, self.quant, self.fired])(x)

    def rounded(self, x: Value) -> Value:
        """Standard operators: divide, round, clip, and back; now and then a bound off the grid."""
        scale = np.asarray(np.float32(self.pick([0.25, 0.5, 1, 2])))
        low, high = self.pick([(0, 3), (-2, 1), (-1, 1), (0, 1), (0, 7), (-8, 7), (2, 5), (0, 15), (-3, 1.5)])
        bounds = [np.asarray(np.float32(bound)) for bound in (low, high)]
        y = self.node("Div", [x, scale], x.shape)
        for operator in self.pick([("Round", "Clip"), ("Clip", "Round"), ("Clip", "Floor")]):
            y = self.node(operator, [y, *(bounds if operator == "Clip" else [])], x.shape)
        return y if self.chance(0.3) else self.node("Mul", [y, scale], x.shape)

    def quant(self, x: Value) -> Value:
        """QONNX's quantiser."""
        numbers = (self.pick([0.25, 0.5, 1]), self.pick([0, 0, -1, 2]), self.pick([2, 3, 4, 5]))
        flags = {"signed": self.pick([0, 1]), "narrow": self.pick([0, 1]), "rounding_mode": "ROUND"}
        parameters = [np.asarray(np.float32(number)) for number in numbers]
        return self.node("Quant", [x, *parameters], x.shape, domain=QONNX, **flags)

    def fired(self, x: Value) -> Value:
        """1 (or another number) where a threshold is reached, else 0."""
        above = self.node("GreaterOrEqual", [x, np.asarray(self.per_channel(x, self.numbers))], x.shape)
        if self.chance(0.5):
            return self.node("Cast", [above], x.shape, to=TensorProto.FLOAT)
        one = np.asarray(np.float32(self.pick([1, 1, 0.5, -1])))
        return self.node("Where", [above, one, np.zeros((), np.float32)], x.shape)

    def binary_weight(self, shape: tuple[int, ...]) -> Value | np.ndarray:
        """Weights [outputs, ...] in one of the forms that trainers leave."""
        form = self.pick(
            [
                "bits",
                "scaled",
                "ternary",
                "scaled ternary",
                "levels",
                "scaled levels",
                "sign",
                "where",
                "real",
            ],
            [4, 3, 2, 2, 1, 1, 1, 1, 0.5],
        )
        if form == "real":
            return self.numbers(shape)
        signs = self.rng.choice(np.array([-1, 1], np.float32), shape)
        if self.chance(0.1):
            signs[self.whole(0, shape[0] - 1)] = self.pick([-1, 1])
        if "ternary" in form:
            signs *= self.rng.random(shape) < self.pick([0.3, 0.8])
        if "levels" in form:
            levels = self.pick([(-2, -1, 0, 1), (-3, -1, 1, 3), range(-8, 8), (-7, -5, -3, -1, 1, 3, 5, 7)])
            signs = self.rng.choice(np.array(levels, np.float32), shape)
        if "scaled" in form:
            signs *= self.scales((shape[0], *[1] * (len(shape) - 1)))
        latent = signs * self.rng.uniform(0.1, 1, shape).astype(np.float32)
        if form == "sign":
            weight = self.node("Sign", [latent], shape)
            self.unimportant.update(self.nodes[-1].input)
            return weight
        if form == "where":
            above = self.node("Greater", [latent, np.zeros((), np.float32)], shape)
            self.unimportant.update(self.nodes[-1].input)
            return self.node("Where", [above, np.ones((), np.float32), -np.ones((), np.float32)], shape)
        return signs

    def padded(self, x: Value) -> Value:
        """Pad by 0, +1 or -1 around the image."""
        amount = [self.whole(0, 2) for _ in range(4)]
        value = np.float32(self.pick([0, 1, -1]))
        pads = np.array([0, 0, *amount[:2], 0, 0, *amount[2:]], np.int64)
        n, c, h, w = x.shape
        shape = (n, c, h + amount[0] + amount[2], w + amount[1] + amount[3])
        return self.node("Pad", [x, pads, np.asarray(value)], shape, two_level=x.two_level)

    def convolution(self, x: Value, weights: Callable[[tuple[int, ...]], Value | np.ndarray]) -> Value:
        """Of any kernel that fits the image: grouped, depthwise, strided, dilated, padded."""
        n, channels, height, width = x.shape
        groups = self.pick([1, 1, 1, channels, self.pick([g for g in (2, 3, 4) if channels % g == 0] or [1])])
        outputs = groups * self.whole(1, max(1, self.pick([4, 40]) // groups))
        kernel = [self.pick([1, 2, 3, 5], [3, 1, 4, 1]) for _ in range(2)]
        if self.chance(0.8):
            kernel[1] = kernel[0]
        dilations = [self.pick([1, 2], [5, 1])] * 2
        strides = [self.pick([1, 2, 3], [5, 3, 1]) for _ in range(2)]
        symmetric = self.chance(0.7)
        head = [self.whole(0, size // 2) for size in kernel]
        tail = head if symmetric else [self.whole(0, size - 1) for size in kernel]
        result = []
        for i, size in enumerate((height, width)):
            span = (kernel[i] - 1) * dilations[i] + 1
            if size + head[i] + tail[i] < span:
                kernel[i] = 1
                head, tail = [0, 0], [0, 0]
                return self.dense_over_channels(x, weights)
            result.append((size + head[i] + tail[i] - span) // strides[i] + 1)
        operands: list[Value | np.ndarray | None] = [x, weights((outputs, channels // groups, *kernel))]
        if self.chance(0.3):
            operands.append(self.numbers((outputs,)))
        return self.node(
            "Conv",
            operands,
            (n, outputs, *result),
            pads=[*head, *tail],
            strides=strides,
            dilations=dilations,
            group=groups,
        )

    def dense_over_channels(self, x: Value, weights: Callable) -> Value:
        """A convolution by 1x1, where no other fits."""
        outputs = self.whole(1, 40)
        return self.node(
            "Conv", [x, weights((outputs, x.shape[1], 1, 1))], (x.shape[0], outputs, *x.shape[2:])
        )

    def dense(self, x: Value, weights: Callable[[tuple[int, ...]], Value | np.ndarray]) -> Value:
        """Gemm or MatMul over all of a sample."""
        if x.is_image:
            flat = (x.shape[0], prod(x.shape[1:]))
            x = self.node("Flatten", [x], flat, two_level=x.two_level)
        outputs = self.pick([1, self.whole(2, 12), self.whole(30, 70)])
        weight = weights((outputs, x.shape[1]))
        if self.chance(0.6):
            operands = [x, weight, *([self.numbers((outputs,))] if self.chance(0.5) else [])]
            return self.node("Gemm", operands, (x.shape[0], outputs), transB=1)
        turned = (
            weight.T.copy()
            if isinstance(weight, np.ndarray)
            else self.node("Transpose", [weight], weight.shape[::-1])
        )
        return self.node("MatMul", [x, turned], (x.shape[0], outputs))

    def contraction(self, x: Value) -> Value:
        """Of few bits: of a binarized or quantised value, perhaps padded, by binary weights."""
        if not x.two_level or self.chance(0.5):
            x = self.quantize(x) if self.chance(0.3) else self.binarize(x)
        if x.is_image and self.chance(0.85):
            if self.chance(0.25):
                x = self.padded(x)
            return self.convolution(x, self.binary_weight)
        return self.dense(x, self.binary_weight)

    def real_contraction(self, x: Value) -> Value:
        """Of real values by real weights."""
        if x.is_image and prod(x.shape) < MOST_VALUES // 4:
            return self.convolution(x, self.numbers)
        return self.affine(x)

    def affine(self, x: Value) -> Value:
        """Scale, bias, or both."""
        if self.chance(0.7):
            x = self.node("Mul", [x, self.per_channel(x, self.scales)], x.shape)
        if self.chance(0.7):
            x = self.node(self.pick(["Add", "Sub"]), [x, self.per_channel(x, self.numbers)], x.shape)
        return x

    def batch_norm(self, x: Value) -> Value:
        """With negative and zero scales; in exact networks the deviation is a power of two."""
        channels = (x.shape[1],)
        epsilon = 2.0**-10
        deviation = (
            self.rng.choice([0.5, 1, 2], channels) if self.exact else self.rng.uniform(0.3, 2, channels)
        )
        variance = (deviation**2 - epsilon).astype(np.float32)
        operands = [x, self.scales(channels), self.numbers(channels), self.numbers(channels), variance]
        return self.node("BatchNormalization", operands, x.shape, epsilon=epsilon)

    def activation(self, x: Value) -> Value:
        """Real to real, element by element."""
        kind = self.pick(["Relu", "PRelu", "LeakyRelu", "Clip", "Neg", "Abs"], [3, 3, 2, 3, 1, 1])
        match kind:
            case "PRelu":
                return self.node(kind, [x, self.per_channel(x, self.scales)], x.shape)
            case "LeakyRelu":
                return self.node(kind, [x], x.shape, alpha=0.25)
            case "Clip":
                low, high = self.pick([(-1, 1), (0, 1), (-1.5, 3)])
                return self.node(
                    kind, [x, np.asarray(np.float32(low)), np.asarray(np.float32(high))], x.shape
                )
        return self.node(kind, [x], x.shape)

    def pool(self, x: Value) -> Value:
        """Of the maximum or the mean; exact means divide by a power of two."""
        if not x.is_image or min(x.shape[2:]) < 2:
            return self.activation(x)
        n, c, height, width = x.shape
        size, stride = self.pick([2, 3]), self.pick([1, 2])
        kind = self.pick(["MaxPool", "AveragePool", "GlobalAveragePool"], [2, 2, 3])
        if kind == "GlobalAveragePool":
            if self.exact and (height * width) & (height * width - 1):
                return self.activation(x)
            return self.node(kind, [x], (n, c, 1, 1))
        if kind == "AveragePool" or min(height, width) < size:
            size = 2
        pad = self.pick([0, 1]) if kind == "MaxPool" else 0
        result = [(length + 2 * pad - size) // stride + 1 for length in (height, width)]
        more = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        return self.node(kind, [x], (n, c, *result), **more, two_level=x.two_level and kind == "MaxPool")

    def residual(self, x: Value) -> Value:
        """Add another value of the same shape, if there is one."""
        others = [value for value in self.values if value.shape == x.shape and value is not x]
        if not others:
            return self.batch_norm(x)
        operands = [x, self.pick(others)]
        return self.node("Add", operands if self.chance(0.5) else operands[::-1], x.shape)

    def concat(self, x: Value) -> Value:
        """Join another value of the same rows and columns along the channels."""
        others = [v for v in self.values if v.shape[:1] + v.shape[2:] == x.shape[:1] + x.shape[2:]]
        if not others or not x.is_image:
            return self.activation(x)
        other = self.pick(others)
        shape = (x.shape[0], x.shape[1] + other.shape[1], *x.shape[2:])
        return self.node("Concat", [x, other], shape, axis=1, two_level=x.two_level and other.two_level)

    def layer(self, x: Value) -> Value:
        """One layer on x."""
        kinds = [
            (self.contraction, 6),
            (self.batch_norm, 2),
            (self.activation, 2),
            (self.affine, 1),
            (self.pool, 5),
            (self.residual, 2),
            (self.concat, 1),
            (partial(dense_block, self), 1),
            (partial(split_units, self), 1),
            (partial(shuffled, self) if x.is_image else self.activation, 0.5),
            (self.real_contraction, 0.7),
            (self.binarize, 1),
        ]
        return self.pick([kind for kind, _ in kinds], [weight for _, weight in kinds])(x)

    def model(self) -> ModelProto:
        """The whole network."""
        batch = self.pick([1, 2, 3], [6, 1, 1])
        channels = self.pick([1, 3, self.whole(2, 40), 32, 64])
        image = (batch, channels, self.whole(1, 7), self.whole(1, 7))
        shape = image if self.chance(0.85) else (batch, self.whole(1, 100))
        x = Value("x", shape)
        self.values.append(x)
        if self.chance(0.3):
            self.values.append(self.real_contraction(x))
        for _ in range(self.whole(1, MOST_LAYERS)):
            source = self.values[-1] if self.chance(0.8) else self.pick(self.values)
            self.values.append(self.contraction(source) if self.chance(0.5) else self.layer(source))
            if prod(self.values[-1].shape) > MOST_VALUES:
                self.values.pop()
        made = [value for value in self.values if value.name != "x"] or [self.sign(x)]
        outputs = [made[-1], *(value for value in made[:-1] if self.chance(0.15) and value != made[-1])]
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(v.name, TensorProto.FLOAT, v.shape) for v in outputs],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(QONNX, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def batches(self, count: int, shape: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Inputs for the network: without zeros, then with more and more of them."""
        return [{"x": self.numbers(shape, zeros=0.3 * number)} for number in range(count)]


def draw(seed: int) -> Generator | SpikingNetwork:
    """The binary or, every third time, spiking network of a seed."""
    return SpikingNetwork(seed) if seed % 3 == 2 else Generator(seed)


GRID = 2.0**-12


def is_exact(values: Mapping[str, np.ndarray], unimportant: Set[str]) -> bool:
    """Whether every real value of an evaluated graph is a small multiple of a small power of two: then no sum
    or product of them is rounded, in whatever order. Of the `unimportant` ones only a sign is taken."""
    real = [values[name] for name in values.keys() - unimportant if values[name].dtype.kind == "f"]
    return all(
        bool((np.abs(array) < 1 / GRID / 4).all() and (array / GRID == np.rint(array / GRID)).all())
        for array in real
    )


@dataclass(frozen=True)
class Outcome:
    """What became of one network. refused: the compiler's diagnostic, or "". problems: by target."""

    seed: int
    exact: bool = False
    refused: str = ""
    problems: tuple[str, ...] = ()


Kind = type[Generator] | type[SpikingNetwork]


def check(
    seed: int, targets: Sequence[str] = TARGETS, samples: int = SAMPLES, kind: Kind = Generator
) -> Outcome:
    """Compile the network of this seed for every target and compare; an exception is a problem too."""
    try:
        return compare(seed, targets, samples, kind)
    except Exception:
        return Outcome(seed, problems=(traceback.format_exc(limit=-6)[-3000:],))


def compare(seed: int, targets: Sequence[str], samples: int, kind: Kind) -> Outcome:
    """Layer by layer and as a whole."""
    generator = kind(seed)
    model = generator.model()
    batches = generator.batches(samples, input_shape(model))
    with tempfile.TemporaryDirectory(prefix="bnncc-random-") as folder:
        path = Path(folder) / f"network_{seed}.onnx"
        path.write_bytes(model.SerializeToString())
        graph = ModelEvaluator(path)
        exact = all(is_exact(graph(batch), generator.unimportant) for batch in batches)
        problems: list[str] = []
        for target in targets:
            # The plan, too, is the target's: what form bits are stored in, what is worth a table or bytes.
            options, output = Options(target=target), Path(folder) / target
            try:
                lowered = driver.lower_model(path, options)
            except BnnccError as error:
                refusals = () if error.exit_code == 2 else (str(error),)
                return Outcome(seed, refused=str(error), problems=refusals)
            problems += [f"{target}: {text}" for text in memory_problems(lowered.program)]
            artifact = driver.build(lowered, path, output, options)
            report = verify.verify_library(lowered, artifact, graph, batches)
            if not report.passed or (exact and any(row.differing for row in report.rows)):
                problems.append(f"{target}:\n{report.render()}")
            for batch in batches if exact else ():
                problems += [f"{target}: {text}" for text in differences(artifact.run(batch), graph(batch))]
        return Outcome(seed, exact, "", tuple(problems))


def differences(got: Mapping[str, np.ndarray], graph: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Outputs that are not exactly the graph's."""
    for name, array in got.items():
        wrong = int((array != graph[name].reshape(array.shape)).sum())
        if wrong:
            yield f"{wrong} of {array.size} values of the output '{name}' differ, and nothing was rounded"


def input_shape(model: ModelProto) -> tuple[int, ...]:
    """Of the only input."""
    return tuple(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)


def check_all(
    seeds: Sequence[int], jobs: int, targets: Sequence[str] = TARGETS, kind: Kind = Generator
) -> Iterator[Outcome]:
    """Every network in its own turn, over so many processes."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(partial(check, targets=targets, kind=kind), seeds, chunksize=4)


def main() -> int:
    """The command; 1 where a network differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.random_networks", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many networks (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--targets", default=",".join(TARGETS), help=f"default: {','.join(TARGETS)}")
    parser.add_argument("--spiking", action="store_true", help="spiking networks instead of binary ones")
    parser.add_argument("--save", type=Path, help="a folder for the models that fail")
    chosen = parser.parse_args()
    kind = SpikingNetwork if chosen.spiking else Generator
    seeds = range(chosen.first, chosen.first + chosen.count)
    exact = refused = failed = 0
    for outcome in check_all(seeds, chosen.jobs, tuple(chosen.targets.split(",")), kind):
        exact += outcome.exact
        refused += bool(outcome.refused)
        if outcome.refused:
            print(f"{outcome.seed}: refused: {outcome.refused}", flush=True)
        if outcome.problems:
            failed += 1
            print(f"{outcome.seed}: FAILED\n" + "\n".join(outcome.problems), flush=True)
            if chosen.save:
                chosen.save.mkdir(parents=True, exist_ok=True)
                model = kind(outcome.seed).model().SerializeToString()
                (chosen.save / f"network_{outcome.seed}.onnx").write_bytes(model)
    print(f"{chosen.count} networks, {exact} of them exact: {refused} refused, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
