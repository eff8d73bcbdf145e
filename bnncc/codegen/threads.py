# SPDX-License-Identifier: Apache-2.0
"""Libraries whose layers several threads compute: what is shared, and what the generated C has for it.

The pool itself is C: `runtime/include/bnncc/threads.h`.
"""

from __future__ import annotations

from bnncc import runtime
from bnncc.diagnostics import BnnccError
from bnncc.plan.kernel import BinaryConv, ByteConv
from bnncc.plan.program import Program, Step
from bnncc.targets import Target

MOST = 64
"""Threads that a library may use; a layer is never cut into more pieces than that is good for."""

LARGEST_INT = 2**31 - 1
"""Of an int32."""

PIECES_PER_THREAD = 16
"""At most: they even out what other work on the machine takes from a thread, and that it may begin late."""

ERROR_THREADS = 7
"""The status where a number of threads is out of range."""

FLAGS = ("-pthread",)
"""Of the C compiler and the linker."""

LEAST = {"bits": 4_000_000, "numbers": 200_000, "bytes": 600_000}
"""What a step has at least for threads to share it, and a piece of larger ones: multiply-accumulates of bits
(or of bytes), those of float32, or, where there are none, bytes that are read and written. Some 3
microseconds; sharing a step costs a quarter of one."""


def check_threads(threads: int, target: Target, package: str | None, backend: str) -> None:
    """Raise BnnccError where a library for so many threads cannot be made."""
    if not 1 <= threads <= MOST:
        raise BnnccError("--threads", f"{threads} threads are out of range", f"choose 1 to {MOST}")
    if threads == 1:
        return
    if target.is_bare:
        raise BnnccError(
            "--threads",
            f"{target.name} has no operating system, and so no threads",
            "leave --threads out; two cores can run two networks, each with an arena of its own",
        )
    if package not in (None, "cmake"):
        hint = "--package cmake is for systems that have them"
        raise BnnccError("--threads", f"packages of {package} have no threads", hint)
    if backend == "mlir":
        raise BnnccError(
            "--threads", "kernels of --backend mlir run on one thread", "leave one of the two out"
        )


def pieces(program: Program, step: Step, most: int, threads: int) -> int:
    """Into how many pieces a step is cut whose kernel can do `most`; 1 where that would not pay."""
    size, least = _size(program, step)
    if threads == 1 or most == 1 or size < least:
        return 1
    each = size // (threads * max(1, least))
    # The kernel multiplies a piece's number with that of its iterations, in 32 bits.
    most = min(most, LARGEST_INT // most)
    return max(1, min(most, threads * min(max(1, each), PIECES_PER_THREAD)))


def _size(program: Program, step: Step) -> tuple[int, int]:
    """What a step has of one of LEAST, and that."""
    if step.macs:
        on_bits = isinstance(step.kernel.root, BinaryConv | ByteConv)
        return step.macs, LEAST["bits" if on_bits else "numbers"]
    return sum(program.buffers[index].bytes for index in (*step.reads, *step.writes)), LEAST["bytes"]


FIELDS = (
    "    struct bnncc_pool *pool_; /* 0 where this run computes alone. */",
    "    int32_t *zero_; /* Whether the layer that is on found a zero. */",
)
"""Of the struct that holds the memory of a run."""

POSIX = "#define _POSIX_C_SOURCE 200809L"
"""Stands before the first header: C99 alone has no threads."""


def definitions(program: Program, threads: int) -> str:
    """The pool and `<name>_threads`, for the entry file."""
    name, upper = program.name, program.name.upper()
    return f"""\
{runtime.header_text("threads.h")}

static struct bnncc_share {name}_shares[{threads}];
static struct bnncc_worker {name}_workers[{threads - 1}];
static struct bnncc_pool {name}_pool = BNNCC_POOL({name}_shares, {name}_workers, {threads - 1});

int {name}_threads(int count)
{{
    if (count < 1 || count > {upper}_THREADS)
        return {upper}_ERROR_THREADS;
    bnncc_set_threads(&{name}_pool, count);
    return {upper}_OK;
}}

__attribute__((destructor)) static void {name}_end_threads(void)
{{
    bnncc_end_threads(&{name}_pool);
}}"""


def header_constants(program: Program, threads: int) -> str:
    """For the header, among the other numbers."""
    return f"""\

/* Threads that a run uses, its caller's among them. */
#define {program.name.upper()}_THREADS {threads}
"""


def status(program: Program) -> str:
    """One more constant of the enumeration of statuses."""
    text = f"{program.name.upper()}_ERROR_THREADS = {ERROR_THREADS}"
    return f",\n    /* The number of threads is out of range. */\n    {text}"


def prototype(program: Program) -> str:
    """`<name>_threads` in the header, with what there is to know."""
    name, upper = program.name, program.name.upper()
    call = f"{name}_{'step' if program.states else 'run'}"
    return f"""\
/*
 * How many threads a run may use from now on, the caller's among them: 1 to {upper}_THREADS, which is also
 * what there are if this is never called. Threads that are not needed any more are joined before it returns;
 * the others start with the next run. Returns {upper}_OK, or {upper}_ERROR_THREADS.
 *
 * All runs share one pool of {upper}_THREADS - 1 threads: of several {call} at the same time, one has it,
 * the others compute alone. Outputs do not depend on it. Between runs the threads sleep; during a run they
 * keep their cores busy. Where the system refuses a thread, a run does with those there are. After fork()
 * the child starts threads of its own.
 */
int {name}_threads(int count);
"""
