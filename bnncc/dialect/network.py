# SPDX-License-Identifier: Apache-2.0
"""The network in a module: its function and the ONNX names of what goes in and comes out."""

from __future__ import annotations

from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp

INPUTS = "bnn.inputs"
OUTPUTS = "bnn.outputs"
"""Attributes of func @main that hold the ONNX names, an array of strings each."""


def main_function(module: ModuleOp) -> FuncOp:
    """The function of the network."""
    functions = [op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == "main"]
    assert len(functions) == 1, "a module has one func @main"
    return functions[0]


def names_of(main: FuncOp, attribute: str) -> list[str]:
    """The ONNX names in attribute INPUTS or OUTPUTS; arg0... or out0... where it is absent."""
    names = main.attributes.get(attribute)
    if isinstance(names, ArrayAttr):
        return [name.data for name in names.data if isinstance(name, StringAttr)]
    count = len(main.function_type.inputs if attribute == INPUTS else main.function_type.outputs)
    prefix = "arg" if attribute == INPUTS else "out"
    return [f"{prefix}{i}" for i in range(count)]
