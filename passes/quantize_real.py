# SPDX-License-Identifier: Apache-2.0
"""quantize-real: convolutions and dense layers of real numbers become sums of bytes, by ranges of samples.

What such a layer reads is rounded to 256 levels over the range that the samples had, 0 one of them, and its
weights to int8, symmetric, with a scale for every output; biases and everything behind the sums stay as they
are. infer-domains then makes integers of it, as of a quantised graph. Layers whose input is binary already
stay binary, and layers stay real where bytes are no faster, unless they read bytes anyway. Answers change;
`bnncc.checking.accuracy` tells by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass

from bnncc.dialect import operations as ops
from bnncc.dialect.network import decide, main_function
from bnncc.dialect.sources import location_text
from bnncc.dialect.types import Level, element_of, level_type, shape_of
from bnncc.passes.infer_domains import InferDomainsPass
from bnncc.passes.levels import weight_levels
from bnncc.passes.matching import constant_of, has_one_use
from bnncc.passes.quantize_weights import quantized
from bnncc.plan import byte_costs
from bnncc.plan.byte_costs import FEW_CHANNELS, NARROW, WORTHWHILE, LayerKind

STEPS = 255
"""From the lowest level to the highest."""

NO_LAYERS = "the network has no convolution or dense layer of real numbers: --quantize-real changes nothing"

Bounds = tuple[float, float]
"""The smallest and the largest number of an activation."""

Ranges = Mapping[str, Bounds]
"""Bounds of what a real layer reads, by the layer's location."""


@dataclass(frozen=True)
class Quantizer:
    """Levels `lowest` .. lowest + 255 of `scale` each."""

    scale: float
    lowest: int

    @staticmethod
    def over(bounds: Bounds) -> Quantizer | None:
        """The levels of a range, 0 among them; None where it is 0 alone."""
        low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
        scale = float(np.float32((high - low) / STEPS))
        if not scale > 0 or not np.isfinite(1 / np.float32(scale)):
            return None
        return Quantizer(scale, round(low / scale))

    @property
    def domain(self) -> Level:
        """The domain of its levels."""
        domain = level_type(self.lowest, self.lowest + STEPS)
        assert isinstance(domain, Level)
        return domain

    def operations(self, value: SSAValue) -> list[Operation]:
        """From a value to that of the nearest level."""
        scale = ops.Constant(np.asarray(self.scale, np.float32))
        inverse = ops.Constant(np.float32(1) / np.asarray(self.scale, np.float32))
        divided = ops.Mul(value, inverse.result)
        rounded = ops.Round(divided.result)
        inside = ops.Clip(rounded.result, self.lowest, self.lowest + STEPS)
        levels = ops.Cast(inside.result, self.domain)
        numbers = ops.Cast(levels.result)
        scaled = ops.Mul(numbers.result, scale.result)
        return [scale, inverse, divided, rounded, inside, levels, numbers, scaled]


def real_layers(module: ModuleOp) -> list[ops.Conv2d | ops.Dense]:
    """The contractions of real activations and constant real weights."""
    return [
        op
        for op in main_function(module).walk()
        if isinstance(op, ops.Conv2d | ops.Dense)
        and element_of(op.input) == element_of(op.weight) == f32
        and constant_of(op.weight) is not None
    ]


def layer_kind(op: ops.Conv2d | ops.Dense) -> LayerKind:
    """What bytes cost depends on."""
    if isinstance(op, ops.Dense):
        return "dense"
    _, height, width, depth = shape_of(op.weight)
    channels, groups = shape_of(op.input)[3], op.groups.value.data
    if depth == 1 and groups > 1:
        return "depthwise"
    if depth == NARROW and groups > 1:
        return "narrow"
    if height == width == 1:
        return "pointwise"
    return "stem" if channels <= FEW_CHANNELS else "spatial"


def first_reader(op: ops.Conv2d | ops.Dense) -> Operation:
    """The layer, or the first of the operations before its input that only pad it with zeros."""
    reader: Operation = op
    while has_one_use(value := reader.operands[0]) and isinstance(pad := value.owner, ops.Pad):
        if pad.value.value.data != 0:
            break
        reader = pad
    return reader


@dataclass(frozen=True)
class QuantizeRealPass(ModulePass):
    """Quantize the real layers whose ranges are known; none where `ranges` is None. shares: of the time in
    float32, where they are known: layers that would gain nothing stay real."""

    name = "quantize-real"
    ranges: Ranges | None = None
    shares: byte_costs.Shares = field(default_factory=dict)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module, and note what was not quantised and why."""
        if self.ranges is None:
            return
        layers = real_layers(op)
        read = {first_reader(layer).operands[0] for layer in layers if self._share(layer) <= WORTHWHILE}
        idle = [layer for layer in layers if first_reader(layer).operands[0] not in read]
        left = [self._no_gain(layer) for layer in idle]
        left += [r for layer in layers if layer not in idle and (r := self._quantize(layer)) is not None]
        if len(left) < len(layers):
            InferDomainsPass().apply(ctx, op)
        done = f"{len(layers) - len(left)} of {len(layers)} real layers" if layers else NO_LAYERS
        decide(main_function(op), "quantized to int8", "; ".join([done, *left]))

    def _share(self, op: ops.Conv2d | ops.Dense) -> float:
        """Of the time in float32; 0 where it is not known."""
        return self.shares.get(layer_kind(op), 0.0)

    def _no_gain(self, op: ops.Conv2d | ops.Dense) -> str:
        share = (
            f"bytes would take {self._share(op):.2f} of the time in a {layer_kind(op)} layer on this target"
        )
        return f"{location_text(op)} stays in float32: {share} (--optimize size takes them)"

    def _quantize(self, op: ops.Conv2d | ops.Dense) -> str | None:
        """Round what a layer reads and its weights; or why not."""
        assert self.ranges is not None
        where = location_text(op)
        if where not in self.ranges:
            return f"{where} stays in float32: no sample reaches it"
        quantizer = Quantizer.over(self.ranges[where])
        if quantizer is None:
            return f"{where} stays in float32: what it reads is 0 in all samples"
        weight = constant_of(op.weight)
        assert weight is not None
        reader = first_reader(op)
        made = quantizer.operations(reader.operands[0])
        _insert(made, reader, op)
        reader.operands[0] = made[-1].results[0]
        if weight_levels(weight) is None:
            levels, scale = quantized(weight)
            numbers = levels * scale.reshape(-1, *[1] * (weight.ndim - 1))
            constant = ops.Constant(numbers.astype(np.float32))
            _insert([constant], op, op)
            op.operands[1] = constant.result
        _forget(op)
        return None


def _insert(made: list[Operation], before: Operation, about: Operation) -> None:
    """Put operations that belong to a layer in front of another."""
    block = before.parent
    assert block is not None
    for operation in made:
        operation.location = about.location
    block.insert_ops_before(made, before)


def _forget(op: Operation) -> None:
    """What follows a rounded value is no longer what the file's tensor is."""
    waiting, seen = [op], {op}
    while waiting:
        current = waiting.pop()
        current.attributes.pop("source", None)
        for result in current.results:
            for use in result.uses:
                if use.operation not in seen:
                    seen.add(use.operation)
                    waiting.append(use.operation)
