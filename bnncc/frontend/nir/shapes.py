# SPDX-License-Identifier: Apache-2.0
"""The shape of what every node of a NIR graph takes and gives, one sample, without time and batch."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from bnncc.diagnostics import BnnccError
from bnncc.frontend.nir.file import noting
from bnncc.frontend.nir.graph import RELAY, Graph
from bnncc.frontend.nir.nodes import NEURONS, Node, Shape, checked_shape


@dataclass(frozen=True)
class Shapes:
    """By the name of the node."""

    taken: Mapping[str, Shape]
    given: Mapping[str, Shape]


def infer_shapes(graph: Graph, problems: list[BnnccError]) -> Shapes:
    """Follow the edges from the inputs; whatever does not fit goes to `problems`."""
    walk = _Walk(graph, problems)
    walk.run(graph.inputs)
    for name, node in graph.nodes.items():  # what only a part that no input reaches leads to
        if name not in walk.seen and (shape := _own_shape(node)) is not None:
            walk.taken[name] = shape
            walk.run([name])
    if not problems:
        walk.check_edges()
    return Shapes(walk.taken, walk.given)


class _Walk:
    def __init__(self, graph: Graph, problems: list[BnnccError]):
        self.graph, self.problems = graph, problems
        self.taken: dict[str, Shape] = {}
        self.given: dict[str, Shape] = {}
        self.seen: set[str] = set()
        self.targets: dict[str, list[str]] = {}
        for name, sources in graph.sources.items():
            for source in sources:
                self.targets.setdefault(source, []).append(name)

    def run(self, starts: Iterable[str]) -> None:
        """Breadth first, each node with the shape that reaches it first."""
        waiting = deque(starts)
        self.seen.update(waiting)
        while waiting:
            name = waiting.popleft()
            node = self.graph.nodes[name]
            with noting(self.problems):
                shape = node.shape if node.kind == "Input" else self.taken[name]
                assert shape is not None
                self.given[name] = result_shape(node, shape)
            if name not in self.given:
                continue
            for target in self.targets.get(name, ()):
                if target not in self.seen:
                    self.seen.add(target)
                    self.taken[target] = self.given[name]
                    waiting.append(target)

    def check_edges(self) -> None:
        """All edges into a node carry the same shape."""
        for name, sources in self.graph.sources.items():
            node = self.graph.nodes[name]
            if name not in self.given:
                hint = "lead an edge to it from an Input"
                self.problems.append(node.problem("nothing tells the shape of its input", hint))
                continue
            wrong = [source for source in sources if self.given.get(source) != self.taken.get(name)]
            for source in wrong:
                if source in self.given:
                    text = (
                        f"it takes {list(self.taken[name])}, but '{source}' gives {list(self.given[source])}"
                    )
                    self.problems.append(node.problem(text, "what edges carry to one node is summed"))


def _own_shape(node: Node) -> Shape | None:
    """The shape of the input as far as the parameters tell it."""
    if node.kind in NEURONS or node.kind in ("Scale", "Threshold", "Delay"):
        return np.broadcast_shapes(*(array.shape for array in node.arrays.values())) or (1,)
    if node.kind in ("Affine", "Linear"):
        weight = node.arrays["weight"]
        return (*weight.shape[:-2], weight.shape[-1])
    return node.shape if node.kind == RELAY else None


def result_shape(node: Node, x: Shape) -> Shape:
    """What the node makes of an input of shape x. Raises BnnccError where they do not fit."""
    shape = RULES.get(node.kind, _elementwise)(node, x)
    return checked_shape(node.problem, "its result", shape)


def _port(node: Node, x: Shape) -> Shape:
    if node.shape is not None and node.shape != x:
        raise node.problem(f"it is declared as {list(node.shape)}, but what reaches it is {list(x)}")
    return x


def _elementwise(node: Node, x: Shape) -> Shape:
    """Parameters are of the input's shape, or broadcast to it as in NumPy."""
    for key, array in node.arrays.items():
        try:
            fits = np.broadcast_shapes(array.shape, x) == x
        except ValueError:
            fits = False
        if not fits:
            raise node.problem(f"its {key} is of shape {list(array.shape)}, but its input is {list(x)}")
    return x


def _affine(node: Node, x: Shape) -> Shape:
    weight = node.arrays["weight"]
    if weight.ndim == 3 and x != (weight.shape[0], weight.shape[2]):
        raise node.problem(
            f"its weight {list(weight.shape)} takes {[weight.shape[0], weight.shape[2]]}, "
            f"its input is {list(x)}"
        )
    if weight.shape[-1] != x[-1]:
        hint = "a Flatten may be missing, or begin at another dimension" if len(x) > 1 else ""
        raise node.problem(
            f"its weight {list(weight.shape)} takes {weight.shape[-1]} values, but its input is {list(x)}",
            hint,
        )
    return (*x[:-1], weight.shape[-2])


def _conv(node: Node, x: Shape) -> Shape:
    weight, window = node.arrays["weight"], node.window
    assert window is not None
    rank = weight.ndim - 1
    if len(x) != rank:
        expected = "[channels, length]" if rank == 2 else "[channels, height, width]"
        raise node.problem(f"its input is {list(x)}, expected {expected}")
    channels = weight.shape[1] * node.groups
    if x[0] != channels:
        of = f" ({node.groups} groups of {weight.shape[1]})" if node.groups > 1 else ""
        raise node.problem(f"its weight takes {channels} channels{of}, but its input is {list(x)}")
    if node.shape is not None and node.shape != x[1:]:
        raise node.problem(f"its input_shape is {list(node.shape)}, but its input is {list(x)}")
    size = window.result(x[1:] if rank == 3 else (1, x[1]))
    return weight.shape[0], *(size if rank == 3 else size[1:])


def _pool(node: Node, x: Shape) -> Shape:
    assert node.window is not None
    if len(x) != 3:
        raise node.problem(f"its input is {list(x)}, expected [channels, height, width]")
    return x[0], *node.window.result(x[1:])


def _flatten(node: Node, x: Shape) -> Shape:
    if node.shape is not None and node.shape != x:
        raise node.problem(f"its input_type is {list(node.shape)}, but its input is {list(x)}")
    first, last = flattened_dimensions(node, len(x))
    if not 0 <= first <= last < len(x):
        raise node.problem(f"it joins dimensions {node.dimensions[0]} to {node.dimensions[1]} of {len(x)}")
    return (*x[:first], math.prod(x[first : last + 1]), *x[last + 1 :])


def flattened_dimensions(node: Node, rank: int) -> tuple[int, int]:
    """The first and the last dimension that a Flatten joins, counted from the front."""
    first, last = (dimension + rank if dimension < 0 else dimension for dimension in node.dimensions)
    return first, last


RULES: Mapping[str, Callable[[Node, Shape], Shape]] = {
    "Input": _port,
    "Output": _port,
    RELAY: _port,
    "Affine": _affine,
    "Linear": _affine,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "AvgPool2d": _pool,
    "SumPool2d": _pool,
    "Flatten": _flatten,
}
"""All others are element by element."""
