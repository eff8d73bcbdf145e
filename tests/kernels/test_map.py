# SPDX-License-Identifier: Apache-2.0
"""Maps against `simulate`: channel counts, layouts, broadcasting, bits, in-place outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bnncc.diagnostics import BnnccError
from bnncc.kernels.build import make_kernel
from bnncc.kernels.isa import Isa
from bnncc.kernels.map import merge_rows, reshape
from bnncc.lowering.geometry import transposed
from bnncc.plan.expression import (
    Binary,
    Channel,
    Compare,
    Expression,
    Flip,
    FromBit,
    Operand,
    Scalar,
    Select,
    ToFloat,
    Unary,
)
from bnncc.plan.kernel import Constant, KernelSpec, Map, Output
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.targets import Target, native
from tests.kernels.support import TARGETS, Case, check, random_case

CHANNELS = (1, 3, 10, 17, 31, 33, 48, 64, 100)
X, Y = Operand(0), Operand(1)
ZERO = Scalar(0.0)


def shape_of(channels: int) -> tuple[int, int, int, int]:
    """Odd sizes, batch 2."""
    return 2, 5, 7, channels


def affine(x: Expression) -> Expression:
    """x * constant 0 + 0.1, a number that seven digits do not give."""
    return Binary("add", Binary("mul", x, Channel(0)), Scalar(0.1))


def map_case(
    operands: tuple[Layout, ...], *outputs: tuple[Layout, Expression], constants: tuple[np.ndarray, ...] = ()
) -> Case:
    """A map with random operands."""
    kinds = {"float32": Element.F32, "int32": Element.I32}
    canonical = tuple(Constant(kinds[array.dtype.name], array.shape) for array in constants)
    spec = KernelSpec(Map(), operands, canonical, tuple(Output(*output) for output in outputs))
    return random_case(spec, constants)


def vectors(channels: int) -> tuple[np.ndarray, np.ndarray]:
    """A float32 and a 0/1 vector of constants."""
    rng = np.random.default_rng(channels)
    return rng.standard_normal(channels).astype(np.float32), rng.integers(0, 2, channels).astype(np.int32)


def channel_cases(c: int) -> list[Case]:
    """Numbers and bits in and out, with and without halos and constants."""
    shape = shape_of(c)
    real = Layout.packed(Element.F32, shape)
    framed = Layout.packed(Element.F32, shape, Halo(1, 1, 2, 0))
    bits = Layout.packed(Element.BIT, shape)
    framed_bits = Layout.packed(Element.BIT, shape, Halo(1, 1, 1, 1))
    integers = Layout.packed(Element.I32, shape)
    one = vectors(c)
    return [
        map_case((real,), (framed, Unary("relu", X))),
        map_case(
            (real,),
            (framed, affine(X)),
            (framed_bits, Flip(Compare("ge", affine(X), ZERO), 1)),
            constants=one,
        ),
        map_case(
            (framed_bits, real),
            (integers, Binary("max", Channel(1), Channel(1))),
            (real, Select(X, Y, FromBit(X, 0.3, 2.0))),
            constants=one,
        ),
        map_case((framed_bits,), (bits, Flip(X, 1)), (framed_bits, X), constants=one),
        map_case((real,), (bits, Compare("gt", X, ZERO)), (framed_bits, Compare("ne", X, ZERO))),
        map_case((integers,), (framed, Binary("mul", ToFloat(X), Channel(0))), constants=one),
        map_case((integers,), (integers, Binary("add", X, Channel(1))), constants=one),
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_channel_counts(target: Target):
    counts = CHANNELS if target.name in ("native", "c") else (3, 17, 48)
    check([case for c in counts for case in channel_cases(c)], target)


@pytest.mark.parametrize("target", TARGETS)
def test_broadcasting(target: Target):
    cases = []
    for c in (1, 3, 17, 48):
        shape = shape_of(c)
        out = Layout.packed(Element.F32, shape)
        for axes in ((0,), (1,), (2,), (3,), (1, 2), (0, 1, 2), (0, 1, 2, 3)):
            n, h, w, depth = (1 if axis in axes else extent for axis, extent in enumerate(shape))
            small = n, h, w, depth
            other = Layout.packed(Element.F32, small)
            cases.append(map_case((out, other), (out, Binary("sub", X, Y))))
            flag = Layout.packed(Element.BIT, small)
            cases.append(map_case((out, flag), (out, Select(Y, X, ZERO))))
    check(cases, target)


@pytest.mark.parametrize("target", TARGETS)
def test_transposed(target: Target):
    """NCHW to NHWC and back, a sliced tensor, bits of a transposed one."""
    cases = []
    for c in (1, 3, 10, 33):
        n, h, w, _ = shape_of(c)
        nhwc = Layout.packed(Element.F32, (n, h, w, c), Halo(0, 1, 1, 0))
        nchw = transposed(Layout.packed(Element.F32, (n, c, h, w)), 4, (0, 2, 3, 1))
        bits = Layout.packed(Element.BIT, (n, h, w, c))
        half = replace(Layout.packed(Element.F32, (n, h, w, 2 * c)), shape=(n, h, w, c), offset=c)
        cases += [
            map_case((nchw,), (nhwc, X)),
            map_case((nhwc,), (nchw, Unary("neg", X))),
            map_case((nchw,), (nchw, Unary("abs", X))),
            map_case((nchw,), (bits, Compare("le", X, ZERO))),
            map_case((half,), (nhwc, X)),
            map_case((nhwc,), (half, X)),
        ]
    check(cases, target)


@pytest.mark.parametrize("target", TARGETS)
def test_camera(target: Target):
    """Bytes with a normalisation per channel, as they come from a camera and transposed."""
    cases = []
    for w in (7, 16, 48):
        for element in (Element.U8, Element.I8):
            nhwc = Layout.packed(element, (1, 6, w, 3))
            nchw = transposed(Layout.packed(element, (1, 3, 6, w)), 4, (0, 2, 3, 1))
            out = Layout.packed(Element.F32, (1, 6, w, 3), Halo(3, 3, 3, 3))
            cases += [
                map_case((x,), (out, affine(ToFloat(X))), constants=vectors(3)[:1]) for x in (nhwc, nchw)
            ]
    check(cases, target)


@pytest.mark.parametrize("target", TARGETS)
def test_in_place(target: Target):
    """An output in the very buffer of an operand, with another output that reads it, too."""
    cases = []
    for c in (3, 16, 33):
        real = Layout.packed(Element.F32, shape_of(c), Halo(1, 0, 0, 1))
        bits = Layout.packed(Element.BIT, shape_of(c))
        for operand, outputs in (
            (real, ((real, Binary("add", X, Y)), (bits, Compare("ge", X, Y)))),
            (bits, ((bits, Compare("gt", Y, ZERO)), (real, FromBit(X)))),
        ):
            case = map_case((operand, real), *outputs)
            cases.append(replace(case, spec=replace(case.spec, in_place=((0, 0),))))
    check(cases, target)


@pytest.mark.parametrize("rows", [2**14, 2**14 - 1])
def test_what_32_bits_do_not_reach_is_refused(rows: int):
    """Step by step 2 GiB may come together that no tensor of the model has."""
    layout = Layout.packed(Element.F32, (2**11, rows, 1, 16))
    spec = KernelSpec(Map(), (layout,), (), (Output(layout, Unary("relu", X)),))
    if rows < 2**14:
        assert make_kernel(spec, native()).symbol
        return
    with pytest.raises(BnnccError, match=r"tensor \[2048, 16384, 1, 16\] takes 2,147,483,648 bytes"):
        make_kernel(spec, native())


def test_rows_are_merged():
    isa = Isa("test", "llvm", "", "", (), 512, "bytes")
    real = Layout.packed(Element.F32, (1, 16, 16, 3))
    spec = map_case((real,), (real, affine(X)), constants=vectors(3)[:1]).spec
    assert merge_rows(spec).shape == (1, 1, 256, 3)
    shape = reshape(spec, isa)
    assert shape.spec.shape == (1, 1, 16, 48) and shape.repeat == 16
    assert reshape(map_case((real,), (real, X)).spec, isa).spec.shape == (1, 1, 1, 768)
    framed = Layout.packed(Element.F32, (1, 16, 16, 3), Halo(1, 1, 1, 1))
    assert reshape(map_case((framed,), (real, X)).spec, isa).spec.shape == (1, 16, 1, 48)
    odd = Layout.packed(Element.F32, (1, 5, 5, 3))
    assert reshape(map_case((odd,), (odd, affine(X)), constants=vectors(3)[:1]).spec, isa).repeat == 1
