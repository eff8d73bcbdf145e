# SPDX-License-Identifier: Apache-2.0
"""The operations of the `bnn` dialect, one name for all of them: `ops.Conv2d`.

Images are [n, h, w, c] throughout, convolution weights [o, kh, kw, c]; shapes are static. An operation's
result type says the domain of its values. Every operation is pure and has its NumPy meaning in
`bnncc.reference`. The loop over time and neurons are in `bnncc.dialect.time`.
"""

from __future__ import annotations

from bnncc.dialect.checks import expect, verify_broadcast, verify_kept_element
from bnncc.dialect.contractions import CONTRACTIONS, Conv2d, Dense, contraction_type, is_spiking
from bnncc.dialect.elementwise import (
    BINARY,
    COMPARISONS,
    SHIFTS,
    UNARY,
    Abs,
    Add,
    BatchNorm,
    BinaryOperation,
    Cast,
    Ceil,
    Clip,
    Compare,
    Div,
    Erf,
    Exp,
    Floor,
    Log,
    Lookup,
    Max,
    Min,
    Mul,
    MulShift,
    Neg,
    Pow,
    PRelu,
    Relu,
    Round,
    Select,
    Sigmoid,
    Softmax,
    Sqrt,
    Sub,
    Tanh,
    UnaryOperation,
)
from bnncc.dialect.pools import ChannelMean, CountPool, MaxPool, MeanPool, PoolOperation
from bnncc.dialect.properties import ints, inverse, unpack, vector_of
from bnncc.dialect.shapes import Concat, Pad, Reshape, Transpose
from bnncc.dialect.signs import Binarize, Flip, Threshold
from bnncc.dialect.structure import Constant, Fused, Onnx, Yield
from bnncc.dialect.windows import WindowOperation

ROOTS = (*CONTRACTIONS, MaxPool, MeanPool, ChannelMean)
"""Operations that a Fused may begin with."""

__all__ = [
    "BINARY",
    "COMPARISONS",
    "CONTRACTIONS",
    "ROOTS",
    "SHIFTS",
    "UNARY",
    "Abs",
    "Add",
    "BatchNorm",
    "Binarize",
    "BinaryOperation",
    "Cast",
    "Ceil",
    "ChannelMean",
    "Clip",
    "Compare",
    "Concat",
    "Constant",
    "Conv2d",
    "CountPool",
    "Dense",
    "Div",
    "Erf",
    "Exp",
    "Flip",
    "Floor",
    "Fused",
    "Log",
    "Lookup",
    "Max",
    "MaxPool",
    "MeanPool",
    "Min",
    "Mul",
    "MulShift",
    "Neg",
    "Onnx",
    "PRelu",
    "Pad",
    "PoolOperation",
    "Pow",
    "Relu",
    "Reshape",
    "Round",
    "Select",
    "Sigmoid",
    "Softmax",
    "Sqrt",
    "Sub",
    "Tanh",
    "Threshold",
    "Transpose",
    "UnaryOperation",
    "WindowOperation",
    "Yield",
    "contraction_type",
    "expect",
    "ints",
    "inverse",
    "is_spiking",
    "unpack",
    "vector_of",
    "verify_broadcast",
    "verify_kept_element",
]
