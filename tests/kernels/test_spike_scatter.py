# SPDX-License-Identifier: Apache-2.0
"""Convolutions of spikes that scatter, and those of groups, against NumPy on every instruction set that runs
here."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.spike import conv as spike_conv
from bnncc.plan.expression import Accumulator, Binary, Channel, Compare, Operand, Scalar
from bnncc.plan.kernel import KernelSpec, SpikeConv
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.plan.simulate import allocate, random_buffer, run_step, store
from tests.kernels.contractions import Shape, pointwise, spike_spec
from tests.kernels.firmware import build_layer, expected_output, random_words
from tests.kernels.library import Library, compiled
from tests.kernels.test_spike_conv import TARGETS, numbers

I8 = Element.I8
BIASED = Binary("add", Accumulator(), Channel(1))
INTEGERS = ((Element.I32, Accumulator()),)
BITS = ((Element.BIT, Compare("ge", Accumulator(), Channel(1))),)
NO_PADS = (0, 0, 0, 0)


def _membrane(shape: Shape) -> KernelSpec:
    """A neuron: the membrane and its spikes."""
    total = Binary("add", Binary("mul", Operand(0), Scalar(0.5)), BIASED)
    epilogue = ((Element.F32, total), (Element.BIT, Compare("gt", total, Scalar(1.0))))
    operands = (Layout.packed(Element.F32, shape.output),)
    return spike_spec(shape, epilogue, (Element.F32,), operands, output_halo=Halo(1, 1, 1, 1))


CASES = {
    "padded": spike_spec(Shape((2, 7, 9, 20), 32)),
    "five": spike_spec(Shape((1, 12, 12, 16), 32, (5, 5), pads=(2, 2, 2, 2))),
    "int8-five": spike_spec(Shape((1, 12, 12, 16), 32, (5, 5), pads=(2, 2, 2, 2)), INTEGERS, weight=I8),
    "odd": spike_spec(Shape((1, 5, 6, 33), 43, (3, 2), pads=(2, 0, 1, 1))),
    "strided": spike_spec(Shape((2, 11, 13, 5), 24, (5, 5), (2, 2), pads=(2, 1, 2, 3))),
    "strides-unequal": spike_spec(Shape((1, 10, 14, 4), 16, (3, 4), (1, 3), pads=(0, 1, 2, 2))),
    "stride-beyond-window": spike_spec(Shape((1, 11, 12, 6), 16, (2, 2), (3, 4), pads=NO_PADS)),
    "dilated": spike_spec(Shape((1, 12, 11, 6), 17, (3, 2), (1, 2), (2, 3), (2, 0, 2, 3))),
    "dilated-strided": spike_spec(Shape((1, 13, 13, 6), 17, (3, 3), (3, 2), (2, 3), (2, 4, 3, 1))),
    "unread-edges": spike_spec(Shape((1, 8, 9, 3), 16, (2, 2), (5, 5), pads=NO_PADS)),
    "one-row": spike_spec(Shape((3, 1, 9, 10), 16, (1, 3), pads=(0, 1, 0, 1))),
    "pointwise": spike_spec(pointwise(6, 40, 24)),
    "pads-beyond": spike_spec(Shape((1, 3, 3, 8), 16, (3, 3), pads=(3, 3, 3, 3))),
    "counts": spike_spec(Shape((1, 6, 6, 40), 16), planes=3),
    "bits": spike_spec(Shape((1, 5, 6, 10), 70), BITS, (Element.F32,)),
    "membrane": _membrane(Shape((1, 5, 6, 12), 64)),
    "int8": spike_spec(Shape((1, 6, 7, 40), 48), INTEGERS, weight=I8),
    "int8-short": spike_spec(Shape((1, 6, 7, 20), 50), INTEGERS, weight=I8),
    "int8-short-odd": spike_spec(Shape((2, 6, 7, 9), 20), INTEGERS, weight=I8),
    "int8-most-short": spike_spec(Shape((1, 3, 5, 51), 36, (1, 5), pads=(0, 2, 0, 2)), INTEGERS, weight=I8),
    # -128 times 258 is less than int16 holds; 127 times 258 is not more.
    "int8-not-short": spike_spec(Shape((1, 3, 4, 43), 36, (2, 3), pads=(0, 1, 1, 1)), INTEGERS, weight=I8),
    "int8-counts": spike_spec(Shape((1, 6, 7, 9), 20), INTEGERS, weight=I8, planes=2),
    "int8-bits": spike_spec(Shape((1, 6, 7, 9), 70), BITS, (Element.I32,), weight=I8),
    "groups": spike_spec(Shape((2, 6, 7, 12), 40, groups=4)),
    "groups-strided": spike_spec(Shape((1, 9, 8, 66), 33, (3, 3), (2, 2), groups=3)),
    "groups-int8": spike_spec(Shape((1, 6, 7, 36), 72, groups=2), INTEGERS, weight=I8),
    "groups-pointwise": spike_spec(
        Shape((1, 4, 4, 24), 48, (1, 1), pads=NO_PADS, groups=3), INTEGERS, weight=I8
    ),
    "depthwise": spike_spec(Shape((1, 7, 8, 37), 37, groups=37)),
    "depthwise-int8": spike_spec(Shape((1, 7, 8, 40), 80, (5, 3), (2, 1), groups=40), INTEGERS, weight=I8),
    "depthwise-counts-bits": spike_spec(
        Shape((1, 5, 8, 40), 40, groups=40), BITS, (Element.I32,), weight=I8, planes=2
    ),
}


def scatter(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of this form."""
    return spike_conv.make(spec, isa, {"scatter": 1})


@cache
def _library(target: str) -> tuple[dict[str, Kernel], Library]:
    return compiled(CASES, target, scatter)


def _check(name: str, target: str, reads: list[np.ndarray], constants: tuple[np.ndarray, ...]) -> None:
    """Everything is exact: float32 weights are few integers, whatever the order of their sums."""
    kernels, library = _library(target)
    spec = CASES[name]
    constants = tuple(
        np.rint(array * 8).astype(array.dtype) if array.dtype == np.float32 else array for array in constants
    )
    expected, actual = ([allocate(output.layout, 0xAB) for output in spec.outputs] for _ in range(2))
    run_step(spec, reads, constants, expected)
    library.run(kernels[name], reads, constants, actual)
    for want, have in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(want, have)


@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", TARGETS)
def test_equals_simulation(target: str, name: str, density: float):
    _check(name, target, *numbers(CASES[name], 3, density))


@pytest.mark.parametrize("name", CASES)
def test_a_single_spike(name: str):
    """In every corner and in the middle."""
    spec = CASES[name]
    _, constants = numbers(spec, 3, 0.0)
    rng = np.random.default_rng(4)
    _, h, w, c = spec.inputs[0].shape
    operands = [random_buffer(layout, rng) for layout in spec.operands]
    for y, x, channel in ((0, 0, 0), (0, w - 1, c - 1), (h - 1, 0, c - 1), (h // 2, w // 2, c // 2)):
        reads = []
        for layout in spec.inputs:
            values = np.zeros(layout.shape, bool)
            values[-1, y, x, channel] = True
            buffer = allocate(layout)
            store(layout, buffer, values)
            reads.append(buffer)
        for target in ("native", "c"):
            _check(name, target, [*reads, *operands], constants)


@pytest.mark.parametrize("value", [-128, 127])
@pytest.mark.parametrize("target", TARGETS)
def test_short_sums_do_not_overflow(target: str, value: int):
    for name in ("int8-most-short", "int8-not-short", "int8-short", "int8", "int8-counts", "groups-int8"):
        reads, constants = numbers(CASES[name], 3, 1.0)
        _check(name, target, reads, (np.full_like(constants[0], value), *constants[1:]))


def test_sums_are_short_where_they_fit():
    isa = Isa.of(targets.load("x86-64-v3"))
    found = {name for name, spec in CASES.items() if scatter(spec, isa).description.endswith("int16")}
    assert found == {
        "int8-short", "int8-short-odd", "int8-most-short", "int8-counts", "int8-bits", "groups-int8",
        "groups-pointwise", "depthwise-int8", "depthwise-counts-bits",
    }  # fmt: skip


def test_a_wrong_weight_is_noticed():
    spec = CASES["groups"]
    kernels, library = _library("native")
    reads, constants = numbers(spec, 6, 1.0)
    expected, actual = (allocate(spec.outputs[0].layout) for _ in range(2))
    run_step(spec, reads, constants, [expected])
    constants[0][5, 1, 1, 2] += 1
    library.run(kernels["groups"], reads, constants, [actual])
    assert np.count_nonzero(np.abs(expected - actual) > 1e-2) == 2 * 6 * 7


def _sparse(name: str, density: float) -> KernelSpec:
    spec = CASES[name]
    assert isinstance(spec.root, SpikeConv)
    return replace(spec, root=replace(spec.root, density=density))


@pytest.mark.parametrize(
    ("target", "name", "few", "many"),
    [
        ("x86-64-v4", "strided", "scatter", ""),
        ("x86-64-v3", "five", "scatter", ""),
        ("x86-64-v3", "int8", "scatter", ""),
        ("aarch64", "int8-five", "scatter", ""),
        ("cortex-m4", "int8-short", "scatter", "list"),
        ("cortex-m4", "int8", "list", "list"),
        ("cortex-m4", "padded", "list", "list"),
        ("rv32imc", "int8-short", "list", "list"),
        ("x86-64-v4", "padded", "slide", "slide"),
        ("x86-64-v4", "pointwise", "", ""),
        ("x86-64-v4", "depthwise", "scatter", "scatter"),
    ],
)
def test_the_density_decides(target: str, name: str, few: str, many: str):
    isa = Isa.of(targets.load(target))
    for density, form in ((0.003, few), (0.3, many)):
        schedule = spike_conv.make(_sparse(name, density), isa).schedule
        assert next((key for key in spike_conv.FORMS if schedule.get(key)), "") == form
        assert schedule in list(spike_conv.candidates(_sparse(name, density), isa))


@pytest.mark.parametrize("name", ["int8-short", "strided", "depthwise-int8"])
def test_on_cortex_m4(name: str, tmp_path: Path):
    """Pairs of int16, float32 and groups, under QEMU."""
    spec, target = CASES[name], targets.load("cortex-m4")
    rng = np.random.default_rng(5)
    weight = rng.integers(-128, 128, spec.constants[0].shape).astype(spec.constants[0].element.dtype)
    artifact = build_layer(spec, (weight,), target, tmp_path, scatter(spec, Isa.of(target)))
    for density in (0.0, 0.1, 1.0):
        words = random_words(spec, rng, density)
        (found,) = artifact.run({"x": words}).values()
        np.testing.assert_array_equal(found, expected_output(spec, (weight,), words))


def test_it_saves_instructions_where_spikes_are_few(tmp_path: Path):
    """On Cortex-M4 at 1 %: what is found for a window need not be found again for the next."""
    spec = spike_spec(Shape((1, 12, 12, 16), 32), INTEGERS, weight=I8)
    target = targets.load("cortex-m4")
    weight = np.random.default_rng(5).integers(-128, 128, spec.constants[0].shape).astype(np.int8)
    words = random_words(spec, np.random.default_rng(6), 0.01)
    counts = []
    for form in ("scatter", "list"):
        kernel = spike_conv.make(spec, Isa.of(target), {form: 1})
        artifact = build_layer(spec, (weight,), target, tmp_path / form, kernel)
        assert artifact.emulator is not None
        counts.append(artifact.emulator.count([words], layers=True)[1][-1])
    assert counts[0] < 0.9 * counts[1]
