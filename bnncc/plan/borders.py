# SPDX-License-Identifier: Apache-2.0
"""Border cases of a window: which taps of an output pixel lie outside the image.

Going down the rows, the rows of the window that lie inside change near the top and near the bottom only,
and stay the same in between. So row y is case min(y, first) + max(y - last, 0), where first..last are the
rows whose window lies inside in the same, largest part; columns alike, and no table of cases is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnncc.plan.kernel import Window


@dataclass(frozen=True)
class Cases:
    """Cases along one axis: positions before `first` are a case each, first..last are one, then each again.

    valid: for each case, which taps lie inside the image.
    """

    first: int
    last: int
    valid: tuple[tuple[bool, ...], ...]

    @staticmethod
    def of(valid: Sequence[tuple[bool, ...]]) -> Cases:
        """valid[position]: which taps lie inside at that position."""
        middle = max(range(len(valid)), key=lambda i: sum(valid[i]))
        first = last = middle
        while first > 0 and valid[first - 1] == valid[middle]:
            first -= 1
        while last < len(valid) - 1 and valid[last + 1] == valid[middle]:
            last += 1
        return Cases(first, last, (*valid[: first + 1], *valid[last + 1 :]))

    @property
    def count(self) -> int:
        """How many cases there are."""
        return len(self.valid)

    @property
    def inside(self) -> bool:
        """Whether no tap ever lies outside."""
        return all(all(taps) for taps in self.valid)

    def case(self, position: int) -> int:
        """The case of a position."""
        return min(position, self.first) + max(position - self.last, 0)


@dataclass(frozen=True)
class Borders:
    """The cases of a window over an image: case = row case * columns.count + column case."""

    rows: Cases
    columns: Cases

    @staticmethod
    def of(window: Window, image: Sequence[int], output: Sequence[int]) -> Borders:
        """image: rows and columns of the input; output: of the result."""
        return Borders(
            Cases.of([window.valid_rows(y, image[0]) for y in range(output[0])]),
            Cases.of([window.valid_columns(x, image[1]) for x in range(output[1])]),
        )

    @property
    def count(self) -> int:
        """How many cases there are."""
        return self.rows.count * self.columns.count

    @property
    def inside(self) -> bool:
        """Whether no tap ever lies outside the image."""
        return self.rows.inside and self.columns.inside

    def outside_taps(self) -> np.ndarray:
        """bool [count, KH, KW]: which taps lie outside, by case."""
        rows, columns = np.array(self.rows.valid), np.array(self.columns.valid)
        inside = rows[:, None, :, None] & columns[None, :, None, :]
        return ~inside.reshape(self.count, rows.shape[1], columns.shape[1])
