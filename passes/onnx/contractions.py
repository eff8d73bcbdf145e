# SPDX-License-Identifier: Apache-2.0
"""Convolutions, matrix products and batch normalisation of ONNX."""

from __future__ import annotations

import numpy as np
from xdsl.ir import SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import shape_of
from bnncc.passes.matching import constant_of
from bnncc.passes.onnx.node import CHANNELS_FIRST, CHANNELS_LAST, Conversion, Node, NotConvertible
from bnncc.passes.onnx.windows import geometry


def conv(node: Node) -> SSAValue:
    """Conv: [n, C, h, w] with weights [O, C/G, kh, kw], or [n, C, l] with [O, C/G, k]."""
    x = node.image()
    rank = len(shape_of(x))
    weight = node.array(1, "weight")
    if weight.ndim != rank:
        raise NotConvertible(f"its weight is of rank {weight.ndim}, its input of rank {rank}")
    window = geometry(node, weight.shape[2:], shape_of(x)[2:])
    weight = weight.reshape(*weight.shape[:2], *window.kernel).transpose(0, 2, 3, 1)
    group = int(node.parameter("group", 1))
    image = node.to_image(x)
    contraction = ops.Conv2d(
        image, node.constant(weight), window.strides, window.dilations, window.pads, group
    )
    y = _with_bias(node, node.add(contraction))
    return node.from_image(y, rank)


def _with_bias(node: Node, y: SSAValue) -> SSAValue:
    if not node.has_input(2):
        return y
    return node.add(ops.Add(y, node.constant(node.array(2, "bias").reshape(-1))))


def gemm(node: Node) -> SSAValue:
    """Gemm: alpha * A' B' + beta * C with a constant B."""
    a = node.real(0)
    if node.parameter("transA", 0):
        a = node.transpose(a, (1, 0))
    b = node.array(1, "weight")
    weight = b if node.parameter("transB", 0) else b.T
    alpha, beta = node.parameter("alpha", 1.0), node.parameter("beta", 1.0)
    y = node.add(ops.Dense(a, node.constant(np.float32(alpha) * weight)))
    if not node.has_input(2) or beta == 0:
        return y
    bias = node.array(2, "bias")
    return node.add(ops.Add(y, node.constant(np.float32(beta) * bias)))


def matmul(node: Node) -> SSAValue:
    """MatMul with a constant matrix [k, o] on the right, one [o, k] on the left, or one for each of a batch:
    [b, m, k] times [b, k, o]."""
    left, right = node.input(0), node.input(1)
    if constant_of(left) is not None:
        return _matrix_times(node, node.array(0, "left-hand side"), node.real(1))
    if constant_of(right) is None:
        raise NotConvertible(
            "both of its operands are computed at run time", "bit kernels hold constant weights only"
        )
    x, weight = node.real(0), node.array(1, "right-hand side")
    while weight.ndim > 2 and weight.shape[0] == 1 and weight.ndim <= len(shape_of(x)):
        weight = weight[0]
    if weight.ndim == 3 and len(shape_of(x)) == 3 and len(weight) == shape_of(x)[0]:
        return _batch_times(node, x, weight)
    if weight.ndim != 2 or len(shape_of(x)) < 2:
        raise NotConvertible(
            f"it multiplies shapes {shape_of(x)} and {weight.shape}",
            "a constant matrix on one side is supported",
        )
    return node.add(ops.Dense(x, node.constant(weight.T)))


def _matrix_times(node: Node, weight: np.ndarray, x: SSAValue) -> SSAValue:
    """W x = (x' W')' for W [o, k] and x [..., k, n]."""
    rank = len(shape_of(x))
    if weight.ndim != 2 or rank < 2:
        raise NotConvertible(f"it multiplies shapes {weight.shape} and {shape_of(x)}")
    order = (*range(rank - 2), rank - 1, rank - 2)
    product = node.add(ops.Dense(node.transpose(x, order), node.constant(weight)))
    return node.transpose(product, order)


def _batch_times(node: Node, x: SSAValue, weight: np.ndarray) -> SSAValue:
    """[b, m, o] = [b, m, k] times [b, k, o]: a pointwise convolution of m pixels with b groups."""
    batch, rows, depth = shape_of(x)
    outputs = weight.shape[2]
    image = node.reshape(node.transpose(x, (1, 0, 2)), (rows, 1, 1, batch * depth))
    kernel = weight.transpose(0, 2, 1).reshape(batch * outputs, 1, 1, depth)
    product = node.add(ops.Conv2d(image, node.constant(np.ascontiguousarray(kernel)), groups=batch))
    return node.transpose(node.reshape(product, (rows, batch, outputs)), (1, 0, 2))


def batch_norm(node: Node) -> SSAValue:
    """BatchNormalization in inference, over [n, c] or an image."""
    node.only_first_output()
    if node.parameter("training_mode", 0):
        raise NotConvertible("it is in training mode", "call model.eval() before exporting")
    x = node.real(0)
    rank = len(shape_of(x))
    parameters = [node.array(slot, "parameters") for slot in range(1, 5)]
    epsilon = node.parameter("epsilon", 1e-5)
    if rank != 2 and rank not in CHANNELS_LAST:
        raise NotConvertible(f"its input is of rank {rank}", "ranks 2, 3 and 4 are supported")
    if rank != 2:
        x = node.transpose(x, CHANNELS_LAST[rank])
    y = node.add(ops.BatchNorm([x, *(node.constant(array) for array in parameters)], epsilon))
    return y if rank == 2 else node.transpose(y, CHANNELS_FIRST[rank])


CONTRACTIONS: dict[str, Conversion] = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
}
