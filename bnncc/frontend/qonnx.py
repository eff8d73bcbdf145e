# SPDX-License-Identifier: Apache-2.0
"""Operators of quantisation-aware training that ONNX itself lacks: QONNX, Brevitas and FINN.

BipolarQuant(x, s):  s where x >= 0, else -s.
Quant(x, s, z, b):   s * (q - z), q = round(clip(x / s + z)) an integer of b bits, signed or not, narrow or
                     not; for b = 1, signed: q = +1 where x / s + z >= 0, else -1.
MultiThreshold(x, t): scale * (number of t[c] <= x) + bias, thresholds t [channels or 1, steps].
XnorPopcountMatMul(a, b): how many of the K bits of a row of a [m, K] equal those of a column of b [K, n]; the
                      bits are 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import AttributeProto
from onnx.reference.op_run import OpRun

from bnncc.frontend.kinds import Kind

FLOAT: int = AttributeProto.FLOAT
INT: int = AttributeProto.INT
STRING: int = AttributeProto.STRING

DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
"""The domains that these operators come in; a file may use them without importing them."""

OTHER_SPELLINGS = ("", "brevitas", "qonnx", "finn", "qonnx.custom_op", "finn.custom_op")
"""Domains that files of other versions of the tools give these operators; read as the first of DOMAINS."""

ROUNDING: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.trunc,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + np.float32(0.5)),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - np.float32(0.5)),
}
"""Rounding modes of Quant; UP and DOWN are away from and towards zero, and so are ties of HALF_*."""


def bipolar_quant(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """`scale` where x >= 0, else -scale; the scale broadcasts."""
    return np.where(x >= 0, scale, -scale).astype(x.dtype)


def quant(
    x: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray,
    bits: np.ndarray,
    signed: bool = True,
    narrow: bool = False,
    rounding: str = "ROUND",
) -> np.ndarray:
    """x rounded to an integer of so many bits and scaled back; raises ValueError for an unknown rounding."""
    if rounding.upper() not in ROUNDING:
        raise ValueError(f"unknown rounding mode '{rounding}' (known: {', '.join(ROUNDING)})")
    if bits.size != 1 or not 1 <= bits.item() <= 32:
        raise ValueError(f"the bit width must be one number from 1 to 32, not {bits.tolist()}")
    levels = x / scale + zero_point
    if bits.item() == 1 and signed:
        levels = np.where(levels >= 0, np.float32(1), np.float32(-1))
    else:
        low, high = integer_range(bits.item(), signed, narrow)
        levels = ROUNDING[rounding.upper()](np.clip(levels, np.float32(low), np.float32(high)))
    return ((levels - zero_point) * scale).astype(x.dtype)


def integer_range(bits: float, signed: bool, narrow: bool) -> tuple[float, float]:
    """The least and the greatest integer; `narrow` gives up the least (signed) or the greatest (unsigned)."""
    if signed:
        half = 2 ** (bits - 1)
        return -half + narrow, half - 1
    return 0, 2**bits - 1 - narrow


def multi_threshold(
    x: np.ndarray, thresholds: np.ndarray, scale: float = 1.0, bias: float = 0.0, layout: str = "NCHW"
) -> np.ndarray:
    """How many thresholds of its channel x reaches, scaled and moved. The channel is dimension 1 ("NC..."),
    else the last."""
    axis = 1 if layout.upper().startswith("NC") else x.ndim - 1
    if x.ndim < 2 or thresholds.ndim != 2 or thresholds.shape[0] not in (1, x.shape[axis]):
        raise ValueError(
            f"thresholds of shape {list(thresholds.shape)} do not fit {x.shape[axis]} channels "
            f"(dimension {axis} of {list(x.shape)})"
        )
    moved = np.moveaxis(x, axis, -1)
    count = np.zeros(moved.shape, np.float32)
    for step in range(thresholds.shape[1]):
        count += moved >= thresholds[:, step]
    return (np.float32(scale) * np.moveaxis(count, -1, axis) + np.float32(bias)).astype(np.float32)


def xnor_popcount_matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[..., n] float32: how many bits of a [..., K] and b [K, n] are equal."""
    return ((2 * a - 1) @ (2 * b - 1) + np.float32(a.shape[-1])) * np.float32(0.5)


class BipolarQuant(OpRun):
    """`bipolar_quant` as a node."""

    def _run(self, x: np.ndarray, scale: np.ndarray, **_: object) -> tuple[np.ndarray]:
        return (bipolar_quant(x, scale),)


class Quant(OpRun):
    """`quant` as a node."""

    def _run(
        self,
        x: np.ndarray,
        scale: np.ndarray,
        zero_point: np.ndarray,
        bits: np.ndarray,
        signed: int = 1,
        narrow: int = 0,
        rounding_mode: str = "ROUND",
        **_: object,
    ) -> tuple[np.ndarray]:
        return (quant(x, scale, zero_point, bits, bool(signed), bool(narrow), rounding_mode),)


class IntQuant(Quant):
    """The newer name of Quant."""


class MultiThreshold(OpRun):
    """`multi_threshold` as a node."""

    def _run(
        self,
        x: np.ndarray,
        thresholds: np.ndarray,
        out_scale: float = 1.0,
        out_bias: float = 0.0,
        data_layout: str = "NCHW",
        **_: object,
    ) -> tuple[np.ndarray]:
        return (multi_threshold(x, thresholds, out_scale, out_bias, data_layout),)


class XnorPopcountMatMul(OpRun):
    """`xnor_popcount_matmul` as a node."""

    def _run(self, a: np.ndarray, b: np.ndarray, **_: object) -> tuple[np.ndarray]:
        return (xnor_popcount_matmul(a, b),)


OPERATORS: dict[str, type[OpRun]] = {
    cls.__name__: cls for cls in (BipolarQuant, Quant, IntQuant, MultiThreshold, XnorPopcountMatMul)
}
"""Operator -> its evaluation, in every one of the domains."""

INPUTS = {"BipolarQuant": 2, "Quant": 4, "IntQuant": 4, "MultiThreshold": 2, "XnorPopcountMatMul": 2}
"""How many inputs each operator has."""

ATTRIBUTES: dict[str, dict[str, int]] = {
    "Quant": {"signed": INT, "narrow": INT, "rounding_mode": STRING},
    "IntQuant": {"signed": INT, "narrow": INT, "rounding_mode": STRING},
    "MultiThreshold": {"out_scale": FLOAT, "out_bias": FLOAT, "data_layout": STRING},
}
"""Operator -> the types (those of AttributeProto) of the attributes that are looked at."""


def evaluators(domain: str, operator: str) -> list[type[OpRun]]:
    """The class that evaluates an operator, as `onnx.reference` wants it; none for a stranger."""
    if domain not in DOMAINS or operator not in OPERATORS:
        return []
    return [type(operator, (OPERATORS[operator],), {"op_domain": domain})]


def result_kind(operator: str, inputs: Sequence[Kind]) -> Kind:
    """The kind of an operator's only result; raises ValueError where the inputs do not fit."""
    x = inputs[0]
    if x.dtype.kind != "f":
        raise ValueError(f"{operator} takes floats, not {x.dtype.name}")
    if operator == "XnorPopcountMatMul":
        return _product_kind(x, inputs[1])
    if operator != "MultiThreshold":
        static = [tuple(size or 1 for size in kind.shape) for kind in inputs]
        shape = np.broadcast_shapes(*static)
        if shape != static[0]:
            raise ValueError(
                f"parameters of shapes {static[1:]} do not broadcast to an input of shape {static[0]}"
            )
    return Kind(np.dtype(np.float32) if operator == "MultiThreshold" else x.dtype, x.shape)


def _product_kind(a: Kind, b: Kind) -> Kind:
    """The kind of a [..., K] times b [K, n]."""
    if len(b.shape) != 2 or not a.shape or a.shape[-1] != b.shape[0]:
        raise ValueError(f"XnorPopcountMatMul multiplies shapes {list(a.shape)} and {list(b.shape)}")
    return Kind(np.dtype(np.float32), (*a.shape[:-1], b.shape[1]))
