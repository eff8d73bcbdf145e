# SPDX-License-Identifier: Apache-2.0
"""Which decisions of a graph hang on rounding, and which do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from bnncc.checking.rounding import Ties
from bnncc.driver import Options
from bnncc.frontend.evaluate import ModelEvaluator
from bnncc.verify import verify_model
from tests.models import make_model, real, whole, write

node = helper.make_node
QONNX = "qonnx.custom_op.general"


def test_a_sum_of_rounded_terms_may_fall_to_either_side_of_zero(tmp_path: Path) -> None:
    """Float32 gives 0.1 + 0.1 - 0.2 something, and exact arithmetic 0."""
    x = real([[1, 1, 1, 0], [1, 1, -1, 0]])
    weights = {"w": real([[0.1, 0.7, -0.8, 1]]).T}
    nodes = [node("MatMul", ["x", "w"], ["s"]), node("Sign", ["s"], ["y"])]
    graph = ModelEvaluator(write(tmp_path, make_model(nodes, {"x": [2, 4]}, ["y"], weights)))
    mask = Ties(graph, graph({"x": x})).behind("y")
    assert mask is not None and mask.tolist() == [[True], [False]]


def test_sums_of_integers_have_no_excuse(tmp_path: Path) -> None:
    x = real([[1, 1, 1, 1], [0, 0, 0, 0]])
    weights = {"w": real([[1, -1, 1, -1], [1, 1, 0, 0]]).T}
    nodes = [node("MatMul", ["x", "w"], ["s"]), node("Sign", ["s"], ["y"])]
    graph = ModelEvaluator(write(tmp_path, make_model(nodes, {"x": [2, 4]}, ["y"], weights)))
    mask = Ties(graph, graph({"x": x})).behind("y")
    assert mask is not None and not mask.any()


MOVED = {
    "where": [node("Less", ["s", "zero"], ["l"]), node("Cast", ["l"], ["y"], to=1)],
    "reshape": [node("Sign", ["s"], ["t"]), node("Reshape", ["t", "shape"], ["y"])],
    "twice": [node("Sign", ["s"], ["t"]), node("Sign", ["t"], ["y"])],
}


@pytest.mark.parametrize("spelling", MOVED)
def test_a_tie_is_followed_to_where_it_shows(spelling: str, tmp_path: Path) -> None:
    x = real([[1, 1, 1, 0], [1, 1, -1, 0], [1, -1, 1, 0]])
    weights = {"w": real([[0.1, 0.7, -0.8, 1], [1, 1, 1, 1]]).T, "zero": real(0), "shape": whole([6])}
    nodes = [node("MatMul", ["x", "w"], ["s"]), *MOVED[spelling]]
    graph = ModelEvaluator(write(tmp_path, make_model(nodes, {"x": [3, 4]}, ["y"], weights)))
    found = Ties(graph, graph({"x": x}))
    mask = found.behind("y")
    assert mask is not None and mask.reshape(-1).tolist() == [True, False, False, False, False, False]
    assert found.before("y") and not found.before("s")
    assert found.behind("s") is None and found.behind("x") is None


QUANTIZED = {
    "round": [node("Div", ["s", "step"], ["d"]), node("Round", ["d"], ["y"])],
    "quant": [node("Quant", ["s", "step", "zero", "bits"], ["y"], domain=QONNX, signed=1, narrow=0)],
    "thresholds": [node("MultiThreshold", ["s", "t"], ["y"], domain=QONNX)],
}


@pytest.mark.parametrize("spelling", QUANTIZED)
def test_a_quantizer_decides_halfway_between_its_levels(spelling: str, tmp_path: Path) -> None:
    """0.1 + 0.7 - 0.5 is 0.3, three quarters of the way: no decision; 0.1 + 0.7 - 0.6 = 0.2 is halfway."""
    x = real([[1, 1, -0.5], [1, 1, -0.6], [0, 0, 0]])
    constants = {"w": real([[0.1, 0.7, 1]]).T, "step": real(0.4), "zero": real(0), "bits": real(2)}
    constants["t"] = real([[0.2, 0.6]])
    nodes = [node("MatMul", ["x", "w"], ["s"]), *QUANTIZED[spelling]]
    model = make_model(nodes, {"x": [3, 3]}, ["y"], constants, domains=[QONNX])
    graph = ModelEvaluator(write(tmp_path, model))
    mask = Ties(graph, graph({"x": x})).behind("y")
    assert mask is not None and mask.reshape(-1).tolist() == [False, True, False]


def test_quantizers_of_integers_have_no_excuse(tmp_path: Path) -> None:
    x = real([[1, 2, 3], [0, 1, 0]])
    constants = {"w": real([[1, -1, 0.5]]).T}
    nodes = [node("MatMul", ["x", "w"], ["s"]), node("Round", ["s"], ["y"])]
    graph = ModelEvaluator(write(tmp_path, make_model(nodes, {"x": [2, 3]}, ["y"], constants)))
    mask = Ties(graph, graph({"x": x})).behind("y")
    assert mask is not None and not mask.any()


def test_a_level_that_flips_by_rounding_is_no_difference(tmp_path: Path) -> None:
    """0.1 times an integer sum and 0.25 lies halfway between two levels of 0.1 now and then."""
    rng = np.random.default_rng(4)
    constants = {f"w{i}": rng.choice(real([-1, 1]), (64, 64)) * np.float32(0.3) for i in range(2)}
    constants |= {"a": real(0.2), "half": real(0.1), "low": real(-8), "high": real(7)}
    nodes = []
    for i, source in enumerate(("x", "y0")):
        nodes += [
            node("Div", [source, "a"], [f"d{i}"]),
            node("Round", [f"d{i}"], [f"r{i}"]),
            node("Clip", [f"r{i}", "low", "high"], [f"c{i}"]),
            node("Mul", [f"c{i}", "a"], [f"q{i}"]),
            node("MatMul", [f"q{i}", f"w{i}"], [f"s{i}"]),
            node("Add", [f"s{i}", "half"], [f"y{i}"]),
        ]
    path = write(tmp_path, make_model(nodes, {"x": [4, 64]}, ["y1"], constants))
    report = verify_model(path, Options(), samples=4)
    assert report.passed, report.render()
    assert any(row.explained for row in report.outputs), report.render()


def test_a_flip_by_rounding_is_no_difference(tmp_path: Path) -> None:
    """0.3 times a ternary sum of 0 is 0 for the compiler; float32 leaves a rest of it, which has a sign."""
    rng = np.random.default_rng(3)
    weight = rng.choice(real([-1, 0, 1]), (500, 12)) * np.float32(0.3)
    nodes = [
        node("Sign", ["x"], ["b"]),
        node("MatMul", ["b", "w"], ["s"]),
        node("Sign", ["s"], ["t"]),
        node("MatMul", ["t", "v"], ["y"]),
    ]
    constants = {"w": weight, "v": rng.choice(real([-1, 1]), (12, 7))}
    path = write(tmp_path, make_model(nodes, {"x": [1, 500]}, ["y"], constants))
    report = verify_model(path, Options(), samples=20)
    assert report.passed, report.render()
    assert any(row.explained for row in report.outputs), report.render()
