# SPDX-License-Identifier: Apache-2.0
"""The words of spikes that the window of one output pixel sees."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from bnncc.kernels import emit
from bnncc.kernels.emit import Buffer, Index
from bnncc.kernels.epilogue_values import Position
from bnncc.kernels.nest import each, tiles
from bnncc.kernels.spike.events import EventIsa, Word
from bnncc.plan.kernel import SpikeConv
from bnncc.plan.layout import WORD_BITS, Layout

MOST_BITS = 256
"""Of a chunk: sums of so many int8 numbers fit into int16."""

Chunk = Callable[[], Iterator[Word]]
"""The words of a piece of the window, in loops where they are many. A bit's number is ky, kx, channel."""


def window_words(
    events: EventIsa, root: SpikeConv, layout: Layout, plane: Buffer, position: Position
) -> Iterator[Chunk]:
    """The window of a pixel of one plane in pieces of at most MOST_BITS bits, in loops over its taps."""
    window, channels = root.window, layout.shape[3]
    n, y, x = position
    top, left = y * window.stride_y - window.top, x * window.stride_x - window.left
    start = emit.bind_index(emit.pixel_address(layout, n, top, left))
    for ky in each(window.height, "tap_row"):
        row, first = (
            start + ky * (window.dilation_y * layout.strides[1]),
            ky * (window.width * channels),
        )
        if channels * 2 <= events.bits:
            yield from _joined(events, root, layout, plane, row, first)
            continue
        for kx in each(window.width, "tap"):
            pixel = row + kx * (window.dilation_x * layout.strides[2])
            yield from _pixel(events, plane, pixel, first + kx * channels, channels)


def _joined(
    events: EventIsa, root: SpikeConv, layout: Layout, plane: Buffer, row: Index, first: Index
) -> Iterator[Chunk]:
    """Neighbouring taps of few channels in one word."""
    channels, stride = layout.shape[3], root.window.dilation_x * layout.strides[2]

    def word(kx: int, count: int) -> Word:
        value = events.widen(plane[row + kx * stride])
        for i in range(1, count):
            value = value | events.widen(plane[row + (kx + i) * stride], i * channels)
        return Word(value, first + kx * channels)

    width, together = root.window.width, events.bits // channels
    joined = [(kx, min(together, width - kx)) for kx in range(0, width, together)]
    size = max(1, MOST_BITS // events.bits)
    for begin in range(0, len(joined), size):
        part = joined[begin : begin + size]
        yield lambda part=part: (word(kx, count) for kx, count in part)


def _pixel(events: EventIsa, plane: Buffer, pixel: Index, first: Index, channels: int) -> Iterator[Chunk]:
    """The words of one pixel."""
    for begin, count in tiles(-(-channels // WORD_BITS), MOST_BITS // WORD_BITS, "words"):
        bits = count * WORD_BITS
        if isinstance(begin, int):
            bits = min(bits, channels - begin * WORD_BITS)
        yield functools.partial(events.words, plane, pixel + begin, bits, first + begin * WORD_BITS)
