# SPDX-License-Identifier: Apache-2.0
"""Loop, Scan and If: loops become one `bnn.scan` where they can (see `loops`), else they are written out.

Written out, each iteration of a body becomes nodes of their own in the graph, their values named after the
node and the iteration; how often the body runs must be known here then. Both branches of an `If` are computed
where its condition is not known, and one result is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx

from bnncc.diagnostics import BnnccError
from bnncc.frontend import checks
from bnncc.frontend.checks import Node
from bnncc.frontend.loops import NotRolled, RolledLoop
from bnncc.frontend.tensors import read_tensor
from bnncc.frontend.writing import Function, Graph, TooManyNodes, Writer

BATCHED_SCAN = 9
"""Before this operator set, a Scan's tensors had a batch dimension in front."""

WHERE = 9
"""The first operator set with Where."""


def import_control_flow(graph: Function, node: Node) -> None:
    """Import what a Loop, Scan or If stands for. Raises BnnccError where that cannot be done."""
    if node.operator == "If" or (node.operator == "Scan" and node.opset < BATCHED_SCAN):
        return Expansion(graph, node).run()
    loop = RolledLoop(graph, node)
    try:
        return loop.run()
    except (NotRolled, BnnccError) as problem:
        if loop.count:
            raise loop.refused(str(problem)) if isinstance(problem, NotRolled) else problem from None
        why = problem.message if isinstance(problem, BnnccError) else str(problem)
    try:
        return Expansion(graph, node).run()
    except TooManyNodes as error:
        message = f"{error.message}; it cannot be one loop: {why}"
        raise BnnccError(error.location, message, error.hint) from None


class Expansion(Writer):
    """One node with subgraphs while it is written out."""

    def __init__(self, graph: Graph, node: Node):
        super().__init__(graph, node)
        self.bodies: dict[str, list[Node]] = {}

    def run(self) -> None:
        """By operator."""
        match self.node.proto.op_type:
            case "If":
                self.choose()
            case "Loop":
                self.loop()
            case "Scan" if self.node.opset < BATCHED_SCAN:
                self.batched_scan()
            case _:
                inputs = list(self.node.proto.input)
                self.deliver(self.scan(inputs, self.given("scan_input_axes")))

    # The operators.

    def choose(self) -> None:
        """If: the branch that is known to be taken; else both, and one result by the condition."""
        condition = self.node.proto.input[0]
        known = self.graph.known(condition)
        if known is not None:
            self.deliver(self.body("then_branch" if known.all() else "else_branch", (), "taken"))
            return
        self.expect(int(np.prod(self.graph.kinds[condition].sizes)) == 1)
        branches = [self.body(name, (), name) for name in ("then_branch", "else_branch")]
        self.expect(len(self.node.proto.output) <= len(branches[0]) == len(branches[1]))
        if self.graph.kinds[condition].shape:
            # A vector of one number would give its dimension to scalars.
            condition = self.emit("Reshape", [condition, self.integers()])
        for name, taken, other in zip(self.node.proto.output, *branches, strict=False):
            kinds = self.graph.kinds.get(taken), self.graph.kinds.get(other)
            if None in kinds or kinds[0] != kinds[1] or self.opset < WHERE:
                gives = " and ".join("a sequence" if kind is None else str(kind) for kind in kinds)
                raise self.refused(
                    f"its condition is known only when the network runs, and its branches give {gives}"
                )
            if name:
                self.emit("Where", [condition, taken, other], name)

    def loop(self) -> None:
        """Loop: body(iteration, condition, carried...) gives condition, carried..., a slice of each scan."""
        given = [*self.node.proto.input, "", ""]
        count_name, condition, *carried = given[: max(2, len(given) - 2)]
        count = self.decided(count_name, "its trip count") if count_name else None
        scans = len(self.attributes["body"].output) - 1 - len(carried)
        self.expect(scans >= 0 and len(self.node.proto.output) <= len(carried) + scans)
        slices: list[list[str]] = []
        continues = condition or self.constant(np.array(True))
        while count is None or len(slices) < int(count):
            if condition and not self.decided(continues, "its condition"):
                break
            number = self.constant(np.array(len(slices), np.int64))
            label = str(len(slices))
            continues, *results = self.body("body", (number, continues, *carried), label)
            carried, scanned = results[: len(carried)], results[len(carried) :]
            slices.append(scanned)
        if any(self.node.proto.output[len(carried) :]) and not slices:
            raise self.refused("it never runs, and its results would be empty")
        collected = [self.stacked([s[i] for s in slices], 0) for i in range(scans if slices else 0)]
        self.deliver([*carried, *collected])

    def scan(self, inputs: Sequence[str], axes: Sequence[int], label: str = "") -> list[str]:
        """Scan: body(state..., one slice of each input) gives state..., one slice of each output."""
        count = int(self.attributes.get("num_scan_inputs", 0))
        self.expect(1 <= count <= len(inputs))
        state, scanned = list(inputs[: len(inputs) - count]), inputs[len(inputs) - count :]
        self.expect(len(state) <= len(self.attributes["body"].output))
        axes = [*axes, *[0] * count][:count]
        backwards = [*self.given("scan_input_directions"), *self.given("directions"), *[0] * count]
        lengths = {self.size(name, axis) for name, axis in zip(scanned, axes, strict=True)}
        if len(lengths) != 1:
            raise self.refused(f"its inputs have {sorted(lengths)} steps, but must have equally many")
        (length,) = lengths
        if not length:
            raise self.refused("its inputs have no steps")
        slices: list[list[str]] = []
        for step in range(length):
            places = [length - 1 - step if back else step for back in backwards[:count]]
            pieces = [self.element(n, a, i) for n, a, i in zip(scanned, axes, places, strict=True)]
            results = self.body("body", (*state, *pieces), f"{label}{step}")
            state, outputs = results[: len(state)], results[len(state) :]
            slices.append(outputs)
        count = len(slices[0])
        axes = [*self.given("scan_output_axes"), *[0] * count][:count]
        backwards = [*self.given("scan_output_directions"), *[0] * count][:count]
        columns = [[row[i] for row in slices] for i in range(count)]
        columns = [column[::-1] if back else column for column, back in zip(columns, backwards, strict=True)]
        return [*state, *(self.stacked(column, axis) for column, axis in zip(columns, axes, strict=True))]

    def batched_scan(self) -> None:
        """Scan as it was first: every sample of the batch is scanned by itself."""
        lengths, *inputs = self.node.proto.input
        if lengths:
            raise self.refused("its sequences have lengths of their own")
        samples = []
        for sample in range(self.size(inputs[0], 0)):
            pieces = [self.element(name, 0, sample) for name in inputs]
            samples.append(self.scan(pieces, (), f"{sample}/"))
        self.deliver([self.stacked(list(results), 0) for results in zip(*samples, strict=True)])

    # Pieces.

    def body(self, attribute: str, arguments: Sequence[str], label: str) -> list[str]:
        """Import the nodes of a subgraph with these inputs; the names of its outputs."""
        graph: onnx.GraphProto = self.attributes[attribute]
        self.expect(len(arguments) == len(graph.input))
        prefix = f"{self.prefix}/{label}/"
        names = {value.name: given for value, given in zip(graph.input, arguments, strict=True)}
        for tensor in graph.initializer:
            if tensor.name not in names:
                names[tensor.name] = self.constant(read_tensor(tensor, f"{self.node.location}/{tensor.name}"))
        if attribute not in self.bodies:
            self.bodies[attribute] = checks.body_nodes(self.node, graph, self.graph.opsets)
        names |= {
            name: prefix + name for node in self.bodies[attribute] for name in node.proto.output if name
        }
        self.graph.tally.count(self.node)
        for node in self.bodies[attribute]:
            self.graph.tally.count(self.node)
            renamed = onnx.NodeProto()
            renamed.CopyFrom(node.proto)
            rename(renamed, names)
            renamed.name = prefix + (node.proto.name or node.proto.op_type)
            self.graph.import_node(Node(renamed, node.location, node.opset))
        return [names.get(output.name, output.name) for output in graph.output]

    def decided(self, name: str, what: str) -> int:
        """A value that decides how often the body runs."""
        known = self.graph.known(name)
        if known is None:
            raise self.refused(f"{what} is known only when the network runs")
        self.expect(known.size == 1)
        return int(known.reshape(-1)[0])

    def deliver(self, values: Iterable[str]) -> None:
        """These values are the results of the node, which may leave out the last ones."""
        given = list(values)
        self.expect(len(self.node.proto.output) <= len(given))
        for name, value in zip(self.node.proto.output, given, strict=False):
            if name:
                self.emit("Identity", [value], name)


def rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """What a node, and the subgraphs in it, read and write, under other names."""
    for values in (node.input, node.output):
        values[:] = [names.get(name, name) for name in values]
    for graph in checks.subgraphs(node):
        own = {value.name for value in (*graph.input, *graph.initializer)}
        own.update(name for inner in graph.node for name in inner.output)
        seen = {old: new for old, new in names.items() if old not in own}
        for inner in graph.node:
            rename(inner, seen)
        for output in graph.output:
            output.name = seen.get(output.name, output.name)
