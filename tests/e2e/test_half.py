# SPDX-License-Identifier: Apache-2.0
"""Half precision where the target has no such type: casts are exact, other arithmetic is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from bnncc.diagnostics import BnnccError
from bnncc.driver import compile_model
from bnncc.options import Options
from tests.models import make_model, write


def compiled_cast(folder: Path, source: int, target: int, length: int):
    """A Cast between two types of numbers, as portable C."""
    model = make_model([helper.make_node("Cast", ["x"], ["y"], to=target)], {}, ["y"])
    model.graph.input.append(helper.make_tensor_value_info("x", source, [length]))
    options = Options(target="c", emit=("so",))
    return compile_model(write(folder, model), folder / "out", options)


def test_every_half_becomes_its_number(tmp_path: Path):
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    artifact = compiled_cast(tmp_path, TensorProto.FLOAT16, TensorProto.FLOAT, len(halves))
    got = artifact.run({"x": halves})["y"]
    np.testing.assert_array_equal(got, halves.astype(np.float32))
    assert np.array_equal(np.signbit(got), np.signbit(halves))


def test_numbers_become_the_nearest_half(tmp_path: Path):
    """All halves, all midpoints between two of them, and their neighbours on both sides."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[:-1] + halves[1:]) / np.float32(2)
    edges = np.array([65519.996, 65520, 1e38, np.inf, 1e-40, 2.0**-26], np.float32)
    near = np.concatenate([halves, middles, edges])
    near = np.concatenate([near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf))])
    numbers = np.concatenate([near, -near, np.array([np.nan], np.float32)])
    artifact = compiled_cast(tmp_path, TensorProto.FLOAT, TensorProto.FLOAT16, len(numbers))
    got = artifact.run({"x": numbers})["y"]
    with np.errstate(over="ignore"):
        expected = numbers.astype(np.float16)
    np.testing.assert_array_equal(got[:-1].view(np.uint16), expected[:-1].view(np.uint16))
    assert np.isnan(got[-1])


ARITHMETIC = {
    "Add": [helper.make_node("Add", ["x", "x"], ["y"], name="odd")],
    "Relu": [helper.make_node("Relu", ["x"], ["y"], name="odd")],
    "Greater": [helper.make_node("Greater", ["x", "one"], ["y"], name="odd")],
    "Pad": [helper.make_node("Pad", ["x", "sides", "one"], ["y"], name="odd")],
}


@pytest.mark.parametrize("operator", ARITHMETIC)
def test_other_arithmetic_is_refused_rather_than_done_on_the_bits(operator: str, tmp_path: Path):
    nodes: list[NodeProto] = ARITHMETIC[operator]
    constants = {"one": np.ones((), np.float16), "sides": np.array([1, 1])}
    model = make_model(nodes, {}, [], constants)
    model.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT16, [5]))
    model.graph.output.append(ValueInfoProto(name="y"))
    with pytest.raises(BnnccError) as caught:
        compile_model(write(tmp_path, model), tmp_path / "out", Options(target="c", emit=("lib",)))
    assert caught.value.location == "model.onnx:odd"
    assert f"{operator} cannot be computed in float16" in caught.value.message
    assert not (tmp_path / "out").exists()
