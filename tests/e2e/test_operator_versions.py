# SPDX-License-Identifier: Apache-2.0
"""Operators of older operator sets, and attributes and inputs that are seldom given: compiled, evaluated and
in ONNX Runtime the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from bnncc.diagnostics import BnnccError
from bnncc.driver import Options, compile_model, lower_model
from bnncc.frontend.evaluate import evaluate_model
from bnncc.kernels.opaque.expansion import EXPANSIONS
from tests.models import write

RANDOM = np.random.default_rng(3)
X = RANDOM.standard_normal((2, 3, 4)).astype(np.float32)
IMAGE = RANDOM.standard_normal((1, 4, 5, 6)).astype(np.float32)
NONE = np.zeros(0, np.float32)


class Case(NamedTuple):
    """A node: its operator, the input of the network that it reads, constants after it, its attributes."""

    operator: str
    x: np.ndarray
    constants: tuple[np.ndarray | None, ...] = ()
    attributes: dict[str, Any] = {}  # noqa: RUF012


def floats(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def integers(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


AS_IT_WAS = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
CROP = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
BY_SET = {
    8: [
        Case("Upsample", IMAGE, (), {"scales": [1.0, 1.0, 2.0, 3.0]}),
        Case("Upsample", IMAGE, (), {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "linear"}),
        Case("Pad", IMAGE, (), {"pads": [0, 0, 1, 2, 0, 0, 0, -1], "value": 1.5}),
        Case("Hardmax", X),
    ],
    9: [Case("Upsample", IMAGE, (floats(1, 1, 2, 1.5),))],
    10: [
        Case("Resize", IMAGE, (floats(1, 1, 2, 1.5),)),
        Case("Resize", IMAGE, (floats(1, 1, 1, 0.5),)),
        Case("Resize", IMAGE, (floats(1, 1, 2, 2),), {"mode": "linear"}),
    ],
    11: [
        Case("Resize", IMAGE, (NONE, NONE, integers(1, 4, 10, 12)), AS_IT_WAS),
        Case("Resize", IMAGE, (floats(0, 0, 0.2, 0.3, 1, 1, 0.8, 0.9), NONE, integers(1, 4, 4, 4)), CROP),
        Case("OneHot", integers(-1, 5, 0, -9), (integers(4), floats(2, 3)), {"axis": 0}),
        Case("OneHot", integers(-1, 3), (np.array(4), integers(2, 3)), {"axis": -2}),
        Case("Gather", X, (np.array([[-1, 0]]),), {"axis": -2}),
        Case("GatherElements", X, (np.array([[[-1, 0, 1, 2]]]),), {"axis": -2}),
        Case("GatherElements", np.tile(X, (1, 1, 20)), (np.array([[[-1], [0], [79]]] * 2),), {"axis": 2}),
        Case("Pad", IMAGE, (integers(0, 0, -1, 0, 0, 0, 1, -2),), {"mode": "reflect"}),
    ],
    18: [
        Case("Resize", IMAGE, (None, None, integers(12, 10)), {"axes": [3, 2]}),
        Case("Resize", IMAGE, (None, floats(2, 3)), {"axes": [2, 3], "mode": "linear"}),
        Case("Pad", IMAGE, (integers(1, 2, -1, 0), None, integers(-1, 2))),
        Case("Celu", X, (), {"alpha": 0.5}),
    ],
}


def network(opset: int, cases: Sequence[Case]) -> tuple[ModelProto, dict[str, np.ndarray]]:
    """One node of each case beside the others, and their inputs."""
    nodes, given, constants = [], {}, []
    for number, case in enumerate(cases):
        given[f"x{number}"] = case.x
        names = [f"x{number}"]
        for slot, array in enumerate(case.constants):
            names.append("" if array is None else f"c{number}_{slot}")
            constants += [] if array is None else [numpy_helper.from_array(array, names[-1])]
        nodes.append(helper.make_node(case.operator, names, [f"y{number}"], **case.attributes))
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in given.items()
    ]
    results = [ValueInfoProto(name=f"y{number}") for number in range(len(cases))]
    graph = helper.make_graph(nodes, "operators", ports, results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), given


@pytest.mark.parametrize("opset", BY_SET)
def test_operators_of_old_sets(opset: int, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model, given = network(opset, BY_SET[opset])
    path = write(tmp_path, model)
    expected = runtime.InferenceSession(model.SerializeToString()).run(None, given)
    evaluated, compiled = evaluate_model(path, given), compile_model(path, None, Options()).run(given)
    for case, (name, got), wanted in zip(BY_SET[opset], compiled.items(), expected, strict=True):
        for found in (evaluated[name], got):
            assert found.dtype == wanted.dtype, case
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5, err_msg=str(case))


@pytest.mark.parametrize("target", ["native", "c"])
def test_a_layer_that_is_quantised_as_it_runs(target: str, tmp_path: Path) -> None:
    """Nothing but zeros has a scale, too."""
    runtime = pytest.importorskip("onnxruntime")
    node = helper.make_node
    model, _ = network(13, [Case("DynamicQuantizeLinear", X)])
    constants = {"w": RANDOM.integers(-127, 128, (4, 5)).astype(np.int8), "sw": np.float32(0.01)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items())
    model.graph.node[0].output[:] = ["q", "s", "z"]
    model.graph.node.extend(
        [
            node("MatMulInteger", ["q", "w", "z"], ["sums"]),
            node("Cast", ["sums"], ["numbers"], to=TensorProto.FLOAT),
            node("Mul", ["s", "sw"], ["scale"]),
            node("Mul", ["numbers", "scale"], ["y0"]),
        ]
    )
    path = write(tmp_path, model)
    session = runtime.InferenceSession(model.SerializeToString())
    artifact = compile_model(path, None, Options(target=target))
    for x in (X, np.abs(X), np.zeros_like(X)):
        (expected,) = session.run(None, {"x0": x})
        np.testing.assert_array_equal(artifact.run({"x0": x})["y0"], expected)
        np.testing.assert_array_equal(evaluate_model(path, {"x0": x})["y0"], expected)


def test_swish_is_written_out(tmp_path: Path) -> None:
    """ONNX Runtime does not know it yet."""
    model, given = network(24, [Case("Swish", X, (), {"alpha": 0.5})])
    expected = X / (1 + np.exp(-0.5 * X))
    path = write(tmp_path, model)
    np.testing.assert_allclose(evaluate_model(path, given)["y0"], expected, rtol=1e-5)
    assert len(lower_model(path, Options()).program.steps) == 1


def test_a_pixel_that_no_set_names_is_refused(tmp_path: Path) -> None:
    """Set 10 says nothing of rounding, and runtimes differ where a picture shrinks by no whole number."""
    model, _ = network(10, [Case("Resize", IMAGE, (floats(1, 1, 0.6, 1),))])
    with pytest.raises(BnnccError, match="does not say which pixel"):
        compile_model(write(tmp_path, model), None, Options())


def test_results_of_another_type_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TVM's importer makes float64 of OneHot, which would be written beyond the memory of float32."""
    monkeypatch.delitem(EXPANSIONS, "OneHot")
    model, _ = network(11, [Case("OneHot", integers(1, 3), (np.array(4), floats(2, 3)))])
    with pytest.raises(BnnccError, match=r"float64\[2, 4\] instead of float32\[2, 4\]"):
        compile_model(write(tmp_path, model), None, Options())
