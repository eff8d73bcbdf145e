# SPDX-License-Identifier: Apache-2.0
"""What a trial is scored in."""

from typing import Literal

Unit = Literal["s", "cycles", "instructions"]
"""Seconds of a call, cycles that a board's counter counted, or instructions that an emulator executed. The
last are exact; the others are measured in turns."""

UNITS: tuple[Unit, ...] = ("s", "cycles", "instructions")
"""What says most about a processor goes first."""

EXACT: tuple[Unit, ...] = ("instructions",)
