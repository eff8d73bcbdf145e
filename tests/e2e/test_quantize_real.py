# SPDX-License-Identifier: Apache-2.0
"""--quantize-real int8: real layers become sums of bytes, and what that changes is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import helper

import bnncc
from bnncc import calibrate, driver, targets, verify
from bnncc.diagnostics import BnnccError
from bnncc.driver import Options, decisions, lower_model
from bnncc.plan import byte_costs
from tests.e2e.commands import Shell
from tests.models import make_model, write
from tests.quantized import images, real_network

node = helper.make_node


def samples(count: int = 12) -> dict[str, np.ndarray]:
    """Of `real_network`."""
    return {"x": np.concatenate([batch["x"] for batch in images(count, 3)])}


def rounded(given: dict[str, np.ndarray], target: str = "native") -> Options:
    """Options of a network all of whose real layers are quantised, faster or not."""
    return Options(target=target, quantize_real="int8", calibrate=given, optimize="size")


def domains(path: Path, options: Options) -> list[str]:
    """Of the contractions."""
    return [step.domains for step in lower_model(path, options).program.steps if step.domains]


def mixed_network(folder: Path, binary_only: bool = False) -> Path:
    """A real stem, a binary convolution, a real classifier; or signs of the input in front of the second."""
    rng = np.random.default_rng(8)
    constants = {
        "w0": rng.standard_normal((32, 3, 3, 3)),
        "w1": rng.choice([-1.0, 1.0], (16, 3 if binary_only else 32, 3, 3)),
        "w2": rng.standard_normal((10, 16)),
    }
    stem = node("Conv", ["x", "w0"], ["a"], "stem", pads=[1, 1, 1, 1])
    middle = [
        node("Sign", ["x" if binary_only else "a"], ["s"], "sign"),
        node("Conv", ["s", "w1"], ["c"], "binary"),
    ]
    last = [node("GlobalAveragePool", ["c"], ["g"], "mean"), node("Flatten", ["g"], ["f"], "flatten")]
    dense = node("MatMul", ["f", "w2t"], ["y"], "classes")
    numbers = {name: array.astype(np.float32) for name, array in constants.items()}
    numbers["w2t"] = np.ascontiguousarray(numbers.pop("w2").T)
    nodes = [*middle] if binary_only else [stem, *middle, *last, dense]
    output = "c" if binary_only else "y"
    return write(folder, make_model(nodes, {"x": [1, 3, 12, 11]}, [output], numbers))


@pytest.mark.parametrize("target", ["native", "x86-64-v3", "c"])
def test_the_library_computes_the_very_integers(target: str, tmp_path: Path) -> None:
    path, given = real_network(tmp_path), samples()
    report = verify.verify_model(path, rounded(given, target), samples=2)
    assert report.passed, report.render()
    assert all(row.differing == 0 for row in (*report.rows, *report.outputs))
    assert "against the network of the file" in report.note
    assert [text.endswith("x s8") for text in domains(path, rounded(given, target))].count(True) == 5


def test_answers_change_little_and_it_is_told(tmp_path: Path) -> None:
    path, given = real_network(tmp_path), samples()
    exact = driver.compile_model(path, None, Options()).run({"x": given["x"]})["y"]
    labels = exact.argmax(axis=1)
    artifact = bnncc.compile(path, quantize_real="int8", calibrate={**given, "labels": labels})
    (y,) = artifact.run({"x": given["x"]}).values()
    assert 0 < np.abs(y - exact).max() < 0.05 * np.abs(exact).max()
    same = int((y.argmax(axis=1) == labels).sum())
    told = artifact.manifest["options"]["accuracy"]
    assert f"{same} of 12 answers have the same label" in told
    assert f"{same} of 12 labels right, 12 before" in told
    report = verify.verify_model(path, rounded(given), {"x": given["x"], "labels": labels})
    assert f"{same} of 12 labels right, 12 before" in report.note


def test_layers_of_binary_inputs_stay_binary(tmp_path: Path) -> None:
    path, given = mixed_network(tmp_path), samples()
    found = domains(path, rounded(given))
    assert [text.split(" x ")[1] for text in found] == ["s8", "bipolar", "s8"]
    assert domains(path, Options()) == ["f32 x f32", "bipolar x bipolar", "f32 x f32"]


def test_layers_that_bytes_make_no_faster_stay_real(tmp_path: Path) -> None:
    path, given = real_network(tmp_path), samples()
    fast = replace(rounded(given, "x86-64-v3"), optimize=None)
    told = decisions(lower_model(path, fast))["quantized to int8"]
    assert told.startswith("4 of 5 real layers; ")
    assert "stem stays in float32: bytes would take 0.97 of the time in a stem layer" in told
    for target in ("cortex-m55", "rv64gcv"):
        assert byte_costs.shares(targets.load(target)), "measured, not taken for granted"
        lowered = lower_model(path, replace(fast, target=target))
        assert decisions(lowered)["quantized to int8"] == "5 of 5 real layers"
    assert "depthwise" not in told and "pointwise" not in told and "deep" not in told
    assert domains(path, fast).count("f32 x f32") == 1
    for others in (rounded(given, "x86-64-v3"), replace(fast, target="cortex-m4")):
        assert "f32 x f32" not in domains(path, others)


@pytest.mark.parametrize(("inside", "stays"), [(2, True), (4, False), (1, False)])
def test_groups_of_two_channels_stay_real(tmp_path: Path, inside: int, stays: bool) -> None:
    rng = np.random.default_rng(3)
    constants = {"weight": rng.standard_normal((8, inside, 3, 3)).astype(np.float32)}
    nodes = [node("Conv", ["x", "weight"], ["y"], "grouped", pads=[1, 1, 1, 1], group=8 // inside)]
    given = {"x": rng.standard_normal((4, 8, 6, 6)).astype(np.float32)}
    path = write(tmp_path, make_model(nodes, {"x": [1, 8, 6, 6]}, ["y"], constants))
    found = domains(path, replace(rounded(given, "x86-64-v3"), optimize=None))
    assert (found == ["f32 x f32"]) == stays


def test_a_layer_that_reads_bytes_anyway_is_quantised(tmp_path: Path) -> None:
    """Where another layer has the same input rounded, nothing is saved by keeping the numbers, too."""
    rng = np.random.default_rng(3)
    constants = {
        "stem": rng.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "own": rng.standard_normal((8, 3, 1, 1)).astype(np.float32),
    }
    nodes = [
        node("Conv", ["x", "stem"], ["a"], "stem", pads=[1, 1, 1, 1]),
        node("Conv", ["x", "own"], ["b"], "short"),
        node("Add", ["a", "b"], ["y"], "add"),
    ]
    given = {"x": rng.standard_normal((4, 3, 6, 6)).astype(np.float32)}
    both = write(tmp_path, make_model(nodes, {"x": [1, 3, 6, 6]}, ["y"], constants))
    fast = replace(rounded(given, "x86-64-v3"), optimize=None)
    assert len(domains(both, fast)) == 2 and "f32 x f32" not in domains(both, fast)
    constants.pop("own")
    alone = write(tmp_path, make_model(nodes[:1], {"x": [1, 3, 6, 6]}, ["a"], constants), "alone.onnx")
    assert domains(alone, fast) == ["f32 x f32"]


def test_nothing_to_quantise_is_said(tmp_path: Path) -> None:
    lowered = lower_model(mixed_network(tmp_path, binary_only=True), rounded(samples()))
    assert "changes nothing" in decisions(lowered)["quantized to int8"]


def test_an_input_that_is_always_zero_is_said(tmp_path: Path) -> None:
    lowered = lower_model(mixed_network(tmp_path), rounded({"x": np.zeros((2, 3, 12, 11), np.float32)}))
    told = decisions(lowered)["quantized to int8"]
    assert told.startswith("0 of 2 real layers; model.onnx:stem stays in float32: what it reads is 0")


def test_samples_are_read_and_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting spikes, measuring ranges and comparing answers share the file, and the first two the run."""
    path, calls = mixed_network(tmp_path), []
    np.savez(tmp_path / "samples.npz", x=samples()["x"])

    def noted(module: ModuleType, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args: (calls.append(name), function(*args))[1])

    noted(driver, "read_samples")
    noted(driver, "run_pipeline")
    noted(calibrate, "run_pipeline")
    lower_model(path, Options(quantize_real="int8", calibrate=tmp_path / "samples.npz"))
    # The network that is measured, the one that is compiled, the one that it is compared with.
    assert calls == ["read_samples", "run_pipeline", "run_pipeline", "run_pipeline"]


def test_samples_are_asked_for(tmp_path: Path, bnncc: Shell) -> None:
    path = mixed_network(tmp_path)
    answer = bnncc("compile", path, "--quantize-real", "int8", "-o", tmp_path / "out")
    assert answer.code == 2 and "give --calibrate SAMPLES.npz" in answer.err


@pytest.mark.parametrize("which", [0, 1, 2])
def test_samples_that_are_no_numbers(which: int, tmp_path: Path) -> None:
    given = samples(3)
    given["x"][which, 0, 0, 0] = np.nan
    with pytest.raises(BnnccError, match="not finite"):
        lower_model(mixed_network(tmp_path), rounded(given))


def test_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BnnccError, match="there is no 'int4'"):
        lower_model(mixed_network(tmp_path), Options(quantize_real="int4", calibrate=samples()))
