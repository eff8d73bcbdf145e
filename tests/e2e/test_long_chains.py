# SPDX-License-Identifier: Apache-2.0
"""Chains of operators longer than Python's stack is deep, and such whose results are read twice every time:
neither the stack nor the time to compile may grow with the number of paths through them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import bnncc
from bnncc.frontend.evaluate import evaluate_model

SECONDS = 600.0
"""Of the processor, however slow it is; each takes about 2, and one that doubles with each of 400 steps would
never end."""

BOOLEAN = ("And", "Or", "Not")


def chain(operator: str, length: int) -> onnx.ModelProto:
    """The operator so many times in a row, the value before it in every slot."""
    slots = {"Relu": 1, "Not": 1, "Where": 3}.get(operator, 2)
    nodes = [helper.make_node("Greater", ["x", "zero"], ["more"])]
    value = "more" if operator in BOOLEAN else "x"
    for index in range(length):
        inputs = ["more", value, value] if operator == "Where" else [value] * slots
        value = f"v{index}"
        nodes.append(helper.make_node(operator, inputs, [value]))
    nodes.append(helper.make_node("Cast", [value], ["y"], to=1))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", 1, [2, 3, 4])],
        [helper.make_tensor_value_info("y", 1, [2, 3, 4])],
        [numpy_helper.from_array(np.zeros((), np.float32), "zero")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("operator", ["Relu", "Add", "Sub", "Max", "Where", *BOOLEAN])
def test_a_long_chain(operator: str, tmp_path: Path) -> None:
    onnx.save(chain(operator, 400), tmp_path / "model.onnx")
    begin = time.process_time()
    artifact = bnncc.compile(tmp_path / "model.onnx", output=tmp_path / "library")
    assert time.process_time() - begin < SECONDS
    inputs = {"x": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)}
    expected = evaluate_model(tmp_path / "model.onnx", inputs)["y"]
    np.testing.assert_array_equal(artifact.run(inputs)["y"], expected)
