# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels for another processor, called with NumPy buffers in an emulated Linux program."""

from __future__ import annotations

import functools
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bnncc import elf, runtime, targets, toolchain
from bnncc.boards import COUNTED
from bnncc.kernels.build import compile_c, compile_object, micro_kernel_source
from bnncc.kernels.kernel import Kernel
from bnncc.targets import Target
from tests.kernels.library import PREFIX, aligned

SECONDS = 300

PROGRAM = """
#include <stdint.h>
#include <stdlib.h>
#include "board.h"
#include "calls.h"

__attribute__((noinline)) void bnncc_count_begin(void) { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline)) void bnncc_count_end(void) { __asm__ volatile("" ::: "memory"); }

/* A request: which kernel, how many parameters, of each its size and its bytes, with guards on both sides.
   The answer is all of these bytes after the call. */
int main(void)
{
    uint32_t which, count;
    while (board_read(&which, 4) == 0 && board_read(&count, 4) == 0) {
        unsigned char *memory[MOST];
        void *pointers[MOST];
        uint32_t sizes[MOST];
        for (uint32_t i = 0; i < count; i++) {
            if (board_read(&sizes[i], 4))
                return 1;
            memory[i] = aligned_alloc(64, (sizes[i] + 63) / 64 * 64);
            pointers[i] = memory[i] + GUARD;
            if (board_read(memory[i], sizes[i]))
                return 2;
        }
        bnncc_count_begin();
        call_kernel(which, pointers);
        bnncc_count_end();
        for (uint32_t i = 0; i < count; i++) {
            if (board_write(memory[i], sizes[i]))
                return 3;
            free(memory[i]);
        }
    }
    return 0;
}
"""

GUARD = 64
"""Bytes before and behind every buffer, which a kernel must leave alone."""


class Program:
    """Kernels compiled for a Linux target and linked into a program for its emulator."""

    def __init__(self, kernels: Sequence[Kernel], target: Target):
        self.target = target
        self.symbols = sorted({kernel.symbol for kernel in kernels})
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        tools = toolchain.find(target)
        if target.kind == "c":
            kept = [f"void (*const table[])(void) = {{{', '.join(self._entries())}}};"]
            (folder / "kernels.c").write_text(compile_c(kernels, PREFIX, target) + "\n".join(kept) + "\n")
            tools.compile(folder / "kernels.c", folder / "kernels.o", ("-O3", "-Wall", "-Wextra", "-Werror"))
            tools.archive([folder / "kernels.o"], folder / "kernels.a")
        else:
            code = compile_object(kernels, PREFIX, target)
            (folder / "kernels.o").write_bytes(code)
            (folder / "micro.c").write_text(micro_kernel_source(code, PREFIX))
            tools.compile(folder / "micro.c", folder / "micro.o")
            micro = elf.prefix_symbols((folder / "micro.o").read_bytes(), PREFIX)
            (folder / "micro.o").write_bytes(micro)
            tools.archive([folder / "kernels.o", folder / "micro.o"], folder / "kernels.a")
        (folder / "calls.h").write_text(self._calls(kernels))
        (folder / "main.c").write_text(PROGRAM)
        for name in ("board.h", "linux.c"):
            shutil.copy(runtime.BOARDS / name, folder)
        tools.link_program(["main.c", "linux.c"], "kernels.a", folder / "program")

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
        guard = b"\xa5" * GUARD
        request = struct.pack("<II", self.symbols.index(kernel.symbol), len(arrays))
        for array in arrays:
            request += struct.pack("<I", array.nbytes + 2 * GUARD) + guard + array.tobytes() + guard
        answer, count = self._execute(request, emulator or self.target.emulator)
        at = 0
        for index, array in enumerate(arrays):
            piece = answer[at : at + array.nbytes + 2 * GUARD]
            assert piece[:GUARD] == piece[-GUARD:] == guard, "written outside of a buffer"
            if index >= first:
                array[...] = np.frombuffer(piece[GUARD:-GUARD], array.dtype).reshape(array.shape)
            else:
                assert piece[GUARD:-GUARD] == array.tobytes(), "a buffer that is only read was changed"
            at += len(piece)
        return count

    def _execute(self, request: bytes, emulator: Sequence[str]) -> tuple[bytes, int]:
        command = [*emulator, "-plugin", f"file={counter()}", str(Path(self.folder.name) / "program")]
        done = subprocess.run(command, input=request, capture_output=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
        counts = [
            int(line.split()[-1]) for line in done.stderr.decode().splitlines() if line.startswith(COUNTED)
        ]
        return done.stdout, counts[0] if counts else 0

    def _entries(self) -> list[str]:
        return [f"(void (*)(void)){PREFIX}_{symbol}" for symbol in self.symbols]

    def _calls(self, kernels: Sequence[Kernel]) -> str:
        counts = {kernel.symbol: len(kernel.parameters) for kernel in kernels}
        lines = [f"#define MOST {max(counts.values())}", f"#define GUARD {GUARD}"]
        if self.target.kind == "c":
            lines.append("extern void (*const table[])(void);")
        else:
            lines += [f"void {PREFIX}_{symbol}(void);" for symbol in self.symbols]
            lines.append(f"static void (*const table[])(void) = {{{', '.join(self._entries())}}};")
        lines += ["static void call_kernel(uint32_t which, void **p)", "{", "    switch (which) {"]
        for index, symbol in enumerate(self.symbols):
            types = ", ".join(["void *"] * counts[symbol])
            arguments = ", ".join(f"p[{i}]" for i in range(counts[symbol]))
            lines.append(f"    case {index}: ((void (*)({types}))table[{index}])({arguments}); break;")
        return "\n".join([*lines, "    default: break;", "    }", "}", ""])


@functools.cache
def counter() -> Path:
    """QEMU's plugin that counts instructions."""
    folder = Path(tempfile.mkdtemp(prefix=f"bnncc-count-{os.getpid()}-"))
    source = shutil.copy(runtime.BOARDS / "count.c", folder)
    toolchain.find(targets.native()).link_plugin(Path(source), folder / "libcount.so")
    return folder / "libcount.so"
