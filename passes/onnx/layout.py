# SPDX-License-Identifier: Apache-2.0
"""Operators of ONNX that move values, and softmax, which only needs its dimension last."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from xdsl.ir import SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import shape_of
from bnncc.passes.onnx.node import Conversion, Node, NotConvertible


def identity(node: Node) -> SSAValue:
    """Identity, and Dropout in inference."""
    node.only_first_output()
    return node.input(0)


def reshape(node: Node) -> SSAValue:
    """Reshape, Flatten, Squeeze, Unsqueeze: the result's type says the shape."""
    return node.reshape(node.input(0), node.result_shape)


def transpose(node: Node) -> SSAValue:
    """Transpose; without `perm` the dimensions are reversed."""
    rank = len(shape_of(node.input(0)))
    return node.transpose(node.input(0), list(node.parameter("perm", list(range(rank))[::-1])))


def concat(node: Node) -> SSAValue:
    """Concat; of one value it is that value."""
    values = node.inputs()
    if len(values) == 1:
        return node.reshape(values[0], shape_of(values[0]))
    return node.add(ops.Concat(values, node.axis("axis", 0, len(shape_of(values[0])))))


def expand(node: Node) -> SSAValue:
    """Expand that changes nothing but the rank."""
    value = node.input(0)
    if prod(shape_of(value)) != prod(node.result_shape):
        raise NotConvertible(f"it repeats values from shape {shape_of(value)} to {node.result_shape}")
    return node.reshape(value, node.result_shape)


def pad(node: Node) -> SSAValue:
    """Pad by a constant."""
    x = node.real(0)
    rank = len(shape_of(x))
    mode = node.parameter("mode", "constant")
    if mode != "constant":
        raise NotConvertible(f"it pads by mode '{mode}'", "only mode 'constant' is supported")
    pads = node.integers(1, "pads") or []
    axes = [axis % rank for axis in (node.integers(3, "axes") or range(rank))]
    if len(pads) != 2 * len(axes) or min(pads, default=0) < 0:
        raise NotConvertible(f"its pads are {pads}", "pads of 0 and more are supported")
    value = node.array(2, "value").item() if node.has_input(2) else node.parameter("value", 0.0)
    low, high = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        low[axis], high[axis] = pads[i], pads[len(axes) + i]
    return node.add(ops.Pad(x, low, high, float(value)))


def slice_(node: Node) -> SSAValue:
    """Slice of neighbouring elements along one dimension, but not the first: what is taken of a batch, or of
    time, is looked for elsewhere."""
    x = node.real(0)
    shape, result = shape_of(x), node.result_shape
    starts, ends = node.integers(1, "starts") or [], node.integers(2, "ends") or []
    axes = node.integers(3, "axes") or list(range(len(starts)))
    steps = node.integers(4, "steps") or [1] * len(starts)
    ranges = {
        axis % len(shape): range(*slice(start, end, step).indices(shape[axis]))
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True)
    }
    cut = [axis for axis in ranges if shape[axis] != result[axis]]
    if len(cut) != 1 or cut[0] == 0 or any(taken.step != 1 or not taken for taken in ranges.values()):
        raise NotConvertible("it is no part of one dimension")
    (axis,) = cut
    return node.add(ops.Pad.crop(x, axis, ranges[axis].start, len(ranges[axis])))


def split(node: Node) -> SSAValue:
    """Split along a dimension, but not the first."""
    x, outputs = node.real(0), node.op.outputs
    axis = node.axis("axis", 0, len(shape_of(x)))
    if axis == 0:
        raise NotConvertible("it splits the first dimension")
    start, found = 0, []
    for output in outputs:
        extent = shape_of(output)[axis]
        found.append(node.add(ops.Pad.crop(x, axis, start, extent)))
        start += extent
    node.other_outputs = found[1:]
    return found[0]


def over_last(node: Node, function: Callable[[Node, SSAValue], SSAValue]) -> SSAValue:
    """Softmax or LogSoftmax, a function of rows: over one dimension; before opset 13 over all from `axis`
    on."""
    x = node.real(0)
    rank = len(shape_of(x))
    axis = node.axis("axis", 1 if node.opset < 13 else -1, rank)
    if axis == rank - 1:
        return function(node, x)
    if node.opset < 13:
        flat = node.reshape(x, (prod(shape_of(x)[:axis]), prod(shape_of(x)[axis:])))
        return node.reshape(function(node, flat), shape_of(x))
    order = [i for i in range(rank) if i != axis] + [axis]
    last = function(node, node.transpose(x, order))
    return node.transpose(last, [order.index(i) for i in range(rank)])


def softmax(node: Node) -> SSAValue:
    """Softmax."""
    return over_last(node, lambda node, x: node.add(ops.Softmax(x)))


def log_softmax(node: Node) -> SSAValue:
    """LogSoftmax: x - max x - log(sum exp(x - max x)). The logarithm of a softmax would be infinite where
    that underflows, 104 below the maximum."""

    def of_rows(node: Node, x: SSAValue) -> SSAValue:
        *outer, classes = shape_of(x)
        image = node.reshape(x, (prod(outer), classes, 1, 1))
        largest = node.reshape(node.add(ops.MaxPool(image, (classes, 1))), (*outer, 1))
        moved = node.add(ops.Sub(x, largest))
        mean = node.add(ops.ChannelMean(node.add(ops.Exp(moved))))
        total = node.add(ops.Mul(mean, node.scalar(classes)))
        return node.add(ops.Sub(moved, node.add(ops.Log(total))))

    return over_last(node, of_rows)


LAYOUT: dict[str, Conversion] = {
    "Identity": identity,
    "Dropout": identity,
    "Reshape": reshape,
    "Flatten": reshape,
    "Squeeze": reshape,
    "Unsqueeze": reshape,
    "Transpose": transpose,
    "Concat": concat,
    "Expand": expand,
    "Pad": pad,
    "Slice": slice_,
    "Split": split,
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
}
