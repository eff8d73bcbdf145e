# SPDX-License-Identifier: Apache-2.0
"""From a module of fused regions to a Program: one step per region, one buffer per value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import StringIO

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, BlockArgument, Operation, SSAValue
from xdsl.printer import Printer

from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.dialect.types import Ternary, element_of, numpy_type, shape_of
from bnncc.lowering.demands import Demand, halo_demands, outer_value, root_of
from bnncc.lowering.expressions import ExpressionBuilder, location_of, unsupported
from bnncc.lowering.geometry import (
    broadcast,
    canonical,
    moves_channels,
    reshaped,
    transposed,
    without_halo,
)
from bnncc.lowering.in_place import reuse_operands
from bnncc.lowering.reasons import why_real
from bnncc.lowering.roots import Contraction, contraction, describe, domains, macs, window_of
from bnncc.lowering.storage import Placement, Plane, Storage, part_of, parts, stored_element, value_name
from bnncc.plan import expression as ex
from bnncc.plan.kernel import (
    BinaryConv,
    ChannelMean,
    Constant,
    FillHalo,
    KernelSpec,
    Map,
    Output,
    Pool,
    RealConv,
    Root,
    Softmax,
)
from bnncc.plan.layout import Element, Layout
from bnncc.plan.memory import Request, plan_arena
from bnncc.plan.names import c_names
from bnncc.plan.program import Alternative, Buffer, Port, Program, Step


@dataclass(frozen=True)
class Lowered:
    """A Program and how it hangs together with its module: which operation each step belongs to, and where
    each value is placed."""

    program: Program
    module: ModuleOp
    operations: tuple[Operation, ...]
    placements: dict[SSAValue, Placement]

    def text(self) -> str:
        """The module as MLIR text, with the ONNX nodes as locations."""
        stream = StringIO()
        Printer(stream, print_debuginfo=True).print_op(self.module)
        return stream.getvalue() + "\n"


def lower(module: ModuleOp, name: str) -> Lowered:
    """Lower the `main` function of a module that went through the whole pipeline.

    Raises BnnccError where a value or an operation has no stored form or kernel."""
    main = next(op for op in module.ops if isinstance(op, FuncOp))
    lowering = _Lowering(main)
    program = lowering.program(name)
    return Lowered(program, module, tuple(lowering.operations), lowering.storage.placements)


class _Lowering:
    """The state of one lowering: storage and the steps so far."""

    def __init__(self, main: FuncOp):
        self.main = main
        self.block: Block = main.body.block
        self.storage = Storage(halo_demands(self.block))
        self.steps: list[Step] = []
        self.operations: list[Operation] = []
        self.copied_outputs: list[tuple[SSAValue, Plane]] = []
        self.padded: dict[tuple[SSAValue, object, int], Placement] = {}

    def program(self, name: str) -> Program:
        count = len(self.block.args)
        spelled = c_names(_names(self.main, "bnn.inputs") + _names(self.main, "bnn.outputs"))
        inputs = self._inputs(spelled[:count])
        outputs = self._outputs(spelled[count:])
        for concat in reversed([op for op in self.block.ops if isinstance(op, ops.Concat)]):
            self.storage.reserve_slices(concat)
        for op in self.block.ops:
            self._lower(op)
        steps, owner = reuse_operands(tuple(self.steps), tuple(self.storage.buffers))
        arena = plan_arena(_requests(steps, self.storage.buffers, owner))
        offsets = {i: arena.offsets[owner[i]] for i in range(len(owner)) if owner[i] in arena.offsets}
        buffers = tuple(self.storage.buffers)
        return Program(name, inputs, outputs, buffers, steps, offsets, arena.bytes, arena.lower_bound)

    # The user's side.

    def _inputs(self, spelled: Sequence[str]) -> tuple[Port, ...]:
        names = _names(self.main, "bnn.inputs")
        ports = []
        for index, (argument, name, c_name) in enumerate(zip(self.block.args, names, spelled, strict=True)):
            layout = Layout.packed(_port_element(argument, name), canonical(shape_of(argument)))
            buffer = self.storage.new_buffer(name, layout.bytes, "input", index)
            self.storage.placements[argument] = (Plane(buffer, layout),)
            ports.append(_port(argument, name, c_name, buffer))
        return tuple(ports)

    def _outputs(self, spelled: Sequence[str]) -> tuple[Port, ...]:
        last = self.block.last_op
        assert isinstance(last, ReturnOp)
        names = _names(self.main, "bnn.outputs")
        ports = []
        for index, (value, name, c_name) in enumerate(zip(last.arguments, names, spelled, strict=True)):
            layout = Layout.packed(_port_element(value, name), canonical(shape_of(value)))
            buffer = self.storage.new_buffer(name, layout.bytes, "output", index)
            plane = Plane(buffer, layout)
            if not self.storage.reserve_output(value, plane):
                self.copied_outputs.append((value, plane))
            ports.append(_port(value, name, c_name, buffer))
        return tuple(ports)

    # One operation at a time.

    def _lower(self, op: Operation) -> None:
        match op:
            case ops.Constant():
                self._lower_constant(op)
            case ops.Fused():
                self._lower_fused(op)
            case ops.Transpose():
                self._lower_transpose(op)
            case ops.Reshape():
                self._lower_reshape(op)
            case ops.Concat():
                self._lower_concat(op)
            case ops.Pad():
                self._lower_pad(op)
            case ops.Softmax():
                self._lower_softmax(op)
            case ReturnOp():
                for value, plane in self.copied_outputs:
                    self._copy(self._placement(value)[0], plane, op, "copy to the output")
            case _:
                raise unsupported(op, f"{op.name} has no kernel")

    def _lower_constant(self, op: ops.Constant) -> None:
        """Constants that no region took in: whole tensors, stored as they are."""
        if stored_element(op.result) not in (Element.F32, Element.I32):
            raise unsupported(op, "a constant of this domain cannot be stored")
        self.storage.placements[op.result] = (self._constant_plane(op.array),)

    def _constant_plane(self, array: np.ndarray) -> Plane:
        element = Element.F32 if array.dtype == np.float32 else Element.I32
        return self.storage.new_constant("constant", array, Layout.packed(element, canonical(array.shape)))

    def _lower_transpose(self, op: ops.Transpose) -> None:
        permutation, rank = ops.unpack(op.permutation), len(shape_of(op.input))
        source = self._placement(op.input)
        packed = source[0].layout.element is Element.BIT and moves_channels(rank, permutation)
        planes = tuple(self._unpacked(plane, op) for plane in source) if packed else source
        views = tuple(Plane(plane.buffer, transposed(plane.layout, rank, permutation)) for plane in planes)
        self.storage.placements[op.result] = self._packed(views, op) if packed else views

    def _lower_reshape(self, op: ops.Reshape) -> None:
        shape = shape_of(op.result)
        planes = self._placement(op.input)
        views = [reshaped(plane.layout, shape) for plane in planes]
        if all(view is not None for view in views):
            result = tuple(Plane(p.buffer, v) for p, v in zip(planes, views, strict=True) if v is not None)
        elif planes[0].layout.element is Element.BIT:
            rows = tuple(self._unpacked(plane, op) for plane in planes)
            views = [reshaped(row.layout, shape) for row in rows]
            flat = tuple(Plane(r.buffer, v) for r, v in zip(rows, views, strict=True) if v is not None)
            result = self._packed(flat, op)
        else:
            row = self._row_major(planes[0], op)
            view = reshaped(row.layout, shape)
            assert view is not None
            result = (Plane(row.buffer, view),)
        self.storage.placements[op.result] = result

    def _lower_concat(self, op: ops.Concat) -> None:
        result = self.storage.destination(op.result)
        self._fill_halos(result, op)
        for value, start in parts(op):
            for source, whole in zip(self._placement(value), result, strict=True):
                part = part_of(whole, op, value, start)
                if part is None:
                    raise unsupported(op, "packed channels can be joined only at multiples of 32")
                if (source.buffer, source.layout) != (part.buffer, part.layout):
                    self._copy(source, part, op, "copy into a concatenation")

    def _lower_pad(self, op: ops.Pad) -> None:
        low, high, value = ops.unpack(op.low), ops.unpack(op.high), op.value.value.data
        spatial = len(low) == 4 and not any((low[0], low[3], high[0], high[3]))
        if not spatial or value not in (-1.0, 0.0, 1.0) or isinstance(element_of(op.input), Ternary):
            raise unsupported(op, f"no kernel pads {low} {high} by {value}")
        whole = self.storage.destination(op.result)[0]
        inner = Layout.packed(whole.layout.element, canonical(shape_of(op.input)))
        offset = whole.layout.offset + low[1] * whole.layout.strides[1] + low[2] * whole.layout.strides[2]
        halo = replace(inner.halo, top=low[1], left=low[2], bottom=high[1], right=high[2])
        inside = replace(inner, strides=whole.layout.strides, offset=offset, halo=halo)
        plane = Plane(whole.buffer, inside, int(value))
        self._fill_halos((whole, plane), op)
        self._copy(self._placement(op.input)[0], plane, op, "pad")

    def _lower_softmax(self, op: ops.Softmax) -> None:
        source = without_halo(self._placement(op.input)[0].layout)
        target = self.storage.destination(op.result)[0]
        spec = KernelSpec(Softmax(source), (), (), (Output(target.layout, ex.Accumulator()),))
        self._step(op, spec, (self._placement(op.input)[0].buffer,), (target.buffer,))

    def _lower_fused(self, op: ops.Fused) -> None:
        _Region(self, op).lower()

    # Helpers that emit steps.

    def _placement(self, value: SSAValue) -> Placement:
        assert value in self.storage.placements, value
        return self.storage.placements[value]

    def _step(
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
    ) -> None:
        about = about or op
        self.operations.append(op)
        self.steps.append(
            Step(
                name=location_of(about).rpartition(":")[2] or about.name,
                kernel=spec,
                reads=tuple(reads),
                writes=tuple(writes),
                constants=tuple(constants),
                when_zero=when_zero,
                location=location_of(about),
                operation=operation or describe(about),
                domains=domains(about),
                macs=macs(about),
                note=note,
            )
        )

    def _fill_halos(self, placement: Placement, op: Operation) -> None:
        for plane in placement:
            if plane.layout.halo:
                value = 1 if plane.fill > 0 else (0 if plane.layout.element is Element.BIT else plane.fill)
                spec = KernelSpec(FillHalo(plane.layout, value), (), (), ())  # type: ignore[arg-type]
                self._step(op, spec, (), (plane.buffer,), operation="halo")

    def _copy(self, source: Plane, target: Plane, op: Operation, why: str) -> None:
        expression: ex.Expression = ex.Operand(0)
        output = Output(target.layout, expression)
        spec = KernelSpec(Map(), (without_halo(source.layout),), (), (output,))
        self._step(op, spec, (source.buffer,), (target.buffer,), operation=why)

    def _row_major(self, source: Plane, op: Operation) -> Plane:
        layout = Layout.packed(source.layout.element, source.layout.shape)
        target = self.storage.new_plane("row_major", layout)
        self._copy(source, target, op, "copy to row-major order")
        return target

    def _unpacked(self, source: Plane, op: Operation) -> Plane:
        """The bits of a plane as float32 0 and 1, row-major."""
        target = self.storage.new_plane("unpacked", Layout.packed(Element.F32, source.layout.shape))
        output = Output(target.layout, ex.FromBit(ex.Operand(0), 0.0, 1.0))
        spec = KernelSpec(Map(), (without_halo(source.layout),), (), (output,))
        self._step(op, spec, (source.buffer,), (target.buffer,), operation="unpack bits")
        return target

    def _packed(self, sources: Placement, op: Operation) -> Placement:
        """The reverse of _unpacked."""
        planes = []
        for source in sources:
            target = self.storage.new_plane("packed", Layout.packed(Element.BIT, source.layout.shape))
            output = Output(target.layout, ex.Compare("ne", ex.Operand(0), ex.Scalar(0.0)))
            spec = KernelSpec(Map(), (source.layout,), (), (output,))
            self._step(op, spec, (source.buffer,), (target.buffer,), operation="pack bits")
            planes.append(target)
        return tuple(planes)

    def _with_halo(self, value: SSAValue, read: Contraction, op: Operation) -> Placement:
        """The planes of a contraction's input, in a copy where its own have no sufficient halo."""
        planes = self._placement(value)
        agrees = len(planes) == 1 or not read.halo or planes[0].fill == read.pad_value
        if agrees and all(plane.layout.halo.union(read.halo) == plane.layout.halo for plane in planes):
            if planes[0].layout.element is not Element.BIT or planes[0].layout.strides[3] == 1:
                return planes
        demand = self.storage.demands.get(value, Demand())
        fill = read.pad_value if len(planes) > 1 else demand.fill
        halo = demand.halo.union(read.halo)
        key = (value, halo, fill)
        if key not in self.padded:
            name = value_name(value) + "_padded"
            copies = self.storage.new_placement(name, value, Demand(halo, {fill}))
            self._fill_halos(copies, op)
            for source, target in zip(planes, copies, strict=True):
                self._copy(source, target, op, "copy into a padded buffer")
            self.padded[key] = copies
        return self.padded[key]


class _Region:
    """One fused region on its way to a step."""

    def __init__(self, lowering: _Lowering, op: ops.Fused):
        self.lowering = lowering
        self.op = op
        self.root = root_of(op)
        first = self.root.result if self.root else op.results_inside[0]
        self.rank = len(shape_of(first))
        self.reads: list[int] = []
        self.operands: list[Layout] = []
        self.operand_index: dict[SSAValue, int] = {}
        self.reserved: list[np.ndarray] = []

    def lower(self) -> None:
        root, alternative_root, inputs, alternative_inputs = self._root()
        builder = ExpressionBuilder(
            self.rank,
            shape_of(self.op.results_inside[0])[-1],
            self.root,
            self._load,
            len(self.reserved),
            self._load_array,
        )
        targets = [self.lowering.storage.destination(value) for value in self.op.outputs]
        outputs, writes = [], []
        for value, planes in zip(self.op.results_inside, targets, strict=True):
            outputs.append(Output(planes[0].layout, builder.value(value)))
            if len(planes) > 1:
                outputs.append(Output(planes[1].layout, builder.mask(value)))
            writes += [plane.buffer for plane in planes]
            self.lowering._fill_halos(planes, self.op)
        weights = tuple(Constant(_weight_element(array), array.shape) for array in self.reserved)
        spec = KernelSpec(root, tuple(self.operands), weights + tuple(builder.constants), tuple(outputs))
        when_zero = None
        if alternative_root is not None:
            spec_when_zero = replace(spec, root=alternative_root)
            reads = (*alternative_inputs, *self.reads)
            when_zero = Alternative(spec_when_zero, reads, alternative_inputs[1])
        self.lowering._step(
            self.op,
            spec,
            (*inputs, *self.reads),
            writes,
            (*self.reserved, *builder.arrays),
            about=self._about(),
            operation=self._operation(),
            when_zero=when_zero,
            note=self._note(when_zero is not None),
        )

    def _root(self) -> tuple[Root, BinaryConv | None, tuple[int, ...], tuple[int, ...]]:
        """The root, the masked root of a ternary activation, and the buffers that each reads."""
        match self.root:
            case None:
                return Map(), None, (), ()
            case ops.Conv2d() | ops.Dense():
                return self._contraction(contraction(self.root))
            case ops.ChannelMean():
                plane = self._input(self.root.input)
                return ChannelMean(without_halo(plane.layout)), None, (plane.buffer,), ()
            case ops.MaxPool() | ops.MeanPool():
                plane = self._input(self.root.input)
                window = window_of(self.root, *ops.unpack(self.root.kernel))
                mean = isinstance(self.root, ops.MeanPool)
                outside = isinstance(self.root, ops.MeanPool) and bool(self.root.count_outside.value.data)
                pool = Pool("mean" if mean else "max", without_halo(plane.layout), window, outside)
                return pool, None, (plane.buffer,), ()

    def _contraction(
        self, read: Contraction
    ) -> tuple[Root, BinaryConv | None, tuple[int, ...], tuple[int, ...]]:
        value = outer_value(self.op, read.input)
        planes = self.lowering._with_halo(value, read, self.op)
        buffers = tuple(plane.buffer for plane in planes)
        self.reserved.append(read.weight)
        if not read.is_binary:
            return RealConv(planes[0].layout, read.window, read.groups), None, buffers, ()
        plain = BinaryConv(
            planes[0].layout,
            read.window,
            read.groups,
            read.pad_value,  # type: ignore[arg-type]
            int(planes[0].fill > 0),  # type: ignore[arg-type]
            read.weight_is_ternary,
        )
        if not read.input_is_ternary:
            return plain, None, buffers, ()
        masked = replace(plain, ternary_input=True, mask=planes[1].layout)
        return plain, masked, buffers[:1], buffers

    def _input(self, inner: SSAValue) -> Plane:
        sign, *mask = self.lowering._placement(outer_value(self.op, inner))
        if mask:
            raise unsupported(self.op, "a pool over values in {-1, 0, +1} has no kernel")
        return sign

    def _load(self, argument: BlockArgument) -> ex.Expression:
        if argument not in self.operand_index:
            value = outer_value(self.op, argument)
            self.operand_index[argument] = len(self.operands)
            for plane in self.lowering._placement(value):
                self._add_operand(plane, len(shape_of(value)))
        return ex.Operand(self.operand_index[argument])

    def _load_array(self, array: np.ndarray) -> ex.Expression:
        self._add_operand(self.lowering._constant_plane(array), array.ndim)
        return ex.Operand(len(self.operands) - 1)

    def _add_operand(self, plane: Plane, rank: int) -> None:
        self.operands.append(broadcast(plane.layout, rank, self.rank))
        self.reads.append(plane.buffer)

    def _note(self, may_be_zero: bool) -> str:
        if may_be_zero:
            return "sign(0) = 0 kept: the masked kernel runs when a zero occurs"
        if not isinstance(self.root, ops.Conv2d | ops.Dense):
            return ""
        read = contraction(self.root)
        return "" if read.is_binary else why_real(outer_value(self.op, read.input), read.weight)

    def _about(self) -> Operation:
        """The operation that names the step: the root, or the last one of a map."""
        if self.root is not None:
            return self.root
        owner = self.op.results_inside[-1].owner
        return owner if isinstance(owner, Operation) else self.op

    def _operation(self) -> str:
        names = [op.name.removeprefix("bnn.") for op in self.op.block.ops if _is_epilogue(op, self.root)]
        first = [describe(self.root)] if self.root is not None else []
        return " + ".join(first + names) or "copy"


def _is_epilogue(op: Operation, root: Operation | None) -> bool:
    return op is not root and not isinstance(op, ops.Constant | ops.Yield | ops.Cast)


def _weight_element(array: np.ndarray) -> Element:
    return Element.I8 if array.dtype == np.int8 else Element.F32


def _names(main: FuncOp, key: str) -> list[str]:
    attribute = main.attributes[key]
    assert isinstance(attribute, ArrayAttr)
    return [entry.data for entry in attribute.data if isinstance(entry, StringAttr)]


def _port_element(value: SSAValue, name: str) -> Element:
    supported = {"float32": Element.F32, "uint8": Element.U8, "int8": Element.I8, "int32": Element.I32}
    dtype = np.dtype(numpy_type(element_of(value))).name
    if dtype not in supported or len(shape_of(value)) > 4:
        message = f"an input or output of type {dtype} and shape {shape_of(value)} is not supported"
        raise BnnccError(name, message, "use float32, uint8, int8 or int32 with at most 4 dimensions")
    return supported[dtype]


def _port(value: SSAValue, name: str, c_name: str, buffer: int) -> Port:
    assert isinstance(value.type, TensorType)
    dtype = np.dtype(numpy_type(element_of(value))).name
    return Port(name, c_name, tuple(shape_of(value)), dtype, buffer)


def _requests(steps: Sequence[Step], buffers: Sequence[Buffer], owner: Sequence[int]) -> dict[int, Request]:
    """When each arena buffer (of those that share memory, their owner) is alive."""
    requests: dict[int, Request] = {}
    for index, step in enumerate(steps):
        reads = (*step.reads, *(step.when_zero.reads if step.when_zero else ()))
        for buffer in {*reads, *step.writes}:
            if buffers[buffer].place != "arena":
                continue
            key = owner[buffer]
            known = requests.get(key, Request(0, index, index))
            size = max(known.bytes, buffers[buffer].bytes)
            requests[key] = Request(size, known.first, index)
    return requests
