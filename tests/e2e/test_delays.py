# SPDX-License-Identifier: Apache-2.0
"""Delays of NIR files as rings in the state memory: a step writes one slot, and copies none."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import nir
import numpy as np
import pytest

import bnncc
from bnncc.execution import spikes
from bnncc.execution.artifact import Artifact
from bnncc.frontend.nir.discretization import TimeOptions
from bnncc.frontend.nir.evaluate import NirEvaluator
from tests.e2e.commands import Shell
from tests.nir_files import affine, chain, full, lif, port, vector, write

DT = 1e-3
F = np.float32


def delayed(folder: Path, steps: int) -> tuple[Path, Artifact]:
    """A file of one Delay of three values, compiled."""
    folder.mkdir(exist_ok=True)
    path = chain(folder, [3], nir.Delay(full([3], steps * DT)))
    return path, bnncc.compile(path, dt=DT, output=folder / "library")


def test_a_long_delay_costs_what_a_short_one_does(tmp_path: Path):
    """Near miss: two slots are fewer than a position is worth, and are copied."""
    rng, calls = np.random.default_rng(0), []
    for count in (2, 3, 40):
        _, artifact = delayed(tmp_path / str(count), count)
        calls.append(len(artifact.manifest["steps"]))
        x = rng.normal(size=(3 * count + 2, 2, 3)).astype(F)
        late = np.concatenate([np.zeros((count, 2, 3), F), x[:-count]])
        np.testing.assert_array_equal(artifact.run({"input": x})["output"], late)
        slots = [state["ring"]["slots"] for state in artifact.manifest["states"] if "ring" in state]
        assert slots == ([] if count == 2 else [count] * count)
        assert artifact.manifest["state"]["bytes"] == 64 * (count + (count > 2))
    assert calls[1] == calls[2] < calls[0]


def test_states_of_a_ring_may_be_fed(tmp_path: Path):
    """They are where the position says, in the middle of a sequence, too; each stream has its own."""
    rng = np.random.default_rng(1)
    _, artifact = delayed(tmp_path, 4)
    x = rng.normal(size=(12, 1, 3)).astype(F)
    one, other = artifact.stream(), artifact.stream()
    for step in range(6):
        one.step({"input": x[step]})
    name = next(state["name"] for state in artifact.manifest["states"] if state["ring"]["slot"] == 1)
    fed = rng.normal(size=(1, 3)).astype(F)
    np.testing.assert_array_equal(one.step({"input": x[6], name: fed})["output"], x[2])
    np.testing.assert_array_equal(one.step({"input": x[7]})["output"], fed)
    np.testing.assert_array_equal(one.step({"input": x[8]})["output"], x[4])
    assert not other.step({"input": x[0]})["output"].any()
    one.reset()
    assert not one.step({"input": x[0]})["output"].any()


def between_neurons(folder: Path) -> Path:
    """Two layers with spikes on their way for 0 to 5 steps, and a way back that takes 4."""
    rng = np.random.default_rng(4)
    nodes = {
        "input": port(nir.Input, [4]),
        "fc": affine(rng, 4, 4),
        "first": lif([4], r=4.0),
        "delay": nir.Delay(vector(0, 2 * DT, 5 * DT, 5 * DT)),
        "second": lif([4], r=4.0),
        "back": nir.Delay(full([4], 4 * DT)),
        "output": port(nir.Output, [4]),
    }
    path = ["input", "fc", "first", "delay", "second", "output"]
    edges = [*pairwise(path), ("second", "back"), ("back", "first")]
    return write(folder, nodes, edges)


@pytest.mark.parametrize("target", ["native", "c", "cortex-m4"])
def test_spikes_on_their_way(target: str, tmp_path: Path):
    path = between_neurons(tmp_path)
    x = np.random.default_rng(2).integers(0, 3, (30, 1, 4)).astype(F)
    expected = NirEvaluator(path, TimeOptions(dt=DT)).run({"input": x})["output"]
    assert 0.05 < expected.mean() < 0.95
    artifact = bnncc.compile(path, dt=DT, target=target, output=tmp_path / "library")
    assert len({state["ring"]["position"] for state in artifact.manifest["states"] if "ring" in state}) == 2
    np.testing.assert_array_equal(artifact.run({"input": x})["output"], expected)
    if target == "native":
        outputs, rasters = spikes.record(artifact, {"input": x})
        np.testing.assert_array_equal(outputs["output"], expected)
        assert any(np.array_equal(raster.spikes, expected) for raster in rasters)


def test_verify_looks_at_every_step(tmp_path: Path, bnncc: Shell):
    report = bnncc.fine("verify", between_neurons(tmp_path), "--dt", "1e-3", "--samples", "2", "--json").json
    assert report["passed"] and len(report["layers"]) > 2
