# SPDX-License-Identifier: Apache-2.0
"""From a module to a Program whose kernels are functions of upstream MLIR (`--backend mlir`).

Each operation of @main, and of the body of a loop over time, is a step; its kernel is what `--emit linalg`
writes for it. Values lie as upstream tensors do: row-major, bits packed along the last dimension, booleans
as bytes, no halo. So a program has the same face and the same kinds of memory as `lower` gives it, but
other steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.network import (
    INPUTS,
    OUTPUTS,
    growing_of,
    main_function,
    names_of,
    public_outputs,
    states_of,
)
from bnncc.dialect.sources import location_text, node_name
from bnncc.dialect.time import NEURON, Neuron, Scan
from bnncc.dialect.types import element_of, is_number, shape_of, spike
from bnncc.linalg.bits import plane_count
from bnncc.linalg.functions import Function, copy_function, operation_function, zeros_function
from bnncc.lowering.expressions import unsupported
from bnncc.lowering.geometry import canonical, reshaped
from bnncc.lowering.lower import Lowered, most_steps, port_of, spikes_port
from bnncc.lowering.roots import describe, domains, macs
from bnncc.lowering.spikes import fired
from bnncc.lowering.storage import Placement, Plane, Storage, plain_element, value_name
from bnncc.plan import expression as ex
from bnncc.plan.arena import planned, state_bytes
from bnncc.plan.kernel import Constant, KernelSpec, Output, Upstream
from bnncc.plan.layout import Element, Layout
from bnncc.plan.names import STATEFUL, c_names
from bnncc.plan.program import Port, Program, Spikes, State, Step, TimeLoop

ROOTS = (*ops.CONTRACTIONS, ops.MaxPool, ops.MeanPool, ops.CountPool, ops.ChannelMean, ops.Softmax, Neuron)
"""What a region is named after, the first of them in it."""


def lower_upstream(module: ModuleOp, name: str, takes_events: bool = False, form: str = "direct") -> Lowered:
    """Lower @main; takes_events as for `lower`, `form` says how convolutions are written
    (`linalg.convolution.FORMS`).

    Raises BnnccError for an operation that upstream MLIR has nothing for."""
    lowering = _Lowering(main_function(module), form)
    return Lowered(
        lowering.program(name, takes_events), module, tuple(lowering.operations), lowering.placements
    )


class _Lowering:
    """One lowering: where every value lies, and the steps so far."""

    def __init__(self, main: FuncOp, form: str):
        self.main, self.form = main, form
        self.has_neurons = any(NEURON in op.attributes for op in main.walk())
        self.storage = Storage({})
        self.placements: dict[SSAValue, Placement] = self.storage.placements
        self.steps: list[Step] = []
        self.operations: list[Operation] = []
        self.states: list[State] = []
        self.loops: list[TimeLoop] = []
        self.reserved: dict[SSAValue, Placement] = {}
        """Where a value that is yet to be made is wanted."""

    def program(self, name: str, takes_events: bool) -> Program:
        reserved = STATEFUL if states_of(self.main) else ()
        spelled = c_names(names_of(self.main, INPUTS) + names_of(self.main, OUTPUTS), reserved)
        count = len(self.main.body.block.args)
        inputs = self._inputs(spelled[:count])
        outputs, wanted = self._outputs(spelled[count:])
        events = None
        if takes_events:
            (port,) = inputs
            events = self.storage.new_buffer("events", self.storage.buffers[port.buffer].bytes, "state")
        for op in self.main.body.block.ops:
            if isinstance(op, ReturnOp):
                self._finish(op, wanted)
            else:
                self._lower(op)
        buffers, loops = tuple(self.storage.buffers), tuple(self.loops)
        arena, offsets = planned(self.steps, buffers, loops)
        memory = (offsets, arena.bytes, arena.lower_bound)
        inputs = tuple(replace(port, most=most_steps(port, loops)) for port in inputs)
        kept = (tuple(self.states), state_bytes(buffers), loops, events)
        return Program(name, inputs, outputs, buffers, tuple(self.steps), *memory, *kept)

    # The user's side.

    def _inputs(self, spelled: Sequence[str]) -> tuple[Port, ...]:
        ports: list[Port] = []
        carried = states_of(self.main)
        names = names_of(self.main, INPUTS)
        for argument, name, c_name in zip(self.main.body.block.args, names, spelled, strict=True):
            layout = _layout(argument)
            place, index = ("state", 0) if name in carried else ("input", len(ports))
            buffer = self.storage.new_buffer(name, layout.bytes, place, index)
            self.placements[argument] = (Plane(buffer, layout),)
            port_kind = spikes_port if element_of(argument) == spike else port_of
            port = port_kind(argument, name, c_name, buffer)
            if name in carried:
                self.states.append(State(port, carried[name], layout))
            else:
                ports.append(port)
        return tuple(ports)

    def _outputs(self, spelled: Sequence[str]) -> tuple[tuple[Port, ...], list[tuple[SSAValue, Plane]]]:
        """The ports, and the values that must be copied there, as no step can write them there."""
        last = self.main.body.block.last_op
        assert isinstance(last, ReturnOp)
        names, carried = names_of(self.main, OUTPUTS), states_of(self.main).values()
        public, ports, copied = set(public_outputs(self.main)), [], []
        growing = growing_of(self.main)
        for value, name, c_name in zip(last.arguments, names, spelled, strict=True):
            if name not in public:
                continue
            layout = _number_layout(value)
            buffer = self.storage.new_buffer(name, layout.bytes, "output", len(ports))
            port, plane = port_of(value, name, c_name, buffer), Plane(buffer, layout)
            if name not in carried and self._can_write(value):
                self.reserved[value] = (plane,)
            else:
                copied.append((value, plane))
            ports.append(replace(port, optional=name in carried, count=growing.get(name, "")))
        return tuple(ports), copied

    def _can_write(self, value: SSAValue) -> bool:
        """Whether the step that makes a value may write it where it is wanted."""
        made = isinstance(value.owner, Operation) and not isinstance(value.owner, ops.Constant | Scan)
        is_view = isinstance(value.owner, ops.Reshape)
        return made and not is_view and is_number(element_of(value)) and value not in self.reserved

    # One operation at a time.

    def _lower(self, op: Operation) -> None:
        match op:
            case ops.Constant() | ops.Yield():
                pass
            case ops.Reshape() if self._view(op):
                pass
            case Scan() if not any(isinstance(inner, Scan) for inner in op.block.ops):
                self._scan(op)
            case _:
                targets = [plane for value in op.results for plane in self._destination(value)]
                self._step(op, operation_function(op, self.form), targets)

    def _view(self, op: ops.Reshape) -> bool:
        """See the same memory in another shape, if the values lie so."""
        if isinstance(op.input.owner, ops.Constant):
            return False
        planes = self.placements[op.input]
        if len(shape_of(op.result)) > 4 or len(shape_of(op.input)) > 4:
            views = [_layout(op.result)] * len(planes) if is_number(element_of(op.input)) else [None]
        else:
            views = [reshaped(plane.layout, shape_of(op.result)) for plane in planes]
        kept = tuple(Plane(p.buffer, v) for p, v in zip(planes, views, strict=False) if v is not None)
        if len(kept) < len(planes):
            return False
        self.placements[op.result] = kept
        return True

    def _destination(self, value: SSAValue) -> Placement:
        """Where the step that makes a value writes it."""
        if value not in self.placements:
            self.placements[value] = self.reserved.get(value) or self._fresh(
                value_name(value), value, "arena"
            )
        return self.placements[value]

    def _fresh(self, name: str, like: SSAValue, place: str) -> Placement:
        layout, count = _layout(like), plane_count(element_of(like))
        names = [name, *(f"{name}_plane{p}" for p in range(1, count))]
        buffers = [self.storage.new_buffer(n, layout.bytes, place) for n in names]  # type: ignore[arg-type]
        return tuple(Plane(buffer, layout) for buffer in buffers)

    def _step(self, op: Operation, function: Function, targets: Sequence[Plane], what: str = "") -> None:
        """Append a step of `op`; what: what the report says it is, where it is no operation."""
        about = _about(op)
        sources = [plane for value in function.values for plane in self.placements[value]]
        root = Upstream(
            what or about.name.removeprefix("bnn."),
            function.text,
            tuple(source.layout for source in sources),
            function.parts,
        )
        constants = tuple(Constant(_element(array), array.shape) for array in function.constants)
        outputs = tuple(Output(plane.layout, ex.Accumulator()) for plane in targets)
        self.operations.append(op)
        self.steps.append(
            Step(
                name=what if isinstance(op, ReturnOp) else node_name(about),
                kernel=KernelSpec(root, (), constants, outputs),
                reads=tuple(plane.buffer for plane in sources),
                writes=tuple(plane.buffer for plane in targets),
                constants=function.constants,
                location=location_text(about),
                operation=what or describe(about),
                domains="" if what else domains(about),
                macs=0 if what else macs(about),
                spikes=tuple(self._spikes(op)),
            )
        )

    def _spikes(self, op: Operation) -> list[Spikes]:
        """Those among the outputs of the kernel: a value of several planes takes several of them."""
        if not self.has_neurons or not isinstance(op, ops.Fused):
            return []
        first = np.cumsum([0] + [len(self.placements[value]) for value in op.outputs])
        return [replace(spikes, output=int(first[spikes.output])) for spikes in fired(op.results_inside)]

    def _copy(self, value: SSAValue, targets: Placement, op: Operation, why: str) -> None:
        """A value to other memory, as numbers where that is a port of the network."""
        to_port = self.storage.buffers[targets[0].buffer].place == "output"
        self._step(op, copy_function(value, as_numbers=to_port), targets, why)

    def _finish(self, op: ReturnOp, wanted: Sequence[tuple[SSAValue, Plane]]) -> None:
        """Outputs that no step wrote; then the new states."""
        results = dict(zip(names_of(self.main, OUTPUTS), op.arguments, strict=True))
        for value, plane in wanted:
            self._copy(value, (plane,), op, "copy to the output")
        arguments = dict(zip(names_of(self.main, INPUTS), self.main.body.block.args, strict=True))
        kept = [(results[s.output], self.placements[arguments[s.port.name]]) for s in self.states]
        self._keep(kept, op)

    # Time.

    def _keep(self, pairs: Sequence[tuple[SSAValue, Placement]], op: Operation) -> None:
        """Copy new states over the old ones; what lies in another state is saved first."""
        states = {plane.buffer for _, placement in pairs for plane in placement}
        moves = [(value, target) for value, target in pairs if self._planes(value) != target]
        for value, _ in moves:
            if any(plane.buffer in states for plane in self._planes(value)):
                saved = self._fresh("saved", value, "arena")
                self._copy(value, saved, op, "save the state")
                self.placements[value] = saved
        for value, target in moves:
            self._copy(value, target, op, "keep the state")

    def _planes(self, value: SSAValue) -> Placement:
        """Where a value lies; nowhere, if it is a constant."""
        return self.placements.get(value, ())

    def _scan(self, op: Scan) -> None:
        """The body's operations as steps of a loop; slices are parts of their sequences."""
        arguments, count = list(op.block.args), len(op.sequences)
        slices, carried = arguments[:count], arguments[count : count + len(op.initial)]
        for argument, value in zip(arguments[count + len(op.initial) :], op.invariants, strict=True):
            self.placements[argument] = self._stored(value)
        for argument, sequence in zip(slices, op.sequences, strict=True):
            self.placements[argument] = self._parts(argument, self._stored(sequence))
        for argument, value in zip(carried, op.initial, strict=True):
            self.placements[argument] = self._fresh("state", argument, "arena")
            self._copy(value, self.placements[argument], op, "start of the state")
        last = op.block.last_op
        assert isinstance(last, ops.Yield)
        new, collected = last.values[: len(carried)], last.values[len(carried) :]
        copied = []
        for value, result in zip(collected, op.stacked, strict=True):
            sequence = self._destination(result)
            if op.count is not None:
                self._step(op, zeros_function(result), sequence, "fill")
            target = self._parts(value, sequence)
            if self._can_write(value) and value not in new:
                self.reserved[value] = target
            else:
                copied.append((value, target))
        first = len(self.steps)
        for inner in op.block.ops:
            self._lower(inner)
        for value, target in copied:
            self._copy(value, target, op, "collect")
        self._keep(list(zip(new, (self.placements[a] for a in carried), strict=True)), op)
        if len(self.steps) > first:
            self.loops.append(TimeLoop(first, len(self.steps) - 1, op.steps, self._count(op)))
        for result, argument in zip(op.final, carried, strict=True):
            self.placements[result] = self.placements[argument]

    def _count(self, op: Scan) -> int | None:
        if op.count is None:
            return None
        plane = self.placements[op.count][0] if op.count in self.placements else None
        if plane is None or self.storage.buffers[plane.buffer].place != "input":
            raise unsupported(op, "the number of steps must be an input of the network")
        return plane.buffer

    def _stored(self, value: SSAValue) -> Placement:
        """Where a value lies; a constant of numbers is stored now."""
        if value not in self.placements:
            constant = value.owner
            assert isinstance(constant, ops.Constant)
            if not is_number(element_of(value)):
                raise unsupported(constant, "a constant of this domain cannot be stored")
            self.placements[value] = (self.storage.new_constant("constant", constant.array, _layout(value)),)
        return self.placements[value]

    def _parts(self, like: SSAValue, sequence: Placement) -> Placement:
        """The part of each plane of a sequence that belongs to a step."""
        layout, planes = _layout(like), []
        for plane in sequence:
            buffer = self.storage.new_buffer(value_name(like), layout.bytes, "part")
            made = self.storage.buffers[buffer]
            self.storage.buffers[buffer] = replace(made, base=plane.buffer, stride=layout.bytes)
            planes.append(Plane(buffer, layout))
        return tuple(planes)


def _layout(value: SSAValue) -> Layout:
    """Of one plane of a value."""
    element, shape = element_of(value), shape_of(value)
    if is_number(element):
        return Layout.packed(plain_element(value), canonical(shape))
    if len(shape) > 4:
        shape = (int(np.prod(shape[:-1])), shape[-1])
    return Layout.packed(Element.BIT, canonical(shape))


def _number_layout(value: SSAValue) -> Layout:
    """Of a port: domains pass as bytes."""
    if is_number(element_of(value)):
        return _layout(value)
    return Layout.packed(Element.I8, canonical(shape_of(value)))


def _element(array: np.ndarray) -> Element:
    """What constants are stored as."""
    return next(e for e in Element if e is not Element.BIT and e.dtype == array.dtype.name)


def _about(op: Operation) -> Operation:
    """What a step is named after: the root of a region, or its last operation."""
    if not isinstance(op, ops.Fused):
        return op
    inner = [o for o in op.block.ops if not isinstance(o, ops.Yield | ops.Constant)]
    roots = [o for o in inner if isinstance(o, ROOTS)]
    return (roots or inner[-1:] or [op])[0]
