# SPDX-License-Identifier: Apache-2.0
"""Convolutions of bytes by MVE and by RISC-V's vectors: what they compute under QEMU, and what the C text for
MVE computes here without those instructions."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.byte import conv as byte_conv
from bnncc.kernels.byte import vectors as byte_vectors
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.space import candidates
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.layout import Element
from bnncc.plan.simulate import allocate, run_step, store
from tests.bench.int8 import requantized
from tests.kernels.contractions import Shape, byte_spec, dense, pointwise
from tests.kernels.emulated import Program
from tests.kernels.firmware import build_layer, expected_output, random_words
from tests.kernels.library import Library, before_forbidden_memory
from tests.kernels.test_byte_conv import CASES, _check, _numbers
from tests.kernels.test_byte_emulated import _check as _check_emulated

MVE = replace(targets.load("c"), features=("+mve",))
TWO = (Element.F32, Element.F32)
BYTES = ((Element.U8, requantized()),)

MORE = {
    "bytes": byte_spec(Shape((1, 5, 7, 5), 70, stride=(2, 1)), BYTES, TWO, lowest=-100, weight_planes=8),
    "blocks-of-six": byte_spec(dense(1, 320, 130), BYTES, TWO, lowest=-128, weight_planes=8),
    "groups": byte_spec(Shape((1, 6, 7, 24), 33, groups=3), lowest=-77, weight_planes=8),
    "one-piece": byte_spec(pointwise(5, 48, 33), lowest=-3, weight_planes=8),
    "taps": byte_spec(
        Shape((1, 6, 7, 77), 77, (5, 5), (1, 2), groups=77), BYTES, TWO, lowest=-9, weight_planes=8
    ),
    "taps-of-columns": byte_spec(
        Shape((2, 9, 1, 104), 104, (3, 1), pads=(1, 0, 1, 0), groups=104), lowest=-255, weight_planes=8
    ),
}
ALL = CASES | MORE


def _extreme(spec: KernelSpec, byte: int, sign: int) -> tuple:
    """All bytes of the image the same, and the largest or smallest weights."""
    (reads, _), (_, constants) = _numbers(spec, 4), _numbers(spec, 4, sign)
    store(spec.inputs[0], reads[0], np.full(spec.inputs[0].shape, byte))
    return reads, constants


@cache
def _library() -> tuple[dict[str, Kernel], Library]:
    kernels = {name: byte_conv.make(spec, Isa.of(MVE)) for name, spec in ALL.items()}
    return kernels, Library(list(kernels.values()), MVE)


@pytest.mark.parametrize("name", ALL)
def test_text_without_mve(name: str):
    kernels, library = _library()
    _check(ALL[name], kernels[name], library, _numbers(ALL[name], 3))
    _check(ALL[name], kernels[name], library, _extreme(ALL[name], 255, -1))


@pytest.mark.parametrize("name", MORE)
def test_nothing_is_read_behind_the_image(name: str):
    kernels, library = _library()
    spec, kernel, (reads, constants) = ALL[name], kernels[name], _numbers(ALL[name], 6)
    expected, actual = (allocate(spec.outputs[0].layout) for _ in range(2))
    run_step(spec, reads, constants, [expected])
    lent = [np.zeros(kernel.scratch_bytes, np.uint8)] if kernel.scratch_bytes else []
    image = before_forbidden_memory(reads[0])
    library.bind(kernel, image, *kernel.pack(constants), actual, *lent)()
    np.testing.assert_array_equal(actual, expected)


@cache
def _program() -> tuple[dict[str, Kernel], Program]:
    target = targets.load("rv64gcv")
    kernels = {name: byte_conv.make(spec, Isa.of(target)) for name, spec in ALL.items()}
    return kernels, Program(list(kernels.values()), target)


@pytest.mark.parametrize("name", ALL)
def test_riscv(name: str):
    kernels, program = _program()
    _check_emulated(kernels[name], program, _numbers(ALL[name], 3))
    _check_emulated(kernels[name], program, _extreme(ALL[name], 255, -1))


@pytest.mark.parametrize("name", ["int8-deep", "dense-batch", "depthwise-stride", "taps", "blocks-of-six"])
@pytest.mark.parametrize("bits", [256, 1024])
def test_riscv_with_longer_vectors(name: str, bits: int):
    target, (kernels, program) = targets.load("rv64gcv"), _program()
    emulator = [argument.replace("vlen=128", f"vlen={bits}") for argument in target.emulator]
    assert emulator != list(target.emulator)
    spec, (reads, constants) = ALL[name], _numbers(ALL[name], 3)
    expected, actual = (allocate(spec.outputs[0].layout) for _ in range(2))
    run_step(spec, reads, constants, [expected])
    program.run(kernels[name], reads, constants, [actual], emulator)
    np.testing.assert_array_equal(expected, actual)


EMULATED = ("bytes", "blocks-of-six", "groups", "taps")


@pytest.mark.parametrize("name", EMULATED)
def test_on_an_emulated_core(name: str, tmp_path: Path):
    """Random weights from -128 to 127, the extreme ones and bytes of 255 among them; that one weight is one
    less is noticed."""
    spec, rng = ALL[name], np.random.default_rng(5)
    constants = (
        np.random.default_rng(5).integers(-128, 128, spec.constants[0].shape).astype(np.int8),
        *_numbers(spec, 5)[1][1:],
    )
    for scale in constants[1:2]:
        scale *= 2e-3  # few answers are cut off
    constants[0][:2] = np.array([-128, 127], np.int8).reshape(2, 1, 1, 1)
    x = random_words(spec, rng)
    x[0, : x.size // 2] = 255
    expected = expected_output(spec, constants, x)
    artifact = build_layer(spec, constants, targets.load("cortex-m55"), tmp_path / "layer", emit=("so",))
    assert "VML" in artifact.manifest["steps"][-1]["description"] or name == "taps"
    found = artifact.run({"x": x})["y"]
    np.testing.assert_array_equal(found, expected)
    constants[0][2:, 0, 0, 0] ^= 1
    assert not np.array_equal(found, expected_output(spec, constants, x))


@pytest.mark.parametrize("target", ["cortex-m55", "rv64gcv"])
def test_the_form_is_chosen_by_processor_and_shape(target: str):
    isa, vectors = Isa.of(targets.load(target)), "VMLADAVA" if target == "cortex-m55" else "VWMACC"
    forms = {name: byte_conv.make(spec, isa).description for name, spec in ALL.items()}
    assert not [form for form in forms.values() if "bytes a step" in form or "SML" in form]
    assert vectors in forms["int8"] and "every channel by itself" in forms["taps"]
    assert len(candidates(ALL["int8"], targets.load(target))) == 1, "there is nothing to tune"


def test_what_a_window_sums_up_to_counts(monkeypatch: pytest.MonkeyPatch):
    """Weights are stored 128 higher, and the comparison would notice if that were not made up for."""
    spec = MORE["one-piece"]
    kernel = byte_conv.make(spec, Isa.of(MVE))
    monkeypatch.setattr(byte_vectors, "CENTRE", 127)
    reads, constants = _numbers(spec, 3)
    expected, actual = (allocate(spec.outputs[0].layout) for _ in range(2))
    run_step(spec, reads, constants, [expected])
    Library([kernel], MVE).run(kernel, reads, constants, [actual])
    assert (expected != actual).any()
