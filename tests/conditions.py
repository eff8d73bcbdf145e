# SPDX-License-Identifier: Apache-2.0
"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 300.0
"""Seconds after which something is taken never to happen, however busy the machine is."""


def wait_until(condition: Callable[[], bool], problem: str) -> None:
    """Return as soon as the condition holds; fail with the problem where it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, problem
        time.sleep(0.05)
