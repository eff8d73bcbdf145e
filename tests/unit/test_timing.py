# SPDX-License-Identifier: Apache-2.0
"""Layers are timed on what the network gives them, however often they are repeated."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from bnncc.execution import timing


class Steps:
    """Stands in for an artifact: step 0 writes its memory anew, step 1 doubles numbers in place."""

    def __init__(self) -> None:
        self.manifest = {"steps": [{}, {}]}
        self.found: list[float] = []

    def bind_layer(self, index: int, arena: np.ndarray, *_: Any) -> Any:
        numbers = arena.view(np.float32)

        def first() -> None:
            numbers[:] = (0, 3, 3, 3)

        def second() -> None:
            self.found.append(float(numbers[2]))
            numbers[1:3] *= 2

        return (first, second)[index]


def test_what_is_added_in_place_is_put_back_before_every_call() -> None:
    steps, arena, output = Steps(), np.zeros(16, np.uint8), np.zeros((), np.float32)
    clock = SimpleNamespace(now=0.0)

    def read() -> float:
        clock.now += 0.004
        return clock.now

    medians = timing.layer_medians(steps, [arena], [], [output], repeat=3, clock=read)  # type: ignore[arg-type]
    np.testing.assert_array_equal(arena.view(np.float32), (0, 6, 6, 3))
    # The second call of all tells that it writes over what it reads: from then on it finds the same.
    assert steps.found[1] == 6
    assert set(steps.found[:1] + steps.found[2:]) == {3}
    assert len(medians) == 2
    assert all(median > 0 for median in medians)


def test_one_thread_is_measured_by_its_own_time() -> None:
    assert timing.clock_of(1)[0] is timing.time.thread_time
    assert timing.clock_of(2)[0] is timing.time.perf_counter
