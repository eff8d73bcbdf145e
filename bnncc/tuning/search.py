# SPDX-License-Identifier: Apache-2.0
"""What to measure next: half near the best so far, half anywhere.

The spaces are small (a hundred tiles, most of which a budget of 64 trials covers), so nothing is learned;
what counts is that the good ones come early, for whoever stops early.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from bnncc.kernels.kernel import TileParameters

FIRST = 2
"""So many of the list go first: the default, and what may be known to be good."""


class Search:
    """Over the candidates of a layer, by their position in the list, the default at 0. Equal arguments, equal
    proposals."""

    def __init__(self, candidates: Sequence[TileParameters], seed: int = 0):
        self.candidates = candidates
        self._random = random.Random(seed)

    def propose(self, count: int, scores: Mapping[int, float]) -> list[int]:
        """Up to `count` candidates that are not among `scores` (infinite: failed); none when all are."""
        left = [i for i in range(len(self.candidates)) if i not in scores]
        chosen = [i for i in left if i < (1 if scores else FIRST)]
        if any(math.isfinite(score) for score in scores.values()):
            best = min(scores, key=lambda i: scores[i])
            near = sorted(left, key=lambda i: (self._distance(best, i), i))
            chosen += [i for i in near if i not in chosen][: count // 2]
        others = [i for i in left if i not in chosen]
        self._random.shuffle(others)
        return (chosen + others)[:count]

    def _distance(self, one: int, other: int) -> float:
        """How many parameters differ, and by what factor."""
        left, right = self.candidates[one], self.candidates[other]
        total = 0.0
        for name in {*left, *right}:
            a, b = left.get(name, 0), right.get(name, 0)
            if a != b:
                total += 1 + abs(math.log2((a + 1) / (b + 1)))
        return total
