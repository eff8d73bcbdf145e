# SPDX-License-Identifier: Apache-2.0
"""Reading an ONNX file that nobody vouches for, down to a graph that is known to be well formed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from bnncc.diagnostics import BnnccError
from bnncc.frontend import checks
from bnncc.frontend.contrib import write_out
from bnncc.frontend.dimensions import input_kinds
from bnncc.frontend.functions import inline_functions
from bnncc.frontend.half import widen
from bnncc.frontend.kinds import Kind
from bnncc.frontend.masked_assignments import masked_assignments
from bnncc.frontend.tensors import read_tensor, stated_type

LARGEST_FILE = (1 << 31) - 1
"""Protocol buffers count their bytes in 31 bits."""


@dataclass(frozen=True)
class Model:
    """A graph that is checked: names are defined once, nodes are in order, operators are known.

    file: base name of the file, the first half of every location.
    inputs: name -> kind, static, without the initializers.
    initializers: name -> tensor as in the file, those that the graph needs.
    nodes: those that the outputs depend on, each after what it reads.
    outputs: names, in order.
    opsets: domain -> version, "" for ONNX's own.
    most_steps: how often a Loop runs at most, by the name of the input that says how often it does.
    broken: names of values that have a problem of their own, of which nothing more is to be said.
    """

    file: str
    inputs: Mapping[str, Kind]
    initializers: Mapping[str, TensorProto]
    nodes: tuple[checks.Node, ...]
    outputs: tuple[str, ...]
    opsets: Mapping[str, int]
    broken: frozenset[str] = frozenset()
    most_steps: Mapping[str, int] = field(default_factory=dict)

    def initializer(self, name: str) -> np.ndarray:
        """The value of an initializer; raises BnnccError where its data do not fit its type and shape."""
        return read_tensor(self.initializers[name], f"{self.file}:{name}")


def read_model(
    path: str | os.PathLike[str],
    dims: Mapping[str, int] | None = None,
    problems: list[BnnccError] | None = None,
) -> Model:
    """Read and check the file; `dims` gives symbolic dimensions of the inputs their sizes.

    Raises BnnccError for whatever is wrong with the file or with `dims`; but what is wrong with single nodes
    and inputs is put into `problems`, where that is given, so that the rest can be looked at too."""
    path = Path(path)
    with checks.unexpected(path.name, "reading the model"):
        found = [] if problems is None else problems
        model = check_model(path, parse(path), dims or {}, found)
        if problems is None:
            checks.raise_problems(found)
        return model


def check_model(
    path: Path, proto: onnx.ModelProto, dims: Mapping[str, int], problems: list[BnnccError]
) -> Model:
    """The checked graph of what stands in the file at `path`, less the nodes and inputs with problems."""
    file = path.name
    checks.check_opsets(file, proto)
    proto = inline_functions(file, proto)
    attach_external_data(path, proto)
    widen(proto)
    opsets = checks.opset_versions(proto)
    nodes = checks.name_nodes(file, proto.graph, opsets)
    checks.check_names(file, proto.graph, nodes)
    nodes = checks.sort_nodes(file, nodes)
    nodes = masked_assignments(write_out(nodes, opsets.get("", 0), proto.graph.initializer))
    nodes = checks.live_nodes(nodes, [output.name for output in proto.graph.output])
    bad = {id(node): problem for node in nodes if (problem := checks.operator_problem(node)) is not None}
    broken = {name for node in nodes if id(node) in bad for name in node.proto.output if name}
    outputs = tuple(output.name for output in proto.graph.output)
    needed = {name for node in nodes for name in node.reads} | set(outputs)
    initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in initializers]
    counts = trip_counts(nodes)
    kinds = input_kinds(file, inputs, dims, problems, counts)
    problems += bad.values()
    return Model(
        file,
        kinds,
        {name: tensor for name, tensor in initializers.items() if name in needed},
        tuple(node for node in nodes if id(node) not in bad),
        outputs,
        opsets,
        frozenset(broken.union(value.name for value in inputs if value.name not in kinds)),
        {name: size for name, size in dims.items() if name in counts},
    )


def trip_counts(nodes: Sequence[checks.Node]) -> set[str]:
    """What says how often a Loop runs."""
    loops = (node.proto.input for node in nodes if node.operator == "Loop")
    return {inputs[0] for inputs in loops if inputs and inputs[0]}


def parse(path: Path) -> onnx.ModelProto:
    """The protocol buffer in the file, without external data."""
    data = read_bytes(path)
    if not data:
        raise BnnccError(path.name, "the file is empty", "export the model again")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise BnnccError(
            path.name,
            "this is not an ONNX model, or the file was cut short: its protocol buffer cannot be decoded",
            "give a .onnx file, complete",
        ) from error
    if not model.HasField("graph") or not model.ir_version:
        raise BnnccError(path.name, "this is not an ONNX model: it holds no graph", "give a .onnx file")
    if any(isinstance(entry.domain, bytes) for entry in model.opset_import):
        raise BnnccError(path.name, checks.NOT_TEXT, checks.EXPORT_AGAIN)
    return model


def read_bytes(path: Path) -> bytes:
    """The contents of the file, or a diagnostic that says why not."""
    try:
        if path.is_dir():
            is_compiled = (path / "manifest.json").is_file()
            hint = (
                "`bnncc run` and `bench` take what is compiled"
                if is_compiled
                else "give the .onnx file inside it"
            )
            raise BnnccError(str(path), "this is a directory", hint)
        size = path.stat().st_size
        if not path.is_file():
            raise BnnccError(str(path), "this is no ordinary file", "give a .onnx file")
        if size > LARGEST_FILE:
            raise BnnccError(
                str(path),
                f"the file has {size} bytes, but a protocol buffer has at most {LARGEST_FILE}",
                "export the model with external data",
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise BnnccError(str(path), "no such file", "check the path of the model") from None
    except (OSError, ValueError) as error:
        raise BnnccError(str(path), f"the file cannot be read: {error}") from None


def attach_external_data(path: Path, model: onnx.ModelProto) -> None:
    """Put the data that the model keeps in other files of its own folder into its tensors."""
    for tensor in tensors_of(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.raw_data = external_bytes(path, tensor)
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]


def tensors_of(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Every tensor with data in the graph and in its subgraphs: initializers and attributes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
        for inner in checks.subgraphs(node):
            yield from tensors_of(inner)


def external_bytes(path: Path, tensor: TensorProto) -> bytes:
    """The data of a tensor that is kept in another file, which must lie in the model's folder."""
    location = f"{path.name}:{tensor.name}"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if any(isinstance(text, bytes) for text in (tensor.name, *entries, *entries.values())):
        raise BnnccError(path.name, checks.NOT_TEXT, checks.EXPORT_AGAIN)
    source = external_path(path, location, entries.get("location", ""))
    expected = tensor_bytes(tensor, location)
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", expected))
    except ValueError:
        raise BnnccError(location, f"offset or length of the external data is no number: {entries}") from None
    if length != expected or offset < 0:
        raise BnnccError(
            location,
            f"the external data is {length} bytes from {offset} on, but {stated_type(tensor)} takes "
            f"{expected}",
            "export the model again",
        )
    try:
        with source.open("rb") as file:
            file.seek(offset)
            data = file.read(length)
    except OSError as error:
        raise BnnccError(
            location,
            f"the external data file '{source.name}' cannot be read: {error.strerror}",
            "put it beside the model, under the name that it had when it was exported",
        ) from None
    if len(data) != length:
        raise BnnccError(
            location,
            f"the external data file '{source.name}' ends early: {length} bytes at offset {offset} are "
            f"needed, {len(data)} are there",
            "copy the file again, or export the model again",
        )
    return data


def external_path(path: Path, location: str, name: str) -> Path:
    """Where the external data lies; raises BnnccError unless that is inside the model's folder."""
    folder = path.resolve().parent
    if not name or "\0" in name:
        raise BnnccError(location, "the external data names no file", "export the model again")
    target = (folder / name).resolve()
    if Path(name).is_absolute() or not target.is_relative_to(folder):
        raise BnnccError(
            location,
            f"the external data '{name}' lies outside the folder of the model",
            "put the data file into the folder of the model and export again with a relative name",
        )
    return target


def tensor_bytes(tensor: TensorProto, location: str) -> int:
    """How many bytes the data of a tensor takes."""
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except KeyError:
        dtype = np.dtype(object)
    if dtype.kind == "O" or any(size < 0 for size in tensor.dims):
        raise BnnccError(
            location,
            f"external data cannot be {stated_type(tensor)}",
        )
    count = 1
    for size in tensor.dims:
        count *= size
    return count * dtype.itemsize
