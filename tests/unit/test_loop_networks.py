# SPDX-License-Identifier: Apache-2.0
"""Random loops over time: the passes change no answer, layer by layer or step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import bnncc
from bnncc import reference
from bnncc.diagnostics import BnnccError
from bnncc.frontend.onnx import load_onnx
from bnncc.passes.pipeline import run_pipeline
from tests.loop_networks import LoopNetwork
from tests.models import write

FOUND = (18, 168, 276)
"""A count of steps that was lost, a constant image among those joined, a mean cropped like its readers."""

SAMPLES = 2


def assert_same(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray], steps: int | None) -> None:
    """Bit for bit; of what is collected, the steps that ran."""
    for name, array in wanted.items():
        if steps is not None and got[name].shape != array.shape:
            assert not got[name][steps:].any(), name
            got[name] = got[name][:steps]
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def check(seed: int, folder: Path, target: str | None = None) -> bool:
    """Whether the network could be compiled; its answers are those of onnxruntime."""
    network = LoopNetwork(seed)
    path = write(folder, network.model())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options)
    names = [output.name for output in session.get_outputs()]
    given = [network.inputs() for _ in range(SAMPLES)]
    wanted = [dict(zip(names, map(np.asarray, session.run(names, inputs)), strict=True)) for inputs in given]
    steps = [int(inputs["trips"]) if "trips" in inputs else None for inputs in given]
    try:
        if target is not None:
            artifact = bnncc.compile(path, target=target, output=folder / target)
            for inputs, outputs, count in zip(given, wanted, steps, strict=True):
                assert_same(artifact.run(inputs), outputs, count)
            return True
        for layer_by_layer in (True, False):
            module = load_onnx(path)
            run_pipeline(module, layer_by_layer=layer_by_layer)
            for inputs, outputs, count in zip(given, wanted, steps, strict=True):
                assert_same(reference.evaluate(module, inputs), outputs, count)
    except BnnccError as error:
        assert "it collects as much as the input 'trips' says" in str(error)
        return False
    return True


@pytest.mark.parametrize("seed", [*range(12), *FOUND])
def test_the_passes_change_no_answer(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 1000, 50))
def test_nor_those_of_many_more(first: int, tmp_path: Path) -> None:
    assert sum(check(seed, tmp_path) for seed in range(first, first + 50)) > 35


@pytest.mark.slow
@pytest.mark.parametrize("target", ["native", "c"])
@pytest.mark.parametrize("seed", range(30))
def test_compiled_loops_give_the_same_bits(seed: int, target: str, tmp_path: Path) -> None:
    check(seed, tmp_path, target)
