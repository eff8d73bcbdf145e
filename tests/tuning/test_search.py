# SPDX-License-Identifier: Apache-2.0
"""What is measured next."""

from __future__ import annotations

import itertools
import math

from bnncc.tuning.search import Search

TILES = [
    {"rows": r, "pixels": p, "vectors": v} for r, p, v in itertools.product((1, 2), (1, 2, 4, 8), (1, 2, 4))
]


def test_the_default_comes_first():
    assert Search(TILES).propose(8, {})[0] == 0


def test_every_candidate_is_proposed_once_and_then_none():
    search, scores = Search(TILES), {}
    while chosen := search.propose(5, scores):
        assert not scores.keys() & set(chosen)
        scores |= {index: float(index) for index in chosen}
    assert scores.keys() == set(range(len(TILES)))


def test_half_of_a_batch_lies_near_the_best():
    best = TILES.index({"rows": 2, "pixels": 4, "vectors": 2})
    scores = {0: 2.0, best: 1.0, best + 2: math.inf}
    chosen = Search(TILES).propose(8, scores)
    near = [TILES[i] for i in chosen[:4]]
    assert all(sum(tile[k] != TILES[best][k] for k in tile) == 1 for tile in near)


def test_failures_alone_do_not_stop_it():
    assert Search(TILES).propose(4, {0: math.inf, 1: math.inf})


def test_equal_arguments_give_equal_proposals():
    assert Search(TILES).propose(8, {0: 1.0}) == Search(TILES).propose(8, {0: 1.0})
