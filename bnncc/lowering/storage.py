# SPDX-License-Identifier: Apache-2.0
"""Where each value lives: buffers, and values seen as layouts over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from xdsl.dialects.builtin import IntegerType, Signedness, f16, f32, f64, i1, i8, i16, i32, i64
from xdsl.ir import Attribute, Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.sources import node_name
from bnncc.dialect.time import Scan
from bnncc.dialect.types import Bipolar, Level, Spike, Ternary, element_of, shape_of, ui8
from bnncc.lowering.demands import Demand
from bnncc.lowering.expressions import unsupported
from bnncc.lowering.geometry import (
    AXES,
    MAX_RANK,
    canonical,
    channel_slice,
    reshaped,
    transposed,
    without_halo,
)
from bnncc.plan.layout import Element, Layout
from bnncc.plan.program import Buffer, Place

STORED: dict[Attribute, Element] = {
    f32: Element.F32,
    i32: Element.I32,
    ui8: Element.U8,
    i8: Element.I8,
    f16: Element.F16,
    f64: Element.F64,
    i16: Element.I16,
    i64: Element.I64,
    IntegerType(16, Signedness.UNSIGNED): Element.U16,
    IntegerType(32, Signedness.UNSIGNED): Element.U32,
    IntegerType(64, Signedness.UNSIGNED): Element.U64,
    i1: Element.BIT,
    Bipolar(): Element.BIT,
    Spike(): Element.BIT,
    Ternary(): Element.BIT,
}


C_WITHOUT = {"bool": np.uint8, "float16": np.uint16}
"""Types that C lacks, and those that stand for them in arrays of constants."""


def plain_element(value: SSAValue) -> Element:
    """How users and opaque kernels see a value of numbers: as it is stored, but booleans as bytes."""
    return Element.BOOL if element_of(value) == i1 else stored_element(value)


@dataclass(frozen=True)
class Plane:
    """A layout over a buffer. `fill` is what its halo holds."""

    buffer: int
    layout: Layout
    fill: int = 0


Placement = tuple[Plane, ...]
"""The planes of a value: one, sign and mask for a ternary value, or the bits of a level, the lowest first;
of a level that takes more than a few bits, one of bytes."""


class Storage:
    """Buffers in the order of their making, and the placement of every value that has one."""

    def __init__(self, demands: dict[SSAValue, Demand]):
        self.buffers: list[Buffer] = []
        self.placements: dict[SSAValue, Placement] = {}
        self.demands = demands
        self._reserved: dict[SSAValue, Placement] = {}

    def new_buffer(self, name: str, size: int, place: Place = "arena", index: int = 0) -> int:
        """Add a buffer; its number."""
        self.buffers.append(Buffer(name, size, place, index))
        return len(self.buffers) - 1

    def new_constant(self, name: str, array: np.ndarray, layout: Layout) -> Plane:
        """A buffer of trained numbers."""
        data = np.ascontiguousarray(array)
        data = data.view(C_WITHOUT.get(data.dtype.name, data.dtype))
        self.buffers.append(Buffer(name, layout.bytes, "constant", data=data))
        return Plane(len(self.buffers) - 1, layout)

    def new_plane(self, name: str, layout: Layout, fill: int = 0) -> Plane:
        """A plane over an arena buffer of its own."""
        return Plane(self.new_buffer(name, layout.bytes), layout, fill)

    def new_placement(self, name: str, value: SSAValue, demand: Demand) -> Placement:
        """Fresh planes for a value, with the halo that is asked for."""
        layout = Layout.packed(stored_element(value), canonical(shape_of(value)), demand.halo)
        element = element_of(value)
        if isinstance(element, Level):
            level = level_of(element, demand.fill)
            if element.is_byte:
                return (self.new_plane(name, layout, level),)
            planes = enumerate([name, *(f"{name}_bit{b}" for b in range(1, element.planes))])
            return tuple(self.new_plane(plane, layout, level >> b & 1) for b, plane in planes)
        sign = self.new_plane(name, layout, demand.fill)
        if not isinstance(element, Ternary):
            return (sign,)
        return (sign, self.new_plane(name + "_mask", layout, int(demand.fill != 0)))

    def destination(self, value: SSAValue) -> Placement:
        """Where the producer of a value writes it."""
        if value not in self.placements:
            reserved = self._reserved.get(value)
            demand = self.demands.get(value, Demand())
            self.placements[value] = reserved or self.new_placement(value_name(value), value, demand)
        return self.placements[value]

    def reserved(self, value: SSAValue) -> Plane | None:
        """The plane that waits for a value, if any."""
        return self._reserved[value][0] if value in self._reserved else None

    def is_placed(self, value: SSAValue) -> bool:
        """Whether a value has planes, or planes reserved for it."""
        return value in self.placements or value in self._reserved

    def reserve_output(self, value: SSAValue, plane: Plane) -> bool:
        """Let the producer of a graph output write straight into the caller's memory, through the views in
        between; False where it cannot."""
        layout: Layout | None = plane.layout
        while isinstance(op := value.owner, ops.Transpose | ops.Reshape) and value.has_one_use():
            rank = len(shape_of(value))
            if isinstance(op, ops.Transpose):
                if rank > MAX_RANK:
                    return False
                layout = transposed(layout, rank, ops.inverse(ops.unpack(op.permutation)))
            else:
                layout = reshaped(layout, shape_of(op.input))
            value = op.operands[0]
            if layout is None:
                return False
        return self._reserve(value, [replace(plane, layout=layout)])

    def reserve_slices(self, concat: ops.Concat) -> None:
        """Let the producers of a concatenation's inputs write straight into its parts where they can."""
        result = self._reserved.get(concat.result) or self._side_by_side(concat)
        if result is None:
            demand = self.demands.get(concat.result, Demand())
            result = self.new_placement(value_name(concat.result), concat.result, demand)
        self._reserved[concat.result] = result
        for value, start in parts(concat):
            cut = [part_of(plane, concat, value, start) for plane in result]
            self._reserve(value, [part for part in cut if part is not None])

    def _side_by_side(self, concat: ops.Concat) -> Placement | None:
        """The view of inputs that wait one after the other in a longer concatenation already."""
        known = [self._reserved.get(value) for value in concat.inputs]
        first = known[0]
        if first is None or concat.result in self.demands:
            return None
        shape = canonical(shape_of(concat.result))
        wholes = tuple(replace(plane, layout=replace(plane.layout, shape=shape)) for plane in first)
        for (value, start), planes in zip(parts(concat), known, strict=True):
            if planes != tuple(part_of(whole, concat, value, start) for whole in wholes):
                return None
        return wholes

    def _reserve(self, value: SSAValue, planes: Sequence[Plane]) -> bool:
        """Let a value's producer write to these planes; False where it cannot, or if they are too few."""
        if self.is_placed(value) or value in self.demands or len(planes) != plane_count(value):
            return False
        plane = planes[0]
        match value.owner:
            case ops.Fused() | ops.Softmax() | ops.Concat():
                fits = stored_element(value) == plane.layout.element
            case Scan():
                fits = is_plain(plane.layout) and stored_element(value) == plane.layout.element
                fits = fits and value in value.owner.stacked
            case ops.Onnx():
                fits = is_plain(plane.layout) and plain_element(value) == plane.layout.element
            case _:
                fits = False
        if not fits:
            return False
        self._reserved[value] = tuple(planes)
        return True


def parts(concat: ops.Concat) -> list[tuple[SSAValue, int]]:
    """The inputs of a concatenation, each with where it starts along the axis."""
    axis, start, found = concat.axis.value.data, 0, []
    for value in concat.inputs:
        found.append((value, start))
        start += shape_of(value)[axis]
    return found


def part_of(plane: Plane, concat: ops.Concat, value: SSAValue, start: int) -> Plane | None:
    """The part of a concatenation's plane where `value` goes, or None where bits cannot be cut so."""
    rank = len(shape_of(value))
    axis = AXES[rank][concat.axis.value.data]
    layout = channel_slice(plane.layout, axis, start, shape_of(value)[concat.axis.value.data])
    return None if layout is None else Plane(plane.buffer, without_halo(layout))


def plane_count(value: SSAValue) -> int:
    """How many planes hold a value."""
    element = element_of(value)
    if isinstance(element, Level):
        return 1 if element.is_byte else element.planes
    return 2 if isinstance(element, Ternary) else 1


def stored_element(value: SSAValue) -> Element:
    """How a value is stored; a diagnostic for a type that no kernel stores."""
    element = element_of(value)
    owner = value.owner
    if isinstance(element, Level):
        return Element.U8 if element.is_byte else Element.BIT
    if element not in STORED:
        assert isinstance(owner, Operation)
        raise unsupported(owner, f"no kernel stores {value.type}")
    return STORED[element]


def level_of(element: Level, value: int) -> int:
    """How far a value lies above the lowest of its domain, which is what is stored; 0 for one outside."""
    return value - element.lowest if element.lowest <= value <= element.highest else 0


def is_plain(layout: Layout) -> bool:
    """Whether a buffer holds just this tensor, row-major from its start."""
    return layout.offset == 0 and not layout.halo and reshaped(layout, (layout_size(layout),)) is not None


def layout_size(layout: Layout) -> int:
    """How many values a tensor has."""
    return math.prod(layout.shape)


def value_name(value: SSAValue) -> str:
    """A buffer's name, from the ONNX node that made the value."""
    if isinstance(value.owner, Operation):
        return node_name(value.owner)
    return value.name_hint or "input"
