# SPDX-License-Identifier: Apache-2.0
"""What all tests share."""

from __future__ import annotations

import pytest
from hypothesis import settings

# Compilations are slow beside other work: what matters is that they end, and that runs repeat.
settings.register_profile("bnncc", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("bnncc")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes what is generated over the golden files, for `git diff` to show."""
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written rather than compared."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own settings change no test."""
    monkeypatch.delenv("BNNCC_DEBUG", raising=False)
