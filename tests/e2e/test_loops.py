# SPDX-License-Identifier: Apache-2.0
"""Loop and Scan as one loop of the library: what onnxruntime computes, in code that does not grow with the
steps; how often a Loop runs may be an input."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import bnncc
from bnncc import targets
from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.execution.artifact import Artifact
from bnncc.frontend.evaluate import ModelEvaluator
from bnncc.frontend.onnx import load_onnx
from tests.e2e.commands import Shell
from tests.host import CC
from tests.loop_models import FLOAT, NEURONS, counted, graph, scanned, spikes, value
from tests.models import make_model, write

TARGETS = [name for name in ("native", "x86-64-v3", "c") if targets.load(name).runs_here()]


def expected(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What onnxruntime computes."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(np.asarray, session.run(names, dict(inputs))), strict=True))


def assert_same(artifact: Artifact, model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> None:
    """The same shapes, spikes exactly, membranes up to rounding."""
    got, wanted = artifact.run(dict(inputs)), expected(model, inputs)
    assert set(got) == set(wanted)
    for name, array in wanted.items():
        assert got[name].shape == array.shape, name
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
        if name == "spikes":
            np.testing.assert_array_equal(got[name], array)


def one_loop(artifact: Artifact, trips: int) -> None:
    """All is in one loop of the library, or each layer is run over all steps."""
    if trips and "time" in artifact.manifest["options"]:
        assert f"all {trips} steps" in artifact.manifest["options"]["time"]
    else:
        (loop,) = artifact.manifest["loops"]
        assert loop["trips"] == trips
    assert len(artifact.manifest["steps"]) < 25


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("collect", ["scan", "sequence", "nothing"])
def test_an_input_says_how_often_a_loop_runs(collect: str, target: str, tmp_path: Path):
    model = counted(None, collect=collect)
    artifact = bnncc.compile(write(tmp_path, model), dims={"T": 12}, target=target, output=tmp_path / "lib")
    one_loop(artifact, 12)
    for steps in (12, 5, 1, 0, 12):
        inputs = {"x": spikes(12, seed=steps), "steps": np.array(steps, np.int64)}
        if steps == 0 and collect == "sequence":  # onnxruntime cannot join nothing
            assert artifact.run(inputs)["spikes"].shape == (0, 1, 5)
        else:
            assert_same(artifact, model, inputs)


def test_too_many_steps_are_an_error_and_nothing_is_written(tmp_path: Path, bnncc: Shell):
    path = write(tmp_path, counted(None))
    bnncc.fine("compile", path, "-o", tmp_path / "lib", "--dim", "T=7")
    header = (tmp_path / "lib" / "model.h").read_text()
    assert "MODEL_ERROR_STEPS" in header and "how often a loop runs: 0 to 7" in header
    assert "zeros after as many rows as 'steps' says" in " ".join(header.replace(" * ", " ").split())
    x = spikes(7)
    for wrong in (8, -1, 1 << 40):
        np.savez(tmp_path / "x.npz", x=x, steps=np.array(wrong, np.int64))
        answer = bnncc("run", tmp_path / "lib", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
        assert answer.code == ExitCode.USER and "number of steps" in answer.err
        assert not (tmp_path / "y.npz").exists()


@pytest.mark.parametrize("collect", ["scan", "sequence"])
def test_an_option_says_how_much_is_collected_at_most(collect: str, tmp_path: Path):
    """x is longer than the loop may run; then nothing but the option bounds it."""
    model = counted(None, most=40, collect=collect)
    artifact = bnncc.compile(write(tmp_path, model), dims={"steps": 9}, output=tmp_path / "lib")
    one_loop(artifact, 9)
    assert_same(artifact, model, {"x": spikes(40), "steps": np.array(8, np.int64)})
    with pytest.raises(BnnccError, match="number of steps"):
        artifact.run({"x": spikes(40), "steps": np.array(10, np.int64)})


def without_sequence(collects: bool) -> onnx.ModelProto:
    """Nothing that the body reads says how often it may run: the same x goes in at every step."""
    model = counted(None, most=1, collect="scan" if collects else "nothing")
    body = model.graph.node[0].attribute[0].g
    body.node[0].CopyFrom(onnx.helper.make_node("Squeeze", ["x", "axes"], ["xi"]))
    body.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "axes"))
    return model


def test_states_alone_need_no_bound(tmp_path: Path):
    model = without_sequence(collects=False)
    artifact = bnncc.compile(write(tmp_path, model), output=tmp_path / "lib")
    one_loop(artifact, 0)
    for steps in (0, 1, 1000):
        assert_same(artifact, model, {"x": spikes(1), "steps": np.array(steps, np.int64)})


def test_more_steps_than_a_small_processor_counts_are_an_error(tmp_path: Path):
    """2^32 + 1 is 1 there."""
    model = write(tmp_path, without_sequence(collects=False))
    library = bnncc.compile(model, target="armv7a-neon", output=tmp_path / "lib")
    with pytest.raises(BnnccError, match="status 4"):
        library.run({"x": spikes(1), "steps": np.array(2**32 + 1, np.int64)})
    assert library.run({"x": spikes(1), "steps": np.array(1, np.int64)})


def test_what_is_collected_needs_a_bound(tmp_path: Path):
    path = write(tmp_path, without_sequence(collects=True))
    with pytest.raises(
        BnnccError, match=r"model.onnx:time: Loop: it collects as much as the input 'steps'"
    ) as e:
        bnncc.compile(path, output=tmp_path / "lib")
    assert "--dim steps=VALUE" in str(e.value) and not (tmp_path / "lib").exists()
    artifact = bnncc.compile(path, dims={"steps": 6}, output=tmp_path / "lib")
    assert_same(artifact, without_sequence(True), {"x": spikes(1), "steps": np.array(4, np.int64)})


def test_who_reads_what_has_no_fixed_length_is_named(tmp_path: Path):
    with pytest.raises(
        BnnccError, match=r"ReduceSum.*reads 'spikes', which has as many elements as the input"
    ):
        bnncc.compile(write(tmp_path, counted(None, total=True)), dims={"T": 5}, output=tmp_path / "lib")


def test_who_steps_through_what_has_no_fixed_length_is_named(tmp_path: Path):
    """A Scan would go on through rows that the Loop before it did not write."""
    model = counted(None)
    ports = [onnx.helper.make_tensor_value_info(name, FLOAT, (1, NEURONS)) for name in ("s", "r", "t")]
    add = onnx.helper.make_node("Add", ["s", "r"], ["t"])
    body = onnx.helper.make_graph([add], "body", ports[:2], ports[2:])
    inputs = ["zeros", "spikes"]
    scan = onnx.helper.make_node("Scan", inputs, ["sum"], "sums", body=body, num_scan_inputs=1)
    model.graph.node.append(scan)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((1, NEURONS), np.float32), "zeros"))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("sum", FLOAT, None))
    with pytest.raises(BnnccError, match=r"model.onnx:sums: .* reads 'spikes', which has as many elements"):
        load_onnx(write(tmp_path, model), {"T": 5})


def test_a_count_that_is_computed_is_refused(tmp_path: Path):
    model = counted(None)
    model.graph.node.insert(0, onnx.helper.make_node("Add", ["steps", "steps"], ["twice"]))
    model.graph.node[1].input[0] = "twice"
    with pytest.raises(BnnccError, match=r"model.onnx:time: Loop: how often it runs is computed"):
        bnncc.compile(write(tmp_path, model), dims={"T": 5}, output=tmp_path / "lib")


def test_verify_goes_through_a_loop_of_any_length(tmp_path: Path, bnncc: Shell):
    report = bnncc.fine("verify", write(tmp_path, counted(None)), "--dim", "T=6", "--json").json
    assert report["passed"] and report["layers"]


COMPARED = [
    ("loop of any length", lambda: counted(None), ["--dim", "T=6"], None),
    ("loop with a sequence", lambda: counted(20, 20, "sequence"), [], 20),
    ("scan", lambda: scanned(20, axis=1), [], 20),
    ("scan from the end", lambda: scanned(9, backwards=True), [], 9),
]


@pytest.mark.parametrize(
    ("make", "options", "steps"), [row[1:] for row in COMPARED], ids=[r[0] for r in COMPARED]
)
def test_verify_compares_every_step(make, options, steps, tmp_path: Path, bnncc: Shell):
    report = bnncc.fine("verify", write(tmp_path, make()), *options, "--samples", "2", "--json").json
    rows = {(row["operation"], row["against"]): row["values"] for row in report["layers"]}
    assert report["passed"] and ("dense", "onnx") in rows
    if steps is not None:
        assert rows["dense", "onnx"] == 2 * steps * 5


@pytest.mark.parametrize(
    ("name", "target"), [("charged", "c"), ("above", "c"), ("current", "c"), ("current", "native")]
)
def test_verify_sees_what_is_wrong_in_one_late_step(
    name: str, target: str, tmp_path: Path, bnncc: Shell, monkeypatch: pytest.MonkeyPatch
):
    """A negative control: the graph that is compared with has another value in step 7 of 9. (Where layers run
    over all steps, a neuron is compared as a whole.)"""
    original = ModelEvaluator.__call__

    def other(self: ModelEvaluator, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = original(self, inputs)
        wrong = values[f"time/7/{name}"]
        values[f"time/7/{name}"] = ~wrong if wrong.dtype == bool else wrong + 1
        return values

    path = write(tmp_path, counted(9, 9))
    assert bnncc("verify", path, "--target", target).code == 0
    monkeypatch.setattr(ModelEvaluator, "__call__", other)
    answer = bnncc("verify", path, "--target", target)
    assert answer.code == 1 and "FAIL" in answer.out


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("collect", ["scan", "sequence", "nothing"])
def test_a_loop_of_a_known_length(collect: str, opset: int, tmp_path: Path):
    if collect == "sequence" and opset < 13:
        opset = 14  # onnxruntime has no loops of sequences before set 13
    model = counted(9, 9, collect, opset)
    artifact = bnncc.compile(write(tmp_path, model), output=tmp_path / "lib")
    one_loop(artifact, 9)
    assert_same(artifact, model, {"x": spikes(9)})


def test_a_loop_may_read_less_than_there_is(tmp_path: Path):
    model = counted(5, 9, total=True)
    artifact = bnncc.compile(write(tmp_path, model), output=tmp_path / "lib")
    one_loop(artifact, 5)
    assert_same(artifact, model, {"x": spikes(9)})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"axis": 1, "to": 1},
        {"axis": -1, "to": -1},
        {"backwards": True},
        {"axis": 2, "backwards": True, "to": 2},
        {"opset": 11, "backwards": True},
    ],
    ids=str,
)
def test_a_scan_in_every_direction(options: dict, target: str, tmp_path: Path):
    model = scanned(7, **options)
    artifact = bnncc.compile(write(tmp_path, model), target=target, output=tmp_path / "lib")
    one_loop(artifact, 7)
    x = np.moveaxis(spikes(7), 0, options.get("axis", 0))
    assert_same(artifact, model, {"x": np.ascontiguousarray(x)})


@pytest.mark.parametrize(("target", "growth"), [("c", 0.05), ("native", 1.0)])
@pytest.mark.parametrize("make", [scanned, lambda steps: counted(steps, steps)], ids=["scan", "loop"])
def test_a_thousand_steps_are_compiled_like_ten(make, target: str, growth: float, tmp_path: Path):
    """In code, and in layers. (Layer by layer, other tiles are chosen for more steps.)"""
    sizes, layers = [], []
    for steps in (10, 1000):
        path = write(tmp_path, make(steps))
        artifact = bnncc.compile(path, target=target, output=tmp_path / str(steps))
        layers.append(len(artifact.manifest["steps"]))
        sizes.append(artifact.manifest["code_bytes"])
        assert_same(artifact, make(steps), {"x": spikes(steps)})
    assert abs(sizes[1] / sizes[0] - 1) <= growth, sizes
    assert layers[1] == layers[0]


def test_an_input_may_have_any_name(tmp_path: Path):
    """Also that of a variable of the loop; and no constants stay that nothing reads."""
    model = scanned(7)
    (scan,) = model.graph.node
    renamed = next(value for value in model.graph.input if value.name == "x")
    scan.input[[*scan.input].index("x")] = renamed.name = "time"
    path, emit = write(tmp_path, model), ("so", "c")
    artifact = bnncc.compile(path, target="c", emit=emit, name="net", output=tmp_path / "lib")
    assert artifact.manifest["loops"]
    assert_same(artifact, model, {"time": spikes(7)})
    flags = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Wunused-const-variable", "-fsyntax-only")
    subprocess.run([*CC, *flags, artifact.directory / "net.c"], check=True)


@pytest.mark.parametrize("start", [[0.0, 0.0], [0.5, 0.5], [0.0, 1.0]], ids=str)
def test_a_state_starts_at_a_constant(start: list[float], tmp_path: Path):
    """v' = v W + x, which stays a loop."""
    nodes = [
        helper.make_node("MatMul", ["v", "w"], ["heard"]),
        helper.make_node("Add", ["heard", "xi"], ["v2"]),
        helper.make_node("Identity", ["v2"], ["y1"]),
    ]
    body = graph(
        nodes,
        [value(name, (1, 2)) for name in ("v", "xi")],
        [value(name, (1, 2)) for name in ("v2", "y1")],
    )
    scan = helper.make_node("Scan", ["start", "x"], ["v9", "y"], body=body, num_scan_inputs=1)
    constants = {"start": np.array([start], np.float32), "w": np.array([[0.5, 2], [-1, 0.25]], np.float32)}
    model = make_model([scan], {"x": [9, 1, 2]}, ["y", "v9"], constants)
    artifact = bnncc.compile(write(tmp_path, model), emit=("so",))
    assert artifact.manifest["loops"]
    assert_same(artifact, model, {"x": np.arange(18, dtype=np.float32).reshape(9, 1, 2) / 8})


def test_few_steps_are_written_out(tmp_path: Path):
    artifact = bnncc.compile(write(tmp_path, scanned(2)), output=tmp_path / "lib")
    assert "loops" not in artifact.manifest
    assert_same(artifact, scanned(2), {"x": spikes(2)})
