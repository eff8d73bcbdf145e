# SPDX-License-Identifier: Apache-2.0
"""Channel means, softmax and halos against `simulate`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from bnncc.lowering.geometry import transposed
from bnncc.plan.expression import Accumulator, Binary, Compare, Scalar, Unary
from bnncc.plan.kernel import ChannelMean, FillHalo, KernelSpec, Output, Softmax
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.targets import Target
from tests.kernels.support import TARGETS, Case, check, random_case

ACC = Accumulator()
CHANNELS = (1, 3, 10, 17, 33, 64, 100)
HALO_VALUES: tuple[tuple[Element, tuple[Literal[-1, 0, 1], ...]], ...] = (
    (Element.BIT, (-1, 0, 1)),
    (Element.F32, (0, -1)),
    (Element.I8, (1,)),
)
"""Elements, and the values that their halo takes."""


def reduction_cases(c: int) -> list[Case]:
    """Both reductions of c channels; softmax stored as numbers, as bits and transposed."""
    shape = (2, 3, 5, c)
    x = Layout.packed(Element.F32, shape, Halo(0, 1, 1, 0))
    one = Layout.packed(Element.F32, (*shape[:3], 1))
    out = Layout.packed(Element.F32, shape, Halo(1, 1, 1, 1))
    bits = Layout.packed(Element.BIT, shape)
    nchw = transposed(Layout.packed(Element.F32, (2, c, 3, 5)), 4, (0, 2, 3, 1))
    likely = Output(bits, Compare("gt", ACC, Scalar(1.5 / c)))
    specs = [
        KernelSpec(ChannelMean(x), (), (), (Output(one, Unary("abs", ACC)),)),
        KernelSpec(ChannelMean(nchw), (), (), (Output(one, Binary("mul", ACC, Scalar(0.3))),)),
        KernelSpec(Softmax(x), (), (), (Output(out, ACC), likely)),
        KernelSpec(Softmax(nchw), (), (), (Output(nchw, Binary("mul", ACC, Scalar(2.0))),)),
    ]
    return [random_case(spec, halo=np.nan) for spec in specs]


@pytest.mark.parametrize("target", TARGETS)
def test_reductions(target: Target):
    counts = CHANNELS if target.name in ("native", "c") else (3, 17, 64)
    check([case for c in counts for case in reduction_cases(c)], target)


@pytest.mark.parametrize("target", TARGETS)
def test_softmax_of_large_numbers(target: Target):
    """Nothing overflows where the numbers do not."""
    layout = Layout.packed(Element.F32, (1, 1, 1, 5))
    spec = KernelSpec(Softmax(layout), (), (), (Output(layout, ACC),))
    x = np.array([3e38, 3e38, -3e38, 0, 1e30], np.float32)
    check([Case(spec, (x,))], target)


@pytest.mark.parametrize("target", TARGETS)
def test_halos(target: Target):
    cases = []
    for c in (1, 16, 33, 64):
        for halo in (Halo(1, 1, 1, 1), Halo(2, 0, 0, 3), Halo(0, 1, 0, 0), Halo()):
            for element, values in HALO_VALUES:
                target_layout = Layout.packed(element, (2, 4, 3, c), halo)
                roots = [FillHalo(target_layout, value) for value in values]
                cases += [Case(KernelSpec(root, (), (), ()), ()) for root in roots]
    # Some channels of a wider tensor.
    wide = Layout.packed(Element.BIT, (2, 4, 3, 160), Halo(1, 1, 1, 1))
    parts = [replace(wide, shape=(2, 4, 3, c), offset=wide.offset + 1) for c in (33, 64)]
    cases += [Case(KernelSpec(FillHalo(part, value), (), (), ()), ()) for part in parts for value in (0, 1)]
    check(cases, target)
