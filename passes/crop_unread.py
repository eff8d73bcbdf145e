# SPDX-License-Identifier: Apache-2.0
"""crop-unread: rows and columns of images that no window reads are not computed.

A pool of stride 2 over 13 rows reads 12 of them; so the convolution in front makes 12, reads less of its own
input in turn, and so on to the input of the network, of which a view is taken. Walks from the readers of a
value to the value: what an operation needs of its operands follows from what is needed of its results.
Recurrences and element-wise operations need what they give. Networks without a recurrence keep their shapes,
which are those of the tensors that `verify` compares with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from bnncc.dialect import operations as ops
from bnncc.dialect.sources import SOURCE
from bnncc.dialect.time import Scan, is_recurrence
from bnncc.dialect.types import element_of, shape_of, tensor
from bnncc.passes.bodies import block_with_shapes, with_types
from bnncc.passes.matching import ELEMENTWISE, apply_patterns, main_block

Extent = tuple[int, int]
"""Rows and columns."""

POOLS = (ops.MaxPool, ops.MeanPool, ops.CountPool)
WINDOWS = (ops.Conv2d, *POOLS)


def is_image(value: SSAValue) -> bool:
    """Whether a value is [n, h, w, c]."""
    return len(shape_of(value)) == 4


def extent(value: SSAValue) -> Extent:
    """Rows and columns of an image."""
    _, height, width, _ = shape_of(value)
    return height, width


def kernel_of(op: Operation) -> Extent:
    """Rows and columns of a window."""
    if isinstance(op, ops.Conv2d):
        return shape_of(op.weight)[1], shape_of(op.weight)[2]
    assert isinstance(op, POOLS)
    height, width = ops.unpack(op.kernel)
    return height, width


def pads_of(op: Operation) -> tuple[int, ...]:
    """top, left, bottom, right."""
    return (0, 0, 0, 0) if isinstance(op, ops.CountPool) else ops.unpack(op.pads)  # type: ignore[attr-defined]


def reach(op: Operation, wanted: Extent) -> Extent:
    """Rows and columns of its input, those outside of the image at the top and left included, that a window
    reads for so many outputs."""
    assert isinstance(op, WINDOWS)
    strides, dilations = ops.unpack(op.strides), ops.unpack(op.dilations)
    height, width = (
        (count - 1) * stride + (taps - 1) * dilation + 1
        for count, stride, taps, dilation in zip(wanted, strides, kernel_of(op), dilations, strict=True)
    )
    return height, width


class Demand:
    """What is read of each image of a block."""

    def __init__(self, block: Block):
        self.wanted: dict[SSAValue, Extent] = {}
        for op in reversed(list(block.ops)):
            self._visit(op)

    def of(self, value: SSAValue) -> Extent:
        """What is read of a value."""
        return self.wanted.get(value, (0, 0))

    def _need(self, value: SSAValue, wanted: Extent) -> None:
        """So much of it, or all: what repeats itself along rows or columns has one of them."""
        (height, width), (rows, columns) = self.of(value), extent(value)
        self.wanted[value] = max(height, min(rows, wanted[0])), max(width, min(columns, wanted[1]))

    def _visit(self, op: Operation) -> None:
        if isinstance(op, WINDOWS):
            self._visit_window(op)
            return
        passes_on = isinstance(op, ELEMENTWISE) and is_image(op.results[0])
        wanted = self.of(op.results[0]) if passes_on else None
        if is_recurrence(op) and all(is_image(value) for value in (*op.sequences, *op.stacked)):
            wanted = self._of_recurrence(op)
        for operand in op.operands:
            if is_image(operand):
                self._need(operand, extent(operand) if wanted is None else wanted)

    def _of_recurrence(self, op: Scan) -> Extent | None:
        """What is read of all that it collects, which is what it computes; None for everything."""
        if not op.stacked or any(True for value in op.final for _ in value.uses):
            self.wanted.update({value: extent(value) for value in op.stacked})
            return None
        read = [self.of(value) for value in op.stacked]
        wanted = max(height for height, _ in read), max(width for _, width in read)
        self.wanted.update({value: wanted for value in op.stacked})
        return wanted

    def _visit_window(self, op: Operation) -> None:
        image = op.operands[0]
        (top, left, _, _), (height, width) = pads_of(op), reach(op, self.of(op.results[0]))
        rows, columns = extent(image)
        self._need(image, (min(rows, height - top), min(columns, width - left)))
        for operand in op.operands[1:]:
            if is_image(operand):
                self._need(operand, extent(operand))


class Cropping:
    """Writes the operations of a block anew where less is read of them."""

    def __init__(self, block: Block):
        self.block = block
        self.demand = Demand(block)
        self.recurrences = {op for op in block.ops if is_recurrence(op)}

    def run(self) -> bool:
        """Whether anything became smaller."""
        changed = False
        for op in list(self.block.ops):
            results = [result for result in op.results if is_image(result)]
            smaller = any(self.is_smaller(result) for result in results)
            if isinstance(op, WINDOWS):
                changed |= self.window(op)
            elif smaller and isinstance(op, ELEMENTWISE):
                self.elementwise(op)
                changed = True
            elif smaller and isinstance(op, Scan) and op in self.recurrences:
                self.recurrence(op)
                changed = True
        return changed

    def is_smaller(self, value: SSAValue) -> bool:
        """Whether less is read of an image than there is, but something."""
        rows, columns = self.demand.of(value)
        height, width = extent(value)
        return rows > 0 and columns > 0 and (rows < height or columns < width)

    def cropped(self, value: SSAValue, wanted: Extent, before: Operation) -> SSAValue:
        """The first rows and columns of an image; what repeats itself along one stays."""
        _, height, width, _ = shape_of(value)
        rows, columns = (1 if have == 1 else want for have, want in zip((height, width), wanted, strict=True))
        if (rows, columns) == (height, width):
            return value
        if isinstance(value.owner, ops.Constant):
            new: Operation = ops.Constant(value.owner.array[:, :rows, :columns], element_of(value))
        else:
            new = ops.Pad(value, (0, 0, 0, 0), (0, rows - height, columns - width, 0))
        new.location = before.location
        self.block.insert_op_before(new, before)
        return new.results[0]

    def window(self, op: Operation) -> bool:
        """A convolution or a pool of what it reads."""
        result, image = op.results[0], op.operands[0]
        wanted = self.demand.of(result)
        if 0 in wanted:
            return False
        (top, left, _, _), (height, width) = pads_of(op), reach(op, wanted)
        rows, columns = extent(image)
        read = min(rows, height - top), min(columns, width - left)
        if read == (rows, columns) and wanted == extent(result):
            return False
        n, _, _, c = shape_of(result)
        operands = [self.cropped(image, read, op), *op.operands[1:]]
        new = with_types(op, operands, [tensor((n, *wanted, c), element_of(result))])
        if not isinstance(op, ops.CountPool):
            pads = (top, left, height - top - read[0], width - left - read[1])
            new.properties["pads"] = ops.ints(pads)
        self.replace(op, new, keep=wanted == extent(result))
        return True

    def elementwise(self, op: Operation) -> None:
        """An element-wise operation of less."""
        wanted = self.demand.of(op.results[0])
        operands = [self.cropped(v, wanted, op) if is_image(v) else v for v in op.operands]
        n, _, _, c = shape_of(op.results[0])
        self.replace(op, with_types(op, operands, [tensor((n, *wanted, c), element_of(op.results[0]))]))

    def recurrence(self, op: Scan) -> None:
        """A recurrence of less: its states and invariants begin with a row, its sequences with a step."""
        wanted = self.demand.of(op.stacked[0])

        def smaller(value: SSAValue) -> SSAValue:
            return self.cropped(value, wanted, op) if is_image(value) else self.shorter(value, wanted, op)

        operands = [[smaller(v) for v in part] for part in (op.sequences, op.initial, op.invariants)]
        body = block_with_shapes(op.block, lambda shape: _cut(shape, wanted), lambda a: _cut_array(a, wanted))
        sequences, initial, invariants = operands
        self.replace(op, Scan(sequences, initial, invariants, op.steps, Region(body)))

    def shorter(self, value: SSAValue, wanted: Extent, before: Operation) -> SSAValue:
        """The first rows and columns of [h, w, c]."""
        shape = shape_of(value)
        if len(shape) != 3 or shape[0] == shape[1] == 1:
            return value
        rows, columns = (1 if have == 1 else want for have, want in zip(shape, wanted, strict=False))
        if isinstance(value.owner, ops.Constant):
            new: Operation = ops.Constant(value.owner.array[:rows, :columns], element_of(value))
        else:
            new = ops.Pad(value, (0, 0, 0), (rows - shape[0], columns - shape[1], 0))
        new.location = before.location
        self.block.insert_op_before(new, before)
        return new.results[0]

    def replace(self, op: Operation, new: Operation, keep: bool = False) -> None:
        """Put an operation in the place of another; its results are read for less."""
        new.location = op.location
        if keep and SOURCE in op.attributes:
            new.attributes[SOURCE] = op.attributes[SOURCE]
        self.block.insert_op_before(new, op)
        for old, value in zip(op.results, new.results, strict=True):
            value.name_hint = old.name_hint
            if old in self.demand.wanted:
                self.demand.wanted[value] = self.demand.wanted[old]
            old.replace_all_uses_with(value)
        op.detach()
        op.erase()


def _cut(shape: Sequence[int], wanted: Extent) -> tuple[int, ...]:
    """A shape inside of a recurrence, [h, w, c] or less, its rows and columns cut."""
    if len(shape) != 3:
        return tuple(shape)
    return (min(shape[0], wanted[0]), min(shape[1], wanted[1]), shape[2])


def _cut_array(array: np.ndarray, wanted: Extent) -> np.ndarray:
    if array.ndim != 3:
        return array
    return array[: max(1, wanted[0]), : max(1, wanted[1])]


class CropUnreadPass(ModulePass):
    """Make images smaller that are not read to the end."""

    name = "crop-unread"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the function."""
        block = main_block(op)
        if any(is_recurrence(inner) for inner in block.ops):
            Cropping(block).run()
            apply_patterns(op)
