# SPDX-License-Identifier: Apache-2.0
"""Larq Compute Engine as a peer, in an environment of its own: `larq_worker.py` says how to make one.

The environment variable BNNCC_LARQ names its Python, BNNCC_LARQ_MODELS the folder that the worker's `--make`
wrote.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PYTHON = "BNNCC_LARQ"
MODELS = "BNNCC_LARQ_MODELS"
WORKER = Path(__file__).with_name("larq_worker.py")


class LarqCall:
    """One model in a process of its own, which tells how long it took; a `timing.Remote`."""

    def __init__(self, model: Path):
        """Raises OSError or EOFError where the environment is not what it should be."""
        command = [os.environ[PYTHON], str(WORKER)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._ask(f"load {model}")

    def seconds(self, repeat: int) -> float:
        """Of so many inferences, of its thread's time on the processor."""
        return float(self._ask(f"time {repeat}"))

    def __call__(self) -> None:
        """One inference."""
        self.seconds(1)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise EOFError(
                f"{WORKER.name} ended; run it by hand: echo '{line}' | {os.environ[PYTHON]} {WORKER}"
            )
        return answer


def model(name: str) -> Path | None:
    """A model by name, where there is an environment and the model."""
    if PYTHON not in os.environ or MODELS not in os.environ:
        return None
    path = Path(os.environ[MODELS]) / f"{name}.tflite"
    return path if path.exists() else None
