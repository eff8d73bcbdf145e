# SPDX-License-Identifier: Apache-2.0
"""Operations on every element by itself, shapes broadcast as in NumPy (softmax: on every pixel)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from xdsl.dialects.builtin import (
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    TensorType,
    f32,
    i1,
    i32,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import IRDLOperation, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure

from bnncc.dialect.checks import StaticTensors, channels_of, expect, verify_broadcast, verify_kept_element
from bnncc.dialect.properties import IN_DICT, elements, vector, vector_of
from bnncc.dialect.types import element_of, is_number, shape_of, tensor


def _broadcast(operands: Sequence[SSAValue], element: Attribute) -> Attribute:
    """The type of an element-wise result: the operands' shapes, broadcast."""
    return tensor(np.broadcast_shapes(*map(shape_of, operands)), element)


@irdl_op_definition
class BatchNorm(IRDLOperation):
    """y[..., c] = scale[c] * (x[..., c] - mean[c]) / sqrt(variance[c] + epsilon) + bias[c], f32.

    Equation of ONNX BatchNormalization in inference, evaluated from left to right; parameters f32 [c]."""

    name = "bnn.batch_norm"
    input = operand_def(TensorType)
    scale = operand_def(TensorType)
    bias = operand_def(TensorType)
    mean = operand_def(TensorType)
    variance = operand_def(TensorType)
    epsilon = prop_def(FloatAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = (
        "$input `,` $scale `,` $bias `,` $mean `,` $variance attr-dict `:` functional-type(operands, results)"
    )

    def __init__(self, operands: Sequence[SSAValue], epsilon: float):
        super().__init__(
            operands=list(operands),
            properties={"epsilon": FloatAttr(epsilon, f32)},
            result_types=[operands[0].type],
        )

    def verify_(self) -> None:
        channels = channels_of(self.input)
        for value in self.operands:
            expect(element_of(value) == f32, "f32", element_of(value))
        for parameter in self.operands[1:]:
            expect(
                shape_of(parameter) == (channels,), f"parameters of shape ({channels},)", shape_of(parameter)
            )
        expect(self.input.type == self.result.type, f"result {self.input.type}", self.result.type)


@irdl_op_definition
class Cast(IRDLOperation):
    """The same values in another element type: a domain or i32 as f32, i1 as spike, and so on.

    Floats go to integers towards zero, numbers to i1 by != 0, as in ONNX Cast. What goes to a spike or a
    level is known to be one of its values; NaN gives the lowest."""

    name = "bnn.cast"
    input = operand_def(TensorType)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, element: Attribute = f32):
        super().__init__(operands=[input], result_types=[tensor(shape_of(input), element)])

    def verify_(self) -> None:
        expect(shape_of(self.input) == shape_of(self.result), "equal shapes", shape_of(self.result))


class UnaryOperation(IRDLOperation):
    """y = f(x), element by element, in the type of x."""

    input = operand_def(TensorType)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format: ClassVar[str] = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue):
        super().__init__(operands=[input], result_types=[input.type])

    def verify_(self) -> None:
        expect(is_number(element_of(self.input)), "numbers", element_of(self.input))
        expect(self.input.type == self.result.type, f"result {self.input.type}", self.result.type)


class BinaryOperation(IRDLOperation):
    """y = f(left, right), element by element; shapes are broadcast as in NumPy, element types are equal."""

    left = operand_def(TensorType)
    right = operand_def(TensorType)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format: ClassVar[str] = "$left `,` $right attr-dict `:` functional-type(operands, results)"

    def __init__(self, left: SSAValue, right: SSAValue):
        super().__init__(operands=[left, right], result_types=[_broadcast((left, right), element_of(left))])

    def verify_(self) -> None:
        expect(is_number(element_of(self.left)), "numbers", element_of(self.left))
        expect(
            element_of(self.left) == element_of(self.right),
            f"element {element_of(self.left)}",
            element_of(self.right),
        )
        verify_broadcast((self.left, self.right), self.result)
        expect(
            element_of(self.left) == element_of(self.result),
            f"element {element_of(self.left)}",
            element_of(self.result),
        )


@irdl_op_definition
class Neg(UnaryOperation):
    """y = -x."""

    name = "bnn.neg"


@irdl_op_definition
class Abs(UnaryOperation):
    """y = |x|."""

    name = "bnn.abs"


@irdl_op_definition
class Relu(UnaryOperation):
    """y = max(x, 0)."""

    name = "bnn.relu"


@irdl_op_definition
class Sqrt(UnaryOperation):
    """y = sqrt(x)."""

    name = "bnn.sqrt"


@irdl_op_definition
class Exp(UnaryOperation):
    """y = e^x."""

    name = "bnn.exp"


@irdl_op_definition
class Log(UnaryOperation):
    """y = ln x."""

    name = "bnn.log"


@irdl_op_definition
class Tanh(UnaryOperation):
    """y = tanh x."""

    name = "bnn.tanh"


@irdl_op_definition
class Sigmoid(UnaryOperation):
    """y = 1 / (1 + e^-x)."""

    name = "bnn.sigmoid"


@irdl_op_definition
class Round(UnaryOperation):
    """y = x rounded to the nearest integer, halves to even."""

    name = "bnn.round"


@irdl_op_definition
class Floor(UnaryOperation):
    """y = the largest integer not above x."""

    name = "bnn.floor"


@irdl_op_definition
class Ceil(UnaryOperation):
    """y = the smallest integer not below x."""

    name = "bnn.ceil"


@irdl_op_definition
class Erf(UnaryOperation):
    """y = erf x."""

    name = "bnn.erf"


@irdl_op_definition
class Add(BinaryOperation):
    """y = left + right."""

    name = "bnn.add"


@irdl_op_definition
class Sub(BinaryOperation):
    """y = left - right."""

    name = "bnn.sub"


@irdl_op_definition
class Mul(BinaryOperation):
    """y = left * right."""

    name = "bnn.mul"


@irdl_op_definition
class Div(BinaryOperation):
    """y = left / right."""

    name = "bnn.div"


@irdl_op_definition
class Max(BinaryOperation):
    """y = max(left, right)."""

    name = "bnn.max"


@irdl_op_definition
class Min(BinaryOperation):
    """y = min(left, right)."""

    name = "bnn.min"


@irdl_op_definition
class Pow(BinaryOperation):
    """y = left ^ right."""

    name = "bnn.pow"


UNARY = (Neg, Abs, Relu, Sqrt, Exp, Log, Tanh, Sigmoid, Round, Floor, Ceil, Erf)


BINARY = (Add, Sub, Mul, Div, Max, Min, Pow)


SHIFTS = (16, 32)
"""Bits that `MulShift` leaves out."""


@irdl_op_definition
class MulShift(IRDLOperation):
    """y = (left * right + 2^(shift - 1)) >> shift: the product of integers, an i32 and a fraction of 2^shift
    below one half, rounded to the nearest integer, halves upwards.

    Nothing is lost in between: products have 64 bits. With shift 16 both factors are numbers of 16 bits."""

    name = "bnn.mul_shift"
    left = operand_def(TensorType)
    right = operand_def(TensorType)
    shift = prop_def(IntegerAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$left `,` $right attr-dict `:` functional-type(operands, results)"

    def __init__(self, left: SSAValue, right: SSAValue, shift: int):
        super().__init__(
            operands=[left, right],
            result_types=[_broadcast((left, right), i32)],
            properties={"shift": IntegerAttr(shift, 64)},
        )

    def verify_(self) -> None:
        for value in (self.left, self.right, self.result):
            expect(element_of(value) == i32, "element i32", element_of(value))
        verify_broadcast((self.left, self.right), self.result)
        expect(self.shift.value.data in SHIFTS, f"a shift of {SHIFTS}", self.shift.value.data)


@irdl_op_definition
class Lookup(IRDLOperation):
    """y[..., c] = table[c, x[..., c] - first[c]]: a function of an integer that takes few values.

    x i32, the channel is the last dimension; table f32 [c, levels] and first i32 [c], or one row for all
    channels. No x is below first[c], nor above first[c] + levels - 1."""

    name = "bnn.lookup"
    input = operand_def(TensorType)
    table = prop_def(DenseIntOrFPElementsAttr)
    first = prop_def(DenseIntOrFPElementsAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, table: np.ndarray, first: np.ndarray):
        numbers = np.ascontiguousarray(table, np.float32)
        super().__init__(
            operands=[input],
            properties={"table": elements(numbers.shape, numbers, f32), "first": vector(first, np.int32)},
            result_types=[tensor(shape_of(input), f32)],
        )

    @property
    def rows(self) -> np.ndarray:
        """The table, [c, levels] or [1, levels]."""
        return vector_of(self.table).reshape(self.table.get_shape())

    def verify_(self) -> None:
        channels, shape = channels_of(self.input), self.table.get_shape()
        expect(element_of(self.input) == i32, "an i32 input", element_of(self.input))
        expect(element_of(self.result) == f32, "an f32 result", element_of(self.result))
        expect(shape_of(self.input) == shape_of(self.result), "equal shapes", shape_of(self.result))
        expect(self.table.get_element_type() == f32, "a table of f32", self.table.get_element_type())
        expect(
            len(shape) == 2 and shape[0] in (1, channels), f"one row, or one per channel ({channels})", shape
        )
        expect(self.first.get_element_type() == i32, "first numbers of i32", self.first.get_element_type())
        expect(len(self.first) == shape[0], f"a first number for each row ({shape[0]})", len(self.first))


COMPARISONS = ("ge", "gt", "le", "lt", "eq", "ne")


@irdl_op_definition
class Compare(IRDLOperation):
    """y = 1 where left `kind` right, else 0, i1; kind is ge, gt, le, lt, eq or ne; shapes are broadcast."""

    name = "bnn.compare"
    left = operand_def(TensorType)
    right = operand_def(TensorType)
    kind = prop_def(StringAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$left `,` $right attr-dict `:` functional-type(operands, results)"

    def __init__(self, kind: str, left: SSAValue, right: SSAValue):
        super().__init__(
            operands=[left, right],
            properties={"kind": StringAttr(kind)},
            result_types=[_broadcast((left, right), i1)],
        )

    def verify_(self) -> None:
        expect(self.kind.data in COMPARISONS, f"a comparison of {COMPARISONS}", self.kind.data)
        expect(
            element_of(self.left) == element_of(self.right),
            f"element {element_of(self.left)}",
            element_of(self.right),
        )
        expect(element_of(self.result) == i1, "an i1 result", element_of(self.result))
        verify_broadcast((self.left, self.right), self.result)


@irdl_op_definition
class Select(IRDLOperation):
    """y = then where the i1 condition holds, else otherwise; shapes are broadcast."""

    name = "bnn.select"
    condition = operand_def(TensorType)
    then = operand_def(TensorType)
    otherwise = operand_def(TensorType)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$condition `,` $then `,` $otherwise attr-dict `:` functional-type(operands, results)"

    def __init__(self, condition: SSAValue, then: SSAValue, otherwise: SSAValue):
        operands = (condition, then, otherwise)
        super().__init__(operands=operands, result_types=[_broadcast(operands, element_of(then))])

    def verify_(self) -> None:
        expect(element_of(self.condition) == i1, "an i1 condition", element_of(self.condition))
        expect(
            element_of(self.then) == element_of(self.otherwise),
            f"element {element_of(self.then)}",
            element_of(self.otherwise),
        )
        verify_kept_element(self.then, self.result)
        verify_broadcast((self.condition, self.then, self.otherwise), self.result)


@irdl_op_definition
class Clip(IRDLOperation):
    """y = min(max(x, low), high), f32; an infinite bound is none."""

    name = "bnn.clip"
    input = operand_def(TensorType)
    low = prop_def(FloatAttr)
    high = prop_def(FloatAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, low: float, high: float):
        super().__init__(
            operands=[input],
            properties={"low": FloatAttr(low, f32), "high": FloatAttr(high, f32)},
            result_types=[input.type],
        )

    def verify_(self) -> None:
        expect(element_of(self.input) == f32, "f32", element_of(self.input))
        expect(self.input.type == self.result.type, f"result {self.input.type}", self.result.type)


@irdl_op_definition
class PRelu(IRDLOperation):
    """y = x where x >= 0, else slope * x, f32; the slope is broadcast to the shape of x."""

    name = "bnn.prelu"
    input = operand_def(TensorType)
    slope = operand_def(TensorType)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input `,` $slope attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, slope: SSAValue):
        super().__init__(operands=[input, slope], result_types=[input.type])

    def verify_(self) -> None:
        for value in self.operands:
            expect(element_of(value) == f32, "f32", element_of(value))
        expect(self.input.type == self.result.type, f"result {self.input.type}", self.result.type)
        verify_broadcast((self.input, self.slope), self.result)


@irdl_op_definition
class Softmax(IRDLOperation):
    """y[..., c] = exp(x[..., c] - m) / sum_c exp(x[..., c] - m), m = max_c x[..., c], f32."""

    name = "bnn.softmax"
    input = operand_def(TensorType)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue):
        super().__init__(operands=[input], result_types=[input.type])

    def verify_(self) -> None:
        channels_of(self.input)
        expect(element_of(self.input) == f32, "f32", element_of(self.input))
        expect(self.input.type == self.result.type, f"result {self.input.type}", self.result.type)
