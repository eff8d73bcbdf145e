# SPDX-License-Identifier: Apache-2.0
"""What neurons of several states are called, near misses that are called otherwise, and that nothing they
compute changes: graphs of one step as exporters write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from xdsl.dialects.builtin import ModuleOp

from bnncc.dialect.time import Neuron
from bnncc.frontend.onnx import load_onnx
from bnncc.frontend.states import carry_states
from bnncc.passes.pipeline import run_pipeline
from bnncc.reference import evaluate_steps
from tests.models import make_model, write

SHAPE = [1, 6]
NUMBERS = {"one": 1.0, "half": 0.5, "alpha": 0.75, "beta": 0.875, "rho": 0.9375, "quarter": 0.25, "zero": 0.0}
CONSTANTS: dict[str, np.ndarray] = {name: np.array(value, np.float32) for name, value in NUMBERS.items()}
CONSTANTS["w"] = np.round(np.random.default_rng(0).normal(size=(6, 6)) * 16).astype(np.float32) / 64


def nodes(text: str) -> list[onnx.NodeProto]:
    """One for each line: "result = Operator operand operand"; "fires" is Greater and Cast."""
    found = []
    for line in filter(None, (line.strip() for line in text.split("\n"))):
        result, _, operator, *operands = line.split()
        if operator == "fires":
            found.append(helper.make_node("Greater", operands, [f"{result}_b"]))
            found.append(helper.make_node("Cast", [f"{result}_b"], [result], to=TensorProto.FLOAT))
        else:
            found.append(helper.make_node(operator, operands, [result]))
    return found


CURRENT = """
    li = Mul i_in alpha
    i = Add li x
    lv = Mul v_in beta
    u = Add lv i
    y = fires u one
    taken = Mul y one
    v = Sub u taken
"""
CURRENT_RESET = """
    again = fires v_in one
    li = Mul i_in alpha
    ci = Add li x
    i = Sub ci again
    lv = Mul v_in beta
    u = Add lv i
    v = Sub u again
    y = fires v one
"""
"""The near miss: spikes reset the current, too."""

ADAPTIVE = """
    raised = Mul a_in quarter
    level = Add raised half
    lv = Mul v_in beta
    u = Add lv x
    over = Sub u level
    y = fires over zero
    taken = Mul y level
    v = Sub u taken
    la = Mul a_in rho
    a = Add la y
"""
FACILITATED = ADAPTIVE.replace("level = Add raised half", "level = Sub half raised")
"""The near miss: spikes lower the threshold."""

HEARD = """
    heard = MatMul z_in w
    lv = Mul v_in beta
    cv = Add lv x
    u = Add cv heard
    y = fires u one
    v = Sub u y
    z = Identity y
"""
MEMBRANE_HEARD = HEARD.replace("z = Identity y", "z = Identity u")
"""The near miss: what is heard is the membrane."""

MULTI = """
    u = Add v_in x
    ratio = Div u half
    whole = Floor ratio
    y = Relu whole
    taken = Mul y half
    v = Sub u taken
"""
ROUNDED = MULTI.replace("Floor", "Round")
"""The near miss: rounded to the nearest."""

ADAPTIVE_SPIKING = """
    li = Mul i_in rho
    i = Add li x
    ls = Mul s_in alpha
    ci = Mul i quarter
    s = Add ls ci
    e = Mul est_in rho
    theta = Add r_in half
    bound = Mul theta half
    error = Sub s e
    y = fires error bound
    jump = Mul theta y
    est = Add e jump
    more = Mul jump half
    lr = Add r_in more
    r = Mul lr beta
"""
NOT_ADAPTING = """
    li = Mul i_in rho
    i = Add li x
    e = Mul est_in rho
    error = Sub i e
    y = fires error half
    est = Add e y
"""
"""The near miss: the threshold stays."""

OTHERS_HEARD = """
    heard = MatMul z_in w
    lv = Mul v_in beta
    cv = Add lv x
    u = Add cv heard
    f = fires u one
    v = Sub u f
    current = MatMul f w
    lm = Mul m_in alpha
    n = Add lm current
    y = fires n half
    m = Sub n y
    z = Identity y
"""
"""The near miss of recurrent: the first layer hears the second one, and so each hears itself through the
other."""

STEPS: dict[str, tuple[str, dict[str, int]]] = {
    "current": (CURRENT, {"cuba_lif, subtract, >": 2}),
    "current that is reset": (CURRENT_RESET, {"leaky": 1, "lif, subtract, >, delayed": 1}),
    "adaptive": (ADAPTIVE, {"adaptive_lif, subtract, >": 2}),
    "facilitated": (FACILITATED, {"leaky": 1, "lif, subtract, >": 1}),
    "recurrent": (HEARD, {"recurrent_lif, subtract, >": 1}),
    "hears the membrane": (MEMBRANE_HEARD, {"lif, subtract, >": 1}),
    "hears another layer": (OTHERS_HEARD, {"lif, subtract, >": 2}),
    "several spikes": (MULTI, {"multi_spike_if, multi, floor": 1}),
    "rounded": (ROUNDED, {"integrator": 1}),
    "adaptive spiking": (ADAPTIVE_SPIKING, {"adaptive_current": 2, "adaptive_spiking, subtract, >": 2}),
    "an estimate alone": (NOT_ADAPTING, {"cuba_lif, subtract, >": 2}),
}
"""By what it is: the step, and how often neurons are called what."""


def module_of(text: str, folder: Path) -> ModuleOp:
    """The step, its states carried: what is read as NAME_in and given as NAME."""
    states = sorted({word.removesuffix("_in") for word in text.split() if word.endswith("_in")})
    inputs = {name: SHAPE for name in ("x", *(f"{state}_in" for state in states))}
    model = make_model(nodes(text), inputs, ["y", *states], CONSTANTS)
    module = load_onnx(write(folder, model))
    carry_states(module, {f"{state}_in": state for state in states})
    return module


@pytest.mark.parametrize("name", STEPS)
def test_what_neurons_together_are_called(name: str, tmp_path: Path):
    text, expected = STEPS[name]
    x = np.round(np.random.default_rng(1).normal(0.2, 0.8, (60, *SHAPE)) * 64).astype(np.float32) / 64
    wanted = evaluate_steps(module_of(text, tmp_path), {"x": x})
    module, found = module_of(text, tmp_path), list[str]()

    def look(pass_name: str, module: ModuleOp) -> None:
        if pass_name == "recognize-neurons":
            found.extend(op.classification for op in module.walk() if isinstance(op, Neuron))

    run_pipeline(module, look)
    assert {kind: found.count(kind) for kind in found} == expected
    got = evaluate_steps(module, {"x": x})
    np.testing.assert_array_equal(got["y"], wanted["y"])
    for output, array in got.items():
        np.testing.assert_allclose(array, wanted[output], rtol=1e-4, atol=1e-5)
    assert 0.02 < np.mean(wanted["y"] > 0) < 0.98
