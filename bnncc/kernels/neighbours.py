# SPDX-License-Identifier: Apache-2.0
"""Writing packed bits in three-word form: each pixel's bits go into the sums of neighbours they are part of.

A row is written from left to right. Pixels that a tile has side by side are summed in registers and stored;
those on the left of the tile were written before it, or are the halo's zeros, and take the tile's first
pixels in. So each row wants to be written in order, for the same channels; nothing is done after its end.

The sums are made in general registers. LLVM would make them in mask registers, on the ports that count bits:
3 % of the time of a 3x3 layer of 64 channels (Zen 4).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence

from bnncc.kernels import emit
from bnncc.kernels.emit import Index, Value
from bnncc.plan.layout import Layout


def store_row(
    layout: Layout,
    unit: int,
    place: Index,
    bits: Sequence[Value],
    load: Callable[[Index], Value],
    store: Callable[[Value, Index], None],
) -> None:
    """Emit the stores of pixels side by side; `bits` holds an integer for each, of the same channels.

    place: that of u of the first one, in items, `unit` of which are a word; load and store take places."""
    step, apart = layout.strides[2] * unit, layout.sums_apart * unit
    bits = [emit.bind(value) for value in _in_general_registers(bits)]
    if layout.stores_complements:
        bits = [emit.bind(~value) for value in bits]
    sums = {(i, taps): _sum(bits[i : i + taps]) for i in range(len(bits)) for taps in (2, 3)}
    for offset, value in ((-step, bits[0]), (apart - 2 * step, bits[0]), (apart - step, sums[0, 2])):
        store(load(place + offset) ^ value, place + offset)
    for i in range(len(bits)):
        store(sums[i, 2], place + i * step)
        store(sums[i, 3], place + i * step + apart)


def _in_general_registers(masks: Sequence[Value]) -> list[Value]:
    """The values, stored to the stack and loaded again, which LLVM must not see through."""
    cell = emit.local(str(masks[0].ty.dtype), len(masks), "bits", is_volatile=True)
    for i, mask in enumerate(masks):
        emit.store(cell, mask, i)
    return [cell[i] for i in range(len(masks))]


def _sum(bits: Sequence[Value]) -> Value:
    return functools.reduce(operator.xor, list(bits))
