# SPDX-License-Identifier: Apache-2.0
"""roll-time: written-out time steps become one loop, so that the code does not grow with their number.

Works on the nodes as the file has them, in their order. Steps repeat the same operators with the same
attributes and the same trained numbers; a stretch of nodes that repeats itself with a period is a candidate.
It becomes a `bnn.scan` only if every operand is proved to be one of: the same value in all repetitions, a
value of the same repetition, a value of the one before (a carried state), or what goes through a tensor index
by index (a sequence). So each repetition computes what its nodes computed, and no answer changes. A first and
a last step that exporters have simplified (a state of zero, a reset that nobody reads) join the loop where
they are shown to compute the same (`time.peeled`); else they stay outside.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block
from xdsl.passes import ModulePass

from bnncc.dialect import operations as ops
from bnncc.dialect.network import decide, main_function
from bnncc.dialect.sources import location_text
from bnncc.passes.matching import main_block
from bnncc.passes.time.loops import FEWEST_STEPS, Nodes, Prover, Signatures, stretches
from bnncc.passes.time.peeled import CONTRACTIONS, Keys, Peeled, absorb
from bnncc.passes.time.selections import selection
from bnncc.passes.time.writing import Writer

MOST_CANDIDATES = 24
"""Places where a step may begin that are looked at for first and last steps that are like it."""


def candidates(block: Block) -> list[ops.Onnx]:
    """The nodes that steps are made of, in the order of the file."""
    return [
        op
        for op in block.ops
        if isinstance(op, ops.Onnx) and not all(selection(result) is not None for result in op.results)
    ]


def signatures_of(nodes: Sequence[ops.Onnx]) -> np.ndarray:
    """Numbers, equal where nodes are alike."""
    signatures = Signatures()
    return np.array([signatures.of(op) for op in nodes], np.int64)


def roll(block: Block) -> bool:
    """Roll the first stretch that can be proved to be a loop; whether there was one."""
    nodes = candidates(block)
    numbers = signatures_of(nodes)
    if len(numbers) < FEWEST_STEPS:
        return False
    placed = Nodes.of(nodes)
    for stretch in stretches(numbers):
        proved = [
            loop
            for offset in range(stretch.period)
            if (loop := Prover(placed, stretch, offset).prove()) is not None
        ]
        if proved:
            keys = Keys(list(block.ops))
            proved.sort(key=lambda loop: (len(loop.carried), -len(loop.steps)))
            best = max(
                proved[:MOST_CANDIDATES], key=lambda loop: len(loop.steps) + Peeled(block, loop, keys).ends()
            )
            Writer(absorb(block, best, keys), block).write()
            return True
    return False


def why_not(block: Block) -> str:
    """Why the longest stretch that repeats a layer with a state is no loop, "node: reason"; empty where there
    is none."""
    nodes = candidates(block)
    placed = Nodes.of(nodes)
    for stretch in stretches(signatures_of(nodes)):
        repeated = nodes[stretch.start : stretch.start + stretch.period]
        if not any(op.operator.data in CONTRACTIONS for op in repeated):
            continue
        provers = [Prover(placed, stretch, offset) for offset in range(min(stretch.period, MOST_CANDIDATES))]
        for prover in provers:
            prover.prove()
            if prover.obstacle is not None and prover.loop.carried:
                op, reason = prover.obstacle
                return f"{location_text(op)}: {reason}"
    return ""


class RollTimePass(ModulePass):
    """Roll one loop after the other."""

    name = "roll-time"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the function."""
        while roll(main_block(op)):
            pass
        reason = why_not(main_block(op))
        if reason:
            decide(main_function(op), "not rolled into a loop", reason)
