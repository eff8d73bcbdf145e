# SPDX-License-Identifier: Apache-2.0
"""Whether what was found layer by layer holds in the end: the whole network is measured in turns with the
default where it runs here or under an emulator, elsewhere its layers are measured once more. What does not
hold is given up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bnncc.data.arrays import random_input
from bnncc.diagnostics import BnnccError
from bnncc.execution.artifact import Artifact
from bnncc.execution.timing import Clock, clock_of
from bnncc.kernels.kernel import TileParameters
from bnncc.kernels.space import layer_key
from bnncc.plan.program import Step
from bnncc.targets import Target
from bnncc.tuning.database import Database, Trial
from bnncc.tuning.devices import Device
from bnncc.tuning.measure import Subject, measure, undisturbed
from bnncc.tuning.tuner import Say, layers_of, patiently
from bnncc.tuning.units import EXACT

SLICE = 1e-3
"""Seconds of one measurement."""

ROUNDS = 61

NOISE = 0.01
"""By this share a network may seem slower that is not."""

NOT_FASTER = "in the end it was not faster than the default"

Call = Callable[[], object]


@dataclass(frozen=True)
class Verdict:
    """Of a tuned network. changed: the steps that have another kernel than the default's; lost: those of them
    that are not faster there; ratio: the whole network's time, or its instructions, of those of the
    default; noise: by what share it may seem slower."""

    changed: tuple[int, ...]
    lost: tuple[int, ...]
    ratio: float
    noise: float = NOISE

    @property
    def is_worse(self) -> bool:
        """Whether something of it is better given up."""
        return bool(self.lost) or self.ratio > 1 + self.noise


def judge(default: Artifact, tuned: Artifact) -> Verdict:
    """Compare two libraries of one network, of the same steps: on this machine, or, by instructions, under
    the emulator. Raises BnnccError where the emulated board is too small for it."""
    kernels = [[step["kernel"] for step in artifact.manifest["steps"]] for artifact in (default, tuned)]
    changed = tuple(i for i, (one, other) in enumerate(zip(*kernels, strict=True)) if one != other)
    if not changed:
        return Verdict((), (), 1.0)
    if default.emulator is not None:
        (total, counts), (tuned_total, tuned_counts) = _counted(default), _counted(tuned)
        lost = tuple(i for i in changed if tuned_counts[i] >= counts[i])
        return Verdict(changed, lost, tuned_total / total, 0.0)
    one, other = _Bound(default), _Bound(tuned)
    clock, _ = clock_of(default.threads)
    lost = tuple(i for i in changed if compare(one.layer(i), other.layer(i), clock) >= 1)
    return Verdict(changed, lost, compare(one.whole(), other.whole(), clock))


def ratio(default: Artifact, other: Artifact) -> float:
    """The time of another library of a network, of that of the default one, or its instructions; of whatever
    steps. Raises BnnccError as `judge` does."""
    if default.emulator is not None:
        return _counted(other)[0] / _counted(default)[0]
    return compare(_Bound(default).whole(), _Bound(other).whole(), clock_of(default.threads)[0])


def _counted(artifact: Artifact) -> tuple[int, list[int]]:
    """Instructions of the whole network and of its layers."""
    assert artifact.emulator is not None
    rng = np.random.default_rng(0)
    inputs = [random_input(rng, port) for port in artifact.manifest["inputs"]]
    return artifact.emulator.count(inputs, True)


def compare(default: Call, other: Call, clock: Clock) -> float:
    """The ratio of two calls' times, which are taken in turns; the second's is the numerator."""
    calls = (default, other)
    repeats = [_repeats(call, clock) for call in calls]
    turns = [
        [_seconds(call, count, clock) for call, count in zip(calls, repeats, strict=True)]
        for _ in range(ROUNDS)
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


def _repeats(call: Call, clock: Clock) -> int:
    call()
    return max(1, round(SLICE / max(_seconds(call, 1, clock), 1e-7)))


def _seconds(call: Call, count: int, clock: Clock) -> float:
    start = clock()
    for _ in range(count):
        call()
    return (clock() - start) / count


def keep_what_holds(
    network: Sequence[Step],
    target: Target,
    device: Device,
    database: Database,
    build: Callable[[bool], Artifact] | None,
    say: Say,
) -> str:
    """Take back what is not faster than the default in the end, and say what came out. build: a library of
    the network with what the database has, or without; None where none runs here."""
    if build is not None:
        try:
            return _whole(network, target, device, database, build, say)
        except BnnccError as error:
            if device.unit not in EXACT:
                raise
            return f"{_sum(network, target, device, database, say)} The whole network: {error.message}."
    return _sum(network, target, device, database, say)


def _whole(
    network: Sequence[Step],
    target: Target,
    device: Device,
    database: Database,
    build: Callable[[bool], Artifact],
    say: Say,
) -> str:
    say("comparing the whole network")
    default = build(False)
    verdicts = [judge(default, build(True))]
    while verdicts[-1].is_worse:
        for index in verdicts[-1].lost or verdicts[-1].changed:
            database.reject(layer_key(network[index].kernel, target), device.name, NOT_FASTER)
        database.save()
        verdicts.append(judge(default, build(True)))
        if len(verdicts[-1].changed) == len(verdicts[-2].changed):
            break
    return described(verdicts, "instructions" if device.unit in EXACT else "time")


def _sum(network: Sequence[Step], target: Target, device: Device, database: Database, say: Say) -> str:
    """The best of every layer beside its default in one program, where time is measured."""
    defaults = found = 0.0
    changed = lost = 0
    for key, steps, (default, *_) in layers_of(network, target):
        trials = database.trials(key, device.name)
        if not trials or not trials[0].score:
            continue
        one = other = trials[0].score
        parameters = database.best(key, device.name)
        if parameters is not None:
            changed += 1
            say(f"{steps[0].location or steps[0].name} once more, beside its default")
            again = _again(trials, steps[0], [default, parameters], target, device, say)
            if again is None or again[1] >= again[0]:
                lost += 1
                database.reject(key, device.name, NOT_FASTER)
            else:
                one, other = again
        defaults, found = defaults + len(steps) * one, found + len(steps) * other
    database.save()
    if not changed:
        return "All layers have their default kernels."
    what = "instructions" if device.unit in EXACT else "time"
    text = f"The sum of the layers, each in turns with its default: {found / defaults:.3f} of their {what}"
    return _with_lost(text, changed, lost)


def _again(
    trials: Sequence[Trial],
    step: Step,
    pair: Sequence[TileParameters],
    target: Target,
    device: Device,
    say: Say,
) -> tuple[float, float] | None:
    """Scores of a layer's default and of another candidate, None where one fails; exact ones are known."""
    if device.unit in EXACT:
        scores = [next(trial.score for trial in trials if trial.parameters == one) for one in pair]
    else:
        subject = Subject.of(step.kernel, step.constants)
        scores = [one.score for one in patiently(lambda: measure(subject, pair, device, target), say)]
    return (scores[0], scores[1]) if scores[0] and scores[1] else None


def described(verdicts: Sequence[Verdict], what: str = "time") -> str:
    """A sentence for the report; the last verdict is of what is kept."""
    first, last = verdicts[0], verdicts[-1]
    if not first.changed:
        return "The whole network has its default kernels."
    text = f"The whole network, in turns with the default: {last.ratio:.3f} of its {what}"
    return _with_lost(text, len(first.changed), len(first.changed) - len(last.changed))


def _with_lost(text: str, changed: int, lost: int) -> str:
    if lost:
        text += f"; {lost} of {changed} layers were not faster there and keep the default"
    return f"{text}."
