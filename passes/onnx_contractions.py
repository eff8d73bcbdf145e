# SPDX-License-Identifier: Apache-2.0
"""Convolutions, matrix products and batch normalisation of ONNX."""

from __future__ import annotations

import numpy as np
from xdsl.ir import SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import shape_of
from bnncc.passes.onnx_node import CHANNELS_FIRST, CHANNELS_LAST, Conversion, Node, NotConvertible
from bnncc.passes.onnx_windows import geometry


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
    """MatMul with a constant right-hand side [k, o]."""
    x = node.real(0)
    weight = node.array(1, "right-hand side")
    if weight.ndim != 2 or len(shape_of(x)) < 2:
        raise NotConvertible(
            f"it multiplies shapes {shape_of(x)} and {weight.shape}",
            "a constant matrix on the right is supported",
        )
    return node.add(ops.Dense(x, node.constant(weight.T)))


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
