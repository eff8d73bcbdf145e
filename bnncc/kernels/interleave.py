# SPDX-License-Identifier: Apache-2.0
"""How weights of contractions are stored: output channels side by side, groups merged to fill vectors."""

from __future__ import annotations

import math

import numpy as np

from bnncc.kernels.nest import Channels
from bnncc.plan.bits import pack_words


def merged_groups(groups: int, inputs: int, outputs: int, input_unit: int, output_unit: int) -> int:
    """How many groups to join into one, so that its channels start and end at whole units.

    inputs, outputs: channels of one group. All groups are joined where no smaller number does.
    """
    if groups == 1:
        return 1
    fitting = (
        m
        for m in range(1, groups)
        if groups % m == 0 and inputs * m % input_unit == 0 and outputs * m % output_unit == 0
    )
    return next(fitting, groups)


def merge_groups(weight: np.ndarray, groups: int, joined: int) -> np.ndarray:
    """[O, KH, KW, C/groups] to [O, KH, KW, joined*C/groups], zero for inputs of another group."""
    if joined == 1:
        return weight
    outputs, inputs = weight.shape[0] // groups, weight.shape[3]
    result = np.zeros((*weight.shape[:3], joined * inputs), weight.dtype)
    for o in range(weight.shape[0]):
        first = o // outputs % joined * inputs
        result[o, :, :, first : first + inputs] = weight[o]
    return result


def interleave(rows: np.ndarray, channels: Channels) -> np.ndarray:
    """[O, steps, ...] flattened so that each vector's channels lie side by side.

    The vectors follow each other; within one, [steps, ..., width], zero in lanes beyond the last channel.
    """
    full = channels.groups * channels.regular
    lanes, length = channels.lanes, math.prod(rows.shape[1:])
    rows = rows.reshape(len(rows), length)
    blocks = [rows[: full * lanes].reshape(full, lanes, length).transpose(0, 2, 1).reshape(-1)]
    for vector in channels.rest:
        block = np.zeros((vector.width, length), rows.dtype)
        block[: vector.valid] = rows[vector.channel : vector.channel + vector.valid]
        blocks.append(block.T.reshape(-1))
    return np.concatenate(blocks)


def pad_lanes(table: np.ndarray, channels: Channels, fill: float = 0) -> np.ndarray:
    """[..., O] to [..., stored]: a vector's lanes beyond the last channel hold `fill`."""
    missing = channels.stored - table.shape[-1]
    return np.pad(table, [(0, 0)] * (table.ndim - 1) + [(0, missing)], constant_values=fill)


def pack_channels(bits: np.ndarray, dtype: str) -> np.ndarray:
    """bool [..., C] to words or bytes [..., items]; channel c is bit c % n of item c // n."""
    item = np.dtype(dtype)
    if item.itemsize == 1:
        return np.packbits(bits, axis=-1, bitorder="little")
    return pack_words(bits).astype("<u4").view(item.newbyteorder("<")).astype(item)
