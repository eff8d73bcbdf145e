# SPDX-License-Identifier: Apache-2.0
"""A file of our own dialect as text -> a module that was looked at as strictly as an ONNX file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, NameLoc, NoneAttr, StringAttr, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Operation
from xdsl.utils.exceptions import ParseError, VerifyException

from bnncc.diagnostics import BnnccError
from bnncc.dialect import BNN
from bnncc.dialect.network import INPUTS, OUTPUTS, names_of
from bnncc.dialect.operations import Constant, Fused
from bnncc.dialect.parsing import ELIDED, ELIDED_HINT, parse_module
from bnncc.dialect.sources import location_text
from bnncc.dialect.types import element_of, is_number, numpy_type, shape_of
from bnncc.frontend.checks import raise_problems

SUFFIX = ".mlir"
LARGEST_FILE = 1 << 31
LARGEST_TENSOR = 1 << 31
"""Bytes; what is larger is damaged, or no network for a device."""

OPERATIONS = (ReturnOp, *BNN.operations)
"""What a function may hold."""


def load_mlir(path: str | os.PathLike[str]) -> ModuleOp:
    """The module in a file of MLIR text: one func @main of operations of `bnn`, as `--emit mlir` writes it,
    before or after the passes. Operations without a location get the file's name and their own.

    Raises BnnccError for whatever is wrong with the file; independent problems are told together."""
    path = Path(path)
    module = _parse(path, _read(path))
    raise_problems(list(_problems(module, path.name)))
    for op in module.walk():
        if not location_text(op):
            op.location = NameLoc(StringAttr(f"{path.name}:{op.name}"), NoneAttr())
    return module


def is_fused(module: ModuleOp) -> bool:
    """Whether the passes have run: kernels are regions already."""
    return any(isinstance(op, Fused) for op in module.walk())


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise BnnccError(str(path), f"the file is larger than {LARGEST_FILE >> 30} GiB")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"the file cannot be read: {error.strerror}"
        raise BnnccError(str(path), message, "check the path") from error
    except UnicodeDecodeError as error:
        raise BnnccError(str(path), "the file is no text", "MLIR bytecode must be printed as text") from error


def _parse(path: Path, text: str) -> ModuleOp:
    """Raises BnnccError with the line that the parser or the verifier did not like."""
    try:
        return parse_module(text, path.name)
    except ParseError as error:
        line = text.count("\n", 0, error.span.start) + 1
        raise BnnccError(f"{path.name}:{line}", error.msg, "the grammar is that of MLIR") from error
    except VerifyException as error:
        message = str(error).strip().splitlines()[-1]
        hint = ELIDED_HINT if ELIDED in text else ""
        raise BnnccError(path.name, f"the module is not valid: {message}", hint) from error
    except RecursionError:
        raise BnnccError(path.name, "its regions or types are nested too deeply") from None
    except Exception as error:
        # xDSL's parser meets what it has not thought of with exceptions of any kind.
        message = f"the file cannot be parsed: {error}"
        raise BnnccError(path.name, message, "the grammar is that of MLIR") from error


def _problems(module: ModuleOp, file: str) -> Iterator[BnnccError]:
    functions = [op for op in module.ops if isinstance(op, FuncOp)]
    if len(functions) != 1 or len(list(module.ops)) != 1 or functions[0].sym_name.data != "main":
        yield BnnccError(file, "a network is one func @main and nothing else")
        return
    (main,) = functions
    if len(main.body.blocks) != 1:
        yield BnnccError(file, "func @main has no body, or one with branches")
        return
    for attribute, types in ((INPUTS, main.function_type.inputs), (OUTPUTS, main.function_type.outputs)):
        yield from _port_problems(main, attribute, list(types), file)
    for op in main.walk():
        if op is not main:
            yield from _operation_problems(op, file)


def _port_problems(main: FuncOp, attribute: str, types: list[Attribute], file: str) -> Iterator[BnnccError]:
    names = names_of(main, attribute)
    given = main.attributes.get(attribute)
    well_formed = given is None or (
        isinstance(given, ArrayAttr) and all(isinstance(name, StringAttr) for name in given.data)
    )
    if not well_formed or len(names) != len(types) or len(set(names)) != len(names) or "" in names:
        message = f"expected {len(types)} different names as {attribute}, got {given}"
        yield BnnccError(file, message)
        return
    if attribute == OUTPUTS and not types:
        yield BnnccError(file, "func @main has no results")
    for name, type_ in zip(names, types, strict=True):
        if not isinstance(type_, TensorType) or not is_number(type_.get_element_type()):
            yield BnnccError(f"{file}:{name}", f"expected a tensor of numbers, got {type_}")


def _operation_problems(op: Operation, file: str) -> Iterator[BnnccError]:
    where = location_text(op) or f"{file}:{op.name}"
    if not isinstance(op, OPERATIONS):
        yield BnnccError(where, f"{op.name} is no operation of bnn", "a network is made of bnn.* operations")
        return
    blocks = [block for region in op.regions for block in region.blocks]
    for value in (*op.results, *(argument for block in blocks for argument in block.args)):
        if not isinstance(value.type, TensorType):
            yield BnnccError(where, f"expected tensors, got {value.type}")
            return
        if any(extent < 1 for extent in shape_of(value)):
            yield BnnccError(where, f"shapes must be static and not empty, got {value.type}")
            return
        element = element_of(value)
        try:
            size = math.prod(shape_of(value)) * np.dtype(numpy_type(element)).itemsize
        except KeyError:
            yield BnnccError(where, f"values of type {element} are not supported")
            return
        if size > LARGEST_TENSOR:
            yield BnnccError(where, f"{value.type} is larger than {LARGEST_TENSOR >> 30} GiB")
            return
    if isinstance(op, Constant) and op.array.dtype.kind == "f" and np.isnan(op.array).any():
        yield BnnccError(where, "its numbers are not all numbers (NaN)", "train or export the model again")
