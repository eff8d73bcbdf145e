# SPDX-License-Identifier: Apache-2.0
"""The lookup of nibbles of two pixels against the simulation, bit for bit."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels import choice, space
from bnncc.kernels.binary import pair_lookup
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from tests.kernels.contractions import Shape, binary_spec, pointwise
from tests.kernels.library import Library, compiled, shown_by_a_wrong_bit
from tests.kernels.rows_of_three import CASES, OWN, check, equal_signs
from tests.kernels.test_binary_conv import INTEGERS, case_numbers

TARGETS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")
MORE = {
    **CASES,
    "pointwise-odd": binary_spec(pointwise(5, 72, 64), INTEGERS),
    "pointwise-even": binary_spec(pointwise(6, 160, 96)),
    "chunks-of-several-groups": binary_spec(Shape((1, 3, 5, 288), 64), INTEGERS),
}
TAKEN = {
    name: spec for name, spec in MORE.items() if pair_lookup.supports(spec, Isa.of(targets.load("x86-64-v2")))
}


@cache
def _library(target: str) -> tuple[dict[str, Kernel], Library]:
    return compiled(TAKEN, target, choice.make)


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("target", TARGETS)
def test_equals_simulation(target: str, name: str):
    kernels, library = _library(target)
    assert pair_lookup.MARK in kernels[name].schedule
    check(kernels[name], library, *case_numbers(TAKEN[name], seed=3))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["odd-width", "many-channels", "ragged-channels-i32", "pointwise-odd"])
@pytest.mark.parametrize(("input_sign", "weight_sign"), [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_all_equal_signs(target: str, name: str, input_sign: int, weight_sign: int):
    """The largest counts of a chunk: a byte holds them."""
    kernels, library = _library(target)
    check(kernels[name], library, *equal_signs(TAKEN[name], input_sign, weight_sign))


def test_what_is_taken():
    """All windows and strides; whole words of output channels, rows of two pixels at least, sums of 16 bits,
    words three quarters full."""
    refused = set(OWN) - set(TAKEN)
    ragged = {"ragged-outputs", "ragged-outputs-i32", "two-outputs-ragged"}
    assert refused == {"width-one", "one-channel", *ragged}
    for name in ("ternary-weight", "ternary-input", "u2", "narrow-groups", "dense", "batch-of-pixels"):
        assert name not in TAKEN
    isa = Isa.of(targets.load("x86-64-v3"))
    assert pair_lookup.supports(binary_spec(Shape((1, 3, 3, 3616), 32)), isa)
    assert not pair_lookup.supports(binary_spec(Shape((1, 3, 3, 3648), 32)), isa)
    assert not pair_lookup.supports(binary_spec(Shape((1, 4, 5, 2048), 32, (4, 4))), isa), "2^15"
    assert not pair_lookup.supports(OWN["odd-width"], Isa.of(targets.load("aarch64")))


def test_the_table():
    """Entry n of row x0 + 16 x1 has the differing bits of n and x0, and 16 times those of n and x1."""
    table = pair_lookup.table().reshape(16, 16, 16)
    for x1, x0, n in np.ndindex(table.shape):
        assert table[x1, x0, n] == (x0 ^ n).bit_count() + 16 * (x1 ^ n).bit_count()


@pytest.mark.parametrize("target", TARGETS)
def test_a_wrong_bit_is_noticed(target: str):
    """A flipped weight shows in all outputs that it has a part in."""
    kernels, library = _library(target)
    numbers = case_numbers(TAKEN["no-padding"], seed=6)
    assert shown_by_a_wrong_bit(library, kernels["no-padding"], numbers, (5, 1, 2, 7)) == 3 * 7


def test_every_candidate_computes_the_same():
    target = targets.load("x86-64-v3")
    if not target.runs_here():
        pytest.skip("this machine has no AVX2")
    isa, spec = Isa.of(target), binary_spec(Shape((1, 5, 13, 48), 64))
    found = space.candidates(spec, target)
    own = [parameters for parameters in found if pair_lookup.MARK in parameters]
    assert found[0] == own[0] == choice.make(spec, isa).schedule and 5 < len(own) < len(found)
    kernels = [choice.make(spec, isa, parameters) for parameters in (*own[::2], found[-1])]
    library = Library(kernels, target)
    for kernel in kernels:
        check(kernel, library, *case_numbers(spec, seed=7))
