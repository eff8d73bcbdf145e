# SPDX-License-Identifier: Apache-2.0
"""Neurons with integer membranes on Cortex-M4: the micro-kernel gives the reference's integers, fast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bnncc import reference
from tests.bench.fixed_neurons import compiled, currents, instructions, network

KINDS = [("subtract", "gt", 0.875), ("zero", "ge", 1.0), ("subtract", "ge", 0.25), ("zero", "gt", 0.5)]


def thresholds(is_each: bool, count: int) -> np.ndarray | None:
    return np.random.default_rng(3).uniform(30, 50, count).astype(np.float32) if is_each else None


@pytest.mark.parametrize("is_each", [False, True])
@pytest.mark.parametrize("bits", ["int16", "int32"])
@pytest.mark.parametrize(("reset", "fire", "decay"), KINDS)
def test_it_is_the_reference(reset: str, fire: str, decay: float, bits: str, is_each: bool, tmp_path: Path):
    count = 77
    module = network(count, bits, thresholds(is_each, count), decay, reset, fire)
    artifact = compiled(module, "cortex-m4", tmp_path)
    x = currents(bits, 12, count)
    expected, found = reference.evaluate_steps(module, {"x": x}), artifact.run({"x": x})
    np.testing.assert_array_equal(found["y"], expected["y"])
    assert expected["y"].max() > 3


@pytest.mark.parametrize("is_each", [False, True])
@pytest.mark.parametrize("bits", ["int16", "int32"])
@pytest.mark.parametrize(("reset", "fire"), [(reset, fire) for reset, fire, _ in KINDS])
def test_every_neuron_has_a_leak_of_its_own(reset: str, fire: str, bits: str, is_each: bool, tmp_path: Path):
    count = 77
    decay = np.random.default_rng(4).uniform(0.5, 1, count).astype(np.float32)
    module = network(count, bits, thresholds(is_each, count), decay, reset, fire)
    artifact = compiled(module, "cortex-m4", tmp_path)
    x = currents(bits, 12, count)
    expected, found = reference.evaluate_steps(module, {"x": x}), artifact.run({"x": x})
    np.testing.assert_array_equal(found["y"], expected["y"])
    assert expected["y"].max() > 3


@pytest.mark.parametrize("bits", ["int16", "int32"])
def test_they_begin_and_end_anywhere(bits: str, tmp_path: Path):
    """Those of a second image lie at odd addresses of halves of words; the last word of spikes is begun by
    sixteen neurons at a time and ended one by one."""
    count = 85
    decay = np.random.default_rng(4).uniform(0.5, 1, count).astype(np.float32)
    module = network(count, bits, thresholds(True, count), decay, batch=2)
    artifact = compiled(module, "cortex-m4", tmp_path)
    x = currents(bits, 6, count, batch=2)
    expected, found = reference.evaluate_steps(module, {"x": x}), artifact.run({"x": x})
    np.testing.assert_array_equal(found["y"], expected["y"])
    assert expected["y"].max() > 3


@pytest.mark.parametrize("bits", ["int16", "int32"])
def test_its_micro_kernel_is_called(bits: str, tmp_path: Path):
    decay = np.random.default_rng(4).uniform(0.5, 1, 256).astype(np.float32)
    artifact = compiled(network(256, bits, thresholds(True, 256), decay), "cortex-m4", tmp_path)
    assert instructions(artifact, currents(bits, 1, 256)[0]) / 256 <= 12


@pytest.mark.parametrize("is_each", [False, True])
@pytest.mark.parametrize(("bits", "most"), [("int32", 12), ("int16", 7)])
def test_instructions_of_an_update(bits: str, is_each: bool, most: float, tmp_path: Path):
    artifact = compiled(network(256, bits, thresholds(is_each, 256)), "cortex-m4", tmp_path)
    assert instructions(artifact, currents(bits, 1, 256)[0]) / 256 <= most
