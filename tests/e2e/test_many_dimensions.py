# SPDX-License-Identifier: Apache-2.0
"""Element-wise operators of five and six dimensions, however their operands repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper

import bnncc
from bnncc.frontend.evaluate import evaluate_model

node = helper.make_node


def compare(
    folder: Path,
    nodes: Sequence[NodeProto],
    shapes: Mapping[str, Sequence[int]],
    result: Sequence[int],
    output: str = "y",
) -> None:
    """Compile, run on integers of either sign with zeros among them, and expect the graph's answers."""
    rng = np.random.default_rng(3)
    inputs = {name: rng.integers(-3, 4, shape).astype(np.float32) for name, shape in shapes.items()}
    graph = helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(output, 1, result)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    artifact = bnncc.compile(folder / "model.onnx", output=folder / "library")
    assert "plain loops" not in (folder / "library" / "report.txt").read_text()
    got = artifact.run(inputs)[output]
    np.testing.assert_array_equal(got, evaluate_model(folder / "model.onnx", inputs)[output])


PAIRS = [
    ([2, 3, 4, 5, 6], [2, 3, 4, 5, 6]),
    ([2, 3, 4, 5, 6], [4, 1, 1]),
    ([2, 3, 4, 5, 6], [1]),
    ([1, 3, 1, 5, 6], [2, 1, 4, 1, 1]),
    ([2, 1, 4, 1, 6], [1, 3, 1, 5, 1]),
    ([2, 3, 1, 5, 1], [4, 1, 6]),
    ([2, 1, 2, 1, 2, 3], [3, 1, 2, 1, 1]),
    ([2, 1, 2, 1, 2, 1], [1, 3, 1, 2, 1, 3]),
    ([1, 1, 1, 1, 1, 7], [1, 1, 1, 2, 1, 1]),
]


@pytest.mark.parametrize(("left", "right"), PAIRS, ids=str)
def test_operands_that_repeat(left: Sequence[int], right: Sequence[int], tmp_path: Path) -> None:
    result = np.broadcast_shapes(tuple(left), tuple(right))
    nodes = [node("Sub", ["a", "b"], ["d"]), node("Relu", ["d"], ["r"]), node("Mul", ["r", "b"], ["y"])]
    compare(tmp_path, nodes, {"a": left, "b": right}, result)


def test_conditions_that_repeat(tmp_path: Path) -> None:
    nodes = [
        node("Greater", ["a", "b"], ["more"]),
        node("Where", ["more", "c", "d"], ["y"]),
    ]
    shapes = {"a": [2, 1, 2, 1, 2], "b": [2, 1, 1, 1, 1], "c": [1, 3, 1, 3, 1], "d": [2, 1, 1, 3, 2]}
    compare(tmp_path, nodes, shapes, [2, 3, 2, 3, 2])


def test_signs_between_reshapes(tmp_path: Path) -> None:
    """Bits of five dimensions, from and to an image of 32 channels and to one of 3."""
    nodes = [
        node("Sign", ["x"], ["s"]),
        node("GreaterOrEqual", ["s", "b"], ["up"]),
        node("Cast", ["up"], ["bits"], to=1),
        node("Add", ["bits", "s"], ["y"]),
    ]
    compare(tmp_path, nodes, {"x": [2, 2, 3, 2, 3], "b": [3, 1, 3]}, [2, 2, 3, 2, 3])


def test_dimensions_that_differ_from_step_to_step(tmp_path: Path) -> None:
    """A chain for which no four dimensions are enough, but for each of its steps."""
    nodes = [
        node("Add", ["x", "a"], ["p"]),
        node("Mul", ["p", "b"], ["q"]),
        node("Sub", ["q", "c"], ["y"]),
    ]
    shapes = {"x": [2, 3, 2, 3, 2], "a": [2, 1, 2, 3, 1], "b": [1, 3, 2, 1, 2], "c": [2, 3, 1, 3, 2]}
    compare(tmp_path, nodes, shapes, [2, 3, 2, 3, 2])


TRANSPOSES = [
    ([2, 3, 4, 5, 6], [0, 1, 3, 2, 4]),
    ([2, 3, 4, 5, 6], [4, 2, 0, 3, 1]),
    ([1, 2, 1, 3, 4], [3, 0, 2, 4, 1]),
    ([2, 3, 2, 2, 3, 2], [5, 3, 1, 4, 2, 0]),
    ([2, 2, 2, 2, 2, 2, 3], [6, 4, 2, 0, 5, 3, 1]),
]


@pytest.mark.parametrize(("shape", "order"), TRANSPOSES, ids=str)
def test_transposes(shape: Sequence[int], order: Sequence[int], tmp_path: Path) -> None:
    """Of numbers, and of what is bits once its thresholds are found."""
    result = [shape[axis] for axis in order]
    turned = node("Transpose", ["r"], ["y"], perm=order)
    compare(tmp_path, [node("Relu", ["x"], ["r"]), turned], {"x": shape}, result)
    signs = [node("GreaterOrEqual", ["x", "x0"], ["more"]), node("Cast", ["more"], ["r"], to=1)]
    compare(tmp_path, [*signs, turned], {"x": shape, "x0": shape}, result)


def test_transposes_that_cancel(tmp_path: Path) -> None:
    """An image over time as rows of its pixels, as transformers read it: nothing is moved; with one dimension
    more between, it is."""
    order = [0, 1, 4, 2, 3]
    first = [node("Relu", ["x"], ["r"]), node("Transpose", ["r"], ["t"], perm=order)]
    rows = [*first, node("Reshape", ["t", "rows"], ["u"]), node("Transpose", ["u"], ["y"], perm=[0, 2, 1])]
    kept = [node("Constant", [], ["rows"], value_ints=[6, 8, 20]), *rows]
    compare(tmp_path, kept, {"x": [2, 3, 4, 5, 8]}, [6, 20, 8])
    assert "copy" not in (tmp_path / "library" / "report.txt").read_text()
    moved = [node("Constant", [], ["rows"], value_ints=[6, 20, 8]), *rows]
    compare(tmp_path, moved, {"x": [2, 3, 4, 5, 8]}, [6, 8, 20])
    assert "copy" in (tmp_path / "library" / "report.txt").read_text()
