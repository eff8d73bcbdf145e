# SPDX-License-Identifier: Apache-2.0
"""Which taps of a window lie outside the image: the rows and columns of the result, by cases.

All rows whose window misses the same rows of the kernel are one case, columns likewise. A correction that
depends on the missing taps is then a small table [row case][column case][...], however large the image is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnncc.plan.kernel import Window


@dataclass(frozen=True)
class Borders:
    """rows: the case of every row of the result; row_taps: for every case which rows of the kernel lie
    inside; columns likewise."""

    rows: tuple[int, ...]
    row_taps: tuple[tuple[bool, ...], ...]
    columns: tuple[int, ...]
    column_taps: tuple[tuple[bool, ...], ...]

    @staticmethod
    def of(window: Window, image: Sequence[int], result: Sequence[int]) -> Borders:
        """Of a window over an image [h, w] with a result [h, w]."""
        rows, row_taps = _cases([window.valid_rows(y, image[0]) for y in range(result[0])])
        columns, column_taps = _cases([window.valid_columns(x, image[1]) for x in range(result[1])])
        return Borders(rows, row_taps, columns, column_taps)

    @property
    def all_inside(self) -> bool:
        """Whether no tap is ever outside."""
        return all(map(all, (*self.row_taps, *self.column_taps)))

    def inside(self) -> np.ndarray:
        """Booleans [row case, column case, kh, kw]."""
        rows, columns = np.array(self.row_taps), np.array(self.column_taps)
        return rows[:, None, :, None] & columns[None, :, None, :]


def _cases(taps: Sequence[tuple[bool, ...]]) -> tuple[tuple[int, ...], tuple[tuple[bool, ...], ...]]:
    kinds = list(dict.fromkeys(taps))
    return tuple(kinds.index(row) for row in taps), tuple(kinds)
