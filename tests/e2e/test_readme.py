# SPDX-License-Identifier: Apache-2.0
"""What the README tells a newcomer to type does what it says."""

from __future__ import annotations

import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from bnncc import targets
from bnncc.toolchain import c_compiler
from tests.cases import load_case
from tests.e2e.commands import Shell
from tests.host import CC
from tests.models import make_model, write

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PYTHON_PAGE = (ROOT / "docs" / "python.md").read_text()
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


def test_the_firmware_of_two_networks_compiles(tmp_path: Path, bnncc: Shell):
    (program,) = re.findall(r"```c\n(.*?)```", (ROOT / "docs" / "firmware.md").read_text(), re.DOTALL)
    digits = load_case("digits_bnn_bop_legacy").write_model(tmp_path)
    pixels = ("--input-type", "u8", "--normalize", "0,16")
    for model, *options in ((digits, "--name", "digits", *pixels), (halves(tmp_path),)):
        folder = tmp_path / "build" / model.stem
        told = bnncc.fine("compile", model, *options, "--emit", "lib", "-o", folder).out
        (arena,) = re.findall(r"_ARENA_BYTES (\d+)", next(folder.glob("*.h")).read_text())
        assert f"; arena {int(arena):,}; inputs " in told
    (tmp_path / "look.c").write_text(program)
    include = [f"-I{folder}" for folder in (tmp_path / "build").iterdir()]
    subprocess.run([*CC, "-Wall", "-Wextra", "-Werror", *include, "-c", "look.c"], cwd=tmp_path, check=True)


def test_the_page_on_python_runs(tmp_path: Path):
    import torch

    layer = torch.nn.Conv2d(3, 10, 32)
    network = torch.nn.Sequential(layer, torch.nn.Flatten()).eval()
    weights = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    nodes = [
        helper.make_node("Conv", ["x", "weight", "bias"], ["c"]),
        helper.make_node("Flatten", ["c"], ["output"]),
    ]
    write(tmp_path, make_model(nodes, {"x": (1, 3, 32, 32)}, ["output"], weights), "net.onnx")
    opening, loop, comparison, estimators = re.findall(r"```python\n(.*?)```", PYTHON_PAGE, re.DOTALL)
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    names: dict[str, Any] = {"np": np, "torch": torch, "network": network, "images": images}
    opening = opening.replace('"net.onnx"', f"{str(tmp_path / 'net.onnx')!r}")
    exec(opening.replace('"build"', f"{str(tmp_path / 'build')!r}") + loop + comparison, names)
    np.testing.assert_allclose(names["answers"], names["expected"], atol=1e-5)
    np.testing.assert_array_equal(names["scores"][0], names["answers"][0])
    x = torch.linspace(-2, 2, 8)
    for line in estimators.splitlines():
        assert torch.equal(eval(line, {"torch": torch, "x": x}).round(decimals=5), x.sign()), line


def test_its_commands_and_options_exist(bnncc: Shell):
    pages = ("firmware.md", "networks.md", "python.md", "spiking.md")
    text = README + "".join((ROOT / "docs" / page).read_text() for page in pages)
    for command in set(re.findall(r"bnncc (compile|run|verify|inspect|bench|tune|targets|doctor)\b", text)):
        assert bnncc.fine(command, "--help").out
    known = "".join(bnncc.fine(command, "--help").out for command in ("compile", "run", "bench", "tune"))
    ours = re.sub(r"`python -m tvm[^`]*`", "", text)
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", ours)):
        assert option in known


def test_the_page_on_targets_knows_every_key(tmp_path: Path):
    page = (ROOT / "docs" / "targets.md").read_text()
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)))
    known = {re.sub("^(serial_|flash_(?=command))", "", f.name) for f in fields(targets.Target)}
    assert known - {"name"} <= {*listed}
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "my-board.toml").write_text(example)
    mine, shipped = targets.load(str(tmp_path / "my-board.toml")), targets.load("cortex-m4f")
    boards = {"name", "description", "emulator", "flash_address", "flash_bytes", "ram_address", "ram_bytes"}
    other = {f.name for f in fields(shipped) if getattr(mine, f.name) != getattr(shipped, f.name)}
    assert {name for name in other if not name.startswith("serial_")} <= boards


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
