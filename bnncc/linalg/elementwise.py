# SPDX-License-Identifier: Apache-2.0
"""Operations position by position: numbers of numbers, and bits of numbers or of other bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects.builtin import IndexType, f32, i1, i8, i32
from xdsl.ir import Attribute, Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import vector_of
from bnncc.dialect.types import element_of, is_number, shape_of, spike
from bnncc.linalg import builders as b
from bnncc.linalg import scalars
from bnncc.linalg.bits import Plane, Planes, Value, bits_of, plane_count


def computed(op: Operation, operands: Sequence[SSAValue]) -> SSAValue:
    """Numbers from numbers, position by position."""
    result = op.results[0]
    kinds = [b.signless(element_of(result))]
    return b.elementwise(operands, shape_of(result), kinds, lambda *x: [scalars.element(op, *x)])[0]


def binarize(op: ops.Binarize, x: SSAValue) -> Planes:
    """The sign; with zero 0 also whether there is one."""
    kind, zero = element_of(op.input), op.zero.value.data
    shape = shape_of(op.result)
    nothing = b.scalar(0, b.signless(kind))
    sign = "ge" if zero == 1 else "gt"
    bits = [b.elementwise([x], shape, [i1], lambda v: [scalars.compare(sign, v, nothing, kind)])[0]]
    if zero == 0:

        def is_some(value: SSAValue) -> list[SSAValue]:
            above, below = (scalars.compare(r, value, nothing, kind) for r in ("gt", "lt"))
            return [arith.OrIOp(above, below).result]

        bits += b.elementwise([x], shape, [i1], is_some)
    return Planes(element_of(op.result), [Plane(shape, bits=bit) for bit in bits])


def threshold(op: ops.Threshold, x: SSAValue) -> Planes:
    """Whether the accumulator is at least the threshold, negated where the sign is -1."""
    shape, kind = shape_of(op.result), element_of(op.input)
    limits = b.constant(vector_of(op.thresholds), kind)
    negated = _signs(op.signs)

    def decide(value: SSAValue, limit: SSAValue, negative: SSAValue) -> list[SSAValue]:
        return [arith.XOrIOp(scalars.compare("ge", value, limit, kind), negative).result]

    bits = b.elementwise([x, limits, negated], shape, [i1], decide)[0]
    return Planes(element_of(op.result), [Plane(shape, bits=bits)])


def flip(op: ops.Flip, x: Planes) -> Planes:
    """The bits of the channels with sign -1 negated."""
    (plane,) = x.planes
    flipped = bits_of(-vector_of(op.signs), element_of(op.input))[0]
    shape = (1,) * (len(plane.shape) - 1)
    mask = Plane.known(flipped.reshape(*shape, -1)).words
    words = plane.words

    def differ(word: SSAValue, other: SSAValue) -> list[SSAValue]:
        return [arith.XOrIOp(word, other).result]

    result = b.elementwise([words, mask], shape_of(words), [element_of(words)], differ)[0]
    return Planes.of_words(element_of(op.result), plane.shape, [result])


def lookup(op: ops.Lookup, x: SSAValue) -> SSAValue:
    """Entries of a table, row after row in one."""
    rows = op.rows
    table = b.constant(rows.reshape(-1), f32)
    before = np.arange(len(rows), dtype=np.int32) * rows.shape[1] - vector_of(op.first)

    def entry(value: SSAValue, start: SSAValue) -> list[SSAValue]:
        place = arith.IndexCastOp(arith.AddiOp(value, start).result, IndexType()).result
        return [b.lookup(table, place)]

    return b.elementwise([x, b.constant(before, i32)], shape_of(op.result), [f32], entry)[0]


def _signs(signs: Attribute) -> SSAValue:
    """i1 [c]: where the sign is -1."""
    values = vector_of(signs)  # type: ignore[arg-type]
    bytes_ = b.constant((values < 0).astype(np.int8), i8)
    return b.elementwise([bytes_], values.shape, [i1], lambda v: [arith.TruncIOp(v, i1).result])[0]


def cast(op: ops.Cast, x: Value) -> Value:
    """Between domains and numbers."""
    source, wanted = element_of(op.input), element_of(op.result)
    if isinstance(x, Planes):
        if wanted == source:
            return x
        if is_number(wanted):
            if wanted == i1 and x.element == spike:
                return x.planes[0].bits
            return x.numbers(b.signless(wanted))
        x, source = x.numbers(i32), i32
    if is_number(wanted):
        return computed(op, [x])
    if source == i1 and plane_count(wanted) == 1:
        return Planes(wanted, [Plane(shape_of(op.result), bits=x)])
    return split(x, source, shape_of(op.result), wanted)


def split(x: SSAValue, kind: Attribute, shape: tuple[int, ...], wanted: Attribute) -> Planes:
    """The planes of a domain, of numbers that are its values. One operation for each: xDSL does not read
    those of several results back."""

    def plane(place: int) -> Plane:
        def bit_of_value(value: SSAValue) -> list[SSAValue]:
            return [scalars.bits_of_number(wanted, value, kind)[place]]

        return Plane(shape, bits=b.elementwise([x], shape, [i1], bit_of_value)[0])

    return Planes(wanted, [plane(place) for place in range(plane_count(wanted))])


def select(op: ops.Select, condition: SSAValue, then: Value, otherwise: Value) -> Value:
    """One of two values by a condition; of domains plane by plane."""
    if isinstance(then, SSAValue):
        assert isinstance(otherwise, SSAValue)
        return computed(op, [condition, then, otherwise])
    assert isinstance(otherwise, Planes)
    shape = shape_of(op.result)
    planes = [
        b.elementwise([condition, one.bits, other.bits], shape, [i1], lambda *v: [arith.SelectOp(*v).result])
        for one, other in zip(then.planes, otherwise.planes, strict=True)
    ]
    return Planes(element_of(op.result), [Plane(shape, bits=bits[0]) for bits in planes])
