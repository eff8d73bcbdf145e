# SPDX-License-Identifier: Apache-2.0
"""place-pads: pads of binary values go where a kernel can do them.

A convolution of bits pads by itself. It cannot pad values that may be 0 by -1 or +1: such a pad moves in
front of the binarize, for the sign of -1 is -1 and that of +1 is +1.
"""

from __future__ import annotations

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import unpack
from bnncc.passes.matching import apply_patterns, producer, replace
from bnncc.passes.simplify_layout import MergePads


class PadBeforeBinarize(RewritePattern):
    """pad(binarize(x), v) is binarize(pad(x, v)) for v = -1 and +1."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Pad, rewriter: PatternRewriter) -> None:
        """Match pads of ternary values."""
        binarize = producer(op.input, ops.Binarize)
        if binarize is None or binarize.zero.value.data != 0 or op.value.value.data not in (-1.0, 1.0):
            return
        pad = ops.Pad(binarize.input, unpack(op.low), unpack(op.high), op.value.value.data)
        replace(rewriter, op, [pad, ops.Binarize(pad.result, 0)])


class PlacePadsPass(ModulePass):
    """Merge pads into convolutions, move the others."""

    name = "place-pads"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        apply_patterns(op, MergePads(), PadBeforeBinarize())
