# SPDX-License-Identifier: Apache-2.0
"""What the consumers of a value ask of its storage: a halo, and what the halo means."""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.ir import Block, SSAValue

from bnncc.dialect import operations as ops
from bnncc.lowering.roots import contraction
from bnncc.plan.layout import Halo


@dataclass
class Demand:
    """halo: the union over all consumers; pad_values: what each padded consumer takes the outside for."""

    halo: Halo = Halo()
    pad_values: set[int] = field(default_factory=set)

    @property
    def fill(self) -> int:
        """The value to store in the halo: what the consumers want if they agree, else a bit that their
        correction tables start from."""
        return max(self.pad_values, default=0)


def root_of(fused: ops.Fused) -> ops.Conv2d | ops.Dense | ops.MaxPool | ops.MeanPool | ops.ChannelMean | None:
    """The root operation of a fused region, or None for a map."""
    return next((op for op in fused.block.ops if isinstance(op, ops.ROOTS)), None)


def outer_value(fused: ops.Fused, inner: SSAValue) -> SSAValue:
    """The operand of the fused operation that a block argument stands for."""
    return fused.inputs[list(fused.block.args).index(inner)]  # type: ignore[arg-type]


def halo_demands(block: Block) -> dict[SSAValue, Demand]:
    """What the contractions in the block ask of their inputs."""
    demands: dict[SSAValue, Demand] = {}
    for op in block.ops:
        if not isinstance(op, ops.Fused):
            continue
        root = root_of(op)
        if not isinstance(root, ops.CONTRACTIONS):
            continue
        read = contraction(root)
        if read.halo:
            demand = demands.setdefault(outer_value(op, read.input), Demand())
            demand.halo = demand.halo.union(read.halo)
            demand.pad_values.add(read.pad_value)
    return demands
