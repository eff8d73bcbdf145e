# SPDX-License-Identifier: Apache-2.0
"""What takes one step out of a sequence: nodes that give one element of a dimension of a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, IntegerAttr
from xdsl.ir import OpResult, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import shape_of
from bnncc.passes.matching import constant_of


@dataclass(frozen=True)
class Selection:
    """Element `index` of dimension `axis` of a tensor; the dimension stays, of extent 1, where `kept`."""

    tensor: SSAValue
    axis: int
    index: int
    kept: bool


def selection(value: SSAValue) -> Selection | None:
    """What a value takes out of a tensor, if it does."""
    op = value.owner
    if not isinstance(op, ops.Onnx) or op.domain.data:
        return None
    match op.operator.data:
        case "Gather":
            return _gathered(op)
        case "Slice":
            return _sliced(op)
        case "Split":
            return _split(op, value)
        case "Squeeze":
            return _squeezed(op)
        case _:
            return None


def integers_of(op: ops.Onnx, slot: int, name: str) -> list[int] | None:
    """An operand or attribute of known integers; None where there is none."""
    slots = ops.unpack(op.slots)
    if slot in slots:
        array = constant_of(op.inputs[slots.index(slot)])
        return None if array is None else [int(v) for v in array.reshape(-1)]
    attribute = op.parameters.data.get(name)
    if isinstance(attribute, DenseArrayBase):
        return list(ops.unpack(attribute))
    if isinstance(attribute, ArrayAttr):
        return [a.value.data for a in attribute if isinstance(a, IntegerAttr)]
    return None


def axis_of(op: ops.Onnx, rank: int) -> int:
    """The attribute `axis`, counted from the front."""
    attribute = op.parameters.data.get("axis")
    return (attribute.value.data if isinstance(attribute, IntegerAttr) else 0) % max(rank, 1)


def _gathered(op: ops.Onnx) -> Selection | None:
    index = constant_of(op.inputs[1]) if len(op.inputs) == 2 else None
    shape = shape_of(op.inputs[0])
    if index is None or index.size != 1 or index.ndim > 1 or not shape:
        return None
    axis = axis_of(op, len(shape))
    return Selection(op.inputs[0], axis, int(index.reshape(-1)[0]) % shape[axis], index.ndim == 1)


def _sliced(op: ops.Onnx) -> Selection | None:
    shape = shape_of(op.inputs[0])
    starts, ends = integers_of(op, 1, "starts"), integers_of(op, 2, "ends")
    axes, steps = integers_of(op, 3, "axes"), integers_of(op, 4, "steps")
    if starts is None or ends is None or len(starts) != 1 or (steps or [1]) != [1]:
        return None
    axis = (axes or [0])[0] % len(shape)
    start = starts[0] + shape[axis] * (starts[0] < 0)
    if shape_of(op.outputs[0])[axis] != 1 or not 0 <= start < shape[axis]:
        return None
    return Selection(op.inputs[0], axis, start, True)


def _split(op: ops.Onnx, value: SSAValue) -> Selection | None:
    axis = axis_of(op, len(shape_of(op.inputs[0])))
    if any(shape_of(result)[axis] != 1 for result in op.outputs):
        return None
    assert isinstance(value, OpResult)
    return Selection(op.inputs[0], axis, value.index, True)


def _squeezed(op: ops.Onnx) -> Selection | None:
    inner = selection(op.inputs[0])
    axes = integers_of(op, 1, "axes")
    if inner is None or not inner.kept or axes is None or len(axes) != 1:
        return None
    if axes[0] % len(shape_of(op.inputs[0])) != inner.axis:
        return None
    return Selection(inner.tensor, inner.axis, inner.index, False)


def is_node(op: object, operator: str) -> TypeGuard[ops.Onnx]:
    """Whether an operation is an ONNX node of this operator."""
    return isinstance(op, ops.Onnx) and op.operator.data == operator and not op.domain.data
