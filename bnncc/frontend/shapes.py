# SPDX-License-Identifier: Apache-2.0
"""The kinds of a node's results: ONNX's own inference, and the rules that it leaves unchecked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import checker, helper, numpy_helper, shape_inference

from bnncc.diagnostics import BnnccError
from bnncc.frontend import qonnx
from bnncc.frontend.checks import Node
from bnncc.frontend.kinds import LARGEST_TENSOR, Kind, kind_from_proto, proto_of
from bnncc.frontend.operators import make_window
from bnncc.frontend.signatures import find_schema, mistyped

KNOWN_VALUES = 4096
"""Constants of at most so many elements are shown to the shape inference (shapes, pads, axes, scales)."""

Values = Mapping[str, np.ndarray]


def result_kinds(
    node: Node, opsets: Mapping[str, int], inputs: Mapping[str, Kind], constants: Values
) -> list[Kind]:
    """One kind per output of the node, dimensions None where unknown.

    `inputs` has the kind of every input, `constants` the value of those that are known. Raises BnnccError
    where the inputs do not fit the operator, or a result would be absurdly large."""
    try:
        check_operands(node, [inputs[name] if name else None for name in node.proto.input])
        kinds = infer(node, opsets, inputs, constants)
        if node.operator in ("MaxPool", "AveragePool") and attribute(node.proto, "ceil_mode", 0):
            kinds = [without_windows_beyond(node.proto, inputs[node.proto.input[0]], kind) for kind in kinds]
        if node.operator == "Reshape":
            check_reshape(inputs[node.proto.input[0]], kinds[0])
    except (ValueError, shape_inference.InferenceError, checker.ValidationError) as error:
        why = re.sub(r"^\[\w+Error\] ", "", str(error))
        given = ", ".join(f"'{name}' {inputs[name]}" for name in node.proto.input if name)
        raise BnnccError(node.location, f"{node.operator}: {why}", f"its inputs: {given or 'none'}") from None
    for name, kind in zip(node.proto.output, kinds, strict=True):
        if kind.bytes > LARGEST_TENSOR:
            raise BnnccError(
                node.location,
                f"{node.operator}: its result '{name}', {kind}, would take {kind.bytes} bytes",
                "a shape in the model is wrong",
            )
    return kinds


def infer(node: Node, opsets: Mapping[str, int], inputs: Mapping[str, Kind], constants: Values) -> list[Kind]:
    """The kinds by the rules of the operator's domain; raises what they raise."""
    proto = node.proto
    if node.domain in qonnx.DOMAINS:
        return [qonnx.result_kind(proto.op_type, [inputs[name] for name in proto.input])]
    schema = find_schema(node.domain, proto.op_type, node.opset)
    assert schema is not None, "operator_problem lets no other through"
    # The inference tells results apart by name: give one to those that the node leaves out.
    named = onnx.NodeProto()
    named.CopyFrom(proto)
    named.output[:] = [name or f"left out {index}" for index, name in enumerate(proto.output)]
    given = {name: proto_of(inputs[name]) for name in proto.input if name}
    known = {
        name: numpy_helper.from_array(constants[name], name)
        for name in proto.input
        if name in constants and constants[name].size <= KNOWN_VALUES
    }
    imports = [helper.make_opsetid(name, version) for name, version in opsets.items()]
    if schema.has_type_and_shape_inference_function:
        types = shape_inference.infer_node_outputs(schema, named, given, known, opset_imports=imports)
    else:
        types = infer_through_body(named, given, imports)
    return [stated_kind(name, types.get(name)) for name in named.output]


def infer_through_body(
    node: onnx.NodeProto, inputs: Mapping[str, onnx.TypeProto], opsets: Sequence[onnx.OperatorSetIdProto]
) -> dict[str, onnx.TypeProto]:
    """The results of an operator that ONNX describes only by the function it stands for (LessOrEqual before
    version 16): whole models are inferred through such functions, single nodes are not."""
    graph = helper.make_graph(
        [node],
        "node",
        [helper.make_value_info(name, kind) for name, kind in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in node.output],
    )
    model = helper.make_model(graph, opset_imports=opsets)
    inferred = shape_inference.infer_shapes(model, strict_mode=True)
    return {value.name: value.type for value in inferred.graph.output}


def stated_kind(name: str, proto: onnx.TypeProto | None) -> Kind:
    """The kind of a result as inferred; raises ValueError where that says too little."""
    try:
        kind = kind_from_proto(proto) if proto is not None else None
    except ValueError as why:
        raise ValueError(f"its result '{name}': {why}") from None
    if kind is None:
        raise ValueError(f"the rank of its result '{name}' is known only when the network runs")
    return kind


def without_windows_beyond(pool: onnx.NodeProto, x: Kind, result: Kind) -> Kind:
    """The result of a pool with ceil_mode. A last window that begins behind the image is none: so say the
    operator's newer versions and every framework, but onnx's inference of some versions counts it."""
    if None in x.shape:
        return result
    names = ("kernel_shape", "strides", "dilations", "pads", "auto_pad")
    kernel, strides, dilations, pads, auto_pad = (attribute(pool, name, None) for name in names)
    mode = auto_pad.decode() if auto_pad else None
    window = make_window(x.sizes[2:], kernel, strides, dilations, pads, mode, ceil_mode=1)
    return Kind(result.dtype, (*x.shape[:2], *window.result))


def check_result(node: Node, name: str, kind: Kind) -> None:
    """A value that is computed at run time has a static shape and at least one element."""
    if None in kind.shape:
        raise BnnccError(
            node.location,
            f"{node.operator}: the shape of its result '{name}', {kind}, is known only when the network runs",
            "export the model with fixed shapes",
        )
    if any(size < 1 for size in kind.sizes):
        raise BnnccError(
            node.location,
            f"{node.operator}: its result '{name}' would be empty, {kind}",
            "the input of the model is too small for the network, or a dimension is wrong",
        )


def check_operands(node: Node, kinds: Sequence[Kind | None]) -> None:
    """What ONNX's inference does not look at; raises ValueError("... why ...")."""
    problem = mistyped(node.proto, node.opset, [kind.dtype if kind else None for kind in kinds])
    if problem:
        raise ValueError(problem)
    check = OPERAND_CHECKS.get(node.operator)
    if check is not None and len(kinds) > 1:
        check(node.proto, *kinds)


def check_conv(node: onnx.NodeProto, x: Kind, weight: Kind, bias: Kind | None = None) -> None:
    """Channels, groups and the shape of the kernel agree."""
    if len(x.shape) < 3 or len(weight.shape) != len(x.shape):
        raise ValueError(
            f"an image of rank {len(x.shape)} and weights of rank {len(weight.shape)} do not fit"
        )
    groups = attribute(node, "group", 1)
    outputs, per_group = weight.shape[:2]
    assert isinstance(outputs, int) and isinstance(per_group, int)
    if groups < 1 or outputs % groups:
        raise ValueError(f"{outputs} output channels do not divide into {groups} groups")
    if x.shape[1] != per_group * groups:
        raise ValueError(
            f"the image has {x.shape[1]} channels, the weights expect {per_group * groups} "
            f"({groups} groups of {per_group})"
        )
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"the bias has shape {list(bias.shape)}, but there are {outputs} output channels")
    kernel = attribute(node, "kernel_shape", None)
    if kernel is not None and list(kernel) != list(weight.shape[2:]):
        raise ValueError(f"kernel_shape {list(kernel)} is not that of the weights, {list(weight.shape[2:])}")


def check_conv_transpose(node: onnx.NodeProto, x: Kind, weight: Kind, *_: Kind) -> None:
    """The image has as many channels as the weights expect."""
    if len(weight.shape) != len(x.shape) or x.shape[1] != weight.shape[0]:
        raise ValueError(f"an image {x} does not fit weights {weight}")


def check_prelu(_: onnx.NodeProto, x: Kind, slope: Kind) -> None:
    """The slope broadcasts to the input, in one direction."""
    sizes = [tuple(size or 1 for size in kind.shape) for kind in (x, slope)]
    if np.broadcast_shapes(*sizes) != sizes[0]:
        raise ValueError(f"a slope of shape {list(slope.shape)} does not broadcast to {list(x.shape)}")


def check_matmul_integer(
    _: onnx.NodeProto, a: Kind, b: Kind, a_zero: Kind | None = None, b_zero: Kind | None = None
) -> None:
    """Zero points are those of rows and columns."""
    check_beside_matrix(a, "the zero point of its left operand", a_zero, -2)
    check_beside_matrix(b, "the zero point of its right operand", b_zero, -1)


def check_qlinear_matmul(
    _: onnx.NodeProto, a: Kind, a_scale: Kind, a_zero: Kind, b: Kind, b_scale: Kind, b_zero: Kind, *y: Kind
) -> None:
    """Scales and zero points are those of rows and columns."""
    for what, matrix, kinds, axis in (
        ("left operand", a, (a_scale, a_zero), -2),
        ("right operand", b, (b_scale, b_zero), -1),
        ("result", a, y, -2),
    ):
        for name, kind in zip(("scale", "zero point"), kinds, strict=True):
            check_beside_matrix(matrix, f"the {name} of its {what}", kind, axis)


def check_beside_matrix(matrix: Kind, what: str, given: Kind | None, axis: int) -> None:
    """One number; one for each row (`axis` -2) or column (-1) of a matrix; or for those of every matrix."""
    if given is None or prod(given.sizes) == 1:
        return
    rank, fits = len(matrix.sizes), False
    if rank == 2 and len(given.sizes) == 1:
        fits = given.sizes[0] == matrix.sizes[axis]
    elif rank == len(given.sizes) > 1:
        summed = rank - 1 if axis == -2 else rank - 2
        limits = [1 if i == summed else size for i, size in enumerate(matrix.sizes)]
        fits = all(size in (1, limit) for size, limit in zip(given.sizes, limits, strict=True))
    if not fits:
        raise ValueError(f"{what} has shape {list(given.shape)}, which does not fit {matrix}")


def check_qlinear_conv(
    node: onnx.NodeProto,
    x: Kind,
    x_scale: Kind,
    x_zero: Kind,
    weight: Kind,
    w_scale: Kind,
    w_zero: Kind,
    y_scale: Kind,
    y_zero: Kind,
    bias: Kind | None = None,
) -> None:
    """As `check_conv`; one scale of weights, or one for each output channel."""
    check_conv(node, x, weight, bias)
    for what, kind in (("the scale of its weights", w_scale), ("the zero point of its weights", w_zero)):
        check_by_output(what, kind, weight)
    for what, kind in (("image", x_scale), ("image", x_zero), ("result", y_scale), ("result", y_zero)):
        if prod(kind.sizes) != 1:
            raise ValueError(f"its {what} has scales or zero points of shape {list(kind.shape)}, not one")


def check_conv_integer(
    node: onnx.NodeProto, x: Kind, weight: Kind, x_zero: Kind | None = None, w_zero: Kind | None = None
) -> None:
    """As `check_conv`; one zero point of the image, and one of the weights or one for each output channel."""
    check_conv(node, x, weight)
    if x_zero is not None and prod(x_zero.sizes) != 1:
        raise ValueError(f"its image has zero points of shape {list(x_zero.shape)}, not one")
    if w_zero is not None:
        check_by_output("the zero point of its weights", w_zero, weight)


def check_by_output(what: str, given: Kind, weight: Kind) -> None:
    """One number, or one for each output channel of weights [o, c / groups, kernel...]."""
    if prod(given.sizes) != 1 and given.shape != weight.shape[:1]:
        raise ValueError(f"{what} has shape {list(given.shape)}, which does not fit weights {weight}")


OPERAND_CHECKS: dict[str, Callable[..., None]] = {
    "Conv": check_conv,
    "ConvInteger": check_conv_integer,
    "ConvTranspose": check_conv_transpose,
    "MatMulInteger": check_matmul_integer,
    "PRelu": check_prelu,
    "QLinearConv": check_qlinear_conv,
    "QLinearMatMul": check_qlinear_matmul,
}


def check_reshape(x: Kind, result: Kind) -> None:
    """A reshape keeps the number of elements (the inference believes whatever the shape says)."""
    if None not in result.shape and x.bytes != result.bytes:
        raise ValueError(f"{x} cannot take the shape {list(result.shape)}")


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute of the node as Python has it, or the default."""
    found = [a for a in node.attribute if a.name == name]
    return helper.get_attribute_value(found[0]) if found else default
