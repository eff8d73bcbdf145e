# SPDX-License-Identifier: Apache-2.0
"""inline-neurons: a neuron becomes the arithmetic of its body, which kernels take in like any other.

Each operation keeps the location of the neuron; what the neuron gives first keeps its source.
"""

from __future__ import annotations

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect.sources import get_source, set_source
from bnncc.dialect.time import Neuron, inline
from bnncc.passes.matching import apply_patterns


class InlineNeuron(RewritePattern):
    """Replace a neuron by copies of what its body holds."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: Neuron, rewriter: PatternRewriter) -> None:
        """Its results are what the body yields."""
        operations, results = inline(op)
        for copy in operations:
            copy.location = op.location
        source, output = get_source(op), results[0].owner
        if source is not None and output in operations:
            set_source(output, *source)  # type: ignore[arg-type]
        rewriter.replace(op, operations, results)


class InlineNeuronsPass(ModulePass):
    """Inline every neuron."""

    name = "inline-neurons"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        apply_patterns(op, InlineNeuron())
