# SPDX-License-Identifier: Apache-2.0
"""Short names for what the conversion builds: constants, tensors, linalg.generic.

All of them append to the block of the `ImplicitBuilder` that is open. Shapes are static.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from xdsl.builder import ImplicitBuilder
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AffineMapAttr,
    AnyFloat,
    ArrayAttr,
    BytesAttr,
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    Signedness,
    StringAttr,
    TensorType,
    i32,
    i64,
)
from xdsl.dialects.linalg.attrs import IteratorTypeAttr
from xdsl.dialects.linalg.ops import CopyOp, FillOp, GenericOp, IndexOp, YieldOp
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from bnncc.dialect.types import element_of, shape_of

Body = Callable[..., Sequence[SSAValue]]
"""From the elements of the inputs and of the results so far to the elements of the results."""


def signless(element: Attribute) -> Attribute:
    """The type that arith takes for a number: unsigned integers are a matter of operations there."""
    if isinstance(element, IntegerType) and element.signedness.data is not Signedness.SIGNLESS:
        return IntegerType(element.width.data)
    return element


def scalar(value: float, kind: Attribute = i32) -> SSAValue:
    """A number known now."""
    if isinstance(kind, AnyFloat):
        return arith.ConstantOp(FloatAttr(float(value), kind)).result
    assert isinstance(kind, IntegerType | IndexType)
    return arith.ConstantOp(IntegerAttr(int(value), kind)).result


def index(value: int) -> SSAValue:
    """A number of type index."""
    return scalar(value, IndexType())


def constant(array: np.ndarray, kind: Attribute) -> SSAValue:
    """A tensor of numbers known now, of the signless type of `kind`; booleans must be given as i8.

    Made from bytes, as one number after the other takes a second for a million."""
    type_ = TensorType(signless(kind), list(array.shape))
    data = BytesAttr(np.ascontiguousarray(array).tobytes())
    return arith.ConstantOp(DenseIntOrFPElementsAttr(type_, data)).result  # type: ignore[arg-type]


def words(array: np.ndarray) -> SSAValue:
    """A constant tensor of packed bits, i32."""
    return constant(array.astype("<u4").view("<i4"), i32)


def empty(shape: Sequence[int], kind: Attribute) -> SSAValue:
    """A tensor that something will be written to."""
    return tensor.EmptyOp((), TensorType(kind, list(shape))).tensor


def filled(shape: Sequence[int], value: float, kind: Attribute = i32) -> SSAValue:
    """A tensor of one number."""
    return FillOp([scalar(value, kind)], [empty(shape, kind)]).res[0]


def loops(count: int) -> list[str]:
    """Names for as many loops: d0 d1 d2..."""
    return [f"d{i}" for i in range(count)]


def generic(
    inputs: Sequence[SSAValue],
    outputs: Sequence[SSAValue],
    names: Sequence[str],
    maps: Sequence[Sequence[str]],
    reductions: Sequence[str],
    body: Body,
    library_call: str = "",
) -> Sequence[SSAValue]:
    """linalg.generic over the loops `names`.

    maps: for every input, then every output, one index a dimension: a loop, a sum of multiples such as
    "2*h + r", or "0". reductions: the loops that results do not have."""
    affine = [
        AffineMapAttr(AffineMap(len(names), 0, tuple(_expression(term, names) for term in m))) for m in maps
    ]
    kinds = [
        IteratorTypeAttr.reduction() if name in reductions else IteratorTypeAttr.parallel() for name in names
    ]
    block = Block(arg_types=[element_of(value) for value in (*inputs, *outputs)])
    with ImplicitBuilder(block):
        YieldOp(*body(*block.args))
    call = StringAttr(library_call) if library_call else None
    types = [value.type for value in outputs]
    return GenericOp(inputs, outputs, Region(block), affine, kinds, types, library_call=call).res


def _expression(term: str, names: Sequence[str]) -> AffineExpr:
    total = AffineExpr.constant(0)
    for product in term.replace(" ", "").split("+"):
        factor, _, name = product.rpartition("*")
        if name.isdigit():
            part = AffineExpr.constant(int(name))
        else:
            part = AffineExpr.dimension(names.index(name)) * int(factor or 1)
        total = total + part
    return total.simplify(len(names), 0)


def elementwise(
    inputs: Sequence[SSAValue], shape: Sequence[int], kinds: Sequence[Attribute], body: Body
) -> Sequence[SSAValue]:
    """linalg.generic at each position of `shape`; inputs are broadcast to it as in NumPy. `body` takes the
    elements of the inputs only."""
    names = loops(len(shape))
    maps = [broadcast_map(shape_of(value), shape, names) for value in inputs]
    outputs = [empty(shape, kind) for kind in kinds]
    return generic(
        inputs, outputs, names, [*maps, *([names] * len(kinds))], (), lambda *args: body(*args[: len(inputs)])
    )


def broadcast_map(shape: Sequence[int], result: Sequence[int], names: Sequence[str]) -> list[str]:
    """Where an operand of this shape is read; its dimensions align at the right, and stay at 0 where they are
    1 and the result's are not."""
    missing = len(result) - len(shape)
    aligned = zip(shape, result[missing:], names[missing:], strict=True)
    return [name if extent == full else "0" for extent, full, name in aligned]


def here(axis: int) -> SSAValue:
    """The position along an axis, inside a generic."""
    return IndexOp(axis).result


def collapse(value: SSAValue, groups: Sequence[Sequence[int]]) -> SSAValue:
    """Dimensions merged group by group."""
    shape = shape_of(value)
    merged = TensorType(element_of(value), [math.prod(shape[d] for d in group) for group in groups])
    properties = {"reassociation": _reassociation(groups)}
    return tensor.CollapseShapeOp.build(operands=[value], result_types=[merged], properties=properties).result


def expand(value: SSAValue, groups: Sequence[Sequence[int]], shape: Sequence[int]) -> SSAValue:
    """Dimensions split: dimension i into those of `shape` that groups[i] names."""
    type_ = TensorType(element_of(value), list(shape))
    return tensor.ExpandShapeOp(value, (), _reassociation(groups), list(shape), type_).result


def _reassociation(groups: Sequence[Sequence[int]]) -> ArrayAttr[ArrayAttr[IntegerAttr]]:
    return ArrayAttr([ArrayAttr([IntegerAttr(d, i64) for d in group]) for group in groups])


def reshape(value: SSAValue, shape: Sequence[int]) -> SSAValue:
    """The same elements in row-major order in another shape."""
    if tuple(shape) == shape_of(value):
        return value
    rank = len(shape_of(value))
    row = value if rank == 1 else collapse(value, [range(rank)]) if rank else expand(value, [], [1])
    if len(shape) == 1:
        return row
    if not shape:
        return collapse(row, [])
    return expand(row, [range(len(shape))], shape)


def extract(value: SSAValue, start: Sequence[int], shape: Sequence[int]) -> SSAValue:
    """A box of a tensor."""
    if tuple(shape) == shape_of(value):
        return value
    return tensor.ExtractSliceOp.from_static_parameters(value, list(start), list(shape)).result


def copied(value: SSAValue, place: SSAValue) -> SSAValue:
    """The value, written over the tensor `place`."""
    return CopyOp([value], [place], [value.type]).res[0]


def insert(value: SSAValue, whole: SSAValue, start: Sequence[int]) -> SSAValue:
    """The tensor `whole` with a box of it replaced.

    The value is copied into a slice of `whole`: inserted by itself it would become a memref.copy of strided
    memory, which calls a library that not every MLIR comes with."""
    shape = shape_of(value)
    if shape == shape_of(whole):
        return value
    part = copied(value, extract(whole, start, shape))
    return tensor.InsertSliceOp.from_static_parameters(part, whole, list(start), list(shape)).result


def extract_at(sequence: SSAValue, step: SSAValue) -> SSAValue:
    """The element `step` of the first dimension, which goes."""
    shape = shape_of(sequence)
    inner = len(shape) - 1
    result = TensorType(element_of(sequence), list(shape[1:]))
    return tensor.ExtractSliceOp(
        sequence, [step, *([0] * inner)], [1, *shape[1:]], [1] * (inner + 1), result
    ).result


def insert_at(value: SSAValue, sequence: SSAValue, step: SSAValue) -> SSAValue:
    """The sequence with element `step` of its first dimension replaced."""
    shape = shape_of(sequence)
    inner = len(shape) - 1
    part = copied(value, extract_at(sequence, step))
    return tensor.InsertSliceOp.get(
        part,
        sequence,
        static_sizes=[1, *shape[1:]],
        static_offsets=[DYNAMIC_INDEX, *([0] * inner)],
        offsets=[step],
    ).result


def surrounded(value: SSAValue, low: Sequence[int], high: Sequence[int], number: float) -> SSAValue:
    """The tensor with so many elements `number` before and after it in each dimension; where that is
    negative, without so many of its own."""
    if min((*low, *high), default=0) < 0:
        start = [max(0, -n) for n in low]
        kept = [n + min(0, a) + min(0, b) for n, a, b in zip(shape_of(value), low, high, strict=True)]
        value, low, high = extract(value, start, kept), [max(0, n) for n in low], [max(0, n) for n in high]
    shape = [a + b + c for a, b, c in zip(low, shape_of(value), high, strict=True)]
    if tuple(shape) == shape_of(value):
        return value
    return insert(value, filled(shape, number, element_of(value)), low)


def lookup(table: SSAValue, *indices: SSAValue) -> SSAValue:
    """An element of a tensor, inside a generic; indices of type index."""
    return tensor.ExtractOp(table, list(indices), element_of(table)).result


def position_table(values: Sequence[int]) -> SSAValue:
    """Non-negative numbers by position, i32: read them by `looked_up`."""
    return constant(np.asarray(values, np.int32), i32)


def looked_up(table: SSAValue, position: SSAValue) -> SSAValue:
    """The entry of a `position_table` as an index."""
    return arith.IndexCastOp(lookup(table, position), IndexType()).result
