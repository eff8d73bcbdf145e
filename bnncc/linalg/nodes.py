# SPDX-License-Identifier: Apache-2.0
"""ONNX nodes that are no operations of bnn, as far as upstream MLIR says them in a few words.

Parts of tensors of any rank, sums, and casts (of float16 too, which ports may have). Indices, axes and bounds
are constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import IntegerAttr, f32
from xdsl.ir import SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import unpack
from bnncc.dialect.types import element_of, is_number, shape_of
from bnncc.linalg import builders as b
from bnncc.linalg import scalars
from bnncc.linalg.layout import joined

Number = Callable[[SSAValue], SSAValue]
"""What an operand has become."""


def convert_node(op: ops.Onnx, number: Number) -> SSAValue | None:
    """The result of a node; None for one that is not known here, or not with these inputs."""
    convert = NODES.get(op.operator.data) if op.domain.data == "" else None
    known = all(is_number(element_of(value)) for value in (*op.inputs, op.outputs[0]))
    return convert(op, number) if convert is not None and known else None


def _cast(op: ops.Onnx, number: Number) -> SSAValue:
    x, wanted = _operand(op, 0), element_of(op.outputs[0])
    return b.elementwise(
        [number(x)],
        shape_of(x),
        [b.signless(wanted)],
        lambda value: [scalars.convert(value, element_of(x), wanted)],
    )[0]


def _slice(op: ops.Onnx, number: Number) -> SSAValue | None:
    x = _operand(op, 0)
    shape = shape_of(x)
    starts, ends = _integers(op, 1), _integers(op, 2)
    if starts is None or ends is None:
        return None
    axes = _integers(op, 3) or tuple(range(len(starts)))
    steps = _integers(op, 4) or (1,) * len(starts)
    whole = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        whole[axis] = slice(start, end, step)
    ranges = [range(*s.indices(extent)) for s, extent in zip(whole, shape, strict=True)]
    if any(r.step < 1 for r in ranges):
        return None
    offsets, extents = [r.start for r in ranges], [len(r) for r in ranges]
    part = tensor.ExtractSliceOp.from_static_parameters(number(x), offsets, extents, [r.step for r in ranges])
    return b.copied(part.result, b.empty(extents, element_of(part.result)))


def _gather(op: ops.Onnx, number: Number) -> SSAValue | None:
    """Of constant indices; those in a row are taken together."""
    x, indices = _operand(op, 0), _known(op, 1)
    if indices is None or not indices.size:
        return None
    shape = list(shape_of(x))
    axis = _parameter(op, "axis", 0) % len(shape)
    at = indices.reshape(-1) % shape[axis]
    parts = []
    for run in np.split(at, np.flatnonzero(np.diff(at) != 1) + 1):
        offsets = [int(run[0]) if d == axis else 0 for d in range(len(shape))]
        parts.append(b.extract(number(x), offsets, [*shape[:axis], len(run), *shape[axis + 1 :]]))
    extents = [*shape[:axis], len(at), *shape[axis + 1 :]]
    if len(parts) == 1:
        whole = b.copied(parts[0], b.empty(extents, element_of(parts[0])))
    else:
        whole = joined(parts, extents, axis)
    return b.reshape(whole, shape_of(op.outputs[0]))


def _concat(op: ops.Onnx, number: Number) -> SSAValue:
    shape = shape_of(op.outputs[0])
    axis = _parameter(op, "axis", 0) % len(shape)
    return joined([number(value) for value in op.inputs], shape, axis)


def _sum(op: ops.Onnx, number: Number) -> SSAValue | None:
    return _reduced(op, number, divide=False)


def _mean(op: ops.Onnx, number: Number) -> SSAValue | None:
    return _reduced(op, number, divide=True)


def _reduced(op: ops.Onnx, number: Number, divide: bool) -> SSAValue | None:
    x = _operand(op, 0)
    shape, axes = shape_of(x), _integers(op, 1)
    if element_of(x) != f32 or axes is None:
        return None
    gone = {axis % len(shape) for axis in axes}
    names = b.loops(len(shape))
    kept = [name for axis, name in enumerate(names) if axis not in gone]
    start = b.filled([shape[names.index(name)] for name in kept], 0.0, f32)
    total = b.generic(
        [number(x)],
        [start],
        names,
        [names, kept],
        [names[axis] for axis in sorted(gone)],
        lambda value, so_far: [arith.AddfOp(so_far, value).result],
    )[0]
    if divide:
        count = b.scalar(math.prod(shape[axis] for axis in gone), f32)
        total = b.elementwise([total], shape_of(total), [f32], lambda v: [arith.DivfOp(v, count).result])[0]
    return b.reshape(total, shape_of(op.outputs[0]))


NODES: dict[str, Callable[[ops.Onnx, Number], SSAValue | None]] = {
    "Cast": _cast,
    "Slice": _slice,
    "Gather": _gather,
    "Concat": _concat,
    "ReduceSum": _sum,
    "ReduceMean": _mean,
}
"""What is known, by the operator of ONNX."""


def _operand(op: ops.Onnx, slot: int) -> SSAValue:
    return op.inputs[unpack(op.slots).index(slot)]


def _known(op: ops.Onnx, slot: int) -> np.ndarray | None:
    """The constant in a slot, if there is one."""
    slots = unpack(op.slots)
    if slot not in slots:
        return None
    owner = op.inputs[slots.index(slot)].owner
    return owner.array if isinstance(owner, ops.Constant) else None


def _integers(op: ops.Onnx, slot: int) -> Sequence[int] | None:
    array = _known(op, slot)
    return None if array is None else tuple(int(value) for value in array.reshape(-1))


def _parameter(op: ops.Onnx, name: str, default: int) -> int:
    value = op.parameters.data.get(name)
    return value.value.data if isinstance(value, IntegerAttr) else default
