# SPDX-License-Identifier: Apache-2.0
"""One spiking network of each kind on two microcontrollers, under QEMU: the recorded spikes, exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bnncc
from tests.cases import Case, load_case
from tests.e2e.commands import Shell

BOARDS = ["cortex-m4", "rv32imc"]
WITHIN = {
    "unrolled": "spikingjelly014_if_T6_steps",
    "a loop": "torch_bsnn_scan_dynamo",
    "binary weights": "torch_bsnn_if_T16_legacy",
}
"""By kind; single steps and digits are in test_stateful and test_spiking."""


def first(case: Case, path: Path, board: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The answers of a board to the first sample, and the recorded ones."""
    artifact = bnncc.compile(path, target=board, output=path.parent / "library")
    axes = {port["name"]: port["batch_axis"] for port in case.meta["inputs"] + case.meta["outputs"]}

    def sample(name: str, array: np.ndarray) -> np.ndarray:
        return array if axes[name] is None else array.take([0], axes[name])

    outputs = artifact.run({name: sample(name, array) for name, array in case.inputs.items()})
    return outputs, {name: sample(name, array) for name, array in case.outputs.items()}


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("kind", WITHIN)
def test_time_inside_the_graph(kind: str, board: str, tmp_path: Path):
    case = load_case(WITHIN[kind])
    outputs, expected = first(case, case.write_model(tmp_path), board)
    for name, array in expected.items():
        if (array == np.rint(array)).all():
            np.testing.assert_array_equal(outputs[name], array)
        np.testing.assert_allclose(outputs[name], array, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("board", BOARDS)
def test_a_nir_file(board: str, tmp_path: Path, bnncc: Shell):
    case = load_case("nir_snntorch_conv_leaky")
    path = case.write_model(tmp_path)
    bnncc.fine("compile", path, "--preset", "snntorch", "--target", board, "-o", tmp_path / "library")
    inputs = {name: array[:, :1] for name, array in case.inputs.items()}
    outputs = bnncc.run(tmp_path / "library", inputs, tmp_path)
    expected = {name: array[:, :1] for name, array in case.outputs.items()}
    assert expected["output"].mean() > 0.05
    np.testing.assert_array_equal(outputs["output"], expected["output"])


@pytest.mark.slow
@pytest.mark.parametrize("board", BOARDS)
def test_activations_of_zero_and_one(board: str, tmp_path: Path):
    case = load_case("torch_bann_vgg16_hoyer_cw_binw_where_legacy")
    outputs, expected = first(case, case.write_model(tmp_path), board)
    for name, array in expected.items():
        np.testing.assert_allclose(outputs[name], array, rtol=1e-3, atol=1e-3)
