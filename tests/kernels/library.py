# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels that tests and benchmarks call with NumPy buffers."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.build import compile_c, compile_object
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.parts import ALL
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.simulate import allocate, run_step
from bnncc.targets import Target
from bnncc.toolchain.c_compiler import find

PREFIX = "test"
TABLE = "kernel_table"


class Library:
    """Kernels, compiled for a target that this machine runs, and loaded."""

    def __init__(self, kernels: Sequence[Kernel], target: Target, optimisation: str = "-O2"):
        self.symbols = sorted({kernel.symbol for kernel in kernels})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "kernels.so"
            if target.kind == "c":
                text = compile_c(kernels, PREFIX, target)
                sources = [_write(Path(folder) / "kernels.c", text + self._table(declared=False))]
            else:
                table = _write(Path(folder) / "table.c", self._table(declared=True))
                code = Path(folder) / "kernels.o"
                code.write_bytes(compile_object(kernels, PREFIX, target))
                sources = [table, code]
            flags = [
                "-std=c99",
                optimisation,
                "-Wall",
                "-Wextra",
                "-Werror",
                "-fPIC",
                "-shared",
                "-o",
                str(path),
            ]
            subprocess.run([*find(target).compiler, *flags, *map(str, sources), "-lm"], check=True)
            library = ctypes.CDLL(str(path))
        table = (ctypes.c_void_p * len(self.symbols)).in_dll(library, TABLE)
        self._addresses = dict(zip(self.symbols, table, strict=True))

    def bind(
        self, kernel: Kernel, *buffers: np.ndarray, pieces: tuple[int, ...] = (0, 1, 1, ALL)
    ) -> Callable[[], None]:
        """A call of the kernel with these buffers, one for every parameter; pieces: of a divided kernel,
        the first, the one after the last, of how many, and which stage."""
        assert len(buffers) == len(kernel.parameters)
        parts = pieces if kernel.pieces > 1 else ()
        types = [*[ctypes.c_void_p] * len(buffers), *[ctypes.c_int32] * len(parts)]
        function = ctypes.CFUNCTYPE(None, *types)(self._addresses[kernel.symbol])
        pointers = [ctypes.c_void_p(buffer.ctypes.data) for buffer in buffers]
        return lambda kept=buffers: function(*pointers, *parts)

    def run(
        self,
        kernel: Kernel,
        reads: Sequence[np.ndarray],
        constants: tuple[np.ndarray, ...],
        writes: Sequence[np.ndarray],
    ) -> None:
        """Call the kernel as a Step would; checks that the packed constants have the declared extents."""
        packed = kernel.pack(constants)
        stored = kernel.parameters[len(reads) : len(reads) + len(packed)]
        for array, parameter in zip(packed, stored, strict=True):
            assert (array.dtype, array.shape) == (parameter.dtype, (parameter.extent,)), parameter
        lent = [np.zeros(kernel.scratch_bytes, np.uint8)] if kernel.scratch_bytes else []
        self.bind(kernel, *map(aligned, reads), *map(aligned, packed), *writes, *map(aligned, lent))()

    def _table(self, declared: bool) -> str:
        names = [f"{PREFIX}_{symbol}" for symbol in self.symbols]
        externs = [f"extern void {name}(void);" for name in names] if declared else []
        entries = ", ".join(f"(void (*)(void)){name}" for name in names)
        count = len(names)
        lines = [*externs, f"extern void (*const {TABLE}[{count}])(void);"]
        return "\n".join([*lines, f"void (*const {TABLE}[{count}])(void) = {{{entries}}};", ""])


def compiled(
    cases: Mapping[str, KernelSpec], target: str, make: Callable[[KernelSpec, Isa], Kernel]
) -> tuple[dict[str, Kernel], Library]:
    """The kernels of cases by a template, and a library of them; skips on other machines."""
    facts = targets.load(target)
    if not facts.runs_here():
        pytest.skip(f"this machine is no {target}")
    kernels = {name: make(spec, Isa.of(facts)) for name, spec in cases.items()}
    return kernels, Library(list(kernels.values()), facts)


def shown_by_a_wrong_bit(
    library: Library,
    kernel: Kernel,
    numbers: tuple[list[np.ndarray], tuple[np.ndarray, ...]],
    place: tuple[int, ...],
) -> int:
    """How many outputs differ from the simulated ones where the weight at a place has the other sign: the
    comparison itself is tried. numbers: what is read, and the constants."""
    (output,), (reads, constants) = kernel.spec.outputs, numbers
    expected, actual = (allocate(output.layout) for _ in range(2))
    run_step(kernel.spec, reads, constants, [expected])
    constants[0][place] *= -1
    library.run(kernel, reads, constants, [actual])
    return int(np.count_nonzero(expected != actual))


def before_forbidden_memory(array: np.ndarray) -> np.ndarray:
    """A copy that ends where a page ends; the next one may not be read."""
    size = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = np.frombuffer(mmap.mmap(-1, size + mmap.PAGESIZE), np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert protect(pages.ctypes.data + size, mmap.PAGESIZE, 0) == 0
    copy = pages[size - array.nbytes : size].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def aligned(array: np.ndarray, boundary: int = 64) -> np.ndarray:
    """A copy that starts at a cache line, as buffers and weights of a compiled network do."""
    raw = np.empty(array.nbytes + boundary, np.uint8)
    start = -raw.ctypes.data % boundary
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
