# SPDX-License-Identifier: Apache-2.0
"""ONNX nodes outside the dialect: one step with a kernel that knows the node itself."""

from __future__ import annotations

from xdsl.dialects.builtin import StringAttr, i1
from xdsl.ir import Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, shape_of
from bnncc.frontend.nodes import to_node_proto
from bnncc.lowering.geometry import canonical
from bnncc.lowering.steps import Steps
from bnncc.lowering.storage import Plane, is_plain, plain_element, value_name
from bnncc.plan import expression as ex
from bnncc.plan.kernel import Argument, Constant, KernelSpec, Opaque, Output, flat_layout
from bnncc.plan.layout import Element, Layout

LARGEST_KNOWN = 64
"""Constants of at most so many elements are part of the kernel: scales, bounds, zero points."""

SHAPES = (Element.I32, Element.I64, Element.BOOL)
"""Constants of these types always are: shapes, axes, pads, indices."""


class OpaqueNodes:
    """Lowers `bnn.onnx` operations. Their booleans are bytes, those of all other kernels bits: what crosses
    over is copied when it is first read."""

    def __init__(self, steps: Steps):
        self.steps = steps
        self.plain: dict[SSAValue, Plane] = {}
        """Row-major copies of values, and the booleans that opaque nodes made."""

    def add_plain(self, value: SSAValue, plane: Plane) -> None:
        """A value that lies row-major already: an input, a constant."""
        self.plain[value] = plane
        if plane.layout.element is not Element.BOOL:
            self.steps.storage.placements[value] = (plane,)

    def pack_operands(self, op: Operation) -> None:
        """Before another operation reads booleans that are bytes yet: make them bits."""
        for value in op.operands:
            if value in self.plain and value not in self.steps.storage.placements:
                source = self.plain[value]
                layout = Layout.packed(Element.BIT, source.layout.shape)
                target = self.steps.storage.new_plane(value_name(value) + "_bits", layout)
                self.steps.copy(source, target, op, "pack booleans")
                self.steps.storage.placements[value] = (target,)

    def lower(self, op: ops.Onnx) -> None:
        """Append the step of a node, and the copies that it needs before it."""
        results = [result for result in op.outputs]
        while len(results) > 1 and results[-1].first_use is None:
            results.pop()
        node = to_node_proto(op)
        del node.output[len(results) :]
        inputs = dict(zip(ops.unpack(op.slots), op.inputs, strict=True))
        arguments = tuple(_argument(slot, value) for slot, value in sorted(inputs.items()))
        weights = [a.slot for a in arguments if a.values is None and _is_constant(inputs[a.slot])]
        fed = [a.slot for a in arguments if a.values is None and a.slot not in weights]
        kinds = tuple((plain_element(result), shape_of(result)) for result in results)
        root = Opaque(
            op.operator.data,
            node.SerializeToString(deterministic=True),
            op.opset.value.data,
            arguments,
            tuple(fed),
            tuple(weights),
            kinds,
        )
        reads = [self._plain(inputs[slot], op).buffer for slot in fed]
        targets = [self._target(result) for result in results]
        outputs = tuple(Output(flat_layout(*kind), ex.Accumulator()) for kind in kinds)
        arrays = [inputs[slot].owner.array for slot in weights]  # type: ignore[union-attr]
        constants = tuple(Constant(plain_element(inputs[slot]), shape_of(inputs[slot])) for slot in weights)
        spec = KernelSpec(root, (), constants, outputs)
        writes = [target.buffer for target in targets]
        self.steps.step(op, spec, reads, writes, arrays, operation=op.operator.data, note=_note(op))

    def _plain(self, value: SSAValue, op: Operation) -> Plane:
        """The value row-major, from the start of a buffer."""
        if value not in self.plain:
            source = self.steps.placement(value)[0]
            element = plain_element(value)
            if source.layout.element is not element or not is_plain(source.layout):
                layout = Layout.packed(element, source.layout.shape)
                target = self.steps.storage.new_plane(value_name(value) + "_plain", layout)
                self.steps.copy(source, target, op, "copy to row-major order")
                source = target
            self.plain[value] = source
        return self.plain[value]

    def _target(self, value: SSAValue) -> Plane:
        """Where a node writes a result."""
        storage, element = self.steps.storage, plain_element(value)
        reserved = storage.reserved(value)
        layout = Layout.packed(element, canonical(shape_of(value)))
        plane = reserved or storage.new_plane(value_name(value), layout)
        self.plain[value] = plane
        if element_of(value) != i1:
            storage.placements[value] = (plane,)
        return plane


def _note(op: ops.Onnx) -> str:
    """Who computes the node, and what kept it from an operation of the dialect."""
    reason = op.attributes.get("reason")
    return f"plain loops: {reason.data}" if isinstance(reason, StringAttr) else "plain loops"


def _is_constant(value: SSAValue) -> bool:
    return isinstance(value.owner, ops.Constant)


def _argument(slot: int, value: SSAValue) -> Argument:
    element, shape = plain_element(value), shape_of(value)
    known = None
    if isinstance(value.owner, ops.Constant):
        array = value.owner.array
        if array.size <= LARGEST_KNOWN or element in SHAPES:
            known = array.tobytes()
    return Argument(slot, element, shape, known)
