# SPDX-License-Identifier: Apache-2.0
"""From the sums of a register tile to the epilogue."""

from __future__ import annotations

from collections.abc import Callable

from bnncc.kernels import emit
from bnncc.kernels.emit import Buffer, Index, Value
from bnncc.kernels.epilogue import Epilogue
from bnncc.kernels.epilogue_values import Position
from bnncc.kernels.nest import Pixels, Tile

Sums = dict[tuple[int, int], Buffer]
"""Locals with one element a lane, for every (pixel, vector) of a register tile."""

RootValues = Callable[[int, Position, int, Index, int], Value]
"""(pixel, its position, vector, offset, lanes) -> the root's values of some channels of the vector."""


def store_tile(epilogue: Epilogue, pixels: Pixels, tile: Tile, value: RootValues) -> None:
    """Emit the epilogue of every pixel and channel of a tile."""
    for pixel, place in enumerate(tile.pixels()):
        position = pixels.position(tile.image, *place)
        if epilogue.isa.is_scalar:
            _store_vectors_apart(epilogue, position, pixel, tile, value)
        else:
            _store_vectors_together(epilogue, position, pixel, tile, value)
            if (pixel + 1) % tile.columns == 0:
                epilogue.end_row()


def _store_vectors_apart(
    epilogue: Epilogue, position: Position, pixel: int, tile: Tile, value: RootValues
) -> None:
    for number, vector in enumerate(tile.vectors):

        def one(offset: Index, lanes: int, number: int = number) -> Value:
            return value(pixel, position, number, offset, lanes)

        epilogue.store(position, vector.channel, vector.valid, one)


def _store_vectors_together(
    epilogue: Epilogue, position: Position, pixel: int, tile: Tile, value: RootValues
) -> None:
    width = tile.vectors[0].width

    def across(offset: Index, lanes: int) -> Value:
        assert isinstance(offset, int)
        parts = [
            value(pixel, position, start // width, start % width, min(lanes, width - start % width))
            for start in range(offset, offset + lanes, min(lanes, width))
        ]
        return emit.concatenate(parts)

    count = sum(vector.valid for vector in tile.vectors)
    available = sum(vector.width for vector in tile.vectors)
    epilogue.store(position, tile.vectors[0].channel, count, across, available=available)


def local_piece(local: Buffer, offset: Index, lanes: int) -> Value:
    """Elements [offset, offset + lanes) of a local; as part of the whole, which stays in a register."""
    if lanes == 1 and not isinstance(offset, int):
        return local[offset]
    return emit.extract(emit.load(local, 0, int(local.shape[0])), offset, lanes)
