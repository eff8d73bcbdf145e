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
from bnncc.plan.kernel import KernelSpec, RealConv
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
"""Share of bits that may differ behind a float32 sum, whose order is the kernel's."""


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
    def of(spec: KernelSpec, constants: Sequence[np.ndarray], seed: int = 0) -> Subject:
        """With random activations."""
        rng = np.random.default_rng(seed)
        reads = random_reads(spec, rng)
        answers = [allocate(output.layout, GUARDING) for output in spec.outputs]
        for operand, output in spec.in_place:
            answers[output] = reads[len(spec.inputs) + operand].copy()
        run_step(spec, reads, constants, answers)
        return Subject(spec, tuple(constants), tuple(reads), tuple(answers))

    def is_right(self, outputs: Sequence[np.ndarray]) -> bool:
        """Whether these are the answers, real values within rounding."""
        for output, want, have in zip(self.spec.outputs, self.answers, outputs, strict=True):
            if output.layout.element is Element.F32:
                if not np.allclose(have, want, rtol=1e-4, atol=1e-4 * float(np.abs(want).max(initial=0))):
                    return False
            elif isinstance(self.spec.root, RealConv):
                if np.unpackbits((have ^ want).view(np.uint8)).mean() > NEAR_TIES:
                    return False
            elif not np.array_equal(have, want):
                return False
        return True


def measure(
    subject: Subject,
    candidates: Sequence[TileParameters],
    device: Device,
    target: Target,
    seconds: float = math.inf,
) -> list[Outcome]:
    """An outcome for each candidate, in their order. seconds: that a program may take, if that is less than
    SECONDS for each candidate in it. Raises BnnccError where the device fails."""
    failed: dict[int, str] = {}
    scores: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
        with _BUILDING:
            batches = _build(subject, candidates, device.form, target, Path(folder), failed)
        for batch in batches:
            scores |= _measure(batch, device, failed, seconds)
    return [
        Outcome(parameters, scores.get(index), failed.get(index, ""))
        for index, parameters in enumerate(candidates)
    ]


_BUILDING = threading.Lock()
"""Programs are made one at a time, and run on as many devices as there are."""


def _build(
    subject: Subject,
    candidates: Sequence[TileParameters],
    form: Form,
    target: Target,
    folder: Path,
    failed: dict[int, str],
) -> list[_Batch]:
    """One program for all candidates; where that does not compile, one for each."""
    kernels: dict[int, Kernel] = {}
    for index, parameters in enumerate(candidates):
        try:
            kernels[index] = make_kernel(subject.spec, target, parameters)
        except Exception as error:
            # A template may not be able to follow parameters; that is a result like another.
            failed[index] = f"not generated: {type(error).__name__}: {error}"
    if not kernels:
        return []
    try:
        return [_Batch.build(subject, kernels, target, form, _fresh(folder, "all"))]
    except Exception as error:
        if _is_missing_tool(error):
            raise
    batches = []
    for index, kernel in kernels.items():
        try:
            batches.append(_Batch.build(subject, {index: kernel}, target, form, _fresh(folder, str(index))))
        except Exception as error:
            failed[index] = f"not compiled: {error}".partition("\n")[0]
    return batches


def _fresh(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def _is_missing_tool(error: Exception) -> bool:
    return isinstance(error, BnnccError) and "was found" in error.message


@dataclass
class _Batch:
    """Kernels in one program; indices: which candidates they are. Inputs and outputs are shared."""

    subject: Subject
    kernels: dict[int, Kernel]
    indices: list[int]
    packed: dict[int, tuple[np.ndarray, ...]]
    places: dict[int, list[int]]
    outputs: list[int]
    program: Path

    @staticmethod
    def build(
        subject: Subject, kernels: dict[int, Kernel], target: Target, form: Form, folder: Path
    ) -> _Batch:
        """The program; raises whatever the compilers do."""
        pool = Pool()
        packed = {index: kernel.pack(subject.constants) for index, kernel in kernels.items()}
        reads = [pool.place(array.nbytes) for array in subject.reads]
        shared = {output: reads[len(subject.spec.inputs) + i] for i, output in subject.spec.in_place}
        outputs = [shared.get(i) or pool.place(a.nbytes) for i, a in enumerate(subject.answers)]
        scratch = pool.place(max(kernel.scratch_bytes for kernel in kernels.values()))
        places = {
            index: [*reads, *(pool.place(array.nbytes) for array in arrays), *outputs]
            + [scratch] * bool(kernels[index].scratch_bytes)
            for index, arrays in packed.items()
        }
        path = program.build(list(kernels.values()), target, pool.bytes, folder, form)
        return _Batch(subject, kernels, list(kernels), packed, places, outputs, path)

    def load(self, requests: Requests, index: int) -> None:
        """What a candidate reads."""
        arrays = [*self.subject.reads, *self.packed[index]]
        for at, array in zip(self.places[index], arrays, strict=False):
            requests.write(at, array)

    def check(self, requests: Requests, index: int) -> None:
        """Call it once and ask for its outputs, with what lies around them."""
        self.load(requests, index)
        for at, array in zip(self.outputs, self.subject.answers, strict=True):
            requests.guard(at, array.nbytes)
            if at not in self.places[index][: len(self.subject.reads)]:
                requests.write(at, np.full(array.nbytes, GUARDING, np.uint8))
        requests.call(self.indices.index(index), self.places[index])
        for at, array in zip(self.outputs, self.subject.answers, strict=True):
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


def _measure(batch: _Batch, device: Device, failed: dict[int, str], seconds: float) -> dict[int, float]:
    first = _first_calls(batch, device, failed, seconds)
    if device.unit in EXACT or not first:
        return first
    return _times(batch, device, first, failed, seconds)


def _first_calls(batch: _Batch, device: Device, failed: dict[int, str], seconds: float) -> dict[int, float]:
    """Of each candidate whose answer is right, the score of its first call."""
    waiting, scores = list(batch.indices), {}
    while waiting:
        requests = [Requests() for _ in waiting]
        for index, request in zip(waiting, requests, strict=True):
            batch.check(request, index)
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
            if problem := batch.problem(answer[8:]):
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
            batch.load(requests, index)
        enough = SLICES[device.unit]
        repeats = {index: max(1, round(enough / max(score, 1e-9))) for index, score in running.items()}
        repeats = {index: min(count, 1_000_000) for index, count in repeats.items()}
        order = [index for _ in range(ROUNDS[device.unit]) for index in running]
        for index in order:
            requests.call(batch.indices.index(index), batch.places[index], repeats[index])
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
