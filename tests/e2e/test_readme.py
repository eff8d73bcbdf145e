# SPDX-License-Identifier: Apache-2.0
"""What the README tells a newcomer to type does what it says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
from onnx import helper

from bnncc import targets
from bnncc.toolchain import c_compiler
from tests.e2e.commands import Shell
from tests.models import make_model, write

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def halves(folder: Path) -> Path:
    """A binary network with the face of docs/first_model.py: brighter on the left, or on the right?"""
    side = np.ones((2, 1, 8, 8), np.float32)
    side[1, :, :, 4:] = side[0, :, :, :4] = -1
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["sum"], "/conv"),
        helper.make_node("Flatten", ["sum"], ["score"], "/flatten"),
    ]
    model = make_model(nodes, {"image": (1, 1, 8, 8)}, ["score"], {"w": side})
    return write(folder, model, "halves.onnx")


def test_the_c_program_is_compiled_and_runs(tmp_path: Path, bnncc: Shell):
    (program,) = re.findall(r"```c\n(.*?)```", README, re.DOTALL)
    bnncc.fine("compile", halves(tmp_path), "-o", tmp_path / "build")
    (tmp_path / "main.c").write_text(program)
    compiler = c_compiler.find(targets.native()).compiler
    command = [*compiler, "-Wall", "-Wextra", "-Werror", "-Ibuild", "main.c", "build/libhalves.a", "-lm"]
    subprocess.run([*command, "-o", "program"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True)
    assert done.stdout == "left\n"


def test_its_commands_and_options_exist(bnncc: Shell):
    text = README + "".join((ROOT / "docs" / page).read_text() for page in ("spiking.md", "networks.md"))
    for command in set(re.findall(r"bnncc (compile|run|verify|inspect|bench|tune|targets|doctor)\b", text)):
        assert bnncc.fine(command, "--help").out
    known = "".join(bnncc.fine(command, "--help").out for command in ("compile", "run", "bench", "tune"))
    ours = re.sub(r"`python -m tvm[^`]*`", "", text)
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", ours)):
        assert option in known


def test_its_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_its_python_is_that_of_the_first_model():
    snippet = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    assert snippet in (ROOT / "docs" / "first_model.py").read_text()


def test_its_table_of_networks_is_that_of_the_page_on_performance():
    """Numbers are copied by hand: none may be left behind when the page has new ones."""
    measured = README.partition("## Measured")[2].partition("## Status")[0]
    shown = table_rows(measured)
    page = (ROOT / "docs" / "performance.md").read_text().partition("## Whole networks")[2]
    known = table_rows(page.partition("## Smaller networks")[0])
    networks = {"quicknetsmall", "quicknet", "birealnet18", "reactneta"}
    assert networks <= shown.keys() & known.keys()
    for name in networks:
        assert set(shown[name]) <= set(known[name]), name


def table_rows(text: str) -> dict[str, list[str]]:
    """The cells of each row of the tables in a text, by what its first cell says in letters and digits."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    return {re.sub("[^a-z0-9]", "", cells[0].lower()): cells[1:] for cells in rows if cells}
