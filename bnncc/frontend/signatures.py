# SPDX-License-Identifier: Apache-2.0
"""What operators declare, and what of it a node does not keep to: its inputs, outputs and attributes.

Once a node has passed, whoever reads an attribute of it finds a value of the declared type, and every input
that must be there is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, defs, helper

from bnncc.diagnostics import did_you_mean
from bnncc.frontend import qonnx
from bnncc.frontend.qonnx import FLOAT, INT, STRING

TENSOR_TYPE = re.compile(r"tensor\((\w+)\)")
"""How ONNX's schemas write the type of a tensor."""

ANY = (1 << 31) - 1
"""How ONNX's schemas write that there is no limit."""

TYPES: dict[int, str] = {
    AttributeProto.FLOAT: "a float",
    AttributeProto.INT: "an integer",
    AttributeProto.STRING: "a string",
    AttributeProto.TENSOR: "a tensor",
    AttributeProto.GRAPH: "a graph",
    AttributeProto.FLOATS: "a list of floats",
    AttributeProto.INTS: "a list of integers",
    AttributeProto.STRINGS: "a list of strings",
    AttributeProto.TENSORS: "a list of tensors",
    AttributeProto.GRAPHS: "a list of graphs",
    AttributeProto.SPARSE_TENSOR: "a sparse tensor",
    AttributeProto.TYPE_PROTO: "a type",
}
"""The types of attributes as people say them."""


@dataclass(frozen=True)
class Operand:
    """What an operator declares of an input.

    types: the element types that it may have, as ONNX's schemas spell them. variable: inputs of the same one
    have the same type; "" for one that may differ from all others."""

    name: str
    types: frozenset[str]
    variable: str = ""


@dataclass(frozen=True)
class Signature:
    """What an operator declares.

    inputs, outputs: the least and the greatest number of them. needed: slots of inputs that may not be left
    out. attributes: name -> number of its type in AttributeProto. required: attributes without a default.
    closed: there are no other attributes. operands: the types of the inputs by position, of which the last
    stands for all that follow; none where they are not declared."""

    inputs: tuple[int, int]
    outputs: tuple[int, int] = (1, 1)
    needed: frozenset[int] = frozenset()
    attributes: Mapping[str, int] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    closed: bool = True
    operands: tuple[Operand, ...] = ()


FLOATS: int = AttributeProto.FLOATS

QUANTISERS = {
    operator: Signature(
        (count, count),
        needed=frozenset(range(count)),
        attributes=qonnx.ATTRIBUTES.get(operator, {}),
        closed=False,
    )
    for operator, count in qonnx.INPUTS.items()
}
"""Tools add attributes of their own to these, which change nothing."""

FUSED_DOMAIN = "com.microsoft"

FUSED_SINCE = 11
"""The operators that are fused have had the same attributes since this operator set of ONNX."""

PRODUCT: dict[str, int] = {
    "alpha": FLOAT,
    "transA": INT,
    "transB": INT,
    "transBatchA": INT,
    "transBatchB": INT,
}

FUSED: dict[str, tuple[str, tuple[int, int], dict[str, int]]] = {
    "FusedConv": ("Conv", (2, 4), {"activation": STRING, "activation_params": FLOATS}),
    "FusedGemm": (
        "Gemm",
        (2, 3),
        {"activation": STRING} | {f"activation_{name}": FLOAT for name in ("alpha", "beta", "gamma")},
    ),
    "FusedMatMul": ("", (2, 2), PRODUCT),
    "TransposeMatMul": ("", (2, 2), PRODUCT),
    "Gelu": ("", (1, 1), {}),
    "BiasGelu": ("", (2, 2), {}),
    "FastGelu": ("", (1, 2), {}),
    "QuickGelu": ("", (1, 1), {"alpha": FLOAT}),
    "QLinearAdd": ("", (7, 8), {}),
    "QLinearMul": ("", (7, 8), {}),
    "QLinearSigmoid": ("", (4, 5), {}),
    "QLinearLeakyRelu": ("", (4, 5), {"alpha": FLOAT}),
    "QLinearAveragePool": ("AveragePool", (4, 5), {"channels_last": INT}),
    "QLinearGlobalAveragePool": ("", (4, 5), {"channels_last": INT}),
    "QLinearConcat": ("Concat", (5, 1 << 16), {}),
    "QGemm": ("", (6, 9), {"alpha": FLOAT, "transA": INT, "transB": INT}),
}
"""Operator -> the one of ONNX whose attributes it shares, how many inputs it takes, its own attributes."""


def problem_with(node: onnx.NodeProto, opset: int) -> tuple[str, str] | None:
    """What the node does not keep to of what its operator declares, and a hint ("" where there is none); None
    where nothing is wrong, or nobody knows the operator. opset: the version of its domain."""
    signature = signature_of(node.domain, node.op_type, opset)
    return None if signature is None else next(problems_with(node, signature), None)


def problems_with(node: onnx.NodeProto, signature: Signature) -> Iterator[tuple[str, str]]:
    """Every point in which a node differs from a signature, with a hint."""
    for what, verb, names, (least, most) in (
        ("input", "takes", node.input, signature.inputs),
        ("output", "gives", node.output, signature.outputs),
    ):
        if not least <= len(names) <= most:
            yield f"it has {counted(len(names), what)}, but the operator {verb} {limits(least, most)}", ""
    for slot in sorted(signature.needed):
        if slot < len(node.input) and not node.input[slot]:
            yield f"its input {slot} is missing", ""
    seen: set[str] = set()
    for attribute in node.attribute:
        name, declared = attribute.name, signature.attributes.get(attribute.name)
        if name in seen:
            yield f"it has the attribute '{name}' twice", ""
        seen.add(name)
        if declared is not None and attribute.type != declared:
            given = TYPES.get(attribute.type, "of no known type")
            yield f"its attribute '{name}' must be {TYPES[declared]}, and is {given}", ""
        # Names with two underscores in front are for those who write the file to use as they like.
        elif declared is None and signature.closed and not name.startswith("__"):
            yield f"the operator has no attribute '{name}'", did_you_mean(name, signature.attributes)
    for name in sorted(signature.required - seen):
        yield f"it lacks its attribute '{name}'", ""


def mistyped(node: onnx.NodeProto, opset: int, types: Sequence[np.dtype | None]) -> str:
    """What is wrong with the element types of a node's inputs, "" where they are what its operator declares.

    types: by position, None for an input that is left out. Shape inference looks at few of them."""
    signature = signature_of(node.domain, node.op_type, opset)
    operands = signature.operands if signature else ()
    bound: dict[str, tuple[str, str]] = {}
    for slot, dtype in enumerate(types if operands else ()):
        if dtype is None:
            continue
        operand = operands[min(slot, len(operands) - 1)]
        found = type_name(dtype)
        if found not in operand.types:
            return f"its input '{operand.name}' must be {one_of(operand.types)}, and is {found}"
        first, expected = bound.setdefault(operand.variable or f"input {slot}", (operand.name, found))
        if found != expected:
            return f"its inputs '{first}' and '{operand.name}' are of types {expected} and {found}"
    return ""


def type_name(dtype: np.dtype) -> str:
    """An element type as ONNX's schemas spell it: "float", "int64"."""
    return TensorProto.DataType.Name(helper.np_dtype_to_tensor_dtype(dtype)).lower()


def one_of(types: Iterable[str]) -> str:
    """ "int32 or int64"."""
    *others, last = sorted(types)
    return f"{', '.join(others)} or {last}" if others else last


def counted(count: int, what: str) -> str:
    """ "1 input", "2 inputs", "no inputs"."""
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def limits(least: int, most: int) -> str:
    """How many an operator takes or gives."""
    if most >= ANY:
        return f"at least {least}"
    return str(least) if least == most else f"{least} to {most}"


@cache
def signature_of(domain: str, operator: str, opset: int) -> Signature | None:
    """What an operator of this domain declares in this version, None where nobody knows it."""
    if domain in qonnx.DOMAINS:
        return QUANTISERS.get(operator)
    if domain == FUSED_DOMAIN:
        return fused_signature(operator, opset)
    schema = find_schema(domain, operator, opset)
    return None if schema is None else schema_signature(schema)


def schema_signature(schema: defs.OpSchema) -> Signature:
    """What ONNX's own description of an operator says; inputs left out at the end are not counted."""
    kind = defs.OpSchema.FormalParameterOption
    single = {slot for slot, entry in enumerate(schema.inputs) if entry.option == kind.Single}
    several = {
        slot + entry.min_arity - 1
        for slot, entry in enumerate(schema.inputs)
        if entry.option == kind.Variadic and entry.min_arity
    }
    declared = schema.attributes.items()
    return Signature(
        (1 + max(single | several, default=-1), schema.max_input),
        (schema.min_output, schema.max_output),
        frozenset(single),
        {name: entry.type.value for name, entry in declared},  # type: ignore[attr-defined]
        frozenset(name for name, entry in declared if entry.required),
        operands=tuple(declared_operands(schema)),
    )


def declared_operands(schema: defs.OpSchema) -> Iterator[Operand]:
    """The inputs of an operator; those that it takes any number of stand at the end, once."""
    constraints = {entry.type_param_str: entry.allowed_type_strs for entry in schema.type_constraints}
    for entry in schema.inputs:
        allowed = constraints.get(entry.type_str, [entry.type_str])
        types = frozenset(found[1] for text in allowed if (found := TENSOR_TYPE.fullmatch(text)))
        alone = entry.type_str not in constraints or not entry.is_homogeneous
        yield Operand(entry.name, types, "" if alone else entry.type_str)


def fused_signature(operator: str, opset: int) -> Signature | None:
    """The signature of an operator that ONNX Runtime fuses, of nodes beside those of ONNX's set `opset`."""
    if operator not in FUSED:
        return None
    base, inputs, own = FUSED[operator]
    schema = find_schema("", base, max(opset, FUSED_SINCE)) if base else None
    shared = schema_signature(schema).attributes if schema else {}
    return Signature(inputs, attributes={**shared, **own})


def find_schema(domain: str, operator: str, opset: int) -> defs.OpSchema | None:
    """ONNX's own description of an operator, or None where there is none or it no longer holds."""
    try:
        schema = defs.get_schema(operator, opset, domain)
    except (defs.SchemaError, TypeError):  # TypeError: a version beyond what C++ counts in
        return None
    return None if schema.deprecated else schema


def versions_of(operator: str) -> list[int]:
    """The operator sets in which one of ONNX's own operators came or changed, ascending; none without it."""
    schemas = defs.get_all_schemas_with_history()
    return sorted(
        s.since_version for s in schemas if s.name == operator and not s.domain and not s.deprecated
    )


@cache
def known_operators() -> frozenset[str]:
    """The names of ONNX's own operators."""
    return frozenset(schema.name for schema in defs.get_all_schemas() if schema.domain == "")
