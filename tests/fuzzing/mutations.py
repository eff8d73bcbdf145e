# SPDX-License-Identifier: Apache-2.0
"""Models that are wrong on purpose: good ones with bytes or parts changed at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, defs, helper, numpy_helper
from onnx.checker import ValidationError

from tests.cases import HERE, case_names, read_model
from tests.random_networks import Generator

LARGEST_CASE = 200_000
"""Bytes of the largest recorded model that is damaged."""

NUMBERS = (0, 1, -1, 2, 3, 7, 100, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63), -100)
TYPES = (*range(0, 24), 999)
TEXTS = (
    "",
    "x",
    "a" * 100_000,
    "../../etc/passwd",
    "\n\t\"'%s{}",
    "名前",
    "a\0b",
    "NOTSET",
    "SAME_UPPER",
    "constant",
)
SHAPING = (
    "Reshape",
    "Expand",
    "Tile",
    "ConstantOfShape",
    "Range",
    "Pad",
    "Resize",
    "Slice",
    "Gather",
    "OneHot",
)


@cache
def bases() -> tuple[bytes, ...]:
    """Recorded models that are small."""
    folders = [HERE / name for name in case_names("*")]
    models = (read_model(folder) for folder in folders if (folder / "model.onnx.xz").exists())
    return tuple(model for model in models if len(model) <= LARGEST_CASE)


@cache
def operators() -> tuple[str, ...]:
    """Every operator of ONNX itself."""
    return tuple(sorted({schema.name for schema in defs.get_all_schemas() if schema.domain == ""}))


class Mutator:
    """Draws one model by its number."""

    def __init__(self, number: int):
        self.rng = np.random.default_rng((number, 1))
        self.number = number

    def pick(self, options: Sequence):
        """One of them."""
        return options[int(self.rng.integers(len(options)))]

    def base(self) -> bytes:
        """A good model: a recorded one or a random network."""
        if self.rng.random() < 0.3:
            return self.pick(bases())
        return Generator(int(self.rng.integers(1 << 30))).model().SerializeToString()

    def model(self) -> bytes:
        """The bytes of the file. One in ten is left as it is."""
        data = self.base()
        kind = self.rng.random()
        if kind < 0.1:
            return data
        if kind < 0.8:
            data = self.damaged_structure(data)
        if kind > 0.75:
            data = self.damaged_bytes(data)
        return data

    def damaged_bytes(self, data: bytes) -> bytes:
        """Bits flipped, pieces cut, doubled, or taken from elsewhere."""
        damaged = bytearray(data)
        for _ in range(self.rng.integers(1, 5)):
            size = max(len(damaged), 1)
            start = int(self.rng.integers(size))
            # What stands in front says more than the weights do.
            if self.rng.random() < 0.5:
                start = min(start, int(self.rng.integers(4000)))
            stop = start + int(self.rng.integers(1, 200))
            match self.pick(["flip", "byte", "cut", "remove", "double", "splice"]):
                case "flip" if start < len(damaged):
                    damaged[start] ^= 1 << int(self.rng.integers(8))
                case "byte" if start < len(damaged):
                    damaged[start] = int(self.rng.integers(256))
                case "cut" if self.rng.random() < 0.3:
                    del damaged[start:]
                case "remove":
                    del damaged[start:stop]
                case "double":
                    damaged[start:start] = damaged[start:stop]
                case "splice":
                    other = self.base()
                    place = int(self.rng.integers(max(len(other), 1)))
                    damaged[start:stop] = other[place : place + stop - start]
        return bytes(damaged)

    def damaged_structure(self, data: bytes) -> bytes:
        """One to three parts changed, of a model that can still be written."""
        model = ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError:
            return data
        for _ in range(self.rng.integers(1, 4)):
            change = self.pick(CHANGES)
            try:
                change(self, model)
            except (ValueError, TypeError, IndexError, OverflowError, DecodeError, ValidationError):
                continue  # there is nothing of the kind, it takes no such value, or lies elsewhere
        return model.SerializeToString()

    def text(self) -> str:
        """A string for a name."""
        return self.pick(TEXTS)

    def number_of(self) -> int:
        """An integer, often absurd."""
        return int(self.pick(NUMBERS)) if self.rng.random() < 0.7 else int(self.rng.integers(-5, 40))

    def node(self, model: ModelProto) -> NodeProto:
        """One node of the graph."""
        return self.pick(model.graph.node)

    def initializer(self, model: ModelProto) -> TensorProto:
        """One initializer of the graph."""
        return self.pick(model.graph.initializer)

    def value(self, model: ModelProto) -> str:
        """The name of a value of the graph."""
        names = [name for node in model.graph.node for name in (*node.input, *node.output)]
        return self.pick(names)

    def constant(self, model: ModelProto, array: np.ndarray) -> str:
        """The name of a new initializer."""
        name = f"constant{len(model.graph.initializer)}"
        model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name


# --- nodes -----------------------------------------------------------------------------------------------


def drop_node(m: Mutator, model: ModelProto) -> None:
    del model.graph.node[int(m.rng.integers(len(model.graph.node)))]


def double_node(m: Mutator, model: ModelProto) -> None:
    model.graph.node.append(m.node(model))


def shuffle_nodes(m: Mutator, model: ModelProto) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes[int(i)] for i in m.rng.permutation(len(nodes)))


def change_operator(m: Mutator, model: ModelProto) -> None:
    m.node(model).op_type = m.pick(operators()) if m.rng.random() < 0.8 else m.text()


def change_domain(m: Mutator, model: ModelProto) -> None:
    m.node(model).domain = m.pick(["", "ai.onnx", "qonnx.custom_op.general", "com.microsoft", "x", m.text()])


def rewire(m: Mutator, model: ModelProto) -> None:
    """Reads another value: a wrong shape, or a cycle."""
    node = m.node(model)
    node.input[int(m.rng.integers(len(node.input)))] = m.value(model)


def rename_value(m: Mutator, model: ModelProto) -> None:
    node = m.node(model)
    names = node.output if m.rng.random() < 0.5 else node.input
    names[int(m.rng.integers(len(names)))] = m.text()


def change_arity(m: Mutator, model: ModelProto) -> None:
    names = m.pick([m.node(model).input, m.node(model).output])
    if m.rng.random() < 0.5:
        del names[int(m.rng.integers(len(names))) :]
    else:
        names.append(m.pick(["", m.value(model), m.text()]))


def rename_node(m: Mutator, model: ModelProto) -> None:
    m.node(model).name = m.text()


def insert_node(m: Mutator, model: ModelProto) -> None:
    """An operator between two others, with constants that decide its shape."""
    reader, operator = m.node(model), m.pick(SHAPING) if m.rng.random() < 0.6 else m.pick(operators())
    place = int(m.rng.integers(len(reader.input)))
    numbers = [np.array([m.number_of() for _ in range(m.pick([0, 1, 2, 4, 8]))]) for _ in range(3)]
    extra = [m.constant(model, array.astype(np.int64)) for array in numbers[: int(m.rng.integers(0, 4))]]
    inputs = [reader.input[place], *extra] if operator not in ("ConstantOfShape", "Range") else extra
    name = f"inserted{len(model.graph.node)}"
    model.graph.node.append(helper.make_node(operator, inputs, [name], name=name))
    reader.input[place] = name


# --- attributes ------------------------------------------------------------------------------------------


def attribute(m: Mutator, model: ModelProto) -> AttributeProto:
    """One attribute of some node."""
    return m.pick([a for node in model.graph.node for a in node.attribute])


def change_numbers(m: Mutator, model: ModelProto) -> None:
    found = attribute(m, model)
    if found.ints:
        found.ints[int(m.rng.integers(len(found.ints)))] = m.number_of()
    else:
        found.i = m.number_of()
        found.f = m.pick([0.0, -1.0, 1e38, float("inf"), float("nan")])


def change_length(m: Mutator, model: ModelProto) -> None:
    found = attribute(m, model)
    if m.rng.random() < 0.5:
        del found.ints[int(m.rng.integers(max(1, len(found.ints)))) :]
    else:
        found.ints.extend([m.number_of()] * m.pick([1, 2, 1000]))


def change_attribute_type(m: Mutator, model: ModelProto) -> None:
    attribute(m, model).type = m.pick(AttributeProto.AttributeType.values())


def change_attribute_name(m: Mutator, model: ModelProto) -> None:
    attribute(m, model).name = m.pick(["axis", "pads", "group", "strides", "to", "value", m.text()])


def drop_attribute(m: Mutator, model: ModelProto) -> None:
    node = m.pick([node for node in model.graph.node if node.attribute])
    del node.attribute[int(m.rng.integers(len(node.attribute)))]


def add_attribute(m: Mutator, model: ModelProto) -> None:
    name = m.pick(
        ["axis", "axes", "pads", "group", "strides", "kernel_shape", "auto_pad", "to", "value", "mode"]
    )
    value = m.pick([m.number_of(), [m.number_of()] * 4, 0.5, m.text(), [1, 1], np.zeros(2, np.float32)])
    tensor = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
    m.node(model).attribute.append(helper.make_attribute(name, tensor))


def function_attribute(m: Mutator, model: ModelProto) -> None:
    attribute(m, model).ref_attr_name = "alpha"


def nest(m: Mutator, model: ModelProto) -> None:
    """Subgraphs in subgraphs."""
    graph = GraphProto(name="inner")
    graph.node.append(helper.make_node("Relu", ["x"], ["inner"]))
    for _ in range(m.pick([1, 5, 30, 90])):
        outer = GraphProto(name="outer")
        outer.node.append(helper.make_node("If", [m.value(model)], ["nested"], then_branch=graph))
        graph = outer
    m.node(model).attribute.append(helper.make_attribute("then_branch", graph))


def recurse(m: Mutator, model: ModelProto) -> None:
    """Functions that call each other."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    depth = m.pick([1, 3, 40])
    for level in range(depth):
        call = helper.make_node(f"F{(level + 1) % (depth + m.pick([0, 1]))}", ["a"], ["b"], domain="mine")
        model.functions.append(helper.make_function("mine", f"F{level}", ["a"], ["b"], [call], opsets))
    model.opset_import.append(opsets[1])
    m.node(model).op_type, m.node(model).domain = "F0", "mine"


def lengthen(m: Mutator, model: ModelProto) -> None:
    """A long chain of cheap nodes."""
    reader = m.node(model)
    place, name = int(m.rng.integers(len(reader.input))), "chain"
    length, operator = m.pick([50, 400]), m.pick(["Relu", "Neg", "Sign", "Identity", "Transpose", "Add"])
    start = reader.input[place]
    for index in range(length):
        inputs = [start, start] if operator == "Add" else [start]
        model.graph.node.append(helper.make_node(operator, inputs, [f"{name}{index}"]))
        start = f"{name}{index}"
    reader.input[place] = start


# --- tensors ---------------------------------------------------------------------------------------------


def change_dims(m: Mutator, model: ModelProto) -> None:
    dims = m.initializer(model).dims
    match m.pick(["change", "drop", "add"]):
        case "change":
            dims[int(m.rng.integers(len(dims)))] = m.number_of()
        case "drop":
            del dims[int(m.rng.integers(len(dims)))]
        case "add":
            dims.append(m.number_of())


def change_data_type(m: Mutator, model: ModelProto) -> None:
    m.initializer(model).data_type = m.pick(TYPES)


def recast(m: Mutator, model: ModelProto) -> None:
    """A right tensor of another type."""
    tensor = m.initializer(model)
    dtype = m.pick([np.float64, np.float16, np.int32, np.int64, np.uint8, np.bool_])
    with np.errstate(all="ignore"):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))


def change_values(m: Mutator, model: ModelProto) -> None:
    tensor = m.initializer(model)
    array = numpy_helper.to_array(tensor).copy()
    special = [0, 1, -1] if array.dtype.kind != "f" else [0, np.nan, np.inf, -np.inf, 1e38, 1e-45, -1]
    share = m.pick([0.01, 0.5, 1.0])
    array[m.rng.random(array.shape) < share] = m.pick(special) if array.dtype.kind == "f" else m.number_of()
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def cut_data(m: Mutator, model: ModelProto) -> None:
    tensor = m.initializer(model)
    tensor.raw_data = tensor.raw_data[: int(m.rng.integers(max(1, len(tensor.raw_data))))]


def mix_data(m: Mutator, model: ModelProto) -> None:
    tensor = m.initializer(model)
    tensor.float_data.extend([1.0, 2.0])
    tensor.string_data.append(b"\xff")


def externalize(m: Mutator, model: ModelProto) -> None:
    tensor = m.initializer(model)
    tensor.data_location = TensorProto.EXTERNAL
    names = [
        "model.onnx",
        "../secret",
        "/etc/passwd",
        "/dev/zero",
        ".",
        "",
        "a\0b",
        "weights.bin",
        "x" * 5000,
    ]
    tensor.external_data.add(key="location", value=m.pick(names))
    tensor.external_data.add(key="offset", value=str(m.pick([m.number_of(), "many", "1e3"])))
    if m.rng.random() < 0.5:
        tensor.external_data.add(key="length", value=str(m.number_of()))


def drop_initializer(m: Mutator, model: ModelProto) -> None:
    del model.graph.initializer[int(m.rng.integers(len(model.graph.initializer)))]


def double_initializer(m: Mutator, model: ModelProto) -> None:
    model.graph.initializer.append(m.initializer(model))


def sparse(m: Mutator, model: ModelProto) -> None:
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [m.number_of()])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [m.number_of()]))


# --- the graph's face ------------------------------------------------------------------------------------


def change_input_shape(m: Mutator, model: ModelProto) -> None:
    dims = m.pick(model.graph.input).type.tensor_type.shape.dim
    match m.pick(["number", "symbol", "drop", "add", "clear"]):
        case "number":
            m.pick(dims).dim_value = m.number_of()
        case "symbol":
            m.pick(dims).dim_param = m.pick(["N", "height", m.text()])
        case "drop":
            del dims[int(m.rng.integers(len(dims)))]
        case "add":
            dims.add().dim_value = m.number_of()
        case "clear":
            m.pick(dims).Clear()


def change_input_type(m: Mutator, model: ModelProto) -> None:
    chosen = m.pick(model.graph.input).type
    if m.rng.random() < 0.8:
        chosen.tensor_type.elem_type = m.pick(TYPES)
    else:
        chosen.CopyFrom(helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [1])))


def change_ports(m: Mutator, model: ModelProto) -> None:
    ports = m.pick([model.graph.input, model.graph.output])
    match m.pick(["drop", "double", "rename", "add"]):
        case "drop":
            del ports[int(m.rng.integers(len(ports)))]
        case "double":
            ports.append(m.pick(ports))
        case "rename":
            m.pick(ports).name = m.pick([m.text(), m.value(model)])
        case "add":
            ports.append(helper.make_tensor_value_info(m.value(model), m.pick(TYPES[:17]), [m.number_of()]))


def change_opset(m: Mutator, model: ModelProto) -> None:
    entry = m.pick(model.opset_import)
    if m.rng.random() < 0.8:
        entry.version = m.pick([7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, m.number_of()])
    else:
        entry.domain = m.text()


def drop_opsets(m: Mutator, model: ModelProto) -> None:
    del model.opset_import[:]


def change_ir_version(m: Mutator, model: ModelProto) -> None:
    model.ir_version = m.number_of()


def name_twice(m: Mutator, model: ModelProto) -> None:
    m.node(model).output[0] = m.value(model)


CHANGES: tuple[Callable[[Mutator, ModelProto], None], ...] = (
    *(drop_node, double_node, shuffle_nodes, change_operator, change_operator, change_domain, rewire, rewire),
    *(rename_value, change_arity, rename_node, insert_node, insert_node, insert_node, change_numbers),
    *(change_numbers, change_length, change_attribute_type, change_attribute_name, drop_attribute),
    *(add_attribute, add_attribute, function_attribute, nest, recurse, lengthen, change_dims, change_dims),
    *(change_data_type, recast, change_values, change_values, cut_data, mix_data, externalize),
    *(drop_initializer, double_initializer, sparse, change_input_shape, change_input_shape),
    *(
        change_input_type,
        change_ports,
        change_ports,
        change_opset,
        drop_opsets,
        change_ir_version,
        name_twice,
    ),
)
"""What may happen to a model; what stands here twice happens more often."""
