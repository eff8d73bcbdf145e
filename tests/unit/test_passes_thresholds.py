# SPDX-License-Identifier: Apache-2.0
"""Thresholds against the float32 chain that they replace, at every value of the accumulator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, Region, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.parsing import make_context
from bnncc.dialect.types import bipolar, element_of, tensor
from bnncc.passes.fold_thresholds import FoldThresholdsPass, reachable
from bnncc.reference import evaluate, evaluate_operation

CHANNELS = 64

Chain = Callable[["Builder", SSAValue], SSAValue]


class Builder:
    """A function that sums K bits of each of the 2^K-free rows and passes the sums through a chain.

    Row j of the input holds j values +1 and K - j values -1, so the K + 1 rows reach every sum there is."""

    def __init__(self, taps: int, seed: int):
        self.random = np.random.default_rng(seed)
        self.taps = taps
        self.block = Block(arg_types=[tensor((taps + 1, taps), bipolar)])

    def add(self, op: Operation) -> SSAValue:
        """Append an operation; its result."""
        self.block.add_op(op)
        return op.results[0]

    def constant(self, values: np.ndarray) -> SSAValue:
        """A float32 constant."""
        return self.add(ops.Constant(np.asarray(values, np.float32)))

    def vector(self, scale: float = 1.0) -> SSAValue:
        """Random numbers, one per channel."""
        return self.constant(scale * self.random.standard_normal(CHANNELS))

    def module(self, chain: Chain, zero: int) -> ModuleOp:
        """bits -> sum -> chain -> binarize -> numbers."""
        weight = self.add(ops.Constant(np.ones((CHANNELS, self.taps), np.int8), bipolar))
        real = self.add(ops.Cast(self.add(ops.Dense(self.block.args[0], weight))))
        result = self.add(ops.Cast(self.add(ops.Binarize(chain(self, real), zero))))
        self.block.add_op(ReturnOp(result))
        types = ([argument.type for argument in self.block.args], [result.type])
        function = FuncOp("main", types, Region(self.block))
        function.attributes["bnn.inputs"] = ArrayAttr([StringAttr("x")])
        function.attributes["bnn.outputs"] = ArrayAttr([StringAttr("y")])
        return ModuleOp([function])

    @property
    def rows(self) -> np.ndarray:
        """The input that reaches every sum."""
        ranks = np.arange(self.taps)[None, :]
        return np.where(ranks < np.arange(self.taps + 1)[:, None], 1, -1).astype(np.int8)


def batch_norm(b: Builder, x: SSAValue) -> SSAValue:
    """Scales of both signs and some of 0, means on sums that occur, so that ties do too."""
    scale = b.random.standard_normal(CHANNELS) * b.random.choice([0, 1, 1, 1], CHANNELS)
    mean = b.random.integers(-b.taps, b.taps + 1, CHANNELS)
    bias = b.random.standard_normal(CHANNELS) * b.random.choice([0, 1], CHANNELS)
    variance = b.random.uniform(0.1, 9, CHANNELS)
    return b.add(ops.BatchNorm([x, *map(b.constant, (scale, bias, mean, variance))], 1e-5))


def scaled_batch_norm(b: Builder, x: SSAValue) -> SSAValue:
    """A weight's scale and a bias in front."""
    return batch_norm(b, b.add(ops.Add(b.add(ops.Mul(x, b.vector(0.01))), b.vector())))


def prelu(b: Builder, x: SSAValue) -> SSAValue:
    """A PReLU with a positive slope, then an offset."""
    slope = b.constant(b.random.uniform(0.01, 1, CHANNELS))
    return b.add(ops.Add(b.add(ops.PRelu(x, slope)), b.vector(b.taps / 2)))


def clamp(b: Builder, x: SSAValue) -> SSAValue:
    """A clamp by comparisons, then an offset that it may make constant."""
    bound = b.constant(np.asarray(3.0))
    above = b.add(ops.Compare("gt", x, bound))
    return b.add(ops.Sub(b.add(ops.Select(above, bound, x)), b.vector(4)))


def rounded(b: Builder, x: SSAValue) -> SSAValue:
    """Steps of several sums at once."""
    return b.add(ops.Sub(b.add(ops.Round(b.add(ops.Div(x, b.constant(np.asarray(7.0)))))), b.vector(2)))


CHAINS: tuple[Chain, ...] = (batch_norm, scaled_batch_norm, prelu, clamp, rounded)


def folded(module: ModuleOp) -> bool:
    """Fold; whether a threshold came of it."""
    FoldThresholdsPass().apply(make_context(), module)
    module.verify()
    return any(isinstance(op, ops.Threshold) for op in module.walk())


@pytest.mark.parametrize("zero", [1, -1])
@pytest.mark.parametrize("taps", [1, 9, 64, 577])
@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.__name__)
def test_thresholds_decide_as_the_chain(chain: Chain, taps: int, zero: int) -> None:
    builder = Builder(taps, seed=taps)
    module = builder.module(chain, zero)
    (before,) = evaluate(module, {"x": builder.rows}).values()
    assert folded(module)
    (after,) = evaluate(module, {"x": builder.rows}).values()
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize(("taps", "folds"), [(8, False), (9, True)])
def test_sign_of_zero_folds_only_where_zero_is_unreachable(taps: int, folds: bool) -> None:
    builder = Builder(taps, seed=0)
    module = builder.module(lambda b, x: b.add(ops.Mul(x, b.constant(np.full(CHANNELS, 0.1)))), zero=0)
    (before,) = evaluate(module, {"x": builder.rows}).values()
    assert folded(module) == folds
    (after,) = evaluate(module, {"x": builder.rows}).values()
    np.testing.assert_array_equal(after, before)
    values = [op.results[0] for op in module.walk() if isinstance(op, ops.Threshold | ops.Binarize)]
    assert [element_of(value) == bipolar for value in values] == [folds]


def test_what_is_not_monotone_stays() -> None:
    builder = Builder(9, seed=0)
    module = builder.module(lambda b, x: b.add(ops.Sub(b.add(ops.Abs(x)), b.constant(np.asarray(4.0)))), 1)
    assert not folded(module)


def test_thresholds_stay_within_reach() -> None:
    """A channel that always or never answers +1 has a threshold at the ends of the range, never beyond them
    by more than 1, so that no kernel has to fear an overflow."""
    builder = Builder(9, seed=0)
    module = builder.module(lambda b, x: b.add(ops.Add(x, b.vector(100))), 1)
    assert folded(module)
    (threshold,) = [op for op in module.walk() if isinstance(op, ops.Threshold)]
    assert np.abs(ops.vector_of(threshold.thresholds)).max() <= 10


@pytest.mark.parametrize("pad_value", [0, 1])
@pytest.mark.parametrize("side", range(4))
def test_zeros_at_any_side_change_the_parity_of_sums(side: int, pad_value: int) -> None:
    """Windows over the edge sum six ones and three zeros; where ones are around the image all nine count."""
    image = Block(arg_types=[tensor((1, 5, 5, 1), bipolar)]).args[0]
    weight = ops.Constant(np.ones((1, 3, 3, 1), np.int8), bipolar)
    pads = tuple(int(side == other) for other in range(4))
    conv = ops.Conv2d(image, weight.result, (1, 1), (1, 1), pads, 1, pad_value)
    (sums,) = evaluate_operation(conv, [np.ones((1, 5, 5, 1), np.int8), np.ones((1, 3, 3, 1), np.int8)])
    assert set(np.unique(sums)) == ({6, 9} if pad_value == 0 else {9})
    values = reachable(conv.result)
    assert values is not None and set(np.unique(sums)) <= set(values)
    assert len(values) == (19 if pad_value == 0 else 10)
