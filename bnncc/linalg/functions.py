# SPDX-License-Identifier: Apache-2.0
"""One operation of a network as a function of upstream MLIR by itself: a kernel of `--backend mlir`.

The function holds what `convert_module` makes of the operation; only its trained numbers are arguments
instead of constants, so that layers of equal shapes share one function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO

import numpy as np
from xdsl.builder import Builder, ImplicitBuilder
from xdsl.dialects import arith, func
from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseIntOrFPElementsAttr,
    DictionaryAttr,
    FunctionType,
    IntegerAttr,
    ModuleOp,
    TensorType,
)
from xdsl.ir import Attribute, Block, BlockArgument, Operation, Region, SSAValue
from xdsl.printer import Printer
from xdsl.rewriter import InsertPoint

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, number_type, numpy_type, shape_of
from bnncc.linalg import builders as b
from bnncc.linalg.bits import Planes
from bnncc.linalg.convert import Converter, flat, is_only_weight
from bnncc.linalg.schedule import parts_of
from bnncc.plan.tiling import Contraction, Packing

NAME = "kernel"
"""What the function is called in its text."""


@dataclass(frozen=True)
class Function:
    """text: a module of one function @kernel. values: what its first arguments stand for, as many for each as
    it has planes. constants: what the others are given. parts: what a schedule is made for."""

    text: str
    values: tuple[SSAValue, ...]
    constants: tuple[np.ndarray, ...]
    parts: tuple[Contraction | Packing, ...]


def operation_function(op: Operation, form: str) -> Function:
    """The function of an operation whose results are the operation's. Operands that are constants are part of
    it. Raises BnnccError for what upstream MLIR has nothing for."""
    values = [v for v in dict.fromkeys(op.operands) if not isinstance(v.owner, ops.Constant)]

    def build(converter: Converter) -> list[SSAValue]:
        converter.operation(op)
        return flat([converter.values[result] for result in op.results])

    known = [v.owner for v in dict.fromkeys(op.operands) if isinstance(v.owner, ops.Constant)]
    return _function(values, [c for c in known if not is_only_weight(c)], build, form)


def copy_function(value: SSAValue, as_numbers: bool) -> Function:
    """The function that gives a value back: in its planes, or as the numbers that it stands for."""

    def build(converter: Converter) -> list[SSAValue]:
        found = converter.values[value]
        if as_numbers and isinstance(found, Planes):
            found = found.numbers(number_type(np.dtype(numpy_type(element_of(value)))))
        return flat([found])

    if isinstance(value.owner, ops.Constant):
        return _function([], [value.owner], build, "direct")
    return _function([value], [], build, "direct")


def zeros_function(like: SSAValue) -> Function:
    """The function that gives zeros for every tensor that a value is."""

    def build(converter: Converter) -> list[SSAValue]:
        return flat([converter.stack(like, filled=True)])

    return _function([], [], build, "direct")


def _function(
    values: Sequence[SSAValue],
    constants: Sequence[ops.Constant],
    build: Callable[[Converter], list[SSAValue]],
    form: str,
) -> Function:
    converter, block = Converter(form), Block()
    for value in values:
        converter.values[value] = converter.argument(block, value)
    with converter.inside(block):
        for constant in constants:
            converter.values[constant.result] = converter.constant(constant)
        results = [_made(value) for value in build(converter)]
        func.ReturnOp(*results)
    arrays = _outside(block)
    kinds = ([argument.type for argument in block.args], [value.type for value in results])
    # Bufferization would write into arguments that nothing reads any more.
    read_only = DictionaryAttr({"bufferization.writable": IntegerAttr.from_bool(False)})
    attributes = ArrayAttr([read_only] * len(block.args))
    function = func.FuncOp(NAME, FunctionType.from_lists(*kinds), Region(block), arg_attrs=attributes)
    found = tuple(parts_of(function))
    return Function(_text(function), tuple(values), tuple(arrays), found)


def _made(value: SSAValue) -> SSAValue:
    """The value, copied if it is an argument: mlir-opt 19 crashes where functions return those."""
    if isinstance(value, BlockArgument):
        return b.copied(value, b.empty(shape_of(value), element_of(value)))
    return value


def _text(function: func.FuncOp) -> str:
    """Without locations and names of values, which would tell equal functions apart."""
    for op in function.walk():
        for result in op.results:
            result.name_hint = None
    stream = StringIO()
    Printer(stream).print_op(ModuleOp([function]))
    return stream.getvalue() + "\n"


def _outside(block: Block) -> list[np.ndarray]:
    """Make arguments of the tensors of trained numbers, each once; what is one number all over is a fill."""
    found: dict[Attribute, SSAValue] = {}
    arrays: list[np.ndarray] = []
    for op in [op for op in block.walk() if isinstance(op, arith.ConstantOp)]:
        if not isinstance(op.value, DenseIntOrFPElementsAttr):
            continue
        if op.value not in found:
            type_ = op.value.type
            assert isinstance(type_, TensorType)
            array = np.frombuffer(op.value.data.data, numpy_type(type_.element_type))
            array = array.reshape(shape_of(op.result))
            if (array == array.flat[0]).all():
                op.result.replace_all_uses_with(_filled(op, array))
                op.detach()
                continue
            found[op.value] = block.insert_arg(type_, len(block.args))
            arrays.append(array)
        op.result.replace_all_uses_with(found[op.value])
        op.detach()
    return arrays


def _filled(op: arith.ConstantOp, array: np.ndarray) -> SSAValue:
    with ImplicitBuilder(Builder(InsertPoint.before(op))):
        return b.filled(array.shape, array.flat[0], element_of(op.result))
