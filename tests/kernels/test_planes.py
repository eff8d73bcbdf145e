# SPDX-License-Identifier: Apache-2.0
"""Carry-save addition of differences of stored sums, against a popcount."""

import numpy as np
import pytest

from bnncc.kernels.planes import BLOCKS, Emitter, blocks, count_differences, stored, total

PLAIN = Emitter()


def words(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """[count, 500] of activations and weights; no, all, one bit, one word differ in the first columns."""
    x, w = rng.integers(0, 2**32, (2, count, 500), dtype=np.uint32)
    w[:, :4] = x[:, :4]
    w[:, 1] = ~x[:, 1]
    w[-1, 2] ^= np.uint32(1 << 31)
    w[0, 3] = ~x[0, 3]
    return x, w


def counted(stored_x: list, stored_w: list) -> np.ndarray:
    """By carry-save addition, from stored words."""
    differences = [x ^ w for x, w in zip(stored_x, stored_w, strict=True)]
    return total(PLAIN, count_differences(PLAIN, differences.__getitem__, len(differences)))


@pytest.mark.parametrize("count", [*range(1, 41), 54, 63, 72, 100, 144])
def test_counts_are_popcounts(count: int):
    x, w = words(count, np.random.default_rng(count))
    found = counted(stored(list(x), PLAIN), stored(list(w), PLAIN))
    np.testing.assert_array_equal(found, np.bitwise_count(x ^ w).sum(axis=0, dtype=np.uint32))


def test_a_wrong_stored_word_is_noticed():
    x, w = words(18, np.random.default_rng(0))
    for wrong in range(18):
        changed = stored(list(w), PLAIN)
        changed[wrong] = changed[wrong] ^ np.uint32(1)
        found = counted(stored(list(x), PLAIN), changed)
        assert (found != np.bitwise_count(x ^ w).sum(axis=0)).any(), wrong


def test_fields_stay_within_their_bytes():
    """With every bit set, the largest sums, no byte exceeds what is said of it."""
    for count in (9, 36, 72, 144):
        ones = [np.uint32(0xFFFFFFFF)] * count
        zeros = [np.uint32(0)] * count
        differences = [x ^ w for x, w in zip(stored(ones, PLAIN), stored(zeros, PLAIN), strict=True)]
        for field in count_differences(PLAIN, differences.__getitem__, count):
            largest = max(field.word.tobytes())
            assert largest <= field.most <= 255


def test_blocks_cover_all_words():
    for count in range(1, 100):
        found = list(blocks(count))
        assert [first for first, _ in found] == list(np.cumsum([0, *(size for _, size in found[:-1])]))
        assert sum(size for _, size in found) == count and {size for _, size in found} <= set(BLOCKS)
