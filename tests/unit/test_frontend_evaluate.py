# SPDX-License-Identifier: Apache-2.0
"""The evaluation that networks are held against, itself held against onnx.reference and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import NodeProto, helper
from onnx.reference import ReferenceEvaluator

from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.frontend import qonnx
from bnncc.frontend.evaluate import ModelEvaluator, evaluate_model, evaluate_node
from tests.models import make_model, real, whole, write

node = helper.make_node


def runtime(
    nodes: list[NodeProto], inputs: Mapping[str, np.ndarray], outputs: list[str], opset: int
) -> list[np.ndarray]:
    """What ONNX Runtime computes, nothing optimised."""
    model = make_model(nodes, {name: value.shape for name, value in inputs.items()}, outputs, opset=opset)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(value) for value in session.run(outputs, dict(inputs))]


def agree(proto: NodeProto, opset: int, *inputs: np.ndarray) -> np.ndarray:
    """Check one node against ONNX Runtime; the value."""
    (got,) = evaluate_node(proto, opset, inputs)
    (expected,) = runtime([proto], dict(zip(proto.input, inputs, strict=True)), list(proto.output), opset)
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    return got


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


# --- convolution and pooling -----------------------------------------------------------------------------

CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 7, 9), (4, 3, 3, 3), {}),
    ((1, 3, 8, 9), (4, 3, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 3]}),
    ((1, 3, 11, 10), (4, 3, 3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
    ((2, 6, 7, 7), (4, 3, 3, 3), {"group": 2}),
    ((2, 6, 7, 7), (6, 1, 3, 3), {"group": 6, "strides": [2, 1], "pads": [1, 1, 1, 1]}),
    ((1, 4, 7, 7), (8, 1, 3, 3), {"group": 4, "dilations": [2, 1]}),
    ((1, 2, 8, 7), (3, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((1, 2, 8, 7), (3, 2, 4, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ((1, 2, 8, 7), (3, 2, 3, 3), {"auto_pad": "VALID", "kernel_shape": [3, 3]}),
    ((2, 3, 12), (4, 3, 5), {"pads": [2, 1], "strides": [2]}),
    ((1, 2, 5, 6, 4), (3, 2, 3, 2, 2), {"pads": [1, 0, 1, 1, 0, 1]}),
]


@pytest.mark.parametrize(("image", "weight", "attributes"), CONVOLUTIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_conv(image: tuple, weight: tuple, attributes: dict, bias: bool) -> None:
    extra = [noise(weight[0])] if bias else []
    proto = node("Conv", ["x", "w", *(["b"] if bias else [])], ["y"], **attributes)
    agree(proto, 17, noise(*image), noise(*weight), *extra)


POOLS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 8, 7), {"kernel_shape": [2, 2]}),
    ((1, 2, 8, 7), {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    ((1, 2, 8, 7), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ((1, 2, 6, 6), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ((1, 1, 4, 5), {"kernel_shape": [1, 2], "strides": [3, 3], "pads": [0, 0, 0, 1], "ceil_mode": 1}),
    ((1, 2, 8, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 8, 7), {"kernel_shape": [2, 4], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ((1, 2, 8, 7), {"kernel_shape": [3, 3], "auto_pad": "VALID"}),
    ((1, 2, 9), {"kernel_shape": [3], "strides": [2]}),
    ((1, 2, 4, 5, 6), {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2]}),
]


@pytest.mark.parametrize(("image", "attributes"), POOLS)
def test_max_pool(image: tuple, attributes: dict) -> None:
    # All values negative: a padding of 0 would win.
    agree(node("MaxPool", ["x"], ["y"], **attributes), 17, noise(*image) - 10)


def test_max_pool_with_dilations() -> None:
    agree(node("MaxPool", ["x"], ["y"], kernel_shape=[2, 3], dilations=[3, 2]), 17, noise(1, 2, 8, 9))


def test_max_pool_of_bytes() -> None:
    x = np.random.default_rng(0).integers(-100, 100, (1, 2, 5, 5)).astype(np.int8)
    proto = node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], pads=[1, 1, 0, 0])
    (y,) = evaluate_node(proto, 17, [x])
    assert y.dtype == np.int8 and y[0, 0, 1, 1] == x[0, 0, :2, :2].max() and y[0, 0, 0, 0] == x[0, 0, 0, 0]


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 0, 1]])
def test_max_pool_with_indices(order: int, pads: list[int]) -> None:
    attributes = {"kernel_shape": [2, 3], "strides": [1, 2], "pads": pads, "storage_order": order}
    proto = node("MaxPool", ["x"], ["y", "i"], **attributes)
    x = noise(2, 3, 5, 6)
    for got, expected in zip(
        evaluate_node(proto, 17, [x]), runtime([proto], {"x": x}, ["y", "i"], 17), strict=True
    ):
        assert got.dtype == expected.dtype and np.array_equal(got, expected)


@pytest.mark.parametrize(("image", "attributes"), POOLS)
@pytest.mark.parametrize("count", [0, 1])
def test_average_pool(image: tuple, attributes: dict, count: int) -> None:
    agree(node("AveragePool", ["x"], ["y"], count_include_pad=count, **attributes), 17, noise(*image) + 5)


def test_half_precision_sums_in_single() -> None:
    x, w = np.full((1, 3000, 1, 1), 1, np.float16), np.full((1, 3000, 1, 1), 1, np.float16)
    (y,) = evaluate_node(node("Conv", ["x", "w"], ["y"]), 17, [x, w])
    assert y.dtype == np.float16 and y.item() == 3000  # float16 alone stops at 2048


# --- versions of operators -------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 14, 15, 17])
def test_batch_normalization_never_trains(opset: int) -> None:
    x, (scale, bias, mean) = noise(2, 3, 4, 4), noise(3, 3)
    var = np.abs(noise(3)) + 0.1
    proto = node("BatchNormalization", list("xsbmv"), ["y"], epsilon=1e-3)
    got = agree(proto, opset, x, scale, bias, mean, var)
    # Negative control: the statistics of the batch itself give something else.
    own = (x - x.mean((0, 2, 3), keepdims=True)) / x.std((0, 2, 3), keepdims=True)
    assert not np.allclose(got, scale[:, None, None] * own + bias[:, None, None], atol=1e-2)


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(("opset", "axis"), [(11, None), (11, 2), (11, -1), (13, None), (13, 1)])
def test_softmax_before_and_after_version_13(operator: str, opset: int, axis: int | None) -> None:
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    agree(node(operator, ["x"], ["y"], **attributes), opset, noise(2, 3, 4, 5))


def test_softmax_before_version_13_is_another() -> None:
    x = noise(2, 3, 4)
    old, new = (evaluate_node(node("Softmax", ["x"], ["y"]), opset, [x])[0] for opset in (11, 13))
    assert not np.allclose(old, new)


@pytest.mark.parametrize(("opset", "attributes"), [(7, {"min": -0.5, "max": 0.25}), (10, {"max": 0.25})])
def test_old_clip(opset: int, attributes: dict) -> None:
    agree(node("Clip", ["x"], ["y"], **attributes), opset, noise(3, 4))


@pytest.mark.parametrize(
    "proto",
    [
        node("Gemm", ["x", "w", "b"], ["y"], alpha=0.5, beta=2.0, transA=1, transB=1),
        node("PRelu", ["x", "s"], ["y"]),
        node("Round", ["x"], ["y"]),
        node("HardSigmoid", ["x"], ["y"]),
        node("Pad", ["x", "p"], ["y"], mode="reflect"),
        node("GlobalAveragePool", ["x4"], ["y"]),
        node("HardSwish", ["x"], ["y"]),
    ],
    ids=lambda proto: proto.op_type,
)
def test_the_rest_is_onnx_reference(proto: NodeProto) -> None:
    """Everything else, functions with a body among it, comes out as onnx.reference has it."""
    values = {"x": noise(4, 6), "w": noise(5, 4), "b": noise(6, 5), "s": noise(6), "x4": noise(1, 2, 3, 3)}
    values["p"] = whole([1, 0, 0, 2])
    inputs = [values[name] for name in proto.input]
    (got,) = evaluate_node(proto, 17, inputs)
    model = make_model([proto], {name: None for name in proto.input}, ["y"], opset=17)  # type: ignore[dict-item]
    (expected,) = ReferenceEvaluator(model).run(None, dict(zip(proto.input, inputs, strict=True)))
    assert np.array_equal(got, expected)


def test_optional_inputs_may_be_left_out() -> None:
    proto = node("Clip", ["x", "", "high"], ["y"])
    (got,) = evaluate_node(proto, 17, [real([-3, 3]), None, real(1)])
    assert got.tolist() == [-3, 1]
    (doubled,) = evaluate_node(node("Add", ["x", "x"], ["y"]), 17, [real([1]), real([1])])
    assert doubled.tolist() == [2]


# --- QONNX -----------------------------------------------------------------------------------------------


def test_bipolar_quant() -> None:
    x = real([[-2, -0.0, 0.0], [1e-40, -1e-40, 5]])
    proto = node("BipolarQuant", ["x", "s"], ["y"], domain="onnx.brevitas")
    (got,) = evaluate_node(proto, 1, [x, real([[2], [0.5]])])
    assert got.dtype == np.float32
    assert got.tolist() == [[-2, 2, 2], [0.5, -0.5, 0.5]]


def quantise(x: list[float], scale: float, zero: float, bits: float, **attributes: Any) -> list[float]:
    proto = node("Quant", list("xszb"), ["y"], domain="qonnx.custom_op.general", **attributes)
    (got,) = evaluate_node(proto, 1, [real(x), real(scale), real(zero), real(bits)])
    assert got.dtype == np.float32
    return got.tolist()


@pytest.mark.parametrize(
    ("attributes", "bits", "expected"),
    [
        ({"signed": 1, "narrow": 0}, 8, [-128, -128, 0, 127]),
        ({"signed": 1, "narrow": 1}, 8, [-127, -127, 0, 127]),
        ({"signed": 0, "narrow": 0}, 8, [0, 0, 0, 255]),
        ({"signed": 0, "narrow": 1}, 8, [0, 0, 0, 254]),
        ({"signed": 1, "narrow": 1}, 2, [-1, -1, 0, 1]),
        ({"signed": 1, "narrow": 0}, 1, [-1, -1, 1, 1]),
        ({"signed": 0, "narrow": 0}, 1, [0, 0, 0, 1]),
    ],
)
def test_quant_ranges(attributes: dict, bits: int, expected: list[float]) -> None:
    assert quantise([-1000, -200, 0, 1000], 1, 0, bits, **attributes) == expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("ROUND", [-2, -2, 0, 0, 1, 2, 2]),
        ("HALF_EVEN", [-2, -2, 0, 0, 1, 2, 2]),
        ("CEIL", [-2, -1, 0, 1, 1, 2, 3]),
        ("FLOOR", [-3, -2, -1, 0, 0, 1, 2]),
        ("UP", [-3, -2, -1, 1, 1, 2, 3]),
        ("DOWN", [-2, -1, 0, 0, 0, 1, 2]),
        ("HALF_UP", [-3, -2, -1, 1, 1, 2, 3]),
        ("HALF_DOWN", [-2, -1, 0, 0, 1, 1, 2]),
        ("half_down", [-2, -1, 0, 0, 1, 1, 2]),
    ],
)
def test_quant_rounding(mode: str, expected: list[float]) -> None:
    x = [-2.5, -1.5, -0.5, 0.5, 0.75, 1.5, 2.5]
    assert quantise(x, 1, 0, 8, signed=1, narrow=0, rounding_mode=mode) == expected


def test_quant_scale_and_zero_point() -> None:
    # (x / 0.25 + 3) rounded to 0..15, then (q - 3) * 0.25
    assert quantise([-9, -0.3, 0.0, 0.3, 9], 0.25, 3, 4, signed=0, narrow=0) == [-0.75, -0.25, 0.0, 0.25, 3.0]


@pytest.mark.parametrize(("mode", "bits"), [("SIDEWAYS", 8), ("ROUND", 0), ("ROUND", 64)])
def test_quant_refuses(mode: str, bits: int) -> None:
    with pytest.raises(ValueError, match=r"rounding mode|bit width"):
        qonnx.quant(real([1]), real(1), real(0), real(bits), rounding=mode)


def test_multi_threshold() -> None:
    x = real([[0.0, 0.5], [1.0, 2.0]])[:, :, None, None]
    thresholds = real([[0.0, 1.0], [0.6, 1.9]])
    proto = node(
        "MultiThreshold", ["x", "t"], ["y"], domain="finn.custom_op.general", out_scale=2.0, out_bias=-1.0
    )
    (got,) = evaluate_node(proto, 1, [x, thresholds])
    assert got.dtype == np.float32
    assert got[:, :, 0, 0].tolist() == [[1, -1], [3, 3]]
    (last,) = evaluate_node(
        node("MultiThreshold", ["x", "t"], ["y"], domain="finn.custom_op.general", data_layout="NHWC"),
        1,
        [np.moveaxis(x, 1, -1), thresholds],
    )
    assert last[:, 0, 0].tolist() == [[1, 0], [2, 2]]
    (shared,) = evaluate_node(
        node("MultiThreshold", ["x", "t"], ["y"], domain="finn.custom_op.general"), 1, [x, thresholds[:1]]
    )
    assert shared[:, :, 0, 0].tolist() == [[1, 1], [2, 2]]


def test_multi_threshold_refuses_other_channel_counts() -> None:
    with pytest.raises(ValueError, match="do not fit 2 channels"):
        qonnx.multi_threshold(noise(1, 2, 3), noise(3, 4))


# --- whole models ----------------------------------------------------------------------------------------


def chain() -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        node("Sign", ["n"], ["t"]),
        node("Identity", ["t"], ["i"]),
        node("MaxPool", ["i"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    constants = {"w": noise(4, 3, 3, 3), "s": noise(4), "b": noise(5)[:4], "m": noise(6)[:4]}
    return nodes, {**constants, "v": np.abs(noise(4)) + 0.5}


def test_every_tensor_of_a_model(tmp_path: Path) -> None:
    nodes, constants = chain()
    model = make_model(nodes, {"x": ["N", 3, 6, 6]}, ["y"], constants)
    x = noise(2, 3, 6, 6)
    values = evaluate_model(write(tmp_path, model), {"x": x}, {"N": 2})
    assert set(values) == {"x", *constants, "c", "n", "t", "i", "y"}
    inputs = {"x": x, **constants}
    expected = runtime(nodes, inputs, ["c", "n", "t", "i", "y"], 17)
    for name, value in zip(["c", "n", "t", "i", "y"], expected, strict=True):
        np.testing.assert_allclose(values[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def test_one_evaluator_serves_many_samples(tmp_path: Path) -> None:
    nodes, constants = chain()
    path = write(tmp_path, make_model(nodes, {"x": ["N", 3, 6, 6]}, ["y"], constants))
    evaluator = ModelEvaluator(path)
    x = noise(2, 3, 6, 6)
    both = evaluate_model(path, {"x": x}, {"N": 2})["y"]
    for i in range(2):
        assert np.array_equal(evaluator({"x": x[i : i + 1]})["y"], both[i : i + 1])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "no value for the input 'x', float32[1, 3, 6, 6]"),
        ({"x": noise(1, 3, 6, 5)}, "the input 'x' is float32[1, 3, 6, 5], expected float32[1, 3, 6, 6]"),
        ({"x": np.zeros((1, 3, 6, 6))}, "the input 'x' is float64[1, 3, 6, 6], expected"),
        ({"x": noise(1, 3, 6, 6), "z": noise(1)}, "the model has no input 'z'"),
        ({"x": noise(1, 3, 6, 6), "w": noise(4, 3, 3, 3)}, "the model has no input 'w'"),
    ],
)
def test_inputs_that_do_not_fit(tmp_path: Path, inputs: dict, message: str) -> None:
    nodes, constants = chain()
    path = write(tmp_path, make_model(nodes, {"x": ["N", 3, 6, 6]}, ["y"], constants))
    with pytest.raises(BnnccError) as caught:
        evaluate_model(path, inputs)
    assert message in caught.value.message and caught.value.exit_code == ExitCode.USER


def test_a_node_that_nobody_can_evaluate(tmp_path: Path) -> None:
    nodes = [node("Resize", ["x", "", "s"], ["y"], mode="nearest", antialias=1, name="up")]
    model = make_model(nodes, {"x": [1, 1, 2, 2]}, ["y"], {"s": real([1, 1, 2, 2])}, opset=18)
    with pytest.raises(BnnccError, match=r"model\.onnx:up: Resize cannot be evaluated") as caught:
        evaluate_model(write(tmp_path, model), {"x": noise(1, 1, 2, 2)})
    assert caught.value.exit_code == ExitCode.FAILURE
