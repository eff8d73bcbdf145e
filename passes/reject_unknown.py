# SPDX-License-Identifier: Apache-2.0
"""reject-unknown: say all at once which ONNX nodes have no counterpart, why, and what to do."""

from __future__ import annotations

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.passes import ModulePass

from bnncc.diagnostics import BnnccError, joined
from bnncc.dialect import operations as ops
from bnncc.dialect.sources import location_text

IMPORTED = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift
    BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Clip Concat Conv ConvInteger ConvTranspose Cos
    Cosh CumSum DepthToSpace DequantizeLinear Div Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor
    Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
    GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Hardmax InstanceNormalization IsInf
    IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpPool MatMul MatMulInteger Max
    MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg Not OneHot Or PRelu Pad Pow QLinearConv
    QLinearMatMul QuantizeLinear RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
    Resize Round Scatter ScatterElements ScatterND Selu Shrink Sigmoid Sign Sin Sinh Slice Softmax
    Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose
    Trilu Unsqueeze Upsample Where Xor
    """.split()
)
"""Operators that TVM takes and lowers to plain loops, or that `kernels.computed` or `kernels.expansion` know.
What they say of one node, with its shapes and attributes, shows once kernels are made."""


def complaint(op: ops.Onnx) -> str:
    """What is wrong with one node."""
    domain = f" of domain '{op.domain.data}'" if op.domain.data else ""
    reason = text(op, "reason") or "it was not converted"
    return f"operator {op.operator.data}{domain} is not supported: {reason}"


def text(op: ops.Onnx, name: str) -> str:
    """A discardable string attribute, or ""."""
    attribute = op.attributes.get(name)
    return attribute.data if isinstance(attribute, StringAttr) else ""


def rejection(nodes: list[ops.Onnx]) -> BnnccError:
    """One error for one node or many."""
    return joined([BnnccError(location_text(op), complaint(op), text(op, "hint")) for op in nodes])


def may_stay(op: ops.Onnx) -> bool:
    """Whether a node can be compiled as it is: the importer of last resort knows its operator."""
    return op.domain.data in ("", "ai.onnx") and op.operator.data in IMPORTED


class RejectUnknownPass(ModulePass):
    """Raise BnnccError if a `bnn.onnx` operation is left that no kernel computes."""

    name = "reject-unknown"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Collect, then raise once."""
        nodes = [node for node in op.walk() if isinstance(node, ops.Onnx) and not may_stay(node)]
        if nodes:
            raise rejection(nodes)
