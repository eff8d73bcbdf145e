# SPDX-License-Identifier: Apache-2.0
"""Arithmetic at its edges: what float32 rounds, and numbers that are none, as the graph has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike
from onnx import NodeProto, helper

from bnncc.driver import Options, compile_model
from bnncc.frontend.evaluate import evaluate_model
from tests.models import make_model, real, write

node = helper.make_node
RNG = np.random.default_rng(5)
TARGETS = pytest.mark.parametrize("target", ["native", "c"])


def answers(
    nodes: Sequence[NodeProto],
    x: np.ndarray,
    constants: Mapping[str, ArrayLike],
    target: str,
    folder: Path,
    opset: int = 17,
) -> tuple[np.ndarray, np.ndarray]:
    """y of the library, and as the graph says."""
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    path = write(folder, make_model(nodes, {"x": x.shape}, ["y"], arrays, opset))
    got = compile_model(path, None, Options(target=target)).run({"x": x})["y"]
    return got, evaluate_model(path, {"x": x})["y"]


@TARGETS
@pytest.mark.parametrize("offset", [2.0**10, 2.0**19, 1.5 * 2.0**23])
def test_a_sum_that_comes_and_goes_rounds(offset: float, target: str, tmp_path: Path) -> None:
    """To multiples of 2^-13, of 2^-4, of 1."""
    x = RNG.normal(size=(2, 64)).astype(np.float32)
    nodes = [node("Abs", ["x"], ["a"]), node("Add", ["a", "c"], ["s"]), node("Sub", ["s", "c"], ["y"])]
    got, expected = answers(nodes, x, {"c": real(offset)}, target, tmp_path)
    assert (expected != np.abs(x)).any()
    np.testing.assert_array_equal(got, expected)


@TARGETS
def test_two_products_round_twice(target: str, tmp_path: Path) -> None:
    x = RNG.normal(size=(2, 64)).astype(np.float32)
    nodes = [node("Abs", ["x"], ["a"]), node("Mul", ["a", "c"], ["s"]), node("Mul", ["s", "d"], ["y"])]
    got, expected = answers(nodes, x, {"c": real(0.3), "d": real(0.7)}, target, tmp_path)
    assert (expected != np.abs(x) * real(0.21)).any()
    np.testing.assert_array_equal(got, expected)


@TARGETS
@pytest.mark.parametrize("offset", [2.0**12, np.float32(0.3) * 2.0**20])
def test_steps_behind_a_large_offset_are_others(offset: float, target: str, tmp_path: Path) -> None:
    """What the layer reads are multiples of 2^-11 or of 2^-5, and no multiples of 0.3 any more."""
    x = RNG.integers(0, 16, (8, 33)).astype(np.float32)
    nodes = [
        node("Round", ["x"], ["r"]),
        node("Clip", ["r", "low", "high"], ["q"]),
        node("Mul", ["q", "s"], ["m"]),
        node("Add", ["m", "c"], ["a"]),
        node("Sub", ["a", "c"], ["b"]),
        node("MatMul", ["b", "w"], ["y"]),
    ]
    constants = {"low": real(0), "high": real(15), "s": real(0.3), "c": real(offset)}
    weights = {"w": RNG.choice(real([-1, 1]), (33, 5))}
    got, expected = answers(nodes, x, {**constants, **weights}, target, tmp_path)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-5)


UNDEFINED = {
    "Max": [node("Max", ["r", "x"], ["y"])],
    "Min": [node("Min", ["r", "x"], ["y"])],
    "Max by channel": [node("Max", ["r", "c"], ["y"])],
    "ArgMax": [node("ArgMax", ["r"], ["y"], axis=1, keepdims=0)],
    "ArgMin": [node("ArgMin", ["r"], ["y"], axis=-1)],
    "last": [node("ArgMax", ["r"], ["y"], axis=0, select_last_index=1)],
    "Cast": [node("Cast", ["r"], ["b"], to=9), node("Cast", ["b"], ["y"], to=1)],
    "Exp": [node("Exp", ["r"], ["y"])],
    "Clip": [node("Clip", ["r", "low", "high"], ["y"])],
    "Relu": [node("Relu", ["r"], ["y"])],
    "LessOrEqual": [node("LessOrEqual", ["r", "x"], ["b"]), node("Cast", ["b"], ["y"], to=1)],
}


@TARGETS
@pytest.mark.parametrize("name", UNDEFINED)
def test_the_root_of_a_negative_number(name: str, target: str, tmp_path: Path) -> None:
    """NaN is passed on, differs from all, and is what ArgMax finds, the first one of them."""
    x = RNG.normal(size=(3, 37)).astype(np.float32)
    x[1] = np.abs(x[1])
    constants = {"c": np.linspace(-1, 1, 37, dtype=np.float32), "low": real(-1), "high": real(1)}
    used = {slot for n in UNDEFINED[name] for slot in n.input}
    given = {slot: array for slot, array in constants.items() if slot in used}
    nodes = [node("Sqrt", ["x"], ["r"]), *UNDEFINED[name]]
    got, expected = answers(nodes, x, given, target, tmp_path)
    assert (x < 0).any()
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@TARGETS
@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_equal_numbers_by_their_positions(operator: str, last: int, target: str, tmp_path: Path) -> None:
    x = RNG.integers(-2, 3, (4, 5, 6)).astype(np.float32)
    x[0, :, 0] = -np.inf
    nodes = [node(operator, ["x"], ["y"], axis=1, keepdims=last, select_last_index=last)]
    got, expected = answers(nodes, x, {}, target, tmp_path)
    np.testing.assert_array_equal(got, expected)


@TARGETS
def test_infinity_is_below_the_threshold_of_a_relu(target: str, tmp_path: Path) -> None:
    """0 times it would be NaN."""
    x = real([[-np.inf, np.inf, 1.5, 1, 0.5, -3]])
    got, expected = answers([node("ThresholdedRelu", ["x"], ["y"])], x, {}, target, tmp_path)
    np.testing.assert_array_equal(got, real([[0, np.inf, 1.5, 0, 0, 0]]))
    assert np.array_equal(expected, got, equal_nan=True)
