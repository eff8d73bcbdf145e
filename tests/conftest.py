# SPDX-License-Identifier: Apache-2.0
"""What all tests share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Compilations are slow beside other work: what matters is that they end, and that runs repeat.
settings.register_profile(
    "bnncc",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    print_blob=True,
)
settings.load_profile("bnncc")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes what is generated over the golden files, for `git diff` to show."""
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written rather than compared."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests, and the programs that they start, leave behind when they are killed lies where pytest
    removes it some runs later, and beside nothing of another process. The name is short: sockets of Unix end
    at 104 bytes."""
    folder = str(tmp_path_factory.mktemp("t", numbered=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own settings change no test."""
    monkeypatch.delenv("BNNCC_DEBUG", raising=False)
