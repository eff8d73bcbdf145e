# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels for another processor, called with NumPy buffers in an emulated Linux program."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bnncc.execution import boards
from bnncc.kernels.kernel import Kernel
from bnncc.targets import Target
from bnncc.tuning import program
from bnncc.tuning.program import GUARD, GUARDING, Pool, Requests
from tests.kernels.library import aligned

SECONDS = 3600
WARNINGS = ("-Wall", "-Wextra", "-Werror")


class Program:
    """Kernels compiled for a Linux target and linked into a program for its emulator."""

    def __init__(self, kernels: Sequence[Kernel], target: Target):
        distinct = {kernel.symbol: kernel for kernel in kernels}
        self.target, self.symbols = target, list(distinct)
        self.folder = tempfile.TemporaryDirectory()
        largest = max(
            _places([p.extent * np.dtype(p.dtype).itemsize for p in k.parameters])[1] for k in kernels
        )
        folder = Path(self.folder.name)
        self.image = program.build(list(distinct.values()), target, largest, folder, flags=WARNINGS)

    def run(
        self,
        kernel: Kernel,
        reads: Sequence[np.ndarray],
        constants: tuple[np.ndarray, ...],
        writes: Sequence[np.ndarray],
        emulator: Sequence[str] | None = None,
    ) -> int:
        """Call the kernel as a Step would, and count its instructions (0 where the emulator cannot)."""
        packed = kernel.pack(constants)
        scratch = [np.full(kernel.scratch_bytes, 0x5A, np.uint8)] if kernel.scratch_bytes else []
        arrays = [*map(aligned, reads), *packed, *writes, *scratch]
        first = len(reads) + len(packed)
        for array, parameter in zip(arrays, kernel.parameters, strict=True):
            assert array.nbytes == parameter.extent * np.dtype(parameter.dtype).itemsize, parameter
        places, _ = _places([array.nbytes for array in arrays])
        requests = Requests()
        for at, array in zip(places, arrays, strict=True):
            requests.guard(at, array.nbytes)
            requests.write(at, array)
        requests.call(self.symbols.index(kernel.symbol), places)
        for at, array in zip(places, arrays, strict=True):
            requests.read(at - GUARD, array.nbytes + 2 * GUARD)
        target = replace(self.target, emulator=tuple(emulator or self.target.emulator))
        options = ("-plugin", f"file={counter()}")
        done = boards.execute(target, self.image, requests.stream, options, SECONDS)
        assert not done.problem and len(done.answer) == requests.answered, done.problem
        self._take(arrays, first, done.answer[8:])
        return done.counts[0] if done.counts else 0

    @staticmethod
    def _take(arrays: Sequence[np.ndarray], first: int, answer: bytes) -> None:
        """Read the buffers from `first` on; those before must be as they were, and what is around all,
        too."""
        guard, at = bytes([GUARDING]) * GUARD, 0
        for index, array in enumerate(arrays):
            piece = answer[at : at + array.nbytes + 2 * GUARD]
            assert piece[:GUARD] == piece[-GUARD:] == guard, "written outside of a buffer"
            if index >= first:
                array[...] = np.frombuffer(piece[GUARD:-GUARD], array.dtype).reshape(array.shape)
            else:
                assert piece[GUARD:-GUARD] == array.tobytes(), "a buffer that is only read was changed"
            at += len(piece)


def _places(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where buffers of these sizes lie, and how large the memory is."""
    pool = Pool()
    return [pool.place(size) for size in sizes], pool.bytes


@functools.cache
def counter() -> Path:
    """QEMU's plugin that counts instructions."""
    return boards.link_counter(Path(tempfile.mkdtemp(prefix=f"bnncc-count-{os.getpid()}-")))
