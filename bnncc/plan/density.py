# SPDX-License-Identifier: Apache-2.0
"""Events or dense: which is the cheaper form of a contraction of spikes, by how many of them there are.

Cycles of a core with vectors, from measurements on AVX-512 and AVX2 (`python -m tests.bench.spikes`):
adding a row of weights reads it from memory, so a vector of it costs more than a multiply-add of the dense
form, which keeps weights in registers; and the loop over the bits of a word ends in a branch that is missed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DEFAULT = 0.1
"""Part of the neurons that spike at a time where nothing is known."""

ADDITION = 1.8
"""Cycles to add a vector of weights from memory."""

MULTIPLICATION = 1.05
"""Cycles of a multiply-add of vectors, several pixels against the same weights."""

SINGLE_MULTIPLICATION = 2.0
"""The same where there is one pixel only, and every weight is read for it."""

WORD = 3
"""Cycles to look at a word."""

MISSED_BRANCH = 12
"""Cycles where the number of its bits was not foreseen."""

WORD_BITS = 64


@dataclass(frozen=True)
class Contraction:
    """The extents of a contraction of spikes. pixels: of the output, in all images; inputs: channels;
    bits: planes of an input; slides: whether the stride is 1 in both directions of a larger window."""

    pixels: int
    taps_y: int
    taps_x: int
    inputs: int
    outputs: int
    bits: int = 1
    slides: bool = False


def bits_of_count(density: float, highest: int) -> float:
    """How many bits of a count are set on average: the sum of `highest` independent spikes."""
    chances = (
        math.comb(highest, count) * density**count * (1 - density) ** (highest - count)
        for count in range(highest + 1)
    )
    return sum(count.bit_count() * chance for count, chance in enumerate(chances))


def event_cycles(layer: Contraction, set_bits: float, lanes: int) -> float:
    """Of the event-driven form; set_bits: of one input, on average."""
    vectors = -(-layer.outputs // lanes)
    rows = layer.pixels * layer.taps_y * layer.taps_x * layer.inputs
    if layer.slides:
        words = layer.pixels * -(-layer.inputs * layer.bits // WORD_BITS)
        inputs_of_word = min(layer.inputs, WORD_BITS)
    else:
        together = min(layer.taps_x, max(1, WORD_BITS // layer.inputs))
        of_tap = -(-layer.inputs // WORD_BITS)
        words = layer.pixels * layer.taps_y * -(-layer.taps_x // together) * of_tap * layer.bits
        inputs_of_word = min(layer.inputs, WORD_BITS) * together
    per_word = WORD + MISSED_BRANCH * min(1.0, inputs_of_word * set_bits)
    return words * per_word + rows * set_bits * vectors * ADDITION


def dense_cycles(layer: Contraction, lanes: int) -> float:
    """Of the float32 form."""
    products = layer.pixels * layer.taps_y * layer.taps_x * layer.inputs * -(-layer.outputs // lanes)
    return products * (SINGLE_MULTIPLICATION if layer.pixels == 1 else MULTIPLICATION)


def prefers_events(layer: Contraction, set_bits: float, lanes: int) -> bool:
    """Whether the event-driven form is the cheaper one."""
    return event_cycles(layer, set_bits, lanes) <= dense_cycles(layer, lanes)
