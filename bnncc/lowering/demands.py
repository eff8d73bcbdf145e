# SPDX-License-Identifier: Apache-2.0
"""What the consumers of a value ask of its storage: a halo, and what the halo means."""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.ir import Block, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, is_number, shape_of
from bnncc.lowering.geometry import canonical, channel_slice
from bnncc.lowering.roots import contraction
from bnncc.plan.layout import Element, Halo, Layout


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
            add_demand(demands, outer_value(op, read.input), Demand(read.halo, {read.pad_value}))
    for op in reversed(list(block.ops)):
        if isinstance(op, ops.Pad) and op.result in demands and keeps_halo(op):
            add_demand(demands, op.input, demands[op.result])
    return demands


def add_demand(demands: dict[SSAValue, Demand], value: SSAValue, more: Demand) -> None:
    """Ask more of a value's storage."""
    demand = demands.setdefault(value, Demand())
    demand.halo = demand.halo.union(more.halo)
    demand.pad_values |= more.pad_values


def keeps_halo(op: ops.Pad) -> bool:
    """Whether what it leaves is a slice of the channels where they lie, of packed ones whole words."""
    rank, shape = len(shape_of(op.result)), shape_of(op.result)
    if rank != 4 or op.cropped_axis != rank - 1:
        return False
    element = Element.F32 if is_number(element_of(op.input)) else Element.BIT
    whole = Layout.packed(element, canonical(shape_of(op.input)))
    return channel_slice(whole, rank - 1, -ops.unpack(op.low)[-1], shape[-1]) is not None
