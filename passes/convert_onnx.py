# SPDX-License-Identifier: Apache-2.0
"""convert-onnx: `bnn.onnx` operations become operations of the dialect.

Images turn to [n, h, w, c] around every operation that wants it; `simplify-layout` takes the transposes out
again. What has no counterpart stays as it is, with the reason in its attribute `reason` (and `hint`), for
`reject-unknown` to tell.
"""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern
from xdsl.utils.exceptions import VerifyException

from bnncc.dialect import operations as ops
from bnncc.dialect.types import MOST_DIMENSIONS, shape_of
from bnncc.passes import matching
from bnncc.passes.onnx.contractions import CONTRACTIONS
from bnncc.passes.onnx.elementwise import ARITHMETIC, QUANTIZERS
from bnncc.passes.onnx.layout import LAYOUT
from bnncc.passes.onnx.node import Conversion, Node, NotConvertible
from bnncc.passes.onnx.pools import POOLS
from bnncc.passes.onnx.quantized import QUANTIZED
from bnncc.passes.onnx.transposed import TRANSPOSED

STANDARD: Mapping[str, Conversion] = {
    **CONTRACTIONS,
    **TRANSPOSED,
    **POOLS,
    **ARITHMETIC,
    **QUANTIZED,
    **LAYOUT,
}

CONVERSIONS: Mapping[str, Mapping[str, Conversion]] = {
    "": STANDARD,
    "ai.onnx": STANDARD,
    "qonnx.custom_op.general": QUANTIZERS,
    "onnx.brevitas": QUANTIZERS,
    "finn.custom_op.general": QUANTIZERS,
}
"""Domain -> operator -> conversion."""

ANY_RANK = frozenset(
    {"Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}
    | {"QuantizeLinear", "DequantizeLinear", *ARITHMETIC, *QUANTIZERS}
) - {"XnorPopcountMatMul"}
"""Operators that do not look at dimensions, only move them, or work element by element."""


class ConvertNode(RewritePattern):
    """Replace a node by what its conversion builds."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Onnx, rewriter: PatternRewriter) -> None:
        """Convert one node, or note why not."""
        if "reason" in op.attributes:
            return
        node = Node(op)
        try:
            value = _conversion(op)(node)
            for operation in node.operations:
                operation.verify()
            for built, output in zip((value, *node.other_outputs), op.outputs, strict=False):
                if built.type != output.type:
                    raise NotConvertible(f"its result is {built.type}, declared as {output.type}")
        except NotConvertible as refused:
            matching.discard(node.operations)
            _note(op, refused)
            return
        except (VerifyException, ValueError) as problem:
            matching.discard(node.operations)
            _note(op, NotConvertible(f"its shapes or attributes do not fit: {problem}"))
            return
        self.put_in_place(op, node, value, rewriter)

    def put_in_place(self, op: ops.Onnx, node: Node, value: SSAValue, rewriter: PatternRewriter) -> None:
        """Replace the node, telling each new operation where it comes from."""
        for operation in node.operations:
            operation.location = op.location
        if isinstance(value.owner, Operation) and value.owner in node.operations:
            matching.copy_source(op, value.owner)
        others = node.other_outputs or [None] * (len(op.outputs) - 1)
        rewriter.replace(op, node.operations, [value, *others])


def _conversion(op: ops.Onnx) -> Conversion:
    operators = CONVERSIONS.get(op.domain.data)
    if operators is None:
        raise NotConvertible(
            f"operators of domain '{op.domain.data}' are unknown",
            "export the model with standard ONNX operators",
        )
    if any(len(shape_of(value)) > MOST_DIMENSIONS for value in (*op.operands, *op.results)):
        is_copy = op.operator.data == "Concat" and len(op.operands) == 1
        if op.operator.data not in ANY_RANK and not is_copy:
            raise NotConvertible(f"it has more than {MOST_DIMENSIONS} dimensions")
    if op.operator.data not in operators:
        raise NotConvertible("bnncc has no such operator yet", "rewrite the model without it")
    return operators[op.operator.data]


def _note(op: ops.Onnx, refused: NotConvertible) -> None:
    op.attributes["reason"] = StringAttr(refused.reason)
    if refused.hint:
        op.attributes["hint"] = StringAttr(refused.hint)


class ConvertOnnxPass(ModulePass):
    """Convert every node that has a counterpart."""

    name = "convert-onnx"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        matching.apply_patterns(op, ConvertNode())
