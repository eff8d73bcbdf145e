# SPDX-License-Identifier: Apache-2.0
"""Networks in half precision are computed in float32, from their inputs to their outputs.

A file says which numbers are stored in float16, not in what type sums and their rounding are made: runtimes
for processors compute such graphs in float32 too. The trained numbers stay the same."""

from __future__ import annotations

from collections.abc import Container, Iterator

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from bnncc.frontend.checks import names_in, subgraphs

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"})
"""Operators that make a graph a network. Single nodes of other kinds keep their types."""

TYPED = frozenset({"to", "dtype"})
"""Attributes that hold an element type."""

HALF, SINGLE = int(TensorProto.FLOAT16), int(TensorProto.FLOAT)


def widen(model: ModelProto) -> None:
    """Make float16 float32 in the whole graph, where it is a network with such trained numbers."""
    graphs = list(all_graphs(model.graph))
    if not any(node.op_type in WEIGHTED for graph in graphs for node in graph.node):
        return
    stores_half = any(tensor.data_type == HALF for graph in graphs for tensor in tensors(graph))
    is_half_precision = stores_half or any(multiplies_in_half(graph) for graph in graphs)
    # Damaged names are told of later; they cannot be written again.
    if is_half_precision and not any(isinstance(n, bytes) for graph in graphs for n in names_in(graph)):
        for graph in graphs:
            widen_graph(graph)
        cast_ports(model.graph)


def multiplies_in_half(graph: GraphProto) -> bool:
    """Whether trained numbers are multiplied in float16, though they may be stored in float32: as exported
    under PyTorch's autocast."""
    casts = {
        name
        for node in graph.node
        if node.op_type == "Cast" and any(a.name == "to" and a.i == HALF for a in node.attribute)
        for name in node.output
    }
    return any(not casts.isdisjoint(node.input) for node in graph.node if node.op_type in WEIGHTED)


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """The constants of a graph."""
    yield from graph.initializer
    for node in graph.node:
        yield from held(node)


def held(node: NodeProto) -> Iterator[TensorProto]:
    """The tensors among the attributes of a node."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            yield attribute.t


def widen_graph(graph: GraphProto) -> None:
    """Tensors, declared types, and what nodes say of types."""
    for tensor in tensors(graph):
        widen_tensor(tensor)
    for value in graph.value_info:
        if is_half(value):
            value.type.tensor_type.elem_type = SINGLE
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in TYPED and attribute.i == HALF:
                attribute.i = SINGLE


def cast_ports(main: GraphProto) -> None:
    """Casts between inputs and outputs of float16 and the graph."""
    made = {name for node in main.node for name in node.output}
    taken = made | {value.name for value in main.input}
    inputs = {value.name for value in main.input if is_half(value)} - {t.name for t in main.initializer}
    outputs = {value.name for value in main.output if is_half(value)} & made
    single = {name: unused(name, taken) for name in sorted(inputs | outputs)}
    for graph in all_graphs(main):
        for node in graph.node:
            node.input[:] = [single.get(name, name) for name in node.input]
            node.output[:] = [single.get(name, name) for name in node.output]
    for name in sorted(inputs):
        main.node.insert(0, helper.make_node("Cast", [name], [single[name]], to=SINGLE))
    main.node.extend(helper.make_node("Cast", [single[name]], [name], to=HALF) for name in sorted(outputs))


def is_half(value: ValueInfoProto) -> bool:
    """Whether a value is declared to be a tensor of float16."""
    return value.type.tensor_type.elem_type == HALF


def unused(name: str, taken: Container[str]) -> str:
    """A name for a value in float32 that no other has."""
    found = f"{name}_float32"
    while found in taken:
        found += "_"
    return found


def widen_tensor(tensor: TensorProto) -> None:
    """The same numbers in float32; one whose data do not fit stays, and is told of when it is read."""
    if tensor.data_type != HALF:
        return
    try:
        array = numpy_helper.to_array(tensor)
    except Exception:
        return
    tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))
