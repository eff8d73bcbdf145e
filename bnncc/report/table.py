# SPDX-License-Identifier: Apache-2.0
"""Plain-text tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Columns two spaces apart, a rule under the header; the columns in `right` are aligned right. Columns
    that are empty in every row are left out."""
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    widths = {i: max(len(header[i]), *(len(row[i]) for row in rows)) for i in kept}

    def line(cells: Sequence[str]) -> str:
        padded = (cells[i].rjust(widths[i]) if i in right else cells[i].ljust(widths[i]) for i in kept)
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * widths[i] for i in kept)
    return "\n".join((line(header), rule, *(line(row) for row in rows)))
