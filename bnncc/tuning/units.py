# SPDX-License-Identifier: Apache-2.0
"""What a trial is scored in."""

from typing import Literal

Unit = Literal["s", "instructions"]
"""Seconds of a call, or instructions that an emulator executed."""
