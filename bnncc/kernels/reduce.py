# SPDX-License-Identifier: Apache-2.0
"""Reductions over the channels of a pixel: the mean and softmax."""

from __future__ import annotations

import functools
from collections.abc import Callable

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit, functions
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.kernels.naming import kernel_symbol
from bnncc.kernels.nest import each, tiles
from bnncc.plan.kernel import ChannelMean, KernelSpec, Softmax
from bnncc.plan.layout import WORD_BITS, Element, Layout

Combine = Callable[[Value, Value], Value]
Term = Callable[[Value], Value]

PARTIAL_SUMS = 4
"""Vectors that are reduced side by side, so that one need not wait for the other."""


def make_channel_mean(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is ChannelMean. There is nothing to schedule."""
    root = spec.root
    assert isinstance(root, ChannelMean) and root.input.element is not Element.BIT
    channels = root.input.shape[3]

    def value(buffer: Buffer, pixel: Index) -> Callable[[Index, int], Value]:
        total = _reduce(buffer, root.input, pixel, isa, _add, 0.0, lambda x: x)
        mean = emit.bind(total / functions.number(channels, 1, isa.is_scalar))
        return lambda offset, lanes: emit.broadcast(mean, lanes)

    return _make(spec, root.input, isa, value, f"mean of {channels} channels")


def make_softmax(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is Softmax. There is nothing to schedule."""
    root = spec.root
    assert isinstance(root, Softmax)
    channels = root.input.shape[3]

    def value(buffer: Buffer, pixel: Index) -> Callable[[Index, int], Value]:
        largest = emit.bind(_reduce(buffer, root.input, pixel, isa, _maximum, float("-inf"), lambda x: x))

        def term(x: Value) -> Value:
            return functions.unary(
                "exp", emit.bind(x - emit.broadcast(largest, emit.lanes_of(x))), isa.is_scalar
            )

        total = emit.bind(_reduce(buffer, root.input, pixel, isa, _add, 0.0, term))
        return lambda channel, lanes: (
            term(_load(buffer, root.input, pixel, channel, lanes)) / emit.broadcast(total, lanes)
        )

    return _make(spec, root.input, isa, value, f"softmax over {channels} channels, exponentials taken twice")


def _make(
    spec: KernelSpec,
    layout: Layout,
    isa: Isa,
    value: Callable[[Buffer, Index], Callable[[Index, int], Value]],
    description: str,
) -> Kernel:
    """value(buffer, pixel): emits the reduction of a pixel, gives the accumulator by (channel, lanes)."""
    epilogue = Epilogue(spec, isa)
    parameters = (
        emit.input_parameter("input", layout),
        *epilogue.operands,
        *epilogue.constants,
        *epilogue.outputs,
    )
    n, h, w, c = spec.shape
    size = WORD_BITS if epilogue.writes_bits else c if isa.is_scalar else epilogue.lanes

    def body(buffers: Buffers) -> None:
        epilogue.attach(buffers)
        for image in each(n, "image"):
            for y in each(h, "row"):
                for x in each(w, "column"):
                    pixel = emit.bind_index(emit.pixel_address(layout, image, y, x))
                    accumulator = value(buffers["input"], pixel)
                    for first, count in tiles(c, size, "channel"):
                        epilogue.store((image, y, x), first, count, _from(accumulator, first))

    symbol = kernel_symbol(spec, isa, {})
    function = emit.function(symbol, parameters, body)
    return Kernel(symbol, spec, function, parameters, epilogue.pack, {}, description)


def _from(accumulator: Callable[[Index, int], Value], first: Index) -> Callable[[Index, int], Value]:
    return lambda offset, lanes: accumulator(first + offset, lanes)


def _reduce(
    buffer: Buffer, layout: Layout, pixel: Index, isa: Isa, combine: Combine, neutral: float, term: Term
) -> Value:
    """combine(term(x[0]), term(x[1]), ...) over the channels of a pixel."""
    channels = layout.shape[3]
    if isa.is_scalar:
        total = emit.local("float32", 1)
        T.buffer_store(total, functions.number(neutral, 1, True), [0])
        for c in each(channels, "channel"):
            value = emit.bind(term(_load(buffer, layout, pixel, c, 1)))
            T.buffer_store(total, combine(total[0], value), [0])
        return total[0]
    lanes = isa.lanes
    while lanes > channels:
        lanes //= 2
    sums = [emit.local("float32", lanes) for _ in range(min(PARTIAL_SUMS, channels // lanes))]
    for total in sums:
        emit.store(total, emit.constant(neutral, "float32", lanes), 0)
    whole = channels // lanes * lanes
    for first, count in tiles(whole, lanes * len(sums)):
        for total, start in zip(sums, range(0, count, lanes), strict=False):
            value = emit.bind(term(_load(buffer, layout, pixel, first + start, lanes)))
            emit.store(total, combine(emit.load(total, 0, lanes), value), 0)
    result = functools.reduce(combine, [emit.bind(emit.load(total, 0, lanes)) for total in sums])
    result = _across(result, combine)
    for c in range(whole, channels):
        result = emit.bind(combine(result, emit.bind(term(_load(buffer, layout, pixel, c, 1)))))
    return result


def _load(buffer: Buffer, layout: Layout, pixel: Index, channel: Index, lanes: int) -> Value:
    """Channels of a pixel as float32."""
    value = emit.load(buffer, pixel + channel * layout.strides[3], lanes, layout.strides[3])
    return value if layout.element is Element.F32 else T.Cast(emit.vector_type("float32", lanes), value)


def _across(value: Value, combine: Combine) -> Value:
    """The lanes of a vector combined, halves first."""
    lanes = emit.lanes_of(value)
    while lanes > 1:
        lanes //= 2
        value = emit.bind(value)
        value = combine(emit.extract(value, 0, lanes), emit.extract(value, lanes, lanes))
    return emit.bind(value)


def _add(left: Value, right: Value) -> Value:
    return left + right


def _maximum(left: Value, right: Value) -> Value:
    return tirx.Select(left > right, left, right)
