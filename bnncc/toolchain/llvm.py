# SPDX-License-Identifier: Apache-2.0
"""LLVM's programs on this machine: under plain names, or with a version as distributions install them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import lru_cache

NEWEST, OLDEST = 30, 14
SUFFIXES = ("", *(f"-{version}" for version in range(NEWEST, OLDEST - 1, -1)))
"""What may follow a program's name, in the order of preference."""


def tool(name: str) -> str:
    """The path of one of LLVM's programs; empty if it is not installed."""
    paths = (shutil.which(name + suffix) for suffix in SUFFIXES)
    return next((path for path in paths if path), "")


def tools(names: Sequence[str], oldest: int) -> tuple[str, ...]:
    """The paths of several programs of one version, at least `oldest`; none if they are not all there."""
    for suffix in SUFFIXES:
        found = tuple(filter(None, (shutil.which(name + suffix) for name in names)))
        if len(found) == len(names) and version_of(found[0]) >= oldest:
            return found
    return ()


@lru_cache
def version_of(program: str) -> int:
    """The major version that a program says it is of, 0 if it does not."""
    try:
        said = subprocess.run(
            (program, "--version"), capture_output=True, text=True, check=False, timeout=60
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"LLVM version (\d+)", said)
    return int(found[1]) if found else 0
