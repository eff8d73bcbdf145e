# SPDX-License-Identifier: Apache-2.0
"""Real networks through `bnncc compile` and `bnncc run`: the answers of the frameworks that made them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bnncc import targets
from tests.cases import Case, case_names, load_case
from tests.e2e.commands import Shell

BINARY_LAYERS = {
    "brevitas_cnv_1w1a_qonnx_dynamo": 9,  # the first one sees 8-bit pixels
    "brevitas_cnv_1w1a_stdonnx_legacy": 9,
    "brevitas_lfc_1w1a_qonnx_legacy": 4,
    "brevitas_tfc_1w2a_qonnx_legacy": 4,
    "digits_bnn_bop_legacy": 3,
    "digits_bnn_twostep_adam_dynamo": 3,
    "larq_binarynet_cifar": 8,
    "larq_bireal_block_stesign_onepad": 3,
    "larq_quicknet_blocks": 3,
    "larq_quicknet_full": 16,
    "larq_quicknetsmall_full": 16,
    "larq_signzero_exact": 4,
    "larq_zoo_birealnet_64px": 16,
    "qonnx_zoo_TFC_1W1A": 4,
    "qonnx_zoo_TFC_1W2A": 4,
    "qonnx_zoo_TFC_2W2A": 4,
    "torch_bann_vgg16_hoyer_cw_binw_where_legacy": 12,  # its classifier has real weights
    "torch_binarize_idioms_zeros_legacy": 9,
    "torch_birealnet18_w16_legacy": 16,
    "torch_reactnet_block_legacy": 5,
    "torch_reactnet_block_ste_dynamo": 5,
    "torch_signzero_trap_legacy": 3,
    "torch_xnornet_kmap_legacy": 3,  # its three K-maps are convolutions of real values
}
"""How many layers of each network run on integers: activations and weights of few bits, most of them one."""

DOMAINS = {
    "brevitas_cnv_1w1a_qonnx_dynamo": {"s8 x bipolar", "bipolar x bipolar"},
    "brevitas_cnv_1w1a_stdonnx_legacy": {"s8 x bipolar", "bipolar x bipolar"},
    "brevitas_tfc_1w2a_qonnx_legacy": {"s2 x bipolar"},
    "qonnx_zoo_TFC_1W2A": {"s2 x bipolar"},
    "qonnx_zoo_TFC_2W2A": {"s2 x ternary"},
    "torch_bann_vgg16_hoyer_cw_binw_where_legacy": {"spike x bipolar"},
    "torch_binarize_idioms_zeros_legacy": {"bipolar x bipolar", "s2 x bipolar"},
}
"""What these layers are, where they are not all bipolar x bipolar."""

CASES = case_names(*BINARY_LAYERS)
DIGITS = case_names("digits_bnn_*")
TARGETS = [name for name in ("native", "x86-64-v3", "c") if targets.load(name).runs_here()]

SIBLINGS = {
    "brevitas_cnv_1w1a_stdonnx_legacy": "brevitas_cnv_1w1a_qonnx_dynamo",
    "larq_quicknet_full": "larq_quicknetsmall_full",
    "torch_birealnet18_w16_legacy": "larq_zoo_birealnet_64px",
    "torch_reactnet_block_legacy": "torch_reactnet_block_ste_dynamo",
}
"""Networks of the layers of another one: only in the slow tests for processors other than this machine's."""


def ways() -> list:
    """Every network on every target."""
    return [
        pytest.param(
            name, target, marks=[pytest.mark.slow] if name in SIBLINGS and target != "native" else []
        )
        for target in TARGETS
        for name in CASES
    ]


@pytest.mark.parametrize(("name", "target"), ways())
def test_a_network_answers_as_its_framework_did(name: str, target: str, tmp_path: Path, bnncc: Shell):
    case = load_case(name)
    bnncc.fine("compile", case.write_model(tmp_path), "-o", tmp_path / "library", "--target", target)
    outputs = bnncc.run(tmp_path / "library", case.inputs, tmp_path)
    assert case.differences(outputs) == []
    if name in DIGITS:
        assert correct_answers(case, outputs) == case.meta["n_correct"]
    check_binary_layers(name, json.loads((tmp_path / "library" / "report.json").read_text())["layers"])


@pytest.mark.parametrize(("name", "correct"), [("bop_legacy", 354), ("twostep_adam_dynamo", 357)])
def test_the_digits_networks_were_recorded_with_their_published_accuracy(name: str, correct: int):
    case = load_case(f"digits_bnn_{name}")
    assert correct_answers(case, case.outputs) == case.meta["n_correct"] == correct
    assert len(case.extras["labels"]) == 360


def check_binary_layers(name: str, layers: list[dict]) -> list[dict]:
    """Those of a report or of `inspect`: all that there should be."""
    binary = [layer for layer in layers if layer["domains"] and "f32" not in layer["domains"]]
    assert len(binary) == BINARY_LAYERS[name], layers
    assert {layer["domains"] for layer in binary} == DOMAINS.get(name, {"bipolar x bipolar"})
    assert all(layer["macs"] > 0 for layer in binary)
    return binary


@pytest.mark.parametrize("name", ["digits_bnn_bop_legacy", "torch_binarize_idioms_zeros_legacy"])
def test_inspect_shows_every_binary_layer(name: str, tmp_path: Path, bnncc: Shell):
    path = load_case(name).write_model(tmp_path)
    binary = check_binary_layers(name, bnncc.fine("inspect", path, "--json").json["layers"])
    assert all(layer["node"].startswith(f"{path.name}:") for layer in binary)


def test_every_layer_of_a_whole_quicknet_agrees(tmp_path: Path, bnncc: Shell):
    """Its recorded answers allow for anything, as no sample was found that rounding leaves alone: so each
    layer is compared, on the recorded image."""
    case = load_case("larq_quicknet_full")
    np.savez(tmp_path / "inputs.npz", allow_pickle=False, **case.inputs)
    path = case.write_model(tmp_path)
    report = bnncc.fine("verify", path, "--input", tmp_path / "inputs.npz", "--json").json
    assert report["passed"] and report["samples"] == 1
    assert sum(row["operation"].startswith("conv2d") for row in report["layers"]) > 20


def test_a_wrong_weight_is_noticed(tmp_path: Path, bnncc: Shell):
    """The tolerance has teeth: one output channel of one binary layer with its signs flipped shows."""
    case = load_case("digits_bnn_bop_legacy")
    model = onnx.load_model_from_string(case.model)
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4]
    array = numpy_helper.to_array(weights[1]).copy()
    array[0] *= -1
    weights[1].CopyFrom(numpy_helper.from_array(array, weights[1].name))
    onnx.save(model, tmp_path / "model.onnx")
    bnncc.fine("compile", tmp_path / "model.onnx", "-o", tmp_path / "library")
    assert case.differences(bnncc.run(tmp_path / "library", case.inputs, tmp_path)) != []


def test_a_model_runs_without_a_directory(tmp_path: Path, bnncc: Shell):
    case = load_case("larq_signzero_exact")
    assert case.differences(bnncc.run(case.write_model(tmp_path), case.inputs, tmp_path)) == []


def test_the_installed_command_compiles_and_runs(tmp_path: Path):
    """In a process of its own, from another directory, as a user does."""
    case = load_case("digits_bnn_bop_legacy")
    case.write_model(tmp_path)
    np.save(tmp_path / "x.npy", case.inputs["x"])
    for arguments in (
        ("compile", "model.onnx", "-o", "library"),
        ("run", "library", "--input", "x=x.npy", "--output", "out.npz"),
    ):
        command = [sys.executable, "-m", "bnncc", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    with np.load(tmp_path / "out.npz") as outputs:
        assert correct_answers(case, outputs) == 354


def test_the_artifact_holds_what_it_promises(tmp_path: Path, bnncc: Shell):
    path = load_case("larq_signzero_exact").write_model(tmp_path)
    bnncc.fine("compile", path, "-o", tmp_path / "build", "--name", "signs", "--emit", "lib,so,c")
    written = {entry.name for entry in (tmp_path / "build").iterdir()}
    assert {
        "libsigns.a",
        "libsigns.so",
        "signs.h",
        "manifest.json",
        "report.txt",
        "report.json",
        "report.html",
    } <= written
    assert any(name.endswith(".c") for name in written)


def correct_answers(case: Case, outputs) -> int:
    """How many samples the largest score is right about."""
    scores = outputs[next(iter(case.outputs))]
    return int((scores.argmax(axis=1) == case.extras["labels"]).sum())
