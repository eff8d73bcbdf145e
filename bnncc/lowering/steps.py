# SPDX-License-Identifier: Apache-2.0
"""Emitting steps: kernels, and the halos and copies that they need before them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Operation, SSAValue

from bnncc.dialect.sources import location_text, node_name
from bnncc.dialect.types import number_type
from bnncc.lowering.demands import Demand
from bnncc.lowering.geometry import canonical, without_halo
from bnncc.lowering.roots import Contraction, describe, domains, macs
from bnncc.lowering.storage import STORED, Placement, Plane, Storage, value_name
from bnncc.plan import expression as ex
from bnncc.plan.kernel import Convert, FillHalo, KernelSpec, Map, Output
from bnncc.plan.layout import Element, Layout
from bnncc.plan.program import Alternative, Density, Spikes, Step

MAPPED = frozenset({Element.F32, Element.I32, Element.I16, Element.U8, Element.BIT})
"""Elements that the kernels of maps store."""


class Steps:
    """The steps so far, the operation that each belongs to, and the storage they work on."""

    def __init__(self, storage: Storage, has_neurons: bool = False):
        """has_neurons: whether the network has any, so that decisions are spikes."""
        self.storage = storage
        self.has_neurons = has_neurons
        self.steps: list[Step] = []
        self.operations: list[Operation] = []
        self._padded: dict[tuple[SSAValue, object, int], Placement] = {}

    def placement(self, value: SSAValue) -> Placement:
        """Where a value that was made already lies."""
        assert value in self.storage.placements, value
        return self.storage.placements[value]

    def step(
        self,
        op: Operation,
        spec: KernelSpec,
        reads: Sequence[int],
        writes: Sequence[int],
        constants: Sequence[np.ndarray] = (),
        about: Operation | None = None,
        operation: str = "",
        when_zero: Alternative | None = None,
        note: str = "",
        spikes: Sequence[Spikes] = (),
        density: Density | None = None,
    ) -> None:
        """Append a step of `op`; `about` is what the report says it is (by default `op` itself)."""
        about = about or op
        self.operations.append(op)
        self.steps.append(
            Step(
                name=operation if isinstance(about, ReturnOp) else node_name(about),
                kernel=spec,
                reads=tuple(reads),
                writes=tuple(writes),
                constants=tuple(constants),
                when_zero=when_zero,
                location=location_text(about),
                operation=operation or describe(about),
                domains=domains(about),
                macs=macs(about),
                note=note,
                spikes=tuple(spikes),
                density=density,
            )
        )

    def fill_halos(self, placement: Placement, op: Operation) -> None:
        """Set what lies around the image, where a plane has a halo."""
        for plane in placement:
            if plane.layout.halo:
                value = int(plane.fill > 0) if plane.layout.element is Element.BIT else plane.fill
                spec = KernelSpec(FillHalo(plane.layout, value), (), (), ())  # type: ignore[arg-type]
                self.step(op, spec, (), (plane.buffer,), operation="halo")

    def fill(self, target: Plane, value: float, op: Operation) -> None:
        """Set every element of a plane of float32, int32 or int16 to one number."""
        number = ex.Scalar(value)
        expression = number if target.layout.element is Element.F32 else ex.ToInteger(number)
        spec = KernelSpec(Map(), (), (), (Output(target.layout, expression),))
        self.step(op, spec, (), (target.buffer,), operation="fill")

    def clear(self, target: Plane, op: Operation) -> None:
        """Set every element of a plane to zero."""
        if target.layout.element is Element.F32:
            self.fill(target, 0.0, op)
            return
        zeros = self.storage.new_plane("zeros", Layout.packed(Element.F32, target.layout.shape))
        self.fill(zeros, 0.0, op)
        if target.layout.element is Element.BIT:
            self.pack(zeros, target, op)
        else:
            self.copy(zeros, target, op, "clear")

    def copy(self, source: Plane, target: Plane, op: Operation, why: str) -> None:
        """Element by element, whatever the strides of both are, between types where these differ."""
        layout = without_halo(source.layout)
        elements = {layout.element, target.layout.element}
        if len(elements) == 1 and elements <= MAPPED:
            spec = KernelSpec(Map(), (layout,), (), (Output(target.layout, ex.Operand(0)),))
        else:
            spec = KernelSpec(Convert(layout), (), (), (Output(target.layout, ex.Accumulator()),))
        self.step(op, spec, (source.buffer,), (target.buffer,), operation=why)

    def row_major(self, source: Plane, op: Operation) -> Plane:
        """A copy without halo and gaps."""
        layout = Layout.packed(source.layout.element, source.layout.shape)
        target = self.storage.new_plane("row_major", layout)
        self.copy(source, target, op, "copy to row-major order")
        return target

    def unpacked(self, source: Plane, op: Operation) -> Plane:
        """The bits of a plane as float32 0 and 1, row-major."""
        target = self.storage.new_plane("unpacked", Layout.packed(Element.F32, source.layout.shape))
        self.unpack(source, target, op)
        return target

    def unpack(self, source: Plane, target: Plane, op: Operation) -> None:
        """Bits to float32 0 and 1."""
        output = Output(target.layout, ex.FromBit(ex.Operand(0), 0.0, 1.0))
        spec = KernelSpec(Map(), (without_halo(source.layout),), (), (output,))
        self.step(op, spec, (source.buffer,), (target.buffer,), operation="unpack bits")

    def packed(self, sources: Placement, op: Operation) -> Placement:
        """The reverse of `unpacked`."""
        planes = []
        for source in sources:
            target = self.storage.new_plane("packed", Layout.packed(Element.BIT, source.layout.shape))
            self.pack(source, target, op)
            planes.append(target)
        return tuple(planes)

    def pack(self, source: Plane, target: Plane, op: Operation) -> None:
        """Numbers to bits: set where they are not 0."""
        output = Output(target.layout, ex.Compare("ne", ex.Operand(0), ex.Scalar(0.0)))
        spec = KernelSpec(Map(), (source.layout,), (), (output,))
        self.step(op, spec, (source.buffer,), (target.buffer,), operation="pack bits")

    def with_halo(self, value: SSAValue, read: Contraction, op: Operation) -> Placement:
        """The planes of a contraction's input, in a copy where its own have no sufficient halo."""
        planes = self.placement(value)
        agrees = not read.input_is_ternary or not read.halo or planes[0].fill == read.pad_value
        if agrees and all(plane.layout.halo.union(read.halo) == plane.layout.halo for plane in planes):
            if all(p.layout.element is not Element.BIT or p.layout.strides[3] == 1 for p in planes):
                return planes
        demand = self.storage.demands.get(value, Demand())
        fill = read.pad_value if read.input_is_ternary else demand.fill
        halo = demand.halo.union(read.halo)
        key = (value, halo, fill)
        if key not in self._padded:
            name = value_name(value) + "_padded"
            copies = self.storage.new_placement(name, value, Demand(halo, {fill}))
            self.fill_halos(copies, op)
            for source, target in zip(planes, copies, strict=True):
                self.copy(source, target, op, "copy into a padded buffer")
            self._padded[key] = copies
        return self._padded[key]

    def constant_plane(self, array: np.ndarray) -> Plane:
        """A constant tensor as a buffer of its own."""
        element = Element.BOOL if array.dtype == np.bool_ else STORED[number_type(array.dtype)]
        return self.storage.new_constant("constant", array, Layout.packed(element, canonical(array.shape)))
