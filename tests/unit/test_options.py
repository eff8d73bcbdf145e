# SPDX-License-Identifier: Apache-2.0
"""Keyword arguments of `bnncc.compile`: spelled as on the command line, checked before anything is read."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

import bnncc
from bnncc.cli import parser
from bnncc.diagnostics import BnnccError
from bnncc.frontend.camera import CameraInput
from bnncc.options import Options
from bnncc.plan.budget import Budgets

ELSEWHERE = {"output", "dim", "state", "print_ir_after", "json", "debug", "model", "command", "parser"}
"""What `compile` has under another name, or has not."""


def test_every_option_of_the_command_line_is_one_of_python():
    chosen = vars(parser().parse_args(["compile", "model.onnx"]))
    assert Options.of(dict.fromkeys(sorted(set(chosen) & {"ram", "flash"}))) == Options()
    for name in set(chosen) - ELSEWHERE:
        with pytest.raises(BnnccError) as caught:
            Options.of({name: None, "no_such": 1})
        assert caught.value.location == "no_such", name


def test_inputs_and_budgets():
    given = Options.of({"input_type": "u8", "normalize": (127.5, 64), "ram": 1024, "emit": "c,lib"})
    assert given.camera == CameraInput("u8", None, (127.5,), (64.0,))
    assert given.budgets == Budgets(1024, None)
    assert given.emit == ("c", "lib")
    each = Options.of({"normalize": ((1, 2, 3), (4, 5, 6))})
    assert each.camera == CameraInput(None, None, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


@pytest.mark.parametrize(
    ("option", "value", "where", "hint"),
    [
        ("optimise", "size", "optimise", "did you mean 'optimize'?"),
        ("optimize", "fast", "--optimize", "size, speed"),
        ("assume_sign_zero", 5, "--assume-sign-zero", "1, -1"),
        ("input_type", "u9", "--input-type", "u8, spikes, events"),
    ],
)
def test_a_wrong_option_is_the_users_mistake(option: str, value: Any, where: str, hint: str):
    with pytest.raises(BnnccError) as caught:
        Options.of({option: value})
    assert caught.value.location == where and hint in caught.value.hint


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("ram", "64k", "a number of bytes"),
        ("flash", 1.5, "a number of bytes"),
        ("threads", "2", "a number"),
        ("dims", "batch=4", "by name"),
        ("states", "a=b", "by those of inputs"),
        ("normalize", 5, "a mean and a deviation"),
        ("normalize", ("a", "b"), "a mean and a deviation"),
    ],
)
def test_a_value_of_another_type_is_the_users_mistake(option: str, value: Any, expected: str):
    with pytest.raises(BnnccError) as caught:
        bnncc.compile("no such file.onnx", **{option: value})
    assert caught.value.location == option
    assert expected in caught.value.message and repr(value) in caught.value.message


def test_type_checkers_read_the_package_and_it_is_shipped():
    project = tomllib.loads((Path(bnncc.__file__).parents[1] / "pyproject.toml").read_text())
    assert (Path(bnncc.__file__).parent / "py.typed").is_file()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["*"]
