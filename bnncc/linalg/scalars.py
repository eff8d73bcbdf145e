# SPDX-License-Identifier: Apache-2.0
"""Element-wise operations on one element: what stands inside a linalg.generic.

Each gives the numbers of `bnncc.reference`: NaN goes through minimum and maximum, comparisons with NaN are
false but `ne`, rounding is to even.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from xdsl.dialects import arith
from xdsl.dialects import math as maths
from xdsl.dialects.builtin import AnyFloat, IntegerType, Signedness, f32, i1, i32, i64
from xdsl.ir import Attribute, Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import Bipolar, Level, Spike, Ternary, element_of, is_number
from bnncc.linalg.builders import scalar, signless

Scalar = SSAValue


def is_float(kind: Attribute) -> bool:
    """Whether a number is a floating-point one."""
    return isinstance(kind, AnyFloat)


def is_unsigned(kind: Attribute) -> bool:
    """Whether a number is an integer without a sign."""
    return (isinstance(kind, IntegerType) and kind.signedness.data is Signedness.UNSIGNED) or kind == i1


# --- Domains ----------------------------------------------------------------------------------------------


def number_of_bits(element: Attribute, bits: Sequence[Scalar], kind: Attribute) -> Scalar:
    """The number that the bits of a domain stand for."""
    match element:
        case Bipolar():
            return arith.SelectOp(bits[0], scalar(1, kind), scalar(-1, kind)).result
        case Spike():
            return arith.SelectOp(bits[0], scalar(1, kind), scalar(0, kind)).result
        case Ternary():
            sign = arith.SelectOp(bits[0], scalar(1, kind), scalar(-1, kind)).result
            return arith.SelectOp(bits[1], sign, scalar(0, kind)).result
        case Level():
            total = scalar(element.lowest)
            for plane, bit in enumerate(bits):
                weight = arith.SelectOp(bit, scalar(1 << plane), scalar(0)).result
                total = arith.AddiOp(total, weight).result
            return convert(total, i32, kind)
    raise AssertionError(element)


def bits_of_number(element: Attribute, value: Scalar, kind: Attribute) -> list[Scalar]:
    """The bits of a domain for a number that is known to be one of its values; NaN gives the lowest."""
    match element:
        case Bipolar():
            return [compare("gt", value, scalar(0, signless(kind)), kind)]
        case Spike():
            return [compare("gt", value, scalar(0, signless(kind)), kind)]
        case Ternary():
            zero = scalar(0, signless(kind))
            above, below = compare("gt", value, zero, kind), compare("lt", value, zero, kind)
            return [above, arith.OrIOp(above, below).result]
        case Level():
            if is_float(kind):
                is_nan = arith.CmpfOp(value, value, "uno").result
                value = arith.SelectOp(is_nan, scalar(element.lowest, kind), value).result
            level = arith.SubiOp(convert(value, kind, i32), scalar(element.lowest)).result
            return [bit_of(level, plane) for plane in range(element.planes)]
    raise AssertionError(element)


def bit_of(word: Scalar, place: int) -> Scalar:
    """One bit of an i32."""
    return arith.TruncIOp(arith.ShRUIOp(word, scalar(place)).result, i1).result


# --- Numbers ----------------------------------------------------------------------------------------------


def convert(value: Scalar, kind: Attribute, wanted: Attribute) -> Scalar:
    """A number in another type, as ONNX Cast does: floats towards zero, to i1 by != 0."""
    if kind == wanted or signless(kind) == signless(wanted) != i1:
        return value
    target = signless(wanted)
    if wanted == i1:
        return compare("ne", value, scalar(0, signless(kind)), kind)
    if is_float(kind) and is_float(wanted):
        return _float_width(value, kind, wanted)
    if is_float(kind):
        assert isinstance(target, IntegerType)
        return (arith.FPToUIOp if is_unsigned(wanted) else arith.FPToSIOp)(value, target).results[0]
    if isinstance(wanted, AnyFloat):
        return (arith.UIToFPOp if is_unsigned(kind) else arith.SIToFPOp)(value, wanted).results[0]
    assert isinstance(kind, IntegerType) and isinstance(target, IntegerType)
    if kind.width.data > target.width.data:
        return arith.TruncIOp(value, target).result
    return (arith.ExtUIOp if is_unsigned(kind) else arith.ExtSIOp)(value, target).result


def _float_width(value: Scalar, kind: Attribute, wanted: Attribute) -> Scalar:
    assert isinstance(kind, AnyFloat) and isinstance(wanted, AnyFloat)
    if kind.bitwidth < wanted.bitwidth:
        return arith.ExtFOp(value, wanted).result
    return arith.TruncFOp(value, wanted).result


def compare(relation: str, left: Scalar, right: Scalar, kind: Attribute) -> Scalar:
    """i1; `relation` is ge, gt, le, lt, eq or ne."""
    if is_float(kind):
        return arith.CmpfOp(left, right, "une" if relation == "ne" else f"o{relation}").result
    sign = "" if relation in ("eq", "ne") else "u" if is_unsigned(kind) else "s"
    return arith.CmpiOp(left, right, f"{sign}{relation}").result


def _relu(x: Scalar, kind: Attribute) -> Scalar:
    return maximum(x, scalar(0, signless(kind)), kind)


def maximum(left: Scalar, right: Scalar, kind: Attribute) -> Scalar:
    """max, NaN if one of them is."""
    if is_float(kind):
        return arith.MaximumfOp(left, right).result
    return (arith.MaxUIOp if is_unsigned(kind) else arith.MaxSIOp)(left, right).result


def minimum(left: Scalar, right: Scalar, kind: Attribute) -> Scalar:
    """min, NaN if one of them is."""
    if is_float(kind):
        return arith.MinimumfOp(left, right).result
    return (arith.MinUIOp if is_unsigned(kind) else arith.MinSIOp)(left, right).result


def _sigmoid(x: Scalar, kind: Attribute) -> Scalar:
    one = scalar(1, kind)
    power = maths.ExpOp(arith.NegfOp(x).result).result
    return arith.DivfOp(one, arith.AddfOp(one, power).result).result


def _absolute(x: Scalar, kind: Attribute) -> Scalar:
    return (maths.AbsFOp if is_float(kind) else maths.AbsIOp)(x).result


def _negative(x: Scalar, kind: Attribute) -> Scalar:
    return arith.NegfOp(x).result if is_float(kind) else arith.SubiOp(scalar(0, kind), x).result


def _float_only(op: Callable[[Scalar], Operation]) -> Callable[[Scalar, Attribute], Scalar]:
    return lambda x, kind: op(x).results[0] if is_float(kind) else x


def _arithmetic(
    float_op: Callable[[Scalar, Scalar], Operation], integer_op: Callable[[Scalar, Scalar], Operation]
) -> Callable[[Scalar, Scalar, Attribute], Scalar]:
    return lambda x, y, kind: (float_op if is_float(kind) else integer_op)(x, y).results[0]


def _divide(left: Scalar, right: Scalar, kind: Attribute) -> Scalar:
    if is_float(kind):
        return arith.DivfOp(left, right).result
    return (arith.DivUIOp if is_unsigned(kind) else arith.DivSIOp)(left, right).result


UNARY: dict[type[Operation], Callable[[Scalar, Attribute], Scalar]] = {
    ops.Neg: _negative,
    ops.Abs: _absolute,
    ops.Relu: _relu,
    ops.Sqrt: _float_only(maths.SqrtOp),
    ops.Exp: _float_only(maths.ExpOp),
    ops.Log: _float_only(maths.LogOp),
    ops.Tanh: _float_only(maths.TanhOp),
    ops.Sigmoid: _sigmoid,
    ops.Round: _float_only(maths.RoundEvenOp),
    ops.Floor: _float_only(maths.FloorOp),
    ops.Ceil: _float_only(maths.CeilOp),
    ops.Erf: _float_only(maths.ErfOp),
}

BINARY: dict[type[Operation], Callable[[Scalar, Scalar, Attribute], Scalar]] = {
    ops.Add: _arithmetic(arith.AddfOp, arith.AddiOp),
    ops.Sub: _arithmetic(arith.SubfOp, arith.SubiOp),
    ops.Mul: _arithmetic(arith.MulfOp, arith.MuliOp),
    ops.Div: _divide,
    ops.Max: maximum,
    ops.Min: minimum,
    ops.Pow: _arithmetic(maths.PowFOp, maths.IPowIOp),
}


def element(op: Operation, *x: Scalar) -> Scalar:
    """One element of the result of an element-wise operation on numbers."""
    kind = element_of(op.operands[0])
    match op:
        case ops.Compare():
            return compare(op.kind.data, x[0], x[1], kind)
        case ops.Select():
            return arith.SelectOp(*x).result
        case ops.Clip():
            low, high = op.low.value.data, op.high.value.data
            bounded = x[0] if math.isinf(low) else maximum(x[0], scalar(low, kind), kind)
            return bounded if math.isinf(high) else minimum(bounded, scalar(high, kind), kind)
        case ops.MulShift():
            wide = [arith.ExtSIOp(value, i64).result for value in x]
            product, shift = arith.MuliOp(wide[0], wide[1]).result, op.shift.value.data
            half = arith.AddiOp(product, scalar(1 << shift - 1, i64)).result
            return arith.TruncIOp(arith.ShRSIOp(half, scalar(shift, i64)).result, i32).result
        case ops.PRelu():
            is_positive = compare("ge", x[0], scalar(0, kind), kind)
            return arith.SelectOp(is_positive, x[0], arith.MulfOp(x[1], x[0]).result).result
        case ops.BatchNorm():
            value, scale, bias, mean, variance = x
            centred = arith.MulfOp(scale, arith.SubfOp(value, mean).result).result
            spread = maths.SqrtOp(arith.AddfOp(variance, scalar(op.epsilon.value.data, f32)).result).result
            return arith.AddfOp(arith.DivfOp(centred, spread).result, bias).result
        case ops.Cast() if is_number(element_of(op.result)):
            return convert(x[0], kind, element_of(op.result))
        case _ if type(op) in UNARY:
            return UNARY[type(op)](x[0], kind)
        case _:
            return BINARY[type(op)](x[0], x[1], kind)
