# SPDX-License-Identifier: Apache-2.0
"""Operations that multiply and accumulate: convolution and dense layer, in every pair of domains."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, TensorType, f32, i8, i32
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import IRDLOperation, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure

from bnncc.dialect.checks import StaticTensors, channels_of, expect
from bnncc.dialect.properties import IN_DICT, ints, unpack
from bnncc.dialect.types import bipolar, domain_values, element_of, i64, is_number, shape_of, tensor, ternary
from bnncc.dialect.windows import WindowOperation, window_shape


@irdl_op_definition
class Conv2d(WindowOperation):
    """y[n,h,w,o] = sum_{r,s,c} x[n, h*sy + r*dy - top, w*sx + s*dx - left, g*C/G + c] * w[o,r,s,c].

    g = o // (O/G). x [n,h,w,C], w [O,kh,kw,C/G]. `strides` [sy,sx], `dilations` [dy,dx], `pads`
    [top,left,bottom,right], `groups` G; outside the image x is `pad_value`, 0 or, for a bipolar or ternary x,
    -1 or +1.
    The result is i32 where both domains are binary, else f32 (of spikes or counts and f32 weights too).
    """

    name = "bnn.conv2d"
    input = operand_def(TensorType)
    weight = operand_def(TensorType)
    strides = prop_def(DenseArrayBase)
    dilations = prop_def(DenseArrayBase)
    pads = prop_def(DenseArrayBase)
    groups = prop_def(IntegerAttr)
    pad_value = prop_def(IntegerAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input `,` $weight attr-dict `:` functional-type(operands, results)"

    def __init__(
        self,
        input: SSAValue,
        weight: SSAValue,
        strides: Sequence[int] = (1, 1),
        dilations: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
        groups: int = 1,
        pad_value: int = 0,
    ):
        shape = window_shape(
            shape_of(input), shape_of(weight)[1:3], strides, dilations, pads, shape_of(weight)[0]
        )
        super().__init__(
            operands=[input, weight],
            result_types=[tensor(shape, contraction_type(input, weight))],
            properties={
                "strides": ints(strides),
                "dilations": ints(dilations),
                "pads": ints(pads),
                "groups": IntegerAttr(groups, i64),
                "pad_value": IntegerAttr(pad_value, i64),
            },
        )

    def verify_(self) -> None:
        x, w, y = shape_of(self.input), shape_of(self.weight), shape_of(self.result)
        expect(len(w) == 4, "weights of rank 4", len(w))
        strides, dilations, pads = unpack(self.strides), unpack(self.dilations), unpack(self.pads)
        self.verify_window(x, y, w[1:3], strides, dilations, pads)
        groups = self.groups.value.data
        expect(groups > 0 and x[3] == w[3] * groups, f"{w[3]} channels in each of {groups} groups", x[3])
        expect(w[0] % groups == 0, f"output channels in {groups} equal groups", w[0])
        expect(y[3] == w[0], f"{w[0]} output channels", y[3])
        value = self.pad_value.value.data
        has_signs = element_of(self.input) in (bipolar, ternary)
        expect(value == 0 or has_signs, f"pad_value 0 for {element_of(self.input)}", value)
        expect(value in (-1, 0, 1), "pad_value -1, 0 or 1", value)
        verify_contraction(self.input, self.weight, self.result)


@irdl_op_definition
class Dense(IRDLOperation):
    """y[..., o] = sum_k x[..., k] * w[o, k]. The result is i32 where both domains are binary, else f32."""

    name = "bnn.dense"
    input = operand_def(TensorType)
    weight = operand_def(TensorType)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure(), StaticTensors())
    assembly_format = "$input `,` $weight attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, weight: SSAValue):
        shape = (*shape_of(input)[:-1], shape_of(weight)[0])
        super().__init__(
            operands=[input, weight], result_types=[tensor(shape, contraction_type(input, weight))]
        )

    def verify_(self) -> None:
        x, w, y = shape_of(self.input), shape_of(self.weight), shape_of(self.result)
        expect(len(w) == 2, "weights of rank 2", len(w))
        features = channels_of(self.input)
        expect(features == w[1], f"{w[1]} input features", features)
        expect(y == (*x[:-1], w[0]), f"result shape {(*x[:-1], w[0])}", y)
        verify_contraction(self.input, self.weight, self.result)


CONTRACTIONS = (Conv2d, Dense)


def is_spiking(element: Attribute) -> bool:
    """Whether values are spikes or counts, none of them negative: what real weights can be summed over."""
    values = domain_values(element)
    return values is not None and min(values) == 0


def contraction_type(input: SSAValue, weight: SSAValue) -> Attribute:
    """i32 where both operands are of binary domains, or spikes and i8, else f32."""
    x, w = element_of(input), element_of(weight)
    return f32 if is_number(x) or (is_number(w) and w != i8) else i32


def verify_contraction(input: SSAValue, weight: SSAValue, result: SSAValue) -> None:
    """Check the domains of a contraction: both numbers, both binary, or spikes and numbers."""
    x, w = element_of(input), element_of(weight)
    allowed = is_number(x) == is_number(w) or (is_spiking(x) and w in (f32, i8))
    expect(allowed, "two numbers, two binary domains, or spikes and f32 or i8", f"{x} and {w}")
    kind = contraction_type(input, weight)
    expect(element_of(result) == kind, f"result {kind}", element_of(result))
