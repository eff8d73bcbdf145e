# SPDX-License-Identifier: Apache-2.0
"""Weights and membranes rounded to integers: the very integers that are documented, on every target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from onnx import helper

import bnncc
from bnncc import reference, targets
from bnncc.codegen.text import with_short_names
from bnncc.driver import Options, decisions, lower_model
from bnncc.execution.artifact import Artifact
from bnncc.frontend.camera import CameraInput
from bnncc.passes.quantize_weights import quantized
from tests.cases import load_case
from tests.e2e.commands import Shell
from tests.models import make_model, write
from tests.nir_files import chain, cuba_lif, full, lif
from tests.spiking import state_options, states_of_case
from tests.turns import in_turn

TARGETS = [name for name in ("native", "x86-64-v3", "c") if targets.load(name).runs_here()]
BOARDS = ["cortex-m4", "rv32imc"]
STEP = "snntorch_step_convleaky_legacy"
SPIKES = CameraInput("spikes")
LIMITS = {"int16": 1 << 15, "int32": 1 << 30}
ROOMS = {"int16": 1 << 12, "int32": 1 << 24}


def dense(folder: Path, seed: int = 0, scale: float = 0.2, neuron: nir.NIRNode | None = None) -> Path:
    """40 spikes -> 12 neurons."""
    rng = np.random.default_rng(seed)
    layer = nir.Linear(rng.normal(0, scale, (12, 40)).astype(np.float32))
    return chain(folder, [40], layer, neuron or lif([12], v_leak=0.0), result=[12])


def weight_of(path: Path) -> np.ndarray:
    node: Any = nir.read(path).nodes["n0"]
    return node.weight


def spikes(steps: int, neurons: int, density: float = 0.3, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).random((steps, 1, neurons)) < density).astype(np.float32)


def by_hand(weight: np.ndarray, x: np.ndarray, bits: str, reset: str) -> tuple[np.ndarray, np.ndarray]:
    """The documented steps of LIF in integers, written again: spikes and membranes [T, 12]. tau 2 ms, R 2,
    threshold 0.3, dt 1 ms, v_reset -0.1."""
    decay, gain, threshold, value = 0.5, 1.0, np.float32(0.3), np.float32(-0.1)
    levels, scale = quantized(weight)
    width, limit = int(bits.removeprefix("int")), LIMITS[bits]
    shift = 0
    finest, largest = float((threshold / (gain * scale)).max()), int(np.abs(levels.astype(int)).sum(1).max())
    while max(finest, 1) * 2 ** (shift + 1) <= ROOMS[bits] and largest << shift + 1 < 1 << 30 and shift < 20:
        shift += 1
    unit = gain * scale.astype(np.float64) / 2.0**shift
    level, back = np.rint(threshold / unit), np.rint((value if reset == "value" else 0) / unit)
    v, fired, membranes = np.zeros(12, np.int64), [], []
    for row in x[:, 0]:
        current = (levels.astype(np.int64) @ row.astype(np.int64)) << shift
        current = np.clip(current, -limit, limit - 1)
        total = np.clip(current + v, -limit, limit - 1)
        fraction = round((decay - 1) * 2**width)
        u = total + ((v * fraction + (1 << width - 1)) >> width)
        s = u > level
        v = np.where(s, u - level if reset == "subtract" else back, u).astype(np.int64)
        fired.append(s)
        membranes.append(v)
    return np.array(fired), np.array(membranes)


@pytest.mark.parametrize("reset", ["zero", "value", "subtract"])
@pytest.mark.parametrize("bits", ["int16", "int32"])
@pytest.mark.parametrize("scale", [0.2, 30.0])
def test_membranes_are_the_documented_integers(bits: str, reset: str, scale: float, tmp_path: Path):
    path = dense(tmp_path, scale=scale)
    weight = weight_of(path)
    x = spikes(30, 40)
    options = {"dt": 1e-3, "reset": reset, "quantize_weights": "int8", "membrane": bits, "camera": SPIKES}
    artifact = bnncc.compile(path, emit=("so",), **options)
    expected, membranes = by_hand(weight, x, bits, reset)
    np.testing.assert_array_equal(artifact.run({"input": x})["output"][:, 0] != 0, expected)
    assert 0.02 < expected.mean() < 0.98
    if bits == "int16" and scale > 1:
        assert abs(membranes).max() >= LIMITS["int16"] - 1, "they saturate"


@pytest.mark.parametrize(("bits", "target"), in_turn(["int32", "int16"], TARGETS))
@pytest.mark.parametrize("name", [STEP, "nir_snntorch_conv_leaky", "torch_bsnn_scan_dynamo"])
def test_a_recorded_network_gives_the_references_integers(name: str, bits: str, target: str, tmp_path: Path):
    case = load_case(name)
    path = case.write_model(tmp_path)
    options = Options(
        states=states_of_case(case),
        preset="snntorch" if path.suffix == ".nir" else None,
        quantize_weights="int8",
        membrane=bits,
        target=target,
    )
    module = lower_model(path, options).module
    artifact = bnncc.compile(
        path, **{key: value for key, value in vars(options).items() if key not in ("name", "dims")}
    )
    if artifact.is_stateful:
        inputs = {n: a[:6, :1] for n, a in case.inputs.items() if n in artifact.input_names}
        expected = reference.evaluate_steps(module, inputs)
    else:
        inputs = {n: a[:1] for n, a in case.inputs.items()}
        expected = reference.evaluate(module, inputs)
    if name == "torch_bsnn_scan_dynamo":
        # What a loop collects is read by a convolution with a halo: in other memory than it was collected in.
        assert ("time" in artifact.manifest["options"]) == (target != "c"), "layer by layer"
    outputs = artifact.run(inputs)
    for port in artifact.manifest["outputs"]:
        got, wanted = outputs[port["name"]], expected[port["name"]]
        if got.dtype.kind == "i":
            # Currents that are real may be summed in another order: one unit.
            assert np.abs(got.astype(np.int64) - wanted).max() <= 1
        elif (wanted == np.rint(wanted)).all():
            np.testing.assert_array_equal(got, wanted)
        else:
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", BOARDS)
@pytest.mark.parametrize("bits", ["int16", "int32"])
def test_integers_on_a_microcontroller(bits: str, target: str, tmp_path: Path):
    path = dense(tmp_path)
    x = spikes(10, 40)
    options = {
        "dt": 1e-3,
        "reset": "subtract",
        "quantize_weights": "int8",
        "membrane": bits,
        "camera": SPIKES,
    }
    artifact = bnncc.compile(path, target=target, output=tmp_path / "library", **options)
    expected, _ = by_hand(weight_of(path), x, bits, "subtract")
    np.testing.assert_array_equal(artifact.run({"input": x})["output"][:, 0] != 0, expected)


@pytest.mark.parametrize("bits", ["int16", "int32"])
@pytest.mark.parametrize(
    "neuron",
    [
        nir.IF(full([12], 300.0), full([12], 0.3), full([12], 0.0)),
        cuba_lif([12]),
        nir.LI(full([12], 4e-3), full([12], 1.0), full([12], 0.05)),
    ],
    ids=["if", "cuba_lif", "li"],
)
def test_other_neurons_stay_near(neuron: nir.NIRNode, bits: str, tmp_path: Path, bnncc: Shell):
    path = dense(tmp_path, neuron=neuron)
    options = ("--dt", "1e-3", "--quantize-weights", "int8", "--membrane", bits, "--input-type", "spikes")
    report = bnncc.fine("verify", path, *options, "--samples", "2", "--json").json
    assert report["passed"] and "against the network of the file" in report["note"]
    shown = bnncc.fine("inspect", path, *options).out
    assert "membranes kept as float32" not in shown
    x = spikes(20, 40)
    exact, rounded = (run(path, x, quantize_weights="int8", membrane=kind) for kind in ("float", bits))
    if isinstance(neuron, nir.LI):
        np.testing.assert_allclose(rounded, exact, atol=0.02 * np.abs(exact).max())
    else:
        assert (rounded == exact).mean() > 0.97 and exact.mean() > 0.05


def run(path: Path, x: np.ndarray, **options: Any) -> np.ndarray:
    """The output [T, 1, 12]."""
    return bnncc.compile(path, emit=("so",), dt=1e-3, camera=SPIKES, **options).run({"input": x})["output"]


def test_what_changes_is_told(tmp_path: Path, bnncc: Shell):
    case = load_case("digits_snn_lif_direct_T10_legacy")
    path = case.write_model(tmp_path)
    few = {"x": case.inputs["x"][:60], "labels": case.extras["labels"][:60]}
    np.savez(tmp_path / "samples.npz", allow_pickle=False, **few)
    library = tmp_path / "library"
    options = ("--quantize-weights", "int8", "--calibrate", tmp_path / "samples.npz")
    bnncc.fine("compile", path, *options, "-o", library)
    report = (library / "report.txt").read_text()
    assert "quantize-weights: int8" in report and "of 60 labels right" in report
    assert "decisions to spike are the same" in report and "spike x i8" in report
    with np.load(tmp_path / "samples.npz") as samples:
        logits = Artifact(library).run({"x": samples["x"]})["logits"]
        right = int((logits.argmax(axis=1) == samples["labels"]).sum())
    assert f"{right} of 60 labels right" in report and right >= 55


def test_weights_are_smaller_and_near(tmp_path: Path):
    case = load_case(STEP)
    path, states = case.write_model(tmp_path), states_of_case(case)
    sizes = [
        bnncc.compile(path, states=states, quantize_weights=kind).manifest["weights_bytes"]
        for kind in (None, "int8")
    ]
    assert sizes[1] < 0.55 * sizes[0]
    weight = np.random.default_rng(0).normal(size=(5, 3, 3, 2)).astype(np.float32)
    weight[2] = 0
    levels, scale = quantized(weight)
    assert levels.dtype == np.int8 and np.abs(levels).max() == 127 and not levels[2].any()
    assert np.abs(levels * scale.reshape(5, 1, 1, 1) - weight).max() <= scale.max() * 0.5001


def test_a_neuron_that_is_no_leaky_one_keeps_its_arithmetic(tmp_path: Path, bnncc: Shell):
    path = dense(tmp_path, neuron=lif([12], v_leak=0.0))
    options = ("--dt", "1e-3", "--membrane", "int32", "--reset", "multi")
    shown = bnncc.fine("inspect", path, *options).out
    assert "membranes kept as float32" in shown
    assert bnncc("inspect", path, "--dt", "1e-3", "--membrane", "int8").code == 2


def test_states_are_integers_with_their_unit(tmp_path: Path, bnncc: Shell):
    case = load_case(STEP)
    path = case.write_model(tmp_path)
    bnncc.fine("compile", path, "-o", tmp_path / "lib", *state_options(case), "--membrane", "int16")
    artifact = Artifact(tmp_path / "lib")
    assert {port["dtype"] for port in artifact.manifest["states"]} == {"int16"}
    assert "int16_t" in (tmp_path / "lib" / "model.h").read_text()


def kernels_of(artifact: Artifact, source: str, operation: str) -> dict[str, str]:
    """The C text of the kernels of layers with binary weights, by layer."""
    bodies = {}
    for step in artifact.manifest["steps"]:
        if step["domains"].endswith("x bipolar") and operation in step["operation"]:
            name = with_short_names(f"{artifact.name}_{step['kernel']}", artifact.name, [step["kernel"]])
            start = source.index(f"static void {name}(")
            bodies[step["location"]] = source[start : source.index("\n}\n", start)]
    return bodies


def test_hidden_layers_of_a_binary_spiking_network_have_no_float(tmp_path: Path):
    case = load_case("torch_bsnn_scan_dynamo")
    path = case.write_model(tmp_path)
    texts = {}
    for membrane in ("float", "int32"):
        folder = tmp_path / membrane
        artifact = bnncc.compile(path, output=folder, target="c", membrane=membrane, emit=("so", "c"))
        texts[membrane] = kernels_of(artifact, (folder / "model.c").read_text(), "if, subtract")
        x = {name: array[:1] for name, array in case.inputs.items()}
        np.testing.assert_allclose(artifact.run(x)["acc"], case.outputs["acc"][:1], rtol=1e-4, atol=1e-4)
    assert len(texts["int32"]) >= 2
    for body in texts["int32"].values():
        assert "float" not in body and "popcount" in body
    assert any("float" in body for body in texts["float"].values()), "negative control"


def test_hidden_layers_of_activations_zero_and_one_have_no_float(tmp_path: Path):
    case = load_case("torch_bann_vgg16_hoyer_cw_binw_where_legacy")
    path = case.write_model(tmp_path)
    artifact = bnncc.compile(path, output=tmp_path / "library", target="c", emit=("so", "c"))
    bodies = kernels_of(artifact, (tmp_path / "library" / "model.c").read_text(), "conv2d")
    assert len(bodies) >= 5
    for body in bodies.values():
        assert "float" not in body and "popcount" in body


@pytest.mark.parametrize(
    "option,about", [("membrane", "membranes kept as int16"), ("quantize_weights", "weights")]
)
def test_options_of_spiking_networks_say_so_elsewhere(option: str, about: str, tmp_path: Path):
    """A network of signs: no spikes, no membranes. A spiking network, the near miss, is told nothing."""
    path = write(tmp_path, make_model([helper.make_node("Sign", ["x"], ["y"])], {"x": [1, 4]}, ["y"], {}))
    chosen: dict[str, Any] = {option: "int16" if option == "membrane" else "int8"}
    told = [f"{k}: {v}" for k, v in decisions(lower_model(path, Options(**chosen))).items()]
    assert len(told) == 1 and told[0].startswith(about) and f"--{option.replace('_', '-')} changes" in told[0]
    near = lower_model(dense(tmp_path), Options(**chosen, dt=1e-3, camera=SPIKES))
    assert not any("changes nothing" in text for text in decisions(near).values())


def test_a_step_is_told_of_the_states_it_could_keep(tmp_path: Path):
    case = load_case(STEP)
    path, states = case.write_model(tmp_path), states_of_case(case)
    pairs = " ".join(f"--state {before}={after}" for before, after in sorted(states.items()))
    told = decisions(lower_model(path, Options()))["membranes handed in and out"]
    assert told == f"the library would keep them with {pairs}"
    assert not decisions(lower_model(path, Options(states=states)))
