# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the user's input ends in one message that names it, exit code 2, and nothing written."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from tests.e2e.commands import Answer, Shell
from tests.models import make_model, write

WEIGHT = np.where(np.arange(4 * 3 * 3 * 3) % 3 == 0, 1, -1).astype(np.float32).reshape(4, 3, 3, 3)
IMAGE = (1, 3, 8, 8)


def convolution(
    weight: np.ndarray | None = WEIGHT, image=IMAGE, operator: str = "Conv", domain: str = ""
) -> ModelProto:
    """sign(x) convolved by a binary weight; the nodes are called /binarize and /layer1/conv."""
    nodes = [
        helper.make_node("Sign", ["x"], ["s"], "/binarize"),
        helper.make_node(operator, ["s", "w"], ["y"], "/layer1/conv", domain=domain),
    ]
    constants = {} if weight is None else {"w": weight}
    return make_model(nodes, {"x": image}, ["y"], constants, domains=[domain] if domain else [])


def external_data(location: str) -> ModelProto:
    """The same, its weight in another file."""
    model = convolution()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return model


NAN = WEIGHT.copy()
NAN[0, 0, 0, 0] = np.nan

WRONG_MODELS = {
    "unknown operator": (convolution(operator="Frobnicate"), ["/layer1/conv", "Frobnicate"]),
    "unknown domain": (convolution(operator="Conv", domain="com.example"), ["/layer1/conv", "com.example"]),
    "inner symbolic dimension": (convolution(image=(1, 3, "height", 8)), ["x", "--dim height="]),
    "missing initialiser": (convolution(weight=None), ["/layer1/conv", "'w'"]),
    "external data outside": (external_data("../secret.bin"), ["w", "../secret.bin"]),
    "external data at an absolute path": (external_data("/etc/passwd"), ["w", "/etc/passwd"]),
    "external data that is not there": (external_data("weights.bin"), ["w", "weights.bin"]),
    "shape mismatch": (convolution(WEIGHT[:, :2]), ["/layer1/conv"]),
    "NaN weights": (convolution(NAN), ["w", "NaN"]),
}
"""Models with one fault, and what the message must name."""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where `compile` is told to write; only the folder above is there."""
    (tmp_path / "outputs").mkdir()
    return tmp_path / "outputs" / "library"


def check_refusal(answer: Answer, *needles: str, problems: int = 1) -> None:
    """Exit code 2; a block for each problem, on stderr, with all needles; no traceback."""
    assert answer.code == 2, answer.err
    assert answer.out == ""
    blocks = problems if problems == 1 else problems + 1  # the last counts them
    assert answer.err.count("bnncc: ") == blocks, answer.err
    assert "Traceback" not in answer.err and "internal error" not in answer.err
    for needle in needles:
        assert needle in answer.err


def check_nothing_written(output: Path) -> None:
    """Neither the directory nor a beginning of it beside."""
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("fault", WRONG_MODELS)
def test_a_wrong_model_is_refused(fault: str, tmp_path: Path, output: Path, bnncc: Shell):
    model, needles = WRONG_MODELS[fault]
    answer = bnncc("compile", write(tmp_path, model), "-o", output)
    check_refusal(answer, "model.onnx", *needles)
    check_nothing_written(output)


def test_the_model_without_a_fault_is_compiled(tmp_path: Path, output: Path, bnncc: Shell):
    """The faults above are the only reason to refuse it."""
    bnncc.fine("compile", write(tmp_path, convolution()), "-o", output)
    assert [entry.name for entry in output.parent.iterdir()] == [output.name]


@pytest.mark.parametrize("command", ["compile", "run", "verify", "inspect", "bench"])
def test_no_such_file(command: str, tmp_path: Path, bnncc: Shell):
    check_refusal(bnncc(command, tmp_path / "absent.onnx"), "absent.onnx", "no such file")


CONTENTS = {
    "empty": b"",
    "text": b"import torch\n",
    "noise": random.Random(0).randbytes(2000),
    "truncated": convolution().SerializeToString()[:-40],
    "truncated in the middle": convolution().SerializeToString()[:200],
}


@pytest.mark.parametrize("content", CONTENTS)
def test_a_file_that_is_no_model_is_refused(content: str, tmp_path: Path, output: Path, bnncc: Shell):
    (tmp_path / "model.onnx").write_bytes(CONTENTS[content])
    check_refusal(bnncc("compile", tmp_path / "model.onnx", "-o", output), "model.onnx")
    check_nothing_written(output)


def test_a_directory_is_no_model(tmp_path: Path, output: Path, bnncc: Shell):
    (tmp_path / "model.onnx").mkdir()
    check_refusal(bnncc("compile", tmp_path / "model.onnx", "-o", output), "model.onnx")
    check_refusal(bnncc("run", tmp_path / "model.onnx"), "model.onnx")


def test_external_data_through_a_link_is_refused(tmp_path: Path, output: Path, bnncc: Shell):
    (tmp_path / "secret.bin").write_bytes(WEIGHT.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").symlink_to("../secret.bin")
    check_refusal(bnncc("compile", write(folder, external_data("weights.bin")), "-o", output), "weights.bin")


def test_external_data_beside_the_model_is_read(tmp_path: Path, bnncc: Shell):
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    bnncc.fine("inspect", write(tmp_path, external_data("weights.bin")))


def test_a_dimension_that_was_given_is_taken(tmp_path: Path, bnncc: Shell):
    path = write(tmp_path, convolution(image=("N", 3, "height", 8)))
    bnncc.fine("inspect", path, "--dim", "height=8")
    check_refusal(bnncc("inspect", path, "--dim", "height=8", "--dim", "height=9"), "--dim")
    check_refusal(bnncc("inspect", path, "--dim", "hight=8"), "hight", "height")


def test_an_unknown_target_is_refused(tmp_path: Path, output: Path, bnncc: Shell):
    answer = bnncc("compile", write(tmp_path, convolution()), "-o", output, "--target", "znver5")
    check_refusal(answer, "--target", "znver5", "znver4")
    check_nothing_written(output)


def test_a_name_that_c_cannot_spell_is_refused(tmp_path: Path, output: Path, bnncc: Shell):
    answer = bnncc("compile", write(tmp_path, convolution()), "-o", output, "--name", "my-model")
    check_refusal(answer, "--name", "my-model")
    check_nothing_written(output)


def test_an_unwritable_output_is_refused(tmp_path: Path, bnncc: Shell):
    (tmp_path / "file").write_text("precious")
    path = write(tmp_path, convolution())
    for output in (tmp_path / "file", tmp_path / "file" / "library"):
        check_refusal(bnncc("compile", path, "-o", output), "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_directory_of_other_things_is_left_alone(tmp_path: Path, bnncc: Shell):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("precious")
    bnncc("compile", write(tmp_path, convolution()), "-o", home)
    assert (home / "thesis.tex").read_text() == "precious"


def test_a_failed_compilation_keeps_the_library_before(tmp_path: Path, output: Path, bnncc: Shell):
    bnncc.fine("compile", write(tmp_path, convolution()), "-o", output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    check_refusal(bnncc("compile", write(tmp_path, convolution(NAN)), "-o", output), "NaN")
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model without a fault, compiled."""
    import bnncc

    folder = tmp_path_factory.mktemp("library")
    bnncc.compile(write(folder, convolution()), output=folder / "build")
    return folder / "build"


GOOD = np.ones(IMAGE, np.float32)

WRONG_INPUTS = {
    "none at all": ({}, ["x"]),
    "another name": ({"image": GOOD}, ["image", "x"]),
    "one too many": ({"x": GOOD, "z": GOOD}, ["z"]),
    "too few dimensions": ({"x": GOOD[0, 0]}, ["x", "3, 8, 8", "[8, 8]"]),
    "another size": ({"x": np.ones((1, 3, 9, 8), np.float32)}, ["x", "3, 8, 8", "3, 9, 8"]),
    "no samples": ({"x": np.ones((0, 3, 8, 8), np.float32)}, ["x", "0"]),
    "another type": ({"x": GOOD.astype(np.float64)}, ["x", "float64", "float32"]),
    "text": ({"x": np.full(IMAGE, "1")}, ["x", "float32"]),
}


@pytest.mark.parametrize("fault", WRONG_INPUTS)
def test_wrong_inputs_are_refused(fault: str, library: Path, tmp_path: Path, bnncc: Shell):
    arrays, needles = WRONG_INPUTS[fault]
    np.savez(tmp_path / "inputs.npz", **arrays)
    output = tmp_path / "out.npz"
    answer = bnncc("run", library, "--input", tmp_path / "inputs.npz", "--output", output)
    check_refusal(answer, *needles, problems=2 if fault == "another name" else 1)
    assert not output.exists()


def test_problems_are_printed_as_blocks(library: Path, tmp_path: Path, bnncc: Shell):
    """Exact texts: where and what, a hint on a line of its own, the count at the end."""
    np.savez(tmp_path / "inputs.npz", X=GOOD, y=GOOD)
    answer = bnncc("run", library, "--input", tmp_path / "inputs.npz")
    assert answer.err.splitlines() == [
        "bnncc: model: there is no input 'X'",
        "  hint: did you mean 'x'? the inputs are 'x' (float32 [N, 3, 8, 8])",
        "bnncc: model: there is no input 'y'",
        "  hint: the inputs are 'x' (float32 [N, 3, 8, 8])",
        "bnncc: model: the input 'x' is missing",
        "bnncc: 3 problems in model",
    ]


def test_wrong_options_are_told_together(tmp_path: Path, bnncc: Shell):
    answer = bnncc("compile", tmp_path / "absent.onnx", "--target", "znver5", "--name", "my-model")
    check_refusal(answer, "--target: unknown target 'znver5'", "--name: ", "2 problems", problems=2)


def test_right_inputs_are_taken(library: Path, tmp_path: Path, bnncc: Shell):
    assert bnncc.run(library, {"x": GOOD}, tmp_path)["y"].shape == (1, 4, 6, 6)


def test_files_of_arrays_that_are_wrong_are_refused(library: Path, tmp_path: Path, bnncc: Shell):
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{}], dtype=object))
    text = tmp_path / "text.npy"
    text.write_text("1 2 3")
    short = tmp_path / "short.npy"
    np.save(short, GOOD)
    short.write_bytes(short.read_bytes()[:-1])
    for path in (objects, text, short, tmp_path / "absent.npy", tmp_path):
        check_refusal(bnncc("run", library, "--input", f"x={path}"), path.name)


def test_an_input_given_twice_is_refused(library: Path, tmp_path: Path, bnncc: Shell):
    np.save(tmp_path / "x.npy", GOOD)
    given = ("--input", f"x={tmp_path / 'x.npy'}")
    check_refusal(bnncc("run", library, *given, *given), "'x'", "twice")


def test_outputs_that_cannot_be_written_are_refused(library: Path, tmp_path: Path, bnncc: Shell):
    np.save(tmp_path / "x.npy", GOOD)
    given = ("--input", tmp_path / "x.npy")
    for output in (tmp_path / "absent" / "out.npz", tmp_path):
        check_refusal(bnncc("run", library, *given, "--output", output), str(output))


def test_a_directory_that_is_no_library_is_refused(tmp_path: Path, bnncc: Shell):
    check_refusal(bnncc("run", tmp_path), str(tmp_path))
    (tmp_path / "manifest.json").write_text("{")
    check_refusal(bnncc("run", tmp_path), "manifest.json")
