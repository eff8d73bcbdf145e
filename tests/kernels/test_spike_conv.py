# SPDX-License-Identifier: Apache-2.0
"""Convolutions of spikes against NumPy, on every instruction set that runs here."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.bias import bias_of
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.spike import conv as spike_conv
from bnncc.kernels.spike import slide as spike_slide
from bnncc.plan.expression import Accumulator, Binary, Channel, Compare, Operand, Scalar, ToFloat, Unary
from bnncc.plan.kernel import KernelSpec, SpikeConv
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.plan.simulate import allocate, load, random_buffer, run_step, store
from tests.kernels.contractions import Shape, dense, pointwise, spike_spec
from tests.kernels.library import Library, compiled

TARGETS = ("native", "x86-64-v4", "x86-64-v3", "x86-64-v2", "c")

BIASED = Binary("add", Accumulator(), Channel(1))
RELU = ((Element.F32, Unary("relu", BIASED)),)
SIGNS = ((Element.BIT, Compare("gt", BIASED, Scalar(0.0))),)
SCALED = ((Element.F32, Binary("mul", ToFloat(Accumulator()), Channel(1))),)
AT_LEAST = ((Element.BIT, Compare("ge", Accumulator(), Channel(1))),)
ONE = (Element.F32,)
I8 = Element.I8
NO_PADS = (0, 0, 0, 0)


def _membrane(shape: Shape, halo: Halo = Halo()) -> KernelSpec:
    """A neuron: the membrane and its spikes."""
    total = Binary("add", Binary("mul", Operand(0), Scalar(0.5)), BIASED)
    epilogue = ((Element.F32, total), (Element.BIT, Compare("gt", total, Scalar(1.0))))
    return spike_spec(shape, epilogue, ONE, (Layout.packed(Element.F32, shape.output),), output_halo=halo)


def _cases() -> dict[str, KernelSpec]:
    return {
        "dense": spike_spec(dense(1, 200, 100), RELU, ONE),
        "dense-tiles": spike_spec(dense(1, 96, 600)),
        "dense-few": spike_spec(dense(3, 51, 3), RELU, ONE),
        "dense-bits": spike_spec(dense(2, 130, 70), SIGNS, ONE),
        "dense-counts": spike_spec(dense(2, 130, 40), planes=3),
        "dense-int8": spike_spec(dense(1, 1100, 600), SCALED, ONE, weight=I8),
        "dense-int8-bits": spike_spec(dense(2, 70, 300), AT_LEAST, (Element.I32,), weight=I8),
        "dense-int8-counts": spike_spec(dense(2, 300, 33), weight=I8, planes=2, epilogue=_integers()),
        "conv-int8": spike_spec(Shape((1, 6, 7, 40), 48), weight=I8, epilogue=_integers()),
        "conv-int8-few": spike_spec(Shape((1, 6, 7, 3), 20), weight=I8, epilogue=_integers(), planes=2),
        "pointwise": spike_spec(pointwise(7, 33, 40), RELU, ONE),
        "strided": spike_spec(Shape((1, 11, 13, 3), 16, (7, 7), (2, 2), pads=(3, 3, 3, 3)), RELU, ONE),
        "strided-wide": spike_spec(Shape((2, 9, 8, 70), 24, (3, 3), (2, 2), pads=NO_PADS)),
        "dilated": spike_spec(Shape((1, 9, 9, 6), 17, (3, 2), (1, 2), (2, 3), (2, 0, 2, 3))),
        "five": spike_spec(Shape((1, 12, 12, 3), 16, (5, 5), pads=NO_PADS), RELU, ONE),
        "slide": spike_spec(Shape((2, 7, 9, 20), 32), RELU, ONE),
        "slide-counts": spike_spec(Shape((1, 8, 14, 16), 32, pads=NO_PADS), planes=3),
        "slide-many-planes": spike_spec(Shape((1, 6, 6, 40), 16), planes=2),
        "slide-wide": spike_spec(Shape((1, 5, 4, 100), 75), RELU, ONE),
        "slide-even": spike_spec(Shape((1, 6, 7, 8), 20, (2, 2), pads=(0, 1, 1, 0)), RELU, ONE),
        "slide-tall": spike_spec(Shape((1, 9, 6, 8), 8, (3, 2), pads=(2, 0, 1, 1))),
        "slide-bits": spike_spec(Shape((1, 5, 6, 10), 40), SIGNS, ONE),
        "slide-membrane": _membrane(Shape((1, 5, 6, 12), 64), Halo(1, 1, 1, 1)),
        "table": spike_spec(Shape((3, 34, 34, 2), 16, (5, 5), pads=NO_PADS), RELU, ONE),
        "table-padded": spike_spec(Shape((4, 9, 12, 1), 20, (3, 3)), RELU, ONE),
        "table-strided": spike_spec(Shape((2, 19, 40, 2), 40, (3, 4), (2, 3), pads=(1, 2, 0, 1))),
        "table-bits": spike_spec(Shape((2, 12, 12, 3), 40, (3, 3)), SIGNS, ONE, output_halo=Halo(1, 0, 1, 1)),
        "membrane-tails": _membrane(Shape((2, 5, 6, 12), 43)),
    }


def _integers():
    return ((Element.I32, Accumulator()),)


CASES = _cases()


@cache
def _library(target: str) -> tuple[dict[str, Kernel], Library]:
    return compiled(CASES, target, spike_conv.make)


def _spikes(layout: Layout, rng: np.random.Generator, density: float) -> np.ndarray:
    buffer = random_buffer(layout, rng, halo=0)
    store(layout, buffer, rng.random(layout.shape) < density)
    return buffer


def numbers(spec: KernelSpec, seed: int, density: float) -> tuple[list[np.ndarray], tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(seed)
    reads = [_spikes(layout, rng, density) for layout in spec.inputs]
    reads += [random_buffer(layout, rng) for layout in spec.operands]
    constants = []
    for constant in spec.constants:
        match constant.element:
            case Element.I8:
                constants.append(rng.integers(-128, 128, constant.shape).astype(np.int8))
            case Element.I32:
                constants.append(rng.integers(-40, 40, constant.shape).astype(np.int32))
            case _:
                constants.append(rng.uniform(-1, 1, constant.shape).astype(np.float32))
    return reads, tuple(constants)


def _check(
    spec: KernelSpec,
    kernel: Kernel,
    library: Library,
    reads: list[np.ndarray],
    constants: tuple[np.ndarray, ...],
) -> None:
    """Integers and what follows from them are equal, real numbers within rounding, and bits of these
    wherever the number is not within rounding of the threshold."""
    expected, actual = ([allocate(output.layout, 0xAB) for output in spec.outputs] for _ in range(2))
    run_step(spec, reads, constants, expected)
    library.run(kernel, reads, constants, actual)
    is_exact = spec.constants[0].element is Element.I8
    for output, want, have in zip(spec.outputs, expected, actual, strict=True):
        if is_exact:
            np.testing.assert_array_equal(want, have)
        elif output.layout.element is Element.F32:
            np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4)
        else:
            differing = load(output.layout, want) != load(output.layout, have)
            assert differing.mean() < 2e-3


@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", TARGETS)
def test_equals_simulation(target: str, name: str, density: float):
    kernels, library = _library(target)
    reads, constants = numbers(CASES[name], 3, density)
    _check(CASES[name], kernels[name], library, reads, constants)


@pytest.mark.parametrize("value", [-128, 127])
@pytest.mark.parametrize("target", TARGETS)
def test_short_sums_do_not_overflow(target: str, value: int):
    """Every input spikes and every weight is at one end of int8."""
    kernels, library = _library(target)
    for name in ("dense-int8-counts", "conv-int8", "conv-int8-few"):
        reads, constants = numbers(CASES[name], 3, 1.0)
        weight = np.full_like(constants[0], value)
        _check(CASES[name], kernels[name], library, reads, (weight, *constants[1:]))


def test_sums_of_powers_of_two_are_exact():
    """Whatever the order, sums of few integers are: so nothing hides behind the tolerance."""
    kernels, library = _library("native")
    for name in ("dense-counts", "slide-counts", "strided-wide", "slide-many-planes"):
        spec = CASES[name]
        reads, (weight,) = numbers(spec, 7, 0.3)
        whole = np.rint(weight * 8)
        expected, actual = (allocate(spec.outputs[0].layout) for _ in range(2))
        run_step(spec, reads, (whole,), [expected])
        library.run(kernels[name], reads, (whole,), [actual])
        np.testing.assert_array_equal(expected, actual)


def test_forms():
    """What slides: windows of stride 1 whose sums fit the registers; of few bits, tables are better."""
    isa = Isa.of(targets.load("x86-64-v4"))
    kernels = {name: spike_conv.make(spec, isa).schedule for name, spec in CASES.items()}
    slide = {name for name, schedule in kernels.items() if schedule.get("slide")}
    assert slide == {*(name for name in CASES if name.startswith("slide")), "membrane-tails", "five"}
    table = {name for name, schedule in kernels.items() if schedule.get("table")}
    assert table == {name for name in CASES if name.startswith("table")}
    assert spike_slide.fits(CASES["five"], isa)
    assert not spike_slide.fits(CASES["five"], Isa.of(targets.load("x86-64-v3")))


def test_the_other_form_computes_the_same():
    target = targets.load("native")
    isa = Isa.of(target)
    names = [name for name in CASES if name.startswith("slide")]
    kernels = {name: spike_conv.make(CASES[name], isa, {"vectors": 4, "slide": 0}) for name in names}
    library = Library(list(kernels.values()), target)
    for name, kernel in kernels.items():
        _check(CASES[name], kernel, library, *numbers(CASES[name], 5, 0.2))


def test_a_wrong_weight_is_noticed():
    spec = CASES["slide"]
    kernels, library = _library("c")
    reads, constants = numbers(spec, 6, 1.0)
    expected, actual = (allocate(spec.outputs[0].layout) for _ in range(2))
    constants[1][...] = 100
    run_step(spec, reads, constants, [expected])
    constants[0][5, 1, 1, 7] += 1
    library.run(kernels["slide"], reads, constants, [actual])
    assert np.count_nonzero(np.abs(expected - actual) > 1e-2) >= 2 * 7 * 9
    assert isinstance(spec.root, SpikeConv)


def test_a_sum_begins_with_the_bias_only_where_nothing_else_reads_it():
    shape, total, sums = Shape((1, 7, 9, 20), 32), (Element.F32, BIASED), (Element.F32, Accumulator())
    assert bias_of(spike_spec(shape, (total,), ONE)) == bias_of(spike_spec(shape, (total, total), ONE)) == 1
    assert bias_of(spike_spec(shape, (total, sums), ONE)) is None
    assert bias_of(spike_spec(shape, (sums,), ONE)) is None
