# SPDX-License-Identifier: Apache-2.0
"""Functions that a model brings along are replaced by their bodies."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx.inliner

from bnncc.diagnostics import BnnccError

MOST_NODES = 100_000
"""A model that grows beyond this when its functions are inlined is refused."""

MOST_CALLERS = 50
"""Functions that call each other deeper than this are taken for a circle."""


def inline_functions(file: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every call of one of its own functions replaced by the body."""
    if not model.functions:
        return model
    bodies = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    total = sum(expanded_size(file, node, bodies, sizes, ()) for node in model.graph.node)
    if total > MOST_NODES:
        raise BnnccError(file, f"with its functions inlined, the model has more than {MOST_NODES} nodes")
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:
        raise BnnccError(file, f"the model's functions cannot be inlined: {error}") from error


def expanded_size(
    file: str,
    node: onnx.NodeProto,
    bodies: dict[tuple[str, str], onnx.FunctionProto],
    sizes: dict[tuple[str, str], int],
    callers: tuple[tuple[str, str], ...],
) -> int:
    """How many nodes a node becomes; raises BnnccError where functions call each other in a circle."""
    key = (node.domain, node.op_type)
    nested = sum(expanded_size(file, inner, bodies, sizes, callers) for inner in subgraph_nodes(node))
    if key not in bodies:
        return 1 + nested
    if key in callers or len(callers) > MOST_CALLERS:
        raise BnnccError(
            file,
            f"the function '{node.op_type}' of domain '{node.domain}' calls itself",
            "ONNX functions must not be recursive; export the model again",
        )
    if key not in sizes:
        inner = bodies[key].node
        sizes[key] = sum(expanded_size(file, n, bodies, sizes, (*callers, key)) for n in inner)
    return sizes[key]


def subgraph_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The nodes directly inside the subgraphs of a node."""
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            yield from graph.node
