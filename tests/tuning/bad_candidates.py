# SPDX-License-Identifier: Apache-2.0
"""Programs one of whose kernels crashes, hangs or lies, and what that may cost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from bnncc.execution.boards import Execution
from bnncc.tuning import program
from bnncc.tuning.devices import Device
from bnncc.tuning.measure import SECONDS, Outcome
from bnncc.tuning.program import Requests


def misbehave(monkeypatch: pytest.MonkeyPatch, statement: str, condition: str = "if (which == 1) ") -> None:
    """Candidate 1 of every program with more than one executes a statement before its call; with "" all
    do."""
    header = program._header

    def changed(kernels, *arguments):
        text = header(kernels, *arguments)
        guard = condition if len(kernels) > 1 else ""
        start = "static void call_kernel(uint32_t which, void **p)\n{\n"
        assert start in text
        return text.replace(start, f"{start}    {guard}{{ {statement} }}\n")

    monkeypatch.setattr(program, "_header", changed)


def impatient_at_first(monkeypatch: pytest.MonkeyPatch, device: Device, seconds: float) -> Device:
    """The device gives its first program, in which a candidate hangs, so many seconds; the others have all
    the time there is, however busy the machine may be."""
    run, calls = device.run, itertools.count()

    def hurried(path: Path, requests: Requests, limit: float) -> Execution:
        assert limit >= SECONDS
        return run(path, requests, seconds if next(calls) == 0 else limit)

    monkeypatch.setattr(device, "run", hurried)
    return device


HANG = "extern int pause(void); for (;;) pause();"
"""A statement that takes no time of the processor from others."""


def only_the_second_fails(outcomes: Sequence[Outcome], problem: str = "") -> None:
    """Check that, and how it did."""
    good, bad, *others = outcomes
    assert all(outcome.score and not outcome.problem for outcome in (good, *others)), outcomes
    assert bad.score is None and bad.problem and problem in bad.problem, bad
