# SPDX-License-Identifier: Apache-2.0
"""Runs the `// RUN:` lines of the .mlir files next to this one, in this process.

A line is `bnncc-opt OPTIONS | bnncc-opt OPTIONS | filecheck OPTIONS`, %s standing for the file.
"""

from __future__ import annotations

import contextlib
import io
import shlex
from pathlib import Path

import pytest
from filecheck.matcher import Matcher
from filecheck.options import parse_argv_options

from bnncc import opt
from bnncc.dialect import BNN
from bnncc.universe import PASSES

HERE = Path(__file__).parent
FILES = sorted(HERE.rglob("*.mlir"))


def run_lines(path: Path) -> list[str]:
    """What follows `// RUN:` in a file."""
    lines = path.read_text().splitlines()
    return [line.partition("RUN:")[2].strip() for line in lines if line.startswith("// RUN:")]


def run_opt(arguments: list[str]) -> str:
    """What bnncc-opt prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        opt.main(arguments)
    return output.getvalue()


def run_pipeline(line: str, path: Path, folder: Path) -> None:
    """Run one line, each stage reading what the one before it printed."""
    source = path
    for index, stage in enumerate(line.split("|")):
        name, *arguments = shlex.split(stage)
        arguments = [argument.replace("%s", str(path)) for argument in arguments]
        if name == "bnncc-opt":
            text = run_opt(arguments if index == 0 else [str(source), *arguments])
            source = folder / f"{index}.mlir"
            source.write_text(text)
        else:
            assert name == "filecheck", line
            options = parse_argv_options(["filecheck", *arguments, "--input-file", str(source)])
            assert Matcher.from_opts(options).run() == 0, source.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HERE)))
def test_file(path: Path, tmp_path: Path) -> None:
    lines = run_lines(path)
    assert lines, "a file needs a RUN line"
    for index, line in enumerate(lines):
        folder = tmp_path / str(index)
        folder.mkdir()
        run_pipeline(line, path, folder)


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_has_a_file(name: str) -> None:
    assert (HERE / "passes" / f"{name}.mlir").exists()


@pytest.mark.parametrize("name", sorted(kind.name for kind in BNN.operations))
def test_the_conversion_of_every_operation_has_a_file(name: str) -> None:
    """To upstream MLIR."""
    texts = [path.read_text() for path in (HERE / "linalg").glob("*.mlir")]
    assert any(f"{name} " in text or f'"{name}"' in text for text in texts)
