# SPDX-License-Identifier: Apache-2.0
"""Operations again, of other shapes: what passes that change how loops over time are cut share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.sources import SOURCE
from bnncc.dialect.time import Neuron
from bnncc.dialect.types import element_of, shape_of, tensor

Shape = tuple[int, ...]
Reshape = Callable[[Shape], Shape]
"""The new shape of a value, by its old one."""

Recut = Callable[[np.ndarray], np.ndarray]
"""The new numbers of a constant."""


def with_types(op: Operation, operands: Sequence[SSAValue], types: Sequence[Attribute]) -> Operation:
    """The same operation of other operands, with results of other types; it equals no tensor of the graph."""
    attributes = {key: value for key, value in op.attributes.items() if key != SOURCE}
    new = op.create(
        operands=list(operands),
        result_types=list(types),
        properties=dict(op.properties),
        attributes=attributes,
    )
    new.location = op.location
    return new


def constant_like(op: ops.Constant, array: np.ndarray) -> ops.Constant:
    """A constant of other numbers of the same type."""
    new = ops.Constant(array, element_of(op.result))
    new.location = op.location
    return new


def with_shapes(op: Operation, operands: Sequence[SSAValue], shape: Reshape, array: Recut) -> Operation:
    """The same element-wise operation, constant or neuron, its values of other shapes."""
    if isinstance(op, ops.Constant):
        return constant_like(op, array(op.array))
    if isinstance(op, Neuron):
        inputs, states = operands[: len(op.inputs)], operands[len(op.inputs) :]
        new = Neuron(inputs, states, Region(block_with_shapes(op.block, shape, array)), op.kind.data)
        new.properties.update(op.properties)
        new.location = op.location
        return new
    types = [tensor(shape(shape_of(result)), element_of(result)) for result in op.results]
    return with_types(op, operands, types)


def block_with_shapes(block: Block, shape: Reshape, array: Recut) -> Block:
    """A copy of a body, its arguments and values of other shapes."""
    new = Block(arg_types=[tensor(shape(shape_of(value)), element_of(value)) for value in block.args])
    values: dict[SSAValue, SSAValue] = dict(zip(block.args, new.args, strict=True))
    for op in block.ops:
        operands = [values[operand] for operand in op.operands]
        copy = ops.Yield(operands) if isinstance(op, ops.Yield) else with_shapes(op, operands, shape, array)
        new.add_op(copy)
        values.update(zip(op.results, copy.results, strict=True))
    return new
