# SPDX-License-Identifier: Apache-2.0
"""Whether a tuned network is compared with its default rightly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bnncc.tuning import confirm
from bnncc.tuning.confirm import Verdict, judge


class Library:
    """Two layers that take so many milliseconds, of kernels with these names; and more where they follow one
    another. They take them of a clock of their own."""

    now = 0.0
    is_stateful, emulator, threads = False, None, 2

    def __init__(self, kernels: str, milliseconds: tuple[float, float], together: float = 0):
        self.times, self.together = milliseconds, together
        self.manifest = {"inputs": [], "outputs": [], "steps": [{"kernel": name} for name in kernels]}

    def arena(self) -> None:
        pass

    def bind(self, *_: object) -> Callable[[], None]:
        return lambda: self.spend(sum(self.times) + self.together)

    def bind_layer(self, index: int, *_: object) -> Callable[[], None]:
        return lambda: self.spend(self.times[index])

    @classmethod
    def spend(cls, milliseconds: float) -> None:
        cls.now += milliseconds / 1000


DEFAULT: Any = Library("ab", (4, 4))


@pytest.mark.parametrize(
    ("tuned", "changed", "lost", "is_worse"),
    [
        (Library("ab", (9, 9)), (), (), False),
        (Library("xb", (2, 4)), (0,), (), False),
        (Library("xb", (8, 4)), (0,), (0,), True),
        (Library("xy", (2, 8)), (0, 1), (1,), True),
        (Library("xy", (2, 2), together=8), (0, 1), (), True),
    ],
    ids=["same", "faster", "slower", "one-slower", "slower-together"],
)
def test_verdicts(
    monkeypatch: pytest.MonkeyPatch,
    tuned: Any,
    changed: tuple[int, ...],
    lost: tuple[int, ...],
    is_worse: bool,
):
    monkeypatch.setattr(confirm, "clock_of", lambda threads: (lambda: Library.now, "a clock"))
    verdict = judge(DEFAULT, tuned)
    assert (verdict.changed, verdict.lost, verdict.is_worse) == (changed, lost, is_worse)


def test_what_is_said():
    assert "default kernels" in confirm.described([Verdict((), (), 1.0)])
    assert confirm.described([Verdict((1, 2), (2,), 0.97), Verdict((1,), (), 0.955)]) == (
        "The whole network, in turns with the default: 0.955 of its time; 1 of 2 layers were not faster "
        "there and keep the default."
    )
