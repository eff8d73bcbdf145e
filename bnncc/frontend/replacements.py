# SPDX-License-Identifier: Apache-2.0
"""Which of ONNX's operators are evaluated by classes of ours, in place of `onnx.reference`'s."""

from __future__ import annotations

from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_dequantize_linear import DequantizeLinear_25

from bnncc.frontend import operators as real
from bnncc.frontend import operators_quantized as quantized


def replacements(operator: str, opset: int) -> list[type[OpRun]]:
    """The class that evaluates an operator of ONNX's own domain in place of `onnx.reference`'s, if any."""
    changed, before = OLD.get(operator, (0, None))
    if before is not None and opset < changed:
        return [type(operator, (before,), {"op_domain": ""})]
    return [REPLACED[operator]] if operator in REPLACED else []


REPLACED: dict[str, type[OpRun]] = {
    cls.__name__: cls
    for cls in (
        real.Conv,
        real.ConvTranspose,
        real.MaxPool,
        real.AveragePool,
        real.BatchNormalization,
        real.LogSoftmax,
        quantized.ConvInteger,
        quantized.MatMulInteger,
        quantized.QLinearConv,
        quantized.QLinearMatMul,
    )
}
OLD: dict[str, tuple[int, type[OpRun]]] = {
    "Softmax": (13, real.OldSoftmax),
    "LogSoftmax": (13, real.OldLogSoftmax),
    # `onnx.reference` begins at 19; before it there were fewer types.
    "DequantizeLinear": (19, DequantizeLinear_25),
}
"""Operators that were others before some operator set, or whose evaluation is missing before it."""
