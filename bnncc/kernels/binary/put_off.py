# SPDX-License-Identifier: Apache-2.0
"""Register tiles whose epilogues are put off into the counting of the next tile of the row.

An epilogue is a chain of operations of three or four cycles each for every pixel. Right behind the counting
whose results it waits for, it fills the processor's window of instructions before they have come; after the
first step of the next tile they have. Shares of the time of `three_word_avx512.py` (Zen 4, the same memory in
turns), where bits are written in three-word form; "cold": when other memory was swept over before each call:

                                           at once   put off   cold: at once   put off
    56x56x64, threshold                       1.01       .99
    scale and bias                            1.04      1.04            1.10      1.09
    residual connection, two outputs          1.18      1.14            1.48      1.36
    residual connection, in place             1.13      1.11            1.16      1.13
    28x28x128, residual, two outputs          1.07      1.06            1.10      1.09
    in place                                  1.05      1.04            1.08      1.08

The memory that an epilogue needs is asked for tiles before; "cold": five other kernels' memory in between:

                                       a tile before   three tiles   cold: a tile before   three tiles
    56x56x64, residual, two outputs             1.15          1.14                  1.51          1.29
    in place                                    1.11          1.11                  1.28          1.15
    28x28x128, residual, two outputs            1.09          1.07                  1.10          1.08
    in place                                    1.05          1.05                  1.07          1.05
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.emit import Buffers
from bnncc.kernels.nest import Pixels, Schedule, Tile, register_tiles, tiles
from bnncc.kernels.tiles import Sums

TILES_AHEAD = 2
"""How many tiles before a tile is counted its memory is asked for; its epilogue comes a tile later still."""

LEAST_ROWS = 16
"""Fewer rows of tiles are not put off: several threads share them tile by tile, else some had too many."""


class Counting(Protocol):
    """What counts the mismatches of a tile."""

    plan: BinaryPlan
    pixels: Pixels

    def count(self, tile: Tile, buffers: Buffers, after_first: Callable[[], None] | None = None) -> Sums:
        """Emit the counting of a tile; after_first: emits what stands behind its first step."""
        ...


class Finish(Protocol):
    """What makes outputs of sums."""

    def prefetch(self, tile: Tile) -> None:
        """Ask for the memory that `store` will need."""

    def store(self, tile: Tile, sums: Sums) -> None:
        """Emit the epilogue of a tile."""


def emit_tiles(counting: Counting, finish: Finish, schedule: Schedule, buffers: Buffers) -> None:
    """Emit the counting and the epilogue of every tile."""
    pixels, channels = counting.pixels, counting.plan.channels
    columns, size = pixels.columns, schedule.pixels
    is_even = columns > size and columns % size == 0
    if not schedule.channels_outermost or not is_even or pixels.rows < LEAST_ROWS * schedule.rows:
        for tile in register_tiles(pixels, channels, schedule):
            finish.prefetch(tile)
            finish.store(tile, counting.count(tile, buffers))
        return
    for row in register_tiles(pixels, channels, replace(schedule, pixels=columns)):
        _emit_row(counting, finish, row, size, buffers)


def _emit_row(counting: Counting, finish: Finish, row: Tile, size: int, buffers: Buffers) -> None:
    """Emit the tiles of a row, `size` pixels each. Rows do not depend on one another: threads share them."""
    kept: Sums = {
        (p, v): emit.local("int32", vector.width, "kept")
        for p in range(row.rows * size)
        for v, vector in enumerate(row.vectors)
    }
    for column, _ in tiles(row.columns, size, "column"):
        before = replace(row, column=column - size, columns=size)

        def finish_before(column: emit.Index = column, before: Tile = before) -> None:
            with T.If(column > 0), T.Then():
                finish.store(before, kept)

        tile = replace(row, column=column, columns=size)
        # Behind the end of a row this is the next one's memory; behind the last one nothing is read.
        finish.prefetch(replace(tile, column=column + TILES_AHEAD * size))
        for key, total in counting.count(tile, buffers, finish_before).items():
            emit.store(kept[key], emit.load(total, 0, int(total.shape[0])), 0)
    finish.store(replace(row, column=row.columns - size, columns=size), kept)
