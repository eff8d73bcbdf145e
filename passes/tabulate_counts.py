# SPDX-License-Identifier: Apache-2.0
"""tabulate-counts: what neurons of binary weights are fed is looked up, not multiplied.

A sum of spikes with weights of -1 and +1 is a count, of which there are few: K taps give K + 1. What lies
between it and the neuron (the size of the weights, batch normalisation) is evaluated in float32, in its own
order, for every count and every channel, and becomes a table: no spike changes, and no product is left. What
a spike takes off a membrane is chosen instead of multiplied by 0 or 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32, i1
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import is_spiking
from bnncc.dialect.time import Neuron, Scan
from bnncc.dialect.types import domain_values, element_of, is_number
from bnncc.passes.fold_thresholds import Chain, answers_of, chain_of, contraction_of
from bnncc.passes.matching import all_blocks, apply_patterns, constant_of, copy_source, producer, replace

LARGEST_TABLE = 1 << 20
"""Bytes of a table, as long as nobody asks for small code."""

PRODUCTS = (ops.Mul, ops.Div, ops.BatchNorm)
"""What is worth a table."""


def currents(block: Block) -> Iterator[SSAValue]:
    """What neurons and loops over time read, before it is reshaped."""
    for op in block.ops:
        read = op.inputs if isinstance(op, Neuron) else op.sequences if isinstance(op, Scan) else ()
        for value in read:
            while isinstance(value.owner, ops.Reshape | ops.Transpose):
                value = value.owner.input
            yield value


def counts_of(accumulator: SSAValue) -> tuple[np.ndarray, np.ndarray] | None:
    """The smallest and the largest number of each channel, int32 [c], of a sum over spikes or counts of them;
    None for anything else."""
    op = contraction_of(accumulator)
    weight = None if op is None else constant_of(op.weight)
    if (
        op is None
        or weight is None
        or not is_spiking(element_of(op.input))
        or is_number(element_of(op.weight))
    ):
        return None
    most = max(domain_values(element_of(op.input)) or {0})
    flat = weight.reshape(len(weight), -1).astype(np.int64) * most
    return np.minimum(flat, 0).sum(1).astype(np.int32), np.maximum(flat, 0).sum(1).astype(np.int32)


def table_of(
    chain: Chain, low: np.ndarray, high: np.ndarray, largest: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """(rows [c or 1, levels], first number of each row) of a chain over the numbers low..high of each
    channel; None where that is more than `largest` bytes."""
    levels = int((high - low).max()) + 1
    item = np.dtype(np.float32).itemsize
    whole = np.arange(low.min(), high.max() + 1, dtype=np.int32)
    if len(whole) * len(low) * item > largest and levels * len(low) * item > largest:
        return None
    same = answers_of(chain, whole)
    if (same.view(np.uint32) == same[:, :1].view(np.uint32)).all():
        return np.ascontiguousarray(same[:, :1].T), low.min(keepdims=True)
    if levels * len(low) * item > largest:
        return None
    each = answers_of(chain, low + np.arange(levels, dtype=np.int32)[:, None])
    return np.ascontiguousarray(each.T), low


class ScaleBit(RewritePattern):
    """cast(condition) * constant is the constant where the condition holds, else 0 times it."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Mul, rewriter: PatternRewriter) -> None:
        """Find the cast and the constant."""
        for bit, factor in ((op.left, op.right), (op.right, op.left)):
            cast, numbers = producer(bit, ops.Cast), constant_of(factor)
            if cast is None or numbers is None or numbers.dtype != np.float32 or element_of(cast.input) != i1:
                continue
            if bit.type != op.result.type:
                continue
            nothing = ops.Constant(numbers * np.float32(0))
            replace(rewriter, op, [nothing, ops.Select(cast.input, factor, nothing.result)])
            return


@dataclass(frozen=True)
class TabulateCountsPass(ModulePass):
    """Put tables in front of neurons. largest: bytes of a table."""

    name = "tabulate-counts"
    largest: int = LARGEST_TABLE

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the function and its loops."""
        for block in all_blocks(op):
            for value in list(dict.fromkeys(currents(block))):
                self.tabulate(value)
        apply_patterns(op, ScaleBit())

    def tabulate(self, value: SSAValue) -> None:
        """Look up a value that is made of a count by products."""
        last = value.owner
        if not isinstance(last, Operation) or len(last.results) != 1 or element_of(value) != f32:
            return
        chain = chain_of(last)
        if chain is None or not any(isinstance(op, PRODUCTS) for op in chain.operations):
            return
        counts = counts_of(chain.accumulator)
        found = None if counts is None else table_of(chain, *counts, self.largest)
        if found is None:
            return
        lookup = ops.Lookup(chain.accumulator, *found)
        lookup.location = last.location
        copy_source(last, lookup)
        assert last.parent is not None
        last.parent.insert_op_before(lookup, last)
        value.replace_all_uses_with(lookup.result)
