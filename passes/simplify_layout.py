# SPDX-License-Identifier: Apache-2.0
"""simplify-layout: transposes and reshapes move until they cancel.

Transposes to [n, c, h, w] sink towards the outputs, those to [n, h, w, c] rise towards the inputs, through
whatever works element by element; two that meet cancel. So only the network's inputs and outputs keep one.
Reshapes sink too, and a dense over a flattened image becomes a convolution with a kernel as large as it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import inverse, unpack
from bnncc.dialect.types import MOST_DIMENSIONS, bipolar, element_of, is_number, shape_of, tensor
from bnncc.passes.matching import (
    CHANNEL_BOUND,
    ELEMENTWISE,
    apply_patterns,
    compress,
    constant_of,
    discard,
    producer,
    replace,
    with_operands,
)
from bnncc.passes.time.layout import LOOP_PATTERNS

TO_LAST = (0, 2, 3, 1)
"""[n, c, h, w] -> [n, h, w, c]: rises."""

TO_FIRST = (0, 3, 1, 2)
"""[n, h, w, c] -> [n, c, h, w]: sinks."""

LARGEST_SPREAD = 1 << 22
"""A constant is not written out to more values than this in order to move a reshape; nor are the values of
larger tensors followed through transposes."""

MOVABLE = tuple(kind for kind in ELEMENTWISE if kind not in CHANNEL_BOUND)

BY_CHANNEL = (*CHANNEL_BOUND, ops.BatchNorm)
"""Operations whose parameters are indexed by the last dimension."""


class MergeTransposes(RewritePattern):
    """Two transposes are one; one that changes nothing is none."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Transpose, rewriter: PatternRewriter) -> None:
        """Compose the permutations."""
        permutation = unpack(op.permutation)
        if permutation == tuple(range(len(permutation))):
            replace(rewriter, op, [], op.input)
            return
        inner = producer(op.input, ops.Transpose)
        if inner is None:
            return
        composed = [unpack(inner.permutation)[axis] for axis in permutation]
        if composed == list(range(len(composed))):
            replace(rewriter, op, [], inner.input)
        else:
            replace(rewriter, op, [ops.Transpose(inner.input, composed)])


class TransposeToReshape(RewritePattern):
    """A transpose that only moves dimensions of size 1 is a reshape."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Transpose, rewriter: PatternRewriter) -> None:
        """Check the order of the other dimensions."""
        shape = shape_of(op.input)
        moved = [axis for axis in unpack(op.permutation) if shape[axis] != 1]
        if moved == sorted(moved):
            replace(rewriter, op, [ops.Reshape(op.input, shape_of(op.result))])


class CancelTransposes(RewritePattern):
    """Transposes with reshapes between them that leave all values in the order they had are a reshape: an
    image that becomes a row of its pixels, as transformers read it."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Transpose, rewriter: PatternRewriter) -> None:
        """Go back from the last transpose until nothing is moved."""
        if prod(shape_of(op.result)) > LARGEST_SPREAD:
            return
        chain: list[ops.Transpose | ops.Reshape] = [op]
        while isinstance(before := chain[-1].operands[0].owner, ops.Transpose | ops.Reshape):
            chain.append(before)
            if isinstance(before, ops.Transpose) and keeps_order(chain):
                replace(rewriter, op, [ops.Reshape(before.input, shape_of(op.result))])
                return


def keeps_order(chain: Sequence[ops.Transpose | ops.Reshape]) -> bool:
    """Whether values come out of transposes and reshapes, the last one first, in the order they went in."""
    shape = shape_of(chain[-1].operands[0])
    numbers = np.arange(prod(shape)).reshape(shape)
    for op in reversed(chain):
        if isinstance(op, ops.Transpose):
            numbers = numbers.transpose(unpack(op.permutation))
        else:
            numbers = numbers.reshape(shape_of(op.result))
    return bool((np.diff(numbers.reshape(-1)) == 1).all())


class MergeReshapes(RewritePattern):
    """Two reshapes are one; one that changes nothing is none."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Reshape, rewriter: PatternRewriter) -> None:
        """Skip the inner one."""
        inner = producer(op.input, ops.Reshape)
        if op.input.type == op.result.type:
            replace(rewriter, op, [], op.input)
        elif inner is not None:
            replace(rewriter, op, [ops.Reshape(inner.input, shape_of(op.result))])


class SinkTranspose(RewritePattern):
    """f(transpose(x), constant) is transpose(f(x, transposed constant)); so for pads and concatenations.

    Where another operand is not transposed, TO_FIRST still sinks and that operand is turned TO_LAST."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Find the permutation that sinks, turn all operands back, transpose the result."""
        if not isinstance(op, (*MOVABLE, ops.Pad, ops.Concat)):
            return
        permutation = self.permutation(op)
        if permutation is None:
            return
        turned = turn(op, inverse(permutation))
        if turned is None:
            return
        new = [*turned, ops.Transpose(turned[-1].results[0], permutation)]
        replace(rewriter, op, new)

    def permutation(self, op: Operation) -> tuple[int, ...] | None:
        """The permutation of the transposed operands, if it may sink through this operation."""
        free = [operand for operand in op.operands if constant_of(operand) is None]
        found = {unpack(t.permutation) for v in free if (t := producer(v, ops.Transpose)) is not None}
        if len(found) != 1:
            return None
        (permutation,) = found
        all_transposed = all(producer(value, ops.Transpose) is not None for value in free)
        if permutation == TO_LAST or len(permutation) != len(shape_of(op.results[0])):
            return None
        return permutation if all_transposed or permutation == TO_FIRST else None


class RaiseTranspose(RewritePattern):
    """TO_LAST after f(x) is f(TO_LAST of x); other users of f(x) read it turned back TO_FIRST."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Transpose, rewriter: PatternRewriter) -> None:
        """Turn the operation in front of the transpose."""
        before = op.input.owner
        if unpack(op.permutation) != TO_LAST or not isinstance(before, (*MOVABLE, ops.Pad, ops.Concat)):
            return
        turned = turn(before, TO_LAST)
        if turned is None:
            return
        back = ops.Transpose(turned[-1].results[0], TO_FIRST)
        replace(rewriter, before, [*turned, back])


def turn(op: Operation, permutation: Sequence[int]) -> list[Operation] | None:
    """Operations of which the last computes the transpose of what `op` computes, by transposing all of its
    operands; None where one cannot be."""
    rank = len(shape_of(op.results[0]))
    if rank != len(permutation):
        return None
    new: list[Operation] = []
    operands = []
    for operand in op.operands:
        turned = turned_operand(operand, permutation, rank, spreads=not isinstance(op, ops.Concat))
        if turned is None:
            discard(new)
            return None
        if isinstance(turned, Operation):
            new.append(turned)
            turned = turned.results[0]
        operands.append(turned)
    axes = list(permutation)
    match op:
        case ops.Pad():
            low, high = unpack(op.low), unpack(op.high)
            value = op.value.value.data
            new.append(ops.Pad(operands[0], [low[a] for a in axes], [high[a] for a in axes], value))
        case ops.Concat():
            new.append(ops.Concat(operands, axes.index(op.axis.value.data)))
        case _:
            new.append(with_operands(op, operands))
    return new


def turned_operand(
    value: SSAValue, permutation: Sequence[int], rank: int, spreads: bool
) -> SSAValue | Operation | None:
    """What `value` is the transpose of, or an operation that gives `value` transposed: a constant, as
    small as may be where its reader `spreads` it, or a transpose.

    Two transposes that cancel must not be left for later: the same operation would be turned again because of
    the one just made, for ever where a permutation is its own inverse."""
    array = constant_of(value)
    if array is not None:
        whole = array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(permutation)
        return ops.Constant(compress(whole) if spreads else whole, element_of(value))
    if len(shape_of(value)) != rank:
        return None
    inner = producer(value, ops.Transpose)
    if inner is not None and unpack(inner.permutation) == inverse(permutation):
        return inner.input
    return ops.Transpose(value, permutation)


class SinkReshape(RewritePattern):
    """f(reshape(x), constant) is reshape(f(x, reshaped constant)).

    A reshape of the network's own input stays where it is: that costs nothing there, and what is packed later
    is packed along the dimension that the network uses."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Check that all reshapes are alike and the constants can follow."""
        if isinstance(op, BY_CHANNEL):
            self.sink_by_channel(op, rewriter)
            return
        if not isinstance(op, MOVABLE):
            return
        reshapes = [r for v in op.operands if (r := producer(v, ops.Reshape)) is not None]
        others = [constant_of(v) for v in op.operands if producer(v, ops.Reshape) is None]
        if not reshapes or any(array is None for array in others):
            return
        before, after = shape_of(reshapes[0].input), shape_of(op.results[0])
        if any(shape_of(r.input) != before or shape_of(r.result) != after for r in reshapes):
            return
        if any(rests_at_input(r.input) for r in reshapes) or np.prod(after) > LARGEST_SPREAD:
            return
        if len(before) > MOST_DIMENSIONS >= len(after):
            return  # no kernel of our own computes there
        new: list[Operation] = []
        operands = [reshaped_operand(operand, before, after, new) for operand in op.operands]
        new.append(with_operands(op, operands))
        replace(rewriter, op, [*new, ops.Reshape(new[-1].results[0], after)])

    def sink_by_channel(self, op: Operation, rewriter: PatternRewriter) -> None:
        """What is indexed by the last dimension lets a reshape pass that keeps it."""
        reshape = producer(op.operands[0], ops.Reshape)
        if reshape is None or rests_at_input(reshape.input):
            return
        before, after = shape_of(reshape.input), shape_of(reshape.result)
        if before[-1] != after[-1]:
            return
        type_ = tensor(before, element_of(op.results[0]))
        operands = [reshape.input, *op.operands[1:]]
        inner = op.create(operands=operands, result_types=[type_], properties=dict(op.properties))
        replace(rewriter, op, [inner, ops.Reshape(inner.results[0], after)])


class SinkReshapeThroughConcat(RewritePattern):
    """concat(reshape(a), reshape(b)) is reshape(concat(a, b)) where as much lies before and behind the joined
    dimension as did: images of one pixel, whose transposes are reshapes, go on like larger ones."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Concat, rewriter: PatternRewriter) -> None:
        """Find the dimension along which the inputs of the reshapes are joined."""
        reshapes = [r for value in op.inputs if (r := producer(value, ops.Reshape)) is not None]
        if len(reshapes) < len(op.inputs) or any(rests_at_input(r.input) for r in reshapes):
            return
        axes = {joined_dimension(reshape, op.axis.value.data) for reshape in reshapes}
        (axis, *others) = axes
        if others or axis is None:
            return
        rest = {shape_of(r.input)[:axis] + shape_of(r.input)[axis + 1 :] for r in reshapes}
        if len(rest) == 1:
            joined = ops.Concat([reshape.input for reshape in reshapes], axis)
            replace(rewriter, op, [joined, ops.Reshape(joined.result, shape_of(op.result))])


def joined_dimension(reshape: ops.Reshape, axis: int) -> int | None:
    """The dimension before a reshape that is as long as `axis` is after it, with as many values in front of
    it and behind it; None if there is none."""
    before, after = shape_of(reshape.input), shape_of(reshape.result)
    outer, inner = prod(after[:axis]), prod(after[axis + 1 :])
    for candidate, extent in enumerate(before):
        fits = prod(before[:candidate]) == outer and prod(before[candidate + 1 :]) == inner
        if fits and extent == after[axis]:
            return candidate
    return None


def rests_at_input(value: SSAValue) -> bool:
    """Whether the value is an input of the network, perhaps transposed."""
    transpose = producer(value, ops.Transpose)
    return isinstance(value if transpose is None else transpose.input, BlockArgument)


def reshaped_operand(
    value: SSAValue, before: Sequence[int], after: Sequence[int], new: list[Operation]
) -> SSAValue:
    """What an operand of shape `after` is before the reshape; constants are appended to `new`."""
    reshape = producer(value, ops.Reshape)
    if reshape is not None:
        return reshape.input
    array = constant_of(value)
    assert array is not None
    spread = array if array.size == 1 else np.broadcast_to(array, after).reshape(before)
    new.append(ops.Constant(compress(spread), element_of(value)))
    return new[-1].results[0]


class DenseToConv2d(RewritePattern):
    """A dense over a flattened image [n, h, w, c] is a convolution with an h x w kernel."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Dense, rewriter: PatternRewriter) -> None:
        """Undo the flattening in the weight instead."""
        reshape, weight = producer(op.input, ops.Reshape), constant_of(op.weight)
        if reshape is None or weight is None or len(shape_of(op.input)) != 2:
            return
        image, order = reshape.input, (0, 1, 2, 3)
        transpose = producer(image, ops.Transpose)
        if transpose is not None:
            image, order = transpose.input, unpack(transpose.permutation)
        shape = shape_of(reshape.input)
        if len(shape) != 4 or shape[0] != shape_of(op.input)[0] or order[0] != 0:
            return
        n, height, width, _ = shape_of(image)
        if height * width == 1 or (isinstance(image, BlockArgument) and transpose is None):
            return
        kernel = weight.reshape(-1, *shape[1:]).transpose(inverse(order))
        constant = ops.Constant(kernel, None if is_number(element_of(op.weight)) else element_of(op.weight))
        conv = ops.Conv2d(image, constant.result)
        replace(rewriter, op, [constant, conv, ops.Reshape(conv.result, (n, weight.shape[0]))])


class MergePads(RewritePattern):
    """A convolution of an image padded by zeros pads by itself."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Conv2d, rewriter: PatternRewriter) -> None:
        """Add the pads where both mean the same."""
        pad = producer(op.input, ops.Pad)
        if pad is None:
            return
        low, high, value = unpack(pad.low), unpack(pad.high), pad.value.value.data
        if low[0] or low[3] or high[0] or high[3] or min((*low, *high)) < 0:
            return
        if value not in mergeable_values(pad):
            return
        pads = unpack(op.pads)
        if any(pads) and op.pad_value.value.data != value:
            return
        added = (low[1], low[2], high[1], high[2])
        new = ops.Conv2d(
            pad.input,
            op.weight,
            unpack(op.strides),
            unpack(op.dilations),
            [a + b for a, b in zip(pads, added, strict=True)],
            op.groups.value.data,
            int(value),
        )
        replace(rewriter, op, [new])


def mergeable_values(pad: ops.Pad) -> tuple[int, ...]:
    """The values that a convolution can pad an image of this domain with."""
    return (-1, 1) if element_of(pad.input) == bipolar else (0,)


LAYOUT_PATTERNS = (
    MergeTransposes(),
    TransposeToReshape(),
    MergeReshapes(),
    CancelTransposes(),
    SinkTranspose(),
    RaiseTranspose(),
    DenseToConv2d(),
    SinkReshape(),
    SinkReshapeThroughConcat(),
    MergePads(),
    *LOOP_PATTERNS,
)


class SimplifyLayoutPass(ModulePass):
    """Move transposes and reshapes until they cancel."""

    name = "simplify-layout"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        apply_patterns(op, *LAYOUT_PATTERNS)
