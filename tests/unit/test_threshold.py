# SPDX-License-Identifier: Apache-2.0
"""Integer thresholds: which epilogues are one, and that one comparison decides as they do."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.plan.expression import Accumulator, Binary, Channel, Compare, Expression, Flip, Scalar
from bnncc.plan.kernel import Constant, KernelSpec, Map, Output
from bnncc.plan.layout import Element, Layout
from bnncc.plan.threshold import Threshold

COMPARISONS = {
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
}
LIMITS = np.array([-3, -1, 0, 1, 2, 2**31 - 1, -(2**31)], np.int32)
FLIPS = np.array([0, 1, 0, 1, 2, 1, 0], np.int32)
"""Whatever is not 0 flips."""
VALUES = np.array([*range(-5, 6), 2**31 - 1, -(2**31)], np.int64)[:, None]


def spec_of(*expressions: Expression, constant: Element = Element.I32, output: Element = Element.BIT):
    """A kernel that ends in these expressions, one output each."""
    layout = Layout.packed(output, (1, 1, 1, len(LIMITS)))
    constants = (Constant(constant, LIMITS.shape), Constant(Element.I32, FLIPS.shape))
    return KernelSpec(Map(), (layout,), constants, tuple(Output(layout, e) for e in expressions))


@pytest.mark.parametrize("is_flipped", [False, True])
@pytest.mark.parametrize("kind", COMPARISONS)
def test_one_comparison_decides_as_the_epilogue_does(kind, is_flipped: bool) -> None:
    """At every limit and on both sides of it, also where the limit's neighbour is no int32."""
    compare = Compare(kind, Accumulator(), Channel(0))
    threshold = Threshold.of(spec_of(Flip(compare, 1) if is_flipped else compare))
    assert threshold is not None
    signs, thresholds = threshold.at_least((LIMITS, FLIPS))
    expected = COMPARISONS[kind](VALUES, LIMITS.astype(np.int64)) ^ (is_flipped & (FLIPS != 0))
    np.testing.assert_array_equal(signs * VALUES >= thresholds, expected)
    assert set(signs) <= {-1, 1}


GE = Compare("ge", Accumulator(), Channel(0))
REFUSED = {
    "two outputs": spec_of(GE, GE),
    "a number": spec_of(GE, output=Element.F32),
    "a limit that is no integer": spec_of(GE, constant=Element.F32),
    "equality": spec_of(Compare("eq", Accumulator(), Channel(0))),
    "one limit for all": spec_of(Compare("ge", Accumulator(), Scalar(1.0))),
    "of a sum": spec_of(Compare("ge", Binary("add", Accumulator(), Channel(1)), Channel(0))),
    "flipped twice": spec_of(Flip(Flip(GE, 1), 1)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_threshold(name: str) -> None:
    assert Threshold.of(REFUSED[name]) is None
