# SPDX-License-Identifier: Apache-2.0
"""ONNX's operators of integers, where `onnx.reference` is wrong: zero points by row, and halves."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from bnncc.diagnostics import BnnccError
from bnncc.driver import Options, compile_model, lower_model
from bnncc.frontend.evaluate import evaluate_model
from tests.models import write


@pytest.mark.parametrize(
    "operator,target", [("MatMulInteger", "native"), ("QLinearMatMul", "native"), ("QLinearMatMul", "c")]
)
def test_rows_have_zero_points_of_their_own(operator: str, target: str, tmp_path: Path) -> None:
    """The matrices are square, so that taking rows for columns fits, and is wrong."""
    rng = np.random.default_rng(8)
    a, b = rng.integers(0, 256, (4, 4)).astype(np.uint8), rng.integers(-128, 128, (4, 4)).astype(np.int8)
    za, zb, sa = (
        np.array([3, 200, 90, 9], np.uint8),
        np.array([1, -90, 5, 0], np.int8),
        np.array([2, 3, 4, 5], np.float32),
    )
    sums = (a.astype(np.int32) - za[:, None].astype(np.int32)) @ (b.astype(np.int32) - zb)
    if operator == "MatMulInteger":
        constants: dict[str, np.ndarray | np.float32] = {"za": za, "zb": zb}
        names, expected = ["a", "b", "za", "zb"], sums
    else:
        zy, sy = np.array([7, 9, 11, 13], np.uint8), np.array([1024, 512, 256, 4096], np.float32)
        constants = {"sa": sa, "za": za, "sb": np.float32(0.5), "zb": zb, "sy": sy, "zy": zy}
        names = ["a", "sa", "za", "b", "sb", "zb", "sy", "zy"]
        scaled = sums.astype(np.float32) * (sa * np.float32(0.5) / sy)[:, None]
        expected = np.clip(np.rint(scaled) + zy[:, None], 0, 255).astype(np.uint8)
    path = write(tmp_path, integers_model(operator, names, {"a": a, "b": b}, constants, expected.dtype))
    np.testing.assert_array_equal(evaluate_model(path, {"a": a, "b": b})["y"], expected)
    (got,) = compile_model(path, None, Options(target=target)).run({"a": a, "b": b}).values()
    np.testing.assert_array_equal(got, expected)


def integers_model(
    operator: str,
    names: list[str],
    given: dict[str, np.ndarray],
    constants: dict[str, np.ndarray | np.float32],
    result: np.dtype,
) -> ModelProto:
    """One operator of integers, its inputs as they are."""
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["y"], "integers")],
        "integers",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for n, x in given.items()
        ],
        [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(result), None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8)


@pytest.mark.parametrize("zero", [[1, 2, 3], [[1, 2, 3, 4]]])
def test_zero_points_that_are_not_of_rows(zero: list[object], tmp_path: Path) -> None:
    given = {"a": np.ones((4, 4), np.uint8), "b": np.ones((4, 4), np.int8)}
    zeros = np.array(zero, np.uint8)
    model = integers_model("MatMulInteger", ["a", "b", "z"], given, {"z": zeros}, np.dtype(np.int32))
    with pytest.raises(BnnccError, match=re.escape(f"left operand has shape {list(zeros.shape)}")):
        lower_model(write(tmp_path, model), Options())


@pytest.mark.parametrize("operator,is_constant", [("QLinearConv", True), ("QLinearMatMul", False)])
def test_halves_are_rounded_before_an_odd_zero_point_is_added(
    operator: str, is_constant: bool, tmp_path: Path
) -> None:
    """As the specification and ONNX Runtime have it: by the bytes of layers, and by plain loops."""
    runtime = pytest.importorskip("onnxruntime")
    shapes = ((16, 1), (1, 1)) if operator == "QLinearMatMul" else ((1, 1, 4, 4), (1, 1, 1, 1))
    a, b = np.arange(16, dtype=np.uint8).reshape(shapes[0]), np.ones(shapes[1], np.uint8)
    constants = {"s": np.float32(1), "h": np.float32(0.5), "z": np.uint8(0), "zy": np.uint8(7)}
    names = ["a", "h", "z", "b", "s", "z", "s", "zy"]
    given = {"a": a} if is_constant else {"a": a, "b": b}
    more = {"b": b} if is_constant else {}
    model = integers_model(operator, names, given, {**constants, **more}, np.dtype(np.uint8))
    (expected,) = runtime.InferenceSession(model.SerializeToString()).run(None, given)
    assert list(expected.flat[:4]) == [7, 7, 8, 9]
    path = write(tmp_path, model)
    np.testing.assert_array_equal(evaluate_model(path, given)["y"], expected)
    (got,) = compile_model(path, None, Options()).run(given).values()
    np.testing.assert_array_equal(got, expected)
