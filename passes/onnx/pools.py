# SPDX-License-Identifier: Apache-2.0
"""Pools and means of ONNX."""

from __future__ import annotations

from xdsl.dialects.builtin import f32, i8
from xdsl.ir import SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, shape_of, ui8
from bnncc.passes.onnx.node import CHANNELS_FIRST, CHANNELS_LAST, Conversion, Node, NotConvertible
from bnncc.passes.onnx.windows import geometry


def max_pool(node: Node) -> SSAValue:
    """MaxPool without indices."""
    node.only_first_output()
    is_bytes = element_of(node.input(0)) in (ui8, i8)
    x = node.add(ops.Cast(node.input(0), f32)) if is_bytes else node.image()
    if len(shape_of(x)) not in CHANNELS_LAST:
        raise NotConvertible(f"its input is of rank {len(shape_of(x))}")
    window = geometry(node, _kernel(node), shape_of(x)[2:])
    image = node.to_image(x)
    pool = ops.MaxPool(image, window.kernel, window.strides, window.dilations, window.all_pads)
    y = node.from_image(node.add(pool), len(shape_of(x)))
    return node.add(ops.Cast(y, node.result_element)) if is_bytes else y


def average_pool(node: Node) -> SSAValue:
    """AveragePool, with the padding counted or not."""
    x = node.image()
    window = geometry(node, _kernel(node), shape_of(x)[2:])
    image = node.to_image(x)
    pads, counted = window.all_pads, bool(node.parameter("count_include_pad", 0))
    if counted and any(window.extension):
        # The zeros of the pads count, what ceil_mode adds beyond them does not.
        top, left, bottom, right = window.pads
        image = node.add(ops.Pad(image, (0, top, left, 0), (0, bottom, right, 0)))
        pads, counted = (0, 0, *window.extension), False
    y = node.add(ops.MeanPool(image, window.kernel, window.strides, window.dilations, pads, counted))
    return node.from_image(y, len(shape_of(x)))


def _kernel(node: Node) -> list[int]:
    return list(node.parameter("kernel_shape", [0]))


def global_average_pool(node: Node) -> SSAValue:
    """GlobalAveragePool."""
    x = node.image()
    image = node.to_image(x)
    return node.from_image(node.add(ops.MeanPool(image, shape_of(image)[1:3])), len(shape_of(x)))


def global_max_pool(node: Node) -> SSAValue:
    """GlobalMaxPool."""
    x = node.image()
    image = node.to_image(x)
    return node.from_image(node.add(ops.MaxPool(image, shape_of(image)[1:3])), len(shape_of(x)))


def reduce_mean(node: Node) -> SSAValue:
    """ReduceMean over one dimension, or over the two of an image."""
    x = node.real(0)
    rank = len(shape_of(x))
    axes = node.integers(1, "axes")
    if axes is None:
        if node.parameter("noop_with_empty_axes", 0):
            return x
        axes = list(range(rank))
    reduced = sorted(axis % rank for axis in axes)
    kept = _mean(node, x, reduced)
    return kept if node.parameter("keepdims", 1) else node.reshape(kept, node.result_shape)


def _mean(node: Node, x: SSAValue, axes: list[int]) -> SSAValue:
    """The mean over `axes`, which stay as dimensions of size 1."""
    rank = len(shape_of(x))
    if len(axes) == 1:
        order = [axis for axis in range(rank) if axis != axes[0]] + axes
        mean = node.add(ops.ChannelMean(node.transpose(x, order)))
        return node.transpose(mean, [order.index(axis) for axis in range(rank)])
    if rank == 4 and axes == [2, 3]:
        image = node.transpose(x, CHANNELS_LAST[4])
        mean = node.add(ops.MeanPool(image, shape_of(image)[1:3]))
        return node.transpose(mean, CHANNELS_FIRST[4])
    if rank == 4 and axes == [1, 2]:
        return node.add(ops.MeanPool(x, shape_of(x)[1:3]))
    raise NotConvertible(
        f"it reduces dimensions {axes} of {rank}", "one dimension, or both of an image, can be reduced"
    )


POOLS: dict[str, Conversion] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "ReduceMean": reduce_mean,
}
