# SPDX-License-Identifier: Apache-2.0
"""Epilogues fed with half of the value: which ones may be, and that they compute the same numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bnncc import targets
from bnncc.diagnostics import BnnccError
from bnncc.kernels.binary import three_word
from bnncc.kernels.binary.halved import Halved
from bnncc.kernels.isa import Isa
from bnncc.plan.expression import Accumulator, Binary, Channel, Compare, Expression, Scalar, ToFloat, Unary
from bnncc.plan.kernel import BinaryConv, Grid, KernelSpec
from bnncc.plan.layout import Element
from bnncc.plan.simulate import allocate
from tests.kernels.contractions import Shape, binary_spec
from tests.kernels.library import Library
from tests.kernels.rows_of_three import equal_signs
from tests.kernels.test_binary_conv import case_numbers

SHAPE = Shape((1, 5, 9, 64), 64)
NUMBER = ToFloat(Accumulator())
RELU = Unary("relu", NUMBER)
FLOATS = (Element.F32, Element.F32)


def _scaled(number: Expression) -> Expression:
    return Binary("add", Binary("mul", number, Channel(1)), Channel(2))


def _ending_in(*expressions: Expression, shape: Shape = SHAPE, **options) -> KernelSpec:
    outputs = tuple(
        (Element.BIT if isinstance(expression, Compare) else Element.F32, expression)
        for expression in expressions
    )
    return binary_spec(shape, outputs, FLOATS, **options)


STREAM = (_scaled(RELU), Compare("ge", _scaled(RELU), Scalar(0.25)))
TAKEN = {
    "scaled": _ending_in(_scaled(NUMBER), shape=Shape((1, 3, 14, 96), 48)),
    "factor-first": _ending_in(Binary("mul", Channel(1), NUMBER)),
    "relu-of-ones": _ending_in(_scaled(RELU), pad_value=1, halo_level=1),
    "relu-of-zeros": _ending_in(*STREAM, pad_value=0),
    "relu-of-minus-ones": _ending_in(*STREAM, pad_value=-1, halo_level=0),
    "other-padding-than-the-halo": _ending_in(_scaled(NUMBER), pad_value=1, halo_level=0),
    "even-ragged-channels": _ending_in(*STREAM, shape=Shape((2, 4, 7, 42), 37)),
    "rows-at-stride-two": _ending_in(_scaled(RELU), shape=Shape((1, 8, 9, 64), 40, stride=(2, 1))),
    "dilated-rows": _ending_in(
        _scaled(RELU), shape=Shape((1, 9, 9, 64), 32, dilation=(2, 1), pads=(2, 1, 2, 1))
    ),
    "put-off": _ending_in(*STREAM, shape=Shape((1, 16, 21, 64), 64), pad_value=1),
    "groups": _ending_in(*STREAM, shape=Shape((1, 5, 9, 128), 64, groups=2)),
}
REFUSED = {
    "odd-channels": _ending_in(_scaled(NUMBER), shape=Shape((1, 5, 9, 43), 64)),
    "odd-groups": _ending_in(_scaled(NUMBER), shape=Shape((1, 5, 9, 6), 4, groups=2)),
    "the-sum-is-an-output": binary_spec(
        SHAPE, ((Element.F32, _scaled(NUMBER)), (Element.I32, Accumulator())), FLOATS
    ),
    "the-number-is-an-output": _ending_in(_scaled(NUMBER), NUMBER),
    "the-sum-is-compared-too": binary_spec(
        SHAPE,
        ((Element.F32, _scaled(NUMBER)), (Element.BIT, Compare("ge", Accumulator(), Channel(3)))),
        (*FLOATS, Element.I32),
    ),
    "relu-and-number": _ending_in(_scaled(RELU), _scaled(NUMBER)),
    "relu-and-number-that-is-not-scaled": _ending_in(_scaled(RELU), Binary("add", NUMBER, Channel(2))),
    "the-factor-is-added-too": _ending_in(Binary("add", Binary("mul", NUMBER, Channel(1)), Channel(1))),
    "a-square": _ending_in(Binary("mul", NUMBER, NUMBER)),
    "no-product": _ending_in(Binary("add", NUMBER, Channel(1))),
    "negative-without-mismatches": _ending_in(_scaled(RELU), pad_value=1, halo_level=0),
    "negative-the-other-way": _ending_in(_scaled(RELU), pad_value=-1, halo_level=1),
    "spikes": _ending_in(_scaled(NUMBER), grid=Grid(1, 1, 0), halo_level=0),
    "planes-of-weights": _ending_in(_scaled(NUMBER), weight_planes=2),
    "ternary-weight": _ending_in(_scaled(NUMBER), ternary_weight=True),
    "ternary-input": _ending_in(_scaled(NUMBER), ternary_input=True),
    "integers": binary_spec(
        SHAPE, ((Element.F32, Binary("mul", ToFloat(Accumulator()), Channel(1))),), (Element.I32,)
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str):
    """And the ReLU is taken in, where there is one."""
    halved = Halved.of(TAKEN[name])
    assert halved is not None and halved.factor == 1
    assert halved.clips == any("'relu'" in repr(output.expression) for output in TAKEN[name].outputs)
    assert not any("'relu'" in repr(output.expression) for output in halved.spec.outputs)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str):
    assert Halved.of(REFUSED[name]) is None


def _outputs(spec: KernelSpec, numbers: list) -> list:
    """What the kernel of rows of three words writes for each set of numbers."""
    target = targets.native()
    if target.popcount != "vector32":
        pytest.skip("this machine has no AVX-512 VPOPCNTDQ")
    kernel = three_word.make(spec, Isa.of(target))
    library, results = Library([kernel], target), []
    for reads, constants in numbers:
        results.append([allocate(output.layout) for output in spec.outputs])
        library.run(kernel, reads, constants, results[-1])
    return results


@pytest.mark.parametrize("name", TAKEN)
def test_computes_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch):
    """As the kernel fed with the whole value; also at the largest and the smallest sums, and with scales
    whose double is just below infinity, or whose half is no number."""
    spec = TAKEN[name]
    numbers = [case_numbers(spec, seed=5), *(equal_signs(spec, one, -1) for one in (1, -1))]
    reads, (weight, factor, *rest) = case_numbers(spec, seed=6)
    extremes = np.resize(np.array([1e-45, -3e-45, 1.7e38, -1e-38, 0.0], np.float32), factor.shape)
    numbers.append((reads, (weight, extremes, *rest)))
    halved = _outputs(spec, numbers)
    monkeypatch.setattr(Halved, "of", staticmethod(lambda spec: None))
    for mine, whole in zip(halved, _outputs(spec, numbers), strict=True):
        for one, other in zip(mine, whole, strict=True):
            np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))
    assert any(np.any(output) for output in halved[0])


def test_a_scale_that_cannot_be_doubled():
    halved = Halved.of(TAKEN["scaled"])
    assert halved is not None
    with pytest.raises(BnnccError, match="2\\^127"):
        halved.constants((np.ones(1, np.int8), np.array([2.0**127], np.float32)))
    assert np.isinf(halved.constants((np.ones(1, np.int8), np.array([np.inf], np.float32)))[1])


def test_halves_of_a_table():
    """Without a ReLU negative numbers, too; of odd ones there are none."""
    halved = Halved.of(TAKEN["scaled"])
    assert halved is not None
    np.testing.assert_array_equal(halved.table(np.array([-2, 4])), [-1, 2])
    with pytest.raises(AssertionError, match="not a half"):
        halved.table(np.array([3, 4]))


def test_clipping_wants_no_negative_numbers():
    """The base of the layer that is refused for it is negative at some border."""
    spec = REFUSED["negative-without-mismatches"]
    assert isinstance(spec.root, BinaryConv)
    allowed = Halved.of(replace(spec, root=replace(spec.root, halo_level=1)))
    assert allowed is not None and allowed.clips
    with pytest.raises(AssertionError, match="not a half"):
        allowed.table(np.array([-2, 4]))
