# SPDX-License-Identifier: Apache-2.0
"""The `bnn` dialect: binary and spiking networks with their value domains as element types."""

from __future__ import annotations

from xdsl.ir import Dialect

from bnncc.dialect import operations as ops
from bnncc.dialect import time
from bnncc.dialect.types import Bipolar, Level, Spike, Ternary

BNN = Dialect(
    "bnn",
    [
        ops.Constant,
        ops.Onnx,
        ops.Conv2d,
        ops.Dense,
        ops.Binarize,
        ops.Threshold,
        ops.Flip,
        ops.BatchNorm,
        ops.MaxPool,
        ops.MeanPool,
        ops.CountPool,
        ops.ChannelMean,
        ops.Cast,
        *ops.UNARY,
        *ops.BINARY,
        ops.Compare,
        ops.Select,
        ops.Clip,
        ops.PRelu,
        ops.MulShift,
        ops.Lookup,
        ops.Softmax,
        ops.Transpose,
        ops.Reshape,
        ops.Pad,
        ops.Concat,
        ops.Fused,
        ops.Yield,
        time.Neuron,
        time.Scan,
    ],
    [Bipolar, Level, Spike, Ternary],
)
"""The dialect, to be loaded into an xDSL context."""
