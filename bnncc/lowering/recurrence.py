# SPDX-License-Identifier: Apache-2.0
"""Recurrences in a fused region: their states lie in the arena, one image for all steps of the kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from xdsl.ir import BlockArgument, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.time import Scan
from bnncc.dialect.types import shape_of
from bnncc.lowering.geometry import canonical
from bnncc.lowering.steps import Steps
from bnncc.lowering.storage import Plane, value_name
from bnncc.plan.layout import Element, Layout


@dataclass(frozen=True)
class State:
    """A state of a recurrence: the memory that it starts in and ends in, as the values of that shape lie, and
    as a kernel over all steps sees it: an image that step after step overwrites."""

    scan: Scan
    number: int
    plane: Plane
    over_time: Layout

    @property
    def new(self) -> SSAValue:
        """The value after a step, in the body."""
        return self.scan.yielded[self.number]

    @property
    def final(self) -> SSAValue:
        """The value after the last step, around the loop."""
        return self.scan.final[self.number]


def states_of(scan: Scan, steps: Steps, outer: Callable[[SSAValue], SSAValue], op: ops.Fused) -> list[State]:
    """Memory for the states of a recurrence inside of `op`, and the steps that set it to the initial values.

    outer: the value outside of the region that an argument of it stands for."""
    found = []
    for number, initial in enumerate(scan.initial):
        shape = shape_of(initial)
        layout = Layout.packed(Element.F32, canonical(shape))
        plane = steps.storage.new_plane(f"{value_name(scan.final[number])}_state", layout)
        constant = initial.owner
        if isinstance(constant, ops.Constant) and is_uniform(constant):
            steps.fill(plane, float(constant.array.flat[0]), op)
        elif isinstance(constant, ops.Constant):
            steps.copy(steps.constant_plane(constant.array), plane, op, "start of the state")
        else:
            steps.copy(steps.placement(outer(initial))[0], plane, op, "start of the state")
        _, height, width, channels = canonical((scan.steps, *shape))
        image = Layout.packed(Element.F32, (1, height, width, channels))
        over_time = replace(
            image, shape=(scan.steps, height, width, channels), strides=(0, *image.strides[1:])
        )
        found.append(State(scan, number, plane, over_time))
    return found


def is_uniform(constant: ops.Constant) -> bool:
    """Whether all elements of a float32 tensor are the same bits."""
    bits = constant.array.reshape(-1).view("u4")
    return bits.size > 0 and bool((bits == bits[0]).all())


def scan_of(argument: BlockArgument) -> Scan | None:
    """The loop that an argument belongs to, or None for an argument of the region itself."""
    parent = argument.block.parent_op()
    return parent if isinstance(parent, Scan) else None
