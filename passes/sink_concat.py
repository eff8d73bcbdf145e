# SPDX-License-Identifier: Apache-2.0
"""sink-concat: what follows a concatenation of channels element by element happens where its parts are made.

f(concat(a, b)) is concat(f(a), f(b)), the constants of f cut in the same way: each part is computed in the
epilogue of the layer that makes it, and the concatenation is a matter of addresses. So a dense block, whose
every layer binarizes all channels that were there before, reads no real value twice. Concatenations of
concatenations become one, and parts that are cut out of one again are those parts.

Signs are packed along the channels: they are cut at whole words only.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, ModuleOp, i1
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import vector_of
from bnncc.dialect.properties import elements
from bnncc.dialect.types import element_of, is_number, shape_of, tensor
from bnncc.passes.matching import (
    CHANNEL_BOUND,
    ELEMENTWISE,
    apply_patterns,
    constant_of,
    has_one_use,
    producer,
    replace,
)
from bnncc.plan.layout import WORD_BITS

BY_ELEMENT = (*ELEMENTWISE, ops.BatchNorm)
"""What depends on one element, and on its channel."""

FARTHEST = 8
"""How many operations in front of an operand are looked at."""

Range = tuple[int, int]
"""The first channel of a part, and the one after its last."""


def ranges_of(concat: ops.Concat) -> list[Range]:
    """Where the inputs of a concatenation lie in it."""
    axis = concat.axis.value.data
    return list(pairwise(accumulate((shape_of(value)[axis] for value in concat.inputs), initial=0)))


def joins_channels(concat: ops.Concat) -> bool:
    """Whether it is the last dimension along which the inputs follow each other."""
    return concat.axis.value.data == len(shape_of(concat.result)) - 1


def range_left(crop: ops.Pad) -> Range:
    """What of the only dimension that it shortens a crop leaves."""
    axis = crop.cropped_axis
    assert axis is not None
    start = -ops.unpack(crop.low)[axis]
    return start, start + shape_of(crop.result)[axis]


class MergeConcats(RewritePattern):
    """A concatenation in a concatenation is one; one of a single value is that value."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Concat, rewriter: PatternRewriter) -> None:
        """Take in the inputs of those along the same dimension."""
        if len(op.inputs) == 1:
            replace(rewriter, op, [], op.inputs[0])
            return
        inner = [producer(value, ops.Concat) for value in op.inputs]
        flat = [
            part
            for value, concat in zip(op.inputs, inner, strict=True)
            for part in (concat.inputs if concat is not None and concat.axis == op.axis else (value,))
        ]
        if len(flat) > len(op.inputs):
            replace(rewriter, op, [ops.Concat(flat, op.axis.value.data)])


class CropConcat(RewritePattern):
    """What is cut out of a concatenation is some of its inputs, and parts of them."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Pad, rewriter: PatternRewriter) -> None:
        """Cut every input that reaches into what is left."""
        axis, concat = op.cropped_axis, producer(op.input, ops.Concat)
        if axis is None or concat is None or concat.axis.value.data != axis:
            return
        first, last = range_left(op)
        new: list[Operation] = []
        parts: list[SSAValue] = []
        for value, (start, stop) in zip(concat.inputs, ranges_of(concat), strict=True):
            low, high = max(first, start), min(last, stop)
            if low >= high:
                continue
            if (low, high) != (start, stop):
                new.append(ops.Pad.crop(value, axis, low - start, high - low))
                value = new[-1].results[0]
            parts.append(value)
        new.append(ops.Concat(parts, axis))
        replace(rewriter, op, new)


class MergeCrops(RewritePattern):
    """What is cut out of what is cut out; crops side by side in a concatenation are one."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Both cases."""
        if isinstance(op, ops.Pad):
            self.nested(op, rewriter)
        elif isinstance(op, ops.Concat):
            self.neighbours(op, rewriter)

    def nested(self, op: ops.Pad, rewriter: PatternRewriter) -> None:
        """A crop of a crop along one dimension is one crop; one that leaves everything is none."""
        if op.is_crop and op.input.type == op.result.type:
            replace(rewriter, op, [], op.input)
            return
        inner = producer(op.input, ops.Pad)
        if inner is None or op.cropped_axis is None or inner.cropped_axis != op.cropped_axis:
            return
        (before, _), (first, last) = range_left(inner), range_left(op)
        replace(rewriter, op, [ops.Pad.crop(inner.input, op.cropped_axis, before + first, last - first)])

    def neighbours(self, op: ops.Concat, rewriter: PatternRewriter) -> None:
        """Two crops of one value, the second of which begins where the first one ends."""
        axis = op.axis.value.data
        for i, (left, right) in enumerate(pairwise(op.inputs)):
            one, other = producer(left, ops.Pad), producer(right, ops.Pad)
            if one is None or other is None or one.input is not other.input:
                continue
            if one.cropped_axis != axis or other.cropped_axis != axis:
                continue
            (start, end), (begin, stop) = range_left(one), range_left(other)
            if end == begin:
                whole = ops.Pad.crop(one.input, axis, start, stop - start)
                parts = [*op.inputs[:i], whole.result, *op.inputs[i + 2 :]]
                replace(rewriter, op, [whole, ops.Concat(parts, axis)])
                return


class SinkConcat(RewritePattern):
    """f(concat(a, b), constant) is concat(f(a, first part), f(b, second part)), if a layer makes a or b.

    What has one reader only, which cannot follow, stays with that reader: it would have to be stored."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Check that all operands can be cut alike, and the result."""
        if not isinstance(op, BY_ELEMENT):
            return
        if not all(isinstance(value.owner, ops.Concat | ops.Constant) for value in op.operands):
            return
        ranges = common_ranges(op)
        if not ranges or not is_worth_it(op) or not readers_follow(op, ranges):
            return
        shape, element = shape_of(op.results[0]), element_of(op.results[0])
        new: list[Operation] = []
        for number, part in enumerate(ranges):
            operands = [self.operand(value, number, part, shape[-1], new) for value in op.operands]
            kind = tensor((*shape[:-1], part[1] - part[0]), element)
            new.append(op.create(operands=operands, result_types=[kind], properties=properties_of(op, part)))
        made = [operation.results[0] for operation in new if not isinstance(operation, ops.Constant)]
        replace(rewriter, op, [*new, ops.Concat(made, len(shape) - 1)])

    def operand(
        self, value: SSAValue, number: int, part: Range, channels: int, new: list[Operation]
    ) -> SSAValue:
        """The part of an operand; constants are appended to `new`."""
        concat = producer(value, ops.Concat)
        if concat is not None:
            return concat.inputs[number]
        array = constant_of(value)
        assert array is not None
        if not array.ndim or array.shape[-1] != channels:
            return value
        new.append(ops.Constant(np.ascontiguousarray(array[..., slice(*part)]), element_of(value)))
        return new[-1].results[0]


class SinkThroughPool(RewritePattern):
    """pool(concat(a, b)) is concat(pool(a), pool(b)), if only the pool reads the concatenation: what is large
    need not be kept until all of it is there."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.MaxPool | ops.MeanPool, rewriter: PatternRewriter) -> None:
        """Pool every input."""
        concat = producer(op.input, ops.Concat)
        if concat is None or not joins_channels(concat) or not has_one_use(op.input):
            return
        if not all(is_computed(value) for value in concat.inputs):
            return
        if not is_number(element_of(op.result)):
            return
        shape, element = shape_of(op.result), element_of(op.result)
        new = [
            op.create(
                operands=[value],
                result_types=[tensor((*shape[:-1], shape_of(value)[-1]), element)],
                properties=dict(op.properties),
            )
            for value in concat.inputs
        ]
        made = [operation.results[0] for operation in new]
        replace(rewriter, op, [*new, ops.Concat(made, len(shape) - 1)])


Known = tuple[SSAValue, list[Range]]
"""A value, and how it will be cut."""


def common_ranges(op: Operation, depth: int = FARTHEST, known: Known | None = None) -> list[Range] | None:
    """How the operands of an element-wise operation are cut along the channels, [] of constants alone; None
    where they are not all cut alike, or the result cannot be."""
    shape, element = shape_of(op.results[0]), element_of(op.results[0])
    found: list[Range] = []
    for value in op.operands:
        if isinstance(value.owner, ops.Constant):
            continue
        ranges = known[1] if known and value is known[0] else ranges_of_value(value, depth)
        if ranges is None or (found and ranges != found) or shape_of(value) != shape:
            return None
        found = ranges
    is_packed = not is_number(element) or element == i1
    return None if is_packed and any(start % WORD_BITS for start, _ in found) else found


def ranges_of_value(value: SSAValue, depth: int) -> list[Range] | None:
    """How a value is cut, or will be once it is computed part by part."""
    op = value.owner
    if isinstance(op, ops.Concat) and joins_channels(op):
        return ranges_of(op)
    if depth and isinstance(op, BY_ELEMENT):
        return common_ranges(op, depth - 1) or None
    return None


def is_worth_it(op: Operation) -> bool:
    """Whether a kernel takes in what is computed of one of the parts."""
    concats = [concat for value in op.operands if (concat := producer(value, ops.Concat)) is not None]
    return any(is_computed(value) for concat in concats for value in concat.inputs)


def readers_follow(op: Operation, ranges: list[Range]) -> bool:
    """Whether the chain of only readers, element by element, can be cut to its end."""
    while has_one_use(value := op.results[0]):
        (use,) = value.uses
        op = use.operation
        if not isinstance(op, BY_ELEMENT):
            return True
        if common_ranges(op, known=(value, ranges)) != ranges:
            return False
    return True


def is_computed(value: SSAValue) -> bool:
    """Whether a kernel of our own makes a value, or what it is cut out of, whose epilogue takes in what
    follows."""
    crop = producer(value, ops.Pad)
    source = value if crop is None or not crop.is_crop else crop.input
    return isinstance(source.owner, (*BY_ELEMENT, *ops.ROOTS))


class RaiseSigns(RewritePattern):
    """sign(f(crop(x))) is crop(sign(f(x))), if a layer makes x: bits that nobody reads cost its epilogue less
    than another pass over x. Constants of f are 1 for the other channels."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """One operation at a time."""
        crop = producer(op.operands[0], ops.Pad) if isinstance(op, RAISED) else None
        if crop is None or not is_computed(crop.input) or not leaves_words(crop) or not ends_in_signs(op):
            return
        whole = shape_of(crop.input)
        if shape_of(op.results[0]) != shape_of(crop.result) or not has_known_channels(op):
            return
        part = range_left(crop)
        new: list[Operation] = []
        operands = [crop.input, *(self.spread(value, whole[-1], part, new) for value in op.operands[1:])]
        kind = tensor(whole, element_of(op.results[0]))
        new.append(op.create(operands=operands, result_types=[kind], properties=dict(op.properties)))
        last = ops.Pad.crop(new[-1].results[0], len(whole) - 1, part[0], part[1] - part[0])
        replace(rewriter, op, [*new, last])

    def spread(self, value: SSAValue, channels: int, part: Range, new: list[Operation]) -> SSAValue:
        """A constant for all channels, appended to `new`; one for any channel as it is."""
        array = constant_of(value)
        assert array is not None
        if not array.ndim or array.shape[-1] == 1:
            return value
        whole = np.ones((*array.shape[:-1], channels), array.dtype)
        whole[..., slice(*part)] = array
        new.append(ops.Constant(whole, element_of(value)))
        return new[-1].results[0]


RAISED = tuple(kind for kind in BY_ELEMENT if kind not in CHANNEL_BOUND)


def leaves_words(crop: ops.Pad) -> bool:
    """Whether it cuts channels at whole words of bits."""
    channels = shape_of(crop.input)[-1]
    if crop.cropped_axis != len(shape_of(crop.result)) - 1:
        return False
    start, stop = range_left(crop)
    return start % WORD_BITS == 0 and (stop % WORD_BITS == 0 or stop == channels)


def has_known_channels(op: Operation) -> bool:
    """Whether what an operation reads besides its first operand is constant."""
    return all(constant_of(value) is not None for value in op.operands[1:])


def ends_in_signs(op: Operation) -> bool:
    """Whether an operation, or the chain of its only readers, gives signs of one value and constants."""
    while isinstance(op, RAISED) and has_known_channels(op):
        if isinstance(op, ops.Binarize):
            return True
        value = op.results[0]
        if not has_one_use(value):
            return False
        (use,) = value.uses
        if use.index != 0:
            return False
        op = use.operation
    return False


def properties_of(op: Operation, part: Range) -> dict:
    """The properties of an operation on some of the channels."""
    if not isinstance(op, CHANNEL_BOUND):
        return dict(op.properties)
    whole = shape_of(op.results[0])[-1]
    return {name: _cut(value, part, whole) for name, value in op.properties.items()}


def _cut(value: Attribute, part: Range, channels: int) -> Attribute:
    """The rows of a property that has one for each channel."""
    if not isinstance(value, DenseIntOrFPElementsAttr) or value.get_shape()[0] != channels:
        return value
    rows = vector_of(value).reshape(value.get_shape())[slice(*part)]
    return elements(rows.shape, rows, value.get_element_type())


PATTERNS = (MergeConcats(), CropConcat(), MergeCrops(), SinkConcat(), SinkThroughPool(), RaiseSigns())


class SinkConcatPass(ModulePass):
    """Move concatenations down until somebody needs the whole."""

    name = "sink-concat"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        apply_patterns(op, *PATTERNS)
