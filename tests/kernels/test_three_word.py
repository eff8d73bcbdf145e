# SPDX-License-Identifier: Apache-2.0
"""The full adder over three words against the simulation, bit for bit."""

from __future__ import annotations

from functools import cache

import pytest

from bnncc import targets
from bnncc.kernels import choice, space
from bnncc.kernels.binary import conv as binary_conv
from bnncc.kernels.binary import three_word
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.layout import Element
from tests.kernels.contractions import Shape, binary_spec
from tests.kernels.library import Library, compiled, shown_by_a_wrong_bit
from tests.kernels.rows_of_three import BOTH, CASES, OWN, check, equal_signs
from tests.kernels.test_binary_conv import INTEGERS, case_numbers

WITH_POPCOUNT = targets.detect("x86_64", "linux", frozenset(targets.load("znver4").cpu_flags))
PUT_OFF = {
    "many-rows": binary_spec(Shape((1, 17, 21, 64), 40), pad_value=1),
    "many-rows-two-outputs": binary_spec(Shape((2, 19, 14, 42), 96), BOTH, (Element.F32,)),
    "many-rows-strided": binary_spec(Shape((1, 33, 24, 64), 32, (3, 3), (2, 1)), INTEGERS),
    "many-rows-uneven": binary_spec(Shape((1, 16, 15, 64), 37), INTEGERS),
}
"""Rows enough for epilogues to be put off into the next tile; the tiles of the last one are not alike."""

TAKEN = {
    name: spec for name, spec in (CASES | PUT_OFF).items() if three_word.supports(spec, Isa.of(WITH_POPCOUNT))
}


@cache
def _library() -> tuple[dict[str, Kernel], Library]:
    if targets.native().popcount != "vector32":
        pytest.skip("this machine has no AVX-512 VPOPCNTDQ")
    return compiled(TAKEN, "native", choice.make)


@pytest.mark.parametrize("name", TAKEN)
def test_equals_simulation(name: str):
    kernels, library = _library()
    check(kernels[name], library, *case_numbers(TAKEN[name], seed=3))


@pytest.mark.parametrize("name", ["odd-width", "ragged-channels-i32", "many-channels", "deep"])
@pytest.mark.parametrize(("input_sign", "weight_sign"), [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_all_equal_signs(name: str, input_sign: int, weight_sign: int):
    kernels, library = _library()
    check(kernels[name], library, *equal_signs(TAKEN[name], input_sign, weight_sign))


def test_what_is_taken():
    """All but other strides and dilations along rows, zeros among weights and activations, several planes."""
    refused = set(OWN) - set(TAKEN)
    assert refused == {"strided-even", "strided-odd", "strided-by-three"}
    for name in ("dilated", "ternary-weight", "ternary-input", "u2", "narrow-groups", "dense", "pointwise"):
        assert name not in TAKEN
    assert not three_word.supports(OWN["odd-width"], Isa.of(targets.load("x86-64-v3")))


def _is_put_off(spec: KernelSpec, schedule: TileParameters | None = None) -> bool:
    return "kept" in str(three_word.make(spec, Isa.of(WITH_POPCOUNT), schedule).function)


def test_what_is_put_off():
    put_off = {name for name, spec in TAKEN.items() if _is_put_off(spec)}
    assert put_off == set(PUT_OFF) - {"many-rows-uneven"}


@pytest.mark.parametrize(
    ("rows", "schedule", "is_put_off"),
    [
        (16, {}, True),
        (15, {}, False),
        (32, {"rows": 2}, True),
        (31, {"rows": 2}, False),
        (16, {"pixels": 8}, False),
        (16, {"pixels": 14}, False),
        (16, {"channels_outermost": 0}, False),
    ],
)
def test_when_epilogues_are_put_off(rows: int, schedule: TileParameters, is_put_off: bool):
    """Where tiles are alike, more than one in a row, rows enough for several threads, and channels outermost:
    near misses in one of these."""
    spec = binary_spec(Shape((1, rows, 14, 64), 32), INTEGERS)
    even = {"lanes": 16, "rows": 1, "pixels": 7, "channel_vectors": 1, "channels_outermost": 1}
    assert _is_put_off(spec, {**even, **schedule}) == is_put_off


def test_a_wrong_bit_is_noticed():
    """A flipped weight shows in all outputs that it has a part in."""
    kernels, library = _library()
    numbers = case_numbers(TAKEN["no-padding"], seed=6)
    assert shown_by_a_wrong_bit(library, kernels["no-padding"], numbers, (5, 1, 2, 7)) == 3 * 7


def test_every_candidate_computes_the_same():
    target = targets.native()
    if target.popcount != "vector32":
        pytest.skip("this machine has no AVX-512 VPOPCNTDQ")
    isa, spec = Isa.of(target), binary_spec(Shape((1, 5, 14, 40), 64))
    found = space.candidates(spec, target)
    own = [parameters for parameters in found if three_word.MARK in parameters]
    plain = [parameters for parameters in found if three_word.MARK not in parameters]
    assert found[0] == own[0] == choice.make(spec, isa).schedule and len(own) > 8
    assert choice.make(spec, isa, plain[0]).symbol == binary_conv.make(spec, isa, plain[0]).symbol
    kernels = [choice.make(spec, isa, parameters) for parameters in (*own[::2], plain[0])]
    library = Library(kernels, target)
    for kernel in kernels:
        check(kernel, library, *case_numbers(spec, seed=7))
