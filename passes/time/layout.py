# SPDX-License-Identifier: Apache-2.0
"""Patterns of simplify-layout and infer-domains for loops over time that are element by element.

Exporters that fold time into the batch leave such a loop between every two layers: [T * N, c, h, w] becomes
[T, N, c, h, w] in front of it and is put together behind it. It computes the same on any order of dimensions,
so transposes and reshapes go through it until they meet others; and what it collects as 0.0 and 1.0 for
a layer to read is collected as spikes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from xdsl.dialects.builtin import f32, i1
from xdsl.ir import Operation, Region, SSAValue
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern
from xdsl.rewriter import InsertPoint

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import inverse, unpack
from bnncc.dialect.time import Scan
from bnncc.dialect.types import MOST_DIMENSIONS, element_of, shape_of, spike
from bnncc.passes.bodies import block_with_shapes, constant_like
from bnncc.passes.matching import CHANNEL_BOUND, ELEMENTWISE, compress, constant_of, producer, replace

Shape = tuple[int, ...]

ANY_ORDER = tuple(kind for kind in ELEMENTWISE if kind not in CHANNEL_BOUND)
"""What computes the same in any order of dimensions."""


def step_shape(scan: Scan) -> Shape | None:
    """The one shape of everything that a loop cuts, carries and collects, where it is element by element and
    stands alone: its steps are whole, none of them was left outside by an exporter."""
    values = [*scan.block.args, *scan.yielded]
    shape = shape_of(values[0])
    if scan.count is not None or scan.invariants or not scan.sequences:
        return None
    if any(shape_of(value) != shape for value in values) or not all(map(is_whole, scan.sequences)):
        return None
    if any(isinstance(use.operation, ops.Concat | ops.Pad) for value in scan.stacked for use in value.uses):
        return None
    if any(constant_of(value) is not None for value in scan.yielded):
        return None  # its type is that of a whole step, which constants lose
    return shape if all(is_element_by_element(op, shape) for op in scan.block.ops) else None


def is_whole(sequence: SSAValue) -> bool:
    """Whether a sequence is no part of another, nor put together from parts."""
    return not isinstance(sequence.owner, ops.Onnx | ops.Pad | ops.Concat)


def is_element_by_element(op: Operation, shape: Shape) -> bool:
    """Whether an operation of a body gives values of a shape from such, and from constants."""
    if isinstance(op, ops.Constant):
        return op.array.ndim <= len(shape)
    if isinstance(op, ops.Yield):
        return True
    free = [operand for operand in op.operands if constant_of(operand) is None]
    return (
        isinstance(op, ANY_ORDER)
        and shape_of(op.results[0]) == shape
        and all(shape_of(operand) == shape for operand in free)
    )


@dataclass(frozen=True)
class Move:
    """What steps go through: a transposition by `axes`, or, where that is None, a reshape to `shape`. shape:
    of a step before the transposition, or after the reshape."""

    shape: Shape
    axes: Sequence[int] | None = None

    def constant(self, array: np.ndarray, whole: Shape) -> np.ndarray:
        """A constant of a body as it is broadcast to steps of the new shape."""
        if array.size == 1:
            return array.reshape(())
        if self.axes is not None:
            full = array.reshape((1,) * (len(whole) - array.ndim) + array.shape)
            return compress(full.transpose(inverse(self.axes)))
        return compress(np.broadcast_to(array, whole).reshape(self.shape))

    def state(self, value: SSAValue) -> Operation:
        """A state in the new shape."""
        constant = producer(value, ops.Constant)
        if self.axes is None:
            if constant is not None:
                return constant_like(constant, constant.array.reshape(self.shape))
            return ops.Reshape(value, self.shape)
        if constant is not None:
            return constant_like(constant, constant.array.transpose(inverse(self.axes)))
        return ops.Transpose(value, inverse(self.axes))

    def back(self, value: SSAValue, shape: Shape) -> Operation:
        """A final state in its old shape."""
        return ops.Reshape(value, shape) if self.axes is None else ops.Transpose(value, self.axes)


def moved(
    rewriter: PatternRewriter, scan: Scan, whole: Shape, move: Move, sequences: Sequence[SSAValue]
) -> None:
    """Replace a loop by one on steps of another shape, given its sequences in that."""
    before = [move.state(value) for value in scan.initial]

    def shape(old: Shape) -> Shape:
        return move.shape if old == whole else old

    body = block_with_shapes(scan.block, shape, lambda array: move.constant(array, whole))
    new = Scan(sequences, [op.results[0] for op in before], [], scan.steps, Region(body))
    after = [move.back(value, whole) for value in new.final]
    for value in new.stacked:
        if move.axes is None:
            after.append(ops.Reshape(value, (scan.steps, *whole)))
        else:
            after.append(ops.Transpose(value, (0, *(axis + 1 for axis in move.axes))))
    for op in (*before, new, *after):
        op.location = scan.location
    rewriter.replace(scan, [*before, new, *after], [op.results[0] for op in after])


class TransposeThroughLoop(RewritePattern):
    """scan(transpose(x)) is transpose(scan(x)), where time stays the first dimension."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: Scan, rewriter: PatternRewriter) -> None:
        """All sequences must be turned alike."""
        turned = [producer(value, ops.Transpose) for value in op.sequences]
        found = {unpack(transpose.permutation) for transpose in turned if transpose is not None}
        whole = step_shape(op)
        if whole is None or None in turned or len(found) != 1:
            return
        (permutation,) = found
        if permutation[0] != 0:
            return
        before = [transpose.input for transpose in turned if transpose is not None]
        axes = tuple(axis - 1 for axis in permutation[1:])
        moved(rewriter, op, whole, Move(shape_of(before[0])[1:], axes), before)


class MergeStep(RewritePattern):
    """A loop on steps of [1, h, w, c] is one on [h, w, c], and one on [n, h, w, c] on [n * h, w, c]: so many
    dimensions kernels know."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: Scan, rewriter: PatternRewriter) -> None:
        """Only what was reshaped to be cut into such steps."""
        whole = step_shape(op)
        if whole is None or any(producer(value, ops.Reshape) is None for value in op.sequences):
            return
        shape = merged(whole)
        if shape == whole:
            return
        cut = [ops.Reshape(value, (op.steps, *shape)) for value in op.sequences]
        for reshape in cut:
            reshape.location = op.location
        rewriter.insert(cut, InsertPoint.before(op))
        moved(rewriter, op, whole, Move(shape), [reshape.result for reshape in cut])


def merged(shape: Shape) -> Shape:
    """Without dimensions of 1 in front, and the first ones multiplied until there are few enough."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    extra = max(0, len(shape) - (MOST_DIMENSIONS - 1))
    return (prod(shape[: extra + 1]), *shape[extra + 1 :])


class ReshapeOfTranspose(RewritePattern):
    """Splitting or merging dimensions that a transposition leaves in front can come before it: time goes into
    the batch and out of it so."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Reshape, rewriter: PatternRewriter) -> None:
        """What lies behind them must stay as it is; split only for loops that transpositions go through."""
        turn = producer(op.input, ops.Transpose)
        if turn is None:
            return
        permutation, before, after = unpack(turn.permutation), shape_of(op.input), shape_of(op.result)
        kept = next((k for k, axis in enumerate(permutation) if k != axis), 0)
        rest = before[kept:]
        front = after[: len(after) - len(rest)]
        if not kept or after[len(front) :] != rest or prod(front) != prod(before[:kept]):
            return
        readers = [use.operation for use in op.result.uses]
        is_cut = bool(readers) and all(isinstance(r, Scan) and step_shape(r) is not None for r in readers)
        if len(after) > len(before) and not is_cut:
            return
        first = ops.Reshape(turn.input, (*front, *shape_of(turn.input)[kept:]))
        axes = (*range(len(front)), *(axis - kept + len(front) for axis in permutation[kept:]))
        replace(rewriter, op, [first, ops.Transpose(first.result, axes)])


class FlattenDense(RewritePattern):
    """A dense over [t, n, k] that was reshaped is one over [t * n, k]."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Dense, rewriter: PatternRewriter) -> None:
        """Reshape to two dimensions, and back."""
        *places, inputs = shape_of(op.input)
        if len(places) < 2 or producer(op.input, ops.Reshape) is None:
            return
        flat = ops.Reshape(op.input, (prod(places), inputs))
        dense = ops.Dense(flat.result, op.weight)
        replace(rewriter, op, [flat, dense, ops.Reshape(dense.result, shape_of(op.result))])


class CollectSpikes(RewritePattern):
    """Zeros and ones that a loop collects for a layer are collected as spikes."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: Scan, rewriter: PatternRewriter) -> None:
        """Find what is a condition as a number; only what a layer reads."""
        first = len(op.initial)
        found = {
            first + number: cast.input
            for number, (value, inside) in enumerate(zip(op.stacked, op.yielded[first:], strict=True))
            if (cast := producer(inside, ops.Cast)) is not None
            and (element_of(cast.input), element_of(inside)) == (i1, f32)
            and is_read_by_a_layer(value)
        }
        if not found:
            return
        last = op.block.last_op
        assert isinstance(last, ops.Yield)
        fires = {place: ops.Cast(condition, spike) for place, condition in found.items()}
        for place, cast in fires.items():
            cast.location = op.location
            op.block.insert_op_before(cast, last)
            last.operands[place] = cast.result
        new = Scan(op.sequences, op.initial, op.invariants, op.steps, op.detach_region(op.body), op.count)
        values = [ops.Cast(value) if place in found else value for place, value in enumerate(new.results)]
        made = [value for value in values if isinstance(value, ops.Cast)]
        for operation in (new, *made):
            operation.location = op.location
        results = [value.result if isinstance(value, ops.Cast) else value for value in values]
        rewriter.replace(op, [new, *made], results)


def is_read_by_a_layer(value: SSAValue) -> bool:
    """Whether a value reaches a contraction through what moves and pools it."""
    passing = (ops.Reshape, ops.Transpose, ops.Pad, ops.MeanPool, ops.MaxPool, ops.Concat)
    return any(
        isinstance(use.operation, ops.Conv2d | ops.Dense)
        or (isinstance(use.operation, passing) and is_read_by_a_layer(use.operation.results[0]))
        for use in value.uses
    )


LOOP_PATTERNS = (TransposeThroughLoop(), MergeStep(), ReshapeOfTranspose(), FlattenDense())
