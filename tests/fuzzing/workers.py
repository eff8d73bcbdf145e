# SPDX-License-Identifier: Apache-2.0
"""Compiling models that nobody vouches for, in processes of limited memory that may die."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any
from unittest import mock

MEMORY = 4 << 30
"""Bytes of address space of a worker."""

CPU_SECONDS = 60.0
"""A model must be planned, or refused, within so much time of the processor: most take a hundredth of a
second, and what explodes takes hours."""

PATIENCE = 300.0
"""Seconds after which a worker is taken to hang, however busy the machine is."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TVM_NUM_THREADS"), "1")
"""Environment of a worker: stacks and buffers of one thread for each of many processors would not fit into
MEMORY."""

COMPILE_EVERY = 100
"""Of so many models one is compiled to the end."""


@dataclass(frozen=True)
class Verdict:
    """What became of one model.

    outcome: "compiled" (planned, or to the end), "refused", else what went wrong. detail: the diagnostic or
    the traceback. seconds: of the processor, up to the plan."""

    number: int
    outcome: str
    detail: str = ""
    seconds: float = 0.0

    @property
    def is_fault(self) -> bool:
        """Whether bnncc failed."""
        return self.outcome not in ("compiled", "refused")


Judge = Callable[[int, Path], Verdict]
"""Compiles the model of a number in a folder."""


def judge(number: int, folder: Path) -> Verdict:
    """Draw the model of this number and compile it."""
    from tests.fuzzing.mutations import Mutator

    path = folder / "model.onnx"
    path.write_bytes(Mutator(number).model())
    return judge_file(number, path)


def judge_file(number: int, path: Path, **options: Any) -> Verdict:
    """Compile a file; the options are those of a compilation."""
    from bnncc import driver
    from bnncc.diagnostics import BnnccError, ExitCode

    begin = time.process_time()
    try:
        lowered = driver.lower_model(path, driver.Options(**options))
        seconds = time.process_time() - begin
        if number % COMPILE_EVERY == 0:
            chosen = driver.Options(emit=("lib",), **options)
            with tempfile.TemporaryDirectory(dir=path.parent) as output:
                driver.build(lowered, path, Path(output) / "library", chosen)
        outcome, detail = "compiled", ""
    except BnnccError as error:
        seconds = time.process_time() - begin
        right = error.exit_code == ExitCode.USER and error.message and error.location
        outcome, detail = ("refused", str(error)) if right else (f"exit {error.exit_code}", _told(error))
    except BaseException as error:
        seconds = time.process_time() - begin
        outcome, detail = type(error).__name__, _told(error)
    if outcome in ("compiled", "refused") and seconds > CPU_SECONDS:
        outcome, detail = "slow", f"{seconds:.1f} s; {detail[:300]}"
    return Verdict(number, outcome, detail, seconds)


def _told(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    return text if len(text) < 6000 else text[:1000] + "\n[...]\n" + text[-5000:]


def work(orders: Connection, judge: Judge) -> None:
    """A worker: numbers in, verdicts out."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders.send("ready")
    with tempfile.TemporaryDirectory(prefix="bnncc-fuzz-") as folder:
        while (number := orders.recv()) is not None:
            orders.send(judge(number, Path(folder)))


class Worker:
    """One process and the model it has in hand."""

    def __init__(self, judge: Judge) -> None:
        context = get_context("spawn")
        self.connection, far = context.Pipe()
        self.process = context.Process(target=work, args=(far, judge), daemon=True)
        with mock.patch.dict(os.environ, ONE_THREAD):
            self.process.start()
        far.close()
        # From here on its time counts.
        self.connection.recv()
        self.number: int | None = None
        self.since = 0.0

    def give(self, number: int) -> None:
        """Hand over a model."""
        self.number, self.since = number, time.monotonic()
        self.connection.send(number)

    def take(self) -> Verdict:
        """Its verdict, or that it died."""
        assert self.number is not None
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            return Verdict(self.number, f"died with {self.process.exitcode}")

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def judge_all(
    numbers: Sequence[int], jobs: int, judge: Judge = judge, patience: float = PATIENCE
) -> Iterator[Verdict]:
    """Verdicts in any order; a worker that dies or hangs is replaced."""
    waiting = iter(numbers)
    workers = [Worker(judge) for _ in range(jobs)]
    try:
        for worker in workers:
            _next(worker, waiting)
        while busy := [worker for worker in workers if worker.number is not None]:
            ready = set(wait([worker.connection for worker in busy], timeout=1.0))
            for worker in busy:
                hangs = time.monotonic() - worker.since > patience
                if worker.connection not in ready and not hangs:
                    continue
                assert worker.number is not None
                done = worker.connection in ready
                verdict = worker.take() if done else Verdict(worker.number, "hangs")
                yield verdict
                if not done or not worker.process.is_alive():
                    worker.stop()
                    workers[workers.index(worker)] = worker = Worker(judge)
                _next(worker, waiting)
    finally:
        for worker in workers:
            worker.stop()


def _next(worker: Worker, waiting: Iterator[int]) -> None:
    worker.number = None
    number = next(waiting, None)
    if number is not None:
        worker.give(number)
