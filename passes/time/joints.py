# SPDX-License-Identifier: Apache-2.0
"""What stands around a loop over time where exporters left steps outside: parts of sequences, and what the
loop collected, concatenated with what other steps gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.ir import Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.time import Scan
from bnncc.dialect.types import element_of, shape_of, tensor
from bnncc.passes.matching import constant_of


@dataclass(frozen=True)
class Part:
    """Elements first ... last - 1 of a tensor along the first dimension."""

    whole: SSAValue
    first: int
    last: int

    def extended(self, first: int, last: int, scan: Scan) -> SSAValue:
        """Other elements of it, in front of a loop."""
        shape, block = shape_of(self.whole), scan.parent
        assert block is not None
        if (first, last) == (0, shape[0]):
            return self.whole
        numbers = [ops.Constant(np.array([n], np.int64)) for n in (first, last, 0)]
        type_ = tensor((last - first, *shape[1:]), element_of(self.whole))
        part = ops.Onnx("Slice", [self.whole, *(n.result for n in numbers)], [type_])
        for op in (*numbers, part):
            op.location = scan.location
        block.insert_ops_before([*numbers, part], scan)
        return part.outputs[0]


def part_of(sequence: SSAValue) -> Part:
    """Of which tensor a sequence is what part: of itself, or of what is sliced."""
    op, itself = sequence.owner, Part(sequence, 0, shape_of(sequence)[0])
    if not isinstance(op, ops.Onnx) or op.operator.data != "Slice" or op.domain.data:
        return itself
    given = [constant_of(value) for value in op.inputs[1:]]
    numbers = [array.reshape(-1).tolist() for array in given if array is not None]
    if len(numbers) != len(given) or len(numbers) < 2 or numbers[2:] not in ([], [[0]], [[0], [1]]):
        return itself
    whole, (first, *others) = op.inputs[0], numbers[0]
    count = shape_of(sequence)[0]
    is_plain = not others and first >= 0 and shape_of(whole)[1:] == shape_of(sequence)[1:]
    return Part(whole, first, first + count) if is_plain else itself


@dataclass(frozen=True)
class Use:
    """A concatenation along time that takes a collected value as operand `index`."""

    op: Operation
    index: int
    result: SSAValue

    @property
    def before(self) -> SSAValue | None:
        """The operand in front."""
        return self.op.operands[self.index - 1] if self.index else None

    @property
    def after(self) -> SSAValue | None:
        """The operand behind."""
        return self.op.operands[self.index + 1] if self.index + 1 < len(self.op.operands) else None


def joined(value: SSAValue) -> list[Use] | None:
    """The concatenations along the first dimension that read a value; None if anything else does."""
    found = []
    for use in value.uses:
        op = use.operation
        is_concat = isinstance(op, ops.Concat) and op.axis.value.data == 0
        if isinstance(op, ops.Onnx) and op.operator.data == "Concat" and not op.domain.data:
            axis = op.parameters.data.get("axis")
            is_concat = axis is not None and axis.value.data == 0  # type: ignore[attr-defined]
        if not is_concat:
            return None
        found.append(Use(op, use.index, op.results[0]))
    return found


def step_of(value: SSAValue | None, like: SSAValue) -> SSAValue | None:
    """What was made [1, ...] of a value to be concatenated with steps of it."""
    if value is None:
        return None
    if isinstance(value.owner, ops.Reshape) and value.owner.input.type == like.type:
        return value.owner.input
    return None


def move_joints(uses: Sequence[list[Use] | None], new: Scan, side: int) -> None:
    """Concatenations of what is collected: the step on one side (-1: before, 1: after) is in it now."""
    joints = [(use, result) for found, result in zip(uses, new.stacked, strict=True) for use in found or ()]
    # From the back: places in front stay what they were.
    for use, result in sorted(joints, key=lambda joint: -joint[0].index):
        join_again(use, result, use.index + side)


def join_again(use: Use, result: SSAValue, gone: int) -> None:
    """A concatenation without one operand, which is part of another now."""
    operands = [
        result if i == use.index else operand for i, operand in enumerate(use.op.operands) if i != gone
    ]
    if len(operands) == 1:
        use.result.replace_all_uses_with(operands[0])
        use.op.detach()
        use.op.erase()
        return
    use.op.operands = operands
    if isinstance(use.op, ops.Onnx):
        use.op.properties["slots"] = ops.ints(range(len(operands)))
