# SPDX-License-Identifier: Apache-2.0
"""The `bnncc` command as tests call it: in this process, its answers caught."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnncc.cli import main


@dataclass(frozen=True)
class Answer:
    """What a command said and the exit code it returned."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, parsed."""
        return json.loads(self.out)


class Shell:
    """Calls `bnncc` and catches its output."""

    def __init__(self, capture: pytest.CaptureFixture[str]):
        self._capture = capture

    def __call__(self, *arguments: str | Path) -> Answer:
        """Run one command."""
        self._capture.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = self._capture.readouterr()
        return Answer(code, out, err)

    def fine(self, *arguments: str | Path) -> Answer:
        """Run one command that must succeed."""
        answer = self(*arguments)
        assert answer.code == 0, answer.err
        return answer

    def run(self, model: Path, inputs: Mapping[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
        """The outputs of `bnncc run` on these inputs; the files go into the folder."""
        np.savez(folder / "inputs.npz", allow_pickle=False, **inputs)
        self.fine("run", model, "--input", folder / "inputs.npz", "--output", folder / "outputs.npz")
        with np.load(folder / "outputs.npz", allow_pickle=False) as outputs:
            return dict(outputs)
