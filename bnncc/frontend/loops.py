# SPDX-License-Identifier: Apache-2.0
"""Loop and Scan as one `bnn.scan`: code and time to compile do not grow with the number of steps.

A body is imported once. What it reads of the graph around it becomes an invariant; what a Scan cuts into
slices, and what a Loop reads by its iteration number, a sequence; an ONNX sequence that a Loop appends one
tensor to in every step, a stacked result. How often a Loop runs may be an input of the network. Where a body
cannot be such a loop, NotRolled says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from xdsl.dialects.builtin import i64
from xdsl.ir import BlockArgument, Region, SSAValue

from bnncc.dialect.operations import Constant, Onnx, Yield
from bnncc.dialect.time import Scan
from bnncc.dialect.types import element_of, numpy_type, shape_of, tensor
from bnncc.frontend import checks
from bnncc.frontend.checks import Node
from bnncc.frontend.kinds import LARGEST_TENSOR, Kind, dialect_type
from bnncc.frontend.sequences import CARRIED
from bnncc.frontend.shapes import attribute
from bnncc.frontend.tensors import read_tensor
from bnncc.frontend.writing import Body, Function, Listed, Part, Writer

FEWEST_STEPS = 3
"""Steps that are worth a loop."""

MOST_STEPS = (1 << 31) - 1
"""Processors of 32 bits count them."""

STEPPED_SLICE = 10
"""The first operator set whose Slice has its bounds as inputs, and steps."""


class NotRolled(Exception):
    """Why a node cannot be one loop; it may be written out."""


@dataclass(frozen=True)
class Cut:
    """A value of the graph around a loop that a step takes one slice of: along `axis`, from the end on where
    `backwards`."""

    name: str
    axis: int
    backwards: bool = False


@dataclass
class Trip:
    """What a step hands on. states: new states, by the names in the body; columns: what is collected."""

    states: list[str]
    columns: list[str]


class RolledLoop(Writer):
    """A Loop or a Scan while it becomes one operation."""

    def __init__(self, graph: Function, node: Node):
        super().__init__(graph, node)
        self.graph: Function = graph
        self.cuts: dict[Cut, BlockArgument] = {}
        self.initial: list[str] = []
        """What the states start as."""
        self.count = ""
        """The input of the network that says how often it runs, if one does."""
        self.steps = 0
        """How often it runs; with a `count` at most so often, 0 for any number."""

    @property
    def body_graph(self) -> onnx.GraphProto:
        """The subgraph."""
        return self.attributes["body"]

    def run(self) -> None:
        """Append the operation. Raises NotRolled where it cannot be one, BnnccError where it is wrong."""
        is_loop = self.node.proto.op_type == "Loop"
        if is_loop:
            self.find_count()
        body = self.graph.body(self.prefix)
        if body is None:
            raise NotRolled("it stands inside another loop")
        self.inner: Body = body
        self.loop() if is_loop else self.scan()

    # Scan.

    def scan(self) -> None:
        """Scan: body(states..., one slice of each input) gives states..., one slice of each output."""
        inputs, number = list(self.node.proto.input), int(self.attributes.get("num_scan_inputs", 0))
        states, scanned = inputs[: len(inputs) - number], inputs[len(inputs) - number :]
        outputs = len(self.body_graph.output) - len(states)
        self.expect(1 <= number <= len(inputs) == len(self.body_graph.input) and outputs >= 0)
        axes = [*self.given("scan_input_axes"), *[0] * number]
        backwards = [*self.given("scan_input_directions"), *[0] * number]
        lengths = {self.size(name, axis) for name, axis in zip(scanned, axes, strict=False)}
        if len(lengths) != 1:
            raise self.refused(f"its inputs have {sorted(lengths)} steps, but must have equally many")
        (self.steps,) = lengths
        self.check_steps()
        ports = [value.name for value in self.body_graph.input]
        for port, name, axis, back in zip(ports[len(states) :], scanned, axes, backwards, strict=False):
            self.inner.define(port, *self.cut(name, axis, bool(back)))
        for port, name in zip(ports, states, strict=False):
            self.carry(port, name)
        self.import_body()
        results = [output.name for output in self.body_graph.output]
        finals, stacked = self.build(Trip(results[: len(states)], results[len(states) :]))
        self.deliver(finals)
        axes = [*self.given("scan_output_axes"), *[0] * outputs]
        backwards = [*self.given("scan_output_directions"), *[0] * outputs]
        results = self.node.proto.output[len(states) :]
        for name, value, axis, back in zip(results, stacked, axes, backwards, strict=False):
            if name:
                self.place(name, value, axis, bool(back))

    def place(self, name: str, value: SSAValue, axis: int, backwards: bool) -> None:
        """A stacked result, turned as the node wants it."""
        rank = len(dialect_kind(value).shape)
        self.expect(-rank <= axis < rank)
        stacked = self.new_name("stacked")
        self.graph.define(stacked, value, dialect_kind(value))
        if backwards:
            stacked = self.reversed(stacked)
        self.emit("Identity", [self.moved(stacked, 0, axis % rank)], name)

    # Loop.

    def find_count(self) -> None:
        """Whether an input of the network says how often a Loop runs."""
        name = next(iter(self.node.proto.input), "")
        if name and self.graph.known(name) is None:
            self.count = name

    def loop(self) -> None:
        """Loop: body(iteration, condition, carried...) gives condition, carried..., a slice of each scan."""
        given = [*self.node.proto.input, "", ""]
        count, condition, *carried = given[: max(2, len(given) - 2)]
        scans = len(self.body_graph.output) - 1 - len(carried)
        fits = len(self.body_graph.input) == 2 + len(carried)
        self.expect(fits and scans >= 0 and len(self.node.proto.output) <= len(carried) + scans)
        self.start(count, condition)
        number, going, *ports = [value.name for value in self.body_graph.input]
        self.inner.define_constant(going, np.array(True), self.node.location)
        for port, name in zip(ports, carried, strict=True):
            if name in self.graph.lists:
                self.inner.lists[port] = Listed((Part(CARRIED),))
            else:
                self.carry(port, name)
        self.iteration = self.inner.state(tensor((), i64))
        self.inner.define(number, self.iteration, Kind(np.dtype(np.int64), ()))
        self.import_body()
        going, *results = [output.name for output in self.body_graph.output]
        known = self.inner.known(going)
        if known is None or not known.all():
            raise NotRolled("whether it goes on is decided inside it")
        self.finish(carried, results)

    def start(self, count: str, condition: str) -> None:
        """How often it runs."""
        going = self.graph.known(condition) if condition else np.array(True)
        if going is None or not going.all():
            raise NotRolled("whether it runs at all depends on its condition")
        known = self.graph.known(count) if count else None
        if known is not None:
            self.expect(known.size == 1)
            self.steps = int(known.reshape(-1)[0])
            self.check_steps()
            return
        if not self.count:
            raise NotRolled("nothing says how often it runs")
        value, kind = self.graph.operand(count), self.graph.kinds[count]
        if not isinstance(value, BlockArgument) or element_of(value) != i64 or kind.bytes != 8:
            raise self.refused(
                "how often it runs is computed when the network runs",
                "make the trip count an input of the model, one int64, or a constant",
            )
        self.count = self.graph.input_name(value)
        self.steps = self.graph.most_steps.get(self.count, 0)

    def finish(self, carried: Sequence[str], results: Sequence[str]) -> None:
        """Build the operation, and hand its results on."""
        after, scanned = results[: len(carried)], results[len(carried) :]
        outputs = [*self.node.proto.output, *[""] * len(results)][: len(results)]
        states = [new for new, name in zip(after, carried, strict=True) if name not in self.graph.lists]
        appended = {new: self.appended(new) for new in after if new in self.inner.lists}
        wanted = [name for name, output in zip(scanned, outputs[len(carried) :], strict=True) if output]
        columns = [*dict.fromkeys([*appended.values(), *wanted])]
        finals, stacked = self.build(Trip(states, columns))
        by_column = dict(zip(columns, stacked, strict=True))
        remaining = iter(finals)
        for name, new, output in zip(carried, after, outputs, strict=False):
            if name in self.graph.lists:
                self.deliver_list(name, by_column[appended[new]], output)
            elif value := next(remaining):
                self.define_output(output, value)
        for name, output in zip(scanned, outputs[len(carried) :], strict=True):
            if output:
                self.define_output(output, by_column[name], growing=True)

    def appended(self, name: str) -> str:
        """The tensor that a step appends to a sequence that it carries."""
        parts = self.inner.lists[name].parts
        if len(parts) != 2 or parts[0] != Part(CARRIED) or parts[1].stacked:
            raise NotRolled(f"its sequence '{name}' does not get one tensor longer in every step")
        return parts[1].name

    def deliver_list(self, before: str, stacked: SSAValue, output: str) -> None:
        """The sequence after the loop: what it was before, then what every step appended."""
        rows = self.new_name("stacked")
        self.define_output(rows, stacked, growing=True)
        if output:
            self.graph.lists[output] = Listed((*self.graph.lists[before].parts, Part(rows, stacked=True)))

    def define_output(self, name: str, value: SSAValue, growing: bool = False) -> None:
        if name:
            self.graph.define(name, value, dialect_kind(value))
            if growing and self.count:
                self.graph.growing[name] = self.count

    def deliver(self, values: Sequence[SSAValue]) -> None:
        """These values are the first results of the node."""
        for name, value in zip(self.node.proto.output, values, strict=False):
            self.define_output(name, value)

    # The body.

    def import_body(self) -> None:
        """Its nodes, once."""
        ports = {value.name for value in self.body_graph.input}
        for array in self.body_graph.initializer:
            if array.name not in ports:
                value = read_tensor(array, f"{self.node.location}/{array.name}")
                self.inner.define_constant(array.name, value, self.node.location)
        for node in checks.body_nodes(self.node, self.body_graph, self.graph.opsets):
            if self.is_numbered(node):
                cut = self.cut(node.proto.input[0], attribute(node.proto, "axis", 0), False)
                self.inner.define(node.proto.output[0], *cut)
            else:
                self.inner.import_node(node)

    def is_numbered(self, node: Node) -> bool:
        """Whether a node takes x[iteration] of an x around the loop."""
        if node.operator != "Gather" or self.node.proto.op_type != "Loop":
            return False
        x, index = node.proto.input
        return self.inner.is_value(index, self.iteration) and self.inner.is_outer(x)

    def cut(self, name: str, axis: int, backwards: bool) -> tuple[SSAValue, Kind]:
        """One slice of a value around the loop, in the body."""
        self.refuse_growing(name)
        kind = self.graph.kinds[name]
        self.expect(-len(kind.shape) <= axis < len(kind.shape))
        axis %= len(kind.shape)
        piece = Kind(kind.dtype, tuple(size for i, size in enumerate(kind.shape) if i != axis))
        check_kept(piece, f"the slices of '{name}'")
        cut = Cut(name, axis, backwards)
        if cut not in self.cuts:
            self.cuts[cut] = self.inner.slice(dialect_type(piece))
        return self.cuts[cut], piece

    def carry(self, port: str, name: str) -> None:
        """A state of the body and what it starts as."""
        self.refuse_growing(name)
        kind = self.graph.kinds[name]
        check_kept(kind, f"its state '{port}'")
        self.initial.append(name)
        self.inner.define(port, self.inner.state(dialect_type(kind)), kind)

    def refuse_growing(self, name: str) -> None:
        """What is as long as an input says is read by loops that run as often, no others."""
        growing = self.graph.growing.get(name, self.count)
        if growing != self.count:
            raise self.refused(
                f"it reads '{name}', which has as many elements as the input '{growing}' says",
                "let the same input say how often it runs, or fix the number of steps",
            )

    # The operation.

    def build(self, trip: Trip) -> tuple[Sequence[SSAValue], Sequence[SSAValue]]:
        """Append the operation; the final states, and what was collected."""
        for before, after in zip(self.initial, trip.states, strict=True):
            if self.graph.kinds[before] != self.inner.kinds[after]:
                raise NotRolled(f"its state '{after}' changes its shape or type")
        for name in trip.columns:
            check_kept(self.inner.kinds[name], f"what it collects as '{name}'")
        self.bound(trip)
        for name in trip.columns:
            kind = self.inner.kinds[name]
            if kind.bytes * self.steps > LARGEST_TENSOR:
                size = Kind(kind.dtype, (self.steps, *kind.shape))
                raise self.refused(f"what it collects as '{name}', {size}, would take {size.bytes} bytes")
        values = [self.inner.operand(name) for name in trip.states]
        initial = [self.graph.operand(name) for name in self.initial]
        if self.node.proto.op_type == "Loop":
            self.count_up(values, initial)
        values += [self.inner.operand(name) for name in trip.columns]
        sequences = [self.sequence(cut) for cut in self.cuts]
        block = self.inner.block
        block.add_op(Yield(values))
        count = self.graph.operand(self.count) if self.count else None
        scan = Scan(sequences, initial, list(self.inner.invariants), self.steps, Region(block), count)
        self.graph.loops.append(self.prefix)
        self.graph.append(scan, self.node.location, next(filter(None, self.node.proto.output)))
        return list(scan.final)[: len(trip.states)], list(scan.stacked)

    def count_up(self, values: list[SSAValue], initial: list[SSAValue]) -> None:
        """The iteration is a state of its own, where something reads it."""
        if not self.iteration.uses:
            self.inner.block.erase_arg(self.iteration)
            return
        one, start = (Constant(np.array(number, np.int64)) for number in (1, 0))
        up = Onnx("Add", [self.iteration, one.result], [self.iteration.type], opset=self.opset)
        for op in (one, up):
            self.inner.append(op, self.node.location, "iteration")
        self.graph.append(start, self.node.location, "iteration")
        values.append(up.outputs[0])
        initial.append(start.result)

    def bound(self, trip: Trip) -> None:
        """What a loop that runs as often as an input says cuts, and how much it may collect."""
        extents = [self.size(cut.name, cut.axis) for cut in self.cuts]
        if not self.count:
            if extents and min(extents) < self.steps:
                raise NotRolled("it runs beyond the end of what it reads")
            return
        bounds = extents + [self.steps] * (self.steps > 0)
        self.steps = min(bounds, default=0)
        if trip.columns and not self.steps:
            raise self.refused(
                f"it collects as much as the input '{self.count}' says, but a library has fixed arrays",
                f"say how many there are at most: --dim {self.count}=VALUE",
            )

    def sequence(self, cut: Cut) -> SSAValue:
        """A value around the loop as the steps go through it: [steps, ...]."""
        name = self.moved(cut.name, cut.axis, 0)
        if cut.backwards:
            name = self.reversed(name)
        if self.size(name, 0) > self.steps:
            self.need_slice()
            bounds = [self.integers(0), self.integers(self.steps), self.integers(0)]
            name = self.emit("Slice", [name, *bounds])
        return self.graph.operand(name)

    def reversed(self, name: str) -> str:
        """A value backwards along dimension 0."""
        self.need_slice()
        extent = self.size(name, 0)
        bounds = [self.integers(number) for number in (-1, -extent - 1, 0, -1)]
        return self.emit("Slice", [name, *bounds])

    def need_slice(self) -> None:
        if self.opset < STEPPED_SLICE:
            raise NotRolled(f"operator set {self.opset} cannot cut its sequences")

    def check_steps(self) -> None:
        if self.steps < FEWEST_STEPS:
            raise NotRolled(f"it runs {self.steps} times only")
        if self.steps > MOST_STEPS:
            raise NotRolled(f"it runs {self.steps} times")


def check_kept(kind: Kind, what: str) -> None:
    """Raise NotRolled for what no memory of a loop holds."""
    if kind.dtype.kind not in "fiu" or None in kind.shape or 0 in kind.shape:
        raise NotRolled(f"{what} are {kind}" if what.startswith("the") else f"{what} is {kind}")


def dialect_kind(value: SSAValue) -> Kind:
    """The kind of a value that is a number."""
    return Kind(np.dtype(numpy_type(element_of(value))), tuple(shape_of(value)))
