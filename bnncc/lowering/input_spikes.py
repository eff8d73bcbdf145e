# SPDX-License-Identifier: Apache-2.0
"""Inputs of the network that are most likely spikes: looked at when it runs, so that others are right too."""

from __future__ import annotations

import math

from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.time import LIKELY_SPIKES
from bnncc.lowering.steps import Steps
from bnncc.lowering.storage import Plane, is_plain
from bnncc.plan import expression as ex
from bnncc.plan.kernel import KernelSpec, Map, Output
from bnncc.plan.layout import Element, Layout


def mask_of_spikes(steps: Steps, op: Operation, root: Operation | None, value: SSAValue) -> Plane | None:
    """A bit for every element of the network's input that `value`, which the contraction `root` in `op`
    reads, is part of: whether it is 0 or 1. None where nothing says that they are spikes."""
    if root is None or LIKELY_SPIKES not in root.attributes:
        return None
    while isinstance(value.owner, ops.Transpose | ops.Reshape | ops.Pad):
        value = value.owner.operands[0]
    if not isinstance(value, BlockArgument) or not isinstance(value.block.parent_op(), FuncOp):
        return None
    plane = steps.placement(value)[0]
    if not is_plain(plane.layout) or plane.layout.element is not Element.F32:
        return None
    row = Layout.packed(Element.F32, (1, 1, 1, math.prod(plane.layout.shape)))
    mask = steps.storage.new_plane("is_spike", Layout.packed(Element.BIT, row.shape))
    is_zero, is_one = (ex.Compare("eq", ex.Operand(0), ex.Scalar(number)) for number in (0.0, 1.0))
    output = Output(mask.layout, ex.Select(is_zero, is_zero, is_one))
    spec = KernelSpec(Map(), (row,), (), (output,))
    steps.step(op, spec, (plane.buffer,), (mask.buffer,), about=root, operation="whether all are 0 or 1")
    return mask
