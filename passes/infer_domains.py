# SPDX-License-Identifier: Apache-2.0
"""infer-domains: prove which contractions are binary.

Casts of binary values to numbers, and the scale behind them, move down through whatever commutes with them.
A contraction of binary values with a weight of s[o] * {-1, +1} (or {-1, 0, +1}, or other small integers)
becomes an integer one, times s. Real layers never match: the activation must be binary already.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32, i32
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import unpack
from bnncc.dialect.pools import is_byte
from bnncc.dialect.types import Level, bipolar, domain_values, element_of, is_number, shape_of, ternary
from bnncc.passes.levels import byte_levels, has_kernel, weight_levels
from bnncc.passes.matching import (
    apply_patterns,
    binary_input,
    channel_form,
    constant_of,
    copy_source,
    has_one_use,
    producer,
    replace,
    uniform_value,
)
from bnncc.passes.simplify_layout import MergePads, MergeReshapes, MergeTransposes
from bnncc.passes.time.layout import CollectSpikes


def exact_input(value: SSAValue) -> SSAValue | None:
    """The binary value or i32 behind a cast to f32."""
    cast = producer(value, ops.Cast)
    if cast is None or element_of(cast.result) != f32:
        return None
    element = element_of(cast.input)
    return cast.input if element == i32 or not is_number(element) else None


def scaled_input(value: SSAValue) -> tuple[SSAValue, float] | None:
    """(b, s) where the value is cast(b) * s with one number s; s is 1 where nothing multiplies."""
    if binary_input(value) is not None:
        return value, 1.0
    mul = producer(value, ops.Mul)
    if mul is None:
        return None
    for cast, scale in ((mul.left, mul.right), (mul.right, mul.left)):
        number = uniform_value(scale)
        if number is not None and number != 0 and binary_input(cast) is not None and cast.type == value.type:
            return cast, number
    return None


def rebuilt(op: Operation, inputs: Sequence[SSAValue], divisor: float = 1.0) -> Operation | None:
    """The same layout operation or max_pool of other inputs, or None where their domain does not allow it.
    A pad's value is divided by `divisor`."""
    element = element_of(inputs[0])
    match op:
        case ops.Transpose():
            return ops.Transpose(inputs[0], unpack(op.permutation))
        case ops.Reshape():
            return ops.Reshape(inputs[0], shape_of(op.result))
        case ops.MaxPool() if element in (bipolar, i32, f32) or is_byte(element):
            geometry = (unpack(p) for p in (op.kernel, op.strides, op.dilations, op.pads))
            return ops.MaxPool(inputs[0], *geometry)
        case ops.MeanPool() if element == f32 or is_byte(element):
            geometry = (unpack(p) for p in (op.kernel, op.strides, op.dilations, op.pads))
            return ops.MeanPool(inputs[0], *geometry, count_outside=bool(op.count_outside.value.data))
        case ops.Concat() if all(element_of(value) == element for value in inputs):
            return ops.Concat(inputs, op.axis.value.data)
        case ops.Pad():
            return _padded(op, inputs[0], divisor)
    return None


def _padded(op: ops.Pad, value: SSAValue, divisor: float) -> Operation | None:
    number = op.value.value.data / divisor
    element = element_of(value)
    allowed = domain_values(element)
    if allowed is not None and number not in allowed:
        if not op.is_crop:
            return None
        number = max(allowed)
    return ops.Pad(value, unpack(op.low), unpack(op.high), number)


COMMUTING = (ops.Transpose, ops.Reshape, ops.MaxPool, ops.Concat, ops.Pad)


class SinkCast(RewritePattern):
    """A layout operation or max_pool of cast(b) is the cast of that operation on b; of an accumulator, only
    max_pool: what moves its values is better done once they are thresholded."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rebuild the operation on what was cast."""
        if not isinstance(op, COMMUTING):
            return
        inputs = [value for operand in op.operands if (value := exact_input(operand)) is not None]
        if not inputs or len(inputs) < len(op.operands):
            return
        if element_of(inputs[0]) == i32 and not (isinstance(op, ops.MaxPool) and has_one_use(op.input)):
            return
        inner = rebuilt(op, inputs)
        if inner is None:
            return
        copy_source(op, inner)
        replace(rewriter, op, [inner, ops.Cast(inner.results[0])])


class SinkScale(RewritePattern):
    """A layout operation or max_pool of cast(b) * s is s times that operation on cast(b); s > 0 for a max."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rebuild the operation on what was scaled; all inputs must have one scale."""
        if not isinstance(op, COMMUTING):
            return
        found = [scaled_input(operand) for operand in op.operands]
        pairs = [pair for pair in found if pair is not None]
        scales = {scale for _, scale in pairs}
        if not pairs or len(pairs) < len(found) or len(scales) != 1 or scales == {1.0}:
            return
        (scale,) = scales
        if isinstance(op, ops.MaxPool) and scale < 0:
            return
        if isinstance(op, ops.Pad) and not op.is_crop and op.value.value.data / scale not in (-1, 0, 1):
            return
        inner = rebuilt(op, [cast for cast, _ in pairs], scale)
        if inner is None:
            return
        constant = ops.Constant(np.asarray(scale, np.float32))
        replace(rewriter, op, [inner, constant, ops.Mul(inner.results[0], constant.result)])


class MeanOfBytes(RewritePattern):
    """The mean of bytes times a number is that number times their mean, which is summed in integers."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.MeanPool, rewriter: PatternRewriter) -> None:
        """Read the bytes, scale what comes out."""
        found = scaled_input(op.input)
        levels = None if found is None else binary_input(found[0])
        if found is None or levels is None or not is_byte(element_of(levels)):
            return
        mean = rebuilt(op, [levels])
        assert isinstance(mean, ops.MeanPool)
        if found[1] == 1:
            copy_source(op, mean)
            replace(rewriter, op, [mean])
            return
        scale = ops.Constant(np.asarray(found[1], np.float32))
        replace(rewriter, op, [mean, scale, ops.Mul(mean.result, scale.result)])


class RaiseMaxPool(RewritePattern):
    """The maximum of increasing functions is the function of the maximum: max_pool goes in front of what
    follows an integer accumulator, as far as it depends on the channel only."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.MaxPool, rewriter: PatternRewriter) -> None:
        """Exchange the pool with the operation in front of it."""
        before = op.input.owner
        if (
            not isinstance(before, Operation)
            or not has_one_use(op.input)
            or not follows_accumulator(op.input)
        ):
            return
        index = increasing_operand(before)
        if index is None:
            return
        pooled = rebuilt(op, [before.operands[index]])
        if pooled is None:
            return
        operands = [pooled.results[0] if i == index else v for i, v in enumerate(before.operands)]
        after = before.create(
            operands=operands, result_types=[op.result.type], properties=dict(before.properties)
        )
        replace(rewriter, op, [pooled, after])


def increasing_operand(op: Operation) -> int | None:
    """The operand in which `op` does not decrease, all others being constants for the channel."""
    free = [i for i, operand in enumerate(op.operands) if constant_of(operand) is None]
    if len(free) != 1 or op.operands[free[0]].type != op.results[0].type:
        return None
    index = free[0]
    others = [constant_of(v) for i, v in enumerate(op.operands) if i != index]
    rank = len(shape_of(op.results[0]))
    if any(array is None or channel_form(array, rank) is None for array in others):
        return None
    match op:
        case ops.Add() | ops.Max() | ops.Min() | ops.Relu() | ops.Clip():
            return index
        case ops.Sub() if index == 0:
            return index
        case ops.Mul() | ops.Div() if index == 0 or isinstance(op, ops.Mul):
            return index if others[0] is not None and (others[0] > 0).all() else None
        case ops.BatchNorm():
            scale = constant_of(op.scale)
            return index if scale is not None and (scale >= 0).all() else None
    return None


def follows_accumulator(value: SSAValue) -> bool:
    """Whether only such operations lie between the value and the cast of an i32."""
    while isinstance(value.owner, Operation):
        inner = exact_input(value)
        if inner is not None:
            return element_of(inner) == i32
        index = increasing_operand(value.owner)
        if index is None:
            return False
        value = value.owner.operands[index]
    return False


class BinaryContraction(RewritePattern):
    """A contraction of t * cast(b) with a weight of s[o] * {-1, 0, +1}, or a few integers more, is (t * s[o])
    times an integer one."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Conv2d | ops.Dense, rewriter: PatternRewriter) -> None:
        """Check activation, then weight."""
        scaled, weight = scaled_input(op.input), constant_of(op.weight)
        if scaled is None or weight is None or weight.dtype != np.float32:
            return
        cast, factor = scaled
        bits = binary_input(cast)
        assert bits is not None
        levels = levels_for(op, weight, element_of(bits))
        if levels is None:
            return
        integers, scale = levels
        constant = ops.Constant(integers, weight_domain(integers))
        contraction = contracted(op, bits, constant.result)
        new = [constant, contraction, ops.Cast(contraction.results[0])]
        products = (np.float64(factor) * scale).astype(np.float32)
        if (products == 1).all():
            copy_source(op, contraction)
            replace(rewriter, op, new)
            return
        scales = ops.Constant(products[0] if (products == products[0]).all() else products)
        replace(rewriter, op, [*new, scales, ops.Mul(new[-1].results[0], scales.result)])


def levels_for(
    op: ops.Conv2d | ops.Dense, weight: np.ndarray, domain: Attribute
) -> tuple[np.ndarray, np.ndarray] | None:
    """The levels of a weight and their scales, where there are kernels for it and activations of a domain:
    those of bytes take weights of bytes."""
    if not has_kernel(op, domain):
        return None
    levels = weight_levels(weight)
    return byte_levels(weight) if levels is None and is_byte(domain) else levels


def weight_domain(levels: np.ndarray) -> Attribute:
    """The smallest domain that holds these integers."""
    lowest, highest = int(levels.min()), int(levels.max())
    if lowest >= -1 and highest <= 1:
        return bipolar if (levels != 0).all() else ternary
    return Level(lowest, highest)


def contracted(op: ops.Conv2d | ops.Dense, x: SSAValue, w: SSAValue) -> Operation:
    """The same contraction of other operands."""
    if isinstance(op, ops.Dense):
        return ops.Dense(x, w)
    strides, dilations, pads = unpack(op.strides), unpack(op.dilations), unpack(op.pads)
    return ops.Conv2d(x, w, strides, dilations, pads, op.groups.value.data, op.pad_value.value.data)


class InferDomainsPass(ModulePass):
    """Sink casts and scales, turn contractions binary."""

    name = "infer-domains"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module; pads of +1 merge too, once a value is known to be binary."""
        inference = (
            CollectSpikes(),
            SinkCast(),
            SinkScale(),
            MeanOfBytes(),
            BinaryContraction(),
            RaiseMaxPool(),
        )
        apply_patterns(op, *inference, MergeTransposes(), MergeReshapes(), MergePads())
