# SPDX-License-Identifier: Apache-2.0
"""ONNX's operators of quantised tensors evaluated by NumPy, where `onnx.reference` takes zero points by row
for those by column, and adds a zero point before it rounds; the specification and ONNX Runtime round first.

Sums are exact, then int32; scales are multiplied in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from bnncc.frontend.operators import along_channels, convolution


def beside_matrix(given: np.ndarray, axis: int) -> np.ndarray:
    """A scale or zero point as it broadcasts to a matrix: a vector has a number for each row (`axis` -2) or
    column (-1); what has more dimensions fits as it is."""
    if given.size == 1:
        return given.reshape(())
    return given.reshape(-1, 1) if given.ndim == 1 and axis == -2 else given


def centred(x: np.ndarray, zero_point: np.ndarray | None) -> np.ndarray:
    """Bytes without their zero point, in float64, in which every sum of their products is exact."""
    return x.astype(np.float64) if zero_point is None else x.astype(np.float64) - zero_point


def wrapped(sums: np.ndarray) -> np.ndarray:
    """Exact sums as int32."""
    return sums.astype(np.int64).astype(np.int32)


def requantized(sums: np.ndarray, scale: np.ndarray, zero_point: np.ndarray) -> np.ndarray:
    """saturate(round(sums * scale) + zero point) in the zero point's type, halves to even."""
    limits = np.iinfo(zero_point.dtype)
    rounded = np.rint(sums.astype(np.float32) * scale.astype(np.float32)).astype(np.float64)
    return np.clip(rounded + zero_point, limits.min, limits.max).astype(zero_point.dtype)


class MatMulInteger(OpRun):
    """(a - a_zero) @ (b - b_zero), int32."""

    def _run(
        self,
        a: np.ndarray,
        b: np.ndarray,
        a_zero: np.ndarray | None = None,
        b_zero: np.ndarray | None = None,
    ) -> tuple[np.ndarray]:
        left = centred(a, None if a_zero is None else beside_matrix(a_zero, -2))
        right = centred(b, None if b_zero is None else beside_matrix(b_zero, -1))
        return (wrapped(left @ right),)


class QLinearMatMul(OpRun):
    """saturate(round((a - a_zero) @ (b - b_zero) * a_scale * b_scale / y_scale) + y_zero)."""

    def _run(
        self,
        a: np.ndarray,
        a_scale: np.ndarray,
        a_zero: np.ndarray,
        b: np.ndarray,
        b_scale: np.ndarray,
        b_zero: np.ndarray,
        y_scale: np.ndarray,
        y_zero: np.ndarray,
    ) -> tuple[np.ndarray]:
        rows = (beside_matrix(given, -2) for given in (a_zero, a_scale, y_scale, y_zero))
        a_zero, a_scale, y_scale, y_zero = rows
        b_zero, b_scale = (beside_matrix(given, -1) for given in (b_zero, b_scale))
        sums = wrapped(centred(a, a_zero) @ centred(b, b_zero))
        return (requantized(sums, a_scale * b_scale / y_scale, y_zero),)


class ConvInteger(OpRun):
    """conv(x - x_zero, w - w_zero), int32: padding counts as the zero point."""

    def _run(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        x_zero: np.ndarray | None = None,
        w_zero: np.ndarray | None = None,
        **attributes: Any,
    ) -> tuple[np.ndarray]:
        zero = None if w_zero is None else by_output(w_zero, weight.ndim)
        return (wrapped(convolution(centred(x, x_zero), centred(weight, zero), **attributes)),)


class QLinearConv(OpRun):
    """saturate(round((conv(x - x_zero, w - w_zero) + bias) * x_scale * w_scale / y_scale) + y_zero)."""

    def _run(
        self,
        x: np.ndarray,
        x_scale: np.ndarray,
        x_zero: np.ndarray,
        weight: np.ndarray,
        w_scale: np.ndarray,
        w_zero: np.ndarray,
        y_scale: np.ndarray,
        y_zero: np.ndarray,
        bias: np.ndarray | None = None,
        **attributes: Any,
    ) -> tuple[np.ndarray]:
        weight = centred(weight, by_output(w_zero, weight.ndim))
        sums = wrapped(convolution(centred(x, x_zero), weight, **attributes))
        if bias is not None:
            sums += along_channels(bias, x.ndim)
        return (requantized(sums, along_channels(x_scale * w_scale / y_scale, x.ndim), y_zero),)


def by_output(zero_point: np.ndarray, rank: int) -> np.ndarray:
    """A zero point of weights [o, c / groups, kernel...], as it broadcasts to them: one number, or one for
    each o."""
    return zero_point.reshape(-1, *[1] * (rank - 1))
