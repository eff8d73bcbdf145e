# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.dialect_page` writes docs/dialect.md: every operation with its equation, what it takes and
gives, and an example, which tests parse, verify and evaluate."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import TensorType, f32, i1, i32
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.irdl import IRDLOperation, OptionalDef, PropertyDef, VariadicDef
from xdsl.printer import Printer

from bnncc.dialect import BNN, neurons
from bnncc.dialect import operations as ops
from bnncc.dialect.time import Scan
from bnncc.dialect.types import Level, bipolar, domain_name, level_type, spike, tensor, ternary
from tests.mlir.support import function

FILE = Path(__file__).parent.parent / "docs" / "dialect.md"

HEAD = """\
# The `bnn` dialect

Made by `python -m tests.dialect_page`; do not edit. Tensors are static, images [n, h, w, c], convolution
weights [o, kh, kw, c]. Every operation is pure; its meaning in NumPy is in
[bnncc/reference.py](../bnncc/reference.py). `bnncc-opt` and, after `pip install bnncc`, `xdsl-opt` read this
text; `bnncc compile net.mlir` compiles it.

## Types

"""

Body = Callable[..., Operation]


def weights(*shape: int) -> SSAValue:
    """Signs."""
    return ops.Constant(np.where(np.arange(np.prod(shape)) % 3, 1, -1).reshape(shape), bipolar).result


def accumulate(x: SSAValue, start: SSAValue) -> Operation:
    """A sum over time."""
    block = Block(arg_types=[tensor((4,), f32), tensor((4,), f32)])
    added = ops.Add(*block.args)
    block.add_ops([added, ops.Yield([added.result])])
    return Scan([x], [start], [], 3, Region(block))


def fused(x: SSAValue) -> Operation:
    """A kernel of two operations."""
    block = Block(arg_types=[x.type])
    root = ops.MaxPool(block.args[0], (2, 2), (2, 2))
    last = ops.Relu(root.result)
    block.add_ops([root, last, ops.Yield([last.result])])
    return ops.Fused([x], [last.result.type], Region(block))


ROW, IMAGE = (2, 3), (1, 4, 4, 2)
SIGNS = np.array([1, -1])
NUMBERS = np.array([0.5, 1], np.float32)

EXAMPLES: dict[type[IRDLOperation], tuple[Sequence[TensorType], Body]] = {
    ops.Constant: ([], lambda: ops.Constant(NUMBERS)),
    ops.Onnx: (
        [tensor(ROW, f32)],
        lambda x: ops.Onnx("Selu", [x], [x.type], {}, "", 21),
    ),
    ops.Conv2d: (
        [tensor(IMAGE, bipolar)],
        lambda x: ops.Conv2d(x, weights(1, 3, 3, 2), pads=(1, 1, 1, 1)),
    ),
    ops.Dense: ([tensor((1, 4), bipolar)], lambda x: ops.Dense(x, weights(2, 4))),
    ops.Binarize: ([tensor(ROW, f32)], lambda x: ops.Binarize(x, 1)),
    ops.Threshold: ([tensor((1, 2), i32)], lambda x: ops.Threshold(x, np.array([3, -1]), SIGNS)),
    ops.Flip: ([tensor((1, 2), bipolar)], lambda x: ops.Flip(x, SIGNS)),
    ops.BatchNorm: (
        [tensor((1, 2), f32)],
        lambda x: ops.BatchNorm([x, *[ops.Constant(NUMBERS).result] * 4], 1e-5),
    ),
    ops.MaxPool: ([tensor(IMAGE, bipolar)], lambda x: ops.MaxPool(x, (2, 2), (2, 2))),
    ops.MeanPool: ([tensor(IMAGE, f32)], lambda x: ops.MeanPool(x, (2, 2), (2, 2))),
    ops.CountPool: ([tensor(IMAGE, spike)], lambda x: ops.CountPool(x, (2, 2), (2, 2))),
    ops.ChannelMean: ([tensor(IMAGE, f32)], ops.ChannelMean),
    ops.Cast: ([tensor(ROW, bipolar)], ops.Cast),
    **{kind: ([tensor(ROW, f32)], kind) for kind in ops.UNARY},
    **{kind: ([tensor(ROW, f32), tensor((3,), f32)], kind) for kind in ops.BINARY},
    ops.Compare: ([tensor(ROW, f32), tensor((), f32)], lambda x, y: ops.Compare("ge", x, y)),
    ops.Select: ([tensor(ROW, i1), tensor(ROW, f32), tensor((), f32)], ops.Select),
    ops.Clip: ([tensor(ROW, f32)], lambda x: ops.Clip(x, -1.0, 1.0)),
    ops.MulShift: ([tensor(ROW, i32), tensor((3,), i32)], lambda x, y: ops.MulShift(x, y, 32)),
    ops.Lookup: (
        [tensor(ROW, i32)],
        lambda x: ops.Lookup(x, np.arange(9, dtype=np.float32)[None] / 4, np.array([-4])),
    ),
    ops.PRelu: ([tensor(ROW, f32), tensor((3,), f32)], ops.PRelu),
    ops.Softmax: ([tensor(ROW, f32)], ops.Softmax),
    ops.Transpose: ([tensor(ROW, bipolar)], lambda x: ops.Transpose(x, (1, 0))),
    ops.Reshape: ([tensor(ROW, bipolar)], lambda x: ops.Reshape(x, (6,))),
    ops.Pad: ([tensor(ROW, bipolar)], lambda x: ops.Pad(x, (0, 1), (0, 1), 1.0)),
    ops.Concat: ([tensor(ROW, f32), tensor((2, 1), f32)], lambda *x: ops.Concat(x, 1)),
    ops.Fused: ([tensor(IMAGE, f32)], fused),
    ops.Yield: ([tensor(IMAGE, f32)], fused),
    neurons.Neuron: (
        [tensor((1, 4), f32), tensor((1, 4), f32)],
        lambda x, v: neurons.lif(x, v, decay=0.9, reset="subtract"),
    ),
    Scan: ([tensor((3, 4), f32), tensor((4,), f32)], accumulate),
}


def example(kind: type[IRDLOperation]) -> FuncOp:
    """A function that shows an operation."""
    shown = function("main", *EXAMPLES[kind])
    for name, argument in zip("xyz", shown.body.block.args, strict=False):
        argument.name_hint = name
    return shown


def page() -> str:
    """The whole text."""
    parts = [HEAD]
    for domain in (bipolar, spike, ternary, level_type(0, 3)):
        about = " ".join((inspect.getdoc(type(domain)) or "").split())
        shown = f"`{domain}`" + (f" ({domain_name(domain)})" if isinstance(domain, Level) else "")
        parts.append(f"- {shown}: {about}\n")
    parts.append("\n## Operations\n")
    for kind in BNN.operations:
        parts.append(section(kind))  # type: ignore[arg-type]
    return "".join(parts)


def section(kind: type[IRDLOperation]) -> str:
    """One operation."""
    definition = kind.get_irdl_definition()
    about = inspect.getdoc(kind) or ""
    lines = [f"\n### {kind.name}\n\n```text\n{about}\n```\n"]
    for title, found in (("operands", definition.operands), ("results", definition.results)):
        if found:
            lines.append(f"\n{title}: {', '.join(name + _how_many(d) for name, d in found)}\n")
    names = [name for name, d in definition.properties.items() if isinstance(d, PropertyDef)]
    names = [name for name in names if not name.lower().endswith("segmentsizes")]
    if names:
        lines.append(f"\nattributes: {', '.join(names)}\n")
    stream = StringIO()
    Printer(stream).print_op(example(kind))
    lines.append(f"\n```mlir\n{stream.getvalue()}\n```\n")
    return "".join(lines)


def _how_many(definition: object) -> str:
    if isinstance(definition, OptionalDef):
        return " (optional)"
    return " (any number)" if isinstance(definition, VariadicDef) else ""


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
