# SPDX-License-Identifier: Apache-2.0
"""From a module of fused regions to a Program: one step per region, one buffer per value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import StringIO

import numpy as np
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, BlockArgument, Operation, SSAValue, Use
from xdsl.printer import Printer

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
from bnncc.dialect.time import NEURON, Scan
from bnncc.dialect.types import Level, element_of, is_number, number_type, numpy_type, shape_of, spike
from bnncc.lowering.carried import Carrier, Schedule, state_layout, update_in_place
from bnncc.lowering.demands import halo_demands
from bnncc.lowering.expressions import unsupported
from bnncc.lowering.geometry import (
    MAX_RANK,
    canonical,
    canonical_pads,
    channel_slice,
    inner_view,
    moves_channels,
    reshaped,
    transposed,
    turns,
    without_halo,
)
from bnncc.lowering.in_place import reuse_operands
from bnncc.lowering.opaque import OpaqueNodes
from bnncc.lowering.region import Region
from bnncc.lowering.rings import chains
from bnncc.lowering.steps import Steps
from bnncc.lowering.storage import STORED, Placement, Plane, Storage, level_of, part_of, parts, plain_element
from bnncc.plan import expression as ex
from bnncc.plan.arena import planned, state_bytes
from bnncc.plan.kernel import (
    KernelSpec,
    Output,
    Pool,
    Softmax,
    Window,
)
from bnncc.plan.layout import Element, Halo, Layout, words
from bnncc.plan.names import STATEFUL, c_names
from bnncc.plan.program import Port, Program, Ring, State, TimeLoop


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


def lower(module: ModuleOp, name: str, takes_events: bool = False) -> Lowered:
    """Lower the `main` function of a module that went through the whole pipeline. takes_events: keep memory
    for the events of a step, which become its input of spikes.

    Raises BnnccError where a value or an operation has no stored form or kernel."""
    main = main_function(module)
    lowering = _Lowering(main)
    program = lowering.program(name, takes_events)
    return Lowered(program, module, lowering.operations, lowering.storage.placements)


class _Lowering:
    """One lowering: storage, steps, and the outputs that need a copy at the end."""

    def __init__(self, main: FuncOp):
        self.main = main
        self.block: Block = main.body.block
        self.blocks = (self.block, *(op.block for op in self.block.ops if isinstance(op, Scan)))
        self.storage = Storage(
            {value: demand for block in self.blocks for value, demand in halo_demands(block).items()}
        )
        has_neurons = any(NEURON in op.attributes for op in main.walk())
        self.steps = Steps(self.storage, has_neurons)
        self.opaque = OpaqueNodes(self.steps)
        self.carrier = Carrier(self.opaque, self._lower)
        self.operations: tuple[Operation, ...] = ()
        self.copied_outputs: list[tuple[SSAValue, Plane]] = []
        self.states: list[State] = []
        self.slots: dict[BlockArgument, Plane] = {}
        """States that are slots of rings."""
        self.rings: list[Ring] = []
        self.state_outputs: list[tuple[SSAValue, Plane]] = []
        """New states, and where the caller wants them."""

    def program(self, name: str, takes_events: bool) -> Program:
        count = len(self.block.args)
        reserved = STATEFUL if states_of(self.main) else ()
        spelled = c_names(names_of(self.main, INPUTS) + names_of(self.main, OUTPUTS), reserved)
        self._reserve_rings()
        inputs = self._inputs(spelled[:count])
        outputs = self._outputs(spelled[count:])
        concats = [op for block in self.blocks for op in block.ops if isinstance(op, ops.Concat)]
        for concat in reversed(concats):
            self.storage.reserve_slices(concat)
        events = None
        if takes_events:
            (port,) = inputs
            events = self.storage.new_buffer("events", self.storage.buffers[port.buffer].bytes, "state")
        for op in self.block.ops:
            self._lower(op)
        written = tuple(self.steps.steps), tuple(self.steps.operations)
        schedule = Schedule(*written, tuple(self.storage.buffers), tuple(self.carrier.loops))
        schedule = update_in_place(schedule, self.carrier.keeps)
        self.operations = schedule.operations
        buffers, loops = schedule.buffers, schedule.loops
        steps = reuse_operands(schedule.steps, buffers, loops)
        arena, offsets = planned(steps, buffers, loops)
        memory = (offsets, arena.bytes, arena.lower_bound)
        states = tuple(self.states)
        inputs = tuple(replace(port, most=most_steps(port, loops)) for port in inputs)
        kept = (states, state_bytes(buffers), loops, events, tuple(self.rings))
        return Program(name, inputs, outputs, buffers, steps, *memory, *kept)

    # The user's side.

    def _reserve_rings(self) -> None:
        """Memory for the states that hand on their values: slots, oldest first, and a position."""
        for chain in chains(self.main):
            layout = state_layout(chain[0], chain[0])
            for state in reversed(chain):
                buffer = self.storage.new_buffer(state.name_hint or "slot", layout.bytes, "state")
                self.slots[state] = Plane(buffer, layout)
            position = self.storage.new_buffer("position", 4, "state")
            slots = tuple(self.slots[state].buffer for state in reversed(chain))
            self.rings.append(Ring(slots, position))

    def _inputs(self, spelled: Sequence[str]) -> tuple[Port, ...]:
        names, carried = names_of(self.main, INPUTS), states_of(self.main)
        last = self.block.last_op
        assert isinstance(last, ReturnOp)
        results = dict(zip(names_of(self.main, OUTPUTS), last.arguments, strict=True))
        ports: list[Port] = []
        for argument, name, c_name in zip(self.block.args, names, spelled, strict=True):
            if name in carried:
                if argument in self.slots:
                    plane = self.carrier.placed_state(argument, self.slots[argument])
                else:
                    plane = self.carrier.state(argument, results[carried[name]], name, "state")
                port = port_of(argument, name, c_name, plane.buffer)
                self.states.append(State(port, carried[name], plane.layout))
                continue
            packed = element_of(argument) == spike
            element = Element.BIT if packed else _port_element(argument)
            layout = Layout.packed(element, canonical(shape_of(argument)))
            buffer = self.storage.new_buffer(name, layout.bytes, "input", len(ports))
            if packed:
                self.storage.placements[argument] = (Plane(buffer, layout),)
                ports.append(spikes_port(argument, name, c_name, buffer))
                continue
            self.opaque.add_plain(argument, Plane(buffer, layout))
            ports.append(port_of(argument, name, c_name, buffer))
        return tuple(ports)

    def _outputs(self, spelled: Sequence[str]) -> tuple[Port, ...]:
        last = self.block.last_op
        assert isinstance(last, ReturnOp)
        names, carried = names_of(self.main, OUTPUTS), states_of(self.main).values()
        ports, wanted, growing = [], set(public_outputs(self.main)), growing_of(self.main)
        for value, name, c_name in zip(last.arguments, names, spelled, strict=True):
            if name not in wanted:
                continue
            layout = Layout.packed(_port_element(value), canonical(shape_of(value)))
            buffer = self.storage.new_buffer(name, layout.bytes, "output", len(ports))
            plane = Plane(buffer, layout)
            port = replace(port_of(value, name, c_name, buffer), count=growing.get(name, ""))
            if name in carried:
                self.state_outputs.append((value, plane))
                port = replace(port, optional=True)
            elif not self.storage.reserve_output(value, plane):
                self.copied_outputs.append((value, plane))
            ports.append(port)
        return tuple(ports)

    # One operation at a time.

    def _lower(self, op: Operation) -> None:
        if not isinstance(op, ops.Onnx | ReturnOp):
            self.opaque.pack_operands(op)
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
            case ops.CountPool():
                self._lower_count_pool(op)
            case Scan():
                self.carrier.scan(op)
            case ops.Yield():
                pass
            case ReturnOp():
                self._finish(op)
            case ops.Onnx():
                self.opaque.lower(op)
            case _:
                raise unsupported(op, f"{op.name} has no kernel")

    def _finish(self, op: ReturnOp) -> None:
        """Outputs that no kernel wrote; then the new states, first where they are kept: what is new in a ring
        where the oldest lies."""
        for value, plane in self.copied_outputs:
            source = self.opaque.plain.get(value) or self.steps.placement(value)[0]
            self.steps.copy(source, plane, op, "copy to the output")
        planes = {state.output: Plane(state.port.buffer, state.layout) for state in self.states}
        results = dict(zip(names_of(self.main, OUTPUTS), op.arguments, strict=True))
        ends = {ring.slots[-1]: ring.slots[0] for ring in self.rings}
        handed_on = {slot for ring in self.rings for slot in ring.slots[:-1]}
        moved = {
            name: replace(plane, buffer=ends.get(plane.buffer, plane.buffer))
            for name, plane in planes.items()
            if plane.buffer not in handed_on
        }
        self.carrier.keep([results[name] for name in moved], list(moved.values()), op, 0)
        kept = {results[name]: plane for name, plane in planes.items()}
        for value, plane in self.state_outputs:
            self.steps.copy(kept[value], plane, op, "copy the state out")

    def _lower_constant(self, op: ops.Constant) -> None:
        """Constants that no region took in, stored as they are. Opaque nodes hold their own."""
        if not is_number(element_of(op.result)):
            raise unsupported(op, "a constant of this domain cannot be stored")
        if not all(_holds_constants(use, op) for use in op.result.uses):
            self.opaque.add_plain(op.result, self.steps.constant_plane(op.array))

    def _lower_transpose(self, op: ops.Transpose) -> None:
        permutation, rank = ops.unpack(op.permutation), len(shape_of(op.input))
        source = self.steps.placement(op.input)
        if rank > MAX_RANK:
            self._lower_long_transpose(op)
            return
        packed = source[0].layout.element is Element.BIT and moves_channels(rank, permutation)
        planes = tuple(self.steps.unpacked(plane, op) for plane in source) if packed else source
        views = tuple(Plane(plane.buffer, transposed(plane.layout, rank, permutation)) for plane in planes)
        self.storage.placements[op.result] = self.steps.packed(views, op) if packed else views

    def _lower_long_transpose(self, op: ops.Transpose) -> None:
        """Tensors of more dimensions than a layout has lie in one row: copies bring it into the new order."""
        source = self.steps.placement(op.input)
        is_packed = source[0].layout.element is Element.BIT
        rows = [self.steps.unpacked(plane, op) if is_packed else plane for plane in source]
        for shape, permutation in turns(shape_of(op.input), ops.unpack(op.permutation)):
            for number, row in enumerate(rows):
                view = transposed(_in_shape(row, shape).layout, len(shape), permutation)
                rows[number] = self.steps.row_major(Plane(row.buffer, view), op)
        flat = tuple(_in_shape(row, shape_of(op.result)) for row in rows)
        self.storage.placements[op.result] = self.steps.packed(flat, op) if is_packed else flat

    def _lower_reshape(self, op: ops.Reshape) -> None:
        shape = shape_of(op.result)
        planes = self.steps.placement(op.input)
        views = [reshaped(plane.layout, shape) for plane in planes]
        if all(view is not None for view in views):
            result = tuple(Plane(p.buffer, v) for p, v in zip(planes, views, strict=True) if v is not None)
        elif planes[0].layout.element is Element.BIT:
            flat = tuple(_in_shape(self.steps.unpacked(plane, op), shape) for plane in planes)
            result = self.steps.packed(flat, op)
        else:
            result = (_in_shape(self.steps.row_major(planes[0], op), shape),)
        self.storage.placements[op.result] = result

    def _lower_concat(self, op: ops.Concat) -> None:
        result = self.storage.destination(op.result)
        self.steps.fill_halos(result, op)
        for number, whole in enumerate(result):
            cut = [part_of(whole, op, value, start) for value, start in parts(op)]
            if any(part is None for part in cut):
                self._join_unpacked(op, number, whole)
                continue
            for (value, _), part in zip(parts(op), cut, strict=True):
                source = self.steps.placement(value)[number]
                if part is not None and (source.buffer, source.layout) != (part.buffer, part.layout):
                    self.steps.copy(source, part, op, "copy into a concatenation")

    def _join_unpacked(self, op: ops.Concat, number: int, whole: Plane) -> None:
        """Packed channels can be cut only at multiples of 32: these go through numbers."""
        unpacked = self.storage.new_plane("unpacked", Layout.packed(Element.F32, whole.layout.shape))
        for value, start in parts(op):
            part = part_of(unpacked, op, value, start)
            assert part is not None, "numbers can be cut anywhere"
            self.steps.unpack(self.steps.placement(value)[number], part, op)
        self.steps.pack(unpacked, whole, op)

    def _lower_pad(self, op: ops.Pad) -> None:
        """Spatial padding by -1, 0 or +1 is a halo of the copy; any other padding fills first."""
        low, value = ops.unpack(op.low), op.value.value.data
        if op.is_crop and len(low) <= MAX_RANK:
            self.storage.placements[op.result] = self._crop(op, self.steps.placement(op.input))
            return
        if min((*low, *ops.unpack(op.high))) < 0:
            raise unsupported(op, f"no kernel pads {low} {ops.unpack(op.high)} here")
        wholes = self.storage.destination(op.result)
        element = element_of(op.input)
        # The mask plane of a ternary value is set where the value is not 0.
        fills: Sequence[float] = (value, abs(value))[: len(wholes)]
        if isinstance(element, Level):
            level = level_of(element, int(value))
            fills = [level] if element.is_byte else [level >> b & 1 for b in range(element.planes)]
        for source, whole, fill in zip(self.steps.placement(op.input), wholes, fills, strict=True):
            self._pad_plane(op, source, whole, fill)

    def _crop(self, op: ops.Pad, planes: Placement) -> Placement:
        """Views of what is left; where that begins or ends in the middle of a word of bits, a copy."""
        views = [self._cut(op, plane) for plane in planes]
        known = tuple(view for view in views if view is not None)
        if len(known) == len(views):
            return known
        return self.steps.packed(
            self._crop(op, tuple(self.steps.unpacked(plane, op) for plane in planes)), op
        )

    def _cut(self, op: ops.Pad, plane: Plane) -> Plane | None:
        """What negative pads leave of a plane, where it lies; None where packed channels would be cut."""
        layout: Layout | None = plane.layout
        shape = canonical(shape_of(op.result))
        for axis, low in enumerate(canonical_pads(ops.unpack(op.low))):
            if layout is not None and (low or shape[axis] != layout.shape[axis]):
                layout = channel_slice(layout, axis, -low, shape[axis])
        return None if layout is None else replace(plane, layout=layout)

    def _pad_plane(self, op: ops.Pad, source: Plane, whole: Plane, value: float) -> None:
        low = ops.unpack(op.low)
        inside = inner_view(whole.layout, canonical(shape_of(op.input)), canonical_pads(low))
        within = Plane(whole.buffer, replace(inside, halo=Halo()))
        if len(low) == 4 and shape_of(op.input)[0::3] == shape_of(op.result)[0::3] and abs(value) in (0, 1):
            self.steps.fill_halos((whole, Plane(whole.buffer, inside, int(value))), op)
            self.steps.copy(source, within, op, "pad")
            return
        self.steps.fill_halos((whole,), op)
        if whole.layout.element is not Element.BIT:
            self.steps.fill(whole, value, op)
            self.steps.copy(source, within, op, "pad")
            return
        # Packed channels cannot be shifted: they go through numbers.
        numbers = self.storage.new_plane("unpacked", Layout.packed(Element.F32, whole.layout.shape))
        inside = inner_view(numbers.layout, canonical(shape_of(op.input)), canonical_pads(low))
        self.steps.fill(numbers, float(value > 0), op)
        self.steps.unpack(source, Plane(numbers.buffer, replace(inside, halo=Halo())), op)
        self.steps.pack(numbers, whole, op)

    def _lower_softmax(self, op: ops.Softmax) -> None:
        source = without_halo(self.steps.placement(op.input)[0].layout)
        target = self.storage.destination(op.result)[0]
        spec = KernelSpec(Softmax(source), (), (), (Output(target.layout, ex.Accumulator()),))
        self.steps.step(op, spec, (self.steps.placement(op.input)[0].buffer,), (target.buffer,))

    def _lower_count_pool(self, op: ops.CountPool) -> None:
        source = self.steps.placement(op.input)[0]
        targets = self.storage.destination(op.result)
        self.steps.fill_halos(targets, op)
        window = Window(*(v for p in (op.kernel, op.strides, op.dilations) for v in ops.unpack(p)))
        outputs = tuple(
            Output(plane.layout, ex.BitOf(ex.Accumulator(), b)) for b, plane in enumerate(targets)
        )
        spec = KernelSpec(Pool("count", without_halo(source.layout), window), (), (), outputs)
        self.steps.step(op, spec, (source.buffer,), [plane.buffer for plane in targets])

    def _lower_fused(self, op: ops.Fused) -> None:
        Region(self.steps, op).lower()


FILLED = (np.float32, np.int32, np.int16)
"""Types of states that start from zero without a constant in memory."""


def _in_shape(row: Plane, shape: Sequence[int]) -> Plane:
    """A plane whose elements follow each other without gaps, seen in another shape."""
    view = reshaped(row.layout, shape)
    assert view is not None, "there are gaps"
    return Plane(row.buffer, view)


def _holds_constants(use: Use, constant: ops.Constant) -> bool:
    """Whether a reader of a constant needs no copy of it in memory: opaque nodes, and states from zero."""
    if isinstance(use.operation, Scan):
        start = len(use.operation.sequences)
        initial = start <= use.index < start + len(use.operation.initial)
        return initial and constant.array.dtype in FILLED and not constant.array.any()
    return isinstance(use.operation, ops.Onnx)


def most_steps(port: Port, loops: Sequence[TimeLoop]) -> int | None:
    """The most that an input may say, if it says how often loops run."""
    trips = [loop.trips for loop in loops if loop.count == port.buffer]
    return min((trip for trip in trips if trip), default=0) if trips else None


def _port_element(value: SSAValue) -> Element:
    element = element_of(value)
    return plain_element(value) if is_number(element) else STORED[number_type(np.dtype(numpy_type(element)))]


def spikes_port(value: SSAValue, name: str, c_name: str, buffer: int) -> Port:
    """Packed words; in ONNX the channels of an image come second."""
    n, *image, channels = shape_of(value)
    return Port(name, c_name, (n, *image, words(channels)), "uint32", buffer, spikes=(n, channels, *image))


def port_of(value: SSAValue, name: str, c_name: str, buffer: int) -> Port:
    """An input or output of the network."""
    assert isinstance(value.type, TensorType)
    dtype = np.dtype(numpy_type(element_of(value))).name
    return Port(name, c_name, tuple(shape_of(value)), dtype, buffer)
