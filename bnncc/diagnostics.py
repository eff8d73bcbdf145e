# SPDX-License-Identifier: Apache-2.0
"""Errors that are for people: where, what, why, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
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


LONGEST_LIST = 20
"""Mistakes listed before the rest is counted only."""


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
        where = f"{self.location}: " if self.location else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{where}{self.message}{hint}"


def joined(errors: Sequence[BnnccError]) -> BnnccError:
    """One error for one mistake or several of the same model."""
    if len(errors) == 1:
        return errors[0]
    lines = [f"\n  {error.location or 'a node'}: {error.message}" for error in errors[:LONGEST_LIST]]
    more = f"\n  and {len(errors) - LONGEST_LIST} more" if len(errors) > LONGEST_LIST else ""
    hint = "; ".join(dict.fromkeys(error.hint for error in errors if error.hint))
    model = errors[0].location.partition(":")[0]
    exit_code = max(error.exit_code for error in errors)
    return BnnccError(model, f"{len(errors)} nodes are not supported:{''.join(lines)}{more}", hint, exit_code)
