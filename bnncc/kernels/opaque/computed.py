# SPDX-License-Identifier: Apache-2.0
"""Opaque nodes whose loops we write ourselves: TVM's importer lacks them, or lowers them to its runtime.

Buffers are named x0, x1... by the slots of the node's inputs and y0, y1... by its outputs, all row-major.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit, functions
from bnncc.kernels.emit import Buffers, Index, Value
from bnncc.kernels.nest import each
from bnncc.plan.kernel import Opaque

Body = Callable[[Buffers], None]
"""Emits the loops of a node."""


def body(root: Opaque) -> Body | None:
    """The loops of a node; None where TVM's importer has them."""
    make = COMPUTED.get(root.operator)
    return make(root) if make is not None else None


def _attributes(root: Opaque) -> dict[str, Any]:
    node = NodeProto.FromString(root.node)
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def known(root: Opaque, slot: int) -> np.ndarray | None:
    """The numbers of an input: None where it is not given or not known."""
    for argument in root.arguments:
        if argument.slot == slot and argument.values is not None:
            return np.frombuffer(argument.values, argument.element.dtype).reshape(argument.shape)
    return None


def _strides(shape: Sequence[int]) -> list[int]:
    """Of a row-major tensor, in elements."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _dot(index: Sequence[Index], strides: Sequence[int]) -> Index:
    return sum((i * stride for i, stride in zip(index, strides, strict=True)), start=0)


def pad(root: Opaque) -> Body | None:
    """y[i] = x[i - before] inside x, elsewhere a value that is known only when the network runs."""
    pads, axes = known(root, 1), known(root, 3)
    if 2 not in root.fed or pads is None or _attributes(root).get("mode", b"constant") != b"constant":
        return None
    (_, result), shape = root.results[0], root.argument(0).shape
    chosen = range(len(shape)) if axes is None else [int(axis) % len(shape) for axis in axes.reshape(-1)]
    before = [0] * len(shape)
    for axis, amount in zip(chosen, pads.reshape(2, -1)[0], strict=True):
        before[axis] = int(amount)

    def emit_loops(buffers: Buffers, index: tuple[Index, ...] = ()) -> None:
        if len(index) < len(result):
            for i in each(result[len(index)], f"i{len(index)}"):
                emit_loops(buffers, (*index, i))
            return
        source = [i - low for i, low in zip(index, before, strict=True)]
        inside = [tirx.const(True, "bool")]
        inside += [_within(i, extent) for i, extent in zip(source, shape, strict=True)]
        taken = buffers["x0"][_dot(source, _strides(shape))]
        value = tirx.if_then_else(tirx.all(*inside), taken, buffers["x2"][0])
        T.buffer_store(buffers["y0"], value, [_dot(index, _strides(result))])

    return emit_loops


def _within(index: Index, extent: int) -> Value:
    if isinstance(index, int):
        return tirx.const(0 <= index < extent, "bool")
    return tirx.And(index >= 0, index < extent)


def cumulative_sum(root: Opaque) -> Body | None:
    """y[i] = sum over j <= i of x[j]; over j < i where `exclusive`; counted from the end where `reverse`."""
    axis = known(root, 1)
    if axis is None:
        return None
    attributes, shape = _attributes(root), root.argument(0).shape
    exclusive, reverse = bool(attributes.get("exclusive", 0)), bool(attributes.get("reverse", 0))
    outer, length, inner = _around(shape, int(axis.reshape(-1)[0]))
    dtype = root.argument(0).element.dtype

    def emit_loops(buffers: Buffers) -> None:
        total = emit.local(dtype, 1, "total")
        for row in each(outer, "row"):
            for column in each(inner, "column"):
                T.buffer_store(total, tirx.const(0, dtype), [0])
                for step in each(length, "step"):
                    place = length - 1 - step if reverse else step
                    index = emit.bind_index((row * length + place) * inner + column)
                    value = emit.bind(buffers["x0"][index])
                    if exclusive:
                        T.buffer_store(buffers["y0"], total[0], [index])
                    T.buffer_store(total, total[0] + value, [0])
                    if not exclusive:
                        T.buffer_store(buffers["y0"], total[0], [index])

    return emit_loops


def top_k(root: Opaque) -> Body | None:
    """The k largest (or smallest) along an axis in order, equal ones by their positions, and the positions.

    Each of k passes looks for the best of those that come after what the last one found: no memory, and k
    is small."""
    attributes, shape = _attributes(root), root.argument(0).shape
    outer, length, inner = _around(shape, int(attributes.get("axis", -1)))
    count = math.prod(root.results[0][1]) // (outer * inner)
    dtype, largest = root.argument(0).element.dtype, bool(attributes.get("largest", 1))

    def better(left: Value, right: Value) -> Value:
        return left > right if largest else left < right

    def emit_loops(buffers: Buffers) -> None:
        best, last = emit.local(dtype, 1, "best"), emit.local(dtype, 1, "last")
        best_at, last_at = emit.local("int32", 1, "best_at"), emit.local("int32", 1, "last_at")

        def look(candidate: Index, value: Value) -> None:
            after = tirx.Or(better(last[0], value), tirx.And(tirx.EQ(last[0], value), last_at[0] < candidate))
            is_next = tirx.Or(last_at[0] < 0, after)
            with T.If(tirx.And(is_next, tirx.Or(best_at[0] < 0, better(value, best[0])))), T.Then():
                T.buffer_store(best, value, [0])
                T.buffer_store(best_at, candidate, [0])

        for row in each(outer, "row"):
            for column in each(inner, "column"):
                T.buffer_store(last_at, tirx.const(-1, "int32"), [0])
                T.buffer_store(last, tirx.const(0, dtype), [0])
                for rank in each(count, "rank"):
                    T.buffer_store(best_at, tirx.const(-1, "int32"), [0])
                    T.buffer_store(best, tirx.const(0, dtype), [0])
                    with T.serial(0, length) as candidate:
                        look(candidate, emit.bind(buffers["x0"][(row * length + candidate) * inner + column]))
                    target = emit.bind_index((row * count + rank) * inner + column)
                    T.buffer_store(buffers["y0"], best[0], [target])
                    if "y1" in buffers:
                        T.buffer_store(buffers["y1"], T.Cast("int64", best_at[0]), [target])
                    T.buffer_store(last, best[0], [0])
                    T.buffer_store(last_at, best_at[0], [0])

    return emit_loops


def arg_best(root: Opaque) -> Body | None:
    """The first position along an axis, or the last, of NaN or of a number than which none is larger
    (ArgMin: smaller). Only of float32: TVM's own loops, which pass over NaN, do for integers."""
    attributes, shape, dtype = _attributes(root), root.argument(0).shape, root.argument(0).element.dtype
    if dtype != "float32":
        return None
    outer, length, inner = _around(shape, int(attributes.get("axis", 0)))
    largest, last = root.operator == "ArgMax", bool(attributes.get("select_last_index", 0))

    def better(value: Value, best: Value) -> Value:
        if last:
            beats = value >= best if largest else value <= best
            return tirx.Or(beats, functions.is_nan(value))
        beats = value > best if largest else value < best
        return tirx.And(tirx.Not(functions.is_nan(best)), tirx.Or(beats, functions.is_nan(value)))

    def emit_loops(buffers: Buffers) -> None:
        best, best_at = emit.local(dtype, 1, "best"), emit.local("int32", 1, "best_at")
        for row in each(outer, "row"):
            for column in each(inner, "column"):
                T.buffer_store(best_at, tirx.const(0, "int32"), [0])
                T.buffer_store(best, buffers["x0"][row * length * inner + column], [0])
                with T.serial(0, length) as candidate:
                    value = emit.bind(buffers["x0"][(row * length + candidate) * inner + column])
                    with T.If(better(value, best[0])), T.Then():
                        T.buffer_store(best, value, [0])
                        T.buffer_store(best_at, candidate, [0])
                T.buffer_store(buffers["y0"], T.Cast("int64", best_at[0]), [row * inner + column])

    return emit_loops


def _around(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """How many elements lie before, along, and behind an axis."""
    axis %= len(shape)
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


COMPUTED: dict[str, Callable[[Opaque], Body | None]] = {
    "ArgMax": arg_best,
    "ArgMin": arg_best,
    "CumSum": cumulative_sum,
    "Pad": pad,
    "TopK": top_k,
}
"""By operator."""
