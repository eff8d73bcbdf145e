# SPDX-License-Identifier: Apache-2.0
"""Which of ONNX's operators are evaluated by classes of ours, in place of `onnx.reference`'s."""

from __future__ import annotations

from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_dequantize_linear import DequantizeLinear_25

from bnncc.frontend import operators as real
from bnncc.frontend import operators_quantized as quantized


def replacements(operator: str, opset: int) -> list[type[OpRun]]:
    """The class that evaluates an operator of ONNX's own domain in place of `onnx.reference`'s, if any."""
    found = next((made for changed, made in OLD.get(operator, ()) if opset < changed), REPLACED.get(operator))
    return [] if found is None else [type(operator, (found,), {"op_domain": ""})]


REPLACED: dict[str, type[OpRun]] = {
    made.__name__: made
    for made in (
        real.AveragePool,
        real.BatchNormalization,
        real.Conv,
        real.ConvTranspose,
        real.GatherElements,
        real.LogSoftmax,
        real.MaxPool,
        real.OneHot,
        real.Pad,
        real.Upsample,
        quantized.ConvInteger,
        quantized.MatMulInteger,
        quantized.QLinearConv,
        quantized.QLinearMatMul,
    )
}
OLD: dict[str, tuple[tuple[int, type[OpRun]], ...]] = {
    "Hardmax": ((13, real.OldHardmax),),
    "Softmax": ((13, real.OldSoftmax),),
    "LogSoftmax": ((13, real.OldLogSoftmax),),
    "Pad": ((11, real.OldPad),),
    "Resize": ((11, real.Upsample),),
    "Upsample": ((9, real.OldUpsample),),
    # `onnx.reference` begins at 19; before it there were fewer types.
    "DequantizeLinear": ((19, DequantizeLinear_25),),
}
"""Operators that were others before some operator set, the oldest first, or whose evaluation is missing
before it."""
