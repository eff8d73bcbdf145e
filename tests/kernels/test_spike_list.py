# SPDX-License-Identifier: Apache-2.0
"""Lists of events for small cores: their C text on this machine, and under QEMU with what it costs."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.spike import conv as spike_conv
from bnncc.kernels.spike import list as spike_list
from bnncc.plan.expression import Accumulator
from bnncc.plan.layout import Element
from bnncc.plan.simulate import allocate, run_step
from tests.kernels.contractions import dense, spike_spec
from tests.kernels.firmware import build_layer, expected_output, random_words
from tests.kernels.library import Library
from tests.kernels.test_spike_conv import CASES, numbers

INTEGERS = ((Element.I32, Accumulator()),)
NAMES = [name for name in CASES if "int8" in name]


@cache
def library(core: str) -> tuple[dict[str, Kernel], Library]:
    """The C text for a core, compiled for this machine."""
    isa = Isa.of(targets.load(core))
    kernels = {name: spike_conv.make(CASES[name], isa) for name in NAMES}
    return kernels, Library(list(kernels.values()), targets.load("c"))


@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("core", ["cortex-m4", "rv32imc"])
def test_equals_simulation(core: str, name: str, density: float) -> None:
    spec, (kernels, compiled) = CASES[name], library(core)
    reads, constants = numbers(spec, 3, density)
    expected, actual = ([allocate(output.layout, 0xAB) for output in spec.outputs] for _ in range(2))
    run_step(spec, reads, constants, expected)
    compiled.run(kernels[name], reads, constants, actual)
    for want, have in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(want, have)


@pytest.mark.parametrize("value", [-128, 127])
def test_pairs_do_not_overflow(value: int) -> None:
    """1100 events of the largest weights: every turn of 255 is added up in time."""
    spec, (kernels, compiled) = CASES["dense-int8"], library("cortex-m4")
    assert "pairs of int16" in kernels["dense-int8"].description
    reads, constants = numbers(spec, 3, 1.0)
    constants = (np.full_like(constants[0], value), *constants[1:])
    expected, actual = ([allocate(output.layout) for output in spec.outputs] for _ in range(2))
    run_step(spec, reads, constants, expected)
    compiled.run(kernels["dense-int8"], reads, constants, actual)
    np.testing.assert_array_equal(expected[0], actual[0])


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="no qemu-system-arm")
def test_cost_on_cortex_m4(tmp_path: Path) -> None:
    """Instructions for each weight that is added, decoding and writing back included."""
    spec = spike_spec(dense(1, 1024, 256), INTEGERS, weight=Element.I8)
    rng = np.random.default_rng(0)
    weight = rng.integers(-128, 128, spec.constants[0].shape).astype(np.int8)
    artifact = build_layer(spec, (weight,), targets.load("cortex-m4"), tmp_path / "layer")
    for density, most in ((0.05, 1.3), (0.2, 1.1)):
        words = random_words(spec, rng, density)
        (found,) = artifact.run({"x": words}).values()
        np.testing.assert_array_equal(found, expected_output(spec, (weight,), words))
        assert artifact.emulator is not None
        _, layers = artifact.emulator.count([words], layers=True)
        assert layers[-1] <= most * int(np.bitwise_count(words).sum()) * 256


def test_events_are_numbers_of_16_bits() -> None:
    isa = Isa.of(targets.load("cortex-m4"))
    for inputs, is_listed in ((65535, True), (65537, False)):
        assert spike_list.fits(spike_spec(dense(1, inputs, 8), weight=Element.I8), isa) == is_listed
