# SPDX-License-Identifier: Apache-2.0
"""Kernels of ONNX nodes that have no template: TVM's own loops for them, and copies between element types."""

from __future__ import annotations

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit, relax
from bnncc.kernels.emit import Buffers, Index, Value
from bnncc.kernels.flat import flatten
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, Parameter, Schedule
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import each
from bnncc.plan.kernel import Convert, KernelSpec, Opaque
from bnncc.plan.layout import WORD_BITS, Element, Layout


def make(spec: KernelSpec, isa: Isa, schedule: Schedule | None = None) -> Kernel:
    """The kernel of `spec`, whose root is Opaque. Raises BnnccError where TVM cannot make one."""
    root = spec.root
    assert isinstance(root, Opaque)
    symbol = kernel_symbol(spec, isa, {})
    imported = relax.import_node(root)
    flat = flatten(imported.function, symbol, isa)
    known = tuple(_stored(array) for array in imported.constants)
    parameters = [emit.input_parameter(f"x{slot}", x) for slot, x in zip(root.fed, spec.inputs, strict=True)]
    parameters += [
        _constant(f"x{slot}", root.argument(slot).element.dtype, root.argument(slot).shape)
        for slot in root.weights
    ]
    parameters += [_constant(f"constant{i}", array.dtype.name, array.shape) for i, array in enumerate(known)]
    parameters += [
        emit.layout_parameter(f"y{i}", output.layout, is_const=False) for i, output in enumerate(spec.outputs)
    ]
    if flat.scratch_bytes:
        doc = "memory for intermediate results"
        parameters.append(Parameter("scratch", "uint8", flat.scratch_bytes, False, "uint8_t", doc))

    def pack(constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return (*(_stored(array) for array in constants), *known)

    description = f"{root.operator} by TVM's own loops"
    return Kernel(
        symbol, spec, flat.function, tuple(parameters), pack, {}, description, flat.scratch_bytes
    )


def _constant(name: str, dtype: str, shape: tuple[int, ...]) -> Parameter:
    return emit.constant_parameter(name, dtype, int(np.prod(shape)), f"{dtype} {list(shape)}")


def _stored(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array)


# --- Copies between element types ------------------------------------------------------------------------


def make_convert(spec: KernelSpec, isa: Isa, schedule: Schedule | None = None) -> Kernel:
    """The kernel of `spec`, whose root is Convert: one element after the other."""
    root = spec.root
    assert isinstance(root, Convert)
    source, target = root.input, spec.outputs[0].layout
    parameters = (
        emit.input_parameter("input", source),
        emit.layout_parameter("output", target, is_const=False),
    )

    def body(buffers: Buffers) -> None:
        n, h, w, c = spec.shape
        for image in each(n):
            for y in each(h):
                for x in each(w):
                    if target.element is Element.BIT:
                        for word in each(target.depth):
                            bits = _word(buffers, source, (image, y, x), word, c)
                            T.buffer_store(
                                buffers["output"], bits, [emit.address(target, image, y, x, word)]
                            )
                    else:
                        for channel in each(c):
                            value = _converted(_element(buffers, source, (image, y, x), channel), source, target)
                            T.buffer_store(
                                buffers["output"], value, [emit.address(target, image, y, x, channel)]
                            )

    symbol = kernel_symbol(spec, isa, {})
    description = f"{source.element} to {target.element}, one by one"
    function = emit.function(symbol, parameters, body)
    return Kernel(symbol, spec, function, parameters, lambda constants: constants, {}, description)


def _element(buffers: Buffers, layout: Layout, pixel: tuple[Index, Index, Index], channel: Index) -> Value:
    """One element as it is stored; a packed bit as uint32 0 or 1."""
    if layout.element is not Element.BIT:
        return buffers["input"][emit.address(layout, *pixel, channel)]
    word = buffers["input"][emit.address(layout, *pixel, channel // WORD_BITS)]
    return T.bitwise_and(T.shift_right(word, T.Cast("uint32", channel % WORD_BITS)), tirx.const(1, "uint32"))


def _converted(value: Value, source: Layout, target: Layout) -> Value:
    if target.element is Element.BOOL:
        return value if source.element is Element.BOOL else tirx.NE(value, tirx.const(0, value.dtype))
    return value if source.element is target.element else T.Cast(target.element.dtype, value)


def _word(
    buffers: Buffers, source: Layout, pixel: tuple[Index, Index, Index], word: Index, channels: int
) -> Value:
    """32 elements as bits; those beyond the channels are 0."""
    total: Value = tirx.const(0, "uint32")
    for bit in range(min(WORD_BITS, channels)):
        channel = word * WORD_BITS + bit
        last = channels - 1
        inside = channel if channels % WORD_BITS == 0 else tirx.min(channel, tirx.const(last, "int32"))
        value = _element(buffers, source, pixel, inside)
        is_set = tirx.NE(value, tirx.const(0, value.dtype))
        if channels % WORD_BITS:
            is_set = tirx.And(is_set, channel < channels)
        total = T.bitwise_or(total, tirx.Select(is_set, tirx.const(1 << bit, "uint32"), tirx.const(0, "uint32")))
    return total
