# SPDX-License-Identifier: Apache-2.0
"""Outputs in tiles whose weights lie together, as kernels that add whole rows of weights want them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bnncc.kernels.emit import Index
from bnncc.kernels.nest import each


@dataclass(frozen=True)
class OutputTile:
    """Outputs [first, first + valid), computed in `width` lanes; `start` is where its weights are."""

    first: Index
    width: int
    valid: int
    start: Index


@dataclass(frozen=True)
class Tiling:
    """Outputs in tiles of `width`, a multiple of `lanes`; the last tile may be narrower. taps: rows of
    weights of a tile."""

    outputs: int
    lanes: int
    width: int
    taps: int

    @property
    def rest(self) -> int:
        """Lanes of the last tile, if it is narrower; else 0."""
        return -(-(self.outputs % self.width) // self.lanes) * self.lanes

    @property
    def stored(self) -> int:
        """Outputs of all tiles, those beyond the last channel included."""
        return self.outputs // self.width * self.width + self.rest

    @property
    def tiles(self) -> int:
        """How many tiles there are."""
        return -(-self.outputs // self.width)

    def each(self, in_loop: bool = True) -> Iterator[OutputTile]:
        """Every tile; the full ones in a loop, or one after the other."""
        whole = self.outputs // self.width
        for number in each(whole, "tile") if in_loop else range(whole):
            yield OutputTile(number * self.width, self.width, self.width, number * self.width * self.taps)
        if self.rest:
            first = whole * self.width
            yield OutputTile(first, self.rest, self.outputs - first, first * self.taps)

    def pack(self, rows: np.ndarray) -> np.ndarray:
        """[taps, outputs] to [tiles][taps][width], flat."""
        padded = np.zeros((len(rows), self.stored), rows.dtype)
        padded[:, : self.outputs] = rows
        whole = self.outputs // self.width * self.width
        tiled = padded[:, :whole].reshape(len(rows), -1, self.width).transpose(1, 0, 2)
        return np.concatenate([tiled.reshape(-1), padded[:, whole:].reshape(-1)])
