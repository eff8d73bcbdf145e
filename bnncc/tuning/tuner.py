# SPDX-License-Identifier: Apache-2.0
"""Tuning the layers of a network on a device.

The default is measured with every few candidates in one program, and what counts is the ratio to it: a
machine that becomes faster or slower meanwhile does not decide. At the end the best are measured once more
beside it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.kernels.kernel import TileParameters
from bnncc.kernels.space import candidates, layer_key
from bnncc.plan.density import Form
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.program import Step
from bnncc.targets import Target
from bnncc.tuning import use
from bnncc.tuning.database import Database, Key, Trial
from bnncc.tuning.devices import Device
from bnncc.tuning.measure import Outcome, Subject, measure
from bnncc.tuning.search import Search
from bnncc.tuning.units import EXACT

BATCH = 8
"""New candidates in one program."""

PAUSES = (1, 5, 20)
"""Seconds to wait before a device that is gone is asked again."""

FINALISTS = 3
"""Of the candidates that were the best, so many are measured again."""

CONFIRMATIONS = 3
"""So often at most: another one may be the best after that."""

BESIDE = 2 + FINALISTS
"""Of a layer's candidates, those that are measured twice: the default, and the best."""

LEAST = 4
"""Fewer new candidates are not worth the time that is left for a layer."""

ROUNDING = 1e-6
"""Of a number of candidates."""

LEAST_SECONDS = 5
"""What a program may take at least, however little time is left: a candidate that hangs ends so late."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Limits:
    """trials: of each layer; seconds: of all together, None without a limit."""

    trials: int = 64
    seconds: float | None = None


@dataclass(frozen=True)
class LayerResult:
    """What tuning found for one kind of layer. nodes: those it is; scores: the trials in order, None where
    one failed, with the default's first; default, best: scores; problem: why it could not be measured, ""
    where it could."""

    nodes: tuple[str, ...]
    operation: str
    unit: str
    default: float | None
    best: float | None
    parameters: TileParameters | None
    scores: tuple[float | None, ...]
    problem: str = ""

    @property
    def gain(self) -> float:
        """How many times as fast as the default."""
        return self.default / self.best if self.default and self.best and self.parameters else 1.0


@dataclass(frozen=True)
class FormResult:
    """What was measured of a contraction of spikes: the cost of events, of that of products, by set bits of
    an input. density: set bits of its input, as they are known; bits: where both cost the same, None if
    nowhere; default, taken: the forms."""

    node: str
    density: float
    ratios: tuple[tuple[float, float], ...]
    bits: float | None
    default: Form
    taken: Form


@dataclass(frozen=True)
class Tuning:
    """What tuning a network found. device: its name; seconds: that it took; trials: that were new; check:
    what came out of comparing the whole network with its default; forms: of contractions of spikes."""

    target: str
    device: str
    unit: str
    seconds: float
    trials: int
    layers: tuple[LayerResult, ...]
    check: str = ""
    forms: tuple[FormResult, ...] = ()


def tune(
    network: Sequence[Step], target: Target, device: Device, database: Database, limits: Limits, say: Say
) -> Tuning:
    """Measure candidates of every layer of a network that has several, save what was found after each few,
    and say which are the best. Trials that the database has of this device are not repeated.

    Raises BnnccError where the device is gone and stays so; what was found until then is saved."""
    layers = list(layers_of(network, target))
    start, before = time.monotonic(), database.size
    pace = Pace(start + limits.seconds if limits.seconds is not None else math.inf)
    problems: dict[str, str] = {}
    for number, (key, steps, choices) in enumerate(layers):
        title = f"layer {number + 1} of {len(layers)}, {steps[0].location or steps[0].name}"
        job = _Job(key, steps[0], choices, target, device, database, pace)
        job.run(limits.trials, len(layers) - number, lambda text, title=title: say(f"{title}: {text}"))
        problems |= {str(key): job.problem} if job.problem else {}
    found = results(network, target, device, database, problems)
    if problems and not any(result.scores for result in found):
        raise BnnccError(
            "--device",
            f"no kernel works on {device.name}: {next(iter(problems.values()))}",
            f"is that a {target.name}, with memory enough?",
            ExitCode.FAILURE,
        )
    database.save()
    taken = time.monotonic() - start
    return Tuning(target.name, device.name, device.unit, taken, database.size - before, found)


def results(
    network: Sequence[Step],
    target: Target,
    device: Device,
    database: Database,
    problems: Mapping[str, str] = {},
) -> tuple[LayerResult, ...]:
    """What a database says of a network's layers on a device; problems: of layers that were not measured, by
    the text of their keys."""
    return tuple(
        replace(_result(key, steps, device, database), problem=problems.get(str(key), ""))
        for key, steps, _ in layers_of(network, target)
    )


def _result(key: Key, steps: Sequence[Step], device: Device, database: Database) -> LayerResult:
    trials = database.trials(key, device.name)
    parameters = database.best(key, device.name)
    scores = tuple(trial.score for trial in trials)
    good = [trial.score for trial in trials if trial.score is not None and not trial.problem]
    nodes = tuple(step.location or step.name for step in steps)
    default = scores[0] if scores else None
    best = min(good, default=None) if parameters else default
    operation = "{operation} {activation}x{weight} {epilogue}".format(**key)
    return LayerResult(nodes, operation, device.unit, default, best, parameters, scores)


Result = TypeVar("Result")


def patiently(work: Callable[[], Result], say: Say) -> Result:
    """What some work on a device gives; one that is gone is asked again after a while. Raises BnnccError."""
    for pause in PAUSES:
        try:
            return work()
        except BnnccError as error:
            say(f"{error.message}; once more in {pause} s")
            time.sleep(pause)
    return work()


@dataclass
class Pace:
    """How long candidates take, to end in time. deadline: of time.monotonic; seconds: of one candidate, with
    its compilation, as the last ones took."""

    deadline: float
    seconds: float = 0.2
    is_known: bool = False

    def share(self, start: float, layers: int) -> float:
        """Until when the first of so many layers may be measured, which was begun at `start`: its share of
        the time that was left, or, if that is nothing worth, as long as a few candidates take."""
        least = (LEAST + BESIDE) * self.seconds
        return min(self.deadline, start + max(least, (self.deadline - start) / layers))

    def room(self, deadline: float) -> float:
        """For how many candidates there is time, if the best are measured once more after them; a few only
        while nobody knows how long they take, and time is limited."""
        room = (deadline - time.monotonic()) / self.seconds - BESIDE + ROUNDING
        return room if self.is_known or math.isinf(deadline) else min(room, LEAST)

    def took(self, seconds: float, candidates: int) -> None:
        """So long for so many."""
        self.seconds, self.is_known = seconds / candidates, True


def layers_of(
    network: Sequence[Step], target: Target
) -> Iterator[tuple[Key, list[Step], list[TileParameters]]]:
    """Key, steps and candidates of each kind of layer that has several candidates; the most work first."""
    known = use.shipped(target)
    by_spec: dict[KernelSpec, list[Step]] = {}
    for step in network:
        by_spec.setdefault(step.kernel, []).append(step)
    ordered = sorted(by_spec.items(), key=lambda item: -sum(step.macs for step in item[1]))
    for spec, steps in ordered:
        choices = candidates(spec, target)
        if len(choices) > 1:
            key = layer_key(spec, target)
            yield key, steps, _ordered(choices, known.best(key) if known else None)


def _ordered(choices: list[TileParameters], good: TileParameters | None) -> list[TileParameters]:
    """The default, then what the shipped database has: with these the search begins."""
    if good not in choices:
        return choices
    return [choices[0], good, *(other for other in choices[1:] if other != good)]


class _Job:
    """One layer. Scores of the database are relative to the default's first one. problem: why nothing of it
    can be measured, "" if something can."""

    def __init__(
        self,
        key: Key,
        step: Step,
        choices: Sequence[TileParameters],
        target: Target,
        device: Device,
        database: Database,
        pace: Pace,
    ):
        self.key, self.choices, self.pace = key, choices, pace
        self.target, self.device, self.database = target, device, database
        self.step = step
        self.problem = ""
        self._say: Say = lambda message: None
        self._deadline = math.inf

    @property
    def trials(self) -> list[Trial]:
        """Of this device, so far."""
        return self.database.trials(self.key, self.device.name)

    def run(self, trials: int, layers: int, say: Say) -> None:
        """Measure until there are so many trials, this layer's share of the time is over (which it has with
        those after it; layers: with itself), or nothing is left."""
        self._say = say
        search = Search(self.choices)
        begun = len(self.trials)
        start = time.monotonic()
        while len(self.trials) < trials:
            deadline = self._deadline = self.pace.share(start, layers)
            room = self.pace.room(deadline)
            if room < min(LEAST, trials - len(self.trials)):
                break
            count = min(BATCH * self._parallel, trials - len(self.trials), math.floor(min(room, 1e6)))
            chosen = search.propose(count, self._scores())
            if not chosen:
                break
            say(self._status(trials, begun, start, deadline))
            before, known = time.monotonic(), bool(self.trials)
            self._try([self.choices[index] for index in chosen])
            self.pace.took(time.monotonic() - before, len(chosen) + known)
            if self.problem:
                return
            self.database.save()
        if len(self.trials) > max(1, begun) and self.device.unit not in EXACT:
            say("the best once more")
            self._confirm()
            self.database.save()

    def _try(self, new: Sequence[TileParameters]) -> None:
        """Measure candidates, where time is measured beside the default, and remember them."""
        beside = bool(self.trials) and self.device.unit not in EXACT
        size = -(-len(new) // self._parallel)
        parts = [new[start : start + size] for start in range(0, len(new), size)]
        # The first trial of a layer is the default's, with which those of other programs are compared.
        ahead = 1 if beside else 0
        measured = self._side_by_side([[self.choices[0]] * ahead + [*part] for part in parts])
        if not self.trials and all(outcome.score is None for part in measured for outcome in part):
            # It is the layer or the device, not these candidates: another run shall try them again.
            self.problem = measured[0][0].problem
            return
        for outcomes in measured:
            factor = self._factor(outcomes[0]) if beside else 1.0
            self.database.add(self.key, [self._trial(outcome, factor) for outcome in outcomes[ahead:]])

    @property
    def _parallel(self) -> int:
        """How many programs to run at a time: only one until it has told what the default takes."""
        return self.device.parallel if self.trials else 1

    def _side_by_side(self, parts: Sequence[Sequence[TileParameters]]) -> list[list[Outcome]]:
        """Measure each part in a program of its own, as many at a time as the device can."""
        if len(parts) == 1:
            return [self._measure(parts[0])]
        threads = ThreadPoolExecutor(len(parts))
        try:
            return list(threads.map(self._measure, parts))
        finally:
            # Who interrupts this does not wait for programs on boards.
            threads.shutdown(wait=False, cancel_futures=True)

    def _confirm(self) -> None:
        """Measure the default and the best again, in one program, until the best is one of those: what was
        fast by chance does not stay it."""
        known: list[TileParameters] = []
        for _ in range(CONFIRMATIONS):
            good = [trial for trial in self.trials[1:] if trial.score is not None]
            ranked = [trial.parameters for trial in sorted(good, key=lambda trial: trial.score or 0.0)]
            if not ranked or ranked[0] in known:
                return
            finalists = [parameters for parameters in ranked if parameters not in known][:FINALISTS]
            default, *outcomes = self._measure([self.choices[0], *finalists])
            factor = self._factor(default)
            for outcome in outcomes:
                self.database.replace(self.key, self._trial(outcome, factor))
            known += finalists

    def _measure(self, chosen: Sequence[TileParameters]) -> list[Outcome]:
        seconds = max(LEAST_SECONDS, self._deadline - time.monotonic())
        return patiently(lambda: measure(self._subject, chosen, self.device, self.target, seconds), self._say)

    @cached_property
    def _subject(self) -> Subject:
        return Subject.of(self.step.kernel, self.step.constants)

    def _factor(self, default: Outcome) -> float:
        """What scores of this program are multiplied with, to be comparable with the first."""
        first = self.trials[0].score
        return first / default.score if first and default.score else 1.0

    def _trial(self, outcome: Outcome, factor: float) -> Trial:
        score = None if outcome.score is None else outcome.score * factor
        return Trial(self.device.name, self.device.unit, outcome.parameters, score, outcome.problem)

    def _scores(self) -> dict[int, float]:
        """Of the candidates measured, by position."""
        known = {
            tuple(sorted(trial.parameters.items())): math.inf if trial.score is None else trial.score
            for trial in self.trials
        }
        places = ((index, tuple(sorted(parameters.items()))) for index, parameters in enumerate(self.choices))
        return {index: known[place] for index, place in places if place in known}

    def _status(self, trials: int, begun: int, start: float, deadline: float) -> str:
        """Trials, best so far, time left."""
        done = len(self.trials)
        found = [trial.score for trial in self.trials if trial.score is not None]
        most = min(trials, len(self.choices))
        parts = [f"{done} of {most} trials"]
        if found and self.trials[0].score:
            parts.append(f"best {min(found) / self.trials[0].score:.2f} of the default")
        if done > begun:
            left = (time.monotonic() - start) / (done - begun) * (most - done)
            parts.append(f"{min(left, max(0.0, deadline - time.monotonic())):.0f} s left")
        return ", ".join(parts)
