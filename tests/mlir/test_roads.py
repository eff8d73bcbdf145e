# SPDX-License-Identifier: Apache-2.0
"""Random binary and spiking networks by TVM and by LLVM, bit for bit; `python -m tests.mlir.roads` runs
more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bnncc.dialect.parsing import module_text, parse_module
from bnncc.linalg.convolution import FORMS
from tests.mlir.roads import CHUNK, Network, compare, functions_of
from tests.random_networks import draw
from tests.spiking_networks import SpikingNetwork

COUNT, ALL = 6 * CHUNK, 5000
"""What always runs: each form of convolutions, with a schedule and without; and all."""


def check(first: int, folder: Path) -> None:
    outcome = compare(range(first, first + CHUNK), folder)
    assert not outcome.differences, "\n".join(outcome.differences)
    assert outcome.exact > CHUNK / 2


@pytest.mark.parametrize("first", range(0, COUNT, CHUNK))
def test_both_roads_give_the_same_bits(first: int, tmp_path: Path) -> None:
    check(first, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(COUNT, ALL, CHUNK))
def test_many_more(first: int, tmp_path: Path) -> None:
    check(first, tmp_path)


def test_a_third_of_the_networks_spike() -> None:
    assert sum(isinstance(draw(seed), SpikingNetwork) for seed in range(COUNT)) == COUNT // 3


DAMAGES = {4: ("bnn.add", "bnn.sub"), 2: ('"le"', '"lt"'), 8: ('"gt"', '"ge"')}
"""What is changed in the networks of a few seeds, the last of which spike."""


@pytest.mark.parametrize("seed", DAMAGES)
def test_a_damaged_network_is_found_out(seed: int, tmp_path: Path) -> None:
    """Negative control: one word changed on one of the roads."""
    network = Network.of(seed, tmp_path)
    honest = network.by_library("tvm")
    text = module_text(network.module)
    damaged = replace(network, module=parse_module(text.replace(*DAMAGES[seed])))
    assert module_text(damaged.module) != text
    for tried, is_damaged in ((network, False), (damaged, True)):
        compiled = functions_of([tried], tmp_path, FORMS[0], scheduled=False)
        found = list(network.differences("LLVM and TVM", tried.by_function(compiled), honest))
        assert bool(found) is is_damaged
