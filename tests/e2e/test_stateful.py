# SPDX-License-Identifier: Apache-2.0
"""Networks that keep states between steps: recorded ones, streams, states that are fed, the C interface."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper

import bnncc
from bnncc import targets
from bnncc.diagnostics import BnnccError
from bnncc.execution.artifact import Artifact
from bnncc.frontend.evaluate import ModelEvaluator
from tests.cases import Case, load_case
from tests.e2e.commands import Shell
from tests.host import CC
from tests.models import make_model, write
from tests.spiking import state_options, states_of_case, wrong_spikes

STEPS = ["snntorch_step_convleaky_legacy", "bench_snn_conv_step"]
TARGETS = [name for name in ("native", "x86-64-v3", "c") if targets.load(name).runs_here()]
BOARDS = ["cortex-m4", "rv32imc"]

MAIN = """\
#include <stdio.h>
#include "model.h"

int main(void)
{
    static MODEL_ALIGNED unsigned char arena[MODEL_ARENA_BYTES];
    static MODEL_ALIGNED unsigned char one[MODEL_STATE_BYTES], two[MODEL_STATE_BYTES];
    static float x[8][MODEL_X_ELEMENTS], spikes[3][8][MODEL_SPK3_ELEMENTS], membrane[MODEL_MEM3_ELEMENTS];
    int step;
    if (fread(x, sizeof x, 1, stdin) != 1 || model_reset(one) || model_reset(two))
        return 1;
    /* The second stream goes backwards through the same steps, in turn with the first. */
    for (step = 0; step < 8; ++step)
        if (model_step(arena, one, x[step], spikes[0][step], 0, 0, membrane)
            || model_step(arena, two, x[7 - step], spikes[1][step], 0, 0, 0))
            return 2;
    if (model_reset(one) || model_run(arena, one, 8, x[0], spikes[2][0], 0, 0, 0))
        return 3;
    if (model_step(arena, 0, x[0], spikes[0][0], 0, 0, 0) != MODEL_ERROR_NULL)
        return 4;
    if (model_reset(0) != MODEL_ERROR_NULL)
        return 4;
    if (model_step(arena, one + 1, x[0], spikes[0][0], 0, 0, 0) != MODEL_ERROR_ALIGNMENT)
        return 5;
    fwrite(spikes, sizeof spikes, 1, stdout);
    return fwrite(membrane, sizeof membrane, 1, stdout) != 1;
}
"""


@pytest.fixture(scope="module")
def case() -> Case:
    return load_case("snntorch_step_convleaky_legacy")


@pytest.fixture(scope="module")
def compiled(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("step")
    path = case.write_model(folder)
    emit = ("lib", "so", "c", "selftest")
    return bnncc.compile(path, output=folder / "library", states=states_of_case(case), emit=emit)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", STEPS)
def test_a_recorded_network_answers_step_for_step(name: str, target: str, tmp_path: Path, bnncc: Shell):
    case = load_case(name)
    path = case.write_model(tmp_path)
    bnncc.fine("compile", path, "-o", tmp_path / "library", "--target", target, *state_options(case))
    outputs = bnncc.run(tmp_path / "library", case.inputs, tmp_path)
    assert wrong_spikes(case, outputs) == []
    assert case.differences({name: outputs[name] for name in case.outputs}) == []


@pytest.mark.parametrize("target", BOARDS)
def test_the_same_on_a_microcontroller(target: str, case: Case, tmp_path: Path, bnncc: Shell):
    path, options = case.write_model(tmp_path), state_options(case)
    bnncc.fine("compile", path, "-o", tmp_path / "library", "--target", target, *options)
    outputs = bnncc.run(tmp_path / "library", case.inputs, tmp_path)
    assert wrong_spikes(case, outputs) == [] and case.differences(outputs) == []
    counted = bnncc.fine("bench", tmp_path / "library", "--json").json
    assert counted["instructions"] > 100_000


def test_verify_compares_step_by_step(case: Case, tmp_path: Path, bnncc: Shell):
    path, options = case.write_model(tmp_path), state_options(case)
    report = bnncc.fine("verify", path, *options, "--samples", "2", "--json").json
    assert report["passed"] and report["samples"] == 2
    assert {row["layer"] for row in report["outputs"]} == set(case.outputs)
    np.savez(tmp_path / "x.npz", allow_pickle=False, x=case.inputs["x"])
    assert bnncc.fine("verify", path, *options, "--input", tmp_path / "x.npz", "--json").json["passed"]


def test_inspect_and_bench_know_states(case: Case, tmp_path: Path, bnncc: Shell):
    path, options = case.write_model(tmp_path), state_options(case)
    layers = bnncc.fine("inspect", path, *options, "--json").json["layers"]
    assert not any(layer["operation"] == "keep the state" for layer in layers), "membranes change in place"
    assert bnncc.fine("bench", path, *options, "--repeat", "2", "--json").json["median"] > 0


def test_single_steps_and_a_sequence_agree(case: Case, compiled: Artifact):
    x = case.inputs["x"]
    compiled.reset()
    steps = [compiled.step({"x": slice_}) for slice_ in x]
    for name, array in compiled.run({"x": x}).items():
        np.testing.assert_array_equal(np.stack([outputs[name] for outputs in steps]), array)
    # Without a reset the membranes go on: the answers are others.
    assert any(
        not np.array_equal(compiled.step({"x": slice_})["mem3"], outputs["mem3"])
        for slice_, outputs in zip(x, steps, strict=True)
    )


def test_samples_are_independent_and_states_may_be_fed(case: Case, compiled: Artifact):
    x = case.inputs["x"]
    many = np.concatenate([x, x[::-1], x * 0.5], axis=1)
    outputs = compiled.run({"x": many})
    for sample in range(3):
        alone = compiled.run({"x": np.ascontiguousarray(many[:, sample : sample + 1])})
        for name, array in alone.items():
            np.testing.assert_array_equal(outputs[name][:, sample : sample + 1], array)
    first = compiled.run({"x": x[:3]})
    fed = {f"{name}_in": first[name][-1] for name in ("mem1", "mem2", "mem3")}
    rest = compiled.run({"x": x[3:], **fed})
    whole = compiled.run({"x": x})
    for name, array in rest.items():
        np.testing.assert_array_equal(whole[name][3:], array)
    stream = compiled.stream()
    for t, slice_ in enumerate(x[3:]):
        outputs = stream.step({"x": slice_, **(fed if t == 0 else {})})
        np.testing.assert_array_equal(outputs["mem3"], whole["mem3"][3 + t])


def test_streams_share_one_library(case: Case, compiled: Artifact):
    one, other = compiled.stream(), compiled.stream()
    x = case.inputs["x"]
    forwards, backwards = compiled.run({"x": x}), compiled.run({"x": np.ascontiguousarray(x[::-1])})
    for t in range(len(x)):
        np.testing.assert_array_equal(one.step({"x": x[t]})["mem3"], forwards["mem3"][t])
        np.testing.assert_array_equal(other.step({"x": x[-1 - t]})["mem3"], backwards["mem3"][t])


@pytest.mark.parametrize("portable", [False, True])
def test_a_c_program_steps_two_streams(portable: bool, case: Case, compiled: Artifact, tmp_path: Path):
    folder = compiled.directory
    (tmp_path / "main.c").write_text(MAIN)
    library = folder / ("model.c" if portable else "libmodel.a")
    selftest = folder / "model_selftest.c"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-I", folder]
    program = tmp_path / "program"
    subprocess.run([*CC, *flags, "main.c", library, "-lm", "-o", program], cwd=tmp_path, check=True)
    done = subprocess.run([program], input=case.inputs["x"].tobytes(), capture_output=True, check=True)
    got = np.frombuffer(done.stdout, np.float32)
    spikes, membrane = got[:240].reshape(3, 8, 1, 10), got[240:]
    backwards = compiled.run({"x": np.ascontiguousarray(case.inputs["x"][::-1])})
    np.testing.assert_array_equal(spikes[0], case.outputs["spk3"])
    np.testing.assert_array_equal(spikes[1], backwards["spk3"])
    np.testing.assert_array_equal(spikes[2], case.outputs["spk3"])
    np.testing.assert_allclose(membrane, case.outputs["mem3"][-1][0], rtol=1e-4, atol=1e-4)
    test = (
        '#include "model.h"\n'
        "static MODEL_ALIGNED unsigned char arena[MODEL_ARENA_BYTES], state[MODEL_STATE_BYTES];\n"
        "int main(void) { return model_selftest(arena, state); }\n"
    )
    (tmp_path / "test.c").write_text(test)
    (tmp_path / "spoiled.c").write_text(with_a_wrong_last_spike(selftest.read_text()))
    for source, wrong in ((selftest, 0), ("spoiled.c", 1)):
        command = [*CC, *flags, "test.c", source, library, "-lm", "-o", tmp_path / "selftest"]
        subprocess.run(command, cwd=tmp_path, check=True)
        assert subprocess.run([tmp_path / "selftest"], check=False).returncode == wrong


def with_a_wrong_last_spike(text: str) -> str:
    """A self-test that expects another spike of the last step."""
    spoiled, count = re.subn(r"(golden_spk3\[\d+\] = \{[^}]*\s)\S+(\s*\};)", r"\g<1>7.0f\2", text)
    assert count == 1
    return spoiled


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({"mem1_im": "mem1"}, "the model has no input 'mem1_im'"),
        ({"mem1_in": "spk4"}, "the model has no output 'spk4'"),
        ({"mem1_in": "mem2"}, "'mem1_in' is 1x8x12x12xf32, but 'mem2' is 1x16x4x4xf32"),
        ({"mem3_in": "mem3", "mem2_in": "mem3"}, "the output 'mem3' is given as two states"),
        ({"x": "mem1"}, "'x' is 1x1x28x28xf32"),
    ],
)
def test_wrong_states_are_told(states: dict[str, str], message: str, case: Case, tmp_path: Path):
    with pytest.raises(BnnccError) as caught:
        bnncc.compile(case.write_model(tmp_path), states=states)
    assert message in "\n".join(caught.value.blocks())


def test_wrong_states_on_the_command_line(case: Case, tmp_path: Path, bnncc: Shell):
    path = case.write_model(tmp_path)
    assert "is not BEFORE=AFTER" in bnncc("inspect", path, "--state", "mem1_in").err
    twice = bnncc("inspect", path, "--state", "mem1_in=mem1", "--state", "mem1_in=mem1")
    assert twice.code == 2 and "one input is given as two states" in twice.err


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "the input 'x' is missing"),
        ({"x": np.zeros((2, 1, 1, 28), np.float32)}, "expected the shape [T, N, 1, 28, 28]"),
        ({"x": np.zeros((2, 1, 1, 28, 28))}, "expected float32, got float64"),
        ({"x": np.zeros((0, 1, 1, 28, 28), np.float32)}, "there is nothing to run"),
        ({"y": np.zeros(1)}, "there is no input 'y'"),
        (
            {"x": np.zeros((2, 2, 1, 28, 28), np.float32), "mem3_in": np.zeros((1, 10), np.float32)},
            "different numbers of samples: 2 in 'x', 1 in 'mem3_in'",
        ),
        ({"x": [1]}, "expected a NumPy array, got list"),
    ],
)
def test_wrong_sequences_are_told(inputs: dict, message: str, compiled: Artifact):
    with pytest.raises(BnnccError) as caught:
        compiled.run(inputs)
    assert message in "\n".join(caught.value.blocks())


def test_a_network_without_states_has_no_steps(case: Case, tmp_path: Path):
    plain = bnncc.compile(case.write_model(tmp_path), emit=("so",))
    one_step = {**case.inputs, "x": case.inputs["x"][0]}
    assert set(plain.run(one_step)) == set(case.outputs)
    with pytest.raises(BnnccError, match="keeps no state"):
        plain.step({})


def step_model(kind: str) -> tuple[ModelProto, dict[str, str]]:
    """Small graphs of one step where writing a new state over the old one needs care."""
    rng = np.random.default_rng(5)
    shape = [1, 3, 4, 4]
    weight = rng.normal(size=(3, 3, 3, 3)).astype(np.float32) * 0.2
    node = helper.make_node
    conv = node("Conv", ["a_in", "w"], ["conv"], pads=[1, 1, 1, 1])
    match kind:
        case "delay line":  # both states are read after one of them could have been written
            nodes = [node("Identity", ["a_in"], ["b"]), node("Add", ["x", "b_in"], ["a"])]
            nodes += [node("Mul", ["a", "b_in"], ["y"])]
        case "swap":
            nodes = [node("Identity", ["b_in"], ["a"]), node("Add", ["a_in", "x"], ["b"])]
            nodes += [node("Sub", ["a_in", "b_in"], ["y"])]
        case "recurrent":  # the old state is read through a window
            nodes = [conv, node("Add", ["conv", "x"], ["a"]), node("Tanh", ["b_in"], ["b0"])]
            nodes += [node("Add", ["b0", "a"], ["b"]), node("Mul", ["a", "b"], ["y"])]
        case "read later":  # the old state is read after the new one was made
            nodes = [node("Add", ["a_in", "x"], ["a"]), node("Add", ["b_in", "x"], ["b"])]
            nodes += [node("Conv", ["a", "w"], ["c"], pads=[1, 1, 1, 1]), node("Add", ["c", "a_in"], ["y"])]
        case _:  # a state that is a constant, one that is the input, one that is an output, too
            nodes = [node("Identity", ["k"], ["a"]), node("Identity", ["x"], ["b"])]
            nodes += [node("Add", ["a_in", "b_in"], ["y"])]
    inputs = {"x": shape, "a_in": shape, "b_in": shape}
    constants = {"w": weight, "k": np.full(shape, 0.5, np.float32)}
    return make_model(nodes, inputs, ["y", "a", "b"], constants), {"a_in": "a", "b_in": "b"}


@pytest.mark.parametrize("kind", ["delay line", "swap", "recurrent", "read later", "constant"])
def test_new_states_do_not_overwrite_what_is_still_read(kind: str, tmp_path: Path):
    model, states = step_model(kind)
    artifact = bnncc.compile(write(tmp_path, model), states=states, emit=("so",))
    graph = ModelEvaluator(tmp_path / "model.onnx")
    x = np.random.default_rng(2).normal(size=(5, 1, 3, 4, 4)).astype(np.float32)
    carried = {name: np.zeros((1, 3, 4, 4), np.float32) for name in states}
    outputs = artifact.run({"x": x})
    for t in range(5):
        values = graph({"x": x[t], **carried})
        for name in ("y", "a", "b"):
            np.testing.assert_allclose(outputs[name][t], values[name], rtol=1e-5, atol=1e-5)
        carried = {before: values[after] for before, after in states.items()}
