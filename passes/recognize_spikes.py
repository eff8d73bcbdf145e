# SPDX-License-Identifier: Apache-2.0
"""recognize-spikes: contractions of spikes with real weights, where events are cheaper than products.

The input must be proved to be {0, 1}, or a small count of spikes (what pooling them gives), times one number,
which goes into the weights. How many of the neurons spike decides between the two forms: measured on samples
(`--calibrate`), or assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import FloatAttr, ModuleOp, StringAttr, f32, i1
from xdsl.ir import Attribute, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import is_spiking
from bnncc.dialect.sources import location_text
from bnncc.dialect.types import Level, domain_values, element_of, level_type, shape_of, spike
from bnncc.passes.infer_domains import SinkCast, SinkScale, contracted, scaled_input
from bnncc.passes.levels import Levels
from bnncc.passes.matching import (
    apply_patterns,
    binary_input,
    constant_of,
    discard,
    producer,
    replace,
    uniform_value,
)
from bnncc.passes.recognize_levels import integers_of, read_integers, unproved_input
from bnncc.passes.simplify_layout import MergePads, MergeReshapes, MergeTransposes
from bnncc.plan import density

HIGHEST_COUNT = 7
"""Counts up to this one are summed bit by bit."""

DENSITY = "density"
"""Attribute of a contraction of spikes: how many bits of an input are set on average, f32."""

ORIGIN = "density_from"
"""And where that is from: "assumed" or "measured"."""


@dataclass(frozen=True)
class Rates:
    """What is known of the spikes of a network: set bits of an input of a contraction, on average, by the
    contraction's location; costs: of the target; measured: what forms cost there, by location. form: take
    that one whatever it costs."""

    bits: Mapping[str, float] = field(default_factory=dict)
    costs: density.Costs = field(default_factory=lambda: density.Costs(16))
    form: density.Form | None = None
    measured: Mapping[str, density.Crossover] = field(default_factory=dict)

    def prefer_events(self, where: str, layer: density.Contraction, bits: float) -> bool:
        """Whether a contraction of so many set bits looks at events: as asked for, as measured, or else as
        the costs say."""
        if self.form is not None:
            return self.form == "events"
        found = self.measured[where].prefers_events(bits) if where in self.measured else None
        return density.prefers_events(layer, bits, self.costs) if found is None else found


class RecognizeSpikes(RewritePattern):
    """conv(cast(s) * t, w) is conv(s, w * t); an input that is proved to be such a product becomes one."""

    def __init__(self, rates: Rates):
        self.rates = rates
        self.levels = Levels()

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Conv2d | ops.Dense, rewriter: PatternRewriter) -> None:
        """Check the weight, the activation, then what is cheaper."""
        weight = constant_of(op.weight)
        if weight is None or weight.dtype != np.float32 or element_of(op.input) != f32:
            self._note_binary(op)
            return
        scaled = scaled_input(op.input)
        if scaled is None:
            self._prove(op, rewriter)
            return
        spikes = binary_input(scaled[0])
        assert spikes is not None
        if not self._prefers_events(op, element_of(spikes)):
            return
        constant = ops.Constant(weight * np.float32(scaled[1]))
        new = contracted(op, spikes, constant.result)
        new.attributes.update({key: op.attributes[key] for key in (DENSITY, ORIGIN)})
        replace(rewriter, op, [constant, new])

    def _prove(self, op: ops.Conv2d | ops.Dense, rewriter: PatternRewriter) -> None:
        """Let the contraction, or what is reshaped to be its input, read cast(count) * number."""
        value = unproved_input(op)
        found = None if value is None else integers_of(self.levels, value)
        if found is None:
            return
        if not self._prefers_events(op, found.domain):
            discard(found.made)
            return
        read_integers(op, found, rewriter)

    def _prefers_events(self, op: ops.Conv2d | ops.Dense, domain: Attribute) -> bool:
        """Whether values of a domain are spikes or counts, and few enough of them to be looked at one by one;
        what is known of their number is noted."""
        values = domain_values(domain)
        if values is None or min(values) != 0 or max(values) > HIGHEST_COUNT:
            return False
        bits = self._note(op, domain)
        if bits is None:
            return self.rates.form == "events"
        return self.rates.prefer_events(location_text(op), extents(op, max(values)), bits)

    def _note(self, op: ops.Conv2d | ops.Dense, domain: Attribute) -> float | None:
        """Note how many bits of an input are set, of values from 0 on; None where nothing is known."""
        highest = max(domain_values(domain) or {0})
        measured = self.rates.bits.get(location_text(op))
        if measured is None and domain != spike and not is_count(op.input):
            return None
        bits = density.bits_of_count(density.DEFAULT, highest) if measured is None else measured
        op.attributes[DENSITY] = FloatAttr(bits, f32)
        op.attributes[ORIGIN] = StringAttr("assumed" if measured is None else "measured")
        return bits

    def _note_binary(self, op: ops.Conv2d | ops.Dense) -> None:
        """The same of a contraction that counts bits, for the report."""
        domain = element_of(op.input)
        if DENSITY not in op.attributes and is_spiking(domain) and element_of(op.weight) != f32:
            self._note(op, domain)


class CountSpikes(RewritePattern):
    """level(round(mean_pool(spikes) * taps)) is how many of them there are."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Cast, rewriter: PatternRewriter) -> None:
        """Check the chain from its end."""
        rounded = producer(op.input, ops.Round)
        mul = None if rounded is None else producer(rounded.input, ops.Mul)
        mean = None if mul is None else producer(mul.left, ops.MeanPool)
        domain = element_of(op.result)
        if mul is None or mean is None or not isinstance(domain, Level) or domain.is_byte:
            return
        taps = math.prod(ops.unpack(mean.kernel))
        cast = producer(mean.input, ops.Cast)
        is_whole = not any(ops.unpack(mean.pads)) and uniform_value(mul.right) == taps
        if cast is None or element_of(cast.input) not in (i1, spike) or not is_whole:
            return
        if domain != level_type(0, taps):
            return
        made = [ops.Cast(cast.input, spike)] if element_of(cast.input) == i1 else []
        geometry = (ops.unpack(p) for p in (mean.kernel, mean.strides, mean.dilations))
        count = ops.CountPool(made[0].result if made else cast.input, *geometry)
        replace(rewriter, op, [*made, count])


def is_count(value: SSAValue) -> bool:
    """Whether a value is what a pool makes of spikes, so that most of it is 0 where they are few; of other
    levels nothing is known."""
    passed = (ops.Cast, ops.Round, ops.Mul, ops.Reshape, ops.Transpose)
    while isinstance(value.owner, passed):
        value = value.owner.operands[0]
    return isinstance(value.owner, ops.MeanPool | ops.CountPool)


def extents(op: ops.Conv2d | ops.Dense, highest: int) -> density.Contraction:
    """A contraction as the cost model sees it."""
    *places, outputs = shape_of(op.results[0])
    bits = highest.bit_length()
    if isinstance(op, ops.Dense):
        return density.Contraction(math.prod(places), 1, 1, shape_of(op.weight)[1], outputs, bits)
    _, height, width, inputs = shape_of(op.weight)
    steps = (*ops.unpack(op.strides), *ops.unpack(op.dilations))
    slides = steps == (1, 1, 1, 1) and height > 1 and width > 1
    groups, pixels = op.groups.value.data, math.prod(shape_of(op.input)[:3])
    return density.Contraction(
        math.prod(places), height, width, inputs * groups, outputs, bits, slides, groups, pixels
    )


class RecognizeSpikesPass(ModulePass):
    """Sum real weights over spikes; casts and scales go through what reshapes the spikes."""

    name = "recognize-spikes"

    def __init__(self, rates: Rates | None = None):
        self.rates = rates or Rates()

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        sinking = (SinkCast(), SinkScale(), MergeTransposes(), MergeReshapes(), MergePads())
        apply_patterns(op, RecognizeSpikes(self.rates), CountSpikes(), *sinking)
