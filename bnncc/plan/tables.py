# SPDX-License-Identifier: Apache-2.0
"""When convolutions of spikes look up sums: where a row of the window is few bits, the tables are small."""

from __future__ import annotations

from dataclasses import dataclass

from bnncc.plan.kernel import Window

MOST_BYTES = 1 << 19
"""Of all tables."""

MOST_PATTERN_BITS = 11

FEWEST_LANES = 8
"""Of a vector that is worth it."""

MOST_VECTORS = 2
"""Of outputs, side by side."""

ROW_BITS = 64
"""Columns that a row word has at most."""


@dataclass(frozen=True)
class Layer:
    """A convolution: its window, its input channels, its columns and channels of output."""

    window: Window
    inputs: int
    columns: int
    outputs: int


def fit(layer: Layer, lanes: int) -> bool:
    """Whether tables serve a convolution on vectors of so many float32 lanes."""
    window, bits = layer.window, layer.window.width * layer.inputs
    if lanes < FEWEST_LANES or (window.dilation_y, window.dilation_x) != (1, 1):
        return False
    if bits > MOST_PATTERN_BITS or window.height < 2:
        return False
    reach = (layer.columns - 1) * window.stride_x + window.width
    stored = -(-layer.outputs // lanes) * lanes
    size = window.height * ((1 << bits) + 1) * stored * 4
    pattern_fits = min(stored, MOST_VECTORS * lanes) << bits <= 1 << 16
    return reach <= ROW_BITS and size <= MOST_BYTES and pattern_fits
