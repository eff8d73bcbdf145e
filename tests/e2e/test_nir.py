# SPDX-License-Identifier: Apache-2.0
"""NIR networks through `bnncc compile`, `run`, `verify` and Python: recorded ones, and ones of every node."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import bnncc
from bnncc import targets
from bnncc.diagnostics import BnnccError
from bnncc.frontend.nir.discretization import TimeOptions
from bnncc.frontend.nir.evaluate import NirEvaluator
from tests.cases import case_names, load_case
from tests.e2e.commands import Shell
from tests.nir_files import affine, chain, conv2d, cuba_lif, full, lif, port, spikes, vector, write
from tests.turns import in_turn

F = np.float32
CASES = case_names("nir_*")
TARGETS = [name for name in ("native", "x86-64-v3", "c") if targets.load(name).runs_here()]
BOARD = "nir_norse_fc_lifbox"
DT = 1e-3


@pytest.mark.parametrize(("name", "target"), in_turn(CASES, TARGETS))
def test_a_recorded_network_fires_as_its_framework_did(name: str, target: str, tmp_path: Path, bnncc: Shell):
    case = load_case(name)
    options = ("--dt", str(case.meta["dt"]), "--target", target)
    bnncc.fine("compile", case.write_model(tmp_path), "-o", tmp_path / "library", *options)
    x = {name: array.astype(F) for name, array in case.inputs.items()}
    outputs = bnncc.run(tmp_path / "library", x, tmp_path)
    assert set(outputs) == {"output"}
    np.testing.assert_array_equal(outputs["output"], case.outputs["output"])


def test_a_recorded_network_fires_on_a_cortex_m4(tmp_path: Path, bnncc: Shell):
    case = load_case(BOARD)
    options = ("--dt", str(case.meta["dt"]), "--target", "cortex-m4")
    bnncc.fine("compile", case.write_model(tmp_path), "-o", tmp_path / "library", *options)
    outputs = bnncc.run(tmp_path / "library", dict(case.inputs), tmp_path)
    np.testing.assert_array_equal(outputs["output"], case.outputs["output"])


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("cnn_sinabs")])
def test_the_preset_of_sinabs_fires_as_sinabs_does(name: str, tmp_path: Path):
    case = load_case(name)
    artifact = bnncc.compile(case.write_model(tmp_path), preset="sinabs")
    outputs = artifact.run({"input": case.inputs["input"].astype(F)})
    np.testing.assert_array_equal(outputs["output"], case.extras["alt_sinabs_from_nir"])


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("noBias_subtract")])
def test_the_preset_of_snntorch_subtracts_as_snntorch_does(name: str, tmp_path: Path):
    """A membrane that is still above the threshold after its reset counts less in the next step; a negative
    control: without that it fires otherwise."""
    case = load_case(name)
    path = case.write_model(tmp_path)
    x = {"input": case.inputs["input"].astype(F)}
    artifact = bnncc.compile(path, preset="snntorch", reset="subtract", output=tmp_path / "snntorch")
    recorded = case.extras["alt_snntorch_reset_subtract"]
    np.testing.assert_array_equal(artifact.run(x)["output"], recorded)
    plain = bnncc.compile(path, dt=case.meta["dt"], reset="subtract", output=tmp_path / "plain")
    assert (plain.run(x)["output"] != recorded).any()


def everything(folder: Path) -> Path:
    """Every type of node in one network: an image, a sequence and a vector go in."""
    rng = np.random.default_rng(3)
    inner = nir.NIRGraph(
        {
            "input": port(nir.Input, [4]),
            "lif": cuba_lif([4]),
            "rec": affine(rng, 4, 4),
            "output": port(nir.Output, [4]),
        },
        [("input", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "output")],
        type_check=False,
    )
    weight = (np.rint(rng.normal(0, 1, (3, 2, 3)) * 16) / 16).astype(F)
    nodes = {
        "image": port(nir.Input, [2, 8, 8]),
        "sequence": port(nir.Input, [2, 12]),
        "vector": port(nir.Input, [4]),
        "conv": conv2d(rng, 4, 2, (8, 8)),
        "if": nir.IF(r=full([4, 8, 8], 1 / DT), v_threshold=full([4, 8, 8], 0.75)),
        "sum": nir.SumPool2d(*(np.array([size, size]) for size in (2, 2, 0))),
        "scale": nir.Scale(np.broadcast_to(vector(0.5, 1, 0.25, 2)[:, None, None], (4, 4, 4)).copy()),
        "mean": nir.AvgPool2d(*(np.array([size, size]) for size in (2, 2, 0))),
        "flat": nir.Flatten({"input": np.array([4, 2, 2])}, 0, -1),
        "fc": affine(rng, 4, 16, 4.0),
        "conv1": nir.Conv1d(12, weight, 2, 1, 1, 1, vector(0.125, 0.25, 0)),
        "lif1": lif([3, 6]),
        "flat1": nir.Flatten({"input": np.array([3, 6])}, 0, -1),
        "fc1": nir.Linear(affine(rng, 4, 18, 4.0).weight),
        "delay": nir.Delay(vector(0, DT, 2 * DT, 3 * DT)),
        "threshold": nir.Threshold(vector(0.25, 0.5, 0.25, 0.5)),
        "block": inner,
        "i": nir.I(full([4], 100.0)),
        "li": nir.LI(full([4], 4e-3), full([4], 1.0), full([4], 0.1)),
        "cuba": nir.CubaLI(*(full([4], value) for value in (4e-3, 2e-3, 1.0, 0.0, 2.0))),
        "spikes": port(nir.Output, [4]),
        "images": port(nir.Output, [4, 4, 4]),
        "readout": port(nir.Output, [4]),
    }
    paths = [
        ["image", "conv", "if", "sum", "scale", "mean", "flat", "fc", "block"],
        ["scale", "images"],
        ["sequence", "conv1", "lif1", "flat1", "fc1", "block"],
        ["vector", "threshold", "delay", "block"],
        ["block", "spikes"],
        ["block", "i", "readout"],
        ["block", "li", "readout"],
        ["block", "cuba", "readout"],
    ]
    return write(folder, nodes, [edge for path in paths for edge in pairwise(path)])


INPUTS = {"image": [2, 8, 8], "sequence": [2, 12], "vector": [4]}


@pytest.mark.parametrize(
    ("options", "target"),
    [
        *(({}, target) for target in TARGETS),
        ({"reset": "subtract", "integrator": "exp", "current": "old"}, "native"),
        ({"reset": "multi", "v_min": -0.25}, "native"),
        ({"reset": "subtract", "preset": "snntorch"}, "native"),
    ],
)
def test_every_node_in_one_network(options: dict[str, Any], target: str, tmp_path: Path):
    """Two samples of ten steps, each from rest; then the same step by step."""
    path = everything(tmp_path)
    rng = np.random.default_rng(8)
    x = {
        name: np.concatenate([spikes(rng, 10, shape, 0.5) for _ in "ab"], 1) for name, shape in INPUTS.items()
    }
    artifact = bnncc.compile(path, dt=DT, target=target, **options)
    assert artifact.input_names == tuple(INPUTS) and artifact.output_names == ("images", "readout", "spikes")
    outputs = artifact.run(x)
    for sample in range(2):
        given = {name: array[:, sample : sample + 1] for name, array in x.items()}
        expected = NirEvaluator(path, TimeOptions(dt=DT, **options)).run(given)
        artifact.reset()
        for t in range(10):
            step = artifact.step({name: array[t] for name, array in given.items()})
            np.testing.assert_array_equal(step["spikes"], outputs["spikes"][t, sample : sample + 1])
        np.testing.assert_array_equal(outputs["spikes"][:, sample], expected["spikes"][:, 0])
        np.testing.assert_array_equal(outputs["images"][:, sample], expected["images"][:, 0])
        np.testing.assert_allclose(
            outputs["readout"][:, sample], expected["readout"][:, 0], rtol=1e-5, atol=1e-6
        )
    assert outputs["spikes"].mean() > 0 and outputs["images"].any()


def test_verify_compares_every_layer_with_the_graph(tmp_path: Path, bnncc: Shell):
    report = bnncc.fine("verify", everything(tmp_path), "--dt", str(DT), "--samples", "1", "--json").json
    assert report["passed"]
    layers = {row["layer"] for row in report["layers"] if row["against"] == "nir"}
    assert {"model.nir:conv", "model.nir:if", "model.nir:block.lif", "model.nir:li"} <= layers
    assert {row["layer"] for row in report["outputs"]} == {"spikes", "images", "readout"}


def test_verify_notices_a_wrong_weight(tmp_path: Path, bnncc: Shell, monkeypatch: pytest.MonkeyPatch):
    """A negative control: the graph that is compared with has one other bias."""
    path = chain(tmp_path, [4], affine(np.random.default_rng(1), 4, 4, 2.0), lif([4]))
    assert bnncc("verify", path, "--dt", str(DT)).code == 0
    original = NirEvaluator.__init__

    def other(self: NirEvaluator, *arguments, **keywords) -> None:
        original(self, *arguments, **keywords)
        self.network.graph.nodes["n0"].arrays["bias"][0] += 0.5

    monkeypatch.setattr(NirEvaluator, "__init__", other)
    answer = bnncc("verify", path, "--dt", str(DT))
    assert answer.code == 1 and "FAIL" in answer.out


def test_the_reports_say_what_was_decided(tmp_path: Path, bnncc: Shell):
    path = everything(tmp_path)
    output = tmp_path / "library"
    bnncc.fine("compile", path, "-o", output, "--dt", str(DT))
    text = (output / "report.txt").read_text()
    for line in (
        "dt: 0.001",
        "integrator: euler",
        "fire: v > threshold",
        "reset: value (v = v_reset of the file)",
        "current: new",
        "edge 'block.lif' to 'block.rec': one step late",
    ):
        assert line in text, text
    facts = json.loads((output / "report.json").read_text())["options"]
    assert facts["dt"] == "0.001" and facts["reset"].startswith("value")
    assert "edge 'block.lif' to 'block.rec'" in facts
    assert "integrator=euler" in (output / "model.h").read_text()
    shown = bnncc.fine("inspect", path, "--dt", str(DT)).out
    assert "lif, value, >" in shown and "one step late" in shown
    asked = bnncc.fine("inspect", path, "--dt", str(DT), "--json").json
    assert asked["decisions"]["dt"] == "0.001"


def test_the_python_interface_takes_the_same_options(tmp_path: Path):
    path = chain(tmp_path, [4], lif([4]))
    x = {"input": np.random.default_rng(0).normal(0.5, 1, (20, 3, 4)).astype(F)}
    options: dict[str, Any] = {
        "dt": DT,
        "reset": "subtract",
        "integrator": "exp",
        "current": "old",
        "v_min": "threshold",
    }
    got = bnncc.compile(path, **options).run(x)["output"]
    assert got.shape == (20, 3, 4)
    for sample in range(3):
        one = NirEvaluator(path, TimeOptions(**options)).run({"input": x["input"][:, sample : sample + 1]})
        np.testing.assert_array_equal(got[:, sample], one["output"][:, 0])
    with pytest.raises(BnnccError, match="--dt"):
        bnncc.compile(path)
    with pytest.raises(BnnccError, match="did you mean 'subtract'"):
        bnncc.compile(path, dt=DT, reset="substract")
    for dt in ("1e-3", 10**400):
        with pytest.raises(BnnccError, match="no positive number"):
            bnncc.compile(path, dt=dt)


def test_the_files_name_or_its_bytes_say_that_it_is_nir(tmp_path: Path):
    path = chain(tmp_path, [2], lif([2]))
    for name in ("net.h5", "net.hdf5", "net.NIR", "net"):
        copy = tmp_path / name
        copy.write_bytes(path.read_bytes())
        artifact = bnncc.compile(copy, dt=DT, output=tmp_path / f"library {name}")
        assert artifact.name in ("net", "net_NIR")


def test_delays_and_loops_keep_their_order_in_memory(tmp_path: Path):
    """Slots of a delay move on in place, and a loop reads what another state is about to overwrite."""
    nodes = {
        "input": port(nir.Input, [3]),
        "delay": nir.Delay(full([3], 5 * DT)),
        "a": nir.IF(full([3], 1 / DT), full([3], 1.0)),
        "b": nir.IF(full([3], 1 / DT), full([3], 1.0)),
        "output": port(nir.Output, [3]),
    }
    edges = [("input", "delay"), ("delay", "a"), ("a", "b"), ("b", "a"), ("a", "a"), ("b", "output")]
    path = write(tmp_path, nodes, edges)
    x = np.random.default_rng(2).integers(0, 3, (40, 1, 3)).astype(F) / 2
    expected = NirEvaluator(path, TimeOptions(dt=DT)).run({"input": x})["output"]
    assert expected.any() and not expected[:5].any()
    np.testing.assert_array_equal(bnncc.compile(path, dt=DT).run({"input": x})["output"], expected)


@pytest.mark.parametrize(
    "node",
    [
        None,
        nir.Threshold(vector(0.1, 0.2, 0.3)),
        nir.Scale(vector(2, 3, 4)),
        nir.Linear(np.eye(3, dtype=F) * 2),
    ],
)
def test_a_network_without_states_runs_over_sequences_too(node: nir.NIRNode | None, tmp_path: Path):
    path = chain(tmp_path, [3], *([] if node is None else [node]))
    x = np.random.default_rng(6).normal(0, 1, (5, 2, 3)).astype(F)
    artifact = bnncc.compile(path, dt=DT)
    got = artifact.run({"input": x})["output"]
    for sample in range(2):
        one = NirEvaluator(path, TimeOptions(dt=DT)).run({"input": x[:, sample : sample + 1]})["output"]
        np.testing.assert_array_equal(got[:, sample], one[:, 0])
    np.testing.assert_array_equal(artifact.step({"input": x[0, :1]})["output"], got[0, :1])
