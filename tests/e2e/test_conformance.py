# SPDX-License-Identifier: Apache-2.0
"""ONNX's own node tests, which the summary at the end of a test run counts."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Iterator

import pytest

from tests import conformance

LIMIT = 60
"""Seconds for one test. Beyond them its process ends: pytest-xdist counts one failure and starts another."""


@pytest.fixture(autouse=True, scope="module")
def _collected() -> None:
    """ONNX takes seconds to compute what its tests expect, once a process: not the first test's fault."""
    conformance.node_tests()


@pytest.fixture(autouse=True)
def _limit(_collected: None) -> Iterator[None]:
    """A watchdog that native code cannot hold up."""
    assert sys.__stderr__ is not None
    faulthandler.dump_traceback_later(LIMIT, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize(("tier", "name"), conformance.names(), ids=lambda value: value)
def test_node(tier: str, name: str):
    if name in conformance.EXCUSED:
        assert tier == "extended" and conformance.excuse_problem(name) == ""
    else:
        assert conformance.check(name) == []
