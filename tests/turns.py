# SPDX-License-Identifier: Apache-2.0
"""Parameters of tests whose every combination would take long: a part of them always runs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest


def in_turn(names: Sequence[str], targets: Sequence[str]) -> list:
    """(name, target): every name on the first target and, in turn, on another one. The rest are slow."""
    chosen = {(name, targets[0]) for name in names}
    if others := targets[1:]:
        chosen |= {(name, others[number % len(others)]) for number, name in enumerate(names)}
    return [
        pytest.param(name, target, marks=[] if (name, target) in chosen else [pytest.mark.slow])
        for name in names
        for target in targets
    ]
