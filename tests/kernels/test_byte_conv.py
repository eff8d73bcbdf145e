# SPDX-License-Identifier: Apache-2.0
"""Convolutions of bytes against NumPy, bit for bit, on every instruction set that runs here."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.byte import conv as byte_conv
from bnncc.kernels.byte.steps import method_of
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.nest import Level
from bnncc.plan.expression import Accumulator, Binary, Channel, Compare, ToFloat
from bnncc.plan.kernel import ByteConv, KernelSpec
from bnncc.plan.layout import Element, Halo
from bnncc.plan.simulate import allocate, random_buffer, run_step
from tests.kernels.contractions import Shape, byte_spec, dense, pointwise
from tests.kernels.library import Library, before_forbidden_memory, compiled

TARGETS = ("native", "x86-64-v4", "x86-64-v3", "x86-64-v2", "c")

SCALED = (
    (Element.F32, Binary("add", Binary("mul", ToFloat(Accumulator()), Channel(1)), Channel(2))),
    (Element.BIT, Compare("ge", Accumulator(), Channel(3))),
)
THREE = (Element.F32, Element.F32, Element.I32)
SIGNS = ((Element.BIT, Compare("ge", Accumulator(), Channel(1))),)


def _cases() -> dict[str, KernelSpec]:
    valid = (0, 0, 0, 0)
    return {
        "first-layer": byte_spec(Shape((1, 9, 11, 3), 64), SCALED, THREE),
        "stem": byte_spec(
            Shape((1, 15, 13, 3), 40, (7, 7), (2, 2), pads=(3, 3, 3, 3)), SIGNS, (Element.I32,)
        ),
        "signed": byte_spec(Shape((2, 7, 6, 3), 20), SCALED, THREE, lowest=-128),
        "below-zero": byte_spec(Shape((1, 6, 6, 5), 16, pads=valid), lowest=-77, weight_planes=4),
        "grey": byte_spec(Shape((1, 8, 8, 1), 33, (5, 5), pads=valid)),
        "channels-first": byte_spec(Shape((1, 9, 8, 3), 24, (3, 3), (2, 2), pads=valid), channels_first=True),
        "channels-first-5x5": byte_spec(Shape((1, 9, 9, 2), 8, (5, 5), pads=valid), channels_first=True),
        "dilated": byte_spec(Shape((1, 9, 9, 6), 17, (3, 2), (1, 2), (2, 3), (2, 0, 2, 3))),
        "pointwise": byte_spec(pointwise(5, 3, 12)),
        "pointwise-deep": byte_spec(pointwise(4, 70, 40), weight_planes=4),
        "dense": byte_spec(dense(1, 784, 100), SCALED, THREE),
        "dense-short": byte_spec(dense(1, 2, 5)),
        "dense-one": byte_spec(dense(3, 1, 1), lowest=-1),
        "dense-batch": byte_spec(dense(7, 131, 10), lowest=-128),
        "int8": byte_spec(Shape((1, 9, 11, 3), 64), SCALED, THREE, lowest=-128, weight_planes=8),
        "int8-deep": byte_spec(Shape((1, 6, 7, 33), 37), lowest=-100, weight_planes=8),
        "int8-pointwise": byte_spec(pointwise(7, 70, 40), weight_planes=8),
        "int8-dense": byte_spec(dense(2, 131, 10), weight_planes=8),
        "int8-grey": byte_spec(Shape((1, 8, 8, 1), 33, (5, 5), pads=valid), weight_planes=8),
        "int8-short": byte_spec(dense(1, 3, 5), weight_planes=8),
        "depthwise": byte_spec(
            Shape((1, 9, 11, 37), 37, groups=37), SCALED, THREE, lowest=-100, weight_planes=8
        ),
        "depthwise-stride": byte_spec(
            Shape((2, 9, 8, 64), 64, (5, 3), (2, 1), (1, 2), (2, 2, 2, 2), 64), weight_planes=8
        ),
        "depthwise-bits": byte_spec(Shape((1, 6, 6, 40), 40, groups=40), SIGNS, (Element.I32,), lowest=-8),
        "depthwise-dilated": byte_spec(
            Shape((1, 9, 9, 20), 20, (2, 3), (1, 2), (3, 2), (3, 2, 3, 2), 20), lowest=-9, weight_planes=8
        ),
        "depthwise-valid": byte_spec(Shape((1, 7, 8, 24), 24, pads=valid, groups=24), weight_planes=8),
        "groups": byte_spec(Shape((1, 6, 7, 24), 48, groups=3), lowest=-77, weight_planes=7),
        "groups-small": byte_spec(
            Shape((2, 5, 6, 20), 30, stride=(2, 1), groups=10), SCALED, THREE, lowest=-128, weight_planes=8
        ),
        "groups-bits": byte_spec(Shape((1, 5, 5, 12), 72, groups=3), SIGNS, (Element.I32,), lowest=-3),
        "groups-of-one": byte_spec(Shape((1, 6, 5, 6), 12, groups=6), lowest=-9, weight_planes=8),
        "int6": byte_spec(pointwise(4, 70, 40), weight_planes=6),
        "halo-beyond": byte_spec(
            Shape((1, 5, 6, 10), 70), SIGNS, (Element.I32,), output_halo=Halo(1, 1, 1, 1)
        ),
    }


CASES = _cases()


@cache
def _library(target: str) -> tuple[dict[str, Kernel], Library]:
    return compiled(CASES, target, byte_conv.make)


def _root(spec: KernelSpec) -> ByteConv:
    assert isinstance(spec.root, ByteConv)
    return spec.root


def _numbers(
    spec: KernelSpec, seed: int, extreme: int = 0
) -> tuple[list[np.ndarray], tuple[np.ndarray, ...]]:
    """extreme: +1 or -1 for the largest sums there are."""
    rng, root = np.random.default_rng(seed), _root(spec)
    reads = [random_buffer(layout, rng, -root.lowest) for layout in (*spec.inputs, *spec.operands)]
    most = min((1 << root.weight_planes) - 1, 128)
    weight = rng.integers(-most, min(most, 127) + 1, spec.constants[0].shape).astype(np.int8)
    if extreme:
        reads[0][:] = 255
        weight[:] = max(extreme * most, -128) if extreme < 0 else min(most, 127)
    others = [
        rng.integers(-500, 500, c.shape).astype(np.int32)
        if c.element is Element.I32
        else rng.uniform(-1, 1, c.shape).astype(np.float32)
        for c in spec.constants[1:]
    ]
    return reads, (weight, *others)


def _run(
    spec: KernelSpec, kernel: Kernel, library: Library, numbers: tuple
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(expected, actual) outputs."""
    reads, constants = numbers
    expected, actual = ([allocate(output.layout, 0xAB) for output in spec.outputs] for _ in range(2))
    run_step(spec, reads, constants, expected)
    library.run(kernel, reads, constants, actual)
    return expected, actual


def _check(spec: KernelSpec, kernel: Kernel, library: Library, numbers: tuple) -> None:
    for output, want, have in zip(spec.outputs, *_run(spec, kernel, library, numbers), strict=True):
        if output.layout.element is Element.F32:
            np.testing.assert_allclose(have, want, rtol=1e-6, atol=1e-5)
        else:
            np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", TARGETS)
def test_equals_simulation(target: str, name: str):
    kernels, library = _library(target)
    _check(CASES[name], kernels[name], library, _numbers(CASES[name], 3))


@pytest.mark.parametrize(
    "name",
    [
        "dense",
        "dense-batch",
        "pointwise-deep",
        "grey",
        "int8-pointwise",
        "int8-grey",
        "int6",
        "depthwise-valid",
    ],
)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_do_not_overflow(target: str, name: str, sign: int):
    kernels, library = _library(target)
    _check(CASES[name], kernels[name], library, _numbers(CASES[name], 4, sign))


@pytest.mark.parametrize("name", ["stem", "depthwise"])
def test_every_tile_computes_the_same(name: str):
    target = targets.load("native")
    isa, spec = Isa.of(target), CASES[name]
    best = byte_conv.default(spec, isa)
    tiles = [asdict(best) | {"rows": rows, "pixels": pixels} for rows in (1, 2) for pixels in (1, 3)]
    kernels = [byte_conv.make(spec, isa, tile) for tile in tiles]
    library = Library(kernels, target)
    for kernel in kernels:
        _check(spec, kernel, library, _numbers(spec, 5))


UP_TO_THE_END = (
    "dense-short",
    "pointwise",
    "pointwise-deep",
    "grey",
    "channels-first",
    "int8-pointwise",
    "int8-short",
)


@pytest.mark.parametrize("name", UP_TO_THE_END)
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_read_behind_the_image(target: str, name: str):
    kernels, library = _library(target)
    spec, kernel = CASES[name], kernels[name]
    (image,), constants = _numbers(spec, 6)
    place = before_forbidden_memory(image)
    expected, actual = (allocate(spec.outputs[0].layout) for _ in range(2))
    run_step(spec, [image], constants, [expected])
    library.bind(kernel, place, *kernel.pack(constants), actual)()
    np.testing.assert_array_equal(actual, expected)


def test_bytes_of_a_step_are_neighbours():
    vnni, pairs = Isa.of(targets.load("znver4")), Isa.of(targets.load("x86-64-v3"))
    for run, widest in ((Level(9, 1), 4), (Level(3, 1), 2), (Level(1, 1), 1), (Level(9, 2), 1)):
        assert method_of(vnni, run, 1).together == widest
        assert method_of(pairs, run, 1).together == min(widest, 2)
    assert method_of(Isa.of(targets.load("cortex-a72")), Level(9, 1), 1).together == 1


def test_large_weights_are_multiplied_in_16_bits_where_sums_of_16_would_overflow():
    pairs, run = Isa.of(targets.load("x86-64-v3")), Level(9, 1)
    assert method_of(pairs, run, 4).weight == "int8"
    assert method_of(pairs, run, 8).weight == "int16"
    assert method_of(Isa.of(targets.load("znver4")), run, 8).weight == "int8"


def test_a_wrong_weight_is_noticed():
    spec = CASES["first-layer"]
    kernels, library = _library("c")
    reads, constants = _numbers(spec, 7)
    expected, actual = ([allocate(output.layout) for output in spec.outputs] for _ in range(2))
    run_step(spec, reads, constants, expected)
    constants[0][5, 1, 1, 2] += 1
    library.run(kernels["first-layer"], reads, constants, actual)
    assert (expected[0] != actual[0]).any()
