# SPDX-License-Identifier: Apache-2.0
"""Single ONNX nodes before and after convert-onnx, with every attribute that changes what they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnncc.dialect import operations as ops
from bnncc.dialect.parsing import make_context
from bnncc.frontend.onnx import load_onnx
from bnncc.passes.convert_onnx import ConvertOnnxPass
from bnncc.passes.fuse_epilogues import FuseEpiloguesPass
from bnncc.passes.simplify_layout import SimplifyLayoutPass
from bnncc.reference import evaluate

RANDOM = np.random.default_rng(3)


class Case(NamedTuple):
    """A node: operator, shape of its first input, constant inputs after it, attributes, opset."""

    operator: str
    shape: tuple[int, ...]
    constants: tuple[Any, ...] = ()
    attributes: dict[str, Any] = {}  # noqa: RUF012
    opset: int = 17
    domain: str = ""


def real(*shape: int) -> np.ndarray:
    """Random numbers."""
    return RANDOM.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    """Random numbers above 0."""
    return np.abs(real(*shape)) + np.float32(0.1)


def number(value: float) -> np.ndarray:
    """A scalar."""
    return np.asarray(value, np.float32)


IMAGE = (2, 4, 7, 8)
QONNX = "qonnx.custom_op.general"
CONV = (real(6, 4, 3, 2), real(6))
NORM = (real(4), real(4), real(4), positive(4))

CASES = (
    Case("Conv", IMAGE, CONV, {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}),
    Case("Conv", IMAGE, CONV, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    Case("Conv", IMAGE, CONV, {"auto_pad": "VALID"}),
    Case("Conv", IMAGE, (real(8, 1, 3, 3),), {"group": 4, "pads": [1, 1, 1, 1]}),
    Case("ConvTranspose", IMAGE, (real(4, 6, 3, 2), real(6)), {"pads": [1, 0, 2, 1], "dilations": [1, 2]}),
    Case("ConvTranspose", IMAGE, (real(4, 6, 4, 2), real(6)), {"strides": [2, 2], "pads": [1, 0, 1, 0]}),
    Case(
        "ConvTranspose",
        IMAGE,
        (real(4, 3, 3, 5), real(6)),
        {"strides": [2, 3], "pads": [1, 1, 1, 1], "output_padding": [1, 0], "group": 2},
    ),
    Case("ConvTranspose", IMAGE, (real(4, 1, 2, 2),), {"strides": [2, 2], "group": 4}),
    Case("MatMul", (2, 3, 9), (real(1, 9, 4),)),
    Case("MatMul", (2, 3, 9), (real(2, 9, 4),)),
    Case("ConvTranspose", (2, 4, 7), (real(4, 3, 5), real(3)), {"strides": [2], "pads": [2, 1]}),
    Case("Conv", (1, 4, 9), (real(2, 4, 3), real(2)), {"pads": [2, 1], "strides": [2]}),
    Case("Gemm", (3, 5), (real(5, 4), real(4)), {"alpha": 0.5, "beta": 2.0}),
    Case("Gemm", (5, 3), (real(4, 5), real(3, 1)), {"transA": 1, "transB": 1}),
    Case("Gemm", (3, 5), (real(5, 4),)),
    Case("MatMul", (2, 3, 5), (real(5, 4),)),
    Case("BatchNormalization", IMAGE, NORM, {"epsilon": 1e-3}),
    Case("BatchNormalization", (3, 4), NORM),
    Case("BatchNormalization", (3, 4, 5), NORM),
    Case("MaxPool", IMAGE, (), {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    Case("MaxPool", IMAGE, (), {"kernel_shape": [2, 2], "strides": [2, 3], "ceil_mode": 1}),
    Case("MaxPool", IMAGE, (), {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    Case("MaxPool", IMAGE, (), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case("MaxPool", (1, 2, 9), (), {"kernel_shape": [3], "strides": [2], "pads": [1, 0]}),
    # A third window would begin behind the image, in its pad, which onnx's inference overlooks.
    Case(
        "MaxPool",
        (1, 2, 3, 4),
        (),
        {"kernel_shape": [2, 1], "strides": [3, 1], "pads": [0, 0, 1, 0], "ceil_mode": 1},
    ),
    Case("AveragePool", IMAGE, (), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    Case("AveragePool", IMAGE, (), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    Case("AveragePool", IMAGE, (), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    Case(
        "AveragePool",
        (1, 1, 6, 6),
        (),
        {
            "kernel_shape": [3, 3],
            "strides": [2, 2],
            "pads": [1, 1, 0, 0],
            "ceil_mode": 1,
            "count_include_pad": 1,
        },
    ),
    Case("GlobalAveragePool", IMAGE),
    Case("GlobalMaxPool", IMAGE),
    Case("ReduceMean", IMAGE, (), {"axes": [1], "keepdims": 1}),
    Case("ReduceMean", IMAGE, (), {"axes": [-2, -1], "keepdims": 0}),
    Case("ReduceMean", IMAGE, (), {"axes": [1, 2], "keepdims": 0}),
    Case("ReduceMean", (2, 5), (np.array([1]),), {"keepdims": 0}, opset=18),
    Case("Softmax", (2, 3, 4), (), {"axis": 1}),
    Case("Softmax", (2, 3, 4), (), {"axis": 1}, opset=11),
    Case("LogSoftmax", (2, 5)),
    Case("LogSoftmax", (2, 3, 4), (), {"axis": 1}),
    Case("LogSoftmax", (2, 3, 4), (), {"axis": 1}, opset=11),
    Case("Clip", (2, 5), (number(-0.5), number(0.5))),
    Case("Clip", (2, 5), (None, number(0.5))),
    Case("Clip", (2, 5), (), {"min": -0.25}, opset=10),
    Case("PRelu", IMAGE, (real(4, 1, 1),)),
    Case("LeakyRelu", (2, 5), (), {"alpha": 0.25}),
    Case("HardSigmoid", (2, 5), (), {"alpha": 0.5}),
    Case("HardSwish", (2, 5)),
    Case("Reciprocal", (2, 5)),
    Case("Pow", (2, 5), (number(2.0),)),
    Case("Pow", (2, 5), (np.asarray(3, np.int64),)),
    *(
        Case(name, (2, 5))
        for name in ("Relu", "Sigmoid", "Tanh", "Exp", "Neg", "Abs", "Round", "Floor", "Ceil", "Erf", "Sign")
    ),
    *(Case(name, IMAGE, (real(4, 1, 1),)) for name in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum")),
    Case("Max", (2, 5), (real(5), real(2, 1))),
    Case("Flatten", IMAGE, (), {"axis": 2}),
    Case("Reshape", IMAGE, (np.array([0, -1]),)),
    Case("Squeeze", (2, 1, 3, 1), (np.array([1]),)),
    Case("Unsqueeze", (2, 3), (np.array([1]),)),
    Case("Transpose", (2, 3, 4)),
    Case("Pad", IMAGE, (np.array([0, 0, 1, 2, 0, 0, 3, 4]), number(-1.0))),
    Case("Pad", IMAGE, (np.array([1, 2]), number(0.5), np.array([-1])), opset=18),
    Case("Pad", IMAGE, (), {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": 2.0}, opset=10),
    Case("Concat", IMAGE, (real(2, 3, 7, 8),), {"axis": -3}),
    Case("BipolarQuant", IMAGE, (number(0.5),), domain=QONNX),
    Case("Quant", IMAGE, (number(0.25), number(0.0), number(4.0)), {"narrow": 1}, domain=QONNX),
    Case("MultiThreshold", IMAGE, (np.sort(real(4, 3)),), {"out_scale": 0.5, "out_bias": -1.0}, domain=QONNX),
    Case("MultiThreshold", IMAGE, (np.sort(real(8, 2)),), {"data_layout": "NHWC"}, domain=QONNX),
    Case("MultiThreshold", (2, 4), (np.sort(real(1, 7)),), {"data_layout": "NC"}, domain=QONNX),
    Case("XnorPopcountMatMul", (2, 9), ((real(9, 3) > 0).astype(np.float32),), domain=QONNX),
    Case("Quant", IMAGE, (number(0.25), number(1.0), number(3.0)), {"signed": 0}, domain=QONNX),
    Case("Quant", IMAGE, (number(0.25), number(0.0), number(1.0)), {"signed": 1}, domain=QONNX),
    Case("Quant", IMAGE, (number(0.5), number(0.0), number(4.0)), {"rounding_mode": "FLOOR"}, domain=QONNX),
)


def model_of(case: Case) -> onnx.ModelProto:
    """The model of one node."""
    constants = [
        numpy_helper.from_array(array, f"c{i}") for i, array in enumerate(case.constants) if array is not None
    ]
    inputs = ["x", *("" if array is None else f"c{i}" for i, array in enumerate(case.constants))]
    node = helper.make_node(case.operator, inputs, ["y"], "node", domain=case.domain, **case.attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, case.shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", [x], [y], constants)
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid(QONNX, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operator}-{case.opset}")
def test_node(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model_of(case), path)
    module = load_onnx(path)
    x = real(*case.shape)
    x.flat[:2] = 0.0
    (expected,) = evaluate(module, {"x": x}).values()
    for kind in (ConvertOnnxPass, SimplifyLayoutPass, FuseEpiloguesPass):
        kind().apply(make_context(), module)
        module.verify()
        assert not any(isinstance(op, ops.Onnx) for op in module.walk()), str(module)
        (got,) = evaluate(module, {"x": x}).values()
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5, err_msg=f"after {kind.name}")


def test_logarithms_of_what_softmax_rounds_to_zero(tmp_path: Path) -> None:
    """Sums of bits are far apart: e^-300 is 0 in float32, its logarithm -300 nevertheless."""
    path = tmp_path / "model.onnx"
    onnx.save(model_of(Case("LogSoftmax", (1, 3))), path)
    module, x = load_onnx(path), np.array([[300, 0, -50]], np.float32)
    for kind in (None, ConvertOnnxPass):
        if kind is not None:
            kind().apply(make_context(), module)
        (got,) = evaluate(module, {"x": x}).values()
        np.testing.assert_array_equal(got, [[0, -300, -350]])
