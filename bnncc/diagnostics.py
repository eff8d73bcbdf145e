# SPDX-License-Identifier: Apache-2.0
"""Errors that are for people: where, what, why, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What a `bnncc` command tells the shell."""

    FINE = 0
    DIFFERS = 1
    """A result differs from the reference, or a budget breaks."""
    USER = 2
    """The user's input is wrong: the model, an option, an array."""
    FAILURE = 3
    """A tool is missing, a device failed, or the fault is ours."""


LONGEST_LIST = 10
"""Mistakes told, or places named, before the rest is counted only."""


@dataclass(eq=False)
class BnnccError(Exception):
    """One mistake, said so that the reader can mend it.

    location: where it is, in the user's terms (`model.onnx:/conv1/Conv`, `--dim`), or "" if nowhere.
    message: what is wrong and why, one sentence.
    hint: what to do about it, or "".
    exit_code: what the command line returns for it.
    """

    location: str
    message: str
    hint: str = ""
    exit_code: ExitCode = ExitCode.USER

    def __str__(self) -> str:
        return "\n".join(self.blocks())

    @property
    def problems(self) -> tuple[BnnccError, ...]:
        """The single mistakes: itself, or those that `joined` put together."""
        return (self,)

    def blocks(self) -> list[str]:
        """One text per mistake: where and what on the first line, the hint on another."""
        where = f"{self.location}: " if self.location else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return [f"{where}{self.message}{hint}"]


class BnnccErrors(BnnccError):
    """Several mistakes of the same input, told together."""

    def __init__(self, problems: Sequence[BnnccError]):
        """problems: at least two, in the order of the input."""
        subject = problems[0].location.partition(":")[0]
        message = f"{len(problems)} problems" + (f" in {subject}" if subject else "")
        super().__init__(subject, message, "", max(problem.exit_code for problem in problems))
        self._problems = tuple(problems)

    @property
    def problems(self) -> tuple[BnnccError, ...]:
        """In the order of the input."""
        return self._problems

    def blocks(self) -> list[str]:
        """One for each mistake, those of the same words together, a hint only once; the last counts them."""
        alike: dict[tuple[str, str], list[BnnccError]] = {}
        for problem in self._problems:
            alike.setdefault((problem.message, problem.hint), []).append(problem)
        found: list[str] = []
        hints: set[str] = set()
        for (message, hint), same in list(alike.items())[:LONGEST_LIST]:
            first, *others = (problem.location for problem in same)
            lines = [f"{first}: {message}" if first else message]
            lines += [f"  also at {_listed([place.partition(':')[2] or place for place in others])}"] * bool(
                others
            )
            lines += [f"  hint: {hint}"] * (hint not in ("", *hints))
            hints.add(hint)
            found.append("\n".join(lines))
        left = sum(len(same) for same in list(alike.values())[LONGEST_LIST:])
        return [*found, self.message + (f", {left} of them not shown" if left else "")]


def _listed(places: Sequence[str]) -> str:
    more = f" and {len(places) - LONGEST_LIST} more" if len(places) > LONGEST_LIST else ""
    return ", ".join(places[:LONGEST_LIST]) + more


def joined(errors: Sequence[BnnccError]) -> BnnccError:
    """One error for one mistake or several."""
    problems = [problem for error in errors for problem in error.problems]
    return problems[0] if len(problems) == 1 else BnnccErrors(problems)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to begin a hint with, where something known is spelled much the same, else ""."""
    spelled = {word.lower(): word for word in known}
    close = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=0.7)
    return f"did you mean '{spelled[close[0]]}'? " if close else ""
