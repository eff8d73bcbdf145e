# SPDX-License-Identifier: Apache-2.0
"""fold-shuffle: channels in another order are weights in another order.

A permutation of channels (see recognize-shuffle) sinks through what works channel by channel, through
concatenations and what is cut out of them, until the weights of a convolution or a dense layer take it in.
Where it gets stuck, as in front of a convolution in groups, it rises to the layer before, whose outputs come
in another order then. What is left of it turns a matrix of channels: one copy.
"""

from __future__ import annotations

from math import prod

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, shape_of
from bnncc.passes.matching import (
    CHANNEL_BOUND,
    ELEMENTWISE,
    apply_patterns,
    constant_of,
    has_one_use,
    replace,
)
from bnncc.passes.recognize_shuffle import gathered, permutation_of, unshuffled
from bnncc.passes.sink_concat import joins_channels, range_left

MOST_PIECES = 8
"""Into which a part of permuted channels is cut before they are put in order."""

BY_ELEMENT = (*(kind for kind in ELEMENTWISE if kind not in CHANNEL_BOUND), ops.BatchNorm)
POOLS = (ops.MaxPool, ops.MeanPool)


def is_depthwise(op: Operation) -> bool:
    """Whether it is a convolution that makes every channel of the same one."""
    if not isinstance(op, ops.Conv2d):
        return False
    groups, channels = op.groups.value.data, shape_of(op.input)[3]
    return groups == channels == shape_of(op.result)[3]


def takes_all_channels(op: Operation) -> bool:
    """Whether it is a layer of one group whose weights are known."""
    if isinstance(op, ops.Dense):
        return constant_of(op.weight) is not None
    return isinstance(op, ops.Conv2d) and op.groups.value.data == 1 and constant_of(op.weight) is not None


def of_channels(value: SSAValue, channels: np.ndarray, new: list[Operation]) -> SSAValue | None:
    """A constant with these channels of its last dimension, which is appended to `new`; what has one channel
    as it is. None of anything else."""
    if not shape_of(value) or shape_of(value)[-1] == 1:
        return value
    array = constant_of(value)
    if array is None:
        return None
    new.append(ops.Constant(np.ascontiguousarray(array[..., channels]), element_of(value)))
    return new[-1].results[0]


def with_weight(op: ops.Conv2d | ops.Dense, value: SSAValue, weight: np.ndarray) -> list[Operation]:
    """The same layer of another input and other weights."""
    constant = ops.Constant(np.ascontiguousarray(weight), element_of(op.weight))
    operands = [value, constant.result, *op.operands[2:]]
    types = [result.type for result in op.results]
    return [constant, op.create(operands=operands, result_types=types, properties=dict(op.properties))]


class MergeShuffles(RewritePattern):
    """Two permutations are one; one that changes nothing is none."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Onnx, rewriter: PatternRewriter) -> None:
        """Compose them."""
        channels = permutation_of(op)
        if channels is None:
            return
        inner = permutation_of(op.inputs[0])
        if (channels == np.arange(len(channels))).all():
            replace(rewriter, op, [], op.inputs[0])
        elif inner is not None:
            replace(rewriter, op, gathered(unshuffled(op.inputs[0]), inner[channels].tolist()))


class SinkShuffle(RewritePattern):
    """f(permute(x)) is permute(f(x)), the constants of f permuted back; of a layer it is f'(x)."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Find a permuted operand."""
        found = [(value, p) for value in op.operands if (p := permutation_of(value)) is not None]
        if not found or permutation_of(op) is not None:
            return
        value, channels = found[0]
        inner, back = unshuffled(value), np.argsort(channels)
        if takes_all_channels(op):
            assert isinstance(op, ops.Conv2d | ops.Dense)
            weight = constant_of(op.weight)
            assert weight is not None
            replace(rewriter, op, with_weight(op, inner, weight[..., back]))
            return
        new = self.moved(op, inner, channels, back)
        if new:
            replace(rewriter, op, [*new, *gathered(new[-1].results[0], channels.tolist())])

    def moved(
        self, op: Operation, inner: SSAValue, channels: np.ndarray, back: np.ndarray
    ) -> list[Operation]:
        """What computes the result in the order that the channels had before; [] where nothing does."""
        match op:
            case ops.Conv2d() if is_depthwise(op) and (weight := constant_of(op.weight)) is not None:
                return with_weight(op, inner, weight[back])
            case ops.Reshape() if is_flattened_pixel(op):
                return [ops.Reshape(inner, shape_of(op.result))]
            case _ if isinstance(op, POOLS):
                types = [op.results[0].type]
                return [op.create(operands=[inner], result_types=types, properties=dict(op.properties))]
            case _ if isinstance(op, BY_ELEMENT):
                return by_element(op, channels, back)
        return []


def is_flattened_pixel(op: ops.Reshape) -> bool:
    """[n, 1, 1, c] as [n, c]."""
    before, after = shape_of(op.input), shape_of(op.result)
    return len(after) == 2 and before == (after[0], 1, 1, after[1])


def by_element(op: Operation, channels: np.ndarray, back: np.ndarray) -> list[Operation]:
    """An element-wise operation before the permutation: operands that are permuted in the same way are taken
    from before it."""
    new: list[Operation] = []
    operands = []
    for value in op.operands:
        own = permutation_of(value)
        if own is not None and np.array_equal(own, channels):
            operands.append(unshuffled(value))
            continue
        operand = of_channels(value, back, new)
        if operand is None:
            for constant in reversed(new):
                constant.erase()
            return []
        operands.append(operand)
    types = [op.results[0].type]
    return [*new, op.create(operands=operands, result_types=types, properties=dict(op.properties))]


class SinkThroughConcat(RewritePattern):
    """concat(permute(a), b) is a permutation of concat(a, b)."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Concat, rewriter: PatternRewriter) -> None:
        """Put the permutations of the inputs side by side."""
        known = [permutation_of(value) for value in op.inputs]
        if not joins_channels(op) or all(channels is None for channels in known):
            return
        values: list[SSAValue] = []
        order: list[int] = []
        for value, channels in zip(op.inputs, known, strict=True):
            start, count = len(order), shape_of(value)[-1]
            order += [start + int(c) for c in (range(count) if channels is None else channels)]
            values.append(value if channels is None else unshuffled(value))
        joined = ops.Concat(values, op.axis.value.data)
        replace(rewriter, op, [joined, *gathered(joined.result, order)])


class SinkThroughCrop(RewritePattern):
    """A part of permuted channels is those channels, cut out where they are, in another order."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Pad, rewriter: PatternRewriter) -> None:
        """Cut out as few pieces as hold them."""
        channels, axis = permutation_of(op.input), len(shape_of(op.result)) - 1
        if channels is None or op.cropped_axis != axis:
            return
        wanted = channels[slice(*range_left(op))]
        there = np.sort(wanted)
        pieces = np.split(there, np.flatnonzero(np.diff(there) > 1) + 1)
        if len(pieces) > MOST_PIECES:
            return
        whole = unshuffled(op.input)
        new: list[Operation] = [ops.Pad.crop(whole, axis, int(p[0]), len(p)) for p in pieces]
        new.append(ops.Concat([piece.results[0] for piece in new], axis))
        order = np.searchsorted(there, wanted).tolist()
        replace(rewriter, op, [*new, *gathered(new[-1].results[0], order)])


class RaiseShuffle(RewritePattern):
    """permute(f(x)) is f(permute(x)), the constants of f permuted, up to the layer whose outputs they are."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Onnx, rewriter: PatternRewriter) -> None:
        """One operation at a time."""
        channels = permutation_of(op)
        if channels is None or not (comes_from_layer(op.inputs[0]) or are_signs(op.inputs[0])):
            return
        before = op.inputs[0].owner
        assert isinstance(before, Operation)
        if takes_all_channels(before) or is_depthwise(before):
            assert isinstance(before, ops.Conv2d | ops.Dense)
            weight, value = constant_of(before.weight), before.input
            assert weight is not None
            new = [] if takes_all_channels(before) else gathered(value, channels.tolist())
            value = new[-1].results[0] if new else value
            replace(rewriter, op, [*new, *with_weight(before, value, weight[channels])])
            return
        first = gathered(before.operands[0], channels.tolist())
        new = list(first)
        operands: list[SSAValue] = [first[-1].results[0]]
        for value in before.operands[1:]:
            operand = of_channels(value, channels, new)
            assert operand is not None, "other operands are constants"
            operands.append(operand)
        types = [before.results[0].type]
        new.append(before.create(operands=operands, result_types=types, properties=dict(before.properties)))
        replace(rewriter, op, new)


def are_signs(value: SSAValue) -> bool:
    """Whether it is signs, or numbers that are: bits are worse to move than what they are made of."""
    op = value.owner
    made = isinstance(op, ops.Binarize) or (
        isinstance(op, ops.Cast) and isinstance(op.input.owner, ops.Binarize)
    )
    return made and has_one_use(value)


def comes_from_layer(value: SSAValue) -> bool:
    """Whether nothing but single readers and constants is between a value and a layer of one group."""
    while has_one_use(value) and isinstance(op := value.owner, Operation):
        if takes_all_channels(op):
            return True
        by_channel = isinstance(op, (*BY_ELEMENT, *POOLS)) or is_depthwise(op)
        if not by_channel or any(constant_of(operand) is None for operand in op.operands[1:]):
            return False
        if shape_of(op.operands[0]) != shape_of(op.results[0]) and isinstance(op, BY_ELEMENT):
            return False
        value = op.operands[0]
    return False


class TurnMatrix(RewritePattern):
    """Channels of g groups that take turns are the columns of a matrix of g rows."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Onnx, rewriter: PatternRewriter) -> None:
        """Find g."""
        channels, shape = permutation_of(op), shape_of(op.outputs[0])
        if channels is None or len(channels) < 4:
            return
        count, row = len(channels), int(channels[1])
        if not row or count % row or row == count:
            return
        if not np.array_equal(channels, np.arange(count).reshape(-1, row).T.reshape(-1)):
            return
        pixels = prod(shape[1:-1])
        matrix = ops.Reshape(op.inputs[0], (shape[0], pixels, count // row, row))
        turned = ops.Transpose(matrix.result, (0, 1, 3, 2))
        replace(rewriter, op, [matrix, turned, ops.Reshape(turned.result, shape)])


class FoldShufflePass(ModulePass):
    """Down, then up, then what is left."""

    name = "fold-shuffle"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        apply_patterns(op, MergeShuffles(), SinkThroughConcat(), SinkThroughCrop(), SinkShuffle())
        apply_patterns(op, MergeShuffles(), RaiseShuffle())
        apply_patterns(op, TurnMatrix())
