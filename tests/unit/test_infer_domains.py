# SPDX-License-Identifier: Apache-2.0
"""Scales that move behind what commutes with them, and stay where it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from bnncc.frontend.evaluate import evaluate_model
from bnncc.frontend.onnx import load_onnx
from bnncc.passes.pipeline import run_pipeline
from bnncc.reference import evaluate
from tests.models import make_model, write


@pytest.mark.parametrize("scale", [2.0, 0.5, -0.5, -1.0, -2.0])
def test_the_largest_of_scaled_signs(scale: float, tmp_path: Path) -> None:
    """Under a negative scale it is the scaled smallest sign."""
    nodes = [
        helper.make_node("GreaterOrEqual", ["x", "zero"], ["above"]),
        helper.make_node("Where", ["above", "one", "minus"], ["signs"]),
        helper.make_node("Mul", ["signs", "scale"], ["scaled"]),
        helper.make_node("MaxPool", ["scaled"], ["largest"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["largest", "w"], ["y"]),
    ]
    rng = np.random.default_rng(2)
    numbers = {"zero": 0.0, "one": 1.0, "minus": -1.0, "scale": scale}
    constants = {name: np.asarray(number, np.float32) for name, number in numbers.items()}
    constants["w"] = rng.choice(np.array([-1, 1], np.float32), (5, 4, 2, 2))
    path = write(tmp_path, make_model(nodes, {"x": [1, 4, 8, 8]}, ["y"], constants))
    x = rng.standard_normal((1, 4, 8, 8)).astype(np.float32)
    module = load_onnx(path)
    run_pipeline(module)
    np.testing.assert_array_equal(evaluate(module, {"x": x})["y"], evaluate_model(path, {"x": x})["y"])


@pytest.mark.parametrize("falling", [0, 2, 5])
def test_the_largest_behind_a_normalisation(falling: int, tmp_path: Path) -> None:
    """Of sums in channels that rise with them, and in channels that fall."""
    nodes = [
        helper.make_node("GreaterOrEqual", ["x", "zero"], ["above"]),
        helper.make_node("Where", ["above", "one", "minus"], ["signs"]),
        helper.make_node("Conv", ["signs", "w"], ["sums"]),
        helper.make_node("BatchNormalization", ["sums", "scale", "bias", "mean", "variance"], ["normal"]),
        helper.make_node("MaxPool", ["normal"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    rng = np.random.default_rng(3)
    scale = np.where(np.arange(5) < falling, -1, 1) * rng.choice([0.5, 1, 2], 5)
    mean, bias = rng.integers(-3, 4, (2, 5))
    numbers = {"zero": 0, "one": 1, "minus": -1, "scale": scale, "bias": bias, "mean": mean}
    constants = {name: np.asarray(number, np.float32) for name, number in numbers.items()}
    constants["variance"] = np.full(5, 4 - 1e-5, np.float32)
    constants["w"] = rng.choice(np.array([-1, 1], np.float32), (5, 4, 3, 3))
    path = write(tmp_path, make_model(nodes, {"x": [1, 4, 8, 8]}, ["y"], constants))
    x = rng.standard_normal((1, 4, 8, 8)).astype(np.float32)
    module = load_onnx(path)
    run_pipeline(module)
    expected = evaluate_model(path, {"x": x})["y"]
    np.testing.assert_allclose(evaluate(module, {"x": x})["y"], expected, rtol=1e-5, atol=1e-5)
