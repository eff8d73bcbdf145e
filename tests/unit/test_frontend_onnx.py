# SPDX-License-Identifier: Apache-2.0
"""ONNX models become modules: names, locations, shapes, folding, batch."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp, NameLoc, f16, f32
from xdsl.dialects.func import Func, FuncOp, ReturnOp
from xdsl.ir import Operation
from xdsl.parser import Parser
from xdsl.printer import Printer

from bnncc.diagnostics import BnnccError
from bnncc.dialect import BNN
from bnncc.dialect import operations as ops
from bnncc.dialect.parameters import plain_parameters
from bnncc.dialect.sources import get_source
from bnncc.dialect.types import element_of, i64, shape_of
from bnncc.frontend.onnx import load_onnx
from bnncc.passes.convert_onnx import ConvertOnnxPass
from tests.models import make_model, real, whole, write

node = helper.make_node


def load(folder: Path, model: ModelProto, dims: Mapping[str, int] | None = None) -> ModuleOp:
    return load_onnx(write(folder, model), dims)


def main_of(module: ModuleOp) -> FuncOp:
    return next(op for op in module.ops if isinstance(op, FuncOp))


def body_of(module: ModuleOp) -> list[Operation]:
    return list(main_of(module).body.block.ops)


def nodes_of(module: ModuleOp) -> list[ops.Onnx]:
    return [op for op in body_of(module) if isinstance(op, ops.Onnx)]


def constant_result(module: ModuleOp) -> np.ndarray:
    """The only result of a module that returns a constant."""
    last = body_of(module)[-1]
    assert isinstance(last, ReturnOp)
    owner = last.arguments[0].owner
    assert isinstance(owner, ops.Constant)
    return owner.array


def location_of(op: Operation) -> str:
    assert isinstance(op.location, NameLoc)
    return op.location.desc.data


def text_of(module: ModuleOp) -> str:
    stream = io.StringIO()
    Printer(stream, print_debuginfo=True).print_op(module)
    return stream.getvalue()


def conv_model(batch: int | str | None = "N") -> ModelProto:
    rng = np.random.default_rng(0)
    nodes = [
        node("Conv", ["x", "w"], ["/conv/out"], name="/conv/Conv", pads=[1, 1, 1, 1], group=1),
        node("Relu", ["/conv/out"], ["y"]),
    ]
    weight = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    return make_model(nodes, {"x": [batch, 3, 8, 8]}, ["y"], {"w": weight})


def test_names_locations_sources_and_parameters(tmp_path: Path) -> None:
    module = load(tmp_path, conv_model())
    constant, conv, relu, _ = body_of(module)
    assert isinstance(constant, ops.Constant) and isinstance(conv, ops.Onnx) and isinstance(relu, ops.Onnx)
    assert list(map(location_of, (constant, conv, relu))) == [
        "model.onnx:w",
        "model.onnx:/conv/Conv",
        "model.onnx:Relu_1",
    ]
    assert get_source(constant) == ("w", (0, 1, 2, 3))
    assert get_source(conv) == ("/conv/out", (0, 1, 2, 3))
    assert (conv.operator.data, conv.domain.data, conv.opset.value.data) == ("Conv", "", 17)
    assert plain_parameters(conv) == {"pads": [1, 1, 1, 1], "group": 1}
    function = main_of(module)
    assert str(function.attributes["bnn.inputs"]) == '["x"]'
    assert str(function.attributes["bnn.outputs"]) == '["y"]'
    assert function.body.block.args[0].name_hint == "x"
    assert shape_of(conv.outputs[0]) == (1, 4, 8, 8)
    assert 'loc("model.onnx:/conv/Conv")' in text_of(module)


def test_text_round_trip(tmp_path: Path) -> None:
    names = ["_7", "1_2_3", "a b/c:0", "é", "x_1_2"]
    nodes = [node("Neg", [before], [after]) for before, after in zip(["x", *names], names, strict=False)]
    model = make_model(nodes, {"x": [1, 2]}, [names[-1]])
    model.graph.node[0].name = 'quote " and \\ backslash'
    module = load(tmp_path, model)
    text = text_of(module)
    context = Context()
    for dialect in (Builtin, Func, BNN):
        context.load_dialect(dialect)
    parsed = Parser(context, text).parse_module()
    parsed.verify()
    assert text_of(parsed) == text
    assert location_of(nodes_of(parsed)[0]) == 'model.onnx:quote " and \\ backslash'


def test_optional_inputs_keep_their_slots(tmp_path: Path) -> None:
    clip = node("Clip", ["x", "", "high"], ["y"])
    module = load(tmp_path, make_model([clip], {"x": [2]}, ["y"], {"high": real(1)}))
    (op,) = nodes_of(module)
    assert ops.unpack(op.slots) == (0, 2)
    assert len(op.inputs) == 2


def test_results_that_are_left_out_keep_their_place(tmp_path: Path) -> None:
    split = node("Split", ["x"], ["", "b"], axis=1)
    module = load(tmp_path, make_model([split, node("Neg", ["b"], ["y"])], {"x": [1, 4]}, ["y"]))
    first, second = nodes_of(module)
    assert len(first.outputs) == 2
    assert second.inputs[0] is first.outputs[1]
    assert get_source(first) is None


def test_parameters_of_every_type(tmp_path: Path) -> None:
    value = np.arange(3, dtype=np.int64)
    upsample = node("Resize", ["x", "", "scales"], ["y"], mode="nearest", cubic_coeff_a=-0.5)
    quant = node("MultiThreshold", ["y", "t"], ["z"], domain="finn.custom_op.general", out_dtype="UINT2")
    quant.attribute.append(helper.make_attribute("shape", value.tolist()))
    quant.attribute.append(helper.make_attribute("floats", [0.5, 0.1]))
    quant.attribute.append(helper.make_attribute("words", ["a", "b"]))
    quant.attribute.append(
        helper.make_attribute("t", helper.make_tensor("t", TensorProto.INT8, [2], [1, -1]))
    )
    constants = {"scales": real([1, 1, 2, 2]), "t": np.zeros((1, 1), np.float32)}
    module = load(tmp_path, make_model([upsample, quant], {"x": [1, 2, 3, 3]}, ["z"], constants))
    resize, threshold = (plain_parameters(op) for op in nodes_of(module))
    assert resize == {"mode": "nearest", "cubic_coeff_a": -0.5}
    assert threshold["shape"] == [0, 1, 2] and threshold["words"] == ["a", "b"]
    assert threshold["floats"] == [0.5, pytest.approx(0.1)]
    assert isinstance(threshold["t"], np.ndarray) and threshold["t"].tolist() == [1, -1]
    assert shape_of(nodes_of(module)[0].outputs[0]) == (1, 2, 6, 6)


# --- folding ---------------------------------------------------------------------------------------------


def test_weight_expressions_are_folded(tmp_path: Path) -> None:
    """sign(w) * mean|w|, as XNOR networks export it."""
    weight = np.random.default_rng(1).standard_normal((4, 2, 3, 3)).astype(np.float32)
    nodes = [
        node("Abs", ["w"], ["a"]),
        node("ReduceMean", ["a"], ["m"], axes=[1, 2, 3], keepdims=1),
        node("Sign", ["w"], ["s"]),
        node("Mul", ["m", "s"], ["b"]),
        node("Conv", ["x", "b"], ["y"]),
    ]
    module = load(tmp_path, make_model(nodes, {"x": [1, 2, 5, 5]}, ["y"], {"w": weight}))
    constant, conv, _ = body_of(module)
    assert isinstance(constant, ops.Constant)
    expected = np.sign(weight) * np.abs(weight).mean(axis=(1, 2, 3), keepdims=True)
    assert np.allclose(constant.array, expected, rtol=1e-6)
    assert constant.array.dtype == np.float32
    assert get_source(constant) == ("b", (0, 1, 2, 3))
    assert location_of(constant) == "model.onnx:Mul_3"
    assert conv.operands[1] is constant.result


@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general"])
def test_bipolar_weights_are_folded(tmp_path: Path, domain: str) -> None:
    """The domain need not be imported: older Brevitas does not."""
    weight = real([[0.0, -0.0, -1e-30, 3.0]])
    nodes = [
        node("BipolarQuant", ["w", "s"], ["q"], domain=domain),
        node("BipolarQuant", ["x", "s"], ["b"], domain=domain),
        node("Gemm", ["b", "q"], ["y"], transB=1),
    ]
    constants = {"w": weight, "s": real(0.5)}
    module = load(tmp_path, make_model(nodes, {"x": [1, 4]}, ["y"], constants))
    quant, gemm = nodes_of(module)
    assert (quant.operator.data, quant.domain.data, quant.opset.value.data) == ("BipolarQuant", domain, 1)
    folded = gemm.inputs[1].owner
    assert isinstance(folded, ops.Constant) and folded.array.tolist() == [[0.5, 0.5, -0.5, 0.5]]


def test_shape_arithmetic_is_folded(tmp_path: Path) -> None:
    """Flatten by Shape, Gather, Concat, as old PyTorch exports it."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["u"]),
        node("Concat", ["u", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"zero": whole(0), "axes": whole([0]), "rest": whole([-1])}
    model = make_model(nodes, {"x": ["N", 2, 3]}, ["y"], constants)
    (reshape,) = nodes_of(load(tmp_path, model, {"N": 5}))
    assert shape_of(reshape.outputs[0]) == (5, 6)


def test_shape_of_a_slice_and_size(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"], start=1, end=-1),
        node("Size", ["x"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["u"]),
        node("Concat", ["s", "u"], ["y"], axis=0),
    ]
    module = load(tmp_path, make_model(nodes, {"x": [1, 2, 3, 4]}, ["y"], {"axes": whole([0])}))
    assert constant_result(module).tolist() == [2, 3, 24]
    assert nodes_of(module) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "value",
            helper.make_tensor("t", TensorProto.FLOAT16, [2], [1.0, 2.0]),
            np.array([1, 2], np.float16),
        ),
        ("value_float", 0.5, real(0.5)),
        ("value_floats", [0.5, 1.5], real([0.5, 1.5])),
        ("value_int", 3, whole(3)),
        ("value_ints", [3, 4], whole([3, 4])),
    ],
)
def test_constant_nodes(tmp_path: Path, name: str, value: Any, expected: np.ndarray) -> None:
    model = make_model([node("Constant", [], ["y"], **{name: value})], {}, ["y"])
    array = constant_result(load(tmp_path, model))
    assert array.dtype == expected.dtype and array.tolist() == expected.tolist()


def test_random_numbers_are_not_folded(tmp_path: Path) -> None:
    model = make_model([node("RandomNormal", [], ["y"], shape=[2, 2])], {}, ["y"])
    assert [op.operator.data for op in nodes_of(load(tmp_path, model))] == ["RandomNormal"]


def test_identity_and_dropout_vanish(tmp_path: Path) -> None:
    nodes = [
        node("Identity", ["x"], ["a"]),
        node("Dropout", ["a", "ratio", "training"], ["b", "mask"]),
        node("Neg", ["b"], ["y"]),
    ]
    constants = {"ratio": real(0.5), "training": np.array(False)}
    module = load(tmp_path, make_model(nodes, {"x": [1, 2]}, ["y", "mask", "b"], constants))
    (neg,) = nodes_of(module)
    assert neg.inputs[0] is main_of(module).body.block.args[0]
    last = body_of(module)[-1]
    mask = last.operands[1].owner
    assert isinstance(mask, ops.Constant) and mask.array.tolist() == [[True, True]]
    assert last.operands[2] is neg.inputs[0]


# --- inputs, outputs, order ------------------------------------------------------------------------------


def test_outputs_may_be_inputs_constants_or_the_same_value(tmp_path: Path) -> None:
    nodes = [node("Neg", ["x"], ["n"]), node("Identity", ["n"], ["m"])]
    module = load(tmp_path, make_model(nodes, {"x": [1, 2]}, ["x", "w", "n", "m"], {"w": real([1, 2])}))
    last = body_of(module)[-1]
    assert last.operands[0] is main_of(module).body.block.args[0]
    assert isinstance(last.operands[1].owner, ops.Constant)
    assert last.operands[2] is last.operands[3]
    assert str(main_of(module).attributes["bnn.outputs"]) == '["x", "w", "n", "m"]'


def test_inputs_that_have_initializers_are_constants(tmp_path: Path) -> None:
    model = make_model([node("Add", ["x", "w"], ["y"])], {"x": [2], "w": [2]}, ["y"], {"w": real([1, 2])})
    module = load(tmp_path, model)
    assert len(main_of(module).body.block.args) == 1
    assert str(main_of(module).attributes["bnn.inputs"]) == '["x"]'


def test_nodes_in_the_wrong_order_are_sorted(tmp_path: Path) -> None:
    nodes = [node("Relu", ["a"], ["y"]), node("Abs", ["b"], ["a"]), node("Neg", ["x"], ["b"])]
    module = load(tmp_path, make_model(nodes, {"x": [2]}, ["y"]))
    assert [op.operator.data for op in nodes_of(module)] == ["Neg", "Abs", "Relu"]
    assert location_of(nodes_of(module)[0]) == "model.onnx:Neg_2"


def test_what_no_output_needs_is_left_out(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("Mystery", ["x"], ["z"], domain="nowhere")]
    module = load(tmp_path, make_model(nodes, {"x": [2]}, ["y"], {"unused": real([1])}))
    assert len(body_of(module)) == 2


def test_other_element_types(tmp_path: Path) -> None:
    nodes = [
        node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        node("Greater", ["x", "zero"], ["b"]),
    ]
    module = load(tmp_path, make_model(nodes, {"x": [2]}, ["h", "i", "b"], {"zero": real(0)}))
    half, long, boolean = (element_of(op.outputs[0]) for op in nodes_of(module))
    assert (half, long, str(boolean)) == (f16, i64, "i1")
    assert element_of(main_of(module).body.block.args[0]) == f32


def test_functions_are_inlined(tmp_path: Path) -> None:
    model = make_model([node("Twice", ["x"], ["y"], domain="mine")], {"x": [2]}, ["y"], domains=["mine"])
    body = [node("Add", ["a", "a"], ["b"])]
    model.functions.append(
        helper.make_function("mine", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    )
    assert [op.operator.data for op in nodes_of(load(tmp_path, model))] == ["Add"]


# --- symbolic dimensions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["N", None, 1])
def test_the_leading_dimension_defaults_to_one(tmp_path: Path, batch: int | str | None) -> None:
    module = load(tmp_path, conv_model(batch))
    assert shape_of(main_of(module).body.block.args[0]) == (1, 3, 8, 8)


def test_the_leading_dimension_may_be_given(tmp_path: Path) -> None:
    module = load(tmp_path, conv_model("N"), {"N": 6})
    assert shape_of(main_of(module).body.block.args[0]) == (6, 3, 8, 8)
    assert shape_of(nodes_of(module)[-1].outputs[0]) == (6, 4, 8, 8)


def test_a_nameless_dimension_goes_by_input_and_axis(tmp_path: Path) -> None:
    model = make_model([node("Relu", ["x"], ["y"])], {"x": [None, 3, None]}, ["y"])
    module = load(tmp_path, model, {"x.2": 7, "x.0": 2})
    assert shape_of(main_of(module).body.block.args[0]) == (2, 3, 7)


def test_one_symbol_has_one_size_everywhere(tmp_path: Path) -> None:
    model = make_model([node("MatMul", ["x", "z"], ["y"])], {"x": ["N", "K"], "z": ["K", "N"]}, ["y"])
    module = load(tmp_path, model, {"K": 5})
    assert [shape_of(value) for value in main_of(module).body.block.args] == [(1, 5), (5, 1)]


@pytest.mark.parametrize(
    ("shape", "dims", "location", "message", "hint"),
    [
        (["N", "C"], {}, "model.onnx:x", "dimension 1 of the input 'x' is symbolic ('C')", "--dim C=VALUE"),
        (
            ["N", None],
            {},
            "model.onnx:x",
            "dimension 1 of the input 'x' is symbolic ('x.1')",
            "--dim x.1=VALUE",
        ),
        (
            ["N", 2],
            {"M": 1},
            "--dim M",
            "no input of the model has a symbolic dimension 'M'",
            "model.onnx: N",
        ),
        ([1, 2], {"x.0": 1}, "--dim x.0", "no input of the model has a symbolic dimension 'x.0'", "none"),
        (["N", 2], {"N": 0}, "--dim N", "must be a positive integer, not 0", ""),
        (["N", 2], {"N": 2.0}, "--dim N", "must be a positive integer, not 2.0", ""),
        ([1, 0], {}, "model.onnx:x", "dimension 1 of the input 'x' is 0", ""),
        ([1, -3], {}, "model.onnx:x", "dimension 1 of the input 'x' is -3", ""),
        ([1, 1 << 40], {}, "model.onnx:x", "would take 4398046511104 bytes", ""),
    ],
)
def test_dimensions_that_do_not_work(
    tmp_path: Path, shape: list, dims: dict, location: str, message: str, hint: str
) -> None:
    model = make_model([node("Relu", ["x"], ["y"])], {"x": shape}, ["y"])
    with pytest.raises(BnnccError) as caught:
        load(tmp_path, model, dims)
    assert caught.value.location == location
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("operator", ["GreaterOrEqual", "LessOrEqual"])
def test_an_operator_that_onnx_knows_only_as_a_function(operator: str, tmp_path: Path) -> None:
    """Before version 16 these two have no shape inference of their own."""
    nodes = [node(operator, ["x", "c"], ["y"])]
    model = make_model(nodes, {"x": [2, 3]}, ["y"], {"c": np.zeros((4, 1, 3), np.float32)}, opset=13)
    assert "tensor<4x2x3xi1>" in str(load(tmp_path, model))


@pytest.mark.parametrize("domain", ["", "brevitas", "qonnx", "finn", "qonnx.custom_op", "onnx.brevitas"])
def test_quantisers_go_by_many_domains(domain: str, tmp_path: Path) -> None:
    quantiser = node("BipolarQuant", ["x", "s"], ["y"], domain=domain)
    model = make_model([quantiser], {"x": (2, 3)}, ["y"], {"s": real(0.5)})
    (op,) = nodes_of(load(tmp_path, model))
    assert op.domain.data in ("qonnx.custom_op.general", "onnx.brevitas")
    assert not nodes_of(through_conversion(load(tmp_path, model)))


def through_conversion(module: ModuleOp) -> ModuleOp:
    """The module once its nodes are operations of the dialect."""
    ConvertOnnxPass().apply(Context(), module)
    return module


def test_old_comparisons_of_floats(tmp_path: Path) -> None:
    """PyTorch writes Equal of floats into operator set 9, which knows integers only."""
    model = make_model([node("Equal", ["x", "c"], ["y"])], {"x": (2, 3)}, ["y"], {"c": real(0)}, opset=9)
    (op,) = nodes_of(load(tmp_path, model))
    assert op.opset.value.data == 11
