# SPDX-License-Identifier: Apache-2.0
"""quantize-weights: real weights that are summed over spikes become int8, with a scale for every output.

The sums are then exact integers, multiplied by the scale afterwards: y[o] = s[o] * sum x q[o], where
s[o] = max |w[o]| / 127 and q = round(w / s), to even. Answers change; `bnncc.checking.accuracy` tells by how
much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32, i8
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.network import decide, main_function
from bnncc.dialect.operations import is_spiking
from bnncc.dialect.types import element_of
from bnncc.passes.infer_domains import contracted
from bnncc.passes.matching import apply_patterns, constant_of, replace

NO_WEIGHTS = "no spikes meet real weights in the network: --quantize-weights changes nothing"

LARGEST = 127
"""Of a quantized weight; -128 is left out, so that the range is symmetric."""


def quantized(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 weights [O, ...] and float32 scales [O] whose products are the nearest to a float32 weight."""
    magnitude = np.abs(weight.reshape(len(weight), -1)).max(axis=1, initial=0.0)
    scale = np.where(magnitude > 0, magnitude / np.float32(LARGEST), np.float32(1)).astype(np.float32)
    levels = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return np.clip(levels, -LARGEST, LARGEST).astype(np.int8), scale


def is_quantizable(op: ops.Conv2d | ops.Dense) -> bool:
    """Whether the activation is spikes that are counted, and the weight a float32 constant."""
    weight = constant_of(op.weight)
    is_real = weight is not None and weight.dtype == np.float32
    return is_real and is_spiking(element_of(op.input)) and "density" in op.attributes


class QuantizeWeights(RewritePattern):
    """conv(spikes, w) is cast(conv(spikes, q)) * s."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Conv2d | ops.Dense, rewriter: PatternRewriter) -> None:
        """Where it `is_quantizable`."""
        weight = constant_of(op.weight)
        if weight is None or not is_quantizable(op):
            return
        levels, scale = quantized(weight)
        constant = ops.Constant(levels, i8)
        new = contracted(op, op.input, constant.result)
        new.attributes.update({key: op.attributes[key] for key in ("density", "density_from")})
        cast, factor = ops.Cast(new.results[0], f32), ops.Constant(scale)
        new_value = ops.Mul(cast.result, factor.result)
        op.attributes.pop("source", None)
        replace(rewriter, op, [constant, new, cast, factor, new_value])


@dataclass(frozen=True)
class QuantizeWeightsPass(ModulePass):
    """Quantize the weights of all contractions of spikes; nothing where `kind` is None."""

    name = "quantize-weights"
    kind: str | None = None
    """"int8"."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        if self.kind is None:
            return
        if not any(isinstance(each, ops.Conv2d | ops.Dense) and is_quantizable(each) for each in op.walk()):
            decide(main_function(op), "weights quantized to int8", NO_WEIGHTS)
        apply_patterns(op, QuantizeWeights())
