# SPDX-License-Identifier: Apache-2.0
"""A file that is no good ends in one clear message, whatever is wrong with it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, external_data_helper, helper, numpy_helper

from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.frontend.onnx import load_onnx
from tests.models import make_model, real, whole, write

node = helper.make_node

CONV = node("Conv", ["x", "w"], ["c"], name="conv1", pads=[1, 1, 1, 1])
NORM = node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], name="norm1")
SIGN = node("Sign", ["n"], ["y"], name="sign1")


def good_model() -> ModelProto:
    """Convolution, batch norm, sign: every test below damages a copy of it."""
    constants = {"w": np.ones((4, 3, 3, 3), np.float32), "s": np.ones(4, np.float32)}
    constants |= {"b": np.zeros(4, np.float32), "m": np.zeros(4, np.float32), "v": np.ones(4, np.float32)}
    return make_model([CONV, NORM, SIGN], {"x": ["N", 3, 6, 6]}, ["y"], constants)


def initializer(model: ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def named(model: ModelProto, name: str) -> NodeProto:
    return next(proto for proto in model.graph.node if proto.name == name)


def set_value(model: ModelProto, name: str, value: np.ndarray) -> None:
    initializer(model, name).CopyFrom(numpy_helper.from_array(value, name))


def set_attribute(proto: NodeProto, name: str, value: object) -> None:
    kept = [attribute for attribute in proto.attribute if attribute.name != name]
    del proto.attribute[:]
    proto.attribute.extend([*kept, helper.make_attribute(name, value)])


def refused(path: Path | str, location: str, message: str, hint: str = "") -> BnnccError:
    """Load the file, which must fail with the user's exit code, here and for this reason."""
    with pytest.raises(BnnccError) as caught:
        load_onnx(path)
    error = caught.value
    assert message in error.message, str(error)
    assert error.location == location, str(error)
    assert hint in error.hint, str(error)
    assert error.exit_code == ExitCode.USER
    assert "Traceback" not in str(error)
    return error


def test_the_good_model_is_good(tmp_path: Path) -> None:
    load_onnx(write(tmp_path, good_model()))


# --- files -----------------------------------------------------------------------------------------------


def test_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    refused(path, str(path), "no such file")


def test_a_directory(tmp_path: Path) -> None:
    refused(tmp_path, str(tmp_path), "this is a directory", ".onnx file inside")
    (tmp_path / "manifest.json").write_text("{}")
    refused(tmp_path, str(tmp_path), "this is a directory", "take what is compiled")


def test_a_device() -> None:
    refused(os.devnull, os.devnull, "this is no ordinary file")


def test_an_unreadable_name() -> None:
    refused("a\0b", "a\0b", "cannot be read")


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.touch()
    refused(path, "model.onnx", "the file is empty")


@pytest.mark.parametrize(
    "content", [b"# A text file\nwith two lines\n", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\x00"]
)
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(path, "model.onnx", "this is not an ONNX model")


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, kept: float) -> None:
    data = good_model().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(data[: int(len(data) * kept)])
    refused(path, "model.onnx", "cut short")


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(good_model().SerializeToString().replace(b"sign1", b"si\xae\xae1"))
    refused(path, "model.onnx", "a name in it is not UTF-8")


# --- the graph -------------------------------------------------------------------------------------------


def rename_operator(model: ModelProto) -> None:
    named(model, "sign1").op_type = "Signum"


def unknown_domain(model: ModelProto) -> None:
    named(model, "sign1").domain = "com.example"


def imported_unknown_domain(model: ModelProto) -> None:
    unknown_domain(model)
    model.opset_import.append(helper.make_opsetid("com.example", 3))


def unknown_in_known_domain(model: ModelProto) -> None:
    named(model, "sign1").op_type = "Trunc"
    named(model, "sign1").domain = "qonnx.custom_op.general"


def operator_too_young(model: ModelProto) -> None:
    model.opset_import[0].version = 8


def body_of(*nodes: NodeProto, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> onnx.GraphProto:
    before, after = ([onnx.ValueInfoProto(name=name) for name in names] for names in (inputs, outputs))
    return helper.make_graph(list(nodes), "body", before, after)


def loop_of_unknown_length(model: ModelProto) -> None:
    body = body_of(node("Neg", ["n"], ["t"]), inputs=["i", "go"], outputs=["go", "t"])
    model.graph.node[2].CopyFrom(node("Loop", ["count"], ["y"], name="loop1", body=body))
    model.graph.input.append(helper.make_tensor_value_info("count", TensorProto.INT64, []))


def loop_without_end(model: ModelProto) -> None:
    body = body_of(inputs=["i", "go", "v"], outputs=["go", "v"])
    model.graph.node[2].CopyFrom(node("Loop", ["", "", "n"], ["y"], name="loop1", body=body))


def loop_over_a_body_of_other_inputs(model: ModelProto) -> None:
    body = body_of(inputs=["i"], outputs=["i"])
    model.graph.node[2].CopyFrom(node("Loop", ["", "q", "n"], ["y"], name="loop1", body=body))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "q"))


def branches_of_two_shapes(model: ModelProto) -> None:
    whole = body_of(node("Neg", ["n"], ["t"]), outputs=["t"])
    part = body_of(node("ReduceMax", ["n"], ["t"], axes=[1]), outputs=["t"])
    model.graph.node[2].CopyFrom(node("If", ["q"], ["y"], name="if1", then_branch=whole, else_branch=part))
    model.graph.input.append(helper.make_tensor_value_info("q", TensorProto.BOOL, []))


def branch_that_reads_nothing_known(model: ModelProto) -> None:
    branch = body_of(node("Neg", ["nowhere"], ["t"], name="neg1"), outputs=["t"])
    model.graph.node[2].CopyFrom(node("If", ["q"], ["y"], name="if1", then_branch=branch, else_branch=branch))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "q"))


def branch_of_an_unknown_operator(model: ModelProto) -> None:
    branch = body_of(node("Odd", ["n"], ["t"], name="odd1"), outputs=["t"])
    model.graph.node[2].CopyFrom(node("If", ["q"], ["y"], name="if1", then_branch=branch, else_branch=branch))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "q"))


def branch_that_is_missing(model: ModelProto) -> None:
    branch = body_of(node("Neg", ["n"], ["t"]), outputs=["t"])
    model.graph.node[2].CopyFrom(node("If", ["q"], ["y"], name="if1", then_branch=branch))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "q"))


def scan_over_no_input(model: ModelProto) -> None:
    body = body_of(inputs=["v"], outputs=["v"])
    model.graph.node[2].CopyFrom(node("Scan", ["n"], ["y"], name="scan1", body=body, num_scan_inputs=7))


def mapped_sequence(model: ModelProto) -> None:
    model.graph.node[2].CopyFrom(node("SequenceMap", ["n"], ["y"], name="map1", body=body_of()))


def missing_initializer(model: ModelProto) -> None:
    model.graph.initializer.remove(initializer(model, "w"))


def defined_twice(model: ModelProto) -> None:
    named(model, "norm1").output[0] = "c"
    named(model, "sign1").input[0] = "c"


def result_named_like_an_input(model: ModelProto) -> None:
    named(model, "conv1").output[0] = named(model, "norm1").input[0] = "x"


def initializer_twice(model: ModelProto) -> None:
    model.graph.initializer.append(initializer(model, "w"))


def cycle(model: ModelProto) -> None:
    named(model, "conv1").input[0] = "n"


def cycle_of_one(model: ModelProto) -> None:
    named(model, "sign1").input[0] = "y"


def no_outputs(model: ModelProto) -> None:
    del model.graph.output[:]


def output_from_nowhere(model: ModelProto) -> None:
    model.graph.output[0].name = "z"


def output_twice(model: ModelProto) -> None:
    model.graph.output.append(model.graph.output[0])


def no_opset(model: ModelProto) -> None:
    del model.opset_import[:]


def future_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 999


def ancient_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 6


def sparse_weights(model: ModelProto) -> None:
    values = helper.make_tensor("w2", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))


def untyped_input(model: ModelProto) -> None:
    model.graph.input[0].ClearField("type")


def sequence_input(model: ModelProto) -> None:
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    model.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(element))


def string_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


def bfloat_weights(model: ModelProto) -> None:
    tensor = initializer(model, "w")
    tensor.CopyFrom(helper.make_tensor("w", TensorProto.BFLOAT16, [4, 3, 3, 3], [1.0] * 108))


def recursive_function(model: ModelProto) -> None:
    body = [node("Again", ["a"], ["b"], domain="mine")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    model.functions.append(helper.make_function("mine", "Again", ["a"], ["b"], body, opsets))
    model.opset_import.append(opsets[1])
    named(model, "sign1").op_type, named(model, "sign1").domain = "Again", "mine"


def exploding_functions(model: ModelProto) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    for level in range(30):
        call = f"F{level + 1}" if level < 29 else "Neg"
        domain = "mine" if level < 29 else ""
        body = [node(call, ["a"], ["t"], domain=domain), node(call, ["t"], ["b"], domain=domain)]
        model.functions.append(helper.make_function("mine", f"F{level}", ["a"], ["b"], body, opsets))
    model.opset_import.append(opsets[1])
    named(model, "sign1").op_type, named(model, "sign1").domain = "F0", "mine"


def stray_function_attribute(model: ModelProto) -> None:
    named(model, "conv1").attribute[0].ref_attr_name = "pads"


GRAPHS: Sequence[tuple[Callable[[ModelProto], None], str, str, str]] = [
    (rename_operator, "sign1", "unknown operator Signum in operator set 17", "QONNX"),
    (unknown_domain, "sign1", "the model imports no operator set of domain 'com.example'", "QONNX"),
    (imported_unknown_domain, "sign1", "unknown operator com.example::Sign (domain 'com.example')", "QONNX"),
    (unknown_in_known_domain, "sign1", "unknown operator qonnx.custom_op.general::Trunc", "BipolarQuant"),
    (operator_too_young, "sign1", "unknown operator Sign in operator set 8", "from operator set 9 on"),
    (loop_of_unknown_length, "loop1", "Loop: it collects as much as the input 'count' says", "--dim count="),
    (loop_without_end, "loop1", "written out, the loops of the model have more than", "one step at a time"),
    (loop_over_a_body_of_other_inputs, "loop1", "do not fit its subgraph", "export it again"),
    (branches_of_two_shapes, "if1", "its branches give float32[", "unrolled"),
    (branch_that_reads_nothing_known, "if1", "If reads 'nowhere', which no node", "missing"),
    (branch_of_an_unknown_operator, "if1/odd1", "unknown operator Odd in operator set 17", "QONNX"),
    (branch_that_is_missing, "if1", "If lacks its subgraph 'else_branch'", ""),
    (scan_over_no_input, "scan1", "do not fit its subgraph", ""),
    (mapped_sequence, "map1", "SequenceMap holds a subgraph", "unrolled"),
    (missing_initializer, "conv1", "Conv reads 'w', which no node, input or initializer defines", "missing"),
    (defined_twice, "norm1", "the value 'c' is defined a second time", ""),
    (result_named_like_an_input, "conv1", "the value 'x' is defined a second time", ""),
    (initializer_twice, "w", "the graph has two initializers named 'w'", ""),
    (cycle, "conv1", "the graph has a cycle through conv1 -> norm1", ""),
    (cycle_of_one, "sign1", "the graph has a cycle through sign1", ""),
    (no_outputs, "", "the graph has no outputs", ""),
    (output_from_nowhere, "z", "nothing computes the output 'z'", ""),
    (output_twice, "y", "the graph has two outputs named 'y'", ""),
    (no_opset, "", "does not say which operator set it uses", ""),
    (future_opset, "", "the model uses operator set 999", "newer onnx"),
    (ancient_opset, "", "the model uses operator set 6, older than 7", "version_converter"),
    (sparse_weights, "w2", "sparse initializers are not supported", "dense"),
    (untyped_input, "x", "the input 'x' has no element type or no shape", ""),
    (sequence_input, "x", "it is a sequence, not a tensor", ""),
    (string_input, "x", "element type string is not supported", ""),
    (bfloat_weights, "w", "the constant 'w' is of type bfloat16", "float32"),
    (recursive_function, "", "the function 'Again' of domain 'mine' calls itself", ""),
    (exploding_functions, "", "more than 100000 nodes", ""),
    (stray_function_attribute, "conv1", "refers to an attribute of a function", ""),
]


@pytest.mark.parametrize(
    ("damage", "location", "message", "hint"), GRAPHS, ids=[damage.__name__ for damage, *_ in GRAPHS]
)
def test_graphs(
    tmp_path: Path, damage: Callable[[ModelProto], None], location: str, message: str, hint: str
) -> None:
    model = good_model()
    damage(model)
    refused(write(tmp_path, model), "model.onnx" + (location and f":{location}"), message, hint)


def told(path: Path) -> str:
    """The whole text of the refusal."""
    with pytest.raises(BnnccError) as caught:
        load_onnx(path)
    assert caught.value.exit_code == ExitCode.USER
    return str(caught.value)


def test_all_unknown_operators_are_named_at_once(tmp_path: Path) -> None:
    """Those of the same words together, the hint once; what reads their results has no problem of its own."""
    nodes = [node("Odd", [f"v{i}" if i else "x"], [f"v{i + 1}"], name=f"odd{i}") for i in range(14)]
    nodes += [
        node("Convv", ["v14"], ["z"]),
        node("Conv", ["z", "z"], ["w"]),
        node("Odd", ["w"], ["y"], domain="d"),
    ]
    assert told(write(tmp_path, make_model(nodes, {"x": [1]}, ["y"]))) == (
        "model.onnx:odd0: unknown operator Odd in operator set 17\n"
        "  also at odd1, odd2, odd3, odd4, odd5, odd6, odd7, odd8, odd9, odd10 and 3 more\n"
        "  hint: export with operators of ONNX itself or of QONNX\n"
        "model.onnx:Convv_14: unknown operator Convv in operator set 17\n"
        "  hint: did you mean 'Conv'? export with operators of ONNX itself or of QONNX\n"
        "model.onnx:Odd_16: unknown operator d::Odd: the model imports no operator set of domain 'd'\n"
        "16 problems in model.onnx"
    )


def test_problems_of_every_kind_are_told_together(tmp_path: Path) -> None:
    """An input, an initializer, an operator and a node; nothing of what depends on them."""
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Add", ["good", "bad"], ["s"]),
        node("Signn", ["good"], ["t"], name="typo"),
        node("Conv", ["t", "w"], ["u"]),
        node("Reshape", ["good", "shape"], ["v"], name="flatten"),
        node("Concat", ["r", "s", "u", "v"], ["y"], axis=0),
    ]
    constants = {
        "w": np.ones((4, 3, 3, 3), np.float32),
        "bad": np.ones(2, np.float32),
        "shape": whole([5, -1]),
    }
    model = make_model(nodes, {"x": [1, "height"], "good": [2, 2]}, ["y"], constants)
    initializer(model, "bad").raw_data = b"123"
    assert told(write(tmp_path, model)).splitlines() == [
        "model.onnx:x: dimension 1 of the input 'x' is symbolic ('height'), and not the batch",
        "  hint: say its size: --dim height=VALUE",
        "model.onnx:typo: unknown operator Signn in operator set 17",
        "  hint: did you mean 'Sign'? export with operators of ONNX itself or of QONNX",
        "model.onnx:bad: the initializer 'bad' cannot be read as float[2]: buffer size must be a multiple of "
        "element size",
        "  hint: the file is damaged; export it again",
        "model.onnx:flatten: Reshape: Dimension could not be inferred: incompatible shapes",
        "  hint: its inputs: 'good' float32[2, 2], 'shape' int64[2]",
        "4 problems in model.onnx",
    ]


def test_no_more_than_ten_are_told(tmp_path: Path) -> None:
    nodes = [node(f"Odd{i}", ["x"], [f"v{i}"]) for i in range(25)]
    model = make_model(nodes, {"x": [1]}, [f"v{i}" for i in range(25)])
    lines = told(write(tmp_path, model)).splitlines()
    assert len(lines) == 12, "ten problems, the hint once, the count"
    assert lines[-1] == "25 problems in model.onnx, 15 of them not shown"


def test_every_name_that_is_wrong_is_told(tmp_path: Path) -> None:
    nodes = [node("Add", ["x", "a"], ["s"]), node("Mul", ["s", "a"], ["x"]), node("Add", ["s", "b"], ["y"])]
    hint = "  hint: an initializer is missing, or the model was cut: export it again"
    assert told(write(tmp_path, make_model(nodes, {"x": [1]}, ["y", "z"]))).splitlines() == [
        "model.onnx:Mul_1: the value 'x' is defined a second time",
        "  hint: the file is no valid ONNX model: export it again",
        "model.onnx:Add_0: Add reads 'a', which no node, input or initializer defines",
        hint,
        "model.onnx:Add_2: Add reads 'b', which no node, input or initializer defines",
        "model.onnx:z: nothing computes the output 'z'",
        "4 problems in model.onnx",
    ]


# --- shapes and values -----------------------------------------------------------------------------------


def wrong_channels(model: ModelProto) -> None:
    set_value(model, "w", np.ones((4, 2, 3, 3), np.float32))


def wrong_groups(model: ModelProto) -> None:
    set_attribute(named(model, "conv1"), "group", 3)


def wrong_norm(model: ModelProto) -> None:
    set_value(model, "s", np.ones(5, np.float32))


def wrong_type(model: ModelProto) -> None:
    set_value(model, "w", np.ones((4, 3, 3, 3), np.float64))


def wrong_rank(model: ModelProto) -> None:
    set_value(model, "w", np.ones((4, 27), np.float32))


def wrong_bias(model: ModelProto) -> None:
    named(model, "conv1").input.append("bias")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "bias"))


def too_few_inputs(model: ModelProto) -> None:
    del named(model, "norm1").input[3:]


def unknown_attribute(model: ModelProto) -> None:
    set_attribute(named(model, "conv1"), "padding", 1)


def attribute_of_another_type(model: ModelProto) -> None:
    set_attribute(named(model, "conv1"), "pads", "same")


def attribute_twice(model: ModelProto) -> None:
    named(model, "conv1").attribute.append(helper.make_attribute("pads", [0, 0, 0, 0]))


def too_many_inputs(model: ModelProto) -> None:
    named(model, "conv1").input.extend(["v", "v"])


def missing_input(model: ModelProto) -> None:
    named(model, "norm1").input[2] = ""


def lacking_attribute(model: ModelProto) -> None:
    model.graph.node[2].CopyFrom(node("Concat", ["n"], ["y"], name="concat1"))


def quant_attribute(model: ModelProto) -> None:
    domain = "qonnx.custom_op.general"
    inputs = ["n", "one", "one", "one"]
    model.graph.node[2].CopyFrom(node("Quant", inputs, ["y"], name="quant1", domain=domain, rounding_mode=1))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((), np.float32), "one"))


def typed_pads(dtype: type) -> Callable[[ModelProto], None]:
    def damage(model: ModelProto) -> None:
        model.graph.node.insert(0, node("Pad", ["w", "pads"], ["padded"], name="pad1"))
        model.graph.initializer.append(numpy_helper.from_array(np.ones(8, dtype), "pads"))
        named(model, "conv1").input[1] = "padded"

    return damage


def scalar_pad(model: ModelProto) -> None:
    """`onnx.reference` fails by a TypeError."""
    model.graph.node.insert(0, node("Pad", ["one", "none"], ["padded"], name="pad1"))
    model.graph.node[3].CopyFrom(node("Add", ["n", "padded"], ["y"], name="add1"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((), np.float32), "one"))
    model.graph.initializer.append(numpy_helper.from_array(whole([]), "none"))


def where_of_numbers(model: ModelProto) -> None:
    model.graph.node[2].CopyFrom(node("Where", ["n", "n", "n"], ["y"], name="where1"))


def concat_of_types(model: ModelProto) -> None:
    model.graph.node[2].CopyFrom(node("Concat", ["n", "n", "i"], ["y"], name="concat1", axis=0))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 4, 6, 6), np.int32), "i"))


def fused_attribute(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    proto = node("FusedConv", ["x", "w"], ["c"], name="conv1", domain="com.microsoft", activation=1)
    named(model, "conv1").CopyFrom(proto)


def image_too_small(model: ModelProto) -> None:
    set_attribute(named(model, "conv1"), "pads", [0, 0, 0, 0])
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 2


def huge_padding(model: ModelProto) -> None:
    set_attribute(named(model, "conv1"), "pads", [1 << 20] * 4)


def reshape_to(target: list[int]) -> Callable[[ModelProto], None]:
    def damage(model: ModelProto) -> None:
        model.graph.node[2].CopyFrom(node("Reshape", ["n", "target"], ["y"], name="reshape1"))
        model.graph.initializer.append(numpy_helper.from_array(whole(target), "target"))

    return damage


def broadcast_mismatch(model: ModelProto) -> None:
    model.graph.node[2].CopyFrom(node("Add", ["n", "other"], ["y"], name="add1"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((5, 1, 1), np.float32), "other"))


def slope_mismatch(model: ModelProto) -> None:
    model.graph.node[2].CopyFrom(node("PRelu", ["n", "other"], ["y"], name="prelu1"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((5, 1, 1), np.float32), "other"))


def shape_from_an_input(model: ModelProto) -> None:
    model.graph.node[2].CopyFrom(node("Reshape", ["n", "target"], ["y"], name="reshape1"))
    model.graph.input.append(helper.make_tensor_value_info("target", TensorProto.INT64, [2]))


def nonzero(model: ModelProto) -> None:
    model.graph.node[2].CopyFrom(node("NonZero", ["n"], ["y"], name="find1"))


def giant_constant(shape: list[int]) -> Callable[[ModelProto], None]:
    def damage(model: ModelProto) -> None:
        model.graph.node.insert(0, node("ConstantOfShape", ["size"], ["big"], name="big1"))
        model.graph.node[3].CopyFrom(node("Add", ["n", "big"], ["y"], name="add1"))
        model.graph.initializer.append(numpy_helper.from_array(whole(shape), "size"))

    return damage


def lying_initializer(model: ModelProto) -> None:
    initializer(model, "w").dims[0] = 1 << 40


def negative_initializer(model: ModelProto) -> None:
    initializer(model, "w").dims[0] = -4


def training_norm(model: ModelProto) -> None:
    set_attribute(named(model, "norm1"), "training_mode", 1)


def training_dropout(model: ModelProto) -> None:
    model.graph.node[2].CopyFrom(node("Dropout", ["n", "", "t"], ["y"], name="drop1"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "t"))


def with_values(name: str, *values: float) -> Callable[[ModelProto], None]:
    def damage(model: ModelProto) -> None:
        array = numpy_helper.to_array(initializer(model, name)).copy()
        array.ravel()[: len(values)] = values
        set_value(model, name, array)

    return damage


def hidden_nan(model: ModelProto) -> None:
    """Binarizing the weights would turn NaN into -1."""
    with_values("w", np.nan)(model)
    quant = node("BipolarQuant", ["w", "one"], ["q"], domain="onnx.brevitas", name="quant1")
    model.graph.node.insert(0, quant)
    model.graph.initializer.append(numpy_helper.from_array(real(1), "one"))
    named(model, "conv1").input[1] = "q"


def quant_scale_mismatch(model: ModelProto) -> None:
    domain = "qonnx.custom_op.general"
    model.graph.node[2].CopyFrom(node("BipolarQuant", ["n", "q"], ["y"], name="quant1", domain=domain))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((3, 1, 1), np.float32), "q"))


def quant_inputs(model: ModelProto) -> None:
    domain = "qonnx.custom_op.general"
    model.graph.node[2].CopyFrom(node("Quant", ["n", "s"], ["y"], name="quant1", domain=domain))


def failing_constant(model: ModelProto) -> None:
    model.graph.node.insert(0, node("Gather", ["s", "index"], ["t"], name="gather1"))
    model.graph.initializer.append(numpy_helper.from_array(whole([0, 1, 2, 9]), "index"))
    named(model, "norm1").input[1] = "t"


VALUES: Sequence[tuple[str, Callable[[ModelProto], None], str, str, str]] = [
    (
        "channels",
        wrong_channels,
        "conv1",
        "the image has 3 channels, the weights expect 2",
        "'w' float32[4, 2",
    ),
    ("groups", wrong_groups, "conv1", "4 output channels do not divide into 3 groups", ""),
    ("norm", wrong_norm, "norm1", "BatchNormalization: Dimension mismatch", "'s' float32[5]"),
    ("type", wrong_type, "conv1", "Conv: ", "'w' float64[4, 3, 3, 3]"),
    ("types", wrong_type, "conv1", "its inputs 'X' and 'W' are of types float and double", ""),
    (
        "type of pads",
        typed_pads(np.float32),
        "pad1",
        "'pads' must be int64, and is float",
        "'pads' float32[8]",
    ),
    ("narrow pads", typed_pads(np.int32), "pad1", "'pads' must be int64, and is int32", ""),
    ("condition", where_of_numbers, "where1", "'condition' must be bool, and is float", ""),
    ("one of many", concat_of_types, "concat1", "are of types float and int32", ""),
    ("scalar pad", scalar_pad, "pad1", "Pad cannot be evaluated: TypeError", "runs elsewhere"),
    ("rank", wrong_rank, "conv1", "an image of rank 4 and weights of rank 2 do not fit", ""),
    ("bias", wrong_bias, "conv1", "the bias has shape [3], but there are 4 output channels", ""),
    ("arity", too_few_inputs, "norm1", "it has 3 inputs, but the operator takes 5", "export it again"),
    (
        "attribute",
        unknown_attribute,
        "conv1",
        "Conv: the operator has no attribute 'padding'",
        "export it again",
    ),
    (
        "attribute type",
        attribute_of_another_type,
        "conv1",
        "'pads' must be a list of integers, and is a string",
        "",
    ),
    ("attribute twice", attribute_twice, "conv1", "it has the attribute 'pads' twice", ""),
    ("more inputs", too_many_inputs, "conv1", "it has 4 inputs, but the operator takes 2 to 3", ""),
    ("input left out", missing_input, "norm1", "its input 2 is missing", ""),
    ("no attribute", lacking_attribute, "concat1", "Concat: it lacks its attribute 'axis'", ""),
    ("attribute of Quant", quant_attribute, "quant1", "'rounding_mode' must be a string, and is an int", ""),
    ("attribute fused", fused_attribute, "conv1", "'activation' must be a string, and is an integer", ""),
    ("empty result", image_too_small, "conv1", "'c' would be empty, float32[1, 4, 0, 0]", "too small"),
    ("huge result", huge_padding, "conv1", "would take", "shape in the model is wrong"),
    ("reshape", reshape_to([1, 100]), "reshape1", "float32[1, 4, 6, 6] cannot take the shape [1, 100]", ""),
    ("reshape -1", reshape_to([-1, 100]), "reshape1", "Reshape: ", ""),
    ("reshape -2", reshape_to([-2, 100]), "reshape1", "Reshape: ", ""),
    ("broadcast", broadcast_mismatch, "add1", "Incompatible dimensions", "'other' float32[5, 1, 1]"),
    ("slope", slope_mismatch, "prelu1", "PRelu: ", ""),
    (
        "shape from input",
        shape_from_an_input,
        "reshape1",
        "is known only when the network runs",
        "fixed shapes",
    ),
    ("shape from values", nonzero, "find1", "is known only when the network runs", "fixed shapes"),
    (
        "constant",
        giant_constant([1 << 28]),
        "big1",
        "makes 1024 MiB out of constants",
        "at most 256 and 1024 MiB",
    ),
    ("overflow", giant_constant([1 << 40, 1 << 40]), "big1", "would take", ""),
    ("negative", giant_constant([-5]), "big1", "ConstantOfShape", ""),
    ("initializer", lying_initializer, "w", "'w' cannot be read as float[1099511627776, 3, 3, 3]", "damaged"),
    ("initializer < 0", negative_initializer, "w", "'w' cannot be read as float[-4, 3, 3, 3]", "damaged"),
    ("training norm", training_norm, "norm1", "is in training mode", "model.eval()"),
    ("training dropout", training_dropout, "drop1", "is in training mode", "model.eval()"),
    ("NaN", with_values("w", np.nan, np.nan), "conv1", "tensor 'w' holds 2 NaN of 108 values", "diverged"),
    ("inf", with_values("w", -np.inf), "conv1", "tensor 'w' holds 1 infinite of 108 values", "diverged"),
    ("both", with_values("v", np.inf, np.nan), "norm1", "'v' holds 1 NaN and 1 infinite of 4 values", ""),
    ("hidden NaN", hidden_nan, "conv1", "the tensor 'w' holds 1 NaN of 108 values", "diverged"),
    ("scale", quant_scale_mismatch, "quant1", "BipolarQuant", "'q' float32[3, 1, 1]"),
    ("arity of Quant", quant_inputs, "quant1", "Quant: it has 2 inputs, but the operator takes 4", ""),
    ("index", failing_constant, "gather1", "Gather cannot be evaluated: IndexError", ""),
]


@pytest.mark.parametrize(
    ("damage", "location", "message", "hint"),
    [entry[1:] for entry in VALUES],
    ids=[name for name, *_ in VALUES],
)
def test_shapes_and_values(
    tmp_path: Path, damage: Callable[[ModelProto], None], location: str, message: str, hint: str
) -> None:
    model = good_model()
    damage(model)
    refused(write(tmp_path, model), f"model.onnx:{location}", message, hint)


def test_many_large_constants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"big{i}" for i in range(9)]
    nodes = [node("ConstantOfShape", ["size"], [name], name=name) for name in names]
    model = make_model([*nodes, node("Sum", ["x", *names], ["y"])], {"x": [1]}, ["y"], {"size": [1 << 20]})
    path = write(tmp_path, model)
    load_onnx(path)
    monkeypatch.setattr("bnncc.frontend.onnx.LARGEST_CONSTANTS", 32 << 20)
    refused(path, "model.onnx:big8", "makes 4 MiB out of constants, 36 MiB so far")


def test_infinity_is_fine_where_nothing_is_multiplied(tmp_path: Path) -> None:
    clip = node("Clip", ["x", "low", "high"], ["y"])
    constants = {"low": real(-np.inf), "high": real(1)}
    load_onnx(write(tmp_path, make_model([clip], {"x": [2]}, ["y"], constants)))


# --- external data ---------------------------------------------------------------------------------------


def external(folder: Path, location: str = "weights.bin", **entries: str) -> Path:
    """The good model with the convolution's weights in another file, which exists in `folder`."""
    model = good_model()
    tensor = initializer(model, "w")
    (folder / "weights.bin").write_bytes(b"spare" + tensor.raw_data)
    external_data_helper.set_external_data(tensor, location, offset=5)
    tensor.ClearField("raw_data")
    for key, value in entries.items():
        kept = [entry for entry in tensor.external_data if entry.key != key]
        del tensor.external_data[:]
        tensor.external_data.extend([*kept, onnx.StringStringEntryProto(key=key, value=value)])
    return write(folder, model)


def test_external_data_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = load_onnx(write(tmp_path, good_model(), "inside.onnx"))
    path = external(tmp_path)
    assert str(load_onnx(path)) == str(inside)
    assert str(load_onnx(external(tmp_path, length="432"))) == str(inside)
    monkeypatch.chdir(tmp_path)
    assert str(load_onnx("model.onnx")) == str(inside)


def test_external_data_in_a_subfolder_and_through_a_link_inside(tmp_path: Path) -> None:
    path = external(tmp_path, "deep/link.bin")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "link.bin").symlink_to(tmp_path / "weights.bin")
    load_onnx(path)


@pytest.mark.parametrize("kind", ["parent", "absolute", "link", "folder link"])
def test_external_data_outside(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(1000))
    (folder / "link.bin").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    locations = {"parent": "../secret.bin", "absolute": str(secret), "link": "link.bin"}
    name = locations.get(kind, "linked/secret.bin")
    refused(
        external(folder, name), "model.onnx:w", f"'{name}' lies outside the folder of the model", "relative"
    )


def test_an_absolute_name_is_refused_even_inside(tmp_path: Path) -> None:
    name = str(tmp_path / "weights.bin")
    refused(external(tmp_path, name), "model.onnx:w", "lies outside the folder")


def test_external_data_that_is_missing(tmp_path: Path) -> None:
    refused(external(tmp_path, "gone.bin"), "model.onnx:w", "'gone.bin' cannot be read", "beside the model")


def test_external_data_whose_name_is_no_text(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin")
    path.write_bytes(path.read_bytes().replace(b"weights.bin", b"weights\xae\xaein"))
    refused(path, "model.onnx", "a name in it is not UTF-8")


def test_an_operator_set_whose_domain_is_no_text(tmp_path: Path) -> None:
    model = good_model()
    model.opset_import.append(helper.make_opsetid("domain", 1))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString().replace(b"domain", b"do\xae\xaein"))
    refused(path, "model.onnx", "a name in it is not UTF-8")


def test_external_data_without_a_name(tmp_path: Path) -> None:
    refused(external(tmp_path, ""), "model.onnx:w", "names no file")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": "6"}, "ends early: 432 bytes at offset 6 are needed, 431 are there"),
        ({"length": "400"}, "is 400 bytes from 5 on, but float[4, 3, 3, 3] takes 432"),
        ({"offset": "-1"}, "432 bytes from -1 on"),
        ({"offset": "many"}, "is no number"),
    ],
)
def test_external_data_of_the_wrong_size(tmp_path: Path, entries: dict[str, str], message: str) -> None:
    refused(external(tmp_path, **entries), "model.onnx:w", message)


# --- whatever else ---------------------------------------------------------------------------------------


def test_random_damage_never_escapes(tmp_path: Path) -> None:
    """Bytes changed at random: the file loads, or there is one BnnccError."""
    data = good_model().SerializeToString()
    outcomes = {True: 0, False: 0}
    for seed in range(400):
        chance = random.Random(seed)
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path = tmp_path / "model.onnx"
        path.write_bytes(damaged)
        try:
            load_onnx(path)
            outcomes[True] += 1
        except BnnccError as error:
            assert error.message
            outcomes[False] += 1
    assert min(outcomes.values()) > 20, outcomes


def test_a_fault_of_ours_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr("bnncc.frontend.onnx.result_kinds", broken)
    with pytest.raises(BnnccError, match="importing Conv failed: RuntimeError: surprise") as caught:
        load_onnx(write(tmp_path, good_model()))
    assert caught.value.exit_code == ExitCode.FAILURE
    assert caught.value.location == "model.onnx:conv1"
