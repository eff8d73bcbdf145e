# SPDX-License-Identifier: Apache-2.0
"""What holds a network together: constants, nodes that are not converted (yet), kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from xdsl.dialects.builtin import (
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    DictionaryAttr,
    IntegerAttr,
    StringAttr,
    TensorType,
    i8,
)
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import IsolatedFromAbove, IsTerminator, Pure

from bnncc.dialect.checks import StaticTensors, expect, types_text
from bnncc.dialect.properties import IN_DICT, elements, ints, unpack
from bnncc.dialect.types import (
    domain_values,
    element_of,
    i64,
    is_number,
    number_type,
    numpy_type,
    shape_of,
    tensor,
)


@irdl_op_definition
class Constant(IRDLOperation):
    """Trained numbers. The values of a domain are stored as i8, those of a number as themselves."""

    name = "bnn.constant"
    value = prop_def(DenseIntOrFPElementsAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure(), StaticTensors())
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
        else:
            stored = self.value.get_element_type()
            expect(stored == element, f"values of {element}", stored)


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
    traits = traits_def(Pure(), StaticTensors())
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


@irdl_op_definition
class Fused(IRDLOperation):
    """One kernel: a root operation (one of ROOTS, or none) and the element-wise operations after it.

    The body's block arguments are the operands; trained constants may stand inside. Its Yield names the
    results; every element-wise result has the shape of the root's."""

    name = "bnn.fused"
    inputs = var_operand_def(TensorType)
    outputs = var_result_def(TensorType)
    body = region_def("single_block")
    traits = traits_def(Pure(), IsolatedFromAbove(), StaticTensors())

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
        expect(same, "yielded types like the results", types_text(inside))


@irdl_op_definition
class Yield(IRDLOperation):
    """Ends the body of a Fused and names its results."""

    name = "bnn.yield"
    values = var_operand_def()
    traits = traits_def(IsTerminator(), Pure())
    assembly_format = "$values attr-dict `:` type($values)"

    def __init__(self, values: Sequence[SSAValue]):
        super().__init__(operands=[list(values)])
