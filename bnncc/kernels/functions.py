# SPDX-License-Identifier: Apache-2.0
"""Mathematical functions on float32 vectors and scalars.

TVM's own lowering of exp and tanh is approximate, so on LLVM targets these are written out: a range
reduction and a minimax polynomial, within 2 units in the last place. The rarer log, erf and pow call libm
lane by lane. Portable C calls libm for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.emit import Value
from bnncc.plan.expression import UnaryKind

LIBM = {
    "abs": "fabsf",
    "sqrt": "sqrtf",
    "exp": "expf",
    "log": "logf",
    "tanh": "tanhf",
    "round": "rintf",
    "floor": "floorf",
    "ceil": "ceilf",
    "erf": "erff",
}
"""What portable C calls."""

LITERAL = "bnncc_f32_"
"""Prefix of the calls that stand for a float in C until `codegen` of C writes the number (8 hexadecimal
digits of its bits follow): TVM prints seven digits, a float needs nine."""

LONG_LITERAL = "bnncc_f64_"
"""The same for a double, with 16 digits."""

INVERSE_LN2 = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.693359375, -2.1219444170128554e-4
"""ln 2 in two parts; products of the first with small integers are exact."""

EXP = (0.5, 0.166665181517601, 0.04166620597243309, 0.008368954062461853, 0.0013950599823147058)
"""(e^r - 1 - r) / r^2 for |r| <= ln(2)/2."""

TANH = (
    -0.3333328366279602,
    0.13331490755081177,
    -0.05374349653720856,
    0.020650578662753105,
    -0.005717036779969931,
)
"""(tanh(x)/x - 1) / x^2 in powers of x^2 for |x| <= 0.625."""


def number(value: float, lanes: int, is_c: bool) -> Value:
    """A float32 number in every lane, exactly."""
    value = float(np.float32(value))
    if not is_c or (np.isfinite(value) and float(np.float32(f"{value:.6e}")) == value):
        return emit.constant(value, "float32", lanes)
    bits = int(np.float32(value).view(np.uint32))
    return tirx.call_pure_extern("float32", f"{LITERAL}{bits:08x}")


def exact_in_c(literal: Any) -> Value:
    """A number as TVM wrote it into loops of its own, exactly."""
    value, dtype = float(literal.value), str(literal.ty.dtype)
    if dtype == "float32":
        return number(value, 1, True)
    if dtype != "float64" or (np.isfinite(value) and float(f"{value:.6e}") == value):
        return literal
    bits = int(np.float64(value).view(np.uint64))
    return tirx.call_pure_extern(dtype, f"{LONG_LITERAL}{bits:016x}")


def unary(kind: UnaryKind, x: Value, is_c: bool) -> Value:
    """kind(x) of a float32 value; x is written more than once, so bind it before."""
    match kind:
        case "neg":
            return _like(x, -1) * x
        case "relu":
            zero = _like(x, 0)
            return tirx.Select(zero > x, zero, x)
        case "sign":
            zero = _like(x, 0)
            return tirx.Select(x > zero, _like(x, 1), tirx.Select(x < zero, _like(x, -1), x))
        case "sigmoid":
            # From e^-|x|, so that it neither overflows nor loses the digits of small results.
            negative = x < _like(x, 0)
            decay = emit.bind(unary("exp", emit.bind(tirx.Select(negative, x, _like(x, -1) * x)), is_c))
            return tirx.Select(negative, decay, _like(x, 1)) / (_like(x, 1) + decay)
    if is_c:
        return T.call_pure_extern("float32", LIBM[kind], x)
    match kind:
        case "exp":
            return exp(x)
        case "tanh":
            return _tanh(x)
        case "abs":
            return T.abs(x)
        case "sqrt":
            return T.sqrt(x)
        case "round":
            return T.nearbyint(x)
        case "floor":
            return T.floor(x)
        case "ceil":
            return T.ceil(x)
        case "log" | "erf":
            return _by_lane(LIBM[kind], x)
    raise AssertionError(f"no function '{kind}'")


def is_nan(x: Value) -> Value:
    """Whether a float is no number. LLVM would be told that x != x is false of it."""
    return tirx.Not(tirx.EQ(x, x))


def power(base: Value, exponent: Value) -> Value:
    """base ** exponent by libm."""
    return _by_lane("powf", base, exponent)


def exp(x: Value) -> Value:
    """e^x: x = n ln 2 + r, e^x = 2^n e^r. 2^n is applied as two factors, so that results near the largest
    and below the smallest normal number come out right. NaN gives NaN."""
    # Beyond these limits the result is infinite or zero; the comparisons let NaN through.
    low, high = _like(x, -106.0), _like(x, 89.0)
    clamped = emit.bind(tirx.Select(high < x, high, tirx.Select(low > x, low, x)))
    n = emit.bind(T.nearbyint(clamped * _like(x, INVERSE_LN2)))
    r = emit.bind(clamped - n * _like(x, LN2_HIGH) - n * _like(x, LN2_LOW))
    mantissa = _polynomial(EXP, r) * (r * r) + r + _like(x, 1)
    whole = emit.bind(T.Cast(_integers(x), n))
    half = emit.bind(T.shift_right(whole, _like(whole, 1, "int32")))
    result = mantissa * _power_of_two(half) * _power_of_two(emit.bind(whole - half))
    return tirx.Select(is_nan(x), x, result)


def _tanh(x: Value) -> Value:
    """A polynomial near 0, 1 - 2/(e^2|x| + 1) with the sign of x elsewhere."""
    square = emit.bind(x * x)
    small = x + x * square * _polynomial(TANH, square)
    magnitude = emit.bind(T.abs(x))
    growth = exp(emit.bind(magnitude + magnitude))
    large = emit.bind(_like(x, 1) - _like(x, 2) / (growth + _like(x, 1)))
    signed = tirx.Select(x < _like(x, 0), _like(x, -1) * large, large)
    return tirx.Select(magnitude < _like(x, 0.625), small, signed)


def _power_of_two(n: Value) -> Value:
    """2^n for -126 <= n <= 127, from the bits of the exponent."""
    biased = T.shift_left(n + _like(n, 127, "int32"), _like(n, 23, "int32"))
    return T.reinterpret(emit.vector_type("float32", emit.lanes_of(n)), biased)


def _polynomial(coefficients: Sequence[float], x: Value) -> Value:
    """sum_i coefficients[i] x^i by Horner's rule."""
    result = _like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = result * x + _like(x, coefficient)
    return result


def _by_lane(name: str, *arguments: Value) -> Value:
    """A libm function on each lane."""
    bound = [emit.bind(argument) for argument in arguments]
    lanes = emit.lanes_of(bound[0])
    if lanes == 1:
        return T.call_pure_extern("float32", name, *bound)
    return emit.concatenate(
        [
            T.call_pure_extern("float32", name, *(emit.extract(argument, lane) for argument in bound))
            for lane in range(lanes)
        ]
    )


def _like(x: Value, value: float, dtype: str = "float32") -> Value:
    """A number in as many lanes as x has."""
    return emit.constant(value, dtype, emit.lanes_of(x))


def _integers(x: Value) -> str:
    return emit.vector_type("int32", emit.lanes_of(x))
