# SPDX-License-Identifier: Apache-2.0
"""docs/mlir.md: every command on the page runs, one after the other, and does what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnncc.codegen.mlir import find_tools
from bnncc.dialect.irdl import LATEST
from tests.cases import load_case

PAGE = Path(__file__).resolve().parents[2] / "docs" / "mlir.md"
TEXT = PAGE.read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```sh\n(.*?)\n```$", TEXT, re.M | re.S)
CASE = "digits_bnn_bop_legacy"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the model, and with `mlir-opt` under its plain name; all commands have run."""
    folder = tmp_path_factory.mktemp("page")
    load_case(CASE).write_model(folder)
    tools = folder / "tools"
    tools.mkdir()
    (tools / "mlir-opt").symlink_to(find_tools().mlir_opt)
    for name, module in (("bnncc", "bnncc"), ("bnncc-opt", "bnncc.opt")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (tools / name).chmod(0o755)
    for number, command in enumerate(COMMANDS):
        (folder / f"said_{number}.txt").write_text(run(command, folder))
    return folder


def run(command: str, folder: Path) -> str:
    """What a command prints that succeeds."""
    path = f"{folder / 'tools'}:{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "BNN_IRDL": str(LATEST), "PYTHONPATH": str(PAGE.parents[1])}
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stderr[:3000]}"
    return done.stdout


def said(folder: Path, word: str) -> str:
    """What the command with this word printed."""
    (number,) = (i for i, command in enumerate(COMMANDS) if command.startswith(word))
    return (folder / f"said_{number}.txt").read_text()


def test_there_are_ten(folder: Path) -> None:
    assert len(COMMANDS) == 10


def test_text_compiles_to_the_same_library(folder: Path) -> None:
    from_mlir = (folder / "from_mlir" / "libdigits.so").read_bytes()
    run("bnncc compile model.onnx --name digits -o from_onnx", folder)
    assert from_mlir == (folder / "from_onnx" / "libdigits.so").read_bytes()


def test_single_passes_can_be_looked_at(folder: Path) -> None:
    (commands,) = re.findall(r"^```bash\n(bnncc compile.*?)\n```$", TEXT, re.M | re.S)
    printed = run(commands, folder)
    assert "\nIR after recognize-binarize:\n" in printed and "bnn.binarize" in printed


def test_what_the_files_hold(folder: Path) -> None:
    upstream = (folder / "out" / "digits.linalg.mlir").read_text()
    assert "linalg.generic" in upstream and not re.search(r"\bbnn\.(?!inputs|outputs)", upstream)
    # Gathered windows of 3x3 pixels, which the direct form does not have.
    assert "x3x3x2xi32>" in (folder / "im2col.mlir").read_text()
    assert (folder / "fused.mlir").read_text().count("linalg.generic") < upstream.count("linalg.generic")
    assert "vector<" in (folder / "tiled.mlir").read_text()
    assert (folder / "read.mlir").read_text().count('"bnn.') > 5 or "bnn.fused" in (
        folder / "read.mlir"
    ).read_text()


def test_iree_gives_the_same_numbers(folder: Path) -> None:
    """An image of ones, through IREE and through ONNX's meaning of the model."""
    from bnncc.frontend.evaluate import ModelEvaluator

    printed = re.search(r"1x10xf32=\[(.*)\]", said(folder, "iree-run-module"))
    assert printed
    got = np.array(printed[1].split(), np.float32)
    expected = ModelEvaluator(folder / "model.onnx", {})({"x": np.ones((1, 1, 8, 8), np.float32)})["logits"]
    np.testing.assert_allclose(got, expected[0], rtol=1e-4, atol=1e-4)


def test_every_layer_agrees(folder: Path) -> None:
    assert "every value agrees" in said(folder, "bnncc verify")
