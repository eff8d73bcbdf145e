# SPDX-License-Identifier: Apache-2.0
"""Whether what was found layer by layer holds in the whole network: measured in turns with the default, and
given up where it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bnncc.arrays import random_input
from bnncc.artifact import Artifact
from bnncc.tuning.measure import undisturbed

SLICE = 1e-3
"""Seconds of one measurement."""

ROUNDS = 61

NOISE = 0.01
"""By this share a network may seem slower that is not."""

Call = Callable[[], object]


@dataclass(frozen=True)
class Verdict:
    """Of a tuned network. changed: the steps that have another kernel than the default's; lost: those of them
    that are not faster there; ratio: the whole network's time, of that of the default."""

    changed: tuple[int, ...]
    lost: tuple[int, ...]
    ratio: float

    @property
    def is_worse(self) -> bool:
        """Whether something of it is better given up."""
        return bool(self.lost) or self.ratio > 1 + NOISE


def judge(default: Artifact, tuned: Artifact) -> Verdict:
    """Compare two libraries of one network on this machine."""
    kernels = [[step["kernel"] for step in artifact.manifest["steps"]] for artifact in (default, tuned)]
    changed = tuple(i for i, (one, other) in enumerate(zip(*kernels, strict=True)) if one != other)
    if not changed:
        return Verdict((), (), 1.0)
    bound = [_Bound(artifact) for artifact in (default, tuned)]
    ratio = compare(*(one.whole() for one in bound))
    lost = tuple(i for i in changed if compare(*(one.layer(i) for one in bound)) >= 1)
    return Verdict(changed, lost, ratio)


def compare(default: Call, other: Call) -> float:
    """The ratio of two calls' times, which are taken in turns; the second's is the numerator."""
    calls = (default, other)
    repeats = [_repeats(call) for call in calls]
    turns = [
        [_seconds(call, count) for call, count in zip(calls, repeats, strict=True)] for _ in range(ROUNDS)
    ]
    first, second = (undisturbed(times) for times in zip(*turns, strict=True))
    return second / first


class _Bound:
    """A library with memory to work in."""

    def __init__(self, artifact: Artifact):
        rng = np.random.default_rng(0)
        inputs = [random_input(rng, port) for port in artifact.manifest["inputs"]]
        outputs = [np.zeros(port["shape"], port["dtype"]) for port in artifact.manifest["outputs"]]
        state = artifact.state_memory() if artifact.is_stateful else None
        self._artifact, self._memory = artifact, (artifact.arena(), inputs, outputs, state)

    def whole(self) -> Call:
        return self._artifact.bind(*self._memory)

    def layer(self, index: int) -> Call:
        return self._artifact.bind_layer(index, *self._memory)


def _repeats(call: Call) -> int:
    call()
    return max(1, round(SLICE / max(_seconds(call, 1), 1e-7)))


def _seconds(call: Call, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def described(verdicts: Sequence[Verdict]) -> str:
    """A sentence for the report; the last verdict is of what is kept."""
    first, last = verdicts[0], verdicts[-1]
    if not first.changed:
        return "The whole network has its default kernels."
    text = f"The whole network, in turns with the default: {last.ratio:.3f} of its time"
    given_up = len(first.changed) - len(last.changed)
    if given_up:
        text += f"; {given_up} of {len(first.changed)} layers were not faster there and keep the default"
    return f"{text}."
