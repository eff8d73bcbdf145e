# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions of bytes, column by column: the bytes of a few rows of one column and channel lie
side by side in a lane, and one instruction adds up their products with as many weights.

Neighbouring pixels share the columns that they have in common. VPDPBUSD of AVX-512 VNNI takes four rows;
elsewhere PMADDWD takes two, widened to 16 bits. Rows that complete a group are zeros.

Stored weights, int8 or int16: [vectors][columns][groups of rows][lanes][rows of a group].
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.byte import depthwise as byte_depthwise
from bnncc.kernels.byte.plan import BytePlan, zeros
from bnncc.kernels.byte.steps import add_products
from bnncc.kernels.emit import Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.nest import Tile, Vector
from bnncc.kernels.tiles import Sums


def accumulate(plan: BytePlan, tile: Tile, buffers: Buffers, isa: Isa) -> Sums:
    """Emit the sums of a tile."""
    sums, starts = zeros(tile, "int32"), plan.starts(tile)
    for v, vector in enumerate(tile.vectors):
        weights = _load_weights(plan, buffers, vector)
        for row in range(tile.rows):
            pixels = range(row * tile.columns, (row + 1) * tile.columns)
            _add_row(plan, buffers, {p: (sums[p, v], starts[p]) for p in pixels}, weights, vector)
    return sums


def _add_row(
    plan: BytePlan, buffers: Buffers, pixels: dict, weights: list[list[Value]], vector: Vector
) -> None:
    """Emit the sums of neighbouring pixels. pixels: (sum, start of the window) of each."""
    window, step = plan.root.window, plan.root.input.strides[2]
    first = next(iter(pixels))
    start = pixels[first][1]
    places = {
        (p, k): (p - first) * window.stride_x + k * window.dilation_x
        for p in pixels
        for k in range(window.width)
    }
    for place in sorted(set(places.values())):
        column = _column(plan, buffers, start + place * step, vector)
        for (p, k), at in places.items():
            if at == place:
                for rows, weight in zip(column, weights[k], strict=True):
                    add_products(plan.method, pixels[p][0], [rows], [weight], vector.width)


def _column(plan: BytePlan, buffers: Buffers, start: Index, vector: Vector) -> list[Value]:
    """The bytes of a column: for each group of rows what its weights are multiplied by."""
    window, down = plan.root.window, plan.root.input.strides[1]
    together, width = plan.method.together, vector.width
    result = []
    for first in range(0, window.height, together):
        rows = [
            byte_depthwise.load_channels(
                plan, buffers, start + (first + i) * window.dilation_y * down, vector
            )
            for i in range(min(together, window.height - first))
        ]
        rows += [emit.constant(0, "uint8", width)] * (together - len(rows))
        joined = emit.concatenate(rows) if together == 4 else emit.side_by_side(*rows)
        if together == 4:
            order: list[Any] = [row * width + lane for lane in range(width) for row in range(together)]
            result.append(emit.bind(tirx.Shuffle([joined], order)))
        else:
            result.append(emit.bind(T.Cast(f"int16x{2 * width}", joined)))
    return result


def _load_weights(plan: BytePlan, buffers: Buffers, vector: Vector) -> list[list[Value]]:
    """Of each column, for each group of rows."""
    window, together = plan.root.window, plan.method.together
    groups, length = -(-window.height // together), vector.width * together
    start = vector.channel * plan.steps * together
    return [
        [
            emit.bind(emit.load(buffers["weight"], start + (k * groups + g) * length, length))
            for g in range(groups)
        ]
        for k in range(window.width)
    ]
