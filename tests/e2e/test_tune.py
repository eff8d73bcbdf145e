# SPDX-License-Identifier: Apache-2.0
"""`bnncc tune`, and compiling with what it found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cases import load_case
from tests.e2e.commands import Shell

DIGITS = "digits_bnn_bop_legacy"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return load_case(DIGITS).write_model(tmp_path)


def test_a_tuned_network_is_used_and_agrees(bnncc: Shell, model: Path, tmp_path: Path):
    """Instructions on an emulated Cortex-A72: the tuned network takes fewer, and every layer is right."""
    database, page = tmp_path / "tuning.json", tmp_path / "search.html"
    chosen = ("--target", "cortex-a72", "--device", "qemu")
    found = bnncc.fine(
        "tune", model, *chosen, "--db", database, "--trials", "9", "--report", page, "--json"
    ).json
    assert found["unit"] == "instructions" and found["trials"] > 20
    better = [layer for layer in found["layers"] if layer["parameters"]]
    assert better and all(layer["best"] < layer["default"] for layer in better)
    text = page.read_text()
    assert text.count("<svg") == len(found["layers"]) and not re.search(r"(src|href)=", text)

    after = ("--target", "cortex-a72", "--tuning-db", database)
    counts = [
        bnncc.fine("bench", model, *options, "--json").json["instructions"]
        for options in (("--target", "cortex-a72"), after)
    ]
    saved = sum((layer["default"] - layer["best"]) * len(layer["nodes"]) for layer in better)
    assert counts[1] < counts[0] - 0.9 * saved
    assert bnncc.fine("verify", model, *after, "--json").json["passed"]
    bnncc.fine("compile", model, *after, "-o", tmp_path / "out")
    assert (
        f"{len(better)} have another kernel than the default" in (tmp_path / "out" / "report.txt").read_text()
    )


def test_on_this_machine_the_whole_network_is_compared_in_the_end(bnncc: Shell, model: Path, tmp_path: Path):
    answer = bnncc.fine("tune", model, "--db", tmp_path / "db", "--trials", "3")
    assert "The whole network" in answer.out
    bnncc.fine("verify", model, "--tuning-db", tmp_path / "db")


def test_a_database_of_another_processor_changes_nothing(bnncc: Shell, model: Path, tmp_path: Path):
    """One of a Cortex-M4, whose table says that instructions are not cycles."""
    database = tmp_path / "tuning.json"
    answer = bnncc.fine("tune", model, "--target", "cortex-m4", "--db", database, "--trials", "2")
    assert "instructions, not cycles, of a call" in answer.out and "/c1/Conv" in answer.out
    assert "The whole network" in answer.out
    assert {layer["key"]["isa"]["name"] for layer in json.loads(database.read_text())["layers"]} == {"cdsp"}
    bnncc.fine("compile", model, "--target", "cortex-m3", "--tuning-db", database, "-o", tmp_path / "tuned")
    bnncc.fine("compile", model, "--target", "cortex-m3", "-o", tmp_path / "plain")
    tuned, plain = ((tmp_path / name / "libmodel.a").read_bytes() for name in ("tuned", "plain"))
    assert tuned == plain
    assert "of 0 layers measured" in (tmp_path / "tuned" / "report.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tune", "MODEL"), "--db"),
        (("tune", "MODEL", "--db", "db", "--time", "soon"), "is no time"),
        (("tune", "MODEL", "--db", "db", "--device", "bord"), "is no device"),
        (("tune", "MODEL", "--db", "db", "--device", "pi@board"), "did you mean 'ssh://pi@board'?"),
        (("tune", "MODEL", "--db", "db", "--device", "/dev/ttyS0"), "did you mean 'serial:///dev/ttyS0'?"),
        (("tune", "nowhere.onnx", "--db", "db"), "no such file"),
        (("tune", "MODEL", "--db", "db", "--tuning-db", "db"), "leave --tuning-db out"),
        (("tune", "MODEL", "--db", "db", "--backend", "mlir"), "have nothing to tune"),
        (
            ("tune", "MODEL", "--db", "missing/db", "--target", "cortex-m4", "--trials", "1"),
            "cannot be written",
        ),
        (("compile", "MODEL", "--tuning-db", "nowhere.json"), "there is no file"),
        (("compile", "MODEL", "--tuning-db", "MODEL"), "is no tuning database"),
    ],
)
def test_mistakes_are_told(
    bnncc: Shell, model: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
):
    monkeypatch.chdir(model.parent)
    answer = bnncc(*(str(model) if argument == "MODEL" else argument for argument in arguments))
    assert answer.code == 2 and message in answer.err
