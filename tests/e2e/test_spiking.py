# SPDX-License-Identifier: Apache-2.0
"""Spiking networks with time inside their graph: recorded ones; the code does not grow with the steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import bnncc
from bnncc import targets
from bnncc.execution.artifact import Artifact, load
from bnncc.frontend.evaluate import ModelEvaluator
from tests.cases import load_case
from tests.e2e.commands import Shell
from tests.models import make_model, write
from tests.spiking import run_samples, wrong_spikes
from tests.turns import in_turn

UNROLLED = [
    "bench_snn_conv_spikingjelly_T20",
    "bench_snn_conv_unrolled_T20",
    "snntorch_unrolled_convleaky_T8_subtract_dynamo",
    "spikingjelly014_if_T6_steps",
    "spikingjelly_lif_T6_stepm_dynamo",
    "torch_bsnn_if_T16_legacy",
    "torch_bsnn_scan_dynamo",
]
WHOLE = {
    "bench_snn_conv_spikingjelly_T20": 20,
    "bench_snn_conv_unrolled_T20": 20,
    "snntorch_unrolled_convleaky_T8_subtract_dynamo": 8,
    "spikingjelly014_if_T6_steps": 6,
    "spikingjelly_lif_T6_stepm_dynamo": 6,
    "torch_bsnn_if_T16_legacy": 16,
}
"""Networks of which first and last steps are in the loop, too; how many steps they have."""

FOLDED = {"bench_snn_conv_spikingjelly_T20", "spikingjelly_lif_T6_stepm_dynamo"}
"""Networks that have time in their batch: layer by layer as they are."""

TARGETS = [name for name in ("native", "x86-64-v3", "c") if targets.load(name).runs_here()]
DIGITS = "digits_snn_lif_direct_T10_legacy"


@pytest.mark.parametrize(("name", "target"), in_turn(UNROLLED, TARGETS))
def test_a_recorded_network_spikes_as_it_did(name: str, target: str, tmp_path: Path):
    case = load_case(name)
    path = case.write_model(tmp_path)
    artifact = bnncc.compile(path, target=target, output=tmp_path / "library")
    outputs = run_samples(artifact, case)
    assert wrong_spikes(case, outputs) == [] and case.differences(outputs) == []
    by_layer = "time" in artifact.manifest["options"]
    assert by_layer == (target != "c" or name in FOLDED)
    assert by_layer or artifact.manifest["loops"], "the steps are a loop"
    if name in WHOLE and by_layer:
        assert f"all {WHOLE[name]} steps" in artifact.manifest["options"]["time"]
    elif name in WHOLE:
        assert {loop["trips"] for loop in artifact.manifest["loops"]} == {WHOLE[name]}, "all steps are in it"


def test_the_digits_network_keeps_its_accuracy(tmp_path: Path, bnncc: Shell):
    case = load_case(DIGITS)
    path = case.write_model(tmp_path)
    outputs = bnncc.run(path, case.inputs, tmp_path)
    assert case.differences(outputs) == []
    assert int((outputs["logits"].argmax(axis=1) == case.extras["labels"]).sum()) == 352


@pytest.mark.parametrize("target", ["cortex-m4", "rv32imc"])
def test_digits_on_a_microcontroller(target: str, tmp_path: Path):
    case = load_case(DIGITS).first(3)
    artifact = bnncc.compile(case.write_model(tmp_path), target=target, output=tmp_path / "library")
    assert case.differences(artifact.run(dict(case.inputs))) == []


@pytest.mark.parametrize("name", [DIGITS, "spikingjelly_lif_T6_stepm_dynamo"])
def test_verify_looks_into_the_loop(name: str, tmp_path: Path, bnncc: Shell):
    report = bnncc.fine("verify", load_case(name).write_model(tmp_path), "--samples", "2", "--json").json
    assert report["passed"] and len(report["layers"]) > 10


def unrolled(steps: int, kind: str = "plain") -> onnx.ModelProto:
    """A convolution and two leaky neurons as snnTorch exports them, `steps` times one after the other.

    kind: near misses of a loop, in the step in the middle, or other ways of writing it."""
    rng = np.random.default_rng(4)
    constants: dict[str, np.ndarray] = {
        "w": rng.normal(size=(4, 2, 3, 3)).astype(np.float32) * 0.5,
        "w2": rng.normal(size=(5, 4 * 36)).astype(np.float32) * 0.1,
        "b2": rng.normal(size=5).astype(np.float32) * 0.1,
        "beta": np.array(0.875, np.float32),
        "one": np.array(1.0, np.float32),
        "shape": np.array([1, -1]),
        "axis": np.array([0]),
    }
    nodes, node, spikes = [], helper.make_node, []
    for t in range(steps):
        odd = t == steps // 2
        constants[f"t{t}"] = np.array(t)
        weight = "w"
        if (kind, t) in (("another first step", 0), ("another last step", steps - 1)):
            weight, constants["other"] = "other", constants["w"] * np.float32(1.5)
        if odd and kind == "another weight":
            weight, constants["other"] = "other", constants["w"] * np.float32(1.5)
        if odd and kind == "another order":
            constants[f"t{t}"] = np.array(t - 1)
        nodes.append(node("Gather", ["x", f"t{t}"], [f"x{t}"], axis=1 if kind == "batch first" else 0))
        nodes.append(node("Conv", [f"x{t}", weight], [f"c{t}"], pads=[1, 1, 1, 1]))
        before = f"m{t - 1}" if not (odd and kind == "two steps back") else f"m{t - 2}"
        if kind == "another start" and t == 0:
            nodes.append(node("Add", ["c0", "half"], ["charged"]))
            constants["half"] = np.array(0.5, np.float32)
        nodes += leaky(t, "charged" if kind == "another start" and t == 0 else f"c{t}", before, "m", "s")
        nodes.append(node("Reshape", [f"s{t}", "shape"], [f"f{t}"]))
        nodes.append(node("Gemm", [f"f{t}", "w2", "b2"], [f"g{t}"], transB=1))
        nodes += leaky(t, f"g{t}", f"n{t - 1}", "n", "z")
        nodes.append(node("Unsqueeze", [f"z{t}", "axis"], [f"u{t}"]))
        spikes.append(f"u{t}")
        if t:
            nodes.append(node("Add", [f"a{t - 1}" if t > 1 else "z0", f"z{t}"], [f"a{t}"]))
    nodes.append(node("Concat", spikes, ["spikes"], axis=0))
    shape = [1, steps, 2, 6, 6] if kind == "batch first" else [steps, 1, 2, 6, 6]
    outputs = ["spikes", f"a{steps - 1}", f"n{steps - 1}"]
    return make_model(nodes, {"x": shape}, outputs, constants)


def leaky(t: int, current: str, before: str, membrane: str, spike: str) -> list[onnx.NodeProto]:
    """beta m + current - [m > 1], the first step without a membrane before it; fires where above 1."""
    node, out = helper.make_node, f"{membrane}{t}"
    label = f"{spike}{t}"
    nodes = [node("Identity", [current], [out])]
    if t:
        nodes = [
            node("Greater", [before, "one"], [f"{label}r"]),
            node("Cast", [f"{label}r"], [f"{label}v"], to=onnx.TensorProto.FLOAT),
            node("Mul", ["beta", before], [f"{label}l"]),
            node("Add", [f"{label}l", current], [f"{label}p"]),
            node("Sub", [f"{label}p", f"{label}v"], [out]),
        ]
    return [
        *nodes,
        node("Greater", [out, "one"], [f"{label}g"]),
        node("Cast", [f"{label}g"], [label], to=onnx.TensorProto.FLOAT),
    ]


def compiled(folder: Path, model: onnx.ModelProto) -> Artifact:
    """With the answers of the graph checked, step by step: spikes exactly. Of two ways to run it, all layers
    step by step."""
    path = write(folder, model)
    check(path, bnncc.compile(path, output=folder / "layers"))
    return check(path, bnncc.compile(path, output=folder / "library", optimize="size"))


def check(path: Path, artifact: Artifact) -> Artifact:
    """The artifact, its answers as the graph's."""
    (port,) = artifact.manifest["inputs"]
    x = (np.random.default_rng(1).random(port["shape"]) < 0.3).astype(np.float32)
    values = ModelEvaluator(path)({"x": x})
    got = artifact.run({"x": x})
    np.testing.assert_array_equal(got["spikes"], values["spikes"])
    assert 0.02 < values["spikes"].mean() < 0.9
    for name in artifact.output_names:
        np.testing.assert_allclose(got[name], values[name], rtol=1e-4, atol=1e-4)
    return artifact


@pytest.mark.parametrize("kind", ["plain", "batch first"])
def test_the_code_does_not_grow_with_the_steps(kind: str, tmp_path: Path):
    sizes = []
    for steps in (20, 40):  # LLVM unrolls loops over fewer.
        folder = tmp_path / str(steps)
        folder.mkdir()
        artifact = compiled(folder, unrolled(steps, kind))
        (loop,) = artifact.manifest["loops"]
        assert loop["trips"] == steps
        by_layer = load(folder / "layers").manifest
        assert "time" in by_layer["options"] and "loops" not in by_layer
        sizes.append((artifact.manifest["code_bytes"], by_layer["code_bytes"]))
    for small, large in zip(*sizes, strict=True):
        assert abs(large / small - 1) <= 0.05, sizes


@pytest.mark.parametrize("kind", ["another first step", "another start", "another last step"])
def test_steps_at_the_ends_that_are_others_stay_outside(kind: str, tmp_path: Path):
    """Near misses of a first step from states of zero, and of a last one."""
    (loop,) = compiled(tmp_path, unrolled(9, kind)).manifest["loops"]
    assert loop["trips"] == 8


WHY_NOT = {
    "another weight": "",  # two loops, of what is before it and behind it
    "another order": "it reads no sequence that goes on by one with every step",
    "two steps back": "it reads something else in another step",
}
"""What reports say of the node that keeps steps from being a loop."""


@pytest.mark.parametrize("kind", WHY_NOT)
def test_what_is_no_loop_stays_as_it_is(kind: str, tmp_path: Path):
    artifact = compiled(tmp_path, unrolled(8, kind))
    longest = max((loop["trips"] for loop in artifact.manifest.get("loops", [])), default=0)
    assert longest < 6, "the step in the middle differs"
    reason = artifact.manifest["options"].get("not rolled into a loop", "")
    assert reason.endswith(WHY_NOT[kind]) and reason.startswith("model.onnx:" if WHY_NOT[kind] else ""), (
        reason
    )


def test_few_steps_stay_as_they_are(tmp_path: Path):
    assert "loops" not in compiled(tmp_path, unrolled(3)).manifest
