# SPDX-License-Identifier: Apache-2.0
"""Programs that several threads wait for: given up after a while, and ended with what they have started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path


class Programs:
    """Those that run now, each in a process group of its own: `python -m ziglang` starts others."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()

    def run(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        seconds: float,
        text: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """What a program said, which is given a text to read. Raises OSError where it cannot be started, and
        subprocess.TimeoutExpired."""
        with subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
        ) as process:
            with self._lock:
                self._running.add(process)
            try:
                out, said = process.communicate(text, timeout=seconds)
            except BaseException:
                # The terminal's Ctrl-C does not reach them.
                _end(process)
                raise
            finally:
                with self._lock:
                    self._running.discard(process)
        return subprocess.CompletedProcess(command, process.returncode, out, said)

    @contextlib.contextmanager
    def side_by_side(self) -> Iterator[Callable[..., Future[None]]]:
        """What lets functions that run programs go on beside the block. Where that fails, or is interrupted,
        the programs are ended."""
        jobs: list[Future[None]] = []
        with ThreadPoolExecutor(os.cpu_count()) as workers:

            def submit(work: Callable[..., None], *arguments: object) -> Future[None]:
                jobs.append(workers.submit(work, *arguments))
                return jobs[-1]

            try:
                yield submit
            except BaseException:
                for job in jobs:
                    job.cancel()
                # Again and again, as one may be about to start its program.
                while wait(jobs, timeout=0.1).not_done:
                    self._end_all()
                raise

    def _end_all(self) -> None:
        with self._lock:
            for process in self._running:
                _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """With its children, as long as it has not been waited for."""
    if process.returncode is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
