# SPDX-License-Identifier: Apache-2.0
"""Damaged models by the thousand: each is compiled or refused, with exit code 2 and a place. `python -m
tests.fuzzing` judges more of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import ModelProto

from bnncc import driver
from bnncc.diagnostics import BnnccError, ExitCode
from tests.fuzzing import mutations
from tests.fuzzing.misbehaviour import DIES, GROWS, HANGS, misbehave
from tests.fuzzing.mutations import CHANGES, Mutator
from tests.fuzzing.nir_mutations import judge_nir
from tests.fuzzing.workers import Judge, Verdict, judge, judge_all

COUNT = 500
ALL = 20_000
CHUNK = 250
FILES = 125
"""Of NIR, whose files can be damaged in fewer ways."""


def check(first: int, count: int, judged: Judge = judge) -> None:
    """Judge so many models; most of the damage is refused, and some is not noticed."""
    verdicts = list(judge_all(range(first, first + count), 1, judged))
    faults = [verdict for verdict in verdicts if verdict.is_fault]
    assert not faults, "\n".join(f"{v.number}: {v.outcome}\n{v.detail}" for v in faults[:5])
    assert len(verdicts) == count
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    assert outcomes["refused"] > count // 4 and outcomes["compiled"] > count // 10, outcomes


@pytest.mark.parametrize("first", range(0, COUNT, CHUNK))
def test_no_model_hurts_the_compiler(first: int) -> None:
    check(first, CHUNK)


def test_no_nir_file_hurts_the_compiler() -> None:
    check(0, FILES, judge_nir)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FILES, 5_000, 1_000))
def test_thousands_of_nir_files_do_not_either(first: int) -> None:
    check(first, 1_000, judge_nir)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(COUNT, ALL, 1_000))
def test_thousands_of_models_do_not_either(first: int) -> None:
    check(first, 1_000)


def test_crashes_hangs_and_greed_are_noticed() -> None:
    """Negative control, and the other models are judged nevertheless."""
    verdicts = {v.number: v for v in judge_all(range(8), 2, misbehave, patience=5.0)}
    assert len(verdicts) == 8
    assert verdicts[DIES].outcome.startswith("died")
    assert verdicts[HANGS].outcome == "hangs"
    assert verdicts[GROWS].outcome == "MemoryError"
    assert {number for number, verdict in verdicts.items() if verdict.is_fault} == {DIES, HANGS, GROWS}


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (RecursionError("deep"), "RecursionError"),
        (KeyError("x"), "KeyError"),
        (BnnccError("model.onnx", "ours", "", ExitCode.FAILURE), "exit 3"),
        (BnnccError("", "nowhere"), "exit 2"),
    ],
)
def test_anything_but_a_refusal_is_a_fault(
    raised: Exception, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: other exceptions, faults of ours, and refusals that name no place."""

    def broken(*_: object) -> None:
        raise raised

    monkeypatch.setattr(driver, "lower_model", broken)
    verdict: Verdict = judge(0, tmp_path)
    assert verdict.outcome == outcome and verdict.is_fault and "Traceback" in verdict.detail


def test_every_change_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry of the table changes some of the models that are always judged."""
    made = set()

    def noting(change: Callable[[Mutator, ModelProto], None]) -> Callable[[Mutator, ModelProto], None]:
        def noted(mutator: Mutator, model: ModelProto) -> None:
            before = model.SerializeToString(deterministic=True)
            change(mutator, model)
            if model.SerializeToString(deterministic=True) != before:
                made.add(change)

        return noted

    monkeypatch.setattr(mutations, "CHANGES", tuple(map(noting, CHANGES)))
    for number in range(COUNT):
        Mutator(number).model()
    assert made == set(CHANGES)


def test_models_are_drawn_alike_every_time() -> None:
    assert Mutator(17).model() == Mutator(17).model()
    assert len({Mutator(number).model() for number in range(50)}) > 45
