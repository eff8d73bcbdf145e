# SPDX-License-Identifier: Apache-2.0
"""The C sources that generated libraries are made with: only where they are, and their text.

Generated code does not include these headers, it contains them: an artifact needs no other file.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
INCLUDE = FOLDER / "include"
FREESTANDING = INCLUDE / "freestanding"
"""Headers of a C library, for compilers that come without one."""
BOARDS = FOLDER / "bsp"
"""Start-up code and linker scripts of emulated boards, and the program that runs a library there."""


SOURCES = FOLDER / "src"
"""Micro-kernels in C."""


def source_text(name: str) -> str:
    """The text of `src/<name>`, to be put into generated C."""
    return _from_guard(SOURCES / name)


def header_text(name: str) -> str:
    """The text of `include/bnncc/<name>` from its include guard on, to be put into generated C."""
    return _from_guard(INCLUDE / "bnncc" / name)


def header_file(name: str) -> str:
    """The whole text of `include/bnncc/<name>`, for a file of its own."""
    return (INCLUDE / "bnncc" / name).read_text(encoding="utf-8")


def _from_guard(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text[text.index("#ifndef") :].rstrip()
