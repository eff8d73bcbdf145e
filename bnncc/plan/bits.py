# SPDX-License-Identifier: Apache-2.0
"""Bits in words, as everything that stores them does: channel c is bit c % 32 of word c // 32."""

from __future__ import annotations

import numpy as np

from bnncc.plan.layout import WORD_BITS, words


def pack_words(bits: np.ndarray) -> np.ndarray:
    """uint32 [..., words(C)] of booleans [..., C]; bits beyond the channels are 0."""
    channels = bits.shape[-1]
    padded = np.zeros((*bits.shape[:-1], words(channels) * WORD_BITS), bool)
    padded[..., :channels] = bits
    return np.packbits(padded, axis=-1, bitorder="little").view("<u4").astype(np.uint32)
