# SPDX-License-Identifier: Apache-2.0
"""Libraries whose layers threads share: the same answers to the bit, however many threads and streams."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

import bnncc as package
from bnncc import targets
from bnncc.codegen import threads
from bnncc.driver import Options
from bnncc.execution import boards
from bnncc.execution.artifact import Artifact
from bnncc.toolchain import c_compiler
from bnncc.verify import verify_model
from tests.bench.architectures import exported
from tests.conditions import PATIENCE
from tests.e2e.commands import Shell

pytest.importorskip("torch")

STREAMS = """\
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net.h"

enum { STREAMS = 4, RUNS = 20 };
static float image[NET_IMAGE_ELEMENTS], expected[NET_SCORES_ELEMENTS];
static NET_ALIGNED unsigned char arenas[STREAMS][NET_ARENA_BYTES];

static int is_wrong(int stream)
{
    float scores[NET_SCORES_ELEMENTS];
    return net_run(arenas[stream], image, scores) != NET_OK || memcmp(scores, expected, sizeof scores) != 0;
}

/* The last one also changes how many threads there are. */
static void *stream(void *number)
{
    static long wrong[STREAMS];
    const int own = *(int *)number;
    int i;
    for (i = 0; i < RUNS; ++i) {
        wrong[own] += is_wrong(own);
        if (own == STREAMS - 1 && net_threads(1 + i % NET_THREADS) != NET_OK)
            ++wrong[own];
    }
    return wrong[own] ? number : 0;
}

int main(void)
{
    pthread_t streams[STREAMS];
    int numbers[STREAMS], i;
    void *wrong;
    for (i = 0; i < NET_IMAGE_ELEMENTS; ++i)
        image[i] = (float)(i * 7919 % 101) / 50.0f - 1.0f;
    if (net_threads(0) == NET_OK || net_threads(NET_THREADS + 1) == NET_OK || net_threads(1) != NET_OK)
        return 2;
    if (net_run(arenas[0], image, expected) != NET_OK || net_threads(NET_THREADS) != NET_OK || is_wrong(0))
        return 3;
#ifndef NO_FORK
    {
        int status;
        pid_t child = fork();
        if (child == 0)
            _exit(is_wrong(1) || net_threads(2) != NET_OK || is_wrong(1));
        if (waitpid(child, &status, 0) != child || status != 0)
            return 4;
    }
#endif
    for (i = 0; i < STREAMS; ++i) {
        numbers[i] = i;
        pthread_create(&streams[i], 0, stream, &numbers[i]);
    }
    for (i = 0; i < STREAMS; ++i) {
        pthread_join(streams[i], &wrong);
        if (wrong)
            return 5;
    }
    puts("all the same");
    return 0;
}
"""

SANITIZED = ("-O1", "-g", "-fsanitize=thread", "-DNO_FORK")
"""The sanitizer does not follow threads of a forked child."""

WAITS = "while (__atomic_load_n(&pool->done, __ATOMIC_ACQUIRE) != pieces)"


@pytest.fixture(autouse=True)
def every_layer_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of small networks, which are not worth it."""
    monkeypatch.setattr(threads, "LEAST", dict.fromkeys(threads.LEAST, 0))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Artifact]:
    """A network for seven threads, with its C."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "LEAST", dict.fromkeys(threads.LEAST, 0))
        yield package.compile(
            exported("bi_realnet18", small=True),
            name="net",
            threads=7,
            emit=("lib", "so", "c"),
            output=tmp_path_factory.mktemp("threads") / "net",
        )


def images(count: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((count, 3, 32, 32)).astype(np.float32)


def build(folder: Path, *flags: str, change: tuple[str, str] | None = None) -> Path:
    """The program above with the portable C of a network, text of which may be changed."""
    (folder / "main.c").write_text(STREAMS)
    if change:
        text = (folder / "net.c").read_text()
        assert text.count(change[0]) == 1
        (folder / "net.c").write_text(text.replace(*change))
    command = [
        "cc",
        "-std=c99",
        "-D_POSIX_C_SOURCE=200809L",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pthread",
        *flags,
    ]
    done = subprocess.run(
        [*command, "main.c", "net.c", "-o", "streams", "-lm"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "streams"


def copied(compiled: Artifact, folder: Path) -> Path:
    for file in ("net.c", "net.h"):
        shutil.copy(compiled.directory / file, folder)
    return folder


@pytest.mark.parametrize("network", ["cnv", "quicknet", "meliusnet22"])
def test_layers_that_threads_share_agree(network: str) -> None:
    report = verify_model(exported(network, small=True), Options(threads=3), samples=1)
    assert report.passed, report.render()


def test_answers_do_not_depend_on_threads(compiled: Artifact) -> None:
    assert compiled.threads == 7
    assert sum(step.get("pieces", 1) > 1 for step in compiled.manifest["steps"]) >= 10
    alone = package.compile(exported("bi_realnet18", small=True))
    x = {"image": images(5)}
    expected = alone.run(x)["scores"]
    for count in (1, 2, 3, 4, 7, 1, 7):
        compiled.set_threads(count)
        np.testing.assert_array_equal(compiled.run(x)["scores"], expected)


def test_runs_at_the_same_time_agree(compiled: Artifact) -> None:
    x = {"image": images(8)}
    expected = compiled.run(x)["scores"]
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(lambda _: compiled.run(x)["scores"], range(12)):
            np.testing.assert_array_equal(answers, expected)


def test_a_program_with_several_streams(compiled: Artifact, tmp_path: Path) -> None:
    program = build(copied(compiled, tmp_path), "-O2")
    assert (
        subprocess.run([program], timeout=PATIENCE, check=True, capture_output=True).stdout
        == b"all the same\n"
    )


def has_thread_sanitizer(folder: Path) -> bool:
    (folder / "empty.c").write_text("int main(void) { return 0; }\n")
    done = subprocess.run(
        ["cc", "-fsanitize=thread", "empty.c", "-o", "empty"], cwd=folder, capture_output=True
    )
    return done.returncode == 0 and subprocess.run([folder / "empty"], capture_output=True).returncode == 0


def expect_no_race(artifact: Artifact, folder: Path) -> None:
    """Run the program with a library under the sanitizer; its sources stay in the folder."""
    if not has_thread_sanitizer(folder):
        pytest.skip("cc has no thread sanitizer that runs here")
    sane = build(copied(artifact, folder), *SANITIZED)
    done = subprocess.run([sane], timeout=PATIENCE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sanitizer_sees_no_race_and_would_see_one(compiled: Artifact, tmp_path: Path) -> None:
    expect_no_race(compiled, tmp_path)
    # Near miss: a run that goes on to the next layer before all pieces of this one are done.
    hasty = build(
        copied(compiled, tmp_path), *SANITIZED, change=(WAITS, WAITS.replace("while (", "while (0 && "))
    )
    done = subprocess.run([hasty], timeout=PATIENCE, capture_output=True, text=True)
    assert "data race" in done.stderr


COPIES_WINDOWS = """\
description = "its windows are copied"
kind = "c"
vector_bits = 32
popcount = "none"
features = ["+dsp"]
"""
"""A processor for whose kernels windows are copied, in C that this machine runs, too."""


def rounded(target: Path | str, count: int, folder: Path, emit: tuple[str, ...] = ("lib", "so")) -> Artifact:
    """A network with layers of bytes and of bits."""
    model = exported("bi_realnet18", small=True)
    folder = folder / f"net{count}"
    samples = {"image": images(2)}
    return package.compile(
        model,
        target=str(target),
        name="net",
        threads=count,
        emit=emit,
        output=folder,
        quantize_real="int8",
        calibrate=samples,
    )


@pytest.fixture(scope="module")
def copying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Artifact]:
    """A network in which threads have memory of their own for windows."""
    folder = tmp_path_factory.mktemp("copying")
    (folder / "copies-windows.toml").write_text(COPIES_WINDOWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "LEAST", dict.fromkeys(threads.LEAST, 0))
        yield rounded(folder / "copies-windows.toml", 4, folder, ("lib", "so", "c"))


def test_threads_have_memory_of_their_own_for_windows(copying: Artifact, tmp_path: Path) -> None:
    (tmp_path / "copies-windows.toml").write_text(COPIES_WINDOWS)
    alone = rounded(tmp_path / "copies-windows.toml", 1, tmp_path)
    expected, manifest = alone.run({"image": images(3)})["scores"], copying.manifest
    for count in (1, 2, 3, 4):
        copying.set_threads(count)
        np.testing.assert_array_equal(copying.run({"image": images(3)})["scores"], expected)
    buffers = {buffer["name"]: buffer["bytes"] for buffer in manifest["buffers"]}
    owns = {step["name"]: step.get("thread_scratch_bytes", 0) for step in manifest["steps"]}
    assert sum(size > 0 for size in owns.values()) >= 3
    assert all(size % 64 == 0 for size in owns.values())
    assert all(buffers[f"{name}_scratch"] == 4 * size for name, size in owns.items() if size)
    assert not any("thread_scratch_bytes" in step for step in alone.manifest["steps"])
    most, least = max(owns.values()), alone.manifest["arena"]["bytes"]
    assert least <= manifest["arena"]["bytes"] <= least + 4 * most
    assert f"up to {most:,} of it for each of 4 threads" in (copying.directory / "report.txt").read_text()


def test_the_sanitizer_sees_threads_that_copy_to_one_place(copying: Artifact, tmp_path: Path) -> None:
    expect_no_race(copying, tmp_path)
    text = (tmp_path / "net.c").read_text()
    own = next(line for line in text.splitlines() if "(size_t)thread" in line)
    shared = build(tmp_path, *SANITIZED, change=(own, own.replace("(size_t)thread", "(size_t)(0 * thread)")))
    done = subprocess.run([shared], timeout=PATIENCE, capture_output=True, text=True)
    assert "data race" in done.stderr


def deep(folder: Path) -> Path:
    """A layer whose sums are long enough for scalable vectors on Arm."""
    weight = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (40, 512, 3, 3))
    nodes = [
        onnx.helper.make_node("Sign", ["image"], ["signs"]),
        onnx.helper.make_node("Conv", ["signs", "w"], ["scores"], pads=[1, 1, 1, 1]),
    ]
    shapes = {"image": (1, 512, 9, 6), "scores": (1, 40, 9, 6)}
    ports = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    constants = [onnx.numpy_helper.from_array(weight, "w")]
    graph = onnx.helper.make_graph(nodes, "deep", ports[:1], ports[1:], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.save(model, folder / "deep.onnx")
    return folder / "deep.onnx"


@pytest.mark.parametrize("target", ["rv64gcv", "neoverse-v1"])
def test_micro_kernels_that_threads_share(target: str, tmp_path: Path) -> None:
    """Several streams on an emulated processor, by one to four threads; then all threads in one place."""
    if target == "rv64gcv":
        made = rounded(target, 4, tmp_path)
    else:
        made = package.compile(deep(tmp_path), target=target, name="net", threads=4, output=tmp_path / "net4")
    owns = [step for step in made.manifest["steps"] if step.get("thread_scratch_bytes")]
    assert sum("mask registers" in step["description"] for step in owns) >= 4 or target != "rv64gcv"
    assert sum("VWMACC" in step["description"] for step in owns) > 0 or target != "rv64gcv"
    assert any("scalable vectors" in step["description"] for step in owns) or target != "neoverse-v1"
    facts = targets.load(target)
    (made.directory / "main.c").write_text(STREAMS)
    program = made.directory / "streams"
    options = ("-D_POSIX_C_SOURCE=200809L", "-DNO_FORK", "-pthread", "-Wall", "-Wextra", "-Werror")
    c_compiler.find(facts).link_program(["main.c"], "libnet.a", program, options)
    done = subprocess.run([*boards.command(facts), program], timeout=PATIENCE, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "all the same\n"), done.stderr


def test_a_number_of_threads_that_there_is_not(compiled: Artifact) -> None:
    for count in (0, 8):
        with pytest.raises(package.BnnccError, match="compiled for 7 threads"):
            compiled.set_threads(count)
    for count in (0, 65):
        with pytest.raises(package.BnnccError, match="out of range"):
            package.compile(exported("cnv", small=True), threads=count)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "cortex-m4"), "cortex-m4 has no operating system"),
        (("--package", "arduino", "--target", "c"), "packages of arduino have no threads"),
        (("--backend", "mlir"), "run on one thread"),
    ],
)
def test_where_there_are_no_threads(
    options: tuple[str, ...], message: str, bnncc: Shell, tmp_path: Path
) -> None:
    model = exported("cnv", small=True)
    answer = bnncc("compile", model, "-o", tmp_path / "out", "--threads", "2", *options)
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "out").exists()


def test_commands_take_threads(bnncc: Shell, tmp_path: Path) -> None:
    model, out = exported("cnv", small=True), tmp_path / "out"
    bnncc.fine("compile", model, "--threads", "2", "-o", out, "--name", "net")
    assert "#define NET_THREADS 2" in (out / "net.h").read_text()
    np.save(tmp_path / "x.npy", images(2))
    for count in ("1", "2"):
        bnncc.fine("run", out, "--input", f"image={tmp_path / 'x.npy'}", "--threads", count)
        assert bnncc.fine("bench", out, "--threads", count, "--repeat", "2", "--layers", "--json").json
    refused = bnncc("run", out, "--input", f"image={tmp_path / 'x.npy'}", "--threads", "3")
    assert refused.code == 2
    assert "compile it with --threads 3" in refused.err


def test_a_library_for_one_thread_has_nothing_of_this(tmp_path: Path) -> None:
    artifact = package.compile(
        exported("cnv", small=True), name="net", emit=("so", "c"), output=tmp_path / "out"
    )
    assert artifact.threads == 1
    assert "threads" not in artifact.manifest
    for file in ("net.h", "net.c"):
        assert "thread" not in (artifact.directory / file).read_text().replace("threads may call", "")
