# SPDX-License-Identifier: Apache-2.0
"""ONNX nodes that TVM's importer lacks, written with nodes that it has; those that it gets wrong, refused.

Only the importer sees them, which takes a convolution of integers where ONNX has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bnncc.kernels.opaque.computed import known
from bnncc.plan.kernel import Opaque

Expansion = Callable[["Writer", NodeProto], None]


SIZED_RESIZE = 11
"""Since this operator set, Resize has its scales third, sizes, and says how it finds a pixel."""


class NotExpressible(Exception):
    """Why neither the importer nor an expansion computes a node."""


class Writer:
    """Nodes in order, and the names of their results."""

    def __init__(self, root: Opaque):
        self.root = root
        self.nodes: list[NodeProto] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node; the name of its result."""
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, array: np.ndarray) -> str:
        """A constant."""
        return self.add("Constant", value=numpy_helper.from_array(array))

    def dtype(self, name: str) -> np.dtype:
        """The element type of an input of the node."""
        return np.dtype(self.root.argument(int(name.removeprefix("x"))).element.dtype)

    def keep(self, node: NodeProto) -> None:
        """Append the node as it is."""
        self.nodes.append(node)

    def int32(self, value: str) -> str:
        """`value` as int32."""
        return self.add("Cast", value, to=TensorProto.INT32)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an input of the node."""
        return self.root.argument(int(name.removeprefix("x"))).shape

    def centred(self, value: str, zero_point: str, axis: int) -> str:
        """`value` - `zero_point` in int32, the zero point being one number, or a vector along `axis`."""
        result = self.int32(value)
        if not zero_point:
            return result
        return self.add("Sub", result, self.along(self.int32(zero_point), zero_point, value, axis))

    def beside_matrix(self, value: str, given: str, axis: int) -> str:
        """`value`, of the shape of the input `given`, as it broadcasts to a matrix: a vector has a number for
        each row (`axis` -2) or column (-1); what has more dimensions fits as it is."""
        shape = self.shape(given)
        if int(np.prod(shape)) == 1:
            return self.add("Reshape", value, self.constant(np.array([], np.int64)))
        is_column = len(shape) == 1 and axis == -2
        return self.add("Reshape", value, self.constant(np.array([*shape, 1]))) if is_column else value

    def along(self, value: str, vector: str, image: str, axis: int) -> str:
        """`value`, as long as the input `vector`, so that it broadcasts along `axis` of the input `image`."""
        length, rank = int(np.prod(self.shape(vector))), len(self.shape(image))
        target = [length if i == axis else 1 for i in range(rank)] if length > 1 else []
        return self.add("Reshape", value, self.constant(np.array(target, np.int64)))


def expand(root: Opaque) -> list[NodeProto]:
    """The node itself, or nodes of the same inputs and outputs that mean the same."""
    node = NodeProto.FromString(root.node)
    if root.operator not in EXPANSIONS:
        return [node]
    writer = Writer(root)
    EXPANSIONS[root.operator](writer, node)
    return writer.nodes


def conv_integer(writer: Writer, node: NodeProto) -> None:
    """y = conv(x - x_zero_point, w - w_zero_point), int32: padding counts as the zero point."""
    x, w, x_zero, w_zero = [*node.input, "", ""][:4]
    _conv(writer, node, writer.centred(x, x_zero, -1), writer.centred(w, w_zero, 0), node.output[0])


def q_linear_conv(writer: Writer, node: NodeProto) -> None:
    """y = saturate(round(conv(x - x_zero, w - w_zero) + bias) * x_scale * w_scale / y_scale) + y_zero)."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = [*node.input, ""][:9]
    total = _conv(writer, node, writer.centred(x, x_zero, -1), writer.centred(w, w_zero, 0))
    if bias:
        total = writer.add("Add", total, writer.along(bias, bias, x, 1))
    scale = writer.along(_scale(writer, x_scale, w_scale, y_scale), w_scale, x, 1)
    _requantize(writer, total, scale, y_zero, node.output[0])


def q_linear_matmul(writer: Writer, node: NodeProto) -> None:
    """y = saturate(round(((a - a_zero) @ (b - b_zero)) * a_scale * b_scale / y_scale) + y_zero)."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.input
    left, right = (
        writer.add("Sub", writer.int32(matrix), writer.beside_matrix(writer.int32(zero), zero, axis))
        for matrix, zero, axis in ((a, a_zero, -2), (b, b_zero, -1))
    )
    scales = [_real(writer, name, axis) for name, axis in ((a_scale, -2), (b_scale, -1), (y_scale, -2))]
    scale = writer.add("Div", writer.add("Mul", *scales[:2]), scales[2])
    _requantize(writer, writer.add("MatMul", left, right), scale, y_zero, node.output[0])


def _real(writer: Writer, given: str, axis: int) -> str:
    """A scale or zero point of a matrix in float32, as it broadcasts to it."""
    return writer.beside_matrix(writer.add("Cast", given, to=TensorProto.FLOAT), given, axis)


def _conv(writer: Writer, node: NodeProto, x: str, w: str, output: str = "") -> str:
    name = writer.add("Conv", x, w, output=output)
    writer.nodes[-1].attribute.extend(node.attribute)
    return name


def _scale(writer: Writer, first: str, second: str, result: str) -> str:
    """first * second / result, float32."""
    real = [writer.add("Cast", name, to=TensorProto.FLOAT) for name in (first, second, result)]
    return writer.add("Div", writer.add("Mul", *real[:2]), real[2])


def _requantize(writer: Writer, total: str, scale: str, zero_point: str, output: str) -> None:
    """saturate(round(total * scale) + zero_point) in the zero point's type."""
    dtype = writer.dtype(zero_point)
    limits = [
        writer.constant(np.array(limit, np.float32)) for limit in (np.iinfo(dtype).min, np.iinfo(dtype).max)
    ]
    real = writer.add("Mul", writer.add("Cast", total, to=TensorProto.FLOAT), scale)
    offset = _real(writer, zero_point, -2)
    shifted = writer.add("Add", writer.add("Round", real), offset)
    clipped = writer.add("Clip", shifted, *limits)
    writer.add("Cast", clipped, output=output, to=helper.np_dtype_to_tensor_dtype(dtype))


def power(writer: Writer, node: NodeProto) -> None:
    """The exponent in the type of the base."""
    base, exponent = node.input
    if writer.dtype(base) == writer.dtype(exponent):
        return writer.keep(node)
    kind = helper.np_dtype_to_tensor_dtype(writer.dtype(base))
    writer.add("Pow", base, writer.add("Cast", exponent, to=kind), output=node.output[0])
    return None


def is_infinite(writer: Writer, node: NodeProto) -> None:
    """One sign only, which the importer does not look at."""
    x, y = node.input[0], node.output[0]
    negative, positive = (bool(attribute(node, f"detect_{sign}", 1)) for sign in ("negative", "positive"))
    if negative and positive:
        return writer.keep(node)
    if not negative and not positive:
        raise NotExpressible("it looks for infinities of neither sign")
    limit = np.array(np.inf if positive else -np.inf, writer.dtype(x))
    writer.add("Equal", x, writer.constant(limit), output=y)
    return None


def space_to_depth(writer: Writer, node: NodeProto) -> None:
    """Mode CRD: the channel of x comes first in that of y."""
    if attribute(node, "mode", b"DCR") == b"DCR":
        return writer.keep(node)
    (n, c, h, w), size = writer.shape(node.input[0]), attribute(node, "blocksize", 1)
    split = np.array([n, c, h // size, size, w // size, size])
    blocks = writer.add("Reshape", node.input[0], writer.constant(split))
    turned = writer.add("Transpose", blocks, perm=[0, 1, 3, 5, 2, 4])
    result = np.array([n, c * size * size, h // size, w // size])
    writer.add("Reshape", turned, writer.constant(result), output=node.output[0])
    return None


def conv_transpose(writer: Writer, node: NodeProto) -> None:
    """Pads for a given output_shape."""
    if attribute(node, "output_shape", None) is not None:
        raise NotExpressible("its output_shape stands for pads")
    writer.keep(node)


def bit_shift(writer: Writer, node: NodeProto) -> None:
    """Of unsigned integers: others have cases that C leaves undefined."""
    if writer.dtype(node.input[0]).kind != "u":
        raise NotExpressible("it shifts signed integers")
    writer.keep(node)


def modulo(writer: Writer, node: NodeProto) -> None:
    """Of floats by C's fmod alone."""
    if writer.dtype(node.input[0]).kind == "f" and not attribute(node, "fmod", 0):
        raise NotExpressible("it takes the sign of the divisor of real numbers")
    writer.keep(node)


def resize(writer: Writer, node: NodeProto) -> None:
    """By the sizes of the result, every dimension's, which is what the importer goes by."""
    unlike = {"antialias": 0, "exclude_outside": 0, "keep_aspect_ratio_policy": b"stretch"}
    for name, usual in unlike.items():
        if attribute(node, name, usual) != usual:
            raise NotExpressible(f"its {name} is not looked at")
    is_old = writer.root.operator == "Upsample" or writer.root.opset < SIZED_RESIZE
    shape, result = np.array(writer.shape(node.input[0])), np.array(writer.root.results[0][1])
    scales = _scales(writer, node, 1 if is_old else 2)
    if scales is not None and scales.size:
        axes = [int(axis) % len(shape) for axis in attribute(node, "axes", range(len(shape)))]
        if not np.allclose(shape[axes] * scales.reshape(-1), result[axes], rtol=1e-5):
            raise NotExpressible("its scales do not give whole sizes")
    mode = attribute(node, "mode", b"nearest")
    if is_old and mode == b"nearest" and any((shape > result) & (shape % result != 0)):
        raise NotExpressible(f"operator set {writer.root.opset} does not say which pixel is the nearest")
    kept = {"mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if not is_old:
        kept = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name != "axes"}
    roi = "" if is_old or not node.input[1] or not np.prod(writer.shape(node.input[1])) else node.input[1]
    writer.add("Resize", node.input[0], roi, "", writer.constant(result), output=node.output[0], **kept)


def _scales(writer: Writer, node: NodeProto, slot: int) -> np.ndarray | None:
    """What a node that resizes multiplies sizes by, where that is known: before set 9 an attribute."""
    given = attribute(node, "scales", None)
    return known(writer.root, slot) if given is None else np.array(given, np.float32)


def thresholded_relu(writer: Writer, node: NodeProto) -> None:
    """x where x > alpha, else 0: the importer multiplies by 0, which makes NaN of an infinity."""
    x = node.input[0]
    alpha, zero = (
        writer.constant(np.array(number, writer.dtype(x))) for number in (attribute(node, "alpha", 1.0), 0)
    )
    writer.add("Where", writer.add("Greater", x, alpha), x, zero, output=node.output[0])


def one_hot(writer: Writer, node: NodeProto) -> None:
    """y = values[1] where an index, counted from the end if below 0, is that of y along the axis, else
    values[0]: in the type of the values, and indices that there are not are nowhere."""
    indices, _, values = node.input
    result = writer.root.results[0][1]
    axis = int(attribute(node, "axis", -1)) % len(result)
    depth = result[axis]
    index = writer.add("Cast", indices, to=TensorProto.INT64)
    zero, count = (writer.constant(np.array(number, np.int64)) for number in (0, depth))
    counted = writer.add("Where", writer.add("Less", index, zero), writer.add("Add", index, count), index)
    columns = writer.add("Unsqueeze", counted, writer.constant(np.array([axis], np.int64)))
    along = np.arange(depth).reshape([-1 if i == axis else 1 for i in range(len(result))])
    hit = writer.add("Equal", columns, writer.constant(along))
    off, on = (writer.add("Gather", values, writer.constant(np.array(slot, np.int64))) for slot in (0, 1))
    writer.add("Where", hit, on, off, output=node.output[0])


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute, or the default."""
    found = [a for a in node.attribute if a.name == name]
    return helper.get_attribute_value(found[0]) if found else default


EXPANSIONS: dict[str, Expansion] = {
    "BitShift": bit_shift,
    "ConvInteger": conv_integer,
    "ConvTranspose": conv_transpose,
    "IsInf": is_infinite,
    "Mod": modulo,
    "OneHot": one_hot,
    "Pow": power,
    "QLinearConv": q_linear_conv,
    "QLinearMatMul": q_linear_matmul,
    "Resize": resize,
    "SpaceToDepth": space_to_depth,
    "ThresholdedRelu": thresholded_relu,
    "Upsample": resize,
}
"""By operator."""
