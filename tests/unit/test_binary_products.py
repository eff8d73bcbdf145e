# SPDX-License-Identifier: Apache-2.0
"""Products and convolutions of signs in every shape run on bit kernels; of others inspect says why not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import ArrayLike
from onnx import NodeProto, helper

from bnncc.frontend.evaluate import evaluate_model
from bnncc.frontend.onnx import load_onnx
from bnncc.lowering import lower
from bnncc.passes.pipeline import run_pipeline
from bnncc.passes.split_affine import two_levels
from bnncc.reference import evaluate
from bnncc.report.inspect import Row, inspect_rows, is_binary
from tests.models import make_model, write

RANDOM = np.random.default_rng(7)

node = helper.make_node


def signs(*shape: int) -> np.ndarray:
    """-1 and +1."""
    return RANDOM.choice(np.array([-1, 1], np.float32), shape)


class Network(NamedTuple):
    """Nodes from x, of this shape, to y, and their constants."""

    nodes: Sequence[NodeProto]
    shape: Sequence[int]
    constants: dict[str, ArrayLike]


def product(
    shape: Sequence[int], weight: np.ndarray, operator: str = "MatMul", **attributes: object
) -> Network:
    """Signs of x times a constant."""
    nodes = [node("Sign", ["x"], ["s"]), node(operator, ["s", "w"], ["y"], **attributes)]  # type: ignore[arg-type]
    return Network(nodes, shape, {"w": weight})


LEFT = [node("Sign", ["x"], ["s"]), node("MatMul", ["w", "s"], ["y"])]

BINARY = {
    "a matrix": product((4, 40), signs(40, 7)),
    "three dimensions": product((2, 3, 40), signs(40, 7)),
    "four dimensions": product((2, 3, 5, 40), signs(40, 7)),
    "a matrix with leading ones": product((2, 3, 40), signs(1, 40, 7)),
    "a matrix for each of a batch": product((3, 5, 40), signs(3, 40, 7)),
    "a matrix on the left": Network(LEFT, (2, 40, 6), {"w": signs(7, 40)}),
    "two matrices, the constant on the left": Network(LEFT, (40, 6), {"w": signs(7, 40)}),
    "groups": product((1, 8, 5, 5), signs(4, 4, 3, 3), "Conv", group=2),
    "depthwise": product((1, 8, 5, 5), signs(8, 1, 3, 3), "Conv", group=8, pads=[1, 1, 1, 1]),
    "dilated": product((1, 8, 7, 7), signs(4, 8, 3, 3), "Conv", dilations=[2, 2], pads=[2, 1, 0, 2]),
    "a sequence": product((1, 8, 9), signs(4, 8, 3), "Conv", strides=[2], pads=[1, 0]),
    "zeros among the weights": product(
        (1, 8, 5, 5), signs(4, 8, 3, 3) * (RANDOM.random((4, 8, 3, 3)) > 0.3), "Conv"
    ),
    "turned round": product((1, 8, 5, 5), signs(8, 3, 3, 3), "ConvTranspose", pads=[1, 1, 1, 1]),
    "a turned sequence": product((1, 8, 5), signs(8, 3, 4), "ConvTranspose", strides=[2], pads=[1, 1]),
}
"""Each must be binary, the ones turned round with a stride in several convolutions."""

SCALED = [node("Sign", ["x"], ["s"]), node("Mul", ["s", "a"], ["q"]), node("Conv", ["q", "w"], ["y"])]
ATTENTION = [
    node("Sign", ["x"], ["s"]),
    node("Transpose", ["s"], ["t"], perm=[0, 2, 1]),
    node("MatMul", ["s", "t"], ["y"]),
]

REAL = {
    "a scale for every channel": (
        Network(
            SCALED,
            (1, 8, 5, 5),
            {"a": np.arange(1, 9, dtype=np.float32).reshape(8, 1, 1), "w": signs(4, 8, 3, 3)},
        ),
        "of few levels with a scale for every channel",
    ),
    "weights of many levels": (
        product((1, 8, 5, 5), RANDOM.standard_normal((4, 8, 3, 3)).astype(np.float32), "Conv"),
        "its activation is of few levels, from .*Sign.*; its weights are real-valued",
    ),
    "two values of run time": (
        Network(ATTENTION, (2, 5, 40), {}),
        "both of its operands are computed at run time",
    ),
    "a result that no stride divides": (
        product((1, 8, 5, 5), signs(8, 3, 3, 3), "ConvTranspose", strides=[2, 2]),
        "its stride is 2 with a result of size 11",
    ),
}
"""What stays real, and why."""


def rows_of(network: Network, folder: Path) -> list[Row]:
    """The layers that inspect shows; they compute what the graph does."""
    path = write(folder, make_model(network.nodes, {"x": network.shape}, ["y"], network.constants))
    x = RANDOM.integers(-2, 3, network.shape).astype(np.float32)
    module = load_onnx(path)
    run_pipeline(module)
    expected = evaluate_model(path, {"x": x})["y"]
    np.testing.assert_allclose(evaluate(module, {"x": x})["y"], expected, rtol=1e-5, atol=1e-5)
    return inspect_rows(lower(module, "network").program)


@pytest.mark.parametrize("name", BINARY)
def test_binary_products(name: str, tmp_path: Path) -> None:
    layers = [row for row in rows_of(BINARY[name], tmp_path) if row.domains]
    assert layers and all(map(is_binary, layers)), layers


@pytest.mark.parametrize("name", REAL)
def test_real_products_say_why(name: str, tmp_path: Path) -> None:
    network, reason = REAL[name]
    rows = rows_of(network, tmp_path)
    assert not any(map(is_binary, rows))
    (note,) = [row.note for row in rows if row.domains or "plain loops" in row.note]
    assert re.search(reason, note), note


def test_a_channel_of_one_level_needs_no_offset() -> None:
    """Beside one of two levels, 3 and 1: the former is 5 times ones, the latter 2 +- 1."""
    weight = np.stack([np.full(32, 5), np.where(np.arange(32) % 3, 3, 1)]).astype(np.float32)
    found = two_levels(weight)
    assert found is not None
    middle, deviation, signs_ = found
    assert middle.tolist() == [0, 2] and deviation.tolist() == [5, 1]
    np.testing.assert_array_equal(middle[:, None] + deviation[:, None] * signs_, weight)
