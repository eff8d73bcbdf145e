# SPDX-License-Identifier: Apache-2.0
"""Operations whose results are signs."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, IntegerAttr, TensorType, i8, i32
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import IRDLOperation, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure

from bnncc.dialect.checks import StaticTensors, channels_of, expect
from bnncc.dialect.properties import IN_DICT, vector, vector_of
from bnncc.dialect.types import bipolar, element_of, i64, is_number, shape_of, tensor, ternary


@irdl_op_definition
class Binarize(IRDLOperation):
    """y = +1 where x > 0, -1 where x < 0, and `zero` where x = 0 (either zero of f32).

    `zero` +1 or -1 gives a bipolar result, 0 a ternary one. NaN gives -1 (0 where `zero` is 0)."""

    name = "bnn.binarize"
    input = operand_def(TensorType)
    zero = prop_def(IntegerAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, zero: int = 1):
        element = ternary if zero == 0 else bipolar
        super().__init__(
            operands=[input],
            properties={"zero": IntegerAttr(zero, i64)},
            result_types=[tensor(shape_of(input), element)],
        )

    def verify_(self) -> None:
        zero = self.zero.value.data
        expect(zero in (-1, 0, 1), "zero -1, 0 or 1", zero)
        expect(is_number(element_of(self.input)), "a number to binarize", element_of(self.input))
        element = ternary if zero == 0 else bipolar
        expect(element_of(self.result) == element, f"result {element}", element_of(self.result))
        expect(shape_of(self.input) == shape_of(self.result), "equal shapes", shape_of(self.result))


def verify_vector(label: str, values: DenseIntOrFPElementsAttr, element: Attribute, channels: int) -> None:
    """Check a property that holds one number per channel."""
    expect(values.get_element_type() == element, f"{label}s of {element}", values.get_element_type())
    expect(values.get_shape() == (channels,), f"one {label} per channel ({channels})", values.get_shape())


def verify_signs(signs: DenseIntOrFPElementsAttr, channels: int) -> None:
    """Check a property that holds a sign per channel."""
    verify_vector("sign", signs, i8, channels)
    expect(set(vector_of(signs)) <= {-1, 1}, "signs -1 and +1", vector_of(signs))


@irdl_op_definition
class Threshold(IRDLOperation):
    """y[..., c] = +1 where x[..., c] >= thresholds[c], else -1; negated in the channels where signs[c] is -1.

    x i32; thresholds i32 [c], signs i8 [c] of -1 and +1; the channel is the last dimension."""

    name = "bnn.threshold"
    input = operand_def(TensorType)
    thresholds = prop_def(DenseIntOrFPElementsAttr)
    signs = prop_def(DenseIntOrFPElementsAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, thresholds: np.ndarray, signs: np.ndarray):
        super().__init__(
            operands=[input],
            properties={"thresholds": vector(thresholds, np.int32), "signs": vector(signs, np.int8)},
            result_types=[tensor(shape_of(input), bipolar)],
        )

    def verify_(self) -> None:
        channels = channels_of(self.input)
        expect(element_of(self.input) == i32, "an i32 accumulator", element_of(self.input))
        expect(element_of(self.result) == bipolar, "a bipolar result", element_of(self.result))
        expect(shape_of(self.input) == shape_of(self.result), "equal shapes", shape_of(self.result))
        verify_vector("threshold", self.thresholds, i32, channels)
        verify_signs(self.signs, channels)


@irdl_op_definition
class Flip(IRDLOperation):
    """y[..., c] = x[..., c] * signs[c] for a bipolar x; signs i8 [c] of -1 and +1."""

    name = "bnn.flip"
    input = operand_def(TensorType)
    signs = prop_def(DenseIntOrFPElementsAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, signs: np.ndarray):
        super().__init__(
            operands=[input], properties={"signs": vector(signs, np.int8)}, result_types=[input.type]
        )

    def verify_(self) -> None:
        channels = channels_of(self.input)
        expect(element_of(self.input) == bipolar, "a bipolar input", element_of(self.input))
        expect(self.input.type == self.result.type, f"result {self.input.type}", self.result.type)
        verify_signs(self.signs, channels)
