# SPDX-License-Identifier: Apache-2.0
"""The grammar of kernel symbols."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bnncc import targets
from bnncc.kernels.build import make_kernel
from bnncc.kernels.isa import Isa
from bnncc.kernels.naming import kernel_symbol, parse
from bnncc.kernels.space import candidates
from bnncc.plan.expression import Accumulator, Binary, Channel, Compare, Operand, Scalar, Unary
from bnncc.plan.kernel import (
    BinaryConv,
    Constant,
    FillHalo,
    KernelSpec,
    Map,
    Output,
    Pool,
    RealConv,
    Root,
    Softmax,
    Window,
)
from bnncc.plan.layout import Element, Halo, Layout
from tests.kernels.contractions import Shape, binary_spec, byte_spec, real_spec, spike_spec

BITS = Layout.packed(Element.BIT, (1, 8, 8, 64), Halo(1, 1, 1, 1))
REAL = Layout.packed(Element.F32, (1, 8, 8, 64))
VECTOR = Layout.packed(Element.BIT, (1, 1, 1, 64))
ISA = Isa.of(targets.load("znver4"))
TILE = {"lanes": 16, "channel_vectors": 2}


def spec_of(root: Root, *outputs: Output) -> KernelSpec:
    """A spec without operands."""
    return KernelSpec(root, (), (), outputs)


def test_binary_convolution():
    root = BinaryConv(BITS, Window(3, 3, 1, 1, 1, 1, 1, 1), 1, 0, 0)
    spec = spec_of(root, Output(BITS, Compare("ge", Accumulator(), Channel(1))))
    spec = replace(spec, constants=(Constant(Element.I8, (64, 3, 3, 64)), Constant(Element.I32, (64,))))
    symbol = kernel_symbol(spec, ISA, TILE)
    name = parse(symbol)
    assert symbol.startswith("conv3x3_bitxbit_getobit__v512p_lanes16channelvectors2_")
    assert (name.operation, name.activation, name.weight, name.epilogue) == (
        "conv3x3",
        "bit",
        "bit",
        "getobit",
    )
    assert (name.isa, name.tile) == ("v512p", "lanes16channelvectors2")
    assert str(name) == symbol


@pytest.mark.parametrize(
    ("root", "operation"),
    [
        (RealConv(REAL, Window(1, 1), 1), "conv1x1"),
        (RealConv(REAL, Window(3, 3), 64), "depthwise3x3"),
        (BinaryConv(VECTOR, Window(1, 1), 1, 0, 0), "dense"),
        (Pool("max", REAL, Window(2, 2, 2, 2)), "maxpool2x2"),
        (Softmax(REAL), "softmax"),
    ],
)
def test_operations(root: Root, operation: str):
    name = parse(kernel_symbol(spec_of(root, Output(REAL, Accumulator())), ISA, {}))
    assert (name.operation, name.epilogue, name.tile) == (operation, "f32", "plain")


def test_whatever_differs_tells_symbols_apart():
    copy = KernelSpec(Map(), (REAL,), (), (Output(REAL, Operand(0)),))
    specs = [
        copy,
        replace(copy, outputs=(Output(REAL, Unary("relu", Operand(0))),)),
        replace(copy, operands=(replace(REAL, offset=64),)),
        replace(copy, in_place=((0, 0),)),
        spec_of(FillHalo(BITS, 0)),
        spec_of(FillHalo(BITS, 1)),
    ]
    symbols = {
        kernel_symbol(spec, isa, tile)
        for spec in specs
        for isa in (ISA, replace(ISA, mcpu="x86-64-v3"))
        for tile in ({}, TILE)
    }
    assert len(symbols) == len(specs) * 4
    assert all(str(parse(symbol)) == symbol for symbol in symbols)


def test_zeros_of_either_sign_make_other_kernels():
    """A quotient by one of them is an infinity of the other sign."""

    def quotient(zero: float) -> KernelSpec:
        divided = Binary("div", Operand(0), Scalar(zero))
        return KernelSpec(Map(), (REAL,), (), (Output(REAL, divided),))

    assert quotient(0.0) == quotient(0.0) != quotient(-0.0)
    symbols = [kernel_symbol(quotient(zero), ISA, {}) for zero in (0.0, 0.0, -0.0)]
    assert symbols[0] == symbols[1] != symbols[2]
    assert len({quotient(0.0), quotient(0.0), quotient(-0.0)}) == 2


def test_kernels_carry_such_names():
    kernel = make_kernel(KernelSpec(Map(), (REAL,), (), (Output(REAL, Operand(0)),)), targets.load("c"))
    assert parse(kernel.symbol).isa == "c"


@pytest.mark.parametrize("text", ["", "conv", "conv3x3_bitxbit_ge", "conv3x3_bitxbit_ge__v512p_P7_12345678"])
def test_other_names_are_refused(text: str):
    with pytest.raises(ValueError, match="no name of a kernel"):
        parse(text)


@pytest.mark.parametrize("target", ["znver4", "aarch64", "cortex-m4"])
def test_the_default_is_the_first_candidate(target: str):
    """So a tuner that finds nothing better names the kernel that is there."""
    facts, shape = targets.load(target), Shape((1, 5, 6, 24), 48)
    in_groups = real_spec(replace(shape, groups=4))
    for spec in (binary_spec(shape), byte_spec(shape), real_spec(shape), in_groups, spike_spec(shape)):
        kernel, first = make_kernel(spec, facts), candidates(spec, facts)[0]
        assert (kernel.schedule, kernel.symbol) == (first, make_kernel(spec, facts, first).symbol)
