# SPDX-License-Identifier: Apache-2.0
"""Neurons found in the arithmetic of a step: what they are called, and that nothing they compute changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper
from xdsl.dialects.builtin import ModuleOp

from bnncc.dialect.network import main_function
from bnncc.dialect.parsing import make_context
from bnncc.dialect.time import Neuron
from bnncc.frontend.onnx import load_onnx
from bnncc.frontend.states import carry_states
from bnncc.passes.pipeline import PIPELINE, run_pipeline
from bnncc.passes.recognize_neurons import RecognizeNeuronsPass
from bnncc.reference import evaluate_steps
from tests.models import make_model, write

SHAPE = [1, 4]
CONSTANTS = {
    "beta": np.array(0.9, np.float32),
    "theta": np.array([0.5, 0.75, 1.0, 1.25], np.float32),
    "tau": np.array(2.0, np.float32),
    "zero": np.array(0.0, np.float32),
    "one": np.array(1.0, np.float32),
    "w": np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32) * np.float32(0.2),
}
FLOAT = TensorProto.FLOAT


def fire(value: str, name: str, operator: str = "Greater") -> list[NodeProto]:
    """name = [value - theta > 0]."""
    node = helper.make_node
    return [
        node("Sub", [value, "theta"], [f"{name}_d"]),
        node(operator, [f"{name}_d", "zero"], [f"{name}_b"]),
        node("Cast", [f"{name}_b"], [name], to=FLOAT),
    ]


def charge(value: str) -> list[NodeProto]:
    """u = beta m_in + x."""
    node = helper.make_node
    return [node("Mul", ["beta", "m_in"], ["l"]), node("Add", ["l", "x"], [value])]


def steps(kind: str) -> list[NodeProto]:
    """The graph of one step, as exporters write it."""
    node = helper.make_node
    match kind:
        case "snntorch subtract":
            reset = [node("Mul", ["r", "theta"], ["rt"]), node("Sub", ["u", "rt"], ["m"])]
            return [*fire("m_in", "r"), *charge("u"), *reset, *fire("m", "y")]
        case "snntorch zero":
            reset = [node("Mul", ["r", "u"], ["ru"]), node("Sub", ["u", "ru"], ["m"])]
            return [*fire("m_in", "r"), *charge("u"), *reset, *fire("m", "y")]
        case "spikingjelly hard":  # v + (x - v) / tau
            change = [node("Sub", ["x", "m_in"], ["d"]), node("Div", ["d", "tau"], ["e"])]
            change += [node("Add", ["m_in", "e"], ["u"])]
            reset = [node("Sub", ["one", "y"], ["k"]), node("Mul", ["k", "u"], ["m"])]
            return [*change, *fire("u", "y", "GreaterOrEqual"), *reset]
        case "integrate and fire":
            reset = [node("Mul", ["y", "theta"], ["rt"]), node("Sub", ["u", "rt"], ["m"])]
            return [node("Add", ["m_in", "x"], ["u"]), *fire("u", "y", "GreaterOrEqual"), *reset]
        case "readout":
            return [*charge("m"), node("Relu", ["m"], ["y"])]
        case _:  # the membrane goes through a matrix: no neuron
            dense = [node("MatMul", ["m_in", "w"], ["v"]), node("Add", ["v", "x"], ["u"])]
            return [*dense, *fire("u", "y"), node("Sub", ["u", "y"], ["m"])]


KINDS = {
    "snntorch subtract": ["lif, subtract, >, delayed"],
    "snntorch zero": ["lif, zero, >, delayed"],
    "spikingjelly hard": ["lif, zero, >="],
    "integrate and fire": ["if, subtract, >="],
    "readout": ["leaky"],
    "matrix": [],
}


def module_of(kind: str, folder: Path) -> ModuleOp:
    """The step as the front end gives it."""
    model = make_model(steps(kind), {"x": SHAPE, "m_in": SHAPE}, ["y", "m"], CONSTANTS)
    module = load_onnx(write(folder, model))
    carry_states(module, {"m_in": "m"})
    return module


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_neuron_is_called(kind: str, tmp_path: Path):
    x = np.random.default_rng(1).normal(0.3, 0.8, (50, *SHAPE)).astype(np.float32)
    expected = evaluate_steps(module_of(kind, tmp_path), {"x": x})
    module, found = module_of(kind, tmp_path), []

    def look(name: str, module: ModuleOp) -> None:
        if name == "recognize-neurons":
            neurons = [op for op in main_function(module).body.block.ops if isinstance(op, Neuron)]
            found.extend(neuron.classification for neuron in neurons)

    run_pipeline(module, look)
    assert found == KINDS[kind]
    got = evaluate_steps(module, {"x": x})
    np.testing.assert_array_equal(got["y"] > 0, expected["y"] > 0)
    np.testing.assert_allclose(got["m"], expected["m"], rtol=1e-6, atol=1e-6)
    assert 0 < np.mean(expected["y"] > 0) < 1


@pytest.mark.parametrize("kind", KINDS)
def test_wrapping_changes_no_bit(kind: str, tmp_path: Path):
    x = np.random.default_rng(2).normal(0.3, 0.8, (50, *SHAPE)).astype(np.float32)
    module, context = module_of(kind, tmp_path), make_context()
    for pass_, _ in PIPELINE:
        if pass_.name == "assume-sign-zero":
            continue
        if pass_ is RecognizeNeuronsPass:
            break
        pass_().apply(context, module)
    before = evaluate_steps(module, {"x": x})
    RecognizeNeuronsPass().apply(context, module)
    module.verify()
    for name, array in evaluate_steps(module, {"x": x}).items():
        np.testing.assert_array_equal(array, before[name])
