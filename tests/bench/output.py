# SPDX-License-Identifier: Apache-2.0
"""How benches print a table: for a terminal, or with `--markdown` as docs/performance.md has it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bnncc.report.table import table


def add_markdown(parser: argparse.ArgumentParser) -> None:
    """The option `--markdown`."""
    parser.add_argument("--markdown", action="store_true", help="print tables for docs/performance.md")


def show(header: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> None:
    """Print a table; numbers are in all columns but the first."""
    if not markdown:
        print(table(header, rows, right=range(1, len(header))), flush=True)
        return
    lines = [header, ["---"] * len(header), *rows]
    print("".join(f"| {' | '.join(cells)} |\n" for cells in lines), flush=True)
