# SPDX-License-Identifier: Apache-2.0
"""Quantised ONNX graphs are computed in integers, and give what `onnx.reference` says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from bnncc import driver, targets, verify
from bnncc.driver import Options, lower_model
from bnncc.execution.artifact import Artifact
from bnncc.frontend.evaluate import evaluate_model
from bnncc.plan.kernel import ByteConv, Pool
from tests.models import make_model, write
from tests.quantized import images, quantised, quantised_conv

node = helper.make_node

TARGETS = ("native", "x86-64-v3", "x86-64-v2", "c")


def built(path: Path, target: str = "native") -> Artifact:
    """The library of a model."""
    if not targets.load(target).runs_here():
        pytest.skip(f"this machine is no {target}")
    return driver.compile_model(path, None, Options(target=target))


def domains(path: Path) -> list[str]:
    """Of the contractions."""
    return [step.domains for step in lower_model(path, Options()).program.steps if step.domains]


def roots(path: Path) -> list[str]:
    """Of the steps that compute."""
    steps = lower_model(path, Options()).program.steps
    return [type(step.kernel.root).__name__ for step in steps if step.operation != "halo"]


def samples(shape: tuple[int, ...], count: int = 3) -> list[np.ndarray]:
    """Inputs of a few units around 0, ties of the quantiser among them."""
    rng = np.random.default_rng(2)
    return [(rng.integers(-300, 300, shape) / 64).astype(np.float32) for _ in range(count)]


def check_exactly(path: Path, target: str, shape: tuple[int, ...]) -> None:
    """Every output is the reference's, bit for bit."""
    artifact = built(path, target)
    for x in samples(shape):
        expected, got = evaluate_model(path, {"x": x}), artifact.run({"x": x})
        for name, array in got.items():
            np.testing.assert_array_equal(array, expected[name])
            assert len(np.unique(array)) > 20


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("zero", [0, 100, 128])
def test_scales_that_are_powers_of_two_are_exact(zero: int, target: str, tmp_path: Path) -> None:
    path = write(tmp_path, quantised_conv(zero=zero))
    assert domains(path) == [f"{['u8', '-100..155', 's8'][(0, 100, 128).index(zero)]} x s8"]
    check_exactly(path, target, (1, 8, 7, 9))


@pytest.mark.parametrize("by_channel", [True, False])
def test_signed_activations(by_channel: bool, tmp_path: Path) -> None:
    path = write(tmp_path, quantised_conv(zero=-3, element=np.int8, by_channel=by_channel))
    assert domains(path) == ["-125..130 x s8"]
    check_exactly(path, "native", (1, 8, 7, 9))


@pytest.mark.parametrize("target", ["native", "c"])
def test_groups_of_channels(target: str, tmp_path: Path) -> None:
    path = write(tmp_path, quantised_conv(zero=100, groups=4))
    assert domains(path) == ["-100..155 x s8"]
    check_exactly(path, target, (1, 8, 7, 9))


def test_between_two_layers_there_are_bytes_only(tmp_path: Path) -> None:
    program = lower_model(quantised(tmp_path, "QDQ", "QUInt8", True), Options()).program
    inner = [step for step in program.steps if isinstance(step.kernel.root, ByteConv)]
    assert len(inner) >= 3
    for step in inner[:-2]:
        assert [output.layout.element for output in step.kernel.outputs] == ["u8"], step.name


def test_real_activations_stay_real(tmp_path: Path) -> None:
    """A near miss: weights that were quantised, activations that were not."""
    model = quantised_conv()
    del model.graph.node[:2]
    for inner in model.graph.node:
        inner.input[:] = ["x" if name == "dx" else name for name in inner.input]
    path = write(tmp_path, model)
    assert domains(path) == ["f32 x f32"]


def test_weights_of_too_many_levels_stay_real(tmp_path: Path) -> None:
    model = quantised_conv()
    keep = [n for n in model.graph.node if n.name != "weight"]
    del model.graph.node[:]
    model.graph.node.extend(keep)
    weight = np.random.default_rng(1).standard_normal((12, 8, 3, 3)).astype(np.float32)
    (old,) = [i for i in model.graph.initializer if i.name == "w"]
    model.graph.initializer.remove(old)
    model.graph.initializer.append(numpy_helper.from_array(weight, "dw"))
    path = write(tmp_path, model)
    assert domains(path) == ["f32 x f32"]


FORMS = [("QDQ", "QUInt8", True), ("QDQ", "QInt8", False), ("QOperator", "QUInt8", True)]


@pytest.mark.parametrize(
    "form,activation,by_channel,target",
    [
        (*FORMS[0], "native"),
        (*FORMS[0], "c"),
        (*FORMS[1], "x86-64-v3"),
        (*FORMS[2], "native"),
        (*FORMS[2], "aarch64"),
    ],
)
def test_networks_of_the_quantising_tool(
    form: str, activation: str, by_channel: bool, target: str, tmp_path: Path
) -> None:
    path = quantised(tmp_path, form, activation, by_channel)
    given = np.concatenate([batch["x"] for batch in images(1 if target == "aarch64" else 3, 5)])
    report = verify.verify_model(path, Options(target=target), {"x": given})
    assert report.passed, report.render()
    found = domains(path)
    assert len(found) == 5 and all("x s8" in domain for domain in found), found


@pytest.mark.parametrize("form,activation,by_channel", FORMS)
def test_they_agree_with_onnx_runtime(form: str, activation: str, by_channel: bool, tmp_path: Path) -> None:
    """Its optimisations switched off. The output is quantised: a step of it, where a sum was rounded."""
    runtime = pytest.importorskip("onnxruntime")
    path = quantised(tmp_path, form, activation, by_channel)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session, artifact = runtime.InferenceSession(str(path), options), built(path)
    for batch in images(5, 9):
        (expected,) = session.run(None, batch)
        (got,) = artifact.run(batch).values()
        step = np.abs(expected).max() / 64
        assert np.abs(got - expected).max() <= step


def integer_model(operator: str, element: type[np.generic]) -> tuple[ModelProto, tuple[int, ...]]:
    """One operator of integers between bytes and their output."""
    rng, zero = np.random.default_rng(4), np.asarray(3, element)
    is_conv = operator.endswith("Conv") or operator == "ConvInteger"
    weight_shape = (10, 6, 3, 3) if is_conv else (40, 10)
    weight = rng.integers(-127, 128, weight_shape).astype(np.int8)
    shape = (1, 6, 8, 7) if is_conv else (5, 40)
    constants: dict[str, np.ndarray | np.float32] = {
        "sx": np.float32(1 / 16),
        "zx": zero,
        "w": weight,
        "sw": np.float32(1 / 32),
        "zw": np.asarray(0, np.int8),
        "sy": np.float32(1 / 2),
        "zy": np.asarray(21, element),
        "b": rng.integers(-900, 900, 10).astype(np.int32),
    }
    first = node("QuantizeLinear", ["x", "sx", "zx"], ["q"], "quantize")
    pads: dict[str, Any] = {"pads": [1, 1, 1, 1]} if is_conv else {}
    if operator in ("ConvInteger", "MatMulInteger"):
        inner = node(operator, ["q", "w", "zx"], ["y"], "integers", **pads)
    else:
        inputs = ["q", "sx", "zx", "w", "sw", "zw", "sy", "zy", *(["b"] if is_conv else [])]
        inner = node(operator, inputs, ["y"], "integers", **pads)
    return make_model([first, inner], {"x": shape}, ["y"], constants, opset=21), shape


@pytest.mark.parametrize("element", [np.uint8, np.int8])
@pytest.mark.parametrize("operator", ["ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"])
def test_operators_of_integers(operator: str, element: type[np.generic], tmp_path: Path) -> None:
    model, shape = integer_model(operator, element)
    path = write(tmp_path, model)
    assert roots(path)[:2] == ["Map", "ByteConv"]
    for target in ("native", "c"):
        check_exactly(path, target, shape)


def test_what_pools_and_joins_bytes_moves_bytes(tmp_path: Path) -> None:
    """A max pool between layers reads and writes bytes, at odd sizes and with padding."""
    model = quantised_conv()
    (requantize,) = [n for n in model.graph.node if n.name == "requantize"]
    rng = np.random.default_rng(9)
    weight = (rng.integers(-127, 128, (5, 12, 1, 1)) / 128).astype(np.float32)
    more = [
        node("DequantizeLinear", ["qy", "sy", "zy"], ["dy"], "inner"),
        node("MaxPool", ["dy"], ["m"], "pool", kernel_shape=[2, 3], strides=[1, 2], pads=[1, 1, 0, 1]),
        node("QuantizeLinear", ["m", "sy", "zy"], ["qm"], "again"),
        node("DequantizeLinear", ["qm", "sy", "zy"], ["dm"], "and_back"),
        node("Conv", ["dm", "v"], ["z"], "last"),
    ]
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer} | {"v": weight}
    nodes = [n for n in model.graph.node if n.name != "back"]
    path = write(tmp_path, make_model([*nodes, *more], {"x": [1, 8, 7, 9]}, ["z"], constants))
    assert requantize.output[0] == "qy"
    steps = lower_model(path, Options()).program.steps
    (pool,) = [step for step in steps if isinstance(step.kernel.root, Pool)]
    assert pool.kernel.inputs[0].element == "u8" and pool.operation == "max_pool 2x3 /1x2"
    for target in ("native", "x86-64-v2", "c"):
        check_exactly(path, target, (1, 8, 7, 9))


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("zero", [0, 100, 128])
def test_means_read_bytes(zero: int, counted: int, tmp_path: Path) -> None:
    """Average pools and the mean of an image sum bytes; padding counts as 0, whatever the zero point is."""
    model = quantised_conv(zero=zero)
    window: dict[str, Any] = {"kernel_shape": [2, 3], "strides": [1, 2], "pads": [1, 1, 0, 1]}
    more = [
        node("DequantizeLinear", ["qy", "sy", "zy"], ["dy"], "inner"),
        node("AveragePool", ["dy"], ["m"], "average", count_include_pad=counted, **window),
        node("GlobalAveragePool", ["dy"], ["g"], "mean"),
    ]
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.name != "back"]
    path = write(tmp_path, make_model([*nodes, *more], {"x": [1, 8, 7, 9]}, ["m", "g"], constants))
    pools = [s.kernel for s in lower_model(path, Options()).program.steps if isinstance(s.kernel.root, Pool)]
    assert [pool.inputs[0].element for pool in pools] == ["u8", "u8"]
    for target in ("native", "x86-64-v2", "c"):
        given = {"x": samples((1, 8, 7, 9), 1)[0]}
        expected, got = evaluate_model(path, given), built(path, target).run(given)
        for name in ("m", "g"):
            np.testing.assert_allclose(got[name], expected[name], rtol=3e-7)


def test_means_of_numbers_read_numbers(tmp_path: Path) -> None:
    """A near miss: what was never rounded to bytes."""
    nodes = [node("Relu", ["x"], ["r"], "relu"), node("GlobalAveragePool", ["r"], ["g"], "mean")]
    path = write(tmp_path, make_model(nodes, {"x": [1, 8, 7, 9]}, ["g"], {}))
    (pool,) = [s for s in lower_model(path, Options()).program.steps if isinstance(s.kernel.root, Pool)]
    assert pool.kernel.inputs[0].element == "f32"


JOINED: dict[str, list[str]] = {
    "QLinearAdd": ["q", "s", "z", "c", "s", "z", "t", "u"],
    "QLinearMul": ["q", "s", "z", "c", "s", "z", "t", "u"],
    "QLinearSigmoid": ["q", "s", "z", "t", "u"],
    "QLinearLeakyRelu": ["q", "s", "z", "t", "u"],
    "QLinearAveragePool": ["q", "s", "z", "t", "u"],
    "QLinearGlobalAveragePool": ["q", "s", "z", "t", "u"],
    "QLinearConcat": ["t", "u", "q", "s", "z", "c", "s", "z"],
}


@pytest.mark.parametrize("operator", JOINED)
def test_operators_of_the_tool_are_written_out(operator: str, tmp_path: Path) -> None:
    """A step of the result apart at most, where ONNX Runtime rounds by tables and other formulas."""
    runtime = pytest.importorskip("onnxruntime")
    attributes: dict[str, Any] = {
        "QLinearConcat": {"axis": 1},
        "QLinearAveragePool": {"kernel_shape": [2, 2]},
        "QLinearLeakyRelu": {"alpha": 0.25},
    }.get(operator, {})
    constants = {
        "s": np.float32(0.05),
        "z": np.uint8(120),
        "t": np.float32(0.04),
        "u": np.uint8(99),
        "c": np.random.default_rng(3).integers(0, 256, (1, 3, 4, 5)).astype(np.uint8),
    }
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node(operator, JOINED[operator], ["j"], "joined", domain="com.microsoft", **attributes),
        node("DequantizeLinear", ["j", "t", "u"], ["y"]),
    ]
    model = make_model(nodes, {"x": [1, 3, 4, 5]}, ["y"], constants, domains=["com.microsoft"])
    path = write(tmp_path, model)
    model.graph.output[0].type.tensor_type.elem_type = 1
    x = np.random.default_rng(4).standard_normal((1, 3, 4, 5)).astype(np.float32)
    (expected,) = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    got = evaluate_model(path, {"x": x})["y"]
    assert np.abs(got - expected).max() <= 0.04 * 1.01 and len(np.unique(got)) > 1
