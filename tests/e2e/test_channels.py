# SPDX-License-Identifier: Apache-2.0
"""Channels that are joined, cut and given on are addresses: nothing is copied for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, helper

from bnncc import driver
from bnncc.driver import Options
from bnncc.plan.program import Program, Step
from bnncc.verify import verify_model
from tests.bench.architectures import exported
from tests.models import make_model, real, whole, write

COPIES = ("copy", "unpack bits", "pack bits", "Slice", "Split")
RNG = np.random.default_rng(7)


def copies(program: Program) -> list[Step]:
    """Steps that only move values, but the one that pads the network's input."""
    inputs = {port.buffer for port in program.inputs}
    moving = [step for step in program.steps if step.operation.startswith(COPIES)]
    return [step for step in moving if not inputs & set(step.reads)]


def without_kernels(program: Program) -> list[str]:
    """What is computed neither by a layer nor by a pool."""
    return [step.operation for step in program.steps if step.kernel.inputs == () and step.operation != "halo"]


@pytest.mark.parametrize("name", ["binary_densenet28", "meliusnet22"])
def test_a_dense_network_is_layers_and_pools(name: str) -> None:
    """Signs, normalisations, improvements and concatenations are all in epilogues."""
    pytest.importorskip("torch")
    program = driver.lower_model(exported(name, small=True), Options()).program
    assert not copies(program)
    assert without_kernels(program) == ["copy into a padded buffer"]


class Graph:
    """Nodes of an ONNX graph, their names made up, and its constants."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def add(self, operator: str, inputs: Sequence[str | np.ndarray], **attributes) -> str:
        """Append a node; its result."""
        names = []
        for value in inputs:
            if isinstance(value, np.ndarray):
                self.constants[f"c{len(self.constants)}"] = value
                value = f"c{len(self.constants) - 1}"
            names.append(value)
        self.nodes.append(helper.make_node(operator, names, [f"v{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def conv(self, x: str, inputs: int, outputs: int, size: int = 3, binary: bool = True) -> str:
        """A layer that keeps the extent; of signs, if it is binary."""
        weight = real(RNG.normal(size=(outputs, inputs, size, size)))
        if binary:
            x, weight = self.sign(x), np.where(weight > 0, np.float32(1), np.float32(-1))
        return self.add("Conv", [x, weight], pads=[size // 2] * 4)

    def sign(self, x: str) -> str:
        """+1 at 0."""
        above = self.add("GreaterOrEqual", [x, real(0)])
        return self.add("Where", [above, real(1), real(-1)])

    def cut(self, x: str, start: int, stop: int) -> str:
        """Some of the channels."""
        return self.add("Slice", [x, whole([start]), whole([stop]), whole([1])])

    def write(self, folder: Path, channels: int, *outputs: str) -> Path:
        """The model, for images of 6x5."""
        return write(
            folder, make_model(self.nodes, {"x": (1, channels, 6, 5)}, outputs, self.constants), "net.onnx"
        )


def agrees(path: Path) -> Program:
    """The program of a model whose every layer agrees with the graph."""
    report = verify_model(path, Options(), samples=2)
    assert report.passed, report.render()
    return driver.lower_model(path, Options()).program


def test_lists_of_features_grow_in_one_buffer(tmp_path: Path) -> None:
    """Real-valued layers that read everything before: every concatenation is the beginning of the last."""
    graph = Graph()
    features = [graph.conv("x", 3, 8, binary=False)]
    for _ in range(3):
        before = features[0] if len(features) == 1 else graph.add("Concat", features, axis=1)
        features.append(graph.conv(before, 8 * len(features), 8, 1, binary=False))
    program = agrees(graph.write(tmp_path, 3, graph.add("Relu", [graph.add("Concat", features, axis=1)])))
    assert not copies(program)
    (port,) = program.outputs
    written = [step.writes for step in program.steps if step.operation.startswith("conv2d")]
    grown = {buffer for writes in written for buffer in writes} - {port.buffer}
    assert len(grown) == 1


def test_halves_of_signs_are_read_where_they_lie(tmp_path: Path) -> None:
    """Split channels keep the halo that was asked for."""
    graph = Graph()
    whole_ = graph.sign(graph.conv("x", 3, 64, binary=False))
    halves = [graph.conv(graph.cut(whole_, start, start + 32), 32, 32) for start in (0, 32)]
    program = agrees(graph.write(tmp_path, 3, graph.add("Add", halves)))
    assert not copies(program)


def test_signs_are_cut_inside_a_word_by_a_copy(tmp_path: Path) -> None:
    """Negative control: bits 16 to 47 lie in two words."""
    graph = Graph()
    signs = graph.sign(graph.conv("x", 3, 64, binary=False))
    other = graph.conv(signs, 64, 8)
    middle = graph.conv(graph.cut(signs, 16, 48), 32, 8)
    program = agrees(graph.write(tmp_path, 3, graph.add("Add", [other, middle])))
    assert copies(program)


def test_ternary_signs_are_joined_in_both_planes(tmp_path: Path) -> None:
    """sign(0) = 0: RPReLU-like arithmetic and the signs behind a concatenation go to the layers before it."""
    graph = Graph()
    x = graph.conv("x", 3, 32, binary=False)
    parts = [graph.add("Add", [graph.conv(x, 32, 32, 1), x]) for _ in range(2)]
    shifted = graph.add("Add", [graph.add("Concat", parts, axis=1), real(RNG.normal(size=(64, 1, 1)))])
    bent = graph.add("PRelu", [shifted, real(RNG.uniform(size=(64, 1, 1)))])
    weight = real(np.where(RNG.normal(size=(8, 64, 3, 3)) > 0, 1, -1))
    y = graph.add("Conv", [graph.add("Sign", [bent]), weight], pads=[1] * 4)
    pooled = graph.add("GlobalAveragePool", [bent])
    program = agrees(graph.write(tmp_path, 3, y, pooled))
    assert not copies(program)
    assert without_kernels(program) == ["copy into a padded buffer"]


def test_a_split_gives_views(tmp_path: Path) -> None:
    """All outputs of one node."""
    graph = Graph()
    x = graph.conv("x", 3, 12, binary=False)
    graph.constants["sizes"] = whole([5, 4, 3])
    graph.nodes.append(helper.make_node("Split", [x, "sizes"], ["a", "b", "c"], axis=1))
    convolved = [graph.conv(name, size, 4, 1) for name, size in zip("abc", (5, 4, 3), strict=True)]
    program = agrees(graph.write(tmp_path, 3, graph.add("Sum", convolved)))
    assert not copies(program)


def shuffle(graph: Graph, x: str, channels: int, groups: int) -> str:
    """As PyTorch exports it, for images of 6x5."""
    split = graph.add("Reshape", [x, whole([1, groups, channels // groups, 6, 5])])
    turned = graph.add("Transpose", [split], perm=[0, 2, 1, 3, 4])
    return graph.add("Reshape", [turned, whole([1, channels, 6, 5])])


def batch_norm(graph: Graph, x: str, channels: int) -> str:
    """Some of its scales negative."""
    numbers = [real(RNG.normal(size=channels)) for _ in range(3)] + [real(RNG.uniform(1, 2, size=channels))]
    return graph.add("BatchNormalization", [x, *numbers])


def split_unit(graph: Graph, x: str, channels: int) -> str:
    """Of a binary ShuffleNet V2: half of the channels pass, the others go through layers."""
    half = channels // 2
    y = batch_norm(graph, graph.conv(graph.cut(x, half, channels), half, half, 1), half)
    weight = real(RNG.normal(size=(half, 1, 3, 3)))
    y = graph.add("Conv", [y, weight], pads=[1] * 4, group=half)
    y = batch_norm(graph, graph.conv(y, half, half, 1), half)
    return shuffle(graph, graph.add("Concat", [graph.cut(x, 0, half), y], axis=1), channels, 2)


def test_shuffled_channels_are_weights_in_another_order(tmp_path: Path) -> None:
    """Three units of half-passing channels: what passes is not copied before somebody needs it whole."""
    graph = Graph()
    x = graph.conv("x", 3, 64, binary=False)
    for _ in range(3):
        x = split_unit(graph, x, 64)
    program = agrees(graph.write(tmp_path, 3, graph.conv(x, 64, 8)))
    assert not any(step.operation in ("Transpose", "Gather") for step in program.steps)


def test_a_shuffle_passes_a_layer_of_single_channels(tmp_path: Path) -> None:
    """Its weights in the order that the channels had before, those of the next layer likewise."""
    graph = Graph()
    x = shuffle(graph, "x", 6, 3)
    x = graph.add("Conv", [x, real(RNG.normal(size=(6, 1, 3, 3)))], pads=[1] * 4, group=6)
    agrees(graph.write(tmp_path, 6, graph.conv(x, 6, 8, binary=False)))


def grouped(graph: Graph, x: str, inputs: int, outputs: int, groups: int) -> str:
    """A pointwise binary layer in groups."""
    weight = np.where(RNG.normal(size=(outputs, inputs // groups, 1, 1)) > 0, np.float32(1), np.float32(-1))
    return graph.add("Conv", [graph.sign(x), weight], group=groups)


def test_a_shuffle_between_groups_is_one_copy(tmp_path: Path) -> None:
    """As in ShuffleNet V1: neither layer can take other channels."""
    graph = Graph()
    x = graph.conv("x", 3, 96, binary=False)
    x = shuffle(graph, batch_norm(graph, grouped(graph, x, 96, 96, 3), 96), 96, 3)
    program = agrees(graph.write(tmp_path, 3, grouped(graph, x, 96, 96, 3)))
    assert len(copies(program)) == 1


def test_a_shuffle_before_groups_turns_the_layer_before(tmp_path: Path) -> None:
    """A layer of one group gives its outputs in another order."""
    graph = Graph()
    x = batch_norm(graph, graph.conv("x", 3, 96, binary=False), 96)
    program = agrees(graph.write(tmp_path, 3, grouped(graph, shuffle(graph, x, 96, 3), 96, 96, 3)))
    assert not copies(program)


def test_other_turns_of_dimensions_are_no_shuffle(tmp_path: Path) -> None:
    """Near miss: rows move, too."""
    graph = Graph()
    x = graph.conv("x", 3, 6, binary=False)
    turned = graph.add("Transpose", [graph.add("Reshape", [x, whole([1, 6, 3, 2, 5])])], perm=[0, 2, 1, 3, 4])
    x = graph.add("Reshape", [turned, whole([1, 6, 6, 5])])
    agrees(graph.write(tmp_path, 3, graph.conv(x, 6, 4, 1)))
