# SPDX-License-Identifier: Apache-2.0
"""What must hold of a graph before it is worth importing; each failure is one BnnccError."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

import onnx
from onnx import AttributeProto, defs

from bnncc.diagnostics import BnnccError, ExitCode, did_you_mean, joined
from bnncc.frontend import qonnx
from bnncc.frontend.signatures import find_schema, known_operators, problem_with, versions_of

OLDEST_OPSET = 7
"""Before it, element-wise operators broadcast by attributes of their own."""

AHEAD_OF_TIME = {"Equal": 11}
"""Operators that files use as of a later version than they say: PyTorch compares floats before set 11."""

WRITTEN_OUT = {
    "If": ("then_branch", "else_branch"),
    "Loop": ("body",),
    "Scan": ("body",),
}
"""Operators with subgraphs that are imported, and the attributes that these must be."""

EXPORT_AGAIN = "the file is no valid ONNX model: export it again"

NOT_TEXT = "the file is damaged: a name in it is not UTF-8"


@dataclass(frozen=True)
class Node:
    """A node of the graph.

    location: `model.onnx:<its name>`, or `model.onnx:<operator>_<index>` if it has none.
    opset: version of its domain, 0 if the model imports none.
    masked: it is a Where that was an assignment by a mask (see `masked_assignments`)."""

    proto: onnx.NodeProto
    location: str
    opset: int
    masked: bool = False

    @property
    def domain(self) -> str:
        """The domain of the operator, "" for ONNX's own."""
        return self.proto.domain

    @property
    def operator(self) -> str:
        """The operator with its domain, as people write it: "Conv", "onnx.brevitas::Quant"."""
        return f"{self.domain}::{self.proto.op_type}" if self.domain else self.proto.op_type

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the values that it depends on, those that its subgraphs take from around them included."""
        return (*self.proto.input, *captured(self.proto))


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs among the attributes of a node."""
    return [g for a in node.attribute for g in (*([a.g] if a.HasField("g") else []), *a.graphs)]


def captured(node: onnx.NodeProto) -> list[str]:
    """What the subgraphs of a node read that they do not define."""
    found: dict[str, None] = {}
    for graph in subgraphs(node):
        own = {entry.name for entry in (*graph.input, *graph.initializer)}
        own.update(name for inner in graph.node for name in inner.output)
        for inner in graph.node:
            found.update(dict.fromkeys(name for name in (*inner.input, *captured(inner)) if name))
        found.update(dict.fromkeys(output.name for output in graph.output))
        found = {name: None for name in found if name not in own}
    return list(found)


def normal_domain(domain: str) -> str:
    """ONNX's own domain has two names; "" stands for both."""
    return "" if domain == "ai.onnx" else domain


def raise_problems(problems: Sequence[BnnccError]) -> None:
    """Raise nothing, the only problem, or one error that tells all of them."""
    if problems:
        raise joined(problems)


@contextmanager
def unexpected(location: str, what: str) -> Iterator[None]:
    """Turn an exception that nobody thought of into a BnnccError: "`what` failed"."""
    try:
        yield
    except BnnccError:
        raise
    except UnicodeDecodeError as error:  # some are decoded when they are first read
        raise BnnccError(location, NOT_TEXT, EXPORT_AGAIN) from error
    except Exception as error:
        raise BnnccError(
            location,
            f"{what} failed: {type(error).__name__}: {error}",
            "this is a fault of bnncc, or a file damaged in a way that it does not know: please report it",
            ExitCode.FAILURE,
        ) from error


def opset_versions(model: onnx.ModelProto) -> dict[str, int]:
    """Domain -> version that the model was written for; the known domains of quantisation may be missing."""
    versions = {normal_domain(entry.domain): entry.version for entry in model.opset_import}
    return dict.fromkeys(qonnx.DOMAINS, 1) | versions


def check_opsets(file: str, model: onnx.ModelProto) -> None:
    """ONNX's own operators must be of versions whose meaning is known here."""
    if not model.opset_import:
        raise BnnccError(file, "the model does not say which operator set it uses", "export the model again")
    newest = defs.onnx_opset_version()
    version = opset_versions(model).get("")
    if version is None:
        return
    if version > newest:
        raise BnnccError(
            file,
            f"the model uses operator set {version}; onnx {onnx.__version__} knows only those up to {newest}",
            f"export with an operator set of at most {newest}, or install a newer onnx",
        )
    if version < OLDEST_OPSET and not all(is_unchanged(node.op_type, version) for node in model.graph.node):
        raise BnnccError(
            file,
            f"the model uses operator set {version}, older than {OLDEST_OPSET}",
            "export with operator set 13 or newer, or convert with onnx.version_converter",
        )


def body_nodes(node: Node, graph: onnx.GraphProto, opsets: Mapping[str, int]) -> list[Node]:
    """The nodes of a subgraph of `node` in an order in which they can be computed, checked as those of a
    graph."""
    nodes = name_nodes("", graph, opsets)
    nodes = [replace(n, location=f"{node.location}/{n.location.removeprefix(':')}") for n in nodes]
    check_names(node.location, graph, nodes, captured(node.proto), is_body=True)
    nodes = live_nodes(sort_nodes(node.location, nodes), [output.name for output in graph.output])
    raise_problems([problem for inner in nodes if (problem := operator_problem(inner)) is not None])
    return nodes


def is_unchanged(operator: str, version: int) -> bool:
    """Whether an operator of an old operator set meant the same when its element-wise ones began to broadcast
    by shapes."""
    old, new = (find_schema("", operator, opset) for opset in (version, OLDEST_OPSET))
    return old is not None and new is not None and old.since_version == new.since_version


def name_nodes(file: str, graph: onnx.GraphProto, opsets: Mapping[str, int]) -> list[Node]:
    """The nodes in the order of the file, all spelled alike: domain "", nothing left out at the end."""
    nodes: list[Node] = []
    for index, node in enumerate(graph.node):
        node.domain = normal_domain(node.domain)
        if node.domain in qonnx.OTHER_SPELLINGS and node.op_type in qonnx.OPERATORS:
            node.domain = qonnx.DOMAINS[0]
        for names in (node.input, node.output):
            while names and not names[-1]:
                del names[-1]
        location = f"{file}:{node.name or f'{node.op_type}_{index}'}"
        nodes.append(Node(node, location, node_opset(node, opsets)))
    return nodes


def node_opset(node: onnx.NodeProto, opsets: Mapping[str, int]) -> int:
    """The version of a node's operator set, 0 if the model imports none of its domain."""
    version = opsets.get(node.domain, 0)
    return max(version, AHEAD_OF_TIME.get(node.op_type, 0)) if version and not node.domain else version


def check_names(
    file: str,
    graph: onnx.GraphProto,
    nodes: Sequence[Node],
    outer: Iterable[str] = (),
    is_body: bool = False,
) -> None:
    """Names are text, every value is defined once, all that is read is defined (in the graph or `outer`), and
    there is an output; what a body gives goes by its place, so that it may give one value twice. Whatever is
    not so is told at once."""
    if any(isinstance(name, bytes) for name in names_in(graph)):
        raise BnnccError(file, NOT_TEXT, EXPORT_AGAIN)
    raise_problems([*port_problems(file, graph, is_body), *definition_problems(file, graph, nodes, outer)])


def port_problems(file: str, graph: onnx.GraphProto, is_body: bool = False) -> Iterator[BnnccError]:
    """What is wrong with inputs, initializers and outputs by themselves."""
    if graph.sparse_initializer:
        name = graph.sparse_initializer[0].values.name
        yield BnnccError(
            f"{file}:{name}", "sparse initializers are not supported", "store it as a dense tensor"
        )
    outputs = [output.name for output in graph.output]
    if not outputs:
        yield BnnccError(file, "the graph has no outputs", "export the model with its outputs")
    # An input may carry a default value: an initializer of the same name (before ONNX IR version 4 all did).
    for kind, names in (
        ("input", [value.name for value in graph.input]),
        ("initializer", [tensor.name for tensor in graph.initializer]),
        ("output", outputs),
    ):
        twice = first_duplicate(names)
        if twice is not None and not (is_body and kind == "output"):
            yield BnnccError(f"{file}:{twice}", f"the graph has two {kind}s named '{twice}'", EXPORT_AGAIN)


def definition_problems(
    file: str, graph: onnx.GraphProto, nodes: Sequence[Node], outer: Iterable[str]
) -> Iterator[BnnccError]:
    """Values that are defined twice, or read but not defined; each value once."""
    defined = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    for node in nodes:
        for name in filter(None, node.proto.output):
            if name in defined:
                yield BnnccError(node.location, f"the value '{name}' is defined a second time", EXPORT_AGAIN)
            defined.add(name)
    defined.update(outer)
    missing: set[str] = set()
    for node in nodes:
        for name in filter(None, node.reads):
            if name not in defined and name not in missing:
                missing.add(name)
                yield BnnccError(
                    node.location,
                    f"{node.operator} reads '{name}', which no node, input or initializer defines",
                    "an initializer is missing, or the model was cut: export it again",
                )
    for output in graph.output:
        if output.name not in defined:
            yield BnnccError(
                f"{file}:{output.name}", f"nothing computes the output '{output.name}'", EXPORT_AGAIN
            )


def names_in(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    """Every name in a graph; protocol buffers give bytes for what is not UTF-8."""
    for entry in (*graph.input, *graph.initializer, *graph.output):
        yield entry.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def first_duplicate(names: Iterable[str]) -> str | None:
    """The first name that came before, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def sort_nodes(file: str, nodes: Sequence[Node]) -> list[Node]:
    """The nodes so that each comes after those it reads, otherwise in the order of the file."""
    producer = {name: index for index, node in enumerate(nodes) for name in node.proto.output if name}
    reads = [{producer[name] for name in node.reads if name in producer} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(reads):
        for other in needed:
            readers[other].append(index)
    waiting = [len(needed) for needed in reads]
    ready = [index for index, count in enumerate(waiting) if count == 0]
    heapify(ready)
    order: list[int] = []
    while ready:
        index = heappop(ready)
        order.append(index)
        for reader in readers[index]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heappush(ready, reader)
    if len(order) < len(nodes):
        circle = find_circle(reads, {index for index, count in enumerate(waiting) if count})
        names = " -> ".join(nodes[index].location.removeprefix(f"{file}:") for index in circle[:8])
        raise BnnccError(nodes[circle[0]].location, f"the graph has a cycle through {names}", EXPORT_AGAIN)
    return [nodes[index] for index in order]


def find_circle(reads: Sequence[set[int]], stuck: set[int]) -> list[int]:
    """Nodes on one cycle, in the order of the data; `stuck` are those that could not be sorted."""
    path: list[int] = []
    index = min(stuck)
    while index not in path:
        path.append(index)
        index = min(reads[index] & stuck)
    circle = path[path.index(index) :][::-1]
    first = circle.index(min(circle))
    return circle[first:] + circle[:first]


def live_nodes(nodes: Sequence[Node], outputs: Iterable[str]) -> list[Node]:
    """Those of the sorted nodes that the outputs depend on."""
    needed = set(outputs)
    live: list[Node] = []
    for node in reversed(nodes):
        if needed.intersection(filter(None, node.proto.output)):
            needed.update(node.reads)
            live.append(node)
    return live[::-1]


def operator_problem(node: Node) -> BnnccError | None:
    """What is wrong with the operator of a node, if anything."""
    operator = node.proto.op_type
    graphs = any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.proto.attribute)
    if (graphs and node.operator not in WRITTEN_OUT) or node.operator == "SequenceMap":
        return BnnccError(
            node.location,
            f"{node.operator} holds a subgraph; control flow is not supported",
            "export with a fixed number of time steps, unrolled, or one step at a time",
        )
    missing = set(WRITTEN_OUT.get(node.operator, ())) - {
        a.name for a in node.proto.attribute if a.HasField("g")
    }
    if missing:
        return BnnccError(node.location, f"{node.operator} lacks its subgraph '{min(missing)}'", EXPORT_AGAIN)
    if any(a.ref_attr_name for a in node.proto.attribute):
        return BnnccError(
            node.location, f"{node.operator} refers to an attribute of a function", EXPORT_AGAIN
        )
    problem = problem_with(node.proto, node.opset)
    if problem is not None:
        what, guess = problem
        return BnnccError(node.location, f"{node.operator}: {what}", guess + EXPORT_AGAIN)
    hint = "export with operators of ONNX itself or of QONNX"
    if node.domain.startswith("com.microsoft"):
        hint = "give the model as it was exported, before ONNX Runtime optimised it for its own kernels"

    def hinted() -> str:
        """Looked up only for an error: a large model asks for every node."""
        if node.domain:
            return hint
        versions = versions_of(operator)
        if not versions:
            return did_you_mean(operator, known_operators()) + hint
        if node.opset < versions[0]:
            return f"ONNX has {operator} from operator set {versions[0]} on: export with that or a newer one"
        return f"ONNX has no {operator} any more: export with operator set {versions[-1]}"

    if not node.opset:
        why = f"the model imports no operator set of domain '{node.domain}'"
        return BnnccError(node.location, f"unknown operator {node.operator}: {why}", hinted())
    if node.domain in qonnx.DOMAINS:
        if operator in qonnx.OPERATORS:
            return None
        listed = ", ".join(sorted(qonnx.OPERATORS))
        guess = did_you_mean(operator, qonnx.OPERATORS)
        return BnnccError(
            node.location, f"unknown operator {node.operator}", f"{guess}known of this domain: {listed}"
        )
    if find_schema(node.domain, operator, node.opset) is None:
        where = f"in operator set {node.opset}" if node.domain == "" else f"(domain '{node.domain}')"
        return BnnccError(node.location, f"unknown operator {node.operator} {where}", hinted())
    return None
