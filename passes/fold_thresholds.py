# SPDX-License-Identifier: Apache-2.0
"""fold-thresholds: whatever lies between an integer accumulator and a binarize becomes one comparison.

An accumulator of K taps has at most 2K + 1 values, with levels of a few bits as many times more. The original
float32 chain is evaluated, in its own order, at every value it can reach and in every channel; where the
decision changes at most once it is a threshold. sign(0) = 0 folds only where 0 cannot be reached. Whatever
does not fold stays exact as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32, i32
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import unpack
from bnncc.dialect.types import bipolar, domain_values, element_of, shape_of, tensor
from bnncc.passes.matching import (
    CHANNEL_BOUND,
    ELEMENTWISE,
    apply_patterns,
    channel_form,
    constant_of,
    copy_source,
    replace,
)
from bnncc.reference import evaluate_operation

CHAIN = (*(kind for kind in ELEMENTWISE if kind not in CHANNEL_BOUND), ops.BatchNorm)
"""What may lie between an accumulator and its binarize."""

LONGEST_CHAIN = 64
"""A longer chain is left alone."""

LARGEST_TABLE = 1 << 26
"""So is one of more values times channels: they would take gigabytes."""


@dataclass(frozen=True)
class Chain:
    """The operations from an accumulator to a decision or a number, producers first."""

    accumulator: SSAValue
    operations: tuple[Operation, ...]


def chain_of(last: Operation) -> Chain | None:
    """The chain that ends in an operation: element-wise ones of one i32 value and of channel constants."""
    order: list[Operation] = []
    seen: set[Operation] = set()
    accumulators: set[SSAValue] = set()

    def visit(value: SSAValue) -> bool:
        if element_of(value) == i32:
            accumulators.add(value)
            return True
        op = value.owner
        if isinstance(op, ops.Constant):
            return channel_form(op.array, len(shape_of(last.results[0]))) is not None
        if not isinstance(op, CHAIN) or len(seen) >= LONGEST_CHAIN:
            return False
        if op not in seen:
            seen.add(op)
            if not all(visit(operand) for operand in op.operands):
                return False
            order.append(op)
        return True

    if not all(visit(operand) for operand in last.operands) or len(accumulators) != 1:
        return None
    (accumulator,) = accumulators
    if shape_of(accumulator) != shape_of(last.results[0]):
        return None
    return Chain(accumulator, (*order, last))


def reachable(accumulator: SSAValue) -> np.ndarray | None:
    """Every value that an accumulator can take, ascending; None where its contraction is not in sight, or
    they are too many.

    A sum of K values in {-1, +1} has the parity of K; zeros, of the padding or of a ternary operand, and
    levels allow every integer in between."""
    op = contraction_of(accumulator)
    if op is None:
        return None
    taps = int(np.prod(shape_of(op.weight)[1:]))
    zeros = any(element_of(value) != bipolar for value in op.operands)
    if isinstance(op, ops.Conv2d):
        zeros = zeros or (any(unpack(op.pads)) and op.pad_value.value.data == 0)
    most = taps * math.prod(_largest(value) for value in op.operands)
    numbers = range(-most, most + 1, 1 if zeros else 2)
    too_many = len(numbers) * shape_of(accumulator)[-1] > LARGEST_TABLE
    return None if too_many else np.array(numbers, np.int32)


def contraction_of(accumulator: SSAValue) -> ops.Conv2d | ops.Dense | None:
    """What sums up an accumulator, or those that it is the largest of; None where that is not in sight."""
    op = accumulator.owner
    while isinstance(op, ops.MaxPool | ops.Reshape):
        if shape_of(op.input)[-1] != shape_of(op.result)[-1]:
            return None
        op = op.input.owner
    return op if isinstance(op, ops.Conv2d | ops.Dense) else None


def _largest(value: SSAValue) -> int:
    """The largest magnitude in the domain of an operand."""
    values = domain_values(element_of(value))
    assert values is not None, "an integer contraction has domains as operands"
    return max(abs(number) for number in values)


def answers_of(chain: Chain, values: np.ndarray) -> np.ndarray:
    """What a chain gives [values, channels] for values of the accumulator: the same [values] in every
    channel, or those of each, [values, channels]."""
    shape = shape_of(chain.accumulator)
    channels = shape[-1]
    table = np.broadcast_to(values if values.ndim == 2 else values[:, None], (len(values), channels))
    # As many dimensions as the operations expect, so that [c], [1, 1, 1, c] and [] broadcast alike.
    known: dict[SSAValue, np.ndarray] = {
        chain.accumulator: table.reshape((len(values), *(1,) * (len(shape) - 2), channels))
    }
    for op in chain.operations:
        inputs = [_value_of(operand, known) for operand in op.operands]
        (known[op.results[0]],) = evaluate_operation(op, inputs)
    result = known[chain.operations[-1].results[0]]
    return np.broadcast_to(result.reshape(len(values), -1), (len(values), channels))


def _value_of(operand: SSAValue, known: dict[SSAValue, np.ndarray]) -> np.ndarray:
    array = constant_of(operand)
    return known[operand] if array is None else array


def thresholds_of(values: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(thresholds int32, signs int8), one per channel, that answer alike at every value, or None.

    A channel that always answers the same gets a threshold at or beyond the end of the range."""
    if (answers == 0).any():
        return None
    rises, falls = _steps(answers > 0), _steps(answers < 0)
    signs = np.where(rises, np.int8(1), np.int8(-1))
    if not (rises | falls).all():
        return None
    above = np.where(signs > 0, answers > 0, answers < 0)
    first = np.argmax(above, axis=0)
    beyond = values[-1] + 1
    return np.where(above.any(axis=0), values[first], beyond).astype(np.int32), signs


def _steps(above: np.ndarray) -> np.ndarray:
    """Whether each column is False up to some row and True from there on."""
    return np.asarray((above[1:] >= above[:-1]).all(axis=0))


class FoldThresholds(RewritePattern):
    """binarize(chain(accumulator)) is threshold(accumulator)."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Binarize, rewriter: PatternRewriter) -> None:
        """Evaluate the chain everywhere."""
        chain = chain_of(op)
        values = None if chain is None else reachable(chain.accumulator)
        if chain is None or values is None:
            return
        if element_of(op.result) != bipolar and not all(
            may_be_bipolar(use.operation) for use in op.result.uses
        ):
            return
        found = thresholds_of(values, answers_of(chain, values))
        if found is None:
            return
        threshold = ops.Threshold(chain.accumulator, *found)
        threshold.location = op.location
        copy_source(op, threshold)
        users = [use.operation for use in op.result.uses]
        rewriter.replace(op, [threshold], [threshold.result])
        for user in users:
            retype(user, rewriter)


class FoldComparisons(RewritePattern):
    """compare(chain(accumulator)) is accumulator >= threshold, or -accumulator >= threshold, where nothing
    else reads the chain: the arithmetic of a neuron stays whole, and so does what a state is made of."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Compare, rewriter: PatternRewriter) -> None:
        """Evaluate the chain everywhere."""
        if element_of(op.left) != f32:
            return
        chain = chain_of(op)
        if chain is None or not _is_read_by_itself(chain):
            return
        values = reachable(chain.accumulator)
        if values is None:
            return
        found = thresholds_of(values, np.where(answers_of(chain, values), np.int8(1), np.int8(-1)))
        if found is None:
            return
        thresholds, signs = found
        made: list[Operation] = []
        value = chain.accumulator
        if (signs < 0).any():
            turns = ops.Constant(signs.astype(np.int32))
            turned = ops.Mul(value, turns.result)
            made, value = [turns, turned], turned.result
            thresholds = np.where(signs > 0, thresholds, 1 - thresholds).astype(np.int32)
        limits = ops.Constant(thresholds)
        replace(rewriter, op, [*made, limits, ops.Compare("ge", value, limits.result)])


def _is_read_by_itself(chain: Chain) -> bool:
    """Whether only operations of the chain read what it computes on the way."""
    inside = set(chain.operations)
    return all(
        use.operation in inside
        for op in chain.operations[:-1]
        for result in op.results
        for use in result.uses
    )


def may_be_bipolar(op: Operation) -> bool:
    """Whether a reader of a value that may be 0 can read one that is -1 or +1 instead. A pad by 0 cannot, nor
    can what joins values of one domain."""
    match op:
        case ops.Pad() if op.value.value.data not in (-1.0, 1.0):
            return False
        case ops.Transpose() | ops.Reshape() | ops.Pad():
            return all(may_be_bipolar(use.operation) for use in op.result.uses)
    return isinstance(op, ops.Cast | ops.Conv2d | ops.Dense)


def retype(op: Operation, rewriter: PatternRewriter) -> None:
    """Operations that only move values have the element type of their input, which has become bipolar."""
    if not isinstance(op, ops.Transpose | ops.Reshape | ops.Pad) or element_of(op.result) == element_of(
        op.input
    ):
        return
    type_ = tensor(shape_of(op.result), element_of(op.input))
    users = [use.operation for use in op.result.uses]
    rewriter.replace_value_with_new_type(op.result, type_)
    for user in users:
        retype(user, rewriter)


class FoldThresholdsPass(ModulePass):
    """Fold every chain that is a threshold."""

    name = "fold-thresholds"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        apply_patterns(op, FoldThresholds(), FoldComparisons())
