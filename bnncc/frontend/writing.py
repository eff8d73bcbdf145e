# SPDX-License-Identifier: Apache-2.0
"""What the importers of control flow and of sequences share: nodes and constants of their own making."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from onnx import helper
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Block, BlockArgument, Operation, SSAValue

from bnncc.diagnostics import BnnccError
from bnncc.frontend import checks
from bnncc.frontend.checks import Node
from bnncc.frontend.kinds import Kind

AXES_INPUT = 13
"""Since this operator set, Unsqueeze and Squeeze have their axes as an input."""

UNROLL = "export with a fixed number of time steps, unrolled, or one step at a time"


MOST_NODES = 4_000
"""A graph that grows by more nodes than these when its loops are written out is refused."""


class TooManyNodes(BnnccError):
    """Loops that are written out need more than MOST_NODES nodes."""


class Tally:
    """Counts the nodes of loops that are written out."""

    def __init__(self) -> None:
        self.written = 0

    def count(self, node: Node) -> None:
        """One more node, or one more time that a body is gone through."""
        self.written += 1
        if self.written > MOST_NODES:
            raise TooManyNodes(
                node.location,
                f"{node.operator}: written out, the loops of the model have more than {MOST_NODES} nodes",
                "export the model one step at a time",
            )


@dataclass(frozen=True)
class Part:
    """A tensor of a sequence; where it is `stacked`, as many as its dimension 0 says."""

    name: str
    stacked: bool = False


@dataclass(frozen=True)
class Listed:
    """What an ONNX sequence holds, in order."""

    parts: tuple[Part, ...] = ()


class Graph(Protocol):
    """The graph that grows: what the importer of a model offers, and what evaluates one."""

    tally: Tally
    growing: MutableMapping[str, str]
    """Values that have as many elements along dimension 0 as an input says, by that input's name."""

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Of every value so far, by name."""
        ...

    @property
    def lists(self) -> MutableMapping[str, Listed]:
        """Every ONNX sequence so far, by name."""
        ...

    @property
    def opsets(self) -> Mapping[str, int]:
        """Domain -> version."""
        ...

    def import_node(self, node: Node) -> None:
        """Append a node."""
        ...

    def known(self, name: str) -> np.ndarray | None:
        """A value that depends on no input of the network, else None."""
        ...

    def define_constant(self, name: str, array: np.ndarray, location: str) -> None:
        """Remember a value that is known."""
        ...


class Function(Graph, Protocol):
    """The same while it becomes a function of the dialect."""

    loops: list[str]
    """Names of the loops that are loops there."""

    @property
    def most_steps(self) -> Mapping[str, int]:
        """How often a loop runs at most, by the name of the input that says how often it does."""
        ...

    def define(self, name: str, value: SSAValue, kind: Kind) -> None:
        """Remember a value that is computed when the network runs."""
        ...

    def operand(self, name: str) -> SSAValue:
        """A value in the function."""
        ...

    def input_name(self, value: SSAValue) -> str:
        """What the model calls one of its inputs."""
        ...

    def append(self, op: Operation, location: str, name: str) -> None:
        """Put an operation at the end."""
        ...

    def body(self, prefix: str) -> Body | None:
        """An importer for the body of a loop; None inside one."""
        ...


class Body(Function, Protocol):
    """The body of a loop, a block of its own. Its arguments are slices, then states, then invariants."""

    block: Block
    invariants: dict[SSAValue, SSAValue]
    """What it reads of the graph around it, and the arguments that these are."""

    def is_value(self, name: str, value: SSAValue) -> bool:
        """Whether a name stands for a value."""
        ...

    def is_outer(self, name: str) -> bool:
        """Whether a value is of the graph around it."""
        ...

    def slice(self, type_: TensorType) -> BlockArgument:
        """One more argument that is another one in every step."""
        ...

    def state(self, type_: TensorType) -> BlockArgument:
        """One more argument that is carried from step to step."""
        ...


class Writer:
    """One node of the file, and the nodes and constants that it becomes."""

    def __init__(self, graph: Graph, node: Node):
        self.graph, self.node = graph, node
        self.attributes: dict[str, Any] = {
            a.name: helper.get_attribute_value(a) for a in node.proto.attribute
        }
        self.opset = graph.opsets[""]
        self.prefix = node.proto.name or next(name for name in node.proto.output if name)
        self.names = 0

    def emit(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Import a node of our own; the name of its result."""
        self.graph.tally.count(self.node)
        name = output or self.new_name(operator)
        proto = helper.make_node(operator, inputs, [name], **attributes)
        self.graph.import_node(Node(proto, self.node.location, self.opset))
        return name

    def constant(self, array: np.ndarray) -> str:
        """A constant."""
        name = self.new_name("constant")
        self.graph.define_constant(name, array, self.node.location)
        return name

    def integers(self, *values: int) -> str:
        """A vector of integers."""
        return self.constant(np.array(values, np.int64))

    def new_name(self, what: str) -> str:
        """A name for a value that the file does not name."""
        self.names += 1
        return f"{self.prefix}/{what}.{self.names}"

    def unsqueezed(self, name: str, axis: int) -> str:
        """A value with a dimension of 1 more."""
        if self.opset < AXES_INPUT:
            return self.emit("Unsqueeze", [name], axes=[axis])
        return self.emit("Unsqueeze", [name, self.integers(axis)])

    def element(self, name: str, axis: int, index: int) -> str:
        """x[..., index, ...] without that dimension."""
        return self.emit("Gather", [name, self.constant(np.array(index, np.int64))], axis=axis)

    def stacked(self, values: Sequence[str], axis: int) -> str:
        """Values of equal shapes along a new dimension."""
        rank = len(self.graph.kinds[values[0]].shape) + 1
        self.expect(-rank <= axis < rank)
        axis %= rank
        return self.emit("Concat", [self.unsqueezed(value, axis) for value in values], axis=axis)

    def moved(self, name: str, before: int, after: int) -> str:
        """A value with one of its dimensions at another place."""
        rank = len(self.graph.kinds[name].shape)
        order = [axis for axis in range(rank) if axis != before]
        order.insert(after, before)
        return name if before == after else self.emit("Transpose", [name], perm=order)

    def given(self, name: str) -> list[int]:
        """An attribute of integers, [] where it is not given."""
        return list(self.attributes.get(name, ()))

    def size(self, name: str, axis: int) -> int:
        """The extent of a dimension."""
        sizes = self.graph.kinds[name].sizes
        self.expect(-len(sizes) <= axis < len(sizes))
        return sizes[axis]

    def expect(self, fits: bool) -> None:
        """Raise unless the node and its subgraph fit together."""
        if not fits:
            raise BnnccError(
                self.node.location,
                f"{self.node.operator}: its inputs, outputs and attributes do not fit its subgraph",
                checks.EXPORT_AGAIN,
            )

    def refused(self, why: str, hint: str = UNROLL) -> BnnccError:
        """The diagnostic where the node cannot be imported."""
        return BnnccError(self.node.location, f"{self.node.operator}: {why}", hint)
