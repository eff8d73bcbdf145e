# SPDX-License-Identifier: Apache-2.0
"""Convolutions of bytes under emulators, bit for bit: instructions that no machine for tests has."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.byte import conv as byte_conv
from bnncc.kernels.byte import neon as byte_neon
from bnncc.kernels.byte.plan import BytePlan
from bnncc.kernels.byte.steps import method_of
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.nest import Level
from bnncc.plan.simulate import allocate, run_step, store
from tests.kernels.contractions import Shape, byte_spec, dense
from tests.kernels.emulated import Program
from tests.kernels.test_byte_conv import CASES, _numbers

SOME = (
    *("stem", "dilated", "channels-first", "below-zero", "dense-batch", "halo-beyond"),
    *("int8", "int8-deep", "int8-pointwise", "int8-grey", "int8-short", "int6"),
    *("depthwise", "depthwise-stride", "depthwise-bits", "groups", "groups-small"),
)
NEON = {name: CASES[name] for name in SOME} | {
    "int7": byte_spec(Shape((1, 9, 11, 3), 37), lowest=-128, weight_planes=7),
    "int7-deep": byte_spec(Shape((1, 5, 6, 47), 17), lowest=-3, weight_planes=7),
    "int7-five": byte_spec(Shape((1, 5, 6, 5), 1), lowest=-128, weight_planes=7),
    "int7-dense": byte_spec(dense(5, 517, 130), lowest=-128, weight_planes=7),
    "int7-depthwise": byte_spec(
        Shape((1, 6, 7, 17), 17, (5, 5), pads=(2, 2, 2, 2), groups=17), weight_planes=7
    ),
}

DOT, PAIRS, OLD = "cortex-a76", "cortex-a53", "armv7a-neon"


@cache
def _program(name: str) -> tuple[dict[str, Kernel], Program]:
    target = targets.load(name)
    kernels = {case: byte_conv.make(spec, Isa.of(target)) for case, spec in NEON.items()}
    return kernels, Program(list(kernels.values()), target)


def _check(kernel: Kernel, program: Program, numbers: tuple) -> None:
    spec, (reads, constants) = kernel.spec, numbers
    expected, actual = ([allocate(output.layout, 0xAB) for output in spec.outputs] for _ in range(2))
    run_step(spec, reads, constants, expected)
    program.run(kernel, reads, constants, actual)
    for want, have in zip(expected, actual, strict=True):
        if want.dtype == np.float32:
            np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("name", NEON)
@pytest.mark.parametrize("target", [DOT, PAIRS, OLD])
def test_sums_of_bytes(target: str, name: str):
    kernels, program = _program(target)
    _check(kernels[name], program, _numbers(NEON[name], 3))


@pytest.mark.parametrize("extreme", [1, -1])
@pytest.mark.parametrize(
    "name", ["int8-deep", "int7-deep", "int7-depthwise", "depthwise", "int7-dense", "int6"]
)
@pytest.mark.parametrize("target", [DOT, PAIRS, OLD])
def test_largest_and_smallest_sums(target: str, name: str, extreme: int):
    """Where sums of 16 bits would overflow first: all bytes 255, or 0, and the largest weights."""
    kernels, program = _program(target)
    reads, _ = _numbers(NEON[name], 4)
    _, constants = _numbers(NEON[name], 4, extreme)
    layout = NEON[name].inputs[0]
    for byte in (255, 0):
        store(layout, reads[0], np.full(layout.shape, byte))
        _check(kernels[name], program, (reads, constants))


@pytest.mark.parametrize("target", [PAIRS, OLD])
def test_two_products_of_minus_128_do_not_fit(target: str, monkeypatch: pytest.MonkeyPatch):
    """Why weights of 8 bits are not multiplied in pairs, and that the comparison would notice."""
    monkeypatch.setattr(byte_neon, "SIGNED_PLANES", 8)
    spec, facts = byte_spec(dense(1, 8, 4), weight_planes=8), targets.load(target)
    kernel = byte_conv.make(spec, Isa.of(facts))
    weight, x = np.full((4, 1, 1, 8), -128, np.int8), np.zeros(8, np.uint8)
    expected, actual = (allocate(spec.outputs[0].layout) for _ in range(2))
    run_step(spec, [x], (weight,), [expected])
    Program([kernel], facts).run(kernel, [x], (weight,), [actual])
    assert (expected == 0).all() and (actual != 0).all()


def test_the_instructions_of_a_processor_are_chosen():
    run, short = Level(9, 1), Level(3, 1)
    for target, planes, neon in ((DOT, 1, "dot"), (DOT, 8, "dot"), (PAIRS, 8, "pairs"), (PAIRS, 5, "")):
        isa = Isa.of(targets.load(target))
        assert method_of(isa, run, planes).neon == neon and not method_of(isa, short, planes).neon


def test_nothing_is_read_beyond_a_run():
    """However many bytes are loaded together."""
    for run in (*range(4, 40), 147):
        plan = BytePlan.of(byte_spec(dense(1, run, 8)), Isa.of(targets.load(DOT)))
        ends = [
            stage.offset + sum((level.extent - 1) * level.stride for level in stage.levels) + 4 * stage.loads
            for stage in plan.stages
        ]
        assert max(ends) == run and sum(s.length for s in plan.stages) == plan.steps
