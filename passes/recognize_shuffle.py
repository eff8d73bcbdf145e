# SPDX-License-Identifier: Apache-2.0
"""recognize-shuffle: reshape, transpose, reshape that give every channel another place become a Gather of the
channels, as ShuffleNets have them; so does a Gather along the channels that is written as one."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, f32, i64
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.parameters import plain_parameters
from bnncc.dialect.types import element_of, shape_of
from bnncc.passes.matching import apply_patterns, constant_of, replace
from bnncc.passes.onnx.node import CHANNELS_FIRST, CHANNELS_LAST

MOST_VALUES = 1 << 22
"""Larger tensors are not looked into."""


def is_node(value: SSAValue | Operation, operator: str) -> bool:
    """Whether this is such a node of ONNX, or made by one."""
    op = value.owner if isinstance(value, SSAValue) else value
    return isinstance(op, ops.Onnx) and op.operator.data == operator and op.domain.data in ("", "ai.onnx")


def gathered(value: SSAValue, channels: Sequence[int]) -> list[Operation]:
    """Operations of which the last takes these channels, in this order, of the last dimension."""
    index = ops.Constant(np.asarray(channels, np.int64))
    axis = {"axis": IntegerAttr(len(shape_of(value)) - 1, i64)}
    return [index, ops.Onnx("Gather", [value, index.result], [value.type], axis)]


def permutation_of(value: SSAValue | Operation, axis: int = -1) -> np.ndarray | None:
    """Which channels, in order, a Gather takes that takes all of them; None of anything else."""
    op = value.owner if isinstance(value, SSAValue) else value
    if not isinstance(op, ops.Onnx) or not is_node(op, "Gather") or len(op.inputs) != 2:
        return None
    indices, shape = constant_of(op.inputs[1]), shape_of(op.inputs[0])
    if indices is None or indices.ndim != 1 or not shape or op.inputs[0].type != op.outputs[0].type:
        return None
    given = plain_parameters(op).get("axis", 0)
    assert isinstance(given, int)
    whole = indices % shape[axis]
    is_all = len(indices) == shape[axis] and (np.sort(whole) == np.arange(len(whole))).all()
    return whole if is_all and given % len(shape) == axis % len(shape) else None


def unshuffled(value: SSAValue) -> SSAValue:
    """What a Gather of all channels puts in another order."""
    op = value.owner
    assert isinstance(op, ops.Onnx)
    return op.inputs[0]


class RecognizeShuffle(RewritePattern):
    """The last Reshape of three nodes, or a Gather along the second dimension."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Onnx, rewriter: PatternRewriter) -> None:
        """Find out where every channel goes."""
        rank = len(shape_of(op.outputs[0]))
        if rank not in (2, *CHANNELS_LAST) or element_of(op.outputs[0]) != f32:
            return
        if rank > 2 and is_node(op, "Gather"):
            x, channels = op.inputs[0], permutation_of(op, axis=1)
        else:
            x, channels = shuffled(op)
        if x is None or channels is None:
            return
        if rank == 2:
            replace(rewriter, op, gathered(x, channels.tolist()))
            return
        last = ops.Transpose(x, CHANNELS_LAST[rank])
        moved = gathered(last.result, channels.tolist())
        replace(rewriter, op, [last, *moved, ops.Transpose(moved[-1].results[0], CHANNELS_FIRST[rank])])


def shuffled(op: ops.Onnx) -> tuple[SSAValue | None, np.ndarray | None]:
    """What three nodes shuffle, and which channel comes where; nothing where they do something else."""
    transpose = op.inputs[0].owner if is_node(op, "Reshape") else None
    if not isinstance(transpose, ops.Onnx) or not is_node(transpose, "Transpose"):
        return None, None
    first = transpose.inputs[0].owner
    if not isinstance(first, ops.Onnx) or not is_node(first, "Reshape"):
        return None, None
    x, shape = first.inputs[0], shape_of(op.outputs[0])
    if shape_of(x) != shape or len(shape) < 2 or not 1 < prod(shape) <= MOST_VALUES:
        return None, None
    order = plain_parameters(transpose).get("perm")
    if not isinstance(order, list):
        return None, None
    numbers = np.arange(prod(shape))
    moved = numbers.reshape(shape_of(transpose.inputs[0])).transpose([int(axis) for axis in order])
    whole, moved = numbers.reshape(shape), moved.reshape(shape)
    channels = moved[0].reshape(shape[1], -1)[:, 0] // prod(shape[2:])
    if channels.max() >= shape[1] or not np.array_equal(whole[:, channels], moved):
        return None, None
    return x, channels


class RecognizeShufflePass(ModulePass):
    """Recognise every shuffle of channels."""

    name = "recognize-shuffle"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        apply_patterns(op, RecognizeShuffle())
