# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime's optimiser fuses means what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.frontend.evaluate import evaluate_model
from bnncc.frontend.onnx import load_onnx
from tests.models import make_model, write

RANDOM = np.random.default_rng(5)


def real(*shape: int) -> np.ndarray:
    """Random numbers."""
    return RANDOM.standard_normal(shape).astype(np.float32)


class Case(NamedTuple):
    """A fused node: operator, shape of its input, constants after it, attributes."""

    operator: str
    shape: tuple[int, ...]
    constants: tuple[np.ndarray | None, ...] = ()
    attributes: dict[str, Any] = {}  # noqa: RUF012
    domain: str = "com.microsoft"


IMAGE = (1, 4, 6, 5)
CONV = (real(6, 4, 3, 3), real(6))
PADS = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}

CASES = (
    Case("FusedConv", IMAGE, CONV, {**PADS, "activation": "Relu"}),
    Case("FusedConv", IMAGE, CONV[:1], {"strides": [2, 1], "activation": "Sigmoid"}),
    Case("FusedConv", IMAGE, CONV, {**PADS, "activation": "LeakyRelu", "activation_params": [0.25]}),
    Case("FusedConv", IMAGE, CONV, {**PADS, "activation": "Clip", "activation_params": [-0.5, 1.5]}),
    Case("FusedConv", IMAGE, CONV, {**PADS, "activation": "HardSigmoid", "activation_params": [0.25, 0.4]}),
    Case("FusedConv", IMAGE, (*CONV, real(1, 6, 6, 5)), {**PADS, "activation": "Relu"}),
    Case("FusedGemm", (2, 7), (real(5, 7), real(5)), {"transB": 1, "alpha": 0.5, "activation": "Relu"}),
    Case(
        "FusedGemm",
        (2, 7),
        (real(7, 5), real(5)),
        {"activation": "LeakyRelu", "activation_alpha": 0.5},
    ),
    Case("FusedMatMul", (2, 3, 7), (real(5, 7),), {"transB": 1, "alpha": 0.25}),
    Case("FusedMatMul", (3, 7), (real(7, 5),)),
    Case("Gelu", (2, 9)),
    Case("BiasGelu", (2, 9), (real(9),)),
    Case("FastGelu", (2, 9), (real(9),)),
    Case("QuickGelu", (2, 9), (), {"alpha": 1.5}),
)


def model_of(case: Case) -> ModelProto:
    """The model of one node."""
    given = {f"c{i}": array for i, array in enumerate(case.constants) if array is not None}
    inputs = ["x", *("" if array is None else f"c{i}" for i, array in enumerate(case.constants))]
    node = helper.make_node(case.operator, inputs, ["y"], "fused", domain=case.domain, **case.attributes)
    return make_model([node], {"x": case.shape}, ["y"], given, domains=[case.domain])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operator}-{len(case.constants)}")
def test_a_fused_node_is_written_out(case: Case, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    runtime.set_default_logger_severity(4)
    model, x = model_of(case), real(*case.shape)
    path = write(tmp_path, model)
    model.graph.output[0].type.tensor_type.elem_type = 1
    (expected,) = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(evaluate_model(path, {"x": x})["y"], expected, rtol=1e-5, atol=1e-5)
    nodes = [op for op in load_onnx(path).walk() if isinstance(op, ops.Onnx)]
    assert nodes and all(op.domain.data == "" for op in nodes)


UNKNOWN = (
    Case("FusedConv", IMAGE, CONV, {**PADS, "activation": "Softplus"}),
    Case("FusedMatMul", (3, 7), (real(3, 5),), {"transA": 1}),
    Case("QLinearReduceMean", (2, 3), (real(1),) * 4),
    Case("Conv", IMAGE, CONV, PADS, domain="com.microsoft.nchwc"),
)


@pytest.mark.parametrize("case", UNKNOWN, ids=lambda case: case.operator)
def test_what_is_for_its_own_kernels_is_refused(case: Case, tmp_path: Path) -> None:
    with pytest.raises(BnnccError, match=f"unknown operator {case.domain}::{case.operator}") as caught:
        load_onnx(write(tmp_path, model_of(case)))
    assert "before ONNX Runtime optimised it" in caught.value.hint


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_the_bias_of_a_product_of_bytes_has_its_scale(alpha: float, tmp_path: Path) -> None:
    """alpha * s_a * s_b, one for each column; the shape is square, so that rows would fit."""
    runtime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(5)
    constants = {
        "sa": np.float32(0.02),
        "za": np.uint8(3),
        "b": rng.integers(-127, 128, (4, 3)).astype(np.int8),
        "sb": np.array([0.01, 0.02, 0.03], np.float32),
        "zb": np.zeros(3, np.int8),
        "c": rng.integers(-500, 500, (3, 3)).astype(np.int32),
    }
    names = ["a", "sa", "za", "b", "sb", "zb", "c"]
    product = helper.make_node("QGemm", names, ["y"], domain="com.microsoft", alpha=alpha)
    model = make_model([product], {"a": [3, 4]}, ["y"], constants, domains=["com.microsoft"])
    for port, kind in ((model.graph.input[0], TensorProto.UINT8), (model.graph.output[0], TensorProto.FLOAT)):
        port.type.tensor_type.elem_type = kind
    a = rng.integers(0, 256, (3, 4)).astype(np.uint8)
    (expected,) = runtime.InferenceSession(model.SerializeToString()).run(None, {"a": a})
    np.testing.assert_allclose(evaluate_model(write(tmp_path, model), {"a": a})["y"], expected, rtol=1e-5)
