# SPDX-License-Identifier: Apache-2.0
"""Pools against `simulate`: windows across the border, dilation, numbers and bits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bnncc.kernels.pool import Axis
from bnncc.plan.expression import Accumulator, Binary, BitOf, Channel, Compare, Flip, FromBit, Operand, Scalar
from bnncc.plan.kernel import Constant, KernelSpec, Output, Pool, Window
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.targets import Target
from tests.kernels.support import TARGETS, Case, check, random_case

ACC = Accumulator()

WINDOWS = (
    (Window(2, 2, 2, 2), (4, 5)),
    (Window(3, 3, 2, 1, 1, 1, 1, 1), (5, 11)),
    (Window(3, 2, 1, 1, 2, 3, 2, 1), (9, 10)),
    (Window(3, 3, 1, 1, 1, 1, 1, 1), (9, 11)),
    (Window(9, 11), (1, 1)),
    (Window(9, 11, 1, 1, 1, 1, 8, 10), (17, 21)),
)
"""For an image of 9 x 11: window and output."""


def numbers_case(
    kind,
    element: Element,
    c: int,
    window: Window,
    size: tuple[int, int],
    count_outside: bool = False,
    lowest: int = 0,
) -> Case:
    """A pool of numbers with a small epilogue."""
    image = Layout.packed(element, (2, 9, 11, c), Halo(1, 1, 0, 2))
    out = Layout.packed(Element.F32 if kind == "mean" else element, (2, *size, c))
    bits = Layout.packed(Element.BIT, (2, *size, c), Halo(1, 1, 1, 1))
    outputs = [Output(out, ACC)]
    if element is Element.F32:
        scaled = Binary("add", Binary("mul", ACC, Channel(0)), Operand(0))
        outputs = [Output(out, scaled), Output(bits, Compare("gt", ACC, Scalar(0.5)))]
    elif kind == "max":
        outputs.append(Output(bits, Compare("ge", ACC, Channel(1))))
    other = Layout.packed(Element.F32, (1, 1, 1, c))
    constants = (np.linspace(-1, 1, c, dtype=np.float32), np.arange(c, dtype=np.int32) * 7)
    spec = KernelSpec(
        Pool(kind, image, window, count_outside, lowest),
        (other,),
        (Constant(Element.F32, (c,)), Constant(Element.I32, (c,))),
        tuple(outputs),
    )
    # What the halo holds must not matter: it is larger than every value.
    return random_case(spec, constants, halo=255 if element is Element.U8 else 5000)


def bits_case(c: int, window: Window, size: tuple[int, int], is_bitwise: bool) -> Case:
    """A maximum over bits, flipped in some channels; stored as bits, or as numbers, too."""
    image = Layout.packed(Element.BIT, (2, 9, 11, c), Halo(1, 1, 0, 2))
    bits = Layout.packed(Element.BIT, (2, *size, c), Halo(0, 1, 1, 0))
    outputs = [Output(bits, Flip(ACC, 0))]
    if not is_bitwise:
        outputs.append(Output(Layout.packed(Element.F32, (2, *size, c)), FromBit(ACC, 0.0, 3.0)))
    flips = np.random.default_rng(c).integers(0, 2, c).astype(np.int32)
    spec = KernelSpec(Pool("max", image, window), (), (Constant(Element.I32, (c,)),), tuple(outputs))
    return random_case(spec, (flips,), halo=1)


def channel_counts(target: Target) -> int:
    """How many channel counts to try: both on the widest vectors, one elsewhere."""
    return 2 if target.name == "native" else 1


@pytest.mark.parametrize("target", TARGETS)
def test_numbers(target: Target):
    cases = []
    for number, (window, size) in enumerate(WINDOWS):
        for c in ((3, 64), (10, 33), (17, 48))[number % 3][: channel_counts(target)]:
            cases += [numbers_case("max", element, c, window, size) for element in (Element.F32, Element.I32)]
            cases += [
                numbers_case("mean", Element.F32, c, window, size, outside) for outside in (False, True)
            ]
            cases.append(numbers_case("mean", Element.I32, c, window, size))
            lowest = (0, -128, -77)[number % 3]
            cases += [
                numbers_case("mean", Element.U8, c, window, size, outside, lowest)
                for outside in (False, True)
            ]
    check(cases, target)


@pytest.mark.parametrize("target", TARGETS)
def test_the_smallest_numbers(target: Target):
    """No maximum is above them."""
    cases = []
    for element, number in ((Element.F32, -3e38), (Element.F32, -np.inf), (Element.I32, -(2**31))):
        image, out = (Layout.packed(element, (1, size, size, 5)) for size in (4, 2))
        spec = KernelSpec(Pool("max", image, Window(2, 2, 2, 2)), (), (), (Output(out, ACC),))
        cases.append(Case(spec, (np.full(image.extent, number, element.dtype),)))
    check(cases, target)


@pytest.mark.parametrize("target", TARGETS)
def test_bits(target: Target):
    check(
        [
            bits_case(c, window, size, is_bitwise)
            for number, (window, size) in enumerate(WINDOWS)
            for c in ((1, 64), (31, 100), (33, 300))[number % 3][: channel_counts(target)]
            for is_bitwise in (True, False)
        ],
        target,
    )


def count_case(image: tuple[int, int, int, int], window: Window, halo: Halo = Halo()) -> Case:
    """The planes of how many bits are set in each window."""
    n, h, w, c = image
    rows = (h - (window.height - 1) * window.dilation_y - 1) // window.stride_y + 1
    columns = (w - (window.width - 1) * window.dilation_x - 1) // window.stride_x + 1
    bits = Layout.packed(Element.BIT, (n, rows, columns, c), halo)
    planes = (window.height * window.width).bit_length()
    outputs = tuple(Output(bits, BitOf(ACC, plane)) for plane in range(planes))
    pool = Pool("count", Layout.packed(Element.BIT, image, Halo(1, 0, 0, 1)), window)
    return random_case(KernelSpec(pool, (), (), outputs), halo=1)


@pytest.mark.parametrize("target", TARGETS)
def test_counts(target: Target):
    check(
        [
            count_case((3, 13, 13, 16), Window(2, 2, 2, 2)),
            count_case((1, 70, 67, 20), Window(2, 2, 2, 2), Halo(1, 1, 1, 1)),
            count_case((1, 9, 11, 32), Window(3, 3, 2, 2)),
            count_case((1, 9, 11, 3), Window(3, 2, 1, 1)),
            count_case((2, 6, 7, 600), Window(2, 3, 2, 2)),
            count_case((2, 9, 7, 40), Window(2, 2, 2, 3, 3, 2)),
            count_case((1, 1, 20, 8), Window(1, 4, 1, 4)),
            # One word a pixel, whose neighbours are no neighbouring windows.
            count_case((1, 5, 60, 20), Window(2, 2, 2, 3)),
            count_case((1, 5, 60, 20), Window(2, 3, 1, 1, 1, 2)),
        ],
        target,
    )


def test_inside():
    """The positions whose window lies inside the image are one run."""
    assert Axis(9, 9, 3, 1, 1, 1).inside() == range(1, 8)
    assert Axis(9, 5, 3, 2, 1, 1).inside() == range(1, 4)
    assert Axis(8, 4, 2, 2, 1, 0).inside() == range(0, 4)


def test_inside_is_a_part_of_the_positions():
    """An empty run, too, has its place among them: columns before it and after it are counted from there."""
    sizes = itertools.product((1, 2, 3, 9), (1, 2, 5, 9), (1, 3, 5), (1, 2, 3), (1, 2), (0, 1, 2, 4))
    for extent, positions, taps, stride, dilation, before in sizes:
        run = Axis(extent, positions, taps, stride, dilation, before).inside()
        assert 0 <= run.start <= run.stop <= positions
        for position in range(positions):
            first = position * stride - before
            is_inside = first >= 0 and first + (taps - 1) * dilation < extent
            assert (position in run) == is_inside
