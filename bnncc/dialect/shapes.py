# SPDX-License-Identifier: Apache-2.0
"""Operations that move values and leave them as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import DenseArrayBase, FloatAttr, IntegerAttr, TensorType, f32
from xdsl.ir import SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import Pure

from bnncc.dialect.checks import StaticTensors, expect, verify_kept_element
from bnncc.dialect.properties import IN_DICT, ints, unpack
from bnncc.dialect.types import domain_values, element_of, i64, shape_of, tensor


@irdl_op_definition
class Transpose(IRDLOperation):
    """Dimension i of y is dimension `permutation[i]` of x."""

    name = "bnn.transpose"
    input = operand_def(TensorType)
    permutation = prop_def(DenseArrayBase)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, permutation: Sequence[int]):
        shape = [shape_of(input)[axis] for axis in permutation]
        super().__init__(
            operands=[input],
            properties={"permutation": ints(permutation)},
            result_types=[tensor(shape, element_of(input))],
        )

    def verify_(self) -> None:
        axes = unpack(self.permutation)
        x = shape_of(self.input)
        verify_kept_element(self.input, self.result)
        expect(sorted(axes) == list(range(len(x))), f"a permutation of {len(x)} dimensions", axes)
        shape = tuple(x[axis] for axis in axes)
        expect(shape_of(self.result) == shape, f"result shape {shape}", shape_of(self.result))


@irdl_op_definition
class Reshape(IRDLOperation):
    """The same values in row-major order, in another shape."""

    name = "bnn.reshape"
    input = operand_def(TensorType)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, shape: Sequence[int]):
        super().__init__(operands=[input], result_types=[tensor(shape, element_of(input))])

    def verify_(self) -> None:
        x, y = int(np.prod(shape_of(self.input))), int(np.prod(shape_of(self.result)))
        expect(x == y, f"{x} values", y)
        verify_kept_element(self.input, self.result)


@irdl_op_definition
class Pad(IRDLOperation):
    """x surrounded by `value`: low[i] elements before and high[i] after, in each dimension i; where that is
    negative, so many are left out. A number, or -1 / +1 (bipolar), 0 / 1 (spike)."""

    name = "bnn.pad"
    input = operand_def(TensorType)
    low = prop_def(DenseArrayBase)
    high = prop_def(DenseArrayBase)
    value = prop_def(FloatAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, low: Sequence[int], high: Sequence[int], value: float = 0.0):
        shape = [a + b + c for a, b, c in zip(low, shape_of(input), high, strict=True)]
        super().__init__(
            operands=[input],
            properties={"low": ints(low), "high": ints(high), "value": FloatAttr(value, f32)},
            result_types=[tensor(shape, element_of(input))],
        )

    @staticmethod
    def crop(input: SSAValue, axis: int, start: int, extent: int) -> Pad:
        """Elements start ... start + extent - 1 of a dimension, whatever the domain."""
        low, high = ([0] * len(shape_of(input)) for _ in range(2))
        low[axis], high[axis] = -start, start + extent - shape_of(input)[axis]
        allowed = domain_values(element_of(input))
        return Pad(input, low, high, 0.0 if allowed is None or 0 in allowed else float(max(allowed)))

    @property
    def is_crop(self) -> bool:
        """Whether it adds nothing, so that its value does not matter."""
        return max((*unpack(self.low), *unpack(self.high)), default=0) <= 0

    @property
    def cropped_axis(self) -> int | None:
        """The only dimension that something is left out of; None of any other pad."""
        pads = zip(unpack(self.low), unpack(self.high), strict=True)
        axes = [axis for axis, pad in enumerate(pads) if any(pad)]
        return axes[0] if self.is_crop and len(axes) == 1 else None

    def verify_(self) -> None:
        low, high, x = unpack(self.low), unpack(self.high), shape_of(self.input)
        verify_kept_element(self.input, self.result)
        expect(len(low) == len(high) == len(x), f"{len(x)} low and high pads", f"{len(low)} and {len(high)}")
        shape = tuple(a + b + c for a, b, c in zip(low, x, high, strict=True))
        expect(shape_of(self.result) == shape, f"result shape {shape}", shape_of(self.result))
        allowed = domain_values(element_of(self.input))
        if allowed is not None:
            expect(self.value.value.data in allowed, f"a value in {sorted(allowed)}", self.value.value.data)


@irdl_op_definition
class Concat(IRDLOperation):
    """The inputs one after the other along dimension `axis`."""

    name = "bnn.concat"
    inputs = var_operand_def(TensorType)
    axis = prop_def(IntegerAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$inputs attr-dict `:` functional-type(operands, results)"

    def __init__(self, inputs: Sequence[SSAValue], axis: int):
        shape = list(shape_of(inputs[0]))
        shape[axis] = sum(shape_of(value)[axis] for value in inputs)
        super().__init__(
            operands=[list(inputs)],
            properties={"axis": IntegerAttr(axis, i64)},
            result_types=[tensor(shape, element_of(inputs[0]))],
        )

    def verify_(self) -> None:
        axis = self.axis.value.data
        result = shape_of(self.result)
        expect(0 <= axis < len(result), f"an axis below {len(result)}", axis)
        for value in self.inputs:
            verify_kept_element(value, self.result)
            shape = shape_of(value)
            others = (*result[:axis], shape[axis] if axis < len(shape) else 0, *result[axis + 1 :])
            expect(shape == others, f"{others} or another extent in dimension {axis}", shape)
        total = sum(shape_of(value)[axis] for value in self.inputs)
        expect(result[axis] == total, f"{total} in dimension {axis}", result[axis])
