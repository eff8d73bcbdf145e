# SPDX-License-Identifier: Apache-2.0
"""Writing TIR: functions over raw pointers, addresses, vectors and their pieces.

A template is a Python function that emits the final loop nest, nothing is scheduled afterwards:

    epilogue = Epilogue(spec, isa)
    parameters = (emit.input_parameter("input", layout), *epilogue.operands,
                  emit.constant_parameter("weight", "uint32", count, "..."), *epilogue.constants,
                  *epilogue.outputs)

    def body(buffers):
        epilogue.attach(buffers)
        with T.serial(0, h) as y, T.serial(0, w) as x:
            value = emit.load(buffers["input"], emit.address(layout, 0, y, x, 0), isa.lanes)
            ...
            epilogue.store((0, y, x), first=0, count=c, accumulator=...)

    function = emit.function(symbol, parameters, body)

Values are TIR expressions; a vector of n lanes has a dtype such as "float32x16". Only `bind` names a value: a
Python variable is an expression that is written again wherever it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.target.codegen import llvm_lookup_intrinsic_id

from bnncc.kernels.kernel import Parameter
from bnncc.plan.c_values import C_TYPES
from bnncc.plan.layout import Element, Layout

Value = Any
"""A TIR expression. TVM's classes have operators and attributes where type checkers do not see them."""

Index = Any
"""A Python int where it is known, else a TIR expression of type int32."""

Buffer = Any
"""A flat buffer, of a parameter or on the stack; typed loosely for the same reason."""

Buffers = Mapping[str, Buffer]
"""Those of the parameters, by name."""


def layout_parameter(name: str, layout: Layout, *, is_const: bool, dtype: str | None = None) -> Parameter:
    """The parameter through which a tensor of `layout` is read or written, by default as it is stored.

    dtype "uint8" sees packed bits as bytes (byte i of a word holds channels 8i..8i+7).
    """
    stored = layout.element.dtype
    dtype = dtype or stored
    factor = layout.element.bytes // tvm.DataType(dtype).itemsize
    doc = describe_layout(layout)
    return Parameter(name, dtype, layout.extent * factor, is_const, C_TYPES[stored], doc)


def input_parameter(name: str, layout: Layout, dtype: str | None = None) -> Parameter:
    """A tensor that is read."""
    return layout_parameter(name, layout, is_const=True, dtype=dtype)


def constant_parameter(name: str, dtype: str, extent: int, doc: str) -> Parameter:
    """A constant in the template's stored form: `extent` elements of dtype."""
    return Parameter(name, dtype, extent, True, C_TYPES[dtype], doc)


def describe_layout(layout: Layout) -> str:
    """One line on a parameter's tensor for comments in C."""
    shape = "x".join(str(extent) for extent in layout.shape)
    text = f"{layout.element} [{shape}]"
    if layout.form != "plain":
        text += f", {layout.form} form"
    if layout.halo:
        halo = layout.halo
        text += f", halo {halo.top} {halo.left} {halo.bottom} {halo.right}"
    elif not layout.is_contiguous:
        text += f", strides {' '.join(str(stride) for stride in layout.strides)}"
    return text


def function(symbol: str, parameters: Sequence[Parameter], body: Callable[[Buffers], None]) -> tirx.PrimFunc:
    """The PrimFunc `void symbol(parameters...)` on raw pointers; `body` emits it, given a flat buffer a name.

    The pointers are taken to be distinct (see `Epilogue.attach` on outputs in the place of operands).
    """
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(symbol)
        T.func_attr({"global_symbol": symbol, "tirx.noalias": True, "calling_conv": 1})
        handles = [T.arg(p.name, T.handle(p.dtype)) for p in parameters]
        buffers = {
            p.name: T.decl_buffer((p.extent,), p.dtype, data=handle)
            for p, handle in zip(parameters, handles, strict=True)
        }
        body(buffers)
    result = builder.get()
    assert isinstance(result, tirx.PrimFunc)
    return result


def address(layout: Layout, n: Index, y: Index, x: Index, c: Index, unit: int = 1) -> Index:
    """Index of element [n, y, x, c] in the flat buffer of `layout`; dimensions of extent 1 are broadcast.

    For packed bits c counts words (unit 1) or bytes (unit 4, a buffer of bytes).
    """
    total: Index = layout.offset * unit
    strides = [stride * unit for stride in layout.strides[:3]]
    for index, stride, extent in zip((n, y, x), strides, layout.shape[:3], strict=True):
        if extent > 1:
            total = total + index * stride
    if layout.element is Element.BIT or layout.shape[3] > 1:
        total = total + c * layout.strides[3]
    return total


def pixel_address(layout: Layout, n: Index, y: Index, x: Index, unit: int = 1) -> Index:
    """Index of channel 0 of the pixel [n, y, x], which may lie in the halo (no broadcasting)."""
    n_stride, y_stride, x_stride = (stride * unit for stride in layout.strides[:3])
    return layout.offset * unit + n * n_stride + y * y_stride + x * x_stride


def pieces(count: int, lanes: int, smallest: int = 1) -> list[tuple[int, int]]:
    """[0, count) as (offset, width): full vectors, then ever smaller powers of two down to `smallest`,
    then single elements. pieces(10, 4) is (0, 4), (4, 4), (8, 2)."""
    result: list[tuple[int, int]] = []
    offset, width = 0, lanes
    while offset < count:
        while width > count - offset:
            width = width // 2 if width > smallest else 1
        result.append((offset, width))
        offset += width
    return result


def vector_type(dtype: str, lanes: int) -> str:
    """ "float32", 16 -> "float32x16"."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def lanes_of(value: Value) -> int:
    """Lanes of a value."""
    return value.ty.dtype.lanes


def load(buffer: Buffer, index: Index, lanes: int = 1, stride: int = 1) -> Value:
    """`lanes` elements from `index` on: one vector load if the stride is 1, single loads otherwise."""
    if lanes == 1:
        return buffer[index]
    if stride == 1:
        return buffer.vload([index], vector_type(buffer.dtype, lanes))
    if stride == 0:
        return broadcast(buffer[index], lanes)
    return concatenate([buffer[index + lane * stride] for lane in range(lanes)])


def store(buffer: Buffer, value: Value, index: Index, stride: int = 1) -> None:
    """Store the lanes of `value` at `index`, `index + stride`, ..."""
    lanes = lanes_of(value)
    if lanes == 1:
        T.buffer_store(buffer, value, [index])
    elif stride == 1:
        T.buffer_store(buffer, value, [T.Ramp(index, 1, lanes)])
    else:
        value = bind(value)
        for lane in range(lanes):
            T.buffer_store(buffer, extract(value, lane), [index + lane * stride])


def prefetch(buffer: Buffer, index: Index, is_written: bool) -> None:
    """Have the processor fetch the cache line of an element, to read or also to write it."""
    to_write, keep, data = (tirx.const(number, "int32") for number in (int(is_written), 3, 1))
    T.evaluate(T.call_llvm_intrin("void", "llvm.prefetch", T.address_of(buffer[index]), to_write, keep, data))


def is_prefetch(statement: Any) -> bool:
    """Whether a statement is one that `prefetch` emits, which changes nothing."""
    if not isinstance(statement, tirx.Evaluate):
        return False
    call: Any = statement.value
    operation = getattr(call, "op", None)
    if operation is None or not operation.same_as(tvm.ir.Op.get("tirx.call_llvm_intrin")):
        return False
    return int(call.args[0]) == llvm_lookup_intrinsic_id("llvm.prefetch")


def broadcast(value: Value, lanes: int) -> Value:
    """The scalar in every lane."""
    return value if lanes == 1 else T.Broadcast(value, lanes)


def constant(value: float, dtype: str, lanes: int = 1) -> Value:
    """A number of the scalar type `dtype` in every lane."""
    return broadcast(tirx.const(value, dtype), lanes)


def concatenate(values: Iterable[Value]) -> Value:
    """Scalars or vectors of equal length, one after the other, as one vector."""
    values = list(values)
    lanes = sum(lanes_of(value) for value in values)
    return values[0] if len(values) == 1 else tirx.Shuffle(values, _indices(0, lanes))


def extract(value: Value, offset: int, count: int = 1) -> Value:
    """Lanes [offset, offset + count) of a vector."""
    if offset == 0 and count == lanes_of(value):
        return value
    return tirx.Shuffle([value], _indices(offset, count))


def side_by_side(left: Value, right: Value) -> Value:
    """Lane 0 of both, lane 1 of both, ..., as one vector of twice the length."""
    lanes = lanes_of(left)
    order: list[Any] = [lane + side for lane in range(lanes) for side in (0, lanes)]
    return tirx.Shuffle([left, right], order)


def every_other(value: Value, first: int) -> Value:
    """Lanes first, first + 2, ... of a vector."""
    return tirx.Shuffle([value], _indices(0, lanes_of(value))[first::2])


def _indices(first: int, count: int) -> list[Any]:
    return list(range(first, first + count))


def bind(value: Value) -> Value:
    """Name a value, so that it is computed once. Not for booleans: TIR cannot bind vectors of them."""
    if isinstance(value, tirx.Var) or is_number(value):
        return value
    if isinstance(value, tirx.Select):
        return _through_memory(value)
    return T.bind(value)


def is_number(value: Value) -> bool:
    """Whether the value is a number known now, in every lane."""
    scalar = value.value if isinstance(value, tirx.Broadcast) else value
    return isinstance(scalar, tirx.IntImm | tirx.FloatImm)


def _through_memory(value: Value) -> Value:
    """A value named by a cell on the stack, which LLVM turns into a register again.

    TIR's simplifier looks through bound values into both branches of a Select, and so takes time
    exponential in how many of them follow one another (softmax over 10 channels: minutes). It does not look
    into memory.
    """
    lanes = lanes_of(value)
    cell = local(str(value.ty.dtype).partition("x")[0], lanes)
    store(cell, value, 0)
    return load(cell, 0, lanes)


def local(dtype: str, count: int, name: str = "cell", is_volatile: bool = False) -> Buffer:
    """`count` elements on the stack (registers, where every index is constant and it is not volatile). Less
    than 1024 bytes: TVM would allocate more than that from a run-time library that we do not have."""
    assert count * tvm.DataType(dtype).itemsize < 1024, "larger than TVM keeps on the stack"
    annotations = {"tirx.volatile": True} if is_volatile else None
    buffer = T.alloc_buffer((count,), dtype, annotations=annotations)
    IRBuilder.name(name, buffer)
    return buffer


def bind_index(index: Index) -> Index:
    """Name an index, unless it is known."""
    return index if isinstance(index, int) else bind(index)
