# SPDX-License-Identifier: Apache-2.0
"""The window of a binary layer as vectors of 16 bytes along the reduction, and where they lie in memory.

The window is a few runs of neighbouring bytes, its rows as a rule. A run is cut into vectors of 16 bytes and
into pieces of 8 and of 4 for what is left. Two pixels share a vector made of their pieces of 8 bytes, four
pixels one made of pieces of 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tvm.sym import Analyzer

from bnncc.kernels import emit
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.emit import Buffer, Index, Value
from bnncc.kernels.nest import Level, Levels, count_steps, fuse, walk

BYTES = 16
"""Of a vector."""


@dataclass(frozen=True)
class Stage:
    """All pieces of one size: bytes [start, stop) of each run of `run_bytes`, walked by `levels` in the
    input. first: the number of pieces in the stages before."""

    size: int
    start: int
    stop: int
    run_bytes: int
    levels: Levels
    first: int

    @property
    def shared(self) -> int:
        """Pixels that share a vector."""
        return BYTES // self.size


def stages_of(levels: Levels) -> Iterator[Stage]:
    """The stages of a walk over words."""
    is_run = bool(levels) and levels[-1].stride == 1
    run_bytes, outer = (4 * levels[-1].extent, levels[:-1]) if is_run else (4, levels)
    runs = tuple(Level(level.extent, 4 * level.stride) for level in outer)
    start = first = 0
    for size in (BYTES, BYTES // 2, BYTES // 4):
        count = (run_bytes - start) // size
        if count:
            stop = start + count * size
            levels = fuse((*runs, Level(count, size)))
            yield Stage(size, start, stop, run_bytes, levels, first)
            start, first = stop, first + count_steps(levels)


@dataclass(frozen=True)
class Steps:
    """Some pieces of one stage: how far each lies from the start of the window, and its number among those
    stored."""

    stage: Stage
    offsets: tuple[tuple[Index, Index], ...]

    @staticmethod
    def of(stage: Stage, offset: Index, number: Index, levels: Levels) -> Steps:
        """The steps of `levels`, of which the first is (offset, number)."""
        steps = list(walk(levels, count_steps(levels)))
        return Steps(
            stage,
            tuple((stage.start + offset + o, stage.first + number + n) for o, n in steps),
        )


@dataclass(frozen=True)
class Places:
    """Where the windows of the pixels start: an index and a number known now, for each pixel."""

    starts: tuple[tuple[Index, int], ...]

    @staticmethod
    def of(words: Sequence[Index]) -> Places:
        """From indices of words; most are a known number of words from the first."""
        analyzer = Analyzer()
        first = emit.bind_index(words[0] * 4)
        result: list[tuple[Index, int]] = []
        for word in words:
            distance = word - words[0]
            distance = distance if isinstance(distance, int) else analyzer.simplify(distance)
            known = distance if isinstance(distance, int) else getattr(distance, "value", None)
            result.append((emit.bind_index(word * 4), 0) if known is None else (first, 4 * int(known)))
        return Places(tuple(result))

    def follow(self, pixels: Sequence[int], size: int) -> bool:
        """Whether the pieces of these pixels lie one behind the other."""
        (base, first), *others = (self.starts[p] for p in pixels)
        return all(b is base and at == first + i * size for i, (b, at) in enumerate(others, start=1))


@dataclass(frozen=True)
class Operands:
    """What is compared: plane `plane` of the weights in `row`, in blocks of `block` channels, and one plane
    of the activations, `source`."""

    plan: BinaryPlan
    block: int
    source: Buffer
    places: Places
    weight: Buffer
    row: Index
    plane: int

    def pixels(self, pixels: Sequence[int], size: int, offset: Index) -> Value:
        """A vector of the pieces of some pixels."""
        if self.places.follow(pixels, size):
            return emit.bind(self._piece(pixels[0], offset, BYTES))
        return emit.bind(emit.concatenate([self._piece(p, offset, size) for p in pixels]))

    def _piece(self, pixel: int, offset: Index, size: int) -> Value:
        base, distance = self.places.starts[pixel]
        return emit.load(self.source, base + (offset + distance), size)

    def weights(self, channel: int, number: Index) -> list[Value]:
        """A channel's vector of weights, of each stored plane: signs, and which are not zero."""
        planes, each_plane = self.plan.planes, self.plan.planes_each
        places = [
            ((number * planes + plane) * self.block + channel) * BYTES
            for plane in range(self.plane * each_plane, (self.plane + 1) * each_plane)
        ]
        return [emit.bind(emit.load(self.weight, self.row + place, BYTES)) for place in places]
