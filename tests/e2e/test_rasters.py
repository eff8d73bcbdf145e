# SPDX-License-Identifier: Apache-2.0
"""What a person looks at: rasters of spikes, drawings of them, synaptic operations in reports."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import bnncc
from bnncc.execution import artifact, spikes
from bnncc.frontend.evaluate import ModelEvaluator
from tests.cases import Case, load_case
from tests.e2e.commands import Shell
from tests.spiking import state_options, states_of_case

STEP = "snntorch_step_convleaky_legacy"
UNROLLED = "spikingjelly014_if_T6_steps"


def graph_spikes(case: Case, path: Path) -> dict[str, np.ndarray]:
    """The spikes of the step network by layer, from its ONNX graph step by step."""
    graph, carried = ModelEvaluator(path), {k: v for k, v in case.inputs.items() if k != "x"}
    found: dict[str, list[np.ndarray]] = {"lif1": [], "lif2": [], "lif3": []}
    for x in case.inputs["x"]:
        values = graph({"x": x, **carried})
        for layer, arrays in found.items():
            arrays.append(values[f"/{layer}/Greater_1_output_0"])
        carried = {before: values[after] for before, after in states_of_case(case).items()}
    return {layer: np.stack(arrays).astype(np.uint8) for layer, arrays in found.items()}


def test_the_raster_of_a_step_network_is_the_graphs(tmp_path: Path, bnncc: Shell):
    case = load_case(STEP)
    path = case.write_model(tmp_path)
    np.savez(tmp_path / "x.npz", allow_pickle=False, **case.inputs)
    files = [tmp_path / "raster.npz", tmp_path / "raster.png", tmp_path / "y.npz"]
    options = ["--spikes", files[0], "--plot", files[1], "--output", files[2]]
    answer = bnncc.fine("run", path, *state_options(case), "--input", tmp_path / "x.npz", *options, "--json")
    with np.load(files[0], allow_pickle=False) as raster:
        found = dict(raster)
    expected = graph_spikes(case, path)
    assert found.keys() == expected.keys()
    for layer, array in expected.items():
        np.testing.assert_array_equal(found[layer], array)
    rates = {row["layer"]: row["rate"] for row in answer.json["spikes"]}
    assert rates == {layer: pytest.approx(array.mean()) for layer, array in expected.items()}
    with np.load(files[2], allow_pickle=False) as outputs:
        assert case.differences(dict(outputs)) == []
    assert files[1].read_bytes().startswith(b"\x89PNG")


def test_the_raster_of_an_unrolled_network_is_the_graphs(tmp_path: Path):
    case = load_case(UNROLLED)
    path = case.write_model(tmp_path)
    library = bnncc.compile(path, output=tmp_path / "library", emit=("so",))
    x = case.inputs["x"][:, :1]
    outputs, rasters = spikes.record(library, {"x": x})
    np.testing.assert_array_equal(outputs["rate"], library.run({"x": x})["rate"])
    values = ModelEvaluator(path)({"x": x})
    by_size: dict[int, list[np.ndarray]] = {}
    for node in onnx.load(path).graph.node:
        if node.op_type == "GreaterOrEqual":
            array = values[node.output[0]]
            by_size.setdefault(array.size, []).append(array.astype(np.uint8))
    assert {raster.spikes[0].size for raster in rasters} == set(by_size)
    for raster in rasters:
        expected = np.stack(by_size[raster.spikes[0].size])
        np.testing.assert_array_equal(raster.spikes.reshape(len(expected), -1), expected.reshape(6, -1))


def test_samples_lie_side_by_side(tmp_path: Path):
    case = load_case(STEP)
    library = bnncc.compile(case.write_model(tmp_path), states=states_of_case(case), emit=("so",))
    x = np.concatenate([case.inputs["x"], case.inputs["x"][::-1] * np.float32(0.5)], axis=1)
    _, both = spikes.record(library, {"x": x})
    for sample in range(2):
        _, alone = spikes.record(library, {"x": np.ascontiguousarray(x[:, sample : sample + 1])})
        for one, other in zip(alone, both, strict=True):
            np.testing.assert_array_equal(one.spikes, other.spikes[:, sample : sample + 1])


@pytest.mark.parametrize(
    ("name", "target"), [(STEP, "cortex-m4"), (UNROLLED, "rv32imc"), (STEP, "cortex-a53")]
)
def test_rasters_of_another_processor_are_those_of_this_one(name: str, target: str, tmp_path: Path):
    """Step by step, and with the steps in a loop; under an emulator layers tell their spikes as they run."""
    case = load_case(name)
    path, states = case.write_model(tmp_path), states_of_case(case)
    (first,) = (key for key in case.inputs if key not in states)
    x = case.inputs[first][:3, :1] if states else case.inputs[first][:, :1]
    here = bnncc.compile(path, states=states, target="c", output=tmp_path / "here")
    there = bnncc.compile(path, states=states, target=target, output=tmp_path / "there")
    expected, wanted = spikes.record(here, {first: x})
    outputs, found = spikes.record(there, {first: x})
    assert len(found) == len(wanted) >= 2 and any(raster.spikes.any() for raster in found)
    for one, other in zip(found, wanted, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.spikes, other.spikes)
    for output, array in outputs.items():
        np.testing.assert_allclose(array, expected[output], rtol=1e-4, atol=1e-5)


def test_what_has_no_spikes_is_told(tmp_path: Path, bnncc: Shell):
    case = load_case("digits_bnn_bop_legacy")
    path = case.write_model(tmp_path)
    np.savez(tmp_path / "x.npz", allow_pickle=False, **case.inputs)
    answer = bnncc("run", path, "--input", tmp_path / "x.npz", "--spikes", tmp_path / "raster.npz")
    assert answer.code == 2 and "no layer of spiking neurons" in answer.err


def test_a_missing_matplotlib_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch, bnncc: Shell):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    answer = bnncc("run", "no such model", "--plot", "raster.png")
    assert answer.code == 3 and "pip install 'bnncc[plot]'" in answer.err


def test_reports_count_synaptic_operations(tmp_path: Path, bnncc: Shell):
    case = load_case(STEP)
    path = case.write_model(tmp_path)
    np.savez(tmp_path / "x.npz", allow_pickle=False, x=case.inputs["x"])
    layers = bnncc.fine("inspect", path, *state_options(case), "--json").json["layers"]
    summing = {row["node"]: row for row in layers if row["synaptic_operations"] is not None}
    assert [row["macs"] // 10 for row in summing.values()] == [20480, 256]
    assert not any(row["spikes_measured"] for row in summing.values())
    assert "spikes assumed: --calibrate" in bnncc.fine("inspect", path, *state_options(case)).out
    options = [*state_options(case), "--calibrate", tmp_path / "x.npz"]
    library = tmp_path / "library"
    bnncc.fine("compile", path, "-o", library, *options)
    expected = graph_spikes(case, path)
    wanted = round(204800 * expected["lif1"].mean()), round(2560 * expected["lif2"].mean())
    steps = [s for s in artifact.load(library).manifest["steps"] if "synaptic_operations" in s]
    assert tuple(s["synaptic_operations"] for s in steps) == pytest.approx(wanted, rel=1e-3)
    text = (library / "report.txt").read_text()
    assert f"{sum(wanted):,} synaptic operations for 207,360 MACs of spikes" in text
    assert "counted on samples" in text
    assert "synaptic operations for 207,360 MACs" in (library / "report.html").read_text()
