# SPDX-License-Identifier: Apache-2.0
"""Measuring on one core: variants take turns, so that all see the same clock and the same neighbours."""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from bnncc import bench, targets

Call = Callable[[], object]


@runtime_checkable
class Remote(Protocol):
    """A call that runs in another process, which tells how long it took."""

    def seconds(self, repeat: int) -> float:
        """Of `repeat` calls."""
        ...


SLICE_SECONDS = 5e-4
"""A turn repeats the call for about so long."""


def pin_to_one_core() -> int:
    """Keep this process on one of the cores it may use; its number."""
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def processor() -> str:
    """The processor's name and what it counts bits with."""
    flags = targets.cpu_flags()
    best = next((f for f in ("avx512_vpopcntdq", "avx512bw", "avx2", "sse4_2") if f in flags), "")
    return f"{bench.processor()}, {best}" if best else bench.processor()


@dataclass(frozen=True)
class Times:
    """Seconds of one call of each variant, turn by turn."""

    turns: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """Seconds of one call."""
        return statistics.median(self.turns[name])

    def ratio(self, name: str, other: str) -> float:
        """Of two variants: the median over the turns, as both of a turn saw the same machine."""
        pairs = zip(self.turns[name], self.turns[other], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def measure(calls: Mapping[str, Call], turns: int) -> Times:
    """Time all variants in `turns` turns, in which each takes part in order."""
    repeats = {name: _repeats(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            times[name].append(_seconds(call, repeats[name]))
    return Times(times)


def _repeats(call: Call) -> int:
    call()
    return max(1, int(SLICE_SECONDS / max(_seconds(call, 3), 1e-7)))


def _seconds(call: Call, repeat: int) -> float:
    """Of the calling thread's own time on the processor, so what else runs there counts less."""
    if isinstance(call, Remote):
        return call.seconds(repeat) / repeat
    start = time.thread_time()
    for _ in range(repeat):
        call()
    return (time.thread_time() - start) / repeat


VECTORS_COUNTED = 4096 * 16
"""512-bit vectors in one call of `popcount_loop` and of `multiply_loop`."""


def popcount_loop() -> Call | None:
    """A call that counts the bits of VECTORS_COUNTED independent 512-bit vectors, and does nothing else; None
    where the processor has no such instruction."""
    return _loop_of("vpopcntd {0}, {0};") if "avx512_vpopcntdq" in targets.cpu_flags() else None


def multiply_loop() -> Call | None:
    """A call that adds VECTORS_COUNTED products of 16 float32 to 16 independent sums, and does nothing else;
    None where the processor has no such instruction."""
    return _loop_of("vfmadd231ps {0}, {0}, {0};") if "avx512f" in targets.cpu_flags() else None


def _loop_of(instruction: str) -> Call:
    """Repeats an instruction on each of 16 registers, which hold zeros. Upper halves that stay in use would
    make SSE code that is timed next two to three times as slow."""
    registers = [f"%%zmm{i}" for i in range(16)]
    body = "".join(instruction.format(register) for register in registers)
    zeros = "".join(f"vpxord {r}, {r}, {r};" for r in registers)
    clobbers = ", ".join(f'"xmm{i}"' for i in range(16))
    text = f"""void repeat(void)
{{
    __asm__ volatile("{zeros}" ::: {clobbers});
    for (int i = 0; i < 4096; ++i)
        __asm__ volatile("{body}" ::: {clobbers});
    __asm__ volatile("vzeroupper" ::: {clobbers});
}}
"""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "loop.c", Path(folder) / "loop.so"
        source.write_text(text)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        return ctypes.CDLL(str(library)).repeat
