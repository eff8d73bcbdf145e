# SPDX-License-Identifier: Apache-2.0
"""Convolutions of bytes by Arm's DSP extension: what its C text computes here without those instructions, and
what it computes with them under QEMU."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.byte import conv as byte_conv
from bnncc.kernels.byte import rows as byte_rows
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.space import candidates
from bnncc.plan.kernel import ByteConv, KernelSpec
from bnncc.plan.layout import Element
from bnncc.plan.simulate import allocate, run_step, store
from tests.kernels.contractions import Shape, byte_spec, dense, pointwise
from tests.kernels.firmware import build_layer, expected_output, random_words
from tests.kernels.library import Library
from tests.kernels.test_byte_conv import CASES, SCALED, SIGNS, THREE, _check, _numbers

DSP = replace(targets.load("c"), features=("+dsp",))
DEEP = byte_spec(dense(3, 1101, 7), lowest=-128, weight_planes=7)
"""Longer than 24 bits hold the sum of."""

MORE = {
    "int7": byte_spec(Shape((1, 9, 11, 3), 37), SCALED, THREE, lowest=-128, weight_planes=7),
    "int7-bits": byte_spec(
        Shape((2, 5, 6, 8), 70, stride=(2, 1)), SIGNS, (Element.I32,), lowest=-3, weight_planes=7
    ),
    "int7-one": byte_spec(pointwise(3, 1, 1), weight_planes=7),
    "int7-17": byte_spec(Shape((1, 5, 6, 17), 5, (2, 3), dilation=(2, 1)), lowest=-128, weight_planes=7),
    "int7-deep": DEEP,
    "int8-tail": byte_spec(Shape((1, 5, 6, 17), 5, (2, 3), dilation=(2, 1)), lowest=-128, weight_planes=8),
    "int8-long": byte_spec(dense(3, 1101, 7), lowest=-128, weight_planes=8),
    "groups-of-24": byte_spec(Shape((2, 5, 5, 32), 96, groups=4), lowest=-7, weight_planes=7),
    "groups-pointwise": byte_spec(
        Shape((1, 3, 5, 48), 96, (1, 1), pads=(0, 0, 0, 0), groups=3), SIGNS, (Element.I32,), weight_planes=8
    ),
    "depthwise-5x5": byte_spec(
        Shape((1, 6, 7, 36), 36, (5, 5), (1, 2), groups=36), lowest=-9, weight_planes=8
    ),
}
ALL = CASES | MORE


@cache
def _library() -> tuple[dict[str, Kernel], Library]:
    kernels = {name: byte_conv.make(spec, Isa.of(DSP)) for name, spec in ALL.items()}
    return kernels, Library(list(kernels.values()), DSP)


@pytest.mark.parametrize("name", ALL)
def test_equals_simulation(name: str):
    kernels, library = _library()
    _check(ALL[name], kernels[name], library, _numbers(ALL[name], 3))


@pytest.mark.parametrize("byte", [0, 255])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "name", ["int7-deep", "int7-17", "int8-long", "int8-tail", "groups-pointwise", "depthwise-5x5", "int6"]
)
def test_the_largest_sums_do_not_overflow(name: str, sign: int, byte: int):
    kernels, library = _library()
    reads, _ = _numbers(ALL[name], 4)
    _, constants = _numbers(ALL[name], 4, sign)
    layout = ALL[name].inputs[0]
    store(layout, reads[0], np.full(layout.shape, byte))
    _check(ALL[name], kernels[name], library, (reads, constants))


def test_sums_are_taken_out_in_time(monkeypatch: pytest.MonkeyPatch):
    """And the comparison would notice if they were not."""
    monkeypatch.setattr(byte_rows, "MOST_STEPS", 1024)
    kernel = byte_conv.make(DEEP, Isa.of(DSP))
    x, (_, constants) = np.full(3 * 1101, 255, np.uint8), _numbers(DEEP, 4, 1)
    expected, actual = (allocate(DEEP.outputs[0].layout) for _ in range(2))
    run_step(DEEP, [x], constants, [expected])
    Library([kernel], DSP).run(kernel, [x], constants, [actual])
    assert (expected != actual).any()


def test_the_form_is_chosen_by_weights_and_processor():
    isa = Isa.of(DSP)
    forms = {name: byte_conv.make(spec, isa).description for name, spec in ALL.items()}
    assert "SMLAD" in forms["int7"] and "SMLABB" in forms["depthwise-5x5"]
    assert "two channels in a half" in forms["int7"] and "two channels in a half" in forms["groups-of-24"]
    assert "a channel in a word" in forms["int8"], "a weight of -128 and a negative one do not fit 16 bits"
    assert "bytes a step" in forms["channels-first"] and "bytes a step" in forms["depthwise"]
    for name, is_taken in (("cortex-m4", True), ("cortex-m3", False), ("cortex-m0plus", False)):
        found = byte_conv.make(MORE["int7"], Isa.of(targets.load(name))).description
        assert ("SMLAD" in found) == is_taken


def test_there_is_nothing_to_tune():
    for name, count in (("int7", 1), ("depthwise-5x5", 1), ("channels-first", 2)):
        assert (len(candidates(ALL[name], DSP)) > 1) == (count > 1)


EMULATED = {
    "conv": byte_spec(Shape((1, 5, 7, 5), 7, stride=(2, 1)), lowest=-100, weight_planes=7),
    "pointwise": byte_spec(pointwise(3, 24, 36), lowest=-128, weight_planes=7),
    "deep": byte_spec(dense(1, 1101, 7), lowest=-128, weight_planes=7),
    "depthwise": byte_spec(Shape((1, 6, 7, 36), 36, groups=36), lowest=-9, weight_planes=8),
    "int8-groups": byte_spec(Shape((1, 5, 7, 10), 14, groups=2), lowest=-100, weight_planes=8),
}


@pytest.mark.parametrize("name", EMULATED)
def test_on_an_emulated_core(name: str, tmp_path: Path):
    """The largest weights and bytes among random ones; a wrong weight is noticed."""
    spec, rng = EMULATED[name], np.random.default_rng(5)
    constants = (_weights(spec, rng),)
    x = random_words(spec, rng)
    x[0, : x.size // 2] = 255
    expected = expected_output(spec, constants, x)
    artifact = build_layer(spec, constants, targets.load("cortex-m4"), tmp_path / "layer", emit=("so",))
    assert "SML" in artifact.manifest["steps"][-1]["description"]
    found = artifact.run({"x": x})["y"]
    np.testing.assert_array_equal(found, expected)
    constants[0][0] *= -1  # 127: what is -128 would stay
    assert not np.array_equal(found, expected_output(spec, constants, x))


def _weights(spec: KernelSpec, rng: np.random.Generator) -> np.ndarray:
    """Random ones; those of the first two channels are the largest there are."""
    assert isinstance(spec.root, ByteConv)
    lowest = -128 if spec.root.weight_planes == 8 else -127
    weight = rng.integers(lowest, 128, spec.constants[0].shape).astype(np.int8)
    weight[0] = 127
    weight[1] = lowest
    return weight
