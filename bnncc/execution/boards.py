# SPDX-License-Identifier: Apache-2.0
"""Programs for processors that this machine is not: linked with what a board needs, run by its emulator
(QEMU).

A program reads requests and writes answers (`runtime/bsp/board.h`): on standard input and output where there
is an operating system, else in files, through semihosting.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnncc import runtime, targets
from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.targets import Target
from bnncc.toolchain import c_compiler

COUNTED = "bnncc instructions "
"""What count.c says before a number."""

SECONDS = 3600
"""One process may take this long."""

PACKAGES = {
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-riscv32": "qemu-system-misc",
}
"""Debian's package of an emulator; the others are in qemu-user."""

BARE_OPTIONS = (
    *("-semihosting-config", "enable=on,target=native"),
    *("-display", "none", "-monitor", "none", "-serial", "null"),
)
"""A board without peripherals, whose only way out is semihosting."""


@dataclass(frozen=True)
class Execution:
    """What a program answered and what was said on standard error; problem: what went wrong, "" if
    nothing."""

    answer: bytes
    said: str
    problem: str

    @property
    def counts(self) -> list[int]:
        """Instructions of each call, where the plugin of `link_counter` counted."""
        return [int(line.split()[-1]) for line in self.said.splitlines() if line.startswith(COUNTED)]


def command(target: Target) -> tuple[str, ...]:
    """The emulator of a target. Raises BnnccError that says how to get it."""
    program, *options = target.emulator or ("",)
    if not program:
        raise BnnccError(
            f"target {target.name}",
            "this machine cannot run what is compiled for it, and the target names no emulator",
            "add `emulator = [...]` to the target's file, or run it on such a machine",
        )
    path = shutil.which(program)
    if path is None:
        package = PACKAGES.get(program, "qemu-user")
        raise BnnccError(
            f"target {target.name}",
            f"its emulator {program} is not installed",
            f"apt-get install {package}",
            ExitCode.FAILURE,
        )
    return (path, *options)


def link(target: Target, folder: Path, main: str, library: str) -> Path:
    """`main`, a C file of `runtime/bsp`, with what the board needs and a library that lies in `folder`: the
    program. Headers that `main` includes lie there, too."""
    sources = (main, f"{target.system or 'linux'}.c")
    copy_sources(folder, sources)
    options = bare_options(target, folder) if target.is_bare else ()
    image = folder / "image.elf"
    c_compiler.find(target).link_program(sources, library, image, options)
    return image


def copy_sources(folder: Path, sources: Sequence[str]) -> None:
    """Put C files of `runtime/bsp` into a folder, and every header that they may include."""
    for path in (*(runtime.BOARDS / name for name in sources), *runtime.BOARDS.glob("*.h")):
        shutil.copy(path, folder)


def bare_options(target: Target, folder: Path, sections: str = "") -> tuple[str, ...]:
    """What the linker needs to know of a board without an operating system; the scripts are put there, too.
    sections: that of `runtime/bsp` which says what lies where, if not the one of the board's kind."""
    shutil.copy(runtime.BOARDS / (sections or f"{target.system}.ld"), folder)
    (folder / "memory.ld").write_text(memory_map(target, sections), encoding="utf-8")
    return ("-Tmemory.ld", "-Wl,--entry=Reset_Handler", "-Wl,--gc-sections")


def link_counter(folder: Path) -> Path:
    """QEMU's plugin that counts instructions, made in `folder`; its option is `-plugin file=PATH`."""
    source = shutil.copy(runtime.BOARDS / "count.c", folder)
    c_compiler.find(targets.native()).link_plugin(Path(source), folder / "libcount.so")
    return folder / "libcount.so"


def execute(
    target: Target, image: Path, requests: bytes, options: Sequence[str] = (), seconds: float = SECONDS
) -> Execution:
    """Run a program under the target's emulator, with `options` of its own, on a stream of requests."""
    emulator = (*command(target), *options)
    if not target.is_bare:
        return run((*emulator, str(image)), image.parent, requests, seconds)
    with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
        (Path(folder) / "request").write_bytes(requests)
        done = run((*emulator, *BARE_OPTIONS, "-kernel", str(image)), Path(folder), b"", seconds)
        file = Path(folder) / "answer"
        return Execution(file.read_bytes() if file.is_file() else b"", done.said, done.problem)


def run(arguments: Sequence[str], folder: Path, given: bytes, seconds: float = SECONDS) -> Execution:
    """Run a command on standard input; what it answered before something went wrong is kept."""
    try:
        done = subprocess.run(
            arguments,
            cwd=folder,
            input=given,
            capture_output=True,
            timeout=seconds,
            check=False,
            env=os.environ,
        )
    except subprocess.TimeoutExpired as late:
        said = (late.stderr or b"").decode(errors="replace")
        return Execution(
            late.stdout or b"", said, f"{shlex.join(arguments)} took longer than {seconds:.0f} s"
        )
    except OSError as error:
        return Execution(b"", "", f"{arguments[0]}: {error.strerror}")
    said = done.stderr.decode(errors="replace")
    if done.returncode:
        last = said.strip().splitlines()[-1:]
        return Execution(done.stdout, said, ": ".join([f"exit status {done.returncode}", *last]))
    return Execution(done.stdout, said, "")


def memory_map(target: Target, sections: str = "") -> str:
    """The linker script of a board: its memory, then the sections of its kind, or those of another script."""
    regions = [("RAM (rwx)", target.ram_address, target.ram_bytes)]
    if target.flash_bytes:
        regions.insert(0, ("FLASH (rx)", target.flash_address, target.flash_bytes))
    lines = [f"  {name} : ORIGIN = 0x{address:08x}, LENGTH = {size}" for name, address, size in regions]
    return "\n".join(["MEMORY", "{", *lines, "}", f"INCLUDE {sections or f'{target.system}.ld'}", ""])
