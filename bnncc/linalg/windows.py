# SPDX-License-Identifier: Apache-2.0
"""Pools, means over channels, softmax: reductions of real numbers and of bits."""

from __future__ import annotations

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects import math as maths
from xdsl.dialects.builtin import f32, i32
from xdsl.ir import SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import unpack
from bnncc.dialect.types import element_of, shape_of
from bnncc.linalg import builders as b
from bnncc.linalg.bits import Planes, Value
from bnncc.linalg.scalars import maximum
from bnncc.plan.borders import Borders
from bnncc.plan.kernel import Window

Pool = ops.MaxPool | ops.MeanPool | ops.CountPool

LOWEST = {f32: -np.inf, i32: -(2**31)}
"""What no maximum is below."""


def max_pool(op: ops.MaxPool, x: Value) -> Value:
    """The maximum over the window; of bipolar bits an OR of words."""
    if isinstance(x, Planes):
        (plane,) = x.planes
        either = _pooled(op, plane.words, 0, lambda value, so_far: [arith.OrIOp(value, so_far).result])
        return Planes.of_words(x.element, shape_of(op.result), [either])
    kind = element_of(x)
    return _pooled(op, x, LOWEST[kind], lambda value, so_far: [maximum(value, so_far, kind)])


def mean_pool(op: ops.MeanPool, x: SSAValue) -> SSAValue:
    """The mean over the window, of the taps inside the image or of all."""
    total = _pooled(op, x, 0.0, _add)
    window = _window(op)
    if op.count_outside.value.data:
        taps = np.full((1, 1, 1), window.height * window.width, np.float32)
    else:
        _, height, width, _ = shape_of(op.result)
        borders = Borders.of(window, shape_of(op.input)[1:3], (height, width))
        inside = (~borders.outside_taps()).sum((1, 2), dtype=np.float32)
        rows = [borders.rows.case(y) for y in range(height)]
        columns = [borders.columns.case(x) for x in range(width)]
        counts = inside.reshape(borders.rows.count, borders.columns.count)
        taps = counts[np.ix_(rows, columns)][..., None]
    return b.elementwise([total, b.constant(taps, f32)], shape_of(op.result), [f32], _divide)[0]


def count_pool(op: ops.CountPool, x: SSAValue) -> SSAValue:
    """How many of the spikes x, as i32, there are in the window: i32."""
    return _pooled(op, x, 0, lambda value, total: [arith.AddiOp(total, value).result])


def channel_mean(op: ops.ChannelMean, x: SSAValue) -> SSAValue:
    """The mean over the last dimension, which stays with extent 1."""
    total = _over_channels(x, 0.0, _add)
    count = b.scalar(shape_of(x)[-1], f32)
    mean = b.elementwise([total], shape_of(total), [f32], lambda v: [arith.DivfOp(v, count).result])[0]
    return b.reshape(mean, shape_of(op.result))


def softmax(op: ops.Softmax, x: SSAValue) -> SSAValue:
    """exp(x - m) over the sum of these, m the maximum of the last dimension."""
    shape = shape_of(op.result)
    row = (*shape[:-1], 1)
    largest = b.reshape(_over_channels(x, -np.inf, lambda v, m: [maximum(v, m, f32)]), row)

    def power(value: SSAValue, most: SSAValue) -> list[SSAValue]:
        return [maths.ExpOp(arith.SubfOp(value, most).result).result]

    powers = b.elementwise([x, largest], shape, [f32], power)[0]
    total = b.reshape(_over_channels(powers, 0.0, _add), row)
    return b.elementwise([powers, total], shape, [f32], _divide)[0]


def _add(value: SSAValue, total: SSAValue) -> list[SSAValue]:
    return [arith.AddfOp(total, value).result]


def _divide(value: SSAValue, divisor: SSAValue) -> list[SSAValue]:
    return [arith.DivfOp(value, divisor).result]


def _pads(op: Pool) -> tuple[int, ...]:
    """Top, left, bottom, right."""
    return (0, 0, 0, 0) if isinstance(op, ops.CountPool) else unpack(op.pads)


def _window(op: Pool) -> Window:
    (height, width), (sy, sx), (dy, dx) = unpack(op.kernel), unpack(op.strides), unpack(op.dilations)
    top, left, _, _ = _pads(op)
    return Window(height, width, sy, sx, dy, dx, top, left)


def _pooled(op: Pool, x: SSAValue, start: float, body: b.Body) -> SSAValue:
    """The reduction of x [n, h, w, c] (channels or words) over the window; `start` outside the image."""
    window, (top, left, bottom, right) = _window(op), _pads(op)
    image = b.surrounded(x, [0, top, left, 0], [0, bottom, right, 0], start)
    kind = element_of(x)
    n, height, width, _ = shape_of(op.result)
    names = ["n", "y", "x", "c", "r", "s"]
    rows = f"{window.stride_y}*y+{window.dilation_y}*r"
    columns = f"{window.stride_x}*x+{window.dilation_x}*s"
    # linalg.generic takes the extents of r and s from an operand that nothing reads.
    extents = b.empty((window.height, window.width), kind)
    maps = [["n", rows, columns, "c"], ["r", "s"], names[:4]]
    result = b.filled((n, height, width, shape_of(x)[3]), start, kind)
    return b.generic(
        [image, extents], [result], names, maps, names[4:], lambda value, _, so_far: body(value, so_far)
    )[0]


def _over_channels(x: SSAValue, start: float, body: b.Body) -> SSAValue:
    """The reduction of the last dimension."""
    shape = shape_of(x)
    names = b.loops(len(shape))
    result = b.filled(shape[:-1], start, element_of(x))
    return b.generic([x], [result], names, [names, names[:-1]], names[-1:], body)[0]
