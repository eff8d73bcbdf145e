# SPDX-License-Identifier: Apache-2.0
"""A program that calls kernels as a stream of requests says: what is sent to a device.

The requests are those of `runtime/bsp/measure.c`. Buffers lie in one pool of memory, between guards.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from bnncc.execution import boards
from bnncc.kernels.build import compile_c, compile_object, micro_kernel_source
from bnncc.kernels.kernel import Kernel
from bnncc.targets import Target
from bnncc.toolchain import c_compiler, elf
from bnncc.tuning import firmware

STOP, WRITE, READ, CALL = range(4)
PREFIX = "candidate"
TABLE = "candidates"
GUARDING = 0xA5
GUARD = 64
"""Bytes before and behind every buffer, which a kernel must leave alone."""

ALIGNMENT = 64


@dataclass
class Pool:
    """The program's memory, as places are given out."""

    bytes: int = 0

    def place(self, size: int) -> int:
        """Where a buffer of so many bytes lies, with room for guards."""
        at = self.bytes + GUARD
        self.bytes = at + -(-size // ALIGNMENT) * ALIGNMENT + GUARD
        return at


@dataclass(frozen=True)
class Request:
    """One of them: three words, and the bytes that belong to them."""

    operation: int
    a: int
    b: int
    data: bytes = b""

    @property
    def stream(self) -> bytes:
        """As programs read it."""
        return struct.pack("<III", self.operation, self.a, self.b) + self.data


@dataclass
class Requests:
    """A stream of requests, and how many bytes are answered."""

    each: list[Request] = field(default_factory=list)
    answered: int = 0

    @staticmethod
    def joined(requests: Sequence[Requests]) -> Requests:
        """One after the other."""
        each = [one for request in requests for one in request.each]
        return Requests(each, sum(request.answered for request in requests))

    def write(self, at: int, array: np.ndarray) -> None:
        """Fill a buffer."""
        self.each.append(Request(WRITE, at, array.nbytes, array.tobytes()))

    def guard(self, at: int, size: int) -> None:
        """Fill what lies before and behind a buffer."""
        for start in (at - GUARD, at + size):
            self.write(start, np.full(GUARD, GUARDING, np.uint8))

    def read(self, at: int, size: int) -> None:
        """Ask for bytes."""
        self.each.append(Request(READ, at, size))
        self.answered += size

    def call(self, kernel: int, places: Sequence[int], repeat: int = 1) -> None:
        """Call a kernel `repeat` times; answers 8 bytes, the nanoseconds or cycles."""
        self.each.append(Request(CALL, kernel, repeat, struct.pack(f"<{len(places)}I", *places)))
        self.answered += 8

    @property
    def stream(self) -> bytes:
        """All of it, with the end."""
        return b"".join(request.stream for request in self.each) + Request(STOP, 0, 0).stream


Form = Literal["program", "library"] | firmware.Image | firmware.Agent
"""A program of its own, or a library with the function `measure` for a TVM RPC server, or for boards without
an operating system: an image for the agent there, or the agent with the kernels in it."""


def build(
    kernels: Sequence[Kernel],
    target: Target,
    pool_bytes: int,
    folder: Path,
    form: Form = "program",
    flags: Sequence[str] = (),
) -> Path:
    """The program with some kernels, made in `folder`; kernels are called by their position. flags: of the C
    compiler for portable kernels, besides those that libraries are compiled with.

    Raises BnnccError where no tool chain is found or a kernel does not compile."""
    tools = c_compiler.find(target)
    if target.kind == "c":
        text = f"{compile_c(kernels, PREFIX, target)}\n{_table(kernels)}"
        (folder / "kernels.c").write_text(text)
        tools.compile(folder / "kernels.c", folder / "kernels.o", (*c_compiler.kernel_flags(target), *flags))
        tools.archive([folder / "kernels.o"], folder / "kernels.a")
        declared = f"extern void (*const {TABLE}[])(void);\n"
    else:
        code = compile_object(kernels, PREFIX, target)
        (folder / "kernels.o").write_bytes(code)
        (folder / "micro.c").write_text(micro_kernel_source(code, PREFIX))
        tools.compile(folder / "micro.c", folder / "micro.o")
        micro = elf.prefix_symbols((folder / "micro.o").read_bytes(), PREFIX)
        (folder / "micro.o").write_bytes(micro)
        tools.archive([folder / "kernels.o", folder / "micro.o"], folder / "kernels.a")
        functions = "".join(f"void {PREFIX}_{kernel.symbol}(void);\n" for kernel in kernels)
        declared = f"{functions}static {_table(kernels)}"
    number = zlib.crc32((folder / "kernels.a").read_bytes(), pool_bytes)
    (folder / firmware.NUMBER).write_text(str(number))
    (folder / "kernels.h").write_text(_header(kernels, pool_bytes, number, declared))
    if isinstance(form, firmware.Image):
        return firmware.link_image(target, folder, form, "kernels.a")
    if isinstance(form, firmware.Agent):
        return firmware.link_agent(target, folder, form, "kernels.a")
    if form == "program":
        return boards.link(target, folder, "measure.c", "kernels.a")
    return _link_library(tools, folder)


def _link_library(tools: c_compiler.Toolchain, folder: Path) -> Path:
    """What a TVM RPC server loads."""
    boards.copy_sources(folder, ("measure.c", "tvm_rpc.c"))
    tools.compile(folder / "measure.c", folder / "measure.o", ("-Dmain=measure_main",))
    tools.compile(folder / "tvm_rpc.c", folder / "tvm_rpc.o")
    objects = [folder / name for name in ("measure.o", "tvm_rpc.o", "kernels.a")]
    tools.link_shared(objects, folder / "measure.so", ("__tvm_ffi_measure",))
    return folder / "measure.so"


def _table(kernels: Sequence[Kernel]) -> str:
    """C of the kernels' addresses, in their order."""
    entries = ", ".join(f"(void (*)(void)){PREFIX}_{kernel.symbol}" for kernel in kernels)
    return f"void (*const {TABLE}[{len(kernels)}])(void) = {{{entries}}};\n"


def _header(kernels: Sequence[Kernel], pool_bytes: int, number: int, declared: str) -> str:
    """What measure.c and image.c include. number: what tells the image from others."""
    counts = [len(kernel.parameters) for kernel in kernels]
    lines = [
        f"#define IMAGE_NUMBER {number}u",
        f"#define POOL_BYTES {max(pool_bytes, 1)}u",
        f"#define KERNELS {len(kernels)}u",
        f"#define MOST_PARAMETERS {max(counts)}",
        f"static const uint32_t parameters[KERNELS] = {{{', '.join(map(str, counts))}}};",
        declared,
        "static void call_kernel(uint32_t which, void **p)",
        "{",
        "    switch (parameters[which]) {",
    ]
    for count in sorted(set(counts)):
        types = ", ".join(["void *"] * count)
        arguments = ", ".join(f"p[{i}]" for i in range(count))
        lines.append(f"    case {count}: ((void (*)({types})){TABLE}[which])({arguments}); break;")
    return "\n".join([*lines, "    default: break;", "    }", "}", ""])
