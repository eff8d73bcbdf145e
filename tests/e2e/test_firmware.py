# SPDX-License-Identifier: Apache-2.0
"""The example firmware: one command builds it for three cores and runs it in QEMU."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bnncc import runtime
from tests.cases import load_case

CORES = ("cortex-m4", "cortex-m0plus", "rv32imc")


def make(*targets: str, build: Path) -> subprocess.CompletedProcess[str]:
    command = ("make", "-C", runtime.FOLDER / "examples" / "firmware", *targets)
    variables = (f"PYTHON={sys.executable}", f"MODEL={build / 'model.onnx'}", f"BUILD={build}")
    return subprocess.run((*command, *variables), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the firmwares were built."""
    folder = tmp_path_factory.mktemp("firmware")
    load_case("digits_bnn_bop_legacy").write_model(folder)
    done = make("all", build=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("core", CORES)
def test_the_firmware_reads_a_seven(core: str, build: Path):
    done = make(f"run-{core}", build=build)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this is a 7" in done.stdout + done.stderr


def test_a_firmware_with_other_golden_answers_fails(build: Path, tmp_path: Path):
    """Negative control."""
    damaged = Path(shutil.copytree(build, tmp_path / "build"))
    (damaged / "cortex-m4" / "firmware.elf").unlink()
    selftest = damaged / "cortex-m4" / "digits_selftest.c"
    text, count = re.subn(r"(golden_logits\[10\] = \{\s*)[-.\de]+", r"\g<1>77.0", selftest.read_text())
    assert count
    selftest.write_text(text)
    done = make("run-cortex-m4", build=damaged)
    assert done.returncode != 0 and "the self-test failed" in done.stdout + done.stderr
