# SPDX-License-Identifier: Apache-2.0
"""merge-dimensions: element-wise operations of more than four dimensions become such of at most four.

Kernels know [n, h, w, c]. Neighbouring dimensions in which every operand either goes along or repeats itself
are one longer dimension to an element-wise operation: reshapes around it merge them. Operations that follow
each other are merged alike, so that they end up in one region. Where operands repeat themselves in too many
ways for four dimensions, they are written out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import prod

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32, i1
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern

from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.dialect.sources import location_text
from bnncc.dialect.types import MOST_DIMENSIONS, element_of, shape_of, tensor
from bnncc.passes.matching import CHANNEL_BOUND, ELEMENTWISE, apply_patterns, constant_of, replace
from bnncc.passes.simplify_layout import MergeReshapes

Cuts = frozenset[int]
"""The dimensions of a result, by their index, that do not merge with those before them."""


def is_too_long(op: Operation) -> bool:
    """Whether this is an element-wise operation with more dimensions than a kernel has."""
    return isinstance(op, ELEMENTWISE) and len(shape_of(op.results[0])) > MOST_DIMENSIONS


def aligned(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    """A shape with dimensions of 1 in front, `rank` altogether."""
    return (1,) * (rank - len(shape)) + tuple(shape)


def cuts_of(op: Operation) -> Cuts:
    """Where the dimensions of an element-wise operation must stay apart."""
    result = shape_of(op.results[0])
    shapes = [aligned(shape_of(operand), len(result)) for operand in op.operands]
    if isinstance(op, CHANNEL_BOUND):
        shapes.append(aligned(result[-1:], len(result)))
    # A dimension of 1 goes with any other.
    long = [axis for axis, extent in enumerate(result) if extent != 1]
    repeats = {axis: tuple(shape[axis] == 1 for shape in shapes) for axis in long}
    return frozenset(axis for before, axis in pairwise(long) if repeats[before] != repeats[axis])


def fits(cuts: Cuts) -> bool:
    """Whether few enough dimensions are left."""
    return len(cuts) < MOST_DIMENSIONS


def common_cuts(block_ops: Iterable[Operation]) -> dict[Operation, Cuts]:
    """Cuts of all element-wise operations that are too long: the same for those that follow each other with
    results of the same shape, as far as four dimensions are enough for them together."""
    chains: dict[Operation, tuple[set[Operation], Cuts]] = {}
    for op in block_ops:
        if not is_too_long(op):
            continue
        members, cuts = {op}, cuts_of(op)
        for operand in op.operands:
            before = operand.owner
            if not isinstance(before, Operation) or before in members or before not in chains:
                continue
            if shape_of(operand) != shape_of(op.results[0]):
                continue
            others, theirs = chains[before]
            if fits(cuts | theirs):
                members, cuts = members | others, cuts | theirs
        chains.update(dict.fromkeys(members, (members, cuts)))
    return {op: cuts for op, (_, cuts) in chains.items()}


def merged(shape: Sequence[int], cuts: Cuts) -> tuple[int, ...]:
    """The shape with all dimensions merged but at the cuts."""
    bounds = [0, *sorted(cuts), len(shape)]
    return tuple(prod(shape[start:stop]) for start, stop in pairwise(bounds))


class MergeDimensions(RewritePattern):
    """f(x) is reshape(f(reshape(x)))."""

    def __init__(self, cuts: dict[Operation, Cuts]):
        self.cuts = cuts

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Merge what can be merged; where that is not enough, write out an operand first."""
        if not is_too_long(op):
            return
        cuts = self.cuts.get(op, cuts_of(op))
        if not fits(cuts):
            replace(rewriter, op, with_one_written_out(op))
            return
        new: list[Operation] = []
        shape = shape_of(op.results[0])
        operands = [self.operand(operand, len(shape), cuts, new) for operand in op.operands]
        kind = tensor(merged(shape, cuts), element_of(op.results[0]))
        new.append(op.create(operands=operands, result_types=[kind], properties=dict(op.properties)))
        replace(rewriter, op, [*new, ops.Reshape(new[-1].results[0], shape)])

    def operand(self, value: SSAValue, rank: int, cuts: Cuts, new: list[Operation]) -> SSAValue:
        """An operand with its dimensions merged; what makes it is appended to `new`."""
        shape = merged(aligned(shape_of(value), rank), cuts)
        array = constant_of(value)
        if array is None:
            new.append(ops.Reshape(value, shape))
        elif array.size == 1:
            return value
        else:
            new.append(ops.Constant(array.reshape(shape), element_of(value)))
        return new[-1].results[0]


def with_one_written_out(op: Operation) -> list[Operation]:
    """The same operation with its first operand that repeats itself partly written out to the whole shape."""
    shape = shape_of(op.results[0])
    slot = next(i for i, operand in enumerate(op.operands) if 1 < prod(shape_of(operand)) < prod(shape))
    new = written_out(op.operands[slot], shape, op)
    operands = list(op.operands)
    operands[slot] = new[-1].results[0]
    last = op.create(operands=operands, result_types=[op.results[0].type], properties=dict(op.properties))
    return [*new, last]


def written_out(value: SSAValue, shape: Sequence[int], op: Operation) -> list[Operation]:
    """Operations that repeat a value to a shape, dimension by dimension: x + -0.0 is x, whatever x is."""
    new: list[Operation] = []

    def add(operation: Operation) -> SSAValue:
        new.append(operation)
        return operation.results[0]

    element: Attribute = element_of(value)
    if element not in (f32, i1):
        raise BnnccError(
            location_text(op),
            f"{op.name} of shape {list(shape)} repeats values of type {element} in too many dimensions",
            f"at most {MOST_DIMENSIONS} groups of dimensions may differ; reshape before it",
        )
    repeated = add(ops.Cast(value, f32)) if element == i1 else value
    for axis, extent in enumerate(aligned(shape_of(value), len(shape))):
        if extent != shape[axis]:
            ones = [1] * len(shape)
            ones[axis] = shape[axis]
            nothing = add(ops.Constant(np.full(ones, -0.0, np.float32)))
            repeated = add(ops.Add(repeated, nothing))
    if element == i1:
        add(ops.Cast(repeated, i1))
    return new


class MergeDimensionsPass(ModulePass):
    """Find the cuts, then rewrite."""

    name = "merge-dimensions"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        apply_patterns(op, MergeDimensions(common_cuts(op.walk())), MergeReshapes())
