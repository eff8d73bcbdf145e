# SPDX-License-Identifier: Apache-2.0
"""Half precision in portable C, which has no such type: its bits pass as uint16.

Copies need no more; casts call C functions on the bits; other arithmetic is refused, since on the bits it
would be wrong.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import PrimType
from tvm.script.ir_builder import tirx as T

from bnncc.diagnostics import BnnccError
from bnncc.kernels import emit
from bnncc.kernels.c_helpers import FROM_HALF, TO_HALF
from bnncc.kernels.emit import Buffers, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import each
from bnncc.plan.kernel import KernelSpec, Opaque
from bnncc.plan.layout import Element, Layout

CASTS = frozenset({Element.F32, Element.I8, Element.I16, Element.I32, Element.I64})
"""What half precision becomes, and is made of, by way of float32 with one rounding. An integer that float32
rounds is beyond half precision anyway."""

ARITHMETIC = (
    *(tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Mod, tirx.Max, tirx.Min),
    *(tirx.EQ, tirx.NE, tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.Cast),
)
"""Expressions whose operands are `a` and `b`, or `value`."""


def make_cast(spec: KernelSpec, root: Opaque, isa: Isa) -> Kernel | None:
    """The kernel of a Cast from or to half precision; None for others, and where the target has the type."""
    if not isa.is_scalar or root.operator != "Cast" or len(spec.inputs) != 1:
        return None
    source, target = spec.inputs[0], spec.outputs[0].layout
    if Element.F16 not in (source.element, target.element) or not {source.element, target.element} & CASTS:
        return None
    parameters = (
        emit.layout_parameter("x0", source, is_const=True, dtype=_dtype(source)),
        emit.layout_parameter("y0", target, is_const=False, dtype=_dtype(target)),
    )

    def body(buffers: Buffers) -> None:
        for index in each(target.extent, "i"):
            value = _as_float(buffers["x0"][index], source)
            if target.element is Element.F16:
                value = T.call_pure_extern("uint16", TO_HALF, value)
            elif target.element is not Element.F32:
                value = T.Cast(target.element.dtype, value)
            T.buffer_store(buffers["y0"], value, [index])

    symbol = kernel_symbol(spec, isa, {})
    function = emit.function(symbol, parameters, body)
    description = f"{source.element} to {target.element}, one by one"
    return Kernel(symbol, spec, function, parameters, lambda constants: constants, {}, description)


def _dtype(layout: Layout) -> str:
    return "uint16" if layout.element is Element.F16 else layout.element.dtype


def _as_float(value: Value, layout: Layout) -> Value:
    if layout.element is Element.F16:
        return T.call_pure_extern("float32", FROM_HALF, value)
    return value if layout.element is Element.F32 else T.Cast("float32", value)


def check(kernel: Kernel) -> None:
    """Raises BnnccError (with no location) if a kernel in portable C would compute with half precision."""
    root = kernel.spec.root
    has_half = any(parameter.dtype == "float16" for parameter in kernel.parameters)
    if (has_half or isinstance(root, Opaque)) and _computes(kernel.function):
        what = f"operator {root.operator}" if isinstance(root, Opaque) else "a copy"
        raise BnnccError(
            "",
            f"{what} cannot be computed in float16 for this target: C has no such type",
            "export the model in float32, or choose a target that is not made of C",
        )


def _computes(function: Any) -> bool:
    """Whether half precision is more than loaded, chosen and stored."""
    found: list[object] = []

    def arithmetic(expression: Any) -> None:
        operands = (expression.value,) if isinstance(expression, tirx.Cast) else (expression.a, expression.b)
        found.extend(filter(_is_half, (expression, *operands)))

    def call(expression: Any) -> None:
        if expression.op != tvm.ir.Op.get("prim.if_then_else"):
            found.extend(filter(_is_half, (expression, *expression.args)))

    constant = (tirx.FloatImm, lambda expression: found.extend(filter(_is_half, [expression])))
    variable = (tirx.Bind, lambda statement: found.extend(filter(_is_half, [statement.value])))
    tvm_ffi.structural_walk(
        function.body, [(ARITHMETIC, arithmetic), (tvm.ir.Call, call), constant, variable]
    )
    return bool(found)


def _is_half(expression: Any) -> bool:
    """Whether it is a number in half precision, not a buffer of them."""
    return tvm_ffi.structural_equal(expression.ty, PrimType("float16"))
