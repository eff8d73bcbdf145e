# SPDX-License-Identifier: Apache-2.0
"""What the commands print: text, or JSON where --json asks for it."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def json_argument(sub: argparse.ArgumentParser) -> None:
    """Ask for JSON."""
    sub.add_argument("--json", action="store_true", help="print JSON")


def print_result(
    chosen: argparse.Namespace, as_data: Callable[[], object], as_text: Callable[[], str]
) -> None:
    """Print a result in the form that was asked for; the other one is not made."""
    if chosen.json:
        print_json(as_data())
    else:
        print(as_text().rstrip("\n"))


def print_json(value: object) -> None:
    """Print a value as JSON."""
    from bnncc.data import arrays

    print(arrays.to_json(value))
