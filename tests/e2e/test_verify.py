# SPDX-License-Identifier: Apache-2.0
"""`bnncc verify`: right libraries pass, wrong ones do not, and rounding flips are told from faults."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bnncc import driver, verify
from bnncc.cli import main
from bnncc.lowering import Lowered
from bnncc.options import CameraInput, Options
from bnncc.plan.kernel import BinaryConv
from tests.cases import load_case

FAMILIES = (
    "digits_bnn_bop_legacy",
    "larq_quicknet_blocks",
    "torch_reactnet_block_legacy",
    "torch_xnornet_kmap_legacy",
)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_agrees(name: str, tmp_path: Path) -> None:
    model = load_case(name).write_model(tmp_path)
    report = verify.verify_model(model, Options(), samples=2)
    assert report.passed, report.render()
    assert {row.against for row in report.rows} == {"onnx", "reference"}
    assert report.samples == 2


def test_a_flipped_weight_is_found_in_its_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: one bit of one layer's weights is wrong in the library."""
    model = load_case("digits_bnn_bop_legacy").write_model(tmp_path)
    honest = driver.lower
    damaged_layers = []

    def damaged(module: object, name: str, *more: bool) -> Lowered:
        lowered = honest(module, name, *more)  # type: ignore[arg-type]
        steps = list(lowered.program.steps)
        index = next(i for i, step in enumerate(steps) if isinstance(step.kernel.root, BinaryConv))
        weight = steps[index].constants[0].copy()
        weight[0] *= -1
        steps[index] = replace(steps[index], constants=(weight, *steps[index].constants[1:]))
        damaged_layers.append(steps[index].location)
        return replace(lowered, program=replace(lowered.program, steps=tuple(steps)))

    monkeypatch.setattr(driver, "lower", damaged)
    report = verify.verify_model(model, Options(), samples=2)
    assert not report.passed
    wrong = {row.layer for row in report.rows if not row.passed}
    assert wrong == set(damaged_layers[-1:]), report.render()
    assert all(row.against == "reference" for row in report.rows if not row.passed)
    assert main(["verify", str(model)]) == 1


def test_the_command_prints_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = load_case("digits_bnn_bop_legacy")
    model = case.write_model(tmp_path)
    np.save(tmp_path / "x.npy", case.inputs["x"][:3])
    assert main(["verify", str(model), "--input", f"x={tmp_path / 'x.npy'}"]) == 0
    text = capsys.readouterr().out
    assert "every value agrees" in text and "3 samples" in text
    assert main(["verify", str(model), "--samples", "1", "--seed", "5", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["passed"] and facts["samples"] == 1 and facts["layers"]


def test_a_camera_input_is_verified_against_the_same_graph(tmp_path: Path) -> None:
    model = load_case("digits_bnn_bop_legacy").write_model(tmp_path)
    camera = CameraInput("u8", "nhwc", (127.5,), (63.75,))
    report = verify.verify_model(model, Options(camera=camera), samples=2)
    assert report.passed, report.render()


def test_inputs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = load_case("digits_bnn_bop_legacy").write_model(tmp_path)
    for inputs in (
        {"y": np.zeros((1, 1, 8, 8), np.float32)},
        {"x": np.zeros((1, 8, 8), np.float32)},
        {"x": np.zeros((0, 1, 8, 8), np.float32)},
    ):
        with pytest.raises(driver.BnnccError):
            verify.verify_model(model, Options(), inputs)
