# SPDX-License-Identifier: Apache-2.0
"""One ONNX node while it is converted: its inputs and attributes, and the operations that replace it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from xdsl.dialects.builtin import f32
from xdsl.ir import Attribute, Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import unpack
from bnncc.dialect.parameters import Plain, plain_parameters
from bnncc.dialect.types import element_of, shape_of
from bnncc.passes.matching import constant_of

Default = TypeVar("Default", bound=Plain)

Conversion = Callable[["Node"], SSAValue]
"""Builds what a node's first output is; raises NotConvertible."""

CHANNELS_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1)}
"""The permutation from an ONNX image [n, c, ...] to [n, ..., c], by rank."""

CHANNELS_FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2)}
"""The way back."""


@dataclass
class NotConvertible(Exception):
    """Why a node has no counterpart in the dialect, and what the user can do."""

    reason: str
    hint: str = ""


class Node:
    """A `bnn.onnx` operation and what has been built for it so far.

    `operations` are in order and not yet in the module."""

    def __init__(self, op: ops.Onnx):
        self.op = op
        self.opset = op.opset.value.data
        self.operations: list[Operation] = []
        self.other_outputs: list[SSAValue] = []
        """What was built for the outputs after the first one, where the conversion makes these, too."""
        self._inputs = dict(zip(unpack(op.slots), op.inputs, strict=True))
        self._parameters = plain_parameters(op)

    @property
    def result_shape(self) -> tuple[int, ...]:
        """The shape of the first output."""
        return shape_of(self.op.outputs[0])

    @property
    def result_element(self) -> Attribute:
        """The element type of the first output."""
        return element_of(self.op.outputs[0])

    def has_input(self, slot: int) -> bool:
        """Whether this optional input is given."""
        return slot in self._inputs

    def input(self, slot: int) -> SSAValue:
        """The value of an input that must be there."""
        if slot not in self._inputs:
            raise NotConvertible(f"its input {slot} is missing")
        return self._inputs[slot]

    def inputs(self) -> list[SSAValue]:
        """All inputs that are given, in order."""
        return [self._inputs[slot] for slot in sorted(self._inputs)]

    def image(self, slot: int = 0) -> SSAValue:
        """A float32 input of rank 3 or 4."""
        value = self.real(slot)
        if len(shape_of(value)) not in CHANNELS_LAST:
            raise NotConvertible(
                f"its input is of rank {len(shape_of(value))}", "images of 1 or 2 dimensions are supported"
            )
        return value

    def real(self, slot: int) -> SSAValue:
        """A float32 input."""
        value = self.input(slot)
        if element_of(value) != f32:
            raise NotConvertible(
                f"its input {slot} is of type {element_of(value)}", "export the model in float32"
            )
        return value

    def array(self, slot: int, what: str) -> np.ndarray:
        """The numbers of an input that must be constant."""
        array = constant_of(self.input(slot))
        if array is None:
            raise NotConvertible(
                f"its {what} is computed at run time", f"export the model with a constant {what}"
            )
        return array

    def integers(self, slot: int, name: str) -> list[int] | None:
        """Integers that are an attribute in old operator sets and a constant input in new ones, or None."""
        if self.has_input(slot):
            return [int(v) for v in self.array(slot, name).reshape(-1)]
        value = self._parameters.get(name)
        return None if value is None else [int(v) for v in np.atleast_1d(np.asarray(value))]

    def parameter(self, name: str, default: Default) -> Default:
        """An attribute, or its default."""
        return self._parameters.get(name, default)  # type: ignore[return-value]

    def axis(self, name: str, default: int, rank: int) -> int:
        """An attribute that is a dimension, counted from the front."""
        return int(self.parameter(name, default)) % max(rank, 1)

    def only_first_output(self) -> None:
        """Raise unless the other outputs are unused."""
        if any(output.first_use is not None for output in list(self.op.outputs)[1:]):
            raise NotConvertible("more than its first output is used")

    def add(self, op: Operation) -> SSAValue:
        """Append an operation; its result."""
        self.operations.append(op)
        return op.results[0]

    def constant(self, array: np.ndarray) -> SSAValue:
        """A constant."""
        return self.add(ops.Constant(array))

    def scalar(self, number: float) -> SSAValue:
        """A float32 constant of no dimensions."""
        return self.constant(np.asarray(number, np.float32))

    def transpose(self, value: SSAValue, permutation: Sequence[int]) -> SSAValue:
        """`value` with its dimensions permuted."""
        return self.add(ops.Transpose(value, permutation))

    def reshape(self, value: SSAValue, shape: Sequence[int]) -> SSAValue:
        """`value` in another shape."""
        return self.add(ops.Reshape(value, shape))

    def to_image(self, value: SSAValue) -> SSAValue:
        """[n, c, h, w] or [n, c, l] as [n, h, w, c], a sequence being an image of one row."""
        value = self.transpose(value, CHANNELS_LAST[len(shape_of(value))])
        if len(shape_of(value)) == 4:
            return value
        n, length, channels = shape_of(value)
        return self.reshape(value, (n, 1, length, channels))

    def from_image(self, value: SSAValue, rank: int) -> SSAValue:
        """The way back of `to_image` for a result of this rank."""
        if rank == 3:
            n, _, length, channels = shape_of(value)
            value = self.reshape(value, (n, length, channels))
        return self.transpose(value, CHANNELS_FIRST[rank])
