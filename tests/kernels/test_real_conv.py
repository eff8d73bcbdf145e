# SPDX-License-Identifier: Apache-2.0
"""Real convolutions against NumPy within float32 rounding, on every instruction set that runs here."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels import parts
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.real import conv as real_conv
from bnncc.kernels.real import grouped
from bnncc.kernels.real import plan as real_plan
from bnncc.plan.expression import Accumulator, Binary, Channel, Compare, Operand, Scalar, Unary
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.plan.simulate import allocate, load, random_buffer, run_step
from tests.kernels.contractions import Shape, dense, pointwise, real_spec
from tests.kernels.library import Library, aligned, before_forbidden_memory, compiled

TARGETS = ("native", "x86-64-v4", "x86-64-v3", "x86-64-v2", "c")

BIASED = Binary("add", Accumulator(), Channel(1))
RELU = ((Element.F32, Unary("relu", BIASED)),)
SIGNS = ((Element.BIT, Compare("ge", BIASED, Scalar(0.0))),)
ONE = (Element.F32,)


def _residual(shape: Shape, halo: Halo = Halo()) -> KernelSpec:
    """Bias, residual; the sum and its signs."""
    total = Binary("add", BIASED, Operand(0))
    epilogue = ((Element.F32, total), (Element.BIT, Compare("gt", total, Scalar(0.0))))
    return real_spec(shape, epilogue, ONE, (Layout.packed(Element.F32, shape.output),), output_halo=halo)


def _cases() -> dict[str, KernelSpec]:
    stem = Shape((1, 11, 13, 3), 16, (7, 7), (2, 2), pads=(3, 3, 3, 3))
    planar = Shape((2, 9, 8, 3), 24, (3, 3), (2, 2), pads=(0, 0, 0, 0))
    channelwise = Shape((1, 9, 8, 64), 64, (3, 3), (2, 2), groups=64)
    narrow = Shape((2, 6, 13, 32), 64, (3, 3), (1, 2), groups=8)
    dilated = Shape((1, 7, 9, 48), 48, (2, 3), (1, 1), (2, 2), (1, 2, 1, 2), groups=4)
    return {
        "plain": real_spec(Shape((1, 7, 9, 20), 32)),
        "stem-relu": real_spec(stem, RELU, ONE),
        "channels-first": real_spec(planar, RELU, ONE, channels_first=True),
        "channels-first-pointwise": real_spec(pointwise(5, 7, 12), channels_first=True),
        "one-channel": real_spec(Shape((1, 8, 8, 1), 8)),
        "one-output": real_spec(Shape((1, 8, 8, 5), 1)),
        "odd-outputs": real_spec(Shape((1, 5, 6, 9), 43), RELU, ONE),
        "dilated": real_spec(Shape((1, 9, 9, 6), 17, (3, 2), (1, 2), (2, 3), (2, 0, 2, 3))),
        "pointwise": real_spec(pointwise(7, 33, 40), RELU, ONE),
        "pointwise-strided": real_spec(Shape((1, 8, 8, 16), 32, (1, 1), (2, 2), pads=(0, 0, 0, 0))),
        "dense": real_spec(dense(1, 51, 100), RELU, ONE),
        "dense-batch": real_spec(dense(7, 50, 10), RELU, ONE),
        "groups": real_spec(Shape((1, 6, 5, 64), 64, groups=2), RELU, ONE),
        "narrow-groups": real_spec(Shape((1, 6, 5, 24), 36, groups=12)),
        "odd-groups": real_spec(Shape((1, 6, 5, 9), 15, groups=3)),
        "groups-of-8": _residual(Shape((1, 5, 14, 32), 32, groups=4), Halo(1, 1, 1, 1)),
        "groups-of-4": real_spec(narrow, RELU, ONE),
        "groups-to-1": real_spec(Shape((1, 5, 6, 68), 34, groups=34), RELU, ONE),
        "groups-of-12": real_spec(dilated),
        "groups-deep": real_spec(Shape((1, 4, 5, 120), 24, groups=3)),
        "groups-bits": real_spec(Shape((1, 4, 5, 30), 60, groups=10), SIGNS, ONE),
        "groups-batch": real_spec(Shape((5, 1, 1, 32), 32, (1, 1), pads=(0, 0, 0, 0), groups=8), RELU, ONE),
        "groups-planar": real_spec(
            Shape((1, 6, 7, 16), 16, pads=(0, 0, 0, 0), groups=8), channels_first=True
        ),
        "groups-of-17": real_spec(Shape((1, 4, 4, 34), 34, groups=2)),
        "bits": real_spec(Shape((1, 5, 6, 10), 70), SIGNS, ONE),
        "residual": _residual(Shape((1, 5, 6, 12), 64), Halo(1, 1, 1, 1)),
        "residual-tails": _residual(Shape((2, 5, 6, 12), 43)),
        "depthwise": real_spec(channelwise, RELU, ONE),
        "depthwise-odd": real_spec(Shape((1, 7, 9, 43), 43, groups=43)),
        "depthwise-one-less": real_spec(Shape((1, 7, 9, 47), 47, groups=47)),
        "depthwise-few": real_spec(Shape((1, 7, 9, 3), 3, groups=3)),
        "depthwise-planar": real_spec(
            Shape((1, 7, 9, 20), 20, (3, 3), pads=(0, 0, 0, 0), groups=20), channels_first=True
        ),
        "depthwise-large": real_spec(Shape((1, 9, 9, 16), 16, (7, 7), pads=(3, 3, 3, 3), groups=16)),
        "depthwise-bits": real_spec(Shape((1, 6, 6, 40), 40, groups=40), SIGNS, ONE),
        "depthwise-multiplier": real_spec(Shape((1, 6, 6, 12), 24, groups=12), RELU, ONE),
    }


CASES = _cases()


@cache
def _library(target: str) -> tuple[dict[str, Kernel], Library]:
    return compiled(CASES, target, real_conv.make)


def _numbers(spec: KernelSpec, seed: int) -> tuple[list[np.ndarray], tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(seed)
    reads = [random_buffer(layout, rng) for layout in (*spec.inputs, *spec.operands)]
    return reads, tuple(rng.uniform(-1, 1, c.shape).astype(np.float32) for c in spec.constants)


def _check(spec: KernelSpec, kernel: Kernel, library: Library, seed: int) -> None:
    """Numbers agree within rounding, bits wherever the number is not within rounding of the threshold."""
    reads, constants = _numbers(spec, seed)
    expected, actual = ([allocate(output.layout, 0xAB) for output in spec.outputs] for _ in range(2))
    run_step(spec, reads, constants, expected)
    library.run(kernel, reads, constants, actual)
    for output, want, have in zip(spec.outputs, expected, actual, strict=True):
        if output.layout.element is Element.F32:
            np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4)
        else:
            differing = load(output.layout, want) != load(output.layout, have)
            assert differing.mean() < 1e-3
            tail = output.layout.shape[3] % 32
            if tail:
                last = have[output.layout.offset + output.layout.depth - 1]
                assert last >> tail == 0


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", TARGETS)
def test_equals_simulation(target: str, name: str):
    kernels, library = _library(target)
    _check(CASES[name], kernels[name], library, seed=3)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_read_behind_the_image(target: str):
    kernels, library = _library(target)
    for name, spec in CASES.items():
        reads, constants = _numbers(spec, 6)
        expected, actual = ([allocate(output.layout) for output in spec.outputs] for _ in range(2))
        run_step(spec, reads, constants, expected)
        others = map(aligned, (*reads[1:], *kernels[name].pack(constants)))
        library.bind(kernels[name], before_forbidden_memory(reads[0]), *others, *actual)()
        for output, want, have in zip(spec.outputs, expected, actual, strict=True):
            if output.layout.element is Element.F32:
                np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["odd-outputs", "depthwise-odd", "dense-batch", "groups-of-12"])
def test_every_candidate_computes_the_same(name: str):
    target = targets.load("native")
    isa = Isa.of(target)
    schedules = list(real_conv.candidates(CASES[name], isa))[::3]
    kernels = [real_conv.make(CASES[name], isa, asdict(schedule)) for schedule in schedules]
    library = Library(kernels, target)
    for kernel in kernels:
        _check(CASES[name], kernel, library, seed=5)


@pytest.mark.parametrize(
    ("name", "lanes", "is_taken"),
    [
        ("depthwise", 16, True),
        ("groups-of-4", 16, True),
        ("groups-of-4", 8, False),
        ("groups-of-8", 8, True),
        ("groups-of-12", 8, True),
        ("groups-of-12", 4, False),
        ("groups-of-17", 16, True),
        ("groups", 16, False),
        ("plain", 16, False),
    ],
)
def test_vectors_across_groups_are_taken_where_a_group_fills_none(name: str, lanes: int, is_taken: bool):
    assert grouped.fits(CASES[name], lanes) == is_taken


@pytest.mark.parametrize(
    "name", ["narrow-groups", "groups-of-8", "groups-to-1", "groups-of-17", "groups-deep"]
)
@pytest.mark.parametrize("target", TARGETS)
def test_an_infinity_stays_in_its_group(target: str, name: str):
    """Zero weights of joined groups would make it NaN in others."""
    spec = CASES[name]
    kernels, library = _library(target)
    reads, constants = _numbers(spec, seed=8)
    reads[0][:: spec.inputs[0].shape[3]] = np.inf
    actual = [allocate(output.layout) for output in spec.outputs]
    library.run(kernels[name], reads, constants, actual)
    finite = np.isfinite(load(spec.outputs[0].layout, actual[0])[0, 0, 0])
    own = spec.shape[3] // real_plan.root_of(spec).groups
    assert not finite[:own].any() and finite[own:].all()


def test_threads_share_vectors_across_groups():
    spec, target = CASES["groups-of-4"], targets.load("native")
    whole = real_conv.make(spec, Isa.of(target))
    divided = parts.divided(whole, 2)
    assert divided.pieces > 1
    reads, constants = _numbers(spec, seed=9)
    expected, actual = (allocate(spec.outputs[0].layout) for _ in range(2))
    Library([whole], target).run(whole, reads, constants, [expected])
    buffers = map(aligned, (*reads, *divided.pack(constants)))
    kept, library, count = [*buffers, actual], Library([divided], target), divided.pieces
    for piece in range(count - 1):
        library.bind(divided, *kept, pieces=(piece, piece + 1, count, parts.ALL))()
    assert not np.array_equal(actual, expected)
    library.bind(divided, *kept, pieces=(count - 1, count, count, parts.ALL))()
    np.testing.assert_array_equal(actual, expected)


def test_a_wrong_weight_is_noticed():
    spec = CASES["plain"]
    kernels, library = _library("c")
    reads, constants = _numbers(spec, seed=6)
    expected, actual = (allocate(spec.outputs[0].layout) for _ in range(2))
    run_step(spec, reads, constants, [expected])
    constants[0][5, 1, 1, 7] += 1
    library.run(kernels["plain"], reads, constants, [actual])
    assert np.count_nonzero(np.abs(expected - actual) > 1e-4) >= 60
