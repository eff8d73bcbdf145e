# SPDX-License-Identifier: Apache-2.0
"""Inputs as event cameras give them: packed spikes and lists of events, in C, in Python and on boards."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import bnncc
from bnncc import runtime, targets
from bnncc.codegen.header import header_text
from bnncc.data import spike_words
from bnncc.diagnostics import BnnccError
from bnncc.driver import Options, lower_model
from bnncc.execution.artifact import Artifact
from bnncc.execution.boards import BARE_OPTIONS, memory_map
from bnncc.frontend.camera import CameraInput
from bnncc.toolchain import c_compiler
from tests.conditions import PATIENCE
from tests.e2e.commands import Shell
from tests.host import CC
from tests.models import make_model, write
from tests.unit.test_codegen_emit import check_golden

SHAPE = (1, 3, 6, 7)
"""Of an input with a few channels, in rows longer than columns."""

STATES = {"m_in": "m"}
STEP, STEPS, START = 100, 5, 4_294_967_000
"""Times wrap around within a sequence."""

MAIN = """\
#include <stddef.h>
#include "model.h"
@INCLUDE@

static MODEL_ALIGNED unsigned char arena[MODEL_ARENA_BYTES], one[MODEL_STATE_BYTES], two[MODEL_STATE_BYTES];
static const struct model_event events[] = {@EVENTS@};
static const float expected[@STEPS@ * MODEL_S_ELEMENTS] = {@EXPECTED@};
static float s[@STEPS@ * MODEL_S_ELEMENTS];
static float again[@STEPS@ * MODEL_S_ELEMENTS];
enum { COUNT = sizeof events / sizeof *events };

static int refused(struct model_event event)
{
    return model_step_events(arena, two, &event, 1, s, 0) == MODEL_ERROR_EVENT;
}

int main(void)
{
    const struct model_event wide = {0, 7, 0, 0}, high = {0, 0, 6, 0}, third = {0, 0, 0, 3};
    const struct model_event disordered[] = {{30, 0, 0, 0}, {20, 0, 0, 0}};
    uint32_t words[MODEL_X_ELEMENTS] = {8};
    size_t first = 0, last, step, i;
    if (model_reset(one) || model_reset(two))
        return 1;
    if (model_run_events(arena, one, events, COUNT, @START@u, @STEP@, @STEPS@, s, 0))
        return 2;
    for (step = 0; step < @STEPS@; ++step) {
        for (last = first; last < COUNT && (events[last].t - @START@u) / @STEP@ == step; ++last)
            ;
        if (model_step_events(arena, two, last > first ? events + first : 0, last - first,
                              again + step * MODEL_S_ELEMENTS, 0))
            return 3;
        first = last;
    }
    for (i = 0; i < sizeof s / sizeof *s; ++i)
        if (s[i] != expected[i] || again[i] != expected[i])
            return 4;
    if (!refused(wide) || !refused(high) || !refused(third))
        return 5;
    if (model_run_events(arena, two, disordered, 2, 0, 10, 4, s, 0) != MODEL_ERROR_EVENT)
        return 6;
    if (model_run_events(arena, two, events, COUNT, @START@u, 0, 4, s, 0) != MODEL_ERROR_EVENT)
        return 7;
    if (model_step_events(arena, two, 0, 1, s, 0) != MODEL_ERROR_NULL
        || model_step_events(arena, 0, events, 1, s, 0) != MODEL_ERROR_NULL
        || model_step_events(arena, two + 4, events, 1, s, 0) != MODEL_ERROR_ALIGNMENT)
        return 8;
    if (model_step(arena, two, words, s, 0) != MODEL_ERROR_SPIKES)
        return 9;
    /* What was refused left no trace. */
    for (i = 0; i < MODEL_STATE_BYTES && i < MODEL_M_IN_OFFSET + MODEL_M_ELEMENTS * sizeof(float); ++i)
        if (one[i] != two[i])
            return 10;
    return 42;
}
"""


def network(folder: Path) -> Path:
    """A convolution and a leaky neuron."""
    from onnx import helper

    weight = np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32)
    constants = {"w": np.round(weight * 4) / 4, "beta": np.float32(0.5), "one": np.float32(1.0)}
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Mul", ["m_in", "beta"], ["l"]),
        node("Add", ["l", "c"], ["u"]),
        node("Greater", ["u", "one"], ["f"]),
        node("Cast", ["f"], ["s"], to=1),
        node("Sub", ["u", "s"], ["m"]),
    ]
    inputs = {"x": list(SHAPE), "m_in": [1, 4, 6, 7]}
    return write(folder, make_model(nodes, inputs, ["s", "m"], constants))


def camera_events(seed: int = 0) -> np.ndarray:
    """In order of time; some twice, one step without any, some after the last step."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, (STEPS + 1) * STEP, 60))
    times = times[times // STEP != 2]
    events = np.zeros(len(times), spike_words.EVENT)
    events["t"] = (times + START).astype(np.uint32)
    for field, limit in {"x": 7, "y": 6, "p": 3}.items():
        events[field] = rng.integers(0, limit, len(times))
    events[1], events[5]["x"], events[5]["y"], events[5]["p"] = events[0], 6, 5, 2
    return events


def dense(events: np.ndarray) -> np.ndarray:
    """float32 [T, 1, c, h, w]: the plain way of writing it."""
    x = np.zeros((STEPS, *SHAPE), np.float32)
    for event in events:
        step = (int(event["t"]) - START) % 2**32 // STEP
        if step < STEPS:
            x[step, 0, event["p"], event["y"], event["x"]] = 1
    return x


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str | None, Artifact]:
    """The same network for each type of input."""
    folder = tmp_path_factory.mktemp("events")
    path = network(folder)
    return {
        kind: bnncc.compile(
            path,
            output=folder / f"{kind}",
            states=STATES,
            camera=CameraInput(kind),
            emit=("lib", "so", "c", "selftest"),
        )
        for kind in (None, "spikes", "events")
    }


def test_every_type_of_input_gives_the_same_spikes(libraries: dict[str | None, Artifact]):
    events = camera_events()
    x = dense(events)
    expected = libraries[None].run({"x": x})
    assert 0.02 < expected["s"].mean() < 0.9
    words = spike_words.packed(np.moveaxis(x, 2, -1))
    for outputs in (
        libraries["spikes"].run({"x": words}),
        libraries["spikes"].run({"x": x}),
        libraries["events"].run_events(events, STEP, STEPS, START),
    ):
        np.testing.assert_array_equal(outputs["s"], expected["s"])
        np.testing.assert_array_equal(outputs["m"], expected["m"])
    other = libraries["events"].run_events(events[1:-20], STEP, STEPS, START)
    assert not np.array_equal(other["s"], expected["s"]), "events count"


def test_a_file_of_events_on_the_command_line(
    libraries: dict[str | None, Artifact], tmp_path: Path, bnncc: Shell
):
    events = camera_events()
    file, out = tmp_path / "events.npz", tmp_path / "y.npz"
    columns = {"t": events["t"] - np.uint32(START), "x": events["x"], "y": events["y"]}
    np.savez(file, allow_pickle=False, polarity=events["p"], **columns)
    directory = libraries["events"].directory
    options = ("--step-length", str(STEP), "--steps", str(STEPS), "--start", "0", "--output", out)
    bnncc.fine("run", directory, "--input", file, *options)
    with np.load(out) as outputs:
        expected = libraries["events"].run_events(events, STEP, STEPS, START)
        np.testing.assert_array_equal(outputs["s"], expected["s"])
    answer = bnncc("run", directory, "--input", file)
    assert answer.code == 2 and "events, not steps" in answer.err and "--step-length" in answer.err
    np.savez(file, allow_pickle=False, p=events["p"], **{**columns, "x": columns["x"] + 1})
    answer = bnncc("run", directory, "--input", file, "--step-length", str(STEP))
    assert answer.code == 2 and "has x = 7, the input has 7" in answer.err
    np.savez(file, allow_pickle=False, p=events["p"], **{**columns, "t": columns["t"][::-1]})
    answer = bnncc("run", directory, "--input", file, "--step-length", str(STEP), "--start", "0")
    assert answer.code == 2 and "not in order of time" in answer.err
    answer = bnncc("run", libraries[None].directory, "--input", file, "--step-length", "1", "--start", "0")
    assert answer.code == 2 and "takes no events" in answer.err
    np.savez(file, allow_pickle=False, t=columns["t"], x=columns["x"])
    answer = bnncc("run", directory, "--input", file, "--step-length", str(STEP))
    assert answer.code == 2 and "no column of numbers 'y'" in answer.err


def program_text(libraries: dict[str | None, Artifact], include: str = "") -> str:
    """A C program that answers 42 where all is well."""
    events = camera_events()
    expected = libraries[None].run({"x": dense(events)})["s"]
    values = {
        "INCLUDE": include,
        "EVENTS": ", ".join(f"{{{e['t']}u, {e['x']}, {e['y']}, {e['p']}}}" for e in events),
        "EXPECTED": ", ".join(f"{value:.0f}.0f" for value in expected.reshape(-1)),
        "STEPS": str(STEPS),
        "STEP": str(STEP),
        "START": str(START),
    }
    text = MAIN
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


@pytest.mark.parametrize("library", ["libmodel.a", "model.c"])
def test_a_c_program_under_the_sanitizers(
    library: str, libraries: dict[str | None, Artifact], tmp_path: Path
):
    folder = libraries["events"].directory
    (tmp_path / "main.c").write_text(program_text(libraries))
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I", str(folder)]
    sanitizers = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = [*CC, *strict, *sanitizers, "main.c", str(folder / library), "-lm", "-o", "program"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=False)
    assert done.returncode == 42, done.stderr


@pytest.mark.parametrize("name", ["cortex-m4", "rv32imc"])
def test_events_on_a_board(name: str, libraries: dict[str | None, Artifact], tmp_path: Path):
    target = targets.load(name)
    artifact = bnncc.compile(
        network(tmp_path), target=name, states=STATES, camera=CameraInput("events"), output=tmp_path / "lib"
    )
    for file in (f"{target.system}.c", f"{target.system}.ld", "board.h", "semihosting.h"):
        shutil.copy(runtime.BOARDS / file, tmp_path)
    for file in artifact.directory.glob("*.[ha]"):
        shutil.copy(file, tmp_path)
    (tmp_path / "main.c").write_text(program_text(libraries, '#include "board.h"'))
    (tmp_path / "memory.ld").write_text(memory_map(target))
    options = ("-Tmemory.ld", "-Wl,--entry=Reset_Handler", "-Wl,--gc-sections")
    image = tmp_path / "image.elf"
    c_compiler.find(target).link_program(["main.c", f"{target.system}.c"], "libmodel.a", image, options)
    command = [*target.emulator, *BARE_OPTIONS, "-kernel", str(image)]
    assert subprocess.run(command, cwd=tmp_path, timeout=PATIENCE, check=False).returncode == 42
    outputs = artifact.run_events(camera_events(), STEP, STEPS, START)
    np.testing.assert_array_equal(outputs["s"], libraries[None].run({"x": dense(camera_events())})["s"])


def test_golden_header(tmp_path: Path, update_golden: bool):
    options = Options(states=STATES, camera=CameraInput("events"), name="events")
    program = lower_model(network(tmp_path), options).program
    check_golden("events.h", header_text(program, "Golden.", 0), update_golden)


@pytest.mark.parametrize("kind", ["spikes", "events"])
def test_verify_selftest_and_bench_know_packed_spikes(
    kind: str, libraries: dict[str | None, Artifact], tmp_path: Path, bnncc: Shell
):
    path = network(tmp_path)
    options = ("--state", "m_in=m", "--input-type", kind)
    report = bnncc.fine("verify", path, *options, "--samples", "2", "--json").json
    assert report["passed"]
    bnncc.fine("bench", libraries[kind].directory, "--repeat", "2")
    folder = libraries[kind].directory
    test = (
        '#include "model.h"\n'
        "static MODEL_ALIGNED unsigned char arena[MODEL_ARENA_BYTES], state[MODEL_STATE_BYTES];\n"
        "int main(void) { return model_selftest(arena, state); }\n"
    )
    (tmp_path / "test.c").write_text(test)
    sources = ["test.c", str(folder / "model_selftest.c"), str(folder / "libmodel.a")]
    subprocess.run([*CC, "-I", folder, *sources, "-lm", "-o", "selftest"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "selftest"], check=False).returncode == 0


def test_a_row_of_neurons_takes_packed_spikes(tmp_path: Path):
    from onnx import helper

    weight = np.random.default_rng(1).normal(size=(5, 70)).astype(np.float32)
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)]
    path = write(tmp_path, make_model(nodes, {"x": [2, 70]}, ["y"], {"w": weight}))
    plain, packed = bnncc.compile(path), bnncc.compile(path, camera=CameraInput("spikes"))
    x = (np.random.default_rng(2).random((4, 70)) < 0.2).astype(np.float32)
    expected = plain.run({"x": x})["y"]
    words = spike_words.packed(x)
    assert words.shape == (4, 3)
    for given in (x, words):
        np.testing.assert_allclose(packed.run({"x": given})["y"], expected, rtol=1e-5, atol=1e-5)
    words[0, 2] |= 64
    with pytest.raises(BnnccError, match="bits beyond their channels"):
        packed.run({"x": words})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--input-type", "events"), "step by step, with states"),
        (("--input-type", "spikes", "--input-layout", "nhwc"), "nothing is normalised"),
        (("--input-type", "spikes", "--normalize", "1,2"), "nothing is normalised"),
    ],
)
def test_what_does_not_fit_is_told(options: tuple[str, ...], message: str, tmp_path: Path, bnncc: Shell):
    answer = bnncc("inspect", network(tmp_path), *options)
    assert answer.code == 2 and message in answer.err
