# SPDX-License-Identifier: Apache-2.0
"""Events or dense, gathered or scattered: which is the cheapest form of a contraction of spikes, by how many
of them there are.

On vectors: cycles from measurements on AVX-512 and AVX2 (`python -m tests.bench.spikes`). Adding a row of
weights reads it from memory, so a vector of it costs more than a multiply-add of the dense form, which keeps
weights in registers; and the loop over the bits of a word ends in a branch that is missed. On cores without
vectors: instructions under QEMU (Cortex-M4, M4F, RV32IMC, RV64GC). No branch is missed there, every event is
decoded for every output pixel, and where floating point is software a product costs more than a sum.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

DEFAULT = 0.1
"""Part of the neurons that spike at a time where nothing is known."""

CLASSES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""What kernels are told of a density: the nearest of these, so that similar layers share their code."""

EVENT_WORD_BITS = 64
"""Bits that are looked at together; spikes are stored in words of `layout.WORD_BITS`."""

Form = Literal["events", "products"]
"""Of a contraction of spikes: only what spikes is looked at, or every input is multiplied with its weight."""


@dataclass(frozen=True)
class Costs:
    """Of a target. lanes: float32 lanes of a vector.

    addition: to add a vector of weights from memory to sums in registers; scattered: to sums in memory.
    multiplication: a multiply-add of vectors, several pixels against the same weights;
    single_multiplication: where there is one pixel only, and every weight is read for it. word: to look at
    a word; missed_branch: where the number of its bits was not foreseen; event: to find a bit of it."""

    lanes: int
    addition: float = 1.8
    scattered: float = 2.4
    multiplication: float = 1.05
    single_multiplication: float = 2.0
    word: float = 3.0
    missed_branch: float = 12.0
    event: float = 0.0

    @staticmethod
    def of(lanes: int, floats: Literal["fpu", "software"] = "fpu") -> Costs:
        """Of a target with vectors of so many lanes, or with none (1)."""
        if lanes > 1:
            return Costs(lanes)
        product = {"addition": 2.6, "scattered": 4.5, "multiplication": 6.0, "single_multiplication": 6.0}
        if floats == "software":
            product = {
                "addition": 68.0,
                "scattered": 74.0,
                "multiplication": 105.0,
                "single_multiplication": 105.0,
            }
        return Costs(1, **product, word=6.0, missed_branch=0.0, event=10.0)


@dataclass(frozen=True)
class Contraction:
    """The extents of a contraction of spikes. pixels: of the output, in all images; inputs: channels; bits:
    planes of an input; slides: whether the stride is 1 in both directions of a larger window; input_pixels:
    of the input, as many as of the output where they are not given."""

    pixels: int
    taps_y: int
    taps_x: int
    inputs: int
    outputs: int
    bits: int = 1
    slides: bool = False
    groups: int = 1
    input_pixels: int = 0

    @property
    def taps(self) -> int:
        """Of the window."""
        return self.taps_y * self.taps_x


def nearest_class(bits: float) -> float:
    """The class of a density."""
    return min(CLASSES, key=lambda known: abs(math.log(max(bits, 1e-6) / known)))


def bits_of_count(density: float, highest: int) -> float:
    """How many bits of a count are set on average: the sum of `highest` independent spikes."""
    chances = (
        math.comb(highest, count) * density**count * (1 - density) ** (highest - count)
        for count in range(highest + 1)
    )
    return sum(count.bit_count() * chance for count, chance in enumerate(chances))


def event_cycles(layer: Contraction, set_bits: float, costs: Costs) -> float:
    """Of the cheapest event-driven form; set_bits: of one input, on average."""
    if layer.groups > 1:
        return scatter_cycles(layer, set_bits, costs)
    gathered = gather_cycles(layer, set_bits, costs)
    return gathered if layer.slides else min(gathered, scatter_cycles(layer, set_bits, costs))


def gather_cycles(layer: Contraction, set_bits: float, costs: Costs) -> float:
    """Of the form that walks over the bits of every window, or of every pixel where windows slide."""
    vectors = -(-layer.outputs // costs.lanes)
    rows = layer.pixels * layer.taps * layer.inputs
    if layer.slides and costs.lanes > 1:
        words = layer.pixels * -(-layer.inputs * layer.bits // EVENT_WORD_BITS)
        inputs_of_word = min(layer.inputs, EVENT_WORD_BITS)
    else:
        together = min(layer.taps_x, max(1, EVENT_WORD_BITS // layer.inputs))
        of_tap = -(-layer.inputs // EVENT_WORD_BITS)
        words = layer.pixels * layer.taps_y * -(-layer.taps_x // together) * of_tap * layer.bits
        inputs_of_word = min(layer.inputs, EVENT_WORD_BITS) * together
    additions = rows * set_bits * (costs.event + vectors * costs.addition)
    return words * _word_cycles(inputs_of_word * set_bits, costs) + additions


def scatter_cycles(layer: Contraction, set_bits: float, costs: Costs) -> float:
    """Of the form that looks at every bit once and adds its weights to sums in memory."""
    pixels = layer.input_pixels or layer.pixels
    words = pixels * -(-layer.inputs // EVENT_WORD_BITS) * layer.bits
    vectors = -(-layer.outputs // layer.groups // costs.lanes)
    rows = layer.pixels * layer.taps * layer.inputs
    looking = words * _word_cycles(min(layer.inputs, EVENT_WORD_BITS) * set_bits, costs)
    events = pixels * layer.inputs * set_bits * costs.event
    read_and_cleared = 2 * layer.pixels * -(-layer.outputs // costs.lanes) * costs.addition
    return looking + events + rows * set_bits * vectors * costs.scattered + read_and_cleared


def _word_cycles(bits: float, costs: Costs) -> float:
    """To look at a word of so many set bits."""
    return costs.word + costs.missed_branch * min(1.0, bits)


def dense_cycles(layer: Contraction, costs: Costs) -> float:
    """Of the float32 form. Small groups are computed together, as many as fill a vector."""
    of_group, outputs = layer.inputs // layer.groups, layer.outputs // layer.groups
    if of_group > 1:
        of_group *= min(layer.groups, max(1, costs.lanes // outputs))
    products = layer.pixels * layer.taps * of_group * -(-layer.outputs // costs.lanes)
    return products * (costs.single_multiplication if layer.pixels == 1 else costs.multiplication)


def prefers_events(layer: Contraction, set_bits: float, costs: Costs) -> bool:
    """Whether an event-driven form is the cheapest one."""
    return event_cycles(layer, set_bits, costs) <= dense_cycles(layer, costs)


@dataclass(frozen=True)
class Crossover:
    """What was measured of both forms of a layer. ratios: set bits of an input, ascending, and the cost of
    events there, of that of products; margin: by what share that must differ from 1 to be believed."""

    ratios: tuple[tuple[float, float], ...]
    margin: float

    def prefers_events(self, set_bits: float) -> bool | None:
        """Whether events are cheaper; None where that was too close or too far away to tell."""
        (lowest, least), (highest, most) = self.ratios[0], self.ratios[-1]
        if (set_bits < lowest and least >= 1) or (set_bits > highest and most <= 1):
            # They cost less where there are fewer spikes: how much less nobody has measured.
            return None
        shares, ratios = zip(*self.ratios, strict=True)
        ratio = float(np.interp(set_bits, shares, ratios))
        return None if abs(ratio - 1) <= self.margin else ratio < 1

    @property
    def bits(self) -> float | None:
        """The set bits of an input where both forms cost the same; None where one is cheaper everywhere."""
        for (x0, y0), (x1, y1) in itertools.pairwise(self.ratios):
            if y0 < 1 <= y1:
                return x0 + (x1 - x0) * (1 - y0) / (y1 - y0)
        return None
