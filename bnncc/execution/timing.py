# SPDX-License-Identifier: Apache-2.0
"""How long calls take on this machine, and layers of a compiled network on what the network gives them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bnncc.execution.artifact import Artifact

SLICE_SECONDS = 0.02
"""One measurement covers about this long, so that the clock's resolution does not matter."""

Clock = Callable[[], float]
"""Gives seconds."""


def clock_of(threads: int) -> tuple[Clock, str]:
    """What measures a network of so many threads, and its name: one thread's own time on the processor, which
    other work on the machine hardly changes; the wall clock's for several."""
    return (time.thread_time, "processor time") if threads == 1 else (time.perf_counter, "wall time")


def measure(call: Callable[[], object], repeat: int, clock: Clock) -> list[float]:
    """Milliseconds per call, `repeat` times over."""
    calls = _calls_of_a_slice(call, clock)
    times = []
    for _ in range(repeat):
        start = clock()
        for _ in range(calls):
            call()
        times.append((clock() - start) * 1000 / calls)
    return times


def layer_medians(
    artifact: Artifact,
    arrays: Sequence[np.ndarray],
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    repeat: int,
    clock: Clock,
) -> list[float]:
    """Median milliseconds of each step by itself, in a network whose layers before it have run.

    arrays: the arena, and the state of a network that has one. A layer that writes over what it reads (a sum
    in place) finds the same before every call: repeated on its own results it would take numbers to where
    none ever are, infinite ones for instance."""
    arena, state = arrays[0], arrays[1] if len(arrays) > 1 else None
    medians = []
    for index in range(len(artifact.manifest["steps"])):
        call = artifact.bind_layer(index, arena, inputs, outputs, state)
        patches = _overwritten(call, [*arrays, *outputs])
        times = _measure_singly(call, patches, repeat, clock) if patches else measure(call, repeat, clock)
        medians.append(statistics.median(times))
    return medians


@dataclass(frozen=True)
class _Patch:
    """Bytes that a layer's repetition changes, and what they are before it."""

    place: np.ndarray
    before: np.ndarray

    def put_back(self) -> None:
        self.place[...] = self.before


def _overwritten(call: Callable[[], object], arrays: Sequence[np.ndarray]) -> list[_Patch]:
    """What a second call in a row would find changed; one call has been made afterwards."""
    views = [array.reshape(-1).view(np.uint8) for array in arrays]
    before = [view.copy() for view in views]
    call()
    once = [view.copy() for view in views]
    call()
    patches = []
    for view, old, new in zip(views, before, once, strict=True):
        changed = np.flatnonzero(view != new)
        view[...] = new
        if changed.size:
            part = slice(changed[0], changed[-1] + 1)
            patches.append(_Patch(view[part], old[part]))
    return patches


def _measure_singly(
    call: Callable[[], object], patches: Sequence[_Patch], repeat: int, clock: Clock
) -> list[float]:
    """As `measure`, with the patches put back before every call, which is not counted."""

    def once() -> float:
        for patch in patches:
            patch.put_back()
        start = clock()
        call()
        return clock() - start

    calls = _calls_of_a_slice(once, clock)
    return [sum(once() for _ in range(calls)) * 1000 / calls for _ in range(repeat)]


def _calls_of_a_slice(call: Callable[[], object], clock: Clock) -> int:
    call()
    start = clock()
    call()
    return max(1, round(SLICE_SECONDS / max(clock() - start, 1e-7)))
