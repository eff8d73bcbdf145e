# SPDX-License-Identifier: Apache-2.0
"""Copies between element types, where an opaque kernel meets another: one element after the other."""

from __future__ import annotations

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.emit import Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import each
from bnncc.plan.kernel import Convert, KernelSpec
from bnncc.plan.layout import WORD_BITS, Element, Layout

Pixel = tuple[Index, Index, Index]


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is Convert. There is nothing to schedule."""
    root = spec.root
    assert isinstance(root, Convert)
    source, target = root.input, spec.outputs[0].layout
    parameters = (
        emit.layout_parameter("input", source, is_const=True, dtype=_dtype(source)),
        emit.layout_parameter("output", target, is_const=False, dtype=_dtype(target)),
    )

    def body(buffers: Buffers) -> None:
        n, h, w, c = spec.shape
        for image in each(n):
            for y in each(h):
                for x in each(w):
                    for i in each(target.depth):
                        pixel = (image, y, x)
                        if target.element is Element.BIT:
                            value = _word(buffers["input"], source, pixel, i, c)
                        else:
                            value = _number(_load(buffers["input"], source, pixel, i), source, target)
                        T.buffer_store(buffers["output"], value, [emit.address(target, *pixel, i)])

    symbol = kernel_symbol(spec, isa, {})
    description = f"{source.element} to {target.element}, one by one"
    function = emit.function(symbol, parameters, body)
    return Kernel(symbol, spec, function, parameters, lambda constants: constants, {}, description)


def _dtype(layout: Layout) -> str:
    return "uint8" if layout.element is Element.BOOL else layout.element.dtype


def _load(buffer: tirx.Buffer, layout: Layout, pixel: Pixel, channel: Index) -> Value:
    """One element as it is stored; a packed bit as uint32 0 or 1."""
    if layout.element is not Element.BIT:
        return buffer[emit.address(layout, *pixel, channel)]
    word = buffer[emit.address(layout, *pixel, channel // WORD_BITS)]
    place = tirx.const(channel % WORD_BITS, "uint32") if isinstance(channel, int) else None
    shift = T.Cast("uint32", channel % WORD_BITS) if place is None else place
    return T.bitwise_and(T.shift_right(word, shift), tirx.const(1, "uint32"))


def _number(value: Value, source: Layout, target: Layout) -> Value:
    if target.element is source.element:
        return value
    if target.element is Element.BOOL:
        return T.Cast("uint8", tirx.NE(value, tirx.const(0, _dtype(source))))
    return T.Cast(target.element.dtype, value)


def _word(buffer: tirx.Buffer, source: Layout, pixel: Pixel, word: Index, channels: int) -> Value:
    """32 elements as bits; those beyond the channels are 0."""
    total: Value = tirx.const(0, "uint32")
    for bit in range(min(WORD_BITS, channels)):
        channel = word * WORD_BITS + bit
        is_whole = channels % WORD_BITS == 0 or channels < WORD_BITS
        inside = channel if is_whole else tirx.min(channel, tirx.const(channels - 1, "int32"))
        is_set = tirx.NE(_load(buffer, source, pixel, inside), tirx.const(0, _dtype(source)))
        if not is_whole:
            is_set = tirx.And(is_set, channel < channels)
        value = tirx.Select(is_set, tirx.const(1 << bit, "uint32"), tirx.const(0, "uint32"))
        total = T.bitwise_or(total, value)
    return total
