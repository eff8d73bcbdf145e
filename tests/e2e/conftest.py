# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share."""

from __future__ import annotations

import pytest

from tests.e2e.commands import Shell


@pytest.fixture
def bnncc(capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command line."""
    return Shell(capsys)
