# SPDX-License-Identifier: Apache-2.0
"""Whether what stands around a loop over time computes what its body does, bit for bit.

Identities of float32 that the proof uses hold for every bit: x + -0.0, x - 0.0, 1 * x are x, and x + 0.0 is x
where x cannot be -0.0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from xdsl.dialects.builtin import f32
from xdsl.ir import Operation, OpResult, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of
from bnncc.passes.matching import CHANNEL_BOUND, ELEMENTWISE, constant_of
from bnncc.passes.time.selections import selection
from bnncc.reference import evaluate_operation

MOVES = (ops.Transpose, ops.Reshape)
"""Operations that keep a uniform value uniform."""


@dataclass
class Matcher:
    """Whether a value of a body is one outside of the loop, for given arguments.

    arguments: what the arguments of the body are outside; states: those that are a number everywhere. slices:
    the parts of sequences, each as an element of a tensor along the first dimension."""

    arguments: Mapping[SSAValue, SSAValue]
    states: Mapping[SSAValue, np.generic] = field(default_factory=dict)
    slices: Mapping[SSAValue, tuple[SSAValue, int]] = field(default_factory=dict)
    _known: dict[tuple[SSAValue, SSAValue], bool] = field(default_factory=dict)
    _numbers: dict[SSAValue, np.generic | None] = field(default_factory=dict)

    def match(self, inner: SSAValue, outer: SSAValue) -> bool:
        """Whether `inner` is `outer`, bit for bit."""
        pair = inner, outer
        if pair not in self._known:
            self._known[pair] = inner.type == outer.type and self._match(inner, outer)
        return self._known[pair]

    def _match(self, inner: SSAValue, outer: SSAValue) -> bool:
        if inner in self.arguments:
            return self.arguments[inner] is outer
        if inner in self.slices:
            return is_element(outer, *self.slices[inner])
        number = self.number(inner)
        if number is not None:
            constant = constant_of(outer)
            return constant is not None and all(same_bits(value, number) for value in constant.flat)
        simpler = self._simplified(inner, outer)
        if simpler is not None and self.match(simpler, outer):
            return True
        return self._same_operation(inner, outer)

    def _same_operation(self, inner: SSAValue, outer: SSAValue) -> bool:
        left, right = inner.owner, outer.owner
        if not isinstance(inner, OpResult) or not isinstance(outer, OpResult):
            return False
        assert isinstance(left, Operation) and isinstance(right, Operation)
        same = type(left) is type(right) and inner.index == outer.index and not left.regions
        if not same or left.properties != right.properties or len(left.operands) != len(right.operands):
            return False
        if self._match_all(left.operands, right.operands):
            return True
        commutes = isinstance(left, ops.Add | ops.Mul)
        return commutes and self._match_all(left.operands, list(reversed(right.operands)))

    def _match_all(self, inner: Sequence[SSAValue], outer: Sequence[SSAValue]) -> bool:
        return all(self.match(a, b) for a, b in zip(inner, outer, strict=True))

    def number(self, value: SSAValue) -> np.generic | None:
        """The one number that all elements of a value are, if the states say so."""
        if value not in self._numbers:
            self._numbers[value] = self._number(value)
        return self._numbers[value]

    def _number(self, value: SSAValue) -> np.generic | None:
        if value in self.states:
            return self.states[value]
        op = value.owner
        if isinstance(op, ops.Constant):
            array = op.array
            is_one = array.size > 0 and all(same_bits(item, array.flat[0]) for item in array.flat[:64])
            return array.flat[0] if is_one and array.size <= 64 else None
        if isinstance(op, MOVES):
            return self.number(op.operands[0])
        if not isinstance(op, ELEMENTWISE) or isinstance(op, CHANNEL_BOUND):
            return None
        numbers = [self.number(operand) for operand in op.operands]
        if any(number is None for number in numbers):
            return None
        return evaluate_operation(op, [np.array([number]) for number in numbers])[0].reshape(-1)[0]

    def _simplified(self, inner: SSAValue, outer: SSAValue) -> SSAValue | None:
        """The operand that an operation gives unchanged."""
        op = inner.owner
        if not isinstance(op, ops.Add | ops.Sub | ops.Mul) or element_of(inner) != f32:
            return None
        left, right = (self.number(operand) for operand in op.operands)
        neutral = {ops.Add: -0.0, ops.Sub: 0.0, ops.Mul: 1.0}[type(op)]
        for number, other, is_right in ((right, op.left, True), (left, op.right, False)):
            if number is None or (isinstance(op, ops.Sub) and not is_right):
                continue
            is_neutral = same_bits(number, np.float32(neutral))
            if isinstance(op, ops.Add) and number == 0:
                is_neutral = is_neutral or never_negative_zero(outer)
            if is_neutral and other.type == inner.type:
                return other
        return None


def same_bits(left: np.generic, right: np.generic) -> bool:
    """Whether two numbers of one type are the same, 0.0 and -0.0 apart."""
    return left.tobytes() == right.tobytes()


def never_negative_zero(value: SSAValue) -> bool:
    """Whether no element can be -0.0: a sum is -0.0 only if both terms are."""
    op = value.owner
    if isinstance(op, MOVES):
        return never_negative_zero(op.input)
    if not isinstance(op, ops.Add):
        return False
    constants = [array for operand in op.operands if (array := constant_of(operand)) is not None]
    return any(not np.signbit(array[array == 0]).any() for array in constants)


def is_element(value: SSAValue, whole: SSAValue, index: int) -> bool:
    """Whether a value is an element of a tensor along the first dimension."""
    while isinstance(value.owner, ops.Reshape):
        value = value.owner.input
    found = selection(value)
    return found is not None and found.tensor is whole and (found.axis, found.index) == (0, index)
