# SPDX-License-Identifier: Apache-2.0
"""Binary convolutions against NumPy, bit for bit, on every instruction set that runs here."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.binary import conv as binary_conv
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.plan.expression import (
    Accumulator,
    Binary,
    Channel,
    Compare,
    Flip,
    FromBit,
    Lookup,
    Operand,
    Scalar,
    ToFloat,
    Unary,
)
from bnncc.plan.graph import Graph
from bnncc.plan.kernel import BinaryConv, Constant, Grid, KernelSpec
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.plan.simulate import allocate, random_buffer, random_reads, run_step, store
from tests.kernels.contractions import THRESHOLD, Shape, binary_spec, dense, pointwise
from tests.kernels.library import Library, compiled, shown_by_a_wrong_bit

TARGETS = ("native", "x86-64-v4", "x86-64-v3", "x86-64-v2", "c")

U2, S2, SPIKE = Grid(2, 1, 0), Grid(2, 1, -2), Grid(1, 1, 0)

INTEGERS = ((Element.I32, Accumulator()),)
FLIPPED = ((Element.BIT, Flip(Compare("gt", Accumulator(), Channel(1)), 2)),)
FLIPPED_LE = ((Element.BIT, Flip(Compare("le", Accumulator(), Channel(1)), 2)),)
LESS = ((Element.BIT, Compare("lt", Accumulator(), Channel(1))),)


def _stream(operand: int) -> tuple:
    """What QuickNet does: scale, bias, residual, ReLU; the stream, and its signs after a batch norm."""
    scaled = Binary("add", Binary("mul", ToFloat(Accumulator()), Channel(1)), Channel(2))
    stream = Binary("add", Unary("relu", scaled), Operand(operand))
    return (Element.F32, stream), (Element.BIT, Compare("ge", Binary("mul", stream, Channel(1)), Scalar(0.5)))


def with_residual(shape: Shape, **options) -> KernelSpec:
    floats = (Element.F32, Element.F32)
    return binary_spec(shape, _stream(0), floats, (Layout.packed(Element.F32, shape.output),), **options)


def _with_table(shape: Shape) -> KernelSpec:
    """Sums of spikes looked up in a row for each output: entry `sum` + constant 2 of constant 1."""
    place = Binary("add", Accumulator(), Channel(2))
    epilogue = ((Element.F32, Lookup(place, 1)), (Element.BIT, Compare("ge", Lookup(place, 1), Scalar(0.0))))
    spec = binary_spec(shape, epilogue, (Element.F32, Element.I32), grid=SPIKE, halo_level=0)
    table = Constant(Element.F32, (shape.outputs, 2 * shape.taps + 1))
    return replace(spec, constants=(spec.constants[0], table, spec.constants[2]))


def _cases() -> dict[str, KernelSpec]:
    plain = Shape((1, 6, 9, 64), 64)
    strided = Shape((2, 7, 8, 40), 48, (3, 3), (2, 2), pads=(1, 1, 0, 0))
    dilated = Shape((1, 9, 9, 33), 72, (5, 3), (1, 2), (2, 1), pads=(4, 1, 4, 1))
    tiny = Shape((1, 2, 2, 32), 40, (7, 7), pads=(3, 3, 3, 3))
    signs = (Element.I32, Element.I32)
    residual_bit = (Layout.packed(Element.BIT, plain.output),)
    mixed = (
        (Element.BIT, THRESHOLD),
        (Element.F32, Binary("add", ToFloat(Accumulator()), FromBit(Operand(0)))),
    )
    cases = {
        "plain": binary_spec(plain),
        "plain-halo-0": binary_spec(plain, halo_level=0),
        "plain-i32": binary_spec(plain, INTEGERS),
        "plain-wide-halo": binary_spec(plain, halo=Halo(3, 2, 4, 5), output_halo=Halo(1, 1, 1, 1)),
        "pad-plus-one": binary_spec(plain, pad_value=1),
        "pad-plus-one-halo-0": binary_spec(plain, pad_value=1, halo_level=0),
        "pad-minus-one": binary_spec(plain, INTEGERS, pad_value=-1),
        "pad-minus-one-halo-0": binary_spec(plain, pad_value=-1, halo_level=0),
        "flipped": binary_spec(plain, FLIPPED, signs),
        "flipped-le-pad": binary_spec(plain, FLIPPED_LE, signs, pad_value=1, halo_level=0),
        "less": binary_spec(strided, LESS),
        "strided": binary_spec(strided),
        "strided-i32": binary_spec(strided, INTEGERS),
        "dilated": binary_spec(dilated),
        "dilated-i32-halo-0": binary_spec(dilated, INTEGERS, halo_level=0),
        "tiny": binary_spec(tiny),
        "tiny-i32": binary_spec(tiny, INTEGERS),
        "few-outputs": binary_spec(Shape((1, 5, 5, 10), 10)),
        "few-outputs-i32": binary_spec(Shape((1, 5, 5, 10), 7), INTEGERS),
        "one-row": binary_spec(Shape((1, 1, 40, 20), 8, (1, 11), (1, 3), pads=(0, 5, 0, 5))),
        "deep": binary_spec(Shape((1, 4, 3, 512), 130)),
        "groups": binary_spec(Shape((1, 6, 6, 64), 64, groups=2)),
        "groups-i32": binary_spec(Shape((1, 6, 6, 128), 96, groups=4), INTEGERS),
        "narrow-groups": binary_spec(Shape((1, 6, 6, 24), 36, groups=4), halo_level=0),
        "depthwise": binary_spec(Shape((1, 6, 6, 48), 48, groups=48), INTEGERS),
        "dense": binary_spec(dense(1, 100, 1000)),
        "dense-i32": binary_spec(dense(1, 4100, 70), INTEGERS),
        "dense-batch": binary_spec(dense(5, 2049, 33)),
        "pointwise": binary_spec(pointwise(7, 64, 80)),
        "pointwise-padded-at-the-end": binary_spec(
            Shape((1, 4, 2, 32), 28, (1, 1), pads=(0, 0, 2, 0)), INTEGERS, halo_level=0
        ),
        "pointwise-padded-right": binary_spec(
            Shape((2, 3, 4, 40), 28, (1, 1), pads=(0, 0, 0, 1)), pad_value=1, halo_level=0
        ),
        "batch-of-pixels": binary_spec(Shape((3, 1, 1, 64), 16)),
        "ternary-weight": binary_spec(plain, ternary_weight=True),
        "ternary-weight-i32": binary_spec(dilated, INTEGERS, ternary_weight=True, pad_value=-1),
        "ternary-input": binary_spec(plain, ternary_input=True),
        "ternary-input-i32": binary_spec(strided, INTEGERS, ternary_input=True, halo_level=0),
        "ternary-both": binary_spec(dilated, INTEGERS, ternary_input=True, ternary_weight=True),
        "ternary-groups": binary_spec(Shape((1, 6, 6, 24), 36, groups=4), INTEGERS, ternary_input=True),
        "u2": binary_spec(plain, grid=U2, halo_level=0),
        "u2-i32": binary_spec(plain, INTEGERS, grid=U2, halo_level=3),
        "u2-flipped": binary_spec(strided, FLIPPED_LE, signs, grid=U2, halo_level=0),
        "u2-ternary-weight": binary_spec(dilated, INTEGERS, grid=U2, halo_level=0, ternary_weight=True),
        "u2-groups": binary_spec(Shape((1, 6, 6, 24), 36, groups=4), INTEGERS, grid=U2, halo_level=0),
        "u2-depthwise": binary_spec(Shape((1, 6, 6, 48), 48, groups=48), grid=U2, halo_level=0),
        "u3-dense": binary_spec(dense(3, 2049, 33), grid=Grid(3, 1, 0), halo_level=0),
        "u4-s4": binary_spec(
            strided, INTEGERS, grid=Grid(4, 1, 0), halo_level=0, ternary_weight=True, weight_planes=3
        ),
        "u4-odd-dense": binary_spec(
            dense(2, 1700, 40), INTEGERS, grid=Grid(4, 1, 0), halo_level=0, weight_planes=4
        ),
        "s2-level-halo": binary_spec(plain, INTEGERS, grid=S2, halo_level=2),
        "s2-other-halo": binary_spec(dilated, INTEGERS, grid=S2, halo_level=0),
        "s2-padded-by-two": binary_spec(tiny, grid=S2, halo_level=1, pad_value=2),
        "spike": binary_spec(plain, grid=SPIKE, halo_level=0),
        "spike-ternary-weight": binary_spec(strided, INTEGERS, grid=SPIKE, halo_level=1, ternary_weight=True),
        "bipolar-odd-weight": binary_spec(dilated, INTEGERS, weight_planes=2),
        "odd-weight-groups": binary_spec(Shape((1, 6, 6, 24), 36, groups=4), INTEGERS, weight_planes=2),
        "odd-weight-threshold": binary_spec(plain, FLIPPED, signs, weight_planes=3),
        "ternary-input-s3": binary_spec(
            strided, INTEGERS, ternary_input=True, ternary_weight=True, weight_planes=2
        ),
        "mixed": binary_spec(plain, mixed, operands=residual_bit),
        "table": _with_table(plain),
        "table-tails": _with_table(Shape((1, 5, 6, 35), 43)),
        "table-dense": _with_table(dense(2, 70, 10)),
        "stream": with_residual(plain),
        "stream-tails": with_residual(Shape((1, 5, 6, 35), 43), halo_level=0),
        "stream-dense": with_residual(dense(3, 65, 24)),
    }
    return cases


CASES = _cases()


@cache
def _library(target: str) -> tuple[dict[str, Kernel], Library]:
    return compiled(CASES, target, binary_conv.make)


def case_numbers(spec: KernelSpec, seed: int) -> tuple[list[np.ndarray], tuple[np.ndarray, ...]]:
    """Buffers to read and constants; some thresholds are extreme."""
    root, rng = spec.root, np.random.default_rng(seed)
    assert isinstance(root, BinaryConv)
    reads = random_reads(spec, rng)
    weight = rng.choice(_weights(root), spec.constants[0].shape)
    constants: list[np.ndarray] = [weight.astype(np.int8)]
    nodes = Graph.of([output.expression for output in spec.outputs]).nodes
    flips = {node.expression.index for node in nodes if isinstance(node.expression, Flip)}
    tables = {node.expression.index for node in nodes if isinstance(node.expression, Lookup)}
    for index, constant in enumerate(spec.constants[1:], start=1):
        if index - 1 in tables:
            rows, levels = spec.constants[index - 1].shape
            constants.append(np.arange(rows, dtype=np.int32) * levels + levels // 2)
        elif index in flips:
            constants.append(rng.integers(0, 2, constant.shape).astype(np.int32))
        elif constant.element is Element.I32:
            constants.append(_thresholds(rng, weight))
        else:
            constants.append(rng.uniform(-1, 1, constant.shape).astype(np.float32))
    return reads, tuple(constants)


def _weights(root: BinaryConv) -> np.ndarray:
    most = (1 << root.weight_planes) - 1
    return np.arange(-most, most + 1, 1 if root.ternary_weight else 2)


def _thresholds(rng: np.random.Generator, weight: np.ndarray) -> np.ndarray:
    taps = weight[0].size
    thresholds = rng.integers(-20, 20, len(weight)).astype(np.int32)
    extremes = [-taps, taps, taps + 1, -taps - 1, -(2**31), 2**31 - 1, 0]
    thresholds[: len(extremes)] = extremes
    return thresholds


def _check(target: str, name: str, reads: list[np.ndarray], constants: tuple[np.ndarray, ...]) -> None:
    spec = CASES[name]
    kernels, library = _library(target)
    expected, actual = ([allocate(output.layout, 0xAB) for output in spec.outputs] for _ in range(2))
    run_step(spec, reads, constants, expected)
    library.run(kernels[name], reads, constants, actual)
    for output, want, have in zip(spec.outputs, expected, actual, strict=True):
        if output.layout.element is Element.F32:
            np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", TARGETS)
def test_equals_simulation(target: str, name: str):
    _check(target, name, *case_numbers(CASES[name], seed=3))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("input_sign", "weight_sign"), [(1, 1), (1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize(
    "name", ["plain", "pad-minus-one", "deep", "dense-i32", "dilated", "u2", "u4-s4", "u4-odd-dense"]
)
def test_all_equal_signs(target: str, name: str, input_sign: int, weight_sign: int):
    """The largest and smallest sums, where counts would overflow first."""
    spec = CASES[name]
    reads, constants = case_numbers(spec, seed=4)
    fill = random_buffer(spec.root.input, np.random.default_rng(0), spec.root.halo_level)  # type: ignore[union-attr]
    for plane in range(len(spec.inputs)):
        reads[plane] = filled(spec.root.input, fill.copy(), input_sign > 0)  # type: ignore[union-attr]
    most = (1 << spec.root.weight_planes) - 1  # type: ignore[union-attr]
    _check(target, name, reads, (np.full_like(constants[0], weight_sign * most), *constants[1:]))


def filled(layout: Layout, buffer: np.ndarray, value: bool) -> np.ndarray:
    store(layout, buffer, np.full(layout.shape, value))
    return buffer


@pytest.mark.parametrize("target", TARGETS)
def test_value_does_not_depend_on_what_the_halo_holds(target: str):
    """Layers that differ in halo_level only, fed halos of that bit, agree."""
    kernels, library = _library(target)
    results = []
    for name in ("plain", "plain-halo-0"):
        reads, constants = case_numbers(CASES[name], seed=5)
        output = allocate(CASES[name].outputs[0].layout)
        library.run(kernels[name], reads, constants, [output])
        results.append(output)
    np.testing.assert_array_equal(*results)


def test_a_wrong_bit_is_noticed():
    """The comparison itself: one flipped weight must show."""
    kernels, library = _library("c")
    numbers = case_numbers(CASES["plain-i32"], seed=6)
    assert shown_by_a_wrong_bit(library, kernels["plain-i32"], numbers, (5, 1, 1, 7)) == 6 * 9


def test_every_candidate_computes_the_same():
    target = targets.load("native")
    isa = Isa.of(target)
    spec = binary_spec(Shape((1, 5, 9, 40), 72))
    schedules = list(binary_conv.candidates(spec, isa))[::4]
    kernels = [binary_conv.make(spec, isa, asdict(schedule)) for schedule in schedules]
    library = Library(kernels, target)
    reads, constants = case_numbers(spec, seed=7)
    expected = allocate(spec.outputs[0].layout)
    run_step(spec, reads, constants, [expected])
    for kernel in kernels:
        actual = allocate(spec.outputs[0].layout)
        library.run(kernel, reads, constants, [actual])
        np.testing.assert_array_equal(actual, expected, kernel.symbol)
