# SPDX-License-Identifier: Apache-2.0
"""Kernels for cores that cannot count bits, bit for bit: C text on this machine, and layers under QEMU."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels import choice
from bnncc.kernels.binary import carry_save
from bnncc.kernels.binary import conv as binary_conv
from bnncc.kernels.binary.word_counts import Blocks, Words
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.layout import Element
from bnncc.plan.simulate import allocate, random_buffer, run_step
from tests.kernels.contractions import Shape, binary_spec, dense
from tests.kernels.firmware import build_layer, expected_output, random_words
from tests.kernels.library import Library, shown_by_a_wrong_bit
from tests.kernels.test_binary_conv import CASES, INTEGERS, SPIKE, case_numbers, filled

CORES = ("cortex-m0plus", "cortex-m4", "cortex-m55", "rv32imc")
"""One of each form of the C text: 16-bit halves, USADA8, four channels in lanes; of each architecture."""

FORMS = (("cortex-m0plus", 9), ("cortex-m4", 36), ("cortex-m55", 18), ("rv32imc", 27), ("rv32imac_zbb", 9))
"""Cores, and turns of so many words."""

MORE = {
    "many-words": binary_spec(dense(2, 9001, 37)),
    "many-words-i32": binary_spec(Shape((1, 3, 3, 1000), 70), INTEGERS, pad_value=1),
    "one-word": binary_spec(dense(1, 7, 8)),
    "seven-outputs": binary_spec(Shape((1, 4, 4, 300), 7), pad_value=-1),
    "rest-of-29": binary_spec(Shape((1, 3, 4, 40), 61), halo_level=0),
    "spike-i32": binary_spec(Shape((1, 6, 5, 40), 45), INTEGERS, grid=SPIKE, halo_level=0),
}
ALL = {name: spec for name, spec in (CASES | MORE).items() if carry_save.supports(spec)}
OTHER = {name: spec for name, spec in CASES.items() if not carry_save.supports(spec)}


@cache
def library(core: str, words: int) -> tuple[dict[str, Kernel], Library]:
    """The C text for a core, compiled for this machine."""
    isa = Isa.of(targets.load(core))
    kernels = {name: carry_save.make(spec, isa, {"words": words}) for name, spec in ALL.items()}
    return kernels, Library(list(kernels.values()), targets.load("c"), "-O1")


def check(
    core: str, words: int, name: str, reads: list[np.ndarray], constants: tuple[np.ndarray, ...]
) -> None:
    """A kernel against `simulate`."""
    spec = ALL[name]
    kernels, compiled = library(core, words)
    expected, actual = ([allocate(output.layout, 0xAB) for output in spec.outputs] for _ in range(2))
    run_step(spec, reads, constants, expected)
    compiled.run(kernels[name], reads, constants, actual)
    for output, want, have in zip(spec.outputs, expected, actual, strict=True):
        if output.layout.element is Element.F32:
            np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(have, want)


def test_what_is_tested():
    """Every way of padding, stride, dilation, groups and epilogue is among the cases that are supported."""
    assert len(ALL) > 35
    assert {"strided", "dilated", "tiny", "groups", "narrow-groups", "ternary-weight", "u2"} - set(ALL) == {
        "narrow-groups",
        "ternary-weight",
        "u2",
    }


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("core", "words"), FORMS)
def test_equals_simulation(core: str, words: int, name: str):
    check(core, words, name, *case_numbers(ALL[name], seed=3))


@pytest.mark.parametrize(("core", "words"), FORMS)
@pytest.mark.parametrize(("input_sign", "weight_sign"), [(1, 1), (1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("name", ["plain", "pad-minus-one", "deep", "dense-i32", "many-words"])
def test_all_equal_signs(core: str, words: int, name: str, input_sign: int, weight_sign: int):
    """The largest and smallest sums, where counts would overflow first."""
    spec = ALL[name]
    reads, constants = case_numbers(spec, seed=4)
    fill = random_buffer(spec.root.input, np.random.default_rng(0), spec.root.halo_level)  # type: ignore[union-attr]
    reads[0] = filled(spec.root.input, fill, input_sign > 0)  # type: ignore[union-attr]
    check(core, words, name, reads, (np.full_like(constants[0], weight_sign), *constants[1:]))


def test_a_wrong_bit_is_noticed():
    kernels, compiled = library("cortex-m55", 9)
    numbers = case_numbers(ALL["plain-i32"], seed=6)
    assert shown_by_a_wrong_bit(compiled, kernels["plain-i32"], numbers, (5, 1, 1, 7)) == 6 * 9


def test_words_fill_turns_evenly():
    assert Words.of(72, 36) == Words(72, 2, 36)
    assert Words.of(49, 36) == Words(49, 2, 25) and Words.of(49, 36).stored == 50
    assert Words.of(5, 36) == Words(5, 1, 5)


@pytest.mark.parametrize(("count", "lanes"), [(32, 4), (96, 4), (40, 4), (61, 4), (3, 4), (10, 1), (70, 1)])
def test_every_channel_has_one_place(count: int, lanes: int):
    order = Blocks(2, count, lanes).order()
    places = order[order >= 0]
    assert sorted(places) == list(range(2 * count))
    assert order.shape == (2 * Blocks(2, count, lanes).vectors, lanes)


# --- The choice --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHER)
def test_what_it_cannot_do_another_template_does(name: str):
    isa = Isa.of(targets.load("cortex-m4"))
    kernel = choice.make(OTHER[name], isa)
    assert kernel.schedule == binary_conv.make(OTHER[name], isa).schedule


def test_portable_c_takes_the_plain_kernel():
    spec = CASES["plain"]
    assert "words" not in choice.make(spec, Isa.of(targets.load("c"))).schedule
    assert "words" in choice.make(spec, Isa.of(targets.load("rv32imc"))).schedule


@pytest.mark.parametrize("core", CORES)
def test_size_takes_less_code_and_speed_fewer_instructions(core: str):
    isa = Isa.of(targets.load(core))
    spec = binary_spec(Shape((1, 8, 8, 256), 32))
    size, balance, speed = (
        choice.best_turn(spec, replace(isa, goal=goal)) for goal in ("size", None, "speed")
    )
    assert size < speed and size <= balance <= speed
    wide = replace(isa, goal=None)
    assert choice.best_turn(binary_spec(Shape((1, 8, 8, 256), 256)), wide) == speed


# --- Under QEMU --------------------------------------------------------------------------------------------


def layer() -> tuple[KernelSpec, tuple[np.ndarray, ...], np.ndarray]:
    """A layer with every kind of border, and what it is given."""
    spec = binary_spec(Shape((1, 5, 6, 70), 44, stride=(2, 1)), halo_level=0)
    _, constants = case_numbers(spec, seed=8)
    return spec, constants, random_words(spec, np.random.default_rng(8))


@pytest.mark.parametrize("core", [*CORES, "cortex-m3", "cortex-m7", "cortex-m33", "rv32imac_zbb", "rv64gc"])
def test_a_layer_on_an_emulated_core(core: str, tmp_path: Path):
    spec, constants, words = layer()
    artifact = build_layer(spec, constants, targets.load(core), tmp_path / "layer", emit=("so",))
    assert "words" in artifact.manifest["steps"][-1]["schedule"]
    found = artifact.run({"x": words})["y"]
    np.testing.assert_array_equal(found, expected_output(spec, constants, words))


def test_memory_is_lent_from_the_arena(tmp_path: Path):
    """282 words are more than TVM keeps on the stack."""
    spec = MORE["many-words"]
    _, constants = case_numbers(spec, seed=9)
    words = random_words(spec, np.random.default_rng(9))
    artifact = build_layer(spec, constants, targets.load("cortex-m55"), tmp_path / "layer", emit=("so",))
    assert artifact.manifest["arena"]["bytes"] > 4 * 4 * 282
    np.testing.assert_array_equal(artifact.run({"x": words})["y"], expected_output(spec, constants, words))


def test_a_wrong_weight_is_noticed_on_an_emulated_core(tmp_path: Path):
    spec, constants, words = layer()
    expected = expected_output(spec, constants, words)
    constants[0][11] *= -1
    artifact = build_layer(spec, constants, targets.load("cortex-m55"), tmp_path / "layer", emit=("so",))
    assert not np.array_equal(artifact.run({"x": words})["y"], expected)
