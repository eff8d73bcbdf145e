# SPDX-License-Identifier: Apache-2.0
"""Which files an artifact has, and that they depend on nothing but the input."""

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import bnncc
from bnncc import codegen, targets
from bnncc.codegen.calls import connect
from bnncc.codegen.entry import library_entry
from bnncc.codegen.header import header_text
from bnncc.codegen.manifest import batch_of
from bnncc.codegen.package import EmitOptions, banner
from bnncc.diagnostics import BnnccError
from bnncc.plan.program import Port
from bnncc.toolchain import c_compiler
from tests import tiny

GOLDEN = Path(__file__).parent.parent / "golden"
ALWAYS = {"tiny.h", "manifest.json"}


def check_golden(name: str, text: str, update: bool) -> None:
    path = GOLDEN / name
    if update:
        path.write_text(text)
    assert text == path.read_text()


def network(name: str = "tiny"):
    return connect(tiny.program(name), tiny.KERNELS)


def made_by() -> str:
    options = EmitOptions(source="tiny network.onnx", chosen={"input-layout": "nhwc"})
    return banner(targets.load("x86-64-v3"), options).replace(bnncc.__version__, "VERSION")


def test_golden_header(update_golden: bool):
    check_golden("tiny.h", header_text(tiny.program(), made_by(), network().pool.bytes), update_golden)


def test_libraries_that_differ_in_capitals_are_told(tmp_path: Path):
    """Their macros have one name; the second header would be left out without a word."""
    for name in ("tiny", "Tiny"):
        (tmp_path / f"{name}.h").write_text(header_text(tiny.program(name), made_by(), network().pool.bytes))
    compiler = c_compiler.find(targets.native()).compiler
    for names, is_fine in ((("tiny", "tiny"), True), (("Tiny",), True), (("tiny", "Tiny"), False)):
        source = tmp_path / "main.c"
        source.write_text("".join(f'#include "{name}.h"\n' for name in names))
        command = [*compiler, "-fsyntax-only", source]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == is_fine, done.stderr
        assert ("Two libraries are called Tiny" in done.stderr) != is_fine


def test_golden_entry(update_golden: bool):
    check_golden("tiny.c", library_entry(network(), made_by()), update_golden)


@pytest.mark.parametrize(
    ("emit", "files"),
    [
        ((), set()),
        (("lib",), {"libtiny.a"}),
        (("so",), {"libtiny.so"}),
        (("c", "mlir", "tir"), {"tiny.c", "tiny.mlir", "tiny.tir"}),
    ],
)
def test_files(tmp_path: Path, emit: tuple[str, ...], files: set[str]):
    directory = tiny.emit(tmp_path / "out", emit=emit, modules={"mlir": "module {}\n"})
    assert {path.name for path in directory.iterdir()} == ALWAYS | files


def test_unknown_emit(tmp_path: Path):
    with pytest.raises(BnnccError, match=r"'exe' cannot be emitted[\s\S]*lib, so, c"):
        tiny.emit(tmp_path / "out", emit=("lib", "exe"))
    assert not list(tmp_path.iterdir())


def test_unknown_name(tmp_path: Path):
    with pytest.raises(BnnccError, match="cannot be the name of a C library"):
        tiny.emit(tmp_path / "out", network=tiny.program("my-net"))
    assert not list(tmp_path.iterdir())


def test_a_failing_compiler_leaves_nothing(tmp_path: Path):
    with pytest.raises(BnnccError, match=r"exit status 1: .*false"):
        tiny.emit(tmp_path / "out", compiler="false")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["native", "c"])
def test_the_same_bytes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str):
    emit = ("lib", "so", "c")
    first = tiny.emit(tmp_path / "first", target, emit=emit)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "else where").mkdir()
    monkeypatch.chdir(tmp_path / "else where")
    second = tiny.emit(tmp_path / "else where" / "second", target, emit=emit)
    assert sorted(path.name for path in first.iterdir()) == sorted(path.name for path in second.iterdir())
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
        assert str(tmp_path).encode() not in path.read_bytes()


def test_manifest(tmp_path: Path):
    directory = tiny.emit(tmp_path / "out", source="net.onnx", chosen={"dims": {"N": 2}})
    manifest = json.loads((directory / "manifest.json").read_text())
    assert (manifest["name"], manifest["source"], manifest["batch"]) == ("tiny", "net.onnx", tiny.BATCH)
    assert manifest["options"] == {"dims": {"N": 2}}
    assert manifest["arena"] == {"bytes": 128, "lower_bound_bytes": 128, "alignment_bytes": 64}
    assert [port["c_name"] for port in manifest["inputs"] + manifest["outputs"]] == ["input_1", "logits"]
    assert [step["kernel"] for step in manifest["steps"]] == ["sign", "dense"]
    assert [step["kernel_when_zero"] for step in manifest["steps"]] == [None, "dense_masked"]
    assert [step["weights_bytes"] for step in manifest["steps"]] == [0, 24 + 12]
    assert manifest["weights_bytes"] == 36
    listed = manifest["files"]
    assert set(listed) == {path.name for path in directory.iterdir()} - {"manifest.json"}
    for name, facts in listed.items():
        data = (directory / name).read_bytes()
        assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_report_from_the_manifest(tmp_path: Path):
    directory = tiny.emit(
        tmp_path / "out",
        emit=(),
        reports=lambda manifest: {"report.txt": f"{len(manifest['steps'])} layers\n"},
    )
    assert (directory / "report.txt").read_text() == "2 layers\n"


def test_kernels_are_made_once():
    made = []

    class Counting(tiny.TinyBackend):
        def make_kernel(self, spec, target, schedule=None, *, goal=None):
            made.append(spec)
            return super().make_kernel(spec, target, goal=goal)

    program = tiny.program()
    twice = replace(program, steps=program.steps * 2)
    assert len(codegen.make_kernels(twice, targets.native(), Counting())) == len(made) == 3


def test_weights_of_layers_that_are_alike_are_shared():
    program = tiny.program()
    assert len(connect(replace(program, steps=program.steps * 2), tiny.KERNELS).pool.arrays) == 2


@pytest.mark.parametrize(
    ("shapes", "batch"),
    [(((4, 3), (4, 2)), 4), (((4, 3), (1, 2)), None), (((), ()), None), (((1, 3), (1,)), 1)],
)
def test_batch(shapes: tuple[tuple[int, ...], tuple[int, ...]], batch: int | None):
    ports = [Port("p", "p", shape, "float32", 0) for shape in shapes]
    assert batch_of(replace(tiny.program(), inputs=(ports[0],), outputs=(ports[1],))) == batch


def test_macros_of_names_that_differ_in_case():
    ports = tuple(Port(name, name, (2,), "float32", 0) for name in ("x", "X"))
    text = header_text(replace(tiny.program(), inputs=ports), "", 0)
    assert "#define TINY_X_ELEMENTS 2" in text
    assert "#define TINY_X_2_ELEMENTS 2" in text
