# SPDX-License-Identifier: Apache-2.0
"""Operations that only move values: transpose, reshape, pad, concat."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from xdsl.ir import SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import unpack
from bnncc.dialect.types import element_of, shape_of
from bnncc.linalg import builders as b
from bnncc.linalg.bits import Plane, Planes, Value, bits_of
from bnncc.plan.layout import WORD_BITS


def transpose(op: ops.Transpose, x: Value) -> Value:
    """Dimension i of the result is dimension permutation[i]."""
    axes = unpack(op.permutation)

    def move(value: SSAValue, shape: Sequence[int]) -> SSAValue:
        names = b.loops(len(axes))
        source = [names[axes.index(axis)] for axis in range(len(axes))]
        start = b.empty(shape, element_of(value))
        return b.generic([value], [start], names, [source, names], (), lambda v, _: [v])[0]

    return _moved(x, shape_of(op.result), axes[-1] == len(axes) - 1, move)


def reshape(op: ops.Reshape, x: Value) -> Value:
    """The same values in another shape."""
    before, after = shape_of(op.input), shape_of(op.result)
    by_words = before[-1:] == after[-1:] or all(shape[-1] % WORD_BITS == 0 for shape in (before, after))
    return _moved(x, after, by_words, b.reshape)


def pad(op: ops.Pad, x: Value) -> Value:
    """x with a border of one value."""
    low, high, value = unpack(op.low), unpack(op.high), op.value.value.data
    if not isinstance(x, Planes):
        return b.surrounded(x, low, high, value)
    known = bits_of(np.array([value]), x.element)
    shape = shape_of(op.result)
    planes = [
        _padded(plane, shape, low, high, bool(bit[0])) for plane, bit in zip(x.planes, known, strict=True)
    ]
    return Planes(x.element, planes)


def _padded(plane: Plane, shape: Sequence[int], low: Sequence[int], high: Sequence[int], bit: bool) -> Plane:
    if low[-1] or high[-1] or not plane.is_packed:
        return Plane(shape, bits=b.surrounded(plane.bits, low, high, int(bit)))
    if not bit:
        return Plane(shape, words=b.surrounded(plane.words, low, high, 0))
    return Plane(shape, words=b.insert(plane.words, Plane.full(shape, True).words, low))


def concat(op: ops.Concat, inputs: Sequence[Value]) -> Value:
    """The inputs one after the other."""
    axis, shape = op.axis.value.data, shape_of(op.result)
    first = inputs[0]
    if not isinstance(first, Planes):
        return joined([v for v in inputs if not isinstance(v, Planes)], shape, axis)
    parts = [value.planes for value in inputs if isinstance(value, Planes)]
    planes = [_joined_plane(column, shape, axis) for column in zip(*parts, strict=True)]
    return Planes(first.element, planes)


def _joined_plane(parts: Sequence[Plane], shape: tuple[int, ...], axis: int) -> Plane:
    is_last = axis == len(shape) - 1
    if is_last and not all(part.shape[-1] % WORD_BITS == 0 for part in parts[:-1]):
        return Plane(shape, bits=joined([part.bits for part in parts], shape, axis))
    words = [part.words for part in parts]
    last = sum(shape_of(word)[-1] for word in words) if is_last else shape_of(words[0])[-1]
    return Plane(shape, words=joined(words, (*shape[:-1], last), axis))


def joined(parts: Sequence[SSAValue], shape: Sequence[int], axis: int) -> SSAValue:
    """Tensors of numbers one after the other along an axis."""
    whole, at = b.empty(shape, element_of(parts[0])), 0
    for part in parts:
        start = [at if d == axis else 0 for d in range(len(shape))]
        whole, at = b.insert(part, whole, start), at + shape_of(part)[axis]
    return whole


def _moved(
    x: Value, shape: Sequence[int], by_words: bool, move: Callable[[SSAValue, Sequence[int]], SSAValue]
) -> Value:
    if isinstance(x, Planes):
        return x.moved(shape, by_words, move)
    return move(x, shape)
