# SPDX-License-Identifier: Apache-2.0
"""What the fuzz test must notice: a compiler that crashes, hangs, or takes all memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from tests.fuzzing.workers import MEMORY, Verdict

DIES, HANGS, GROWS = 1, 2, 3
"""The numbers at which something happens."""


def misbehave(number: int, folder: Path) -> Verdict:
    """A judge, good but for three numbers."""
    del folder
    if number == DIES:
        os.abort()
    if number == HANGS:
        time.sleep(1000)
    try:
        if number == GROWS:
            np.ones(MEMORY, np.uint8)
    except MemoryError:
        return Verdict(number, "MemoryError")
    return Verdict(number, "compiled")
