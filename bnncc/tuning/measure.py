# SPDX-License-Identifier: Apache-2.0
"""Measuring candidates of one layer on a device: first whether the answer is right, then how long it takes.

A candidate that crashes, hangs or answers wrongly costs itself and not the others: the program is started
again without it.
"""

from __future__ import annotations

import math
import statistics
import struct
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bnncc.diagnostics import BnnccError
from bnncc.kernels.build import make_kernel
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.plan.kernel import KernelSpec, RealConv, SpikeConv
from bnncc.plan.layout import Element
from bnncc.plan.simulate import allocate, random_reads, run_step
from bnncc.targets import Target
from bnncc.tuning import program
from bnncc.tuning.devices import Device
from bnncc.tuning.program import GUARD, GUARDING, Form, Pool, Requests
from bnncc.tuning.units import EXACT, Unit

SLICES = {"s": 5e-4, "cycles": 1e5}
"""What one measurement of a candidate covers about: so much that the clock's resolution does not matter, so
little that something else seldom runs meanwhile."""

ROUNDS = {"s": 31, "cycles": 5}
"""Measurements of a candidate, taken in turns with those of the others."""

UNDISTURBED = 1.2
"""A measurement that took so many times the shortest one is rejected: something else ran meanwhile."""

SECONDS = 20
"""A program may take so long for every candidate in it."""

NEAR_TIES = 1e-4
"""Share of decisions, and of what follows from them, that may differ behind a float32 sum, whose order is the
kernel's."""


@dataclass(frozen=True)
class Outcome:
    """Of one trial: the score of a call in the device's unit, or what was wrong."""

    parameters: TileParameters
    score: float | None
    problem: str = ""


@dataclass(frozen=True)
class Subject:
    """A layer with numbers to compute on, and the answer. constants: of a Step of a network, or random."""

    spec: KernelSpec
    constants: tuple[np.ndarray, ...]
    reads: tuple[np.ndarray, ...] = field(repr=False)
    answers: tuple[np.ndarray, ...] = field(repr=False)

    @staticmethod
    def of(
        spec: KernelSpec,
        constants: Sequence[np.ndarray],
        seed: int = 0,
        inputs: Sequence[np.ndarray] = (),
    ) -> Subject:
        """With random activations, of which as many are spikes as the layer expects; inputs: the buffers of
        the first of them, if given."""
        rng = np.random.default_rng(seed)
        reads = random_reads(spec, rng)
        reads[: len(inputs)] = inputs
        answers = [allocate(output.layout, GUARDING) for output in spec.outputs]
        for operand, output in spec.in_place:
            answers[output] = reads[len(spec.inputs) + operand].copy()
        run_step(spec, reads, constants, answers)
        return Subject(spec, tuple(constants), tuple(reads), tuple(answers))

    def is_right(self, outputs: Sequence[np.ndarray]) -> bool:
        """Whether these are the answers, real values within rounding."""
        root = self.spec.root
        sums_floats = isinstance(root, RealConv) or (
            isinstance(root, SpikeConv) and root.weight is Element.F32
        )
        ties = NEAR_TIES if sums_floats else 0.0
        for output, want, have in zip(self.spec.outputs, self.answers, outputs, strict=True):
            if output.layout.element is Element.F32:
                around = 1e-4 * float(np.abs(want).max(initial=0))
                differs = ~np.isclose(have, want, rtol=1e-4, atol=around)
            else:
                differs = np.unpackbits((have ^ want).view(np.uint8))
            if differs.mean() > ties:
                return False
        return True


Candidate = tuple[Subject, TileParameters]


def measure(
    subject: Subject,
    candidates: Sequence[TileParameters],
    device: Device,
    target: Target,
    seconds: float = math.inf,
) -> list[Outcome]:
    """An outcome for each candidate of one layer, as `measure_together` says."""
    return measure_together([(subject, parameters) for parameters in candidates], device, target, seconds)


def measure_together(
    candidates: Sequence[Candidate], device: Device, target: Target, seconds: float = math.inf
) -> list[Outcome]:
    """An outcome for each candidate, in their order, measured in turns. seconds: that a program may take, if
    that is less than SECONDS for each candidate in it. Raises BnnccError where the device fails."""
    failed: dict[int, str] = {}
    scores: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
        with _BUILDING:
            batches = _build(candidates, device.form, target, Path(folder), failed)
        for batch in batches:
            scores |= _measure(batch, device, failed, seconds)
    return [
        Outcome(parameters, scores.get(index), failed.get(index, ""))
        for index, (_, parameters) in enumerate(candidates)
    ]


_BUILDING = threading.Lock()
"""Programs are made one at a time, and run on as many devices as there are."""


def _build(
    candidates: Sequence[Candidate], form: Form, target: Target, folder: Path, failed: dict[int, str]
) -> list[_Batch]:
    """One program for all candidates; where that does not compile, one for each."""
    kernels: dict[int, tuple[Subject, Kernel]] = {}
    for index, (subject, parameters) in enumerate(candidates):
        try:
            kernels[index] = subject, make_kernel(subject.spec, target, parameters)
        except Exception as error:
            # A template may not be able to follow parameters; that is a result like another.
            failed[index] = f"not generated: {type(error).__name__}: {error}"
    if not kernels:
        return []
    try:
        return [_Batch.build(kernels, target, form, _fresh(folder, "all"))]
    except Exception as error:
        if _is_missing_tool(error):
            raise
    batches = []
    for index, kernel in kernels.items():
        try:
            batches.append(_Batch.build({index: kernel}, target, form, _fresh(folder, str(index))))
        except Exception as error:
            failed[index] = f"not compiled: {error}".partition("\n")[0]
    return batches


def _fresh(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def _is_missing_tool(error: Exception) -> bool:
    return isinstance(error, BnnccError) and "was found" in error.message


@dataclass(frozen=True)
class _Buffers:
    """Where a layer's inputs and outputs lie in a program's pool; its candidates share them."""

    reads: list[int]
    outputs: list[int]

    @staticmethod
    def of(subject: Subject, pool: Pool) -> _Buffers:
        reads = [pool.place(array.nbytes) for array in subject.reads]
        shared = {output: reads[len(subject.spec.inputs) + i] for i, output in subject.spec.in_place}
        outputs = [shared.get(i) or pool.place(a.nbytes) for i, a in enumerate(subject.answers)]
        return _Buffers(reads, outputs)


@dataclass(frozen=True)
class _Loaded:
    """A candidate in a program. number: of its kernel there; places: of what it is called with."""

    subject: Subject
    number: int
    packed: tuple[np.ndarray, ...]
    buffers: _Buffers
    places: list[int]

    def load(self, requests: Requests) -> None:
        """What it reads."""
        for at, array in zip(self.places, [*self.subject.reads, *self.packed], strict=False):
            requests.write(at, array)

    def call(self, requests: Requests, repeat: int = 1) -> None:
        """Call it so often."""
        requests.call(self.number, self.places, repeat)

    def check(self, requests: Requests) -> None:
        """Call it once and ask for its outputs, with what lies around them."""
        self.load(requests)
        for at, array in zip(self.buffers.outputs, self.subject.answers, strict=True):
            requests.guard(at, array.nbytes)
            if at not in self.buffers.reads:
                requests.write(at, np.full(array.nbytes, GUARDING, np.uint8))
        self.call(requests)
        for at, array in zip(self.buffers.outputs, self.subject.answers, strict=True):
            requests.read(at - GUARD, array.nbytes + 2 * GUARD)

    def problem(self, answer: bytes) -> str:
        """What is wrong with the outputs that `check` asked for; "" if nothing."""
        outputs, at = [], 0
        guard = bytes([GUARDING]) * GUARD
        for array in self.subject.answers:
            piece = answer[at : at + array.nbytes + 2 * GUARD]
            if piece[:GUARD] != guard or piece[-GUARD:] != guard:
                return "it wrote outside of its outputs"
            outputs.append(np.frombuffer(piece[GUARD:-GUARD], array.dtype))
            at += len(piece)
        return "" if self.subject.is_right(outputs) else "its answer is wrong"


@dataclass(frozen=True)
class _Batch:
    """Candidates in one program, by their index."""

    loaded: dict[int, _Loaded]
    program: Path

    @staticmethod
    def build(kernels: dict[int, tuple[Subject, Kernel]], target: Target, form: Form, folder: Path) -> _Batch:
        """The program; raises whatever the compilers do."""
        pool = Pool()
        subjects = {id(subject): subject for subject, _ in kernels.values()}
        buffers = {key: _Buffers.of(subject, pool) for key, subject in subjects.items()}
        scratch = pool.place(max(kernel.scratch_bytes for _, kernel in kernels.values()))
        loaded = {}
        for number, (index, (subject, kernel)) in enumerate(kernels.items()):
            packed, own = kernel.pack(subject.constants), buffers[id(subject)]
            constants = [pool.place(array.nbytes) for array in packed]
            places = [*own.reads, *constants, *own.outputs] + [scratch] * bool(kernel.scratch_bytes)
            loaded[index] = _Loaded(subject, number, packed, own, places)
        path = program.build([kernel for _, kernel in kernels.values()], target, pool.bytes, folder, form)
        return _Batch(loaded, path)


def _measure(batch: _Batch, device: Device, failed: dict[int, str], seconds: float) -> dict[int, float]:
    first = _first_calls(batch, device, failed, seconds)
    if device.unit in EXACT or not first:
        return first
    return _times(batch, device, first, failed, seconds)


def _first_calls(batch: _Batch, device: Device, failed: dict[int, str], seconds: float) -> dict[int, float]:
    """Of each candidate whose answer is right, the score of its first call."""
    waiting, scores = list(batch.loaded), {}
    while waiting:
        requests = [Requests() for _ in waiting]
        for index, request in zip(waiting, requests, strict=True):
            batch.loaded[index].check(request)
        together = Requests.joined(requests)
        done = device.run(batch.program, together, min(seconds, SECONDS * len(waiting)))
        counts, at = done.counts, 0
        for number, (index, request) in enumerate(zip(waiting, requests, strict=True)):
            answer = done.answer[at : at + request.answered]
            at += request.answered
            if len(answer) < request.answered:
                failed[index] = f"it failed: {done.problem or 'no answer'}"
                waiting = waiting[number + 1 :]
                break
            if problem := batch.loaded[index].problem(answer[8:]):
                failed[index] = problem
            elif device.unit not in EXACT:
                scores[index] = _taken(answer, device.unit)
            elif number < len(counts):
                scores[index] = float(counts[number])
            else:
                failed[index] = "the emulator did not count"
        else:
            waiting = []
    return scores


def _times(
    batch: _Batch, device: Device, first: dict[int, float], failed: dict[int, str], seconds: float
) -> dict[int, float]:
    """The time of a call of each candidate, measured in turns."""
    running = dict(first)
    while running:
        requests = Requests()
        for index in running:
            batch.loaded[index].load(requests)
        enough = SLICES[device.unit]
        repeats = {index: max(1, round(enough / max(score, 1e-9))) for index, score in running.items()}
        repeats = {index: min(count, 1_000_000) for index, count in repeats.items()}
        order = [index for _ in range(ROUNDS[device.unit]) for index in running]
        for index in order:
            batch.loaded[index].call(requests, repeats[index])
        done = device.run(batch.program, requests, min(seconds, SECONDS * len(running)))
        answers = len(done.answer) // 8
        if answers < len(order):
            failed[order[answers]] = f"it failed: {done.problem or 'no answer'}"
            del running[order[answers]]
            continue
        taken: dict[int, list[float]] = {index: [] for index in running}
        for number, index in enumerate(order):
            taken[index].append(_taken(done.answer[8 * number :], device.unit) / repeats[index])
        return {index: undisturbed(times) for index, times in taken.items()}
    return {}


def undisturbed(times: Sequence[float]) -> float:
    """The median of those measurements that were not disturbed."""
    shortest = min(times)
    return statistics.median(time for time in times if time <= UNDISTURBED * shortest)


def _taken(answer: bytes, unit: Unit) -> float:
    """Of nanoseconds or cycles."""
    return struct.unpack_from("<Q", answer)[0] * (1e-9 if unit == "s" else 1.0)
