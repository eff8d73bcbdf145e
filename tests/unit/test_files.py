# SPDX-License-Identifier: Apache-2.0
"""One binary network in the many ways in which files say the same: operator sets, IR versions, half
precision, external data, domains of quantisers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, defs, helper, numpy_helper

from bnncc import verify
from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.driver import Options, lower_model
from bnncc.frontend.evaluate import evaluate_model
from bnncc.lowering import Lowered
from tests.models import make_model, real, write
from tests.unit.machine import check, lowered

node = helper.make_node

RNG = np.random.default_rng(21)
SHAPE = [1, 40, 6, 5]
CONSTANTS = {
    "w": RNG.choice([-0.5, 0.5], (9, 40, 3, 3)),
    "scale": RNG.choice([-1.5, -0.5, 0.0, 0.25, 2.0], 9),
    "bias": RNG.standard_normal(9),
    "mean": RNG.standard_normal(9) * 3,
    "variance": RNG.uniform(0.5, 2, 9),
    "v": RNG.choice([-1.0, 1.0], (4, 9)),
    "offset": RNG.standard_normal(4),
}
NODES = [
    node("Sign", ["x"], ["s"]),
    node("Conv", ["s", "w"], ["c"], pads=[1, 1, 1, 1]),
    node("BatchNormalization", ["c", "scale", "bias", "mean", "variance"], ["n"]),
    node("MaxPool", ["n"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
    node("Sign", ["m"], ["t"]),
    node("GlobalAveragePool", ["t"], ["g"]),
    node("Flatten", ["g"], ["f"]),
    node("Gemm", ["f", "v", "offset"], ["y"], transB=1),
]
X = RNG.standard_normal(SHAPE).astype(np.float32)


def network(opset: int = 17, dtype: type = np.float32) -> ModelProto:
    """The network; its trained numbers in this type."""
    constants = {name: array.astype(dtype) for name, array in CONSTANTS.items()}
    return make_model(NODES, {"x": SHAPE}, ["y"], constants, opset)


def agrees(result: Lowered, folder: Path, x: np.ndarray = X) -> None:
    """Program, module and file give the same numbers."""
    answer = check(result, {"x": x})["y"]
    graph = evaluate_model(folder / "model.onnx", {"x": x})["y"]
    np.testing.assert_allclose(answer, graph, rtol=1e-5, atol=1e-5)
    assert len(np.unique(graph)) > 3


def domains(result: Lowered) -> list[str]:
    """Of each contraction."""
    return [step.domains for step in result.program.steps if step.domains]


BINARY = ["bipolar x bipolar", "f32 x f32"]
"""The convolution, and a dense layer of means of signs."""


@pytest.mark.parametrize("opset", range(9, defs.onnx_opset_version() + 1))
def test_every_operator_set(opset: int, tmp_path: Path) -> None:
    result = lowered(tmp_path, network(opset))
    assert domains(result) == BINARY
    agrees(result, tmp_path)


@pytest.mark.parametrize("version", [3, 4, 6, 7, 8, 9, 10, 11, 12, onnx.IR_VERSION])
def test_every_ir_version(version: int, tmp_path: Path) -> None:
    """In version 3 every initializer is an input too."""
    model = network(9)
    model.ir_version = version
    if version == 3:
        for tensor in model.graph.initializer:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            model.graph.input.append(value)
    result = lowered(tmp_path, model)
    assert [port.name for port in result.program.inputs] == ["x"]
    assert domains(result) == BINARY
    agrees(result, tmp_path)


def test_initializers_of_half_precision(tmp_path: Path) -> None:
    """The graph casts them, as converters write it."""
    model = network(dtype=np.float16)
    casts = [node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT) for name in CONSTANTS]
    for tensor in model.graph.initializer:
        tensor.name += "_half"
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    result = lowered(tmp_path, model)
    assert domains(result) == BINARY
    agrees(result, tmp_path)


def test_external_data_means_what_the_file_means(tmp_path: Path) -> None:
    """The programs are equal, constants included."""
    inside = lowered(tmp_path, network())
    folder = tmp_path / "apart"
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(network(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (folder / "weights.bin").stat().st_size > 4 * 9 * 40 * 9
    outside = lower_model(path, Options())
    for left, right in zip(inside.program.steps, outside.program.steps, strict=True):
        assert left.kernel == right.kernel
        assert all(map(np.array_equal, left.constants, right.constants))


def quantised(operator: str, domain: str) -> list[NodeProto]:
    """x through a quantiser, then a convolution; or the product of two bits."""
    inputs = {"Quant": "x s z b", "BipolarQuant": "x s", "MultiThreshold": "x thresholds"}[operator]
    attributes = {
        "Quant": {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"},
        "BipolarQuant": {},
        "MultiThreshold": {"out_scale": 2.0, "out_bias": -1.0, "data_layout": "NCHW"},
    }[operator]
    return [
        node(operator, inputs.split(), ["q"], domain=domain, **attributes),
        node("Conv", ["q", "w"], ["y"]),
    ]


DOMAINS = (
    "qonnx.custom_op.general",
    "qonnx",
    "qonnx.custom_op",
    "onnx.brevitas",
    "brevitas",
    "finn",
    "finn.custom_op.general",
)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(
    ("operator", "found"), [("Quant", "s2"), ("BipolarQuant", "bipolar"), ("MultiThreshold", "bipolar")]
)
def test_quantisers_of_every_domain(operator: str, found: str, domain: str, tmp_path: Path) -> None:
    constants = {"s": real(0.5), "z": real(0), "b": real(2), "thresholds": RNG.standard_normal((40, 1))}
    constants["w"] = CONSTANTS["w"]
    numbers = {name: np.asarray(array, np.float32) for name, array in constants.items()}
    model = make_model(quantised(operator, domain), {"x": SHAPE}, ["y"], numbers, domains=[domain])
    result = lowered(tmp_path, model)
    assert domains(result) == [f"{found} x bipolar"]
    agrees(result, tmp_path)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_product_of_bits_in_every_domain(domain: str, tmp_path: Path) -> None:
    """XnorPopcountMatMul counts equal bits of {0, 1}."""
    nodes = [
        node("Greater", ["x", "t"], ["c"]),
        node("Cast", ["c"], ["b"], to=TensorProto.FLOAT),
        node("XnorPopcountMatMul", ["b", "w"], ["y"], domain=domain),
    ]
    constants = {"t": real(0.1), "w": (RNG.random((70, 9)) > 0.5).astype(np.float32)}
    result = lowered(tmp_path, make_model(nodes, {"x": [3, 70]}, ["y"], constants, domains=[domain]))
    assert domains(result) == ["bipolar x bipolar"]
    agrees(result, tmp_path, RNG.standard_normal((3, 70)).astype(np.float32))


LEVELS = {
    "its weights have 3 levels: -0.1, 0, 0.1": RNG.choice([-0.1, 0.0, 0.1], (9, 40, 3, 3)),
    "its weights are binary (+-s per channel)": RNG.choice([-0.5, 0.5], (9, 40, 3, 3)),
    "its weights are real-valued": RNG.standard_normal((9, 40, 3, 3)),
}


@pytest.mark.parametrize("reason", LEVELS)
def test_inspect_says_what_the_weights_are(reason: str, tmp_path: Path) -> None:
    model = make_model(
        [node("Conv", ["x", "w"], ["y"], name="conv")],
        {"x": SHAPE},
        ["y"],
        {"w": LEVELS[reason].astype(np.float32)},
    )
    (step,) = (step for step in lowered(tmp_path, model).program.steps if step.domains)
    assert step.note == f"its activation is the network's input; {reason}"


def test_inspect_says_what_comes_from_the_step_before(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["h", "w"], ["p"], name="again"), node("Add", ["p", "x"], ["after"])]
    model = make_model(nodes, {"x": [1, 8], "h": [1, 8]}, ["after"], {"w": real(range(64)).reshape(8, 8)})
    steps = lower_model(write(tmp_path, model), Options(states={"h": "after"})).program.steps
    (note,) = (step.note for step in steps if step.domains)
    assert note.startswith("its activation is what the step before left; ")


def test_a_network_of_half_precision_all_through(tmp_path: Path) -> None:
    """As converters write it, casts at both ends: the trained numbers are those of float16, sums are made in
    float32."""
    model = network(dtype=np.float16)
    names = {"x": "x16", "y": "y16"}
    for proto in model.graph.node:
        proto.input[:] = [names.get(name, name) for name in proto.input]
        proto.output[:] = [names.get(name, name) for name in proto.output]
    model.graph.node.insert(0, node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16))
    model.graph.node.append(node("Cast", ["y16"], ["y"], to=TensorProto.FLOAT))
    result = lowered(tmp_path, model)
    assert domains(result) == BINARY
    agrees(result, tmp_path)


def autocast(*, weighted: bool) -> ModelProto:
    """float32 numbers cast to float16 and back around an operator."""
    casts = [node("Cast", [name], [f"{name}16"], to=TensorProto.FLOAT16) for name in ("x", "w")]
    inner = node("MatMul" if weighted else "Add", ["x16", "w16"], ["y16"])
    nodes = [*casts, inner, node("Cast", ["y16"], ["y"], to=TensorProto.FLOAT)]
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    return make_model(nodes, {"x": [4, 4]}, ["y"], {"w": weight})


def test_layers_under_autocast_are_computed_in_single(tmp_path: Path) -> None:
    """Portable C has no float16. A near miss: what is no layer keeps what the file says."""
    x = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    path = write(tmp_path, autocast(weighted=True))
    (weight,) = (numpy_helper.to_array(tensor) for tensor in autocast(weighted=True).graph.initializer)
    np.testing.assert_array_equal(evaluate_model(path, {"x": x})["y"], x @ weight)
    steps = lower_model(path, Options()).program.steps
    assert {layout.element for step in steps for layout in step.kernel.inputs} == {"f32"}
    other = write(tmp_path, autocast(weighted=False))
    rounded = x.astype(np.float16) + weight.astype(np.float16)
    np.testing.assert_array_equal(evaluate_model(other, {"x": x})["y"], rounded.astype(np.float32))


def test_half_precision_at_both_ends(tmp_path: Path) -> None:
    model = network(dtype=np.float16)
    for port in (model.graph.input[0], model.graph.output[0]):
        port.CopyFrom(helper.make_tensor_value_info(port.name, TensorProto.FLOAT16, None))
    for extent in SHAPE:
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = extent
    path = write(tmp_path, model)
    result = lower_model(path, Options())
    assert [port.dtype for port in (*result.program.inputs, *result.program.outputs)] == ["float16"] * 2
    assert domains(result) == BINARY
    report = verify.verify_model(path, Options(), samples=2)
    assert report.passed, report.render()


def test_a_node_of_half_precision_that_is_no_network_keeps_its_type(tmp_path: Path) -> None:
    model = make_model([node("Add", ["x", "c"], ["y"])], {"x": [4]}, ["y"], {"c": np.ones(4, np.float16)})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    (port,) = lowered(tmp_path, model).program.outputs
    assert port.dtype == "float16"


def test_damaged_names_in_half_precision_are_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(network(dtype=np.float16).SerializeToString().replace(b"scale", b"sc\xffle"))
    with pytest.raises(BnnccError, match="not UTF-8") as caught:
        lower_model(path, Options())
    assert caught.value.exit_code == ExitCode.USER
