# SPDX-License-Identifier: Apache-2.0
"""The command line itself: help, exit codes, what goes to stdout and what to stderr."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import bnncc as package
from bnncc import cli, doctor
from bnncc.cli import argument_types, compile, targets
from bnncc.progress import Progress
from tests.cases import load_case
from tests.conditions import PATIENCE, wait_until
from tests.e2e.commands import Shell

COMMANDS = ("compile", "run", "verify", "inspect", "bench", "tune", "targets", "doctor")
HEAVY = ("tvm", "xdsl", "onnx", "numpy")


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_loads_nothing_heavy(arguments: list[str]):
    loaded = python(
        "import sys, bnncc.cli\n"
        f"code = bnncc.cli.main({arguments})\n"
        f"print('loaded', code, [name for name in {HEAVY} if name in sys.modules])"
    )
    assert loaded.splitlines()[-1] == "loaded 0 []"


def test_importing_the_package_loads_nothing_heavy():
    assert python(f"import sys, bnncc; print([name for name in {HEAVY} if name in sys.modules])") == "[]\n"


def test_inspect_does_not_load_tvm(tmp_path: Path):
    path = load_case("larq_signzero_exact").write_model(tmp_path)
    code = f"import sys, bnncc.cli; bnncc.cli.main(['inspect', {str(path)!r}]); print('tvm' in sys.modules)"
    assert python(code).splitlines()[-1] == "False"


def test_version(bnncc: Shell):
    assert bnncc.fine("--version").out == f"bnncc {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        ([], "COMMAND"),
        (["frobnicate"], "frobnicate"),
        (["compile"], "MODEL"),
        (["compile", "model.onnx", "--emit", "lib,elf"], "'elf' is none of lib"),
        (["compile", "model.onnx", "--dim", "N"], "'N' is not NAME=N"),
        (["compile", "model.onnx", "--dim", "N=0"], "'0' is no positive integer"),
        (["compile", "model.onnx", "--normalize", "1,2,3"], "as many finite means as deviations"),
        (["compile", "model.onnx", "--normalize", "0,0"], "none of these 0"),
        (["compile", "model.onnx", "--normalize", "a,b"], "no list of numbers"),
        (["compile", "model.onnx", "--assume-sign-zero", "0"], "--assume-sign-zero"),
        (["bench", "model.onnx", "--repeat", "-3"], "--repeat"),
        (["compile", "model.onnx", "--optimise=size"], "did you mean '--optimize'? `bnncc compile --help`"),
        (["complie", "model.onnx"], "did you mean 'compile'? `bnncc --help`"),
    ],
)
def test_wrong_usage(arguments: list[str], needle: str, bnncc: Shell):
    """Two lines, like every other mistake: no list of all options."""
    answer = bnncc(*arguments)
    assert answer.code == 2
    assert needle in answer.err and answer.out == ""
    mistake, hint = answer.err.splitlines()
    assert mistake.startswith("bnncc: ") and hint.startswith("  hint: ")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, compiled by the Python interface."""
    folder = tmp_path_factory.mktemp("library")
    package.compile(
        load_case("larq_signzero_exact").write_model(folder), output=folder / "build", name="signs"
    )
    return folder / "build"


def test_run_prints_a_summary(library: Path, tmp_path: Path, bnncc: Shell):
    case = load_case("larq_signzero_exact")
    np.save(tmp_path / "x.npy", case.inputs["input"])
    arguments = ("run", library, "--input", tmp_path / "x.npy")
    answer = bnncc.fine(*arguments)
    best = case.outputs["quant_dense_3"].argmax(axis=1)
    assert answer.out.startswith("quant_dense_3: float32 [4, 10]  min ")
    assert answer.out.rstrip().endswith(f"argmax {', '.join(map(str, best))}")
    assert answer.err == "", "quiet where nobody watches"
    (row,) = bnncc.fine(*arguments, "--json").json["outputs"]
    assert row["shape"] == [4, 10] and row["argmax"] == best.tolist()


def test_what_is_compiled_takes_no_options_of_compilation(library: Path, bnncc: Shell):
    answer = bnncc("run", library, "--target", "c")
    assert answer.code == 2
    assert "--target" in answer.err and "compiled already" in answer.err


def test_the_python_interface(library: Path):
    case = load_case("larq_signzero_exact")
    artifact = package.load(library)
    assert list(artifact.input_names) == ["input"] and list(artifact.output_names) == ["quant_dense_3"]
    assert case.differences(artifact.run(dict(case.inputs))) == []


def test_the_python_interface_reports_the_users_mistakes(tmp_path: Path):
    with pytest.raises(package.BnnccError, match="no such file"):
        package.compile(tmp_path / "absent.onnx")
    with pytest.raises(package.BnnccError, match=str(tmp_path)):
        package.load(tmp_path)


def test_verify_agrees(tmp_path: Path, bnncc: Shell):
    path = load_case("digits_bnn_bop_legacy").write_model(tmp_path)
    assert "every value agrees" in bnncc.fine("verify", path, "--samples", "2").out
    result = bnncc.fine("verify", path, "--samples", "2", "--seed", "7", "--json").json
    assert result["passed"] and result["samples"] == 2


def test_bench_prints_a_table(library: Path, bnncc: Shell):
    assert "median" in bnncc.fine("bench", library, "--repeat", "2").out
    layers = bnncc.fine("bench", library, "--repeat", "2", "--layers", "--json").json["layers"]
    assert len(layers) > 3


def test_targets_are_listed(bnncc: Shell):
    names = [row["name"] for row in bnncc.fine("targets", "--json").json["targets"]]
    assert {"native", "c", "x86-64-v2", "x86-64-v3", "x86-64-v4", "znver4"} <= set(names)
    assert all(name in bnncc.fine("targets").out for name in names)


@pytest.fixture
def tvm_loads(monkeypatch: pytest.MonkeyPatch):
    """Takes for granted what a process of its own finds out in seconds."""
    monkeypatch.setattr(doctor, "_loads", lambda module: doctor.Finding(f"import {module}", "loads"))


def test_doctor_finds_this_machine_ready(bnncc: Shell, monkeypatch: pytest.MonkeyPatch):
    findings = doctor.examine()
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    answer = bnncc.fine("doctor")
    assert "ready" in answer.out and "MISSING" not in answer.out
    subjects = {finding["subject"] for finding in bnncc.fine("doctor", "--json").json["findings"]}
    assert {"python", "apache-tvm-ffi", "C compiler", "archiver", "processor", "onnxruntime"} <= subjects


@pytest.mark.usefixtures("tvm_loads")
def test_doctor_says_what_installs_what_is_missing(bnncc: Shell, monkeypatch: pytest.MonkeyPatch):
    wanted = [("apache-tvm-ffi", "==0.1.0"), ("no-such-package-as-this", ">=1")]
    monkeypatch.setattr(doctor, "requirements", lambda of_extras=False: wanted)
    monkeypatch.setenv("CC", "no-such-compiler")
    answer = bnncc("doctor")
    assert answer.code == 3
    assert "WRONG    apache-tvm-ffi" in answer.out and "but ==0.1.0 is needed" in answer.out
    assert "MISSING  no-such-package-as-this" in answer.out
    assert "pip install apache-tvm-ffi==0.1.0" in answer.out
    assert "pip install 'no-such-package-as-this>=1'" in answer.out
    assert "no-such-compiler" in answer.out


@pytest.mark.usefixtures("tvm_loads")
def test_a_missing_optional_package_is_no_illness(bnncc: Shell, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "OPTIONAL", ("no-such-package-as-this",))
    answer = bnncc.fine("doctor")
    assert "absent" in answer.out and "pip install no-such-package-as-this" in answer.out


@pytest.mark.parametrize(
    ("version", "versions", "fits"),
    [
        ("2.4.6", "<3,>=2.0", True),
        ("1.26.4", "<3,>=2.0", False),
        ("3.0", "<3,>=2.0", False),
        ("2", ">=2.0.0", True),
        ("1.9", ">=1.20", False),
        ("2.13.0+cpu", "==2.13.0", True),
        ("0.27.0.post2", "==0.27.0.post1", False),
        ("2.0", "!=2.0", False),
        ("1.0", "", True),
    ],
)
def test_doctor_knows_the_versions_that_are_asked_for(version: str, versions: str, fits: bool):
    assert doctor.fits(version, versions) == fits


def test_all_requirements_are_of_a_form_that_doctor_knows():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    for line in (*project["dependencies"], *extras):
        parsed = doctor.REQUIREMENT.match(line)
        assert parsed, line
        for condition in filter(None, parsed["versions"].split(",")):
            assert re.match(r"(==|!=|>=|<(?!=))\d", condition), line


@pytest.mark.usefixtures("tvm_loads")
def test_a_version_outside_of_its_range_is_told(bnncc: Shell, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        doctor, "requirements", lambda of_extras=False: [("numpy", "<2,>=1"), ("onnx", ">=1.20,<2")]
    )
    answer = bnncc("doctor")
    assert answer.code == 3
    assert re.search(r"WRONG    numpy .*but <2,>=1 is needed\n.*pip install 'numpy<2,>=1'", answer.out)
    assert re.search(r"ok       onnx ", answer.out)


def test_names_in_letters_that_a_terminal_does_not_know(tmp_path: Path):
    """One of them is no text at all, as only file systems have it."""
    model = tmp_path / os.fsdecode(b"\xff m\xc3\xb6del.onnx")
    shutil.copy(load_case("larq_signzero_exact").write_model(tmp_path), model)
    command = [sys.executable, "-m", "bnncc", "compile", model, "--emit", "c", "-o", tmp_path / "\N{SNOWMAN}"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert package.load(tmp_path / "\N{SNOWMAN}").manifest["source"] == model.name


def test_what_is_ended_leaves_nothing_behind(tmp_path: Path):
    """In the middle of compiling, by the signal of `kill` and `timeout`; a compiler that hangs ends, too."""
    for folder in ("work", "out"):
        (tmp_path / folder).mkdir()
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\ntouch "{tmp_path}/on"\nexec sleep 1000\n')
    compiler.chmod(0o755)
    model = load_case("larq_signzero_exact").write_model(tmp_path)
    options = ("--cc", str(compiler), "-o", str(tmp_path / "out" / "net"))
    command = [sys.executable, "-m", "bnncc", "compile", str(model), *options]
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path / "work")})
    try:
        wait_until(lambda: (tmp_path / "on").exists() or process.poll() is not None, "no compiler was called")
        process.terminate()
        assert process.wait(PATIENCE) == 130
    finally:
        process.kill()
    assert not [*(tmp_path / "work").iterdir(), *(tmp_path / "out").iterdir()]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_who_ends_it_interrupts_it(name: str, before: signal.Handlers, monkeypatch: pytest.MonkeyPatch):
    """Unless that is ignored, as under `nohup`."""
    monkeypatch.setattr(cli, "main", lambda: 0)
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.Signals[name], before)
        with pytest.raises(SystemExit):
            cli.entry()
        found = signal.getsignal(signal.Signals[name])
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert found is (signal.default_int_handler if before is signal.SIG_DFL else signal.SIG_IGN)


def failing(error: BaseException):
    def command(_chosen: object) -> int:
        raise error

    return command


def test_a_fault_of_ours_is_one_message(bnncc: Shell, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(targets, "execute", failing(ValueError("the moon\nis full")))
    answer = bnncc("targets")
    assert answer.code == 3 and answer.out == ""
    assert "internal error at test_cli.py:" in answer.err and "ValueError: the moon is full" in answer.err
    assert "Traceback" not in answer.err
    assert "Traceback" in bnncc("targets", "--debug").err
    monkeypatch.setenv("BNNCC_DEBUG", "1")
    assert "Traceback" in bnncc("targets").err


def test_an_interruption_is_no_fault(bnncc: Shell, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(targets, "execute", failing(KeyboardInterrupt()))
    answer = bnncc("targets")
    assert answer.code == 130 and "Traceback" not in answer.err


def test_a_reader_that_left_is_no_fault():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "bnncc", "targets"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


class Terminal(io.StringIO):
    """A stream that somebody watches."""

    def isatty(self) -> bool:
        return True


def test_progress_is_for_those_who_watch():
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        with Progress(stream) as progress:
            progress("generating kernels")
        assert ("generating kernels" in stream.getvalue()) == shown
        assert stream.getvalue().endswith("\r\x1b[K" if shown else "")


def test_what_can_be_emitted_is_what_the_help_says():
    from bnncc.codegen import EMITTABLE, PACKAGES

    assert (argument_types.EMITS, compile.PACKAGES) == (EMITTABLE, PACKAGES)


def test_the_library_is_named_after_the_model(tmp_path: Path, bnncc: Shell, monkeypatch: pytest.MonkeyPatch):
    path = load_case("larq_signzero_exact").write_model(tmp_path).rename(tmp_path / "signs-2.onnx")
    monkeypatch.chdir(tmp_path)
    answer = bnncc.fine("compile", path.name)
    assert answer.out.startswith("signs_2: ")
    assert (tmp_path / "signs_2" / "libsigns_2.a").is_file()


def test_a_camera_buffer_goes_in_as_it_is(tmp_path: Path, bnncc: Shell):
    path = load_case("digits_bnn_bop_legacy").write_model(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    camera = ("--input-type", "u8", "--input-layout", "nhwc", "--normalize", "100,50")
    bnncc.fine("compile", path, "-o", tmp_path / "camera", *camera)
    bnncc.fine("compile", path, "-o", tmp_path / "plain")
    got = bnncc.run(tmp_path / "camera", {"x": pixels}, tmp_path)["logits"]
    normal = ((pixels.astype(np.float32) - 100) / 50).transpose(0, 3, 1, 2)
    expected = bnncc.run(tmp_path / "plain", {"x": np.ascontiguousarray(normal)}, tmp_path)["logits"]
    np.testing.assert_array_equal(got, expected)
