# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share."""

from __future__ import annotations

import pytest

from tests import conformance
from tests.e2e.commands import Shell


@pytest.fixture
def bnncc(capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command line."""
    return Shell(capsys)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count ONNX's node tests, if they ran."""
    passed, ran = [], []
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            if "/test_conformance.py::test_node[" in report.nodeid:
                name = report.nodeid.partition("[")[2].rstrip("]").partition("-")[2]
                ran.append(name)
                passed += [name] if outcome == "passed" else []
    for line in conformance.summary(passed, ran):
        terminalreporter.write_line(line)
