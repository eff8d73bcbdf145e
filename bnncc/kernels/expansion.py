# SPDX-License-Identifier: Apache-2.0
"""ONNX nodes that TVM's importer lacks, written with nodes that it has.

Only the importer sees them, which takes a convolution of integers where ONNX has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bnncc.plan.kernel import Opaque

Expansion = Callable[["Writer", NodeProto], None]


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
    scale = writer.along(writer.add("Div", writer.add("Mul", x_scale, w_scale), y_scale), w_scale, x, 1)
    _requantize(writer, total, scale, y_zero, node.output[0])


def q_linear_matmul(writer: Writer, node: NodeProto) -> None:
    """y = saturate(round(((a - a_zero) @ (b - b_zero)) * a_scale * b_scale / y_scale) + y_zero)."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.input
    columns = len(writer.shape(b)) - 1
    total = writer.add("MatMul", writer.centred(a, a_zero, -2), writer.centred(b, b_zero, columns))
    scale = writer.along(writer.add("Div", writer.add("Mul", a_scale, b_scale), y_scale), b_scale, b, columns)
    _requantize(writer, total, scale, y_zero, node.output[0])


def _conv(writer: Writer, node: NodeProto, x: str, w: str, output: str = "") -> str:
    name = writer.add("Conv", x, w, output=output)
    writer.nodes[-1].attribute.extend(node.attribute)
    return name


def _requantize(writer: Writer, total: str, scale: str, zero_point: str, output: str) -> None:
    """saturate(round(total * scale) + zero_point) in the zero point's type."""
    dtype = np.dtype(writer.root.argument(int(zero_point.removeprefix("x"))).element.dtype)
    limits = [
        writer.constant(np.array(limit, np.float32)) for limit in (np.iinfo(dtype).min, np.iinfo(dtype).max)
    ]
    real = writer.add("Mul", writer.add("Cast", total, to=TensorProto.FLOAT), scale)
    offset = writer.add("Cast", zero_point, to=TensorProto.FLOAT)
    shifted = writer.add("Add", writer.add("Round", real), offset)
    clipped = writer.add("Clip", shifted, *limits)
    writer.add("Cast", clipped, output=output, to=helper.np_dtype_to_tensor_dtype(dtype))


EXPANSIONS: dict[str, Expansion] = {
    "ConvInteger": conv_integer,
    "QLinearConv": q_linear_conv,
    "QLinearMatMul": q_linear_matmul,
}
"""By operator."""
