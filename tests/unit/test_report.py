# SPDX-License-Identifier: Apache-2.0
"""Reports: the numbers of all forms are those of the plan; a page is well-formed, says what it was told."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import pytest

import bnncc
from bnncc.report.html import Measured, report_html
from tests.cases import load_case
from tests.e2e.commands import Shell

VOID = {"meta", "br"}


class Checker(HTMLParser):
    """Collects text, and asserts that every tag that is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read_page(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    assert not checker.open
    return checker


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    model = load_case("digits_bnn_bop_legacy").write_model(folder)
    bnncc.compile(model, output=folder / "out", emit=("lib", "so"))
    return folder


def test_the_numbers_are_those_of_the_plan(folder: Path):
    facts = json.loads((folder / "out" / "report.json").read_text())
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    assert [layer["macs"] for layer in facts["layers"]] == [step["macs"] for step in manifest["steps"]]
    arena = manifest["arena"]["bytes"]
    assert max(layer["ram_bytes"] for layer in facts["layers"]) == manifest["arena"]["lower_bound_bytes"]
    assert facts["ram"] == {
        "arena_bytes": arena,
        "arena_lower_bound_bytes": manifest["arena"]["lower_bound_bytes"],
        "inputs_bytes": 64 * 4,
        "outputs_bytes": 10 * 4,
        "stack_bytes": None,
    }
    for value in facts["memory"]:
        assert 0 <= value["offset"] < value["offset"] + value["bytes"] <= arena
        assert 0 <= value["first"] <= value["last"] < len(facts["layers"])
    assert facts["flash"] == {key: manifest[key] for key in ("code_bytes", "weights_bytes")}


def test_values_alive_at_once_lie_apart(folder: Path):
    memory = json.loads((folder / "out" / "report.json").read_text())["memory"]
    pairs = [
        (one, other)
        for one, other in combinations(memory, 2)
        if one["first"] <= other["last"] and other["first"] <= one["last"]
    ]
    assert pairs
    for one, other in pairs:
        ends = one["offset"] + one["bytes"], other["offset"] + other["bytes"]
        assert ends[0] <= other["offset"] or ends[1] <= one["offset"]


def test_the_page_shows_every_layer_and_every_value(folder: Path):
    facts = json.loads((folder / "out" / "report.json").read_text())
    page = read_page((folder / "out" / "report.html").read_text())
    text = " ".join(page.text)
    for layer in facts["layers"]:
        assert layer["location"] in text and layer["operation"] in text
    assert page.count["rect"] == len(facts["memory"])
    assert "Roofline" not in text and "http" not in (folder / "out" / "report.html").read_text()


def test_names_from_a_model_do_no_harm(folder: Path):
    facts = json.loads((folder / "out" / "report.json").read_text())
    facts["layers"][0] |= {"location": "<script>alert(1)</script>", "note": "a & b"}
    facts["memory"][0]["name"] = "</title><script>"
    assert "script" not in read_page(report_html(facts)).count


def test_a_measurement_adds_a_column_and_the_roofline(folder: Path):
    facts = json.loads((folder / "out" / "report.json").read_text())
    values = [float(100 + i) for i in range(len(facts["layers"]))]
    page = read_page(report_html(facts, Measured("instructions", "somewhere", values)))
    assert "Roofline" in " ".join(page.text) and "somewhere." in " ".join(page.text)
    assert page.count["circle"] == sum(layer["macs"] > 0 for layer in facts["layers"])


def test_bench_writes_the_page(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    Shell(capsys).fine("bench", folder / "out", "--repeat", "1", "--html", tmp_path / "page.html")
    assert "Roofline" in " ".join(read_page((tmp_path / "page.html").read_text()).text)
