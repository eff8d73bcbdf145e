# SPDX-License-Identifier: Apache-2.0
"""Operations that put several pixels or channels together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, TensorType, f32, i32
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import IRDLOperation, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure

from bnncc.dialect.checks import StaticTensors, channels_of, expect
from bnncc.dialect.properties import IN_DICT, ints, unpack
from bnncc.dialect.types import Level, bipolar, element_of, i64, level_type, shape_of, spike, tensor
from bnncc.dialect.windows import WindowOperation, window_shape


def window_properties(
    kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]
) -> dict[str, Attribute]:
    """What a pool's window is stored as."""
    geometry = {"kernel": kernel, "strides": strides, "dilations": dilations, "pads": pads}
    return {name: ints(numbers) for name, numbers in geometry.items()}


class PoolOperation(WindowOperation):
    """Shared by the pools; what lies outside the image is skipped."""

    def verify_pool(self, input: SSAValue, result: SSAValue) -> None:
        """Check shapes."""
        x, y = shape_of(input), shape_of(result)
        kernel = unpack(self.properties["kernel"])  # type: ignore[arg-type]
        strides = unpack(self.properties["strides"])  # type: ignore[arg-type]
        dilations = unpack(self.properties["dilations"])  # type: ignore[arg-type]
        pads = unpack(self.properties["pads"])  # type: ignore[arg-type]
        self.verify_window(x, y, kernel, strides, dilations, pads)
        expect(x[3] == y[3], f"{x[3]} channels", y[3])


def is_byte(element: Attribute) -> bool:
    """Whether values of a domain are stored as bytes."""
    return isinstance(element, Level) and element.is_byte


@irdl_op_definition
class MaxPool(PoolOperation):
    """y[n,h,w,c] = max over the window of x inside the image; of f32, i32, bipolar values or bytes."""

    name = "bnn.max_pool"
    input = operand_def(TensorType)
    kernel = prop_def(DenseArrayBase)
    strides = prop_def(DenseArrayBase)
    dilations = prop_def(DenseArrayBase)
    pads = prop_def(DenseArrayBase)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(
        self,
        input: SSAValue,
        kernel: Sequence[int],
        strides: Sequence[int] = (1, 1),
        dilations: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
    ):
        shape = window_shape(shape_of(input), kernel, strides, dilations, pads, shape_of(input)[3])
        super().__init__(
            operands=[input],
            properties=window_properties(kernel, strides, dilations, pads),
            result_types=[tensor(shape, element_of(input))],
        )

    def verify_(self) -> None:
        element = element_of(self.input)
        known = element in (f32, i32, bipolar) or is_byte(element)
        expect(known, "f32, i32, bipolar values or bytes", element)
        self.verify_pool(self.input, self.result)
        expect(element_of(self.result) == element, f"element {element}", element_of(self.result))


@irdl_op_definition
class MeanPool(PoolOperation):
    """y[n,h,w,c] = mean over the window of x inside the image, f32; divided by the number of taps inside, or
    by kh*kw where `count_outside` is 1. Bytes are summed in integers."""

    name = "bnn.mean_pool"
    input = operand_def(TensorType)
    kernel = prop_def(DenseArrayBase)
    strides = prop_def(DenseArrayBase)
    dilations = prop_def(DenseArrayBase)
    pads = prop_def(DenseArrayBase)
    count_outside = prop_def(IntegerAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(
        self,
        input: SSAValue,
        kernel: Sequence[int],
        strides: Sequence[int] = (1, 1),
        dilations: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
        count_outside: bool = False,
    ):
        shape = window_shape(shape_of(input), kernel, strides, dilations, pads, shape_of(input)[3])
        super().__init__(
            operands=[input],
            properties={
                **window_properties(kernel, strides, dilations, pads),
                "count_outside": IntegerAttr(int(count_outside), i64),
            },
            result_types=[tensor(shape, f32)],
        )

    def verify_(self) -> None:
        element = element_of(self.input)
        expect(element == f32 or is_byte(element), "f32 or bytes", element)
        self.verify_pool(self.input, self.result)
        expect(element_of(self.result) == f32, "f32", element_of(self.result))


@irdl_op_definition
class CountPool(PoolOperation):
    """y[n,h,w,c] = how many spikes of x there are in the window, all of which lies inside the image; a
    level."""

    name = "bnn.count_pool"
    input = operand_def(TensorType)
    kernel = prop_def(DenseArrayBase)
    strides = prop_def(DenseArrayBase)
    dilations = prop_def(DenseArrayBase)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(
        self,
        input: SSAValue,
        kernel: Sequence[int],
        strides: Sequence[int] = (1, 1),
        dilations: Sequence[int] = (1, 1),
    ):
        shape = window_shape(shape_of(input), kernel, strides, dilations, (0, 0, 0, 0), shape_of(input)[3])
        super().__init__(
            operands=[input],
            properties={"kernel": ints(kernel), "strides": ints(strides), "dilations": ints(dilations)},
            result_types=[tensor(shape, level_type(0, int(np.prod(kernel))))],
        )

    def verify_(self) -> None:
        expect(element_of(self.input) == spike, "spikes", element_of(self.input))
        kernel, strides, dilations = unpack(self.kernel), unpack(self.strides), unpack(self.dilations)
        x, y = shape_of(self.input), shape_of(self.result)
        self.verify_window(x, y, kernel, strides, dilations, (0, 0, 0, 0))
        expect(x[3] == y[3], f"{x[3]} channels", y[3])
        counts = level_type(0, int(np.prod(kernel)))
        expect(element_of(self.result) == counts, f"result {counts}", element_of(self.result))


@irdl_op_definition
class ChannelMean(IRDLOperation):
    """y[..., 0] = mean over c of x[..., c], f32."""

    name = "bnn.channel_mean"
    input = operand_def(TensorType)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue):
        super().__init__(
            operands=[input], result_types=[tensor((*shape_of(input)[:-1], 1), element_of(input))]
        )

    def verify_(self) -> None:
        for value in (self.input, self.result):
            expect(element_of(value) == f32, "f32", element_of(value))
        channels_of(self.input)
        shape = (*shape_of(self.input)[:-1], 1)
        expect(shape_of(self.result) == shape, f"result shape {shape}", shape_of(self.result))
