# SPDX-License-Identifier: Apache-2.0
"""The graph of a NIR file: flattened, checked, in an order in which it can be computed.

Where several edges lead into a node, it is given their sum, in the order of the edges in the file.

A cycle is cut where it closes, one step late: at the edges that lead back into the node that is reached first
from the inputs (over the fewest edges, then by name). Where such an edge comes from nodes without a state
that feed nothing else, it is cut in front of them, at the neuron: a recurrent Affine sees the spikes of the
step before, and adds its bias from the first step on. What a cut edge carries is 0 in the first step. The
input of a Delay of at least one step is no such edge, as its output does not wait for it. A cycle without
a neuron and without a Delay keeps nothing from one step to the next, and is refused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import islice
from pathlib import Path

from bnncc.cycles import strongly_connected
from bnncc.diagnostics import LONGEST_LIST, BnnccError, did_you_mean, joined
from bnncc.frontend.nir.file import FileGraph, noting, read_file
from bnncc.frontend.nir.nodes import NEURONS, Node, check_node

Edge = tuple[str, str]

RELAY = "Relay"
"""An Input or Output of an inner graph: it hands on what it is given."""


@dataclass(frozen=True)
class Graph:
    """What the outputs depend on.

    file: base name of the file. inputs, outputs: names of the Input and Output nodes, in the file's order.
    nodes: by name, each after what it reads in the same step; Inputs first. sources: what leads into each
    node, in the file's order. late: the edges that carry the value of the step before."""

    file: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: Mapping[str, Node]
    sources: Mapping[str, tuple[str, ...]]
    late: frozenset[Edge]


def read_graph(path: Path, problems: list[BnnccError]) -> Graph | None:
    """The graph of a file; None where single nodes or edges are wrong, which `problems` tells.

    Raises BnnccError for a file that cannot be read at all."""
    stored = read_file(path, problems)
    flat = _Flat(path.name, problems)
    flat.add(stored, "")
    flat.check_edges()
    if problems:
        return None
    return _ordered(flat, problems)


@dataclass
class _Flat:
    """All nodes of a file by their dotted names, and the edges between them."""

    file: str
    problems: list[BnnccError]
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    """Names of nodes that were left out, as something is wrong with them."""

    def add(self, graph: FileGraph, prefix: str) -> None:
        """The nodes and edges of a graph; `prefix`: "" or "outer."."""
        self.broken.update(f"{prefix}{key}" for key in graph.left_out)
        ports: dict[str, Mapping[str, list[str]]] = {}
        for key, stored in graph.nodes.items():
            name = f"{prefix}{key}"
            if isinstance(stored, FileGraph):
                self.add(stored, f"{name}.")
                if stored.left_out:  # its ports, perhaps
                    continue
                ports[key] = {
                    kind: [f"{name}.{inner}" for inner, node in stored.nodes.items() if _type(node) == kind]
                    for kind in ("Input", "Output")
                }
                continue
            self.broken.add(name)
            with noting(self.problems):
                node = check_node(name, f"{self.file}:{name}", stored)
                self.define(_relay(node) if prefix and node.kind in ("Input", "Output") else node)
        for edge in graph.edges:
            with noting(self.problems):
                self.edges.append(self.resolved(edge, graph, prefix, ports))

    def define(self, node: Node) -> None:
        """Add a node under its dotted name."""
        if node.name in self.nodes:
            raise BnnccError(
                node.location,
                f"two nodes are called '{node.name}' once inner graphs are part of the outer one",
            )
        self.nodes[node.name] = node
        self.broken.discard(node.name)

    def resolved(
        self, edge: Edge, graph: FileGraph, prefix: str, ports: Mapping[str, Mapping[str, list[str]]]
    ) -> Edge:
        """The edge between dotted names; at an inner graph, its Output or Input."""
        ends = []
        for name, kind in zip(edge, ("Output", "Input"), strict=True):
            if name not in graph.nodes and f"{prefix}{name}" not in self.broken:
                where = f"{self.file}:{prefix}{name}"
                # A comparison with every name; of many mistakes the first are told, the others counted.
                close = did_you_mean(name, graph.nodes) if len(self.problems) < LONGEST_LIST else ""
                hint = f"{close}the nodes are {_listed(graph.nodes)}"
                text = f"an edge goes from '{edge[0]}' to '{edge[1]}', but there is no node '{name}'"
                raise BnnccError(where, text, hint)
            inner = ports[name][kind] if name in ports else [f"{prefix}{name}"]
            if len(inner) != 1:
                where = f"{self.file}:{prefix}{name}"
                text = (
                    f"an edge goes {'from' if kind == 'Output' else 'to'} this graph, which has {len(inner)} "
                )
                raise BnnccError(
                    where, f"{text}{kind} nodes", "edges lead to and from graphs with one of them"
                )
            ends.append(inner[0])
        return ends[0], ends[1]

    def check_edges(self) -> None:
        """No edge twice, none into an Input or out of an Output; there are Inputs and Outputs."""
        seen: set[Edge] = set()
        for edge in self.edges:
            source, target = edge
            if edge in seen:
                self.problems.append(
                    BnnccError(
                        f"{self.file}:{target}",
                        f"the edge from '{source}' is there twice",
                        "for twice the value, put a Scale on the way",
                    )
                )
            seen.add(edge)
            for name, kind, what in ((target, "Input", "leads into"), (source, "Output", "comes out of")):
                if name in self.nodes and self.nodes[name].kind == kind:
                    text = f"an edge {what} this {kind}, from '{source}' to '{target}'"
                    self.problems.append(BnnccError(f"{self.file}:{name}", text))
        for kind in ("Input", "Output"):
            if not any(node.kind == kind for node in self.nodes.values()) and not self.broken:
                hint = "add nir.Input and nir.Output nodes, with edges, and write the file again"
                self.problems.append(BnnccError(self.file, f"the graph has no {kind} node", hint))


def _type(node: object) -> str:
    return getattr(node, "type", "NIRGraph")


def _relay(node: Node) -> Node:
    return Node(node.name, node.location, RELAY, shape=node.shape)


def _listed(names: Collection[str]) -> str:
    more = f" and {len(names) - LONGEST_LIST} more" if len(names) > LONGEST_LIST else ""
    return ", ".join(islice(names, LONGEST_LIST)) + more


def _ordered(flat: _Flat, problems: list[BnnccError]) -> Graph | None:
    """Without what no output depends on, and sorted."""
    outputs = [name for name, node in flat.nodes.items() if node.kind == "Output"]
    inputs = [name for name, node in flat.nodes.items() if node.kind == "Input"]
    live = _reached(outputs, _neighbours(flat.edges, backwards=True)) | set(inputs)
    edges = [edge for edge in flat.edges if edge[0] in live and edge[1] in live]
    before = _neighbours(edges, backwards=True)
    sources = {name: tuple(before.get(name, ())) for name in flat.nodes if name in live}
    for name, found in sources.items():
        if not found and flat.nodes[name].kind != "Input":
            node = flat.nodes[name]
            problems.append(node.problem("no edge leads into this node", "connect it, or take it out"))
    nodes = {name: flat.nodes[name] for name in sources}
    if problems:
        return None
    try:
        order, late = _Sorter(nodes, sources).run()
    except BnnccError as problem:
        problems += problem.problems
        return None
    sorted_nodes = {name: nodes[name] for name in order}
    return Graph(flat.file, tuple(inputs), tuple(outputs), sorted_nodes, sources, frozenset(late))


def _neighbours(edges: Iterable[Edge], backwards: bool = False) -> dict[str, list[str]]:
    """What each node leads to, or (backwards) what leads to it."""
    found: dict[str, list[str]] = {}
    for source, target in edges:
        start, end = (target, source) if backwards else (source, target)
        found.setdefault(start, []).append(end)
    return found


def _reached(starts: Iterable[str], neighbours: Mapping[str, Sequence[str]]) -> set[str]:
    """All that can be reached, the starts included."""
    found = set(starts)
    waiting = list(found)
    while waiting:
        for other in neighbours.get(waiting.pop(), ()):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


class _Sorter:
    """Puts nodes in order and cuts cycles (see the top of this file)."""

    def __init__(self, nodes: Mapping[str, Node], sources: Mapping[str, tuple[str, ...]]):
        self.nodes = nodes
        self.late: set[Edge] = set()
        edges = [(source, name) for name, found in sources.items() for source in found]
        self.forwards = _neighbours(edges)
        inputs = [name for name, node in nodes.items() if node.kind == "Input"]
        self.distance = _distances(inputs, self.forwards)
        waited = [edge for edge in edges if nodes[edge[1]].waits]
        self.before, self.after = _neighbours(waited, backwards=True), _neighbours(waited)

    def run(self) -> tuple[list[str], set[Edge]]:
        """Names in order, and the edges that are one step late. Raises BnnccError for cycles that keep
        nothing."""
        self.check_stateless()
        waiting = self.cycles(list(self.nodes))
        while waiting:
            cycle = waiting.pop()
            self.late.update(self.cuts(set(cycle)))
            waiting += self.cycles(cycle)
        before = {
            name: [source for source in self.before.get(name, ()) if (source, name) not in self.late]
            for name in self.nodes
        }
        return list(TopologicalSorter(before).static_order()), self.late

    def cycles(self, names: Sequence[str]) -> list[list[str]]:
        """Groups of these nodes that all lead to each other, or to themselves, by edges that are not cut."""
        inside = set(names)
        after = {
            name: [
                other
                for other in self.after.get(name, ())
                if other in inside and (name, other) not in self.late
            ]
            for name in names
        }
        groups = strongly_connected(names, after.__getitem__)
        return [group for group in groups if len(group) > 1 or group[0] in after[group[0]]]

    def check_stateless(self) -> None:
        """No cycle without a neuron and without a Delay."""
        found = self.cycles([name for name, node in self.nodes.items() if not node.keeps])
        problems = [
            self.nodes[min(cycle)].problem(
                f"it lies on a cycle without a state: {_listed(sorted(cycle))}",
                "what goes round needs a neuron or a Delay on its way, to keep it for the next step",
            )
            for cycle in found
        ]
        if problems:
            raise joined(problems)

    def cuts(self, cycle: set[str]) -> Iterator[Edge]:
        """The edges to cut so that the first node of a group can be computed."""
        sources = {
            name: [source for source in self.before[name] if (source, name) not in self.late]
            for name in cycle
        }
        entered = [name for name in cycle if not cycle.issuperset(sources[name])]
        first = min(entered or cycle, key=lambda name: (self.distance.get(name, len(self.nodes)), name))
        waiting = [first]
        while waiting:
            target = waiting.pop()
            for source in cycle.intersection(sources[target]):
                if self.nodes[source].kind not in NEURONS and self.forwards[source] == [target]:
                    waiting.append(source)
                else:
                    yield source, target


def _distances(starts: Iterable[str], neighbours: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The fewest edges from any of the starts."""
    found = dict.fromkeys(starts, 0)
    waiting = deque(found)
    while waiting:
        name = waiting.popleft()
        for other in neighbours.get(name, ()):
            if other not in found:
                found[other] = found[name] + 1
                waiting.append(other)
    return found
