# SPDX-License-Identifier: Apache-2.0
"""The operations of the `bnn` dialect.

Images are [n, h, w, c] throughout, convolution weights [o, kh, kw, c]; shapes are static. An operation's
result type says the domain of its values. Every operation is pure and has its NumPy meaning in
`bnncc.reference`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from xdsl.dialects.builtin import (
    BytesAttr,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    DictionaryAttr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    TensorType,
    f32,
    i1,
    i8,
    i32,
)
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import IsolatedFromAbove, IsTerminator, Pure
from xdsl.utils.exceptions import VerifyException

from bnncc.dialect.types import (
    bipolar,
    domain_values,
    element_of,
    i64,
    is_number,
    level_type,
    number_type,
    numpy_type,
    shape_of,
    spike,
    tensor,
    ternary,
)

IN_DICT = (ParsePropInAttrDict(),)


def ints(values: Sequence[int]) -> DenseArrayBase:
    """A property that holds integers."""
    return DenseArrayBase.from_list(i64, list(values))


def unpack(values: DenseArrayBase) -> tuple[int, ...]:
    """The integers of a property made by `ints`."""
    return tuple(int(v) for v in values.get_values())  # type: ignore[attr-defined]


def inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes this one."""
    return tuple(int(axis) for axis in np.argsort(permutation))


def expect(condition: bool, expected: str, found: object) -> None:
    """Raise VerifyException("expected ..., got ...") unless the condition holds."""
    if not condition:
        raise VerifyException(f"expected {expected}, got {found}")


@irdl_op_definition
class Constant(IRDLOperation):
    """Trained numbers. The values of a domain are stored as i8, those of a number as themselves."""

    name = "bnn.constant"
    value = prop_def(DenseIntOrFPElementsAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$value attr-dict `:` type($result)"

    def __init__(self, array: np.ndarray, element: Attribute | None = None):
        """From a NumPy array; the element type is given for domains, else that of the array."""
        stored = i8 if element is not None and not is_number(element) else number_type(array.dtype)
        data = np.ascontiguousarray(array, dtype=numpy_type(stored))
        attribute = elements(array.shape, data, stored)
        result = tensor(array.shape, element if element is not None else stored)
        super().__init__(properties={"value": attribute}, result_types=[result])

    @property
    def array(self) -> np.ndarray:
        """The values, in the type of `numpy_type(element)`; read-only."""
        dtype = numpy_type(self.value.get_element_type())
        return np.frombuffer(self.value.data.data, dtype).reshape(shape_of(self.result))

    def verify_(self) -> None:
        shape = shape_of(self.result)
        expect(self.value.get_shape() == shape, f"values of shape {shape}", self.value.get_shape())
        count = int(np.prod(shape))
        expect(len(self.value) == count, f"{count} values", len(self.value))
        element = element_of(self.result)
        allowed = domain_values(element)
        if allowed is not None:
            expect(
                self.value.get_element_type() == i8, "i8 values for a domain", self.value.get_element_type()
            )
            found = set(np.unique(self.array).tolist())
            expect(found <= allowed, f"values in {sorted(allowed)}", sorted(found - allowed))


@irdl_op_definition
class Onnx(IRDLOperation):
    """An ONNX node that the dialect has no operation for (yet): operator, domain and attributes as in the
    file. `slots` are the node's input positions that the operands fill (optional inputs may be left out).
    """

    name = "bnn.onnx"
    operator = prop_def(StringAttr)
    domain = prop_def(StringAttr)
    opset = prop_def(IntegerAttr)
    parameters = prop_def(DictionaryAttr)
    """Attributes: integers as i64, floats as f32, strings, arrays of these, tensors as dense."""
    slots = prop_def(DenseArrayBase)
    inputs = var_operand_def()
    outputs = var_result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure())
    assembly_format = "$inputs attr-dict `:` functional-type(operands, results)"

    def __init__(
        self,
        operator: str,
        inputs: Sequence[SSAValue],
        result_types: Sequence[Attribute],
        parameters: Mapping[str, Attribute] | None = None,
        domain: str = "",
        opset: int = 21,
        slots: Sequence[int] | None = None,
    ):
        super().__init__(
            operands=[list(inputs)],
            result_types=[list(result_types)],
            properties={
                "operator": StringAttr(operator),
                "domain": StringAttr(domain),
                "opset": IntegerAttr(opset, i64),
                "parameters": DictionaryAttr(dict(parameters or {})),
                "slots": ints(range(len(inputs)) if slots is None else slots),
            },
        )

    def verify_(self) -> None:
        slots = unpack(self.slots)
        expect(len(slots) == len(self.inputs), f"one slot per operand ({len(self.inputs)})", len(slots))


class WindowOperation(IRDLOperation):
    """Shared by operations with a sliding window over [n, h, w, c]."""

    def verify_window(
        self,
        image: Sequence[int],
        result: Sequence[int],
        kernel: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int],
        pads: Sequence[int],
    ) -> None:
        """Check the attributes' lengths and that the result's h and w follow from them."""
        for label, values, length in (
            ("strides", strides, 2),
            ("dilations", dilations, 2),
            ("pads", pads, 4),
        ):
            expect(len(values) == length, f"{length} {label}", len(values))
        expect(len(image) == 4 and len(result) == 4, "rank 4", f"{len(image)} and {len(result)}")
        top, left, bottom, right = pads
        for axis, total in ((0, top + bottom), (1, left + right)):
            span = (kernel[axis] - 1) * dilations[axis] + 1
            size = (image[1 + axis] + total - span) // strides[axis] + 1
            expect(result[1 + axis] == size, f"result size {size} in dimension {1 + axis}", result[1 + axis])


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
    traits = traits_def(Pure())
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
        groups = self.groups.value.data
        expect(groups > 0 and x[3] == w[3] * groups, f"{w[3]} channels in each of {groups} groups", x[3])
        expect(w[0] % groups == 0, f"output channels in {groups} equal groups", w[0])
        expect(y[3] == w[0], f"{w[0]} output channels", y[3])
        strides, dilations, pads = unpack(self.strides), unpack(self.dilations), unpack(self.pads)
        self.verify_window(x, y, w[1:3], strides, dilations, pads)
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
    traits = traits_def(Pure())
    assembly_format = "$input `,` $weight attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, weight: SSAValue):
        shape = (*shape_of(input)[:-1], shape_of(weight)[0])
        super().__init__(
            operands=[input, weight], result_types=[tensor(shape, contraction_type(input, weight))]
        )

    def verify_(self) -> None:
        x, w, y = shape_of(self.input), shape_of(self.weight), shape_of(self.result)
        expect(len(w) == 2, "weights of rank 2", len(w))
        expect(x[-1] == w[1], f"{w[1]} input features", x[-1])
        expect(y == (*x[:-1], w[0]), f"result shape {(*x[:-1], w[0])}", y)
        verify_contraction(self.input, self.weight, self.result)


@irdl_op_definition
class Binarize(IRDLOperation):
    """y = +1 where x > 0, -1 where x < 0, and `zero` where x = 0 (either zero of f32).

    `zero` +1 or -1 gives a bipolar result, 0 a ternary one. NaN gives -1 (0 where `zero` is 0)."""

    name = "bnn.binarize"
    input = operand_def(TensorType)
    zero = prop_def(IntegerAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure())
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
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, thresholds: np.ndarray, signs: np.ndarray):
        super().__init__(
            operands=[input],
            properties={"thresholds": vector(thresholds, np.int32), "signs": vector(signs, np.int8)},
            result_types=[tensor(shape_of(input), bipolar)],
        )

    def verify_(self) -> None:
        channels = shape_of(self.input)[-1]
        expect(element_of(self.input) == i32, "an i32 accumulator", element_of(self.input))
        expect(element_of(self.result) == bipolar, "a bipolar result", element_of(self.result))
        expect(shape_of(self.input) == shape_of(self.result), "equal shapes", shape_of(self.result))
        for label, values in (("threshold", self.thresholds), ("sign", self.signs)):
            expect(len(values) == channels, f"one {label} per output channel ({channels})", len(values))
        expect(set(vector_of(self.signs)) <= {-1, 1}, "signs -1 and +1", vector_of(self.signs))


@irdl_op_definition
class Flip(IRDLOperation):
    """y[..., c] = x[..., c] * signs[c] for a bipolar x; signs i8 [c] of -1 and +1."""

    name = "bnn.flip"
    input = operand_def(TensorType)
    signs = prop_def(DenseIntOrFPElementsAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, signs: np.ndarray):
        super().__init__(
            operands=[input], properties={"signs": vector(signs, np.int8)}, result_types=[input.type]
        )

    def verify_(self) -> None:
        channels = shape_of(self.input)[-1]
        expect(element_of(self.input) == bipolar, "a bipolar input", element_of(self.input))
        expect(self.input.type == self.result.type, f"result {self.input.type}", self.result.type)
        expect(len(self.signs) == channels, f"one sign per channel ({channels})", len(self.signs))
        expect(set(vector_of(self.signs)) <= {-1, 1}, "signs -1 and +1", vector_of(self.signs))


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
    traits = traits_def(Pure())
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
        channels = shape_of(self.input)[-1]
        for parameter in self.operands[1:]:
            expect(
                shape_of(parameter) == (channels,), f"parameters of shape ({channels},)", shape_of(parameter)
            )
        expect(self.input.type == self.result.type, f"result {self.input.type}", self.result.type)


class PoolOperation(WindowOperation):
    """Shared by the pools; what lies outside the image is skipped."""

    def verify_pool(self, input: SSAValue, result: SSAValue) -> None:
        """Check shapes and that the element type is kept."""
        x, y = shape_of(input), shape_of(result)
        kernel = unpack(self.properties["kernel"])  # type: ignore[arg-type]
        strides = unpack(self.properties["strides"])  # type: ignore[arg-type]
        dilations = unpack(self.properties["dilations"])  # type: ignore[arg-type]
        pads = unpack(self.properties["pads"])  # type: ignore[arg-type]
        expect(len(kernel) == 2, "2 kernel sizes", len(kernel))
        self.verify_window(x, y, kernel, strides, dilations, pads)
        expect(x[3] == y[3], f"{x[3]} channels", y[3])
        expect(element_of(input) == element_of(result), f"element {element_of(input)}", element_of(result))


@irdl_op_definition
class MaxPool(PoolOperation):
    """y[n,h,w,c] = max over the window of x inside the image; of f32, i32 or bipolar values."""

    name = "bnn.max_pool"
    input = operand_def(TensorType)
    kernel = prop_def(DenseArrayBase)
    strides = prop_def(DenseArrayBase)
    dilations = prop_def(DenseArrayBase)
    pads = prop_def(DenseArrayBase)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure())
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
            properties={
                "kernel": ints(kernel),
                "strides": ints(strides),
                "dilations": ints(dilations),
                "pads": ints(pads),
            },
            result_types=[tensor(shape, element_of(input))],
        )

    def verify_(self) -> None:
        element = element_of(self.input)
        expect(element in (f32, i32, bipolar), "f32, i32 or bipolar values", element)
        self.verify_pool(self.input, self.result)


@irdl_op_definition
class MeanPool(PoolOperation):
    """y[n,h,w,c] = mean over the window of x inside the image, f32; divided by the number of taps inside, or
    by kh*kw where `count_outside` is 1."""

    name = "bnn.mean_pool"
    input = operand_def(TensorType)
    kernel = prop_def(DenseArrayBase)
    strides = prop_def(DenseArrayBase)
    dilations = prop_def(DenseArrayBase)
    pads = prop_def(DenseArrayBase)
    count_outside = prop_def(IntegerAttr)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure())
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
                "kernel": ints(kernel),
                "strides": ints(strides),
                "dilations": ints(dilations),
                "pads": ints(pads),
                "count_outside": IntegerAttr(int(count_outside), i64),
            },
            result_types=[tensor(shape, element_of(input))],
        )

    def verify_(self) -> None:
        expect(element_of(self.input) == f32, "f32", element_of(self.input))
        self.verify_pool(self.input, self.result)


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
    traits = traits_def(Pure())
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
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue):
        super().__init__(
            operands=[input], result_types=[tensor((*shape_of(input)[:-1], 1), element_of(input))]
        )

    def verify_(self) -> None:
        for value in (self.input, self.result):
            expect(element_of(value) == f32, "f32", element_of(value))
        shape = (*shape_of(self.input)[:-1], 1)
        expect(shape_of(self.result) == shape, f"result shape {shape}", shape_of(self.result))


@irdl_op_definition
class Cast(IRDLOperation):
    """The same values in another element type: a domain or i32 as f32, i1 as spike, and so on.

    Floats go to integers towards zero, numbers to i1 by != 0, as in ONNX Cast. What goes to a spike or a
    level is known to be one of its values; NaN gives the lowest."""

    name = "bnn.cast"
    input = operand_def(TensorType)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure())
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
    traits = traits_def(Pure())
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
    traits = traits_def(Pure())
    assembly_format: ClassVar[str] = "$left `,` $right attr-dict `:` functional-type(operands, results)"

    def __init__(self, left: SSAValue, right: SSAValue):
        shape = np.broadcast_shapes(shape_of(left), shape_of(right))
        super().__init__(operands=[left, right], result_types=[tensor(shape, element_of(left))])

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
    traits = traits_def(Pure())
    assembly_format = "$left `,` $right attr-dict `:` functional-type(operands, results)"

    def __init__(self, left: SSAValue, right: SSAValue, shift: int):
        shape = np.broadcast_shapes(shape_of(left), shape_of(right))
        super().__init__(
            operands=[left, right],
            result_types=[tensor(shape, i32)],
            properties={"shift": IntegerAttr(shift, 64)},
        )

    def verify_(self) -> None:
        for value in (self.left, self.right, self.result):
            expect(element_of(value) == i32, "element i32", element_of(value))
        verify_broadcast((self.left, self.right), self.result)
        expect(self.shift.value.data in SHIFTS, f"a shift of {SHIFTS}", self.shift.value.data)


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
    traits = traits_def(Pure())
    assembly_format = "$left `,` $right attr-dict `:` functional-type(operands, results)"

    def __init__(self, kind: str, left: SSAValue, right: SSAValue):
        shape = np.broadcast_shapes(shape_of(left), shape_of(right))
        super().__init__(
            operands=[left, right], properties={"kind": StringAttr(kind)}, result_types=[tensor(shape, i1)]
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
    traits = traits_def(Pure())
    assembly_format = "$condition `,` $then `,` $otherwise attr-dict `:` functional-type(operands, results)"

    def __init__(self, condition: SSAValue, then: SSAValue, otherwise: SSAValue):
        shape = np.broadcast_shapes(shape_of(condition), shape_of(then), shape_of(otherwise))
        super().__init__(
            operands=[condition, then, otherwise], result_types=[tensor(shape, element_of(then))]
        )

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
    traits = traits_def(Pure())
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
    traits = traits_def(Pure())
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
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue):
        super().__init__(operands=[input], result_types=[input.type])

    def verify_(self) -> None:
        expect(element_of(self.input) == f32, "f32", element_of(self.input))
        expect(self.input.type == self.result.type, f"result {self.input.type}", self.result.type)


@irdl_op_definition
class Transpose(IRDLOperation):
    """Dimension i of y is dimension `permutation[i]` of x."""

    name = "bnn.transpose"
    input = operand_def(TensorType)
    permutation = prop_def(DenseArrayBase)
    result = result_def(TensorType)
    irdl_options = IN_DICT
    traits = traits_def(Pure())
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
    traits = traits_def(Pure())
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
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` functional-type(operands, results)"

    def __init__(self, input: SSAValue, low: Sequence[int], high: Sequence[int], value: float = 0.0):
        shape = [a + b + c for a, b, c in zip(low, shape_of(input), high, strict=True)]
        super().__init__(
            operands=[input],
            properties={"low": ints(low), "high": ints(high), "value": FloatAttr(value, f32)},
            result_types=[tensor(shape, element_of(input))],
        )

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
    traits = traits_def(Pure())
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


@irdl_op_definition
class Fused(IRDLOperation):
    """One kernel: a root operation (one of ROOTS, or none) and the element-wise operations after it.

    The body's block arguments are the operands; trained constants may stand inside. Its Yield names the
    results; every element-wise result has the shape of the root's."""

    name = "bnn.fused"
    inputs = var_operand_def(TensorType)
    outputs = var_result_def(TensorType)
    body = region_def("single_block")
    traits = traits_def(Pure(), IsolatedFromAbove())

    def __init__(self, inputs: Sequence[SSAValue], result_types: Sequence[Attribute], body: Region):
        super().__init__(operands=[list(inputs)], result_types=[list(result_types)], regions=[body])

    @property
    def block(self) -> Block:
        """The only block of the body."""
        return self.body.block

    @property
    def results_inside(self) -> tuple[SSAValue, ...]:
        """The values inside the body that the results are."""
        last = self.block.last_op
        assert isinstance(last, Yield)
        return tuple(last.values)

    def verify_(self) -> None:
        arguments = [argument.type for argument in self.block.args]
        expect(
            arguments == [value.type for value in self.inputs], "block arguments like the operands", arguments
        )
        last = self.block.last_op
        expect(isinstance(last, Yield), "a bnn.yield at the end", last and last.name)
        inside = [value.type for value in self.results_inside]
        same = inside == [value.type for value in self.outputs]
        expect(same, "yielded types like the results", _types(inside))


def _types(types: Sequence[Attribute]) -> str:
    """Types as an error message shows them."""
    return ", ".join(map(str, types)) or "none"


@irdl_op_definition
class Yield(IRDLOperation):
    """Ends the body of a Fused and names its results."""

    name = "bnn.yield"
    values = var_operand_def()
    traits = traits_def(IsTerminator(), Pure())
    assembly_format = "$values attr-dict `:` type($values)"

    def __init__(self, values: Sequence[SSAValue]):
        super().__init__(operands=[list(values)])


CONTRACTIONS = (Conv2d, Dense)

ROOTS = (*CONTRACTIONS, MaxPool, MeanPool, ChannelMean)
"""Operations that a Fused may begin with."""


def window_shape(
    image: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    channels: int,
) -> tuple[int, int, int, int]:
    """[n, h, w, channels] that a window over `image` gives; sizes below 1 are the verifier's to tell."""
    top, left, bottom, right = pads
    totals = (top + bottom, left + right)
    height, width = (
        (image[1 + i] + totals[i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in (0, 1)
    )
    return image[0], height, width, channels


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


def verify_broadcast(operands: Sequence[SSAValue], result: SSAValue) -> None:
    """Check that the operands' shapes broadcast to the result's."""
    shapes = [shape_of(value) for value in operands]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise VerifyException(f"expected shapes that broadcast, got {shapes}") from None
    expect(shape_of(result) == shape, f"result shape {shape}", shape_of(result))


def verify_kept_element(value: SSAValue, result: SSAValue) -> None:
    """Check that the result has the element type of a value that it is made of."""
    expect(element_of(result) == element_of(value), f"result element {element_of(value)}", element_of(result))


def elements(shape: Sequence[int], data: np.ndarray, element: Attribute) -> DenseIntOrFPElementsAttr:
    """Numbers in row-major order as an attribute."""
    type_ = tensor(shape, element)
    return DenseIntOrFPElementsAttr(type_, BytesAttr(data.tobytes()))  # type: ignore[arg-type]


def vector(values: np.ndarray, dtype: type[np.generic]) -> DenseIntOrFPElementsAttr:
    """A property that holds one number per channel."""
    data = np.ascontiguousarray(values, dtype=dtype).reshape(-1)
    return elements(data.shape, data, number_type(data.dtype))


def vector_of(values: DenseIntOrFPElementsAttr) -> np.ndarray:
    """The numbers of a property made by `vector`."""
    return np.frombuffer(values.data.data, numpy_type(values.get_element_type()))
