# SPDX-License-Identifier: Apache-2.0
"""ONNX sequences: lists of tensors that exporters keep the values of single steps in.

They are resolved here: which tensors a sequence holds is known while the graph is imported, so that no
operation is left of it but concatenations and slices.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnncc.frontend.checks import Node
from bnncc.frontend.writing import Graph, Listed, Part, Writer

CARRIED = ""
"""The name of the part of a sequence in the body of a loop that steps before have made."""


def is_about_sequences(graph: Graph, node: Node) -> bool:
    """Whether a node makes a sequence or reads one."""
    return node.operator in OPERATORS or any(name in graph.lists for name in node.proto.input)


def import_sequence_node(graph: Graph, node: Node) -> None:
    """Resolve one node. Raises BnnccError where what it does depends on the values of the network."""
    resolver = Resolver(graph, node)
    if node.operator == "Identity":
        return resolver.forward()
    reader = OPERATORS.get(node.operator)
    if reader is None:
        raise resolver.refused("it reads a sequence of tensors", "join them first, by ConcatFromSequence")
    return reader(resolver)


class Resolver(Writer):
    """One node that makes or reads a sequence."""

    # Nodes that make sequences.

    def empty(self) -> None:
        self.give()

    def construct(self) -> None:
        self.give(*map(Part, self.node.proto.input))

    def insert(self) -> None:
        """The tensor goes to the end, or before the one at a position."""
        parts, added = list(self.taken.parts), Part(self.node.proto.input[1])
        if len(self.node.proto.input) < 3:
            self.give(*parts, added)
            return
        parts = self.single()
        place = self.position(2, len(parts), beyond=1)
        self.give(*parts[:place], added, *parts[place:])

    def erase(self) -> None:
        """The tensor at a position goes, or the last one."""
        parts = self.single()
        if not parts:
            raise self.refused("the sequence is empty")
        place = self.position(1, len(parts)) if len(self.node.proto.input) > 1 else len(parts) - 1
        self.give(*parts[:place], *parts[place + 1 :])

    def split(self) -> None:
        """A tensor in pieces along an axis: of one, of a length, or of several lengths."""
        x, *lengths = self.node.proto.input
        if x in self.graph.lists:
            raise self.refused(f"'{x}' is a sequence, not a tensor")
        sizes = self.graph.kinds[x].sizes
        axis = int(self.attributes.get("axis", 0))
        if not -len(sizes) <= axis < len(sizes):
            raise self.refused(f"'{x}', {self.graph.kinds[x]}, has no dimension {axis}")
        axis %= len(sizes)
        if not lengths and not self.attributes.get("keepdims", 1):
            if axis == 0:
                self.give(Part(x, stacked=True))
            else:
                self.give(Part(self.moved(x, axis, 0), stacked=True))
            return
        starts = self.starts(sizes[axis], lengths[0] if lengths else "")
        cut = (self.piece(x, axis, start, stop) for start, stop in starts)
        self.give(*map(Part, cut))

    def starts(self, extent: int, lengths: str) -> list[tuple[int, int]]:
        """Where each piece begins and ends."""
        known = np.array(1) if not lengths else self.graph.known(lengths)
        if known is None:
            raise self.refused("how long its pieces are is known only when the network runs")
        if known.ndim == 0:
            step = int(known)
            if step < 1:
                raise self.refused(f"its pieces have a length of {step}")
            return [(start, min(start + step, extent)) for start in range(0, extent, step)]
        ends = np.cumsum(known).tolist()
        if min(known.tolist(), default=0) < 1 or ends[-1] != extent:
            raise self.refused(f"pieces of {known.tolist()} do not make up {extent}")
        return list(zip([0, *ends], ends, strict=False))

    def piece(self, x: str, axis: int, start: int, stop: int) -> str:
        """x[..., start:stop, ...]"""
        return self.emit("Slice", [x, self.integers(start), self.integers(stop), self.integers(axis)])

    def forward(self) -> None:
        self.graph.lists[self.node.proto.output[0]] = self.taken

    # Nodes that read them.

    def at(self) -> None:
        """The tensor at a position."""
        output = self.node.proto.output[0]
        if len(self.taken.parts) == 1 and self.taken.parts[0].stacked:
            stacked = self.taken.parts[0].name
            self.refuse_growing(stacked)
            index = self.constant(np.array(self.position(1, self.size(stacked, 0)), np.int64))
            self.emit("Gather", [stacked, index], output, axis=0)
            return
        parts = self.single()
        self.emit("Identity", [parts[self.position(1, len(parts))].name], output)

    def length(self) -> None:
        """How many tensors there are."""
        count = 0
        for part in self.taken.parts:
            if part.stacked:
                self.refuse_growing(part.name)
            self.refuse_carried(part)
            count += self.size(part.name, 0) if part.stacked else 1
        self.graph.define_constant(self.node.proto.output[0], np.array(count, np.int64), self.node.location)

    def concatenate(self) -> None:
        """All tensors along a new axis or an old one."""
        parts = self.taken.parts
        if not parts:
            raise self.refused("the sequence is empty")
        new, axis = bool(self.attributes.get("new_axis", 0)), int(self.attributes["axis"])
        for part in parts:
            self.refuse_carried(part)
            if part.stacked and (not new or axis or len(parts) > 1):
                self.refuse_growing(part.name)
        first = next(iter(parts))
        rank = len(self.graph.kinds[first.name].shape) - first.stacked + new
        if not -rank <= axis < rank:
            raise self.refused(f"tensors of {rank - new} dimensions cannot be joined along axis {axis}")
        joined = [self.joined(part, axis % rank, new) for part in parts]
        output = self.node.proto.output[0]
        if len(joined) == 1:
            self.emit("Identity", joined, output)
        else:
            self.emit("Concat", joined, output, axis=axis % rank)

    def joined(self, part: Part, axis: int, new: bool) -> str:
        """A part as an operand of the concatenation."""
        if not part.stacked:
            return self.unsqueezed(part.name, axis) if new else part.name
        moved = self.moved(part.name, 0, axis)
        if new:
            return moved
        sizes = list(self.graph.kinds[moved].sizes)
        sizes[axis : axis + 2] = [sizes[axis] * sizes[axis + 1]]
        return self.emit("Reshape", [moved, self.integers(*sizes)])

    # Pieces.

    @property
    def taken(self) -> Listed:
        """The sequence that the node reads."""
        name = self.node.proto.input[0]
        if name not in self.graph.lists:
            raise self.refused(f"'{name}' is a tensor, not a sequence")
        return self.graph.lists[name]

    def give(self, *parts: Part) -> None:
        """These are what the result holds."""
        for part in parts:
            if part.name != CARRIED and part.name not in self.graph.kinds:
                raise self.refused(f"'{part.name}' is no tensor", "a sequence of tensors holds tensors only")
        self.graph.lists[self.node.proto.output[0]] = Listed(parts)

    def single(self) -> list[Part]:
        """The parts, a tensor each."""
        return list(self._single())

    def _single(self) -> Iterator[Part]:
        for part in self.taken.parts:
            self.refuse_carried(part)
            if not part.stacked:
                yield part
                continue
            self.refuse_growing(part.name)
            for index in range(self.size(part.name, 0)):
                yield Part(self.element(part.name, 0, index))

    def position(self, slot: int, count: int, beyond: int = 0) -> int:
        """The input that says a position, from 0 to count - 1 (and `beyond`); below 0 from the end."""
        known = self.graph.known(self.node.proto.input[slot])
        if known is None or known.size != 1:
            raise self.refused("its position is known only when the network runs")
        place = int(known.reshape(-1)[0])
        if not -count <= place < count + beyond:
            raise self.refused(f"there is no position {place} in a sequence of {count}")
        return place + count * (place < 0)

    def refuse_carried(self, part: Part) -> None:
        """What is in a sequence while a loop fills it is not known."""
        if part.name == CARRIED:
            raise self.refused("it reads a sequence that the loop around it is filling")

    def refuse_growing(self, name: str) -> None:
        """How long a sequence is that a loop of unknown length has filled is not known."""
        if name in self.graph.growing:
            raise self.refused(
                f"the sequence is as long as the input '{self.graph.growing[name]}' says",
                "join it along a new first axis, as an output of the model",
            )


OPERATORS = {
    "SequenceEmpty": Resolver.empty,
    "SequenceConstruct": Resolver.construct,
    "SequenceInsert": Resolver.insert,
    "SequenceErase": Resolver.erase,
    "SequenceAt": Resolver.at,
    "SequenceLength": Resolver.length,
    "ConcatFromSequence": Resolver.concatenate,
    "SplitToSequence": Resolver.split,
}
