# SPDX-License-Identifier: Apache-2.0
"""What the patterns share: looking at values, replacing operations, running patterns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from xdsl.dialects.builtin import ModuleOp, f32, i1, i32
from xdsl.ir import Block, Operation, SSAValue
from xdsl.pattern_rewriter import (
    GreedyRewritePatternApplier,
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
)

from bnncc.dialect import operations as ops
from bnncc.dialect.network import main_function
from bnncc.dialect.sources import get_source, set_source
from bnncc.dialect.time import Scan
from bnncc.dialect.types import element_of, is_number, shape_of, tensor

Kind = TypeVar("Kind", bound=Operation)

ELEMENTWISE = (
    ops.Cast,
    *ops.UNARY,
    *ops.BINARY,
    ops.Compare,
    ops.Select,
    ops.Clip,
    ops.PRelu,
    ops.MulShift,
    ops.Binarize,
    ops.Threshold,
    ops.Flip,
    ops.Lookup,
)
"""Operations whose result at a position depends on their operands at that position (and the channel) only."""

CHANNEL_BOUND = (ops.Threshold, ops.Flip, ops.Lookup)
"""Element-wise operations whose attributes are indexed by the last dimension: they cannot be transposed."""


def producer(value: SSAValue, kind: type[Kind]) -> Kind | None:
    """The operation behind a value if it is of this kind."""
    return value.owner if isinstance(value.owner, kind) else None


def constant_of(value: SSAValue) -> np.ndarray | None:
    """The numbers of a constant, or None for any other value."""
    constant = producer(value, ops.Constant)
    return None if constant is None else constant.array


def uniform_value(value: SSAValue) -> float | None:
    """The number that every element of a constant is, or None."""
    array = constant_of(value)
    if array is None or array.size == 0 or not (array == array.flat[0]).all():
        return None
    return float(array.flat[0])


def has_one_use(value: SSAValue) -> bool:
    """Whether exactly one operand is this value."""
    return value.has_one_use()


def first_move(op: Operation) -> Operation:
    """The first of the reshapes and transposes before an operation's first operand that nobody else reads, or
    the operation itself."""
    while isinstance(before := op.operands[0].owner, ops.Reshape | ops.Transpose):
        if not has_one_use(op.operands[0]):
            break
        op = before
    return op


def binary_input(value: SSAValue) -> SSAValue | None:
    """The value of a domain behind a cast of it to numbers, or None."""
    cast = producer(value, ops.Cast)
    if cast is None or is_number(element_of(cast.input)):
        return None
    return cast.input


def with_operands(op: Operation, operands: Sequence[SSAValue]) -> Operation:
    """The same element-wise operation of other operands; the result's shape follows from theirs."""
    shape = np.broadcast_shapes(*(shape_of(operand) for operand in operands))
    return op.create(
        operands=list(operands),
        result_types=[tensor(shape, element_of(op.results[0]))],
        properties=dict(op.properties),
    )


def channel_form(array: np.ndarray, rank: int) -> np.ndarray | None:
    """A constant that broadcasts over `rank` dimensions as a scalar [] or a vector [c] over the last one, or
    None where it varies along another dimension."""
    if array.size == 1:
        return array.reshape(())
    if array.size == array.shape[-1] and array.ndim <= rank:
        return array.reshape(-1)
    return None


def replace(
    rewriter: PatternRewriter, op: Operation, new: Sequence[Operation], result: SSAValue | None = None
) -> None:
    """Replace a single-result operation by new ones, the last of which computes its value (or `result` does).

    All new operations are located where it was; the one that computes the value keeps its source."""
    for operation in new:
        operation.location = op.location
    value = new[-1].results[0] if result is None else result
    if isinstance(value.owner, Operation):
        copy_source(op, value.owner)
    rewriter.replace(op, list(new), [value])


def discard(new: Sequence[Operation]) -> None:
    """Take back operations, in the order in which they were built, that are not put into the module: as long
    as they exist they count as readers of their operands."""
    for operation in reversed(new):
        operation.erase()


def copy_source(old: Operation, new: Operation) -> None:
    """`new` computes the value of `old`, so it has its source, unless it has one of its own."""
    if get_source(new) is not None or len(new.results) != 1 or len(old.results) != 1:
        return
    source = get_source(old)
    if source is not None:
        set_source(new, *source)
        push_source(new)


def push_source(op: Operation) -> None:
    """What a cast or a transpose equals, its input equals too, with the dimensions permuted back; so for a
    reshape that only moves dimensions of 1."""
    source = get_source(op)
    if source is None or not isinstance(op, ops.Cast | ops.Transpose | ops.Reshape):
        return
    owner = op.input.owner
    if not isinstance(owner, Operation) or len(owner.results) != 1 or get_source(owner) is not None:
        return
    name, permutation = source
    if isinstance(op, ops.Cast):
        if not keeps_values(op):
            return
    else:
        moved = way_back(op)
        if moved is None:
            return
        permutation = [permutation[axis] for axis in moved]
    set_source(owner, name, permutation)
    push_source(owner)


def way_back(op: ops.Transpose | ops.Reshape) -> Sequence[int] | None:
    """The permutation that turns the result into the operand again, None where a reshape does more."""
    if isinstance(op, ops.Transpose):
        return ops.inverse(ops.unpack(op.permutation))
    before, after = shape_of(op.input), shape_of(op.result)
    if len(before) != len(after) or [n for n in before if n != 1] != [n for n in after if n != 1]:
        return None
    long, ones = ([axis for axis, n in enumerate(after) if (n == 1) == is_one] for is_one in (False, True))
    return [ones.pop(0) if n == 1 else long.pop(0) for n in before]


def keeps_values(cast: ops.Cast) -> bool:
    """Whether a cast changes the type of its values only."""
    element = element_of(cast.input)
    return element_of(cast.result) == f32 and (element in (i1, i32) or not is_number(element))


def main_block(module: ModuleOp) -> Block:
    """The body of func @main."""
    return main_function(module).body.block


def all_blocks(module: ModuleOp) -> list[Block]:
    """The bodies of the loops over time, then that of func @main, which holds them."""
    main = main_block(module)
    return [*(op.block for op in main.ops if isinstance(op, Scan)), main]


def sort_block(block: Block) -> None:
    """Put every operation behind those that it reads; the order is kept otherwise."""
    order: list[Operation] = []
    seen: set[Operation] = set()

    def visit(op: Operation) -> None:
        stack = [(op, iter(op.operands))]
        seen.add(op)
        while stack:
            current, operands = stack[-1]
            for operand in operands:
                owner = operand.owner
                if isinstance(owner, Operation) and owner not in seen and owner.parent is block:
                    seen.add(owner)
                    stack.append((owner, iter(owner.operands)))
                    break
            else:
                order.append(current)
                stack.pop()

    last = block.last_op
    assert last is not None
    for op in block.ops:
        if op not in seen and op is not last:
            visit(op)
    for op in order:
        op.detach()
        block.insert_op_before(op, last)


def apply_patterns(module: ModuleOp, *patterns: RewritePattern) -> bool:
    """Apply patterns everywhere until none matches, then drop what became dead; whether any matched."""
    walker = PatternRewriteWalker(GreedyRewritePatternApplier(list(patterns), dce_enabled=True))
    return walker.rewrite_module(module)


def compress(array: np.ndarray) -> np.ndarray:
    """The smallest array that broadcasts to this one: dimensions along which it repeats itself shrink to 1,
    leading dimensions of 1 go."""
    for axis in range(array.ndim):
        first = array.take([0], axis) if array.shape[axis] else array
        if array.shape[axis] > 1 and np.array_equal(
            np.broadcast_to(first, array.shape), array, equal_nan=True
        ):
            array = first
    while array.ndim and array.shape[0] == 1:
        array = array[0]
    return np.ascontiguousarray(array).reshape(array.shape)
