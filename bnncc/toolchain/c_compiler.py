# SPDX-License-Identifier: Apache-2.0
"""The C compiler and the archiver: found on this machine, called so that output does not depend on where.

In this order: what the user names (`--cc`), the environment variable CC, `cc`, `gcc` or `clang` on PATH,
and `python -m ziglang cc`, which pip installs. A target of another architecture takes ziglang, unless the
user names a compiler, or CC names one that makes code for it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from bnncc import runtime
from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.targets import Target
from bnncc.toolchain import elf
from bnncc.toolchain.programs import Programs

INSTALL_HINT = "install one: `pip install ziglang`, or `apt-get install gcc`; or name yours with --cc or CC"
WRONG_COMPILER = (
    "name a compiler for the target with --cc or CC; without both, ziglang is one for every target"
)
NAME_THE_PROCESSOR = "name the processor with it: --cc 'arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb'"
ANOTHER_COMPILER = "try another compiler with --cc or CC"
ERROR_LINES = 12

SECONDS = 3600
"""What takes longer hangs: large networks are compiled in minutes."""

COMMON_FLAGS = ("-ffp-contract=off", "-fno-strict-aliasing", "-g0")
"""The arithmetic as it is written; the arena's bytes are of one type after another. Instructions and times
are the same with and without the latter."""
HOSTED_FLAGS = ("-fPIC",)
"""Position-independent, so the archive may go into a shared library."""
SHARED_FLAGS = ("-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,-z,now", "-s")
COMPACT_FLAGS = ("-nostartfiles", "-Wl,-z,noseparate-code", "-Wl,--gc-sections")
"""Few resident pages: nothing that nothing calls (TVM puts conversions of half floats into every object), no
start-up code, of which the libraries have no use, and with `-z now` a single page that is written; code and
weights follow each other within a page. ziglang's linker does much of it anyway, without the words."""
BARE_FLAGS = (
    *("-ffreestanding", "-ffunction-sections", "-fdata-sections"),
    *("-fno-unwind-tables", "-fno-asynchronous-unwind-tables"),
)
"""Without an operating system: what a program does not call is left out of it, and nobody unwinds stacks."""


@dataclass(frozen=True)
class Toolchain:
    """Commands as lists: `compiler` compiles and links, `archiver` takes `rcsD ARCHIVE OBJECT...`; `linker`
    makes programs where it is not the compiler. is_apple: its shared libraries are in Apple's format.
    architecture: what objects must be for, as `uname -m` says there; "" if any will do; is_thumb: whether
    they must be Thumb code, as a Cortex-M knows no other; programs: those that run now."""

    compiler: tuple[str, ...]
    archiver: tuple[str, ...]
    c_flags: tuple[str, ...] = ()
    linker: tuple[str, ...] = ()
    is_apple: bool = False
    architecture: str = ""
    is_thumb: bool = False
    programs: Programs = field(default_factory=Programs, compare=False, repr=False)

    @property
    def stack_flags(self) -> tuple[str, ...]:
        """What makes the compiler write into objects how much stack functions use (`elf.stack_sizes`), if
        that is known to work."""
        return ("-fstack-size-section",) if "ziglang" in self.compiler else ()

    def compile(self, source: Path, object_file: Path, flags: Sequence[str] = ()) -> None:
        """One C file to one object. The compiler is called in the file's folder with its bare name, so
        that no path gets into the object. Raises BnnccError, also where it is one for another processor."""
        command = (*self.compiler, "-std=c99", "-O2", *self.c_flags, *flags)
        self._run((*command, "-c", source.name, "-o", str(object_file.resolve())), source.parent)
        made = _architecture(object_file)
        if not _is_for(made, self.architecture):
            message = f"{shlex.join(self.compiler)} makes code for {made}, the target is {self.architecture}"
            raise BnnccError("", message, WRONG_COMPILER, ExitCode.FAILURE)
        if self.is_thumb and not elf.is_thumb(object_file.read_bytes()):
            message = f"{shlex.join(self.compiler)} makes A32 code, which no Cortex-M executes"
            raise BnnccError("", message, NAME_THE_PROCESSOR, ExitCode.FAILURE)

    def archive(self, objects: Sequence[Path], archive: Path) -> None:
        """Objects to a static library without dates and owners."""
        archive.unlink(missing_ok=True)
        folder = objects[0].parent
        assert all(path.parent == folder for path in objects)
        names = (path.name for path in objects)
        self._run((*self.archiver, "rcsD", str(archive.resolve()), *names), folder)

    def link_shared(
        self, objects: Sequence[Path], library: Path, exported: Sequence[str], flags: Sequence[str] = ()
    ) -> None:
        """Objects to a shared library that shows `exported` and nothing else."""
        folder = objects[0].parent
        command = [*self.compiler, *self.c_flags, *flags, "-shared", *(path.name for path in objects)]
        if self.is_apple:
            names = folder / "exported.txt"
            names.write_text("".join(f"_{name}\n" for name in exported))
            command += [f"-Wl,-exported_symbols_list,{names.name}"]
        else:
            names = folder / "exported.map"
            names.write_text("{ global: " + " ".join(f"{name};" for name in exported) + " local: *; };\n")
            compact = ("-Wl,--gc-sections",) if "ziglang" in self.compiler else COMPACT_FLAGS
            command += [f"-Wl,--version-script={names.name}", *SHARED_FLAGS, *compact]
        self._run((*command, "-o", str(library.resolve()), "-lm"), folder)

    def link_program(
        self, sources: Sequence[str], library: str, program: Path, options: Sequence[str] = ()
    ) -> None:
        """C files and a library beside them ("": none), in the folder of `program`, to a static program."""
        linker = self.linker or self.compiler
        libraries = (library,) if library else ()
        command = (*linker, "-std=c99", "-O2", *self.c_flags, "-static", *options, *sources, *libraries)
        self._run((*command, "-o", program.name), program.parent)

    def link_plugin(self, source: Path, library: Path) -> None:
        """One C file to a shared library whose undefined names its host has."""
        command = (*self.compiler, "-O2", *self.c_flags, "-shared", source.name, "-o", str(library.resolve()))
        self._run(command, source.parent)

    def version(self) -> str:
        """The first line of the compiler's `--version`."""
        return self._run((*self.compiler, "--version"), Path.cwd()).partition("\n")[0]

    def _run(self, command: Sequence[str], folder: Path) -> str:
        environment = {**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
        try:
            done = self.programs.run(command, folder, environment, SECONDS)
        except subprocess.TimeoutExpired as error:
            message = f"the command has not ended after {SECONDS / 60:.0f} minutes: {shlex.join(command)}"
            raise BnnccError("", message, ANOTHER_COMPILER, ExitCode.FAILURE) from error
        except OSError as error:
            message = f"{command[0]} cannot be run: {error.strerror}"
            raise BnnccError("", message, INSTALL_HINT, ExitCode.FAILURE) from error
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()[:ERROR_LINES]
            raise BnnccError(
                "",
                "\n  ".join(
                    (f"the command failed with exit status {done.returncode}: {shlex.join(command)}", *lines)
                ),
                ANOTHER_COMPILER,
                ExitCode.FAILURE,
            )
        return done.stdout


def kernel_flags(target: Target, for_size: bool = False) -> tuple[str, ...]:
    """How hard the C compiler optimises portable kernels. Where there is no operating system they are small
    loops, and straight-line code that is long enough: unrolling both takes two to six times the code and
    executes as many instructions (cortex-m4, rv32imc: within 1 % for loops, up to a tenth more for
    straight-line code). Elsewhere the C compiler shall unroll and vectorise."""
    if target.kind != "c":
        return ()
    return ("-Os",) if target.is_bare or for_size else ("-O3",)


def find(
    target: Target, compiler: str | None = None, environment: Mapping[str, str] = os.environ
) -> Toolchain:
    """The tool chain for a target.

    compiler: a command with its arguments, as a shell would split it, or None to search."""
    flags = (*COMMON_FLAGS, *(BARE_FLAGS if target.is_bare else HOSTED_FLAGS), *target.c_flags)
    command = _chosen(target, compiler, environment)
    if command:
        return Toolchain(
            command,
            _archiver(command),
            flags,
            is_apple=target.is_apple,
            architecture=target.architecture,
            is_thumb=target.system == "cortex_m",
        )
    if not _has_ziglang():
        what = f"for {target.architecture} " if target.is_foreign else ""
        raise BnnccError("", f"no C compiler {what}was found", INSTALL_HINT, ExitCode.FAILURE)
    return _zig_toolchain(target, flags)


def _chosen(target: Target, compiler: str | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The compiler that the user names, or this machine's; none if ziglang's is to be taken."""
    if compiler:
        return _named(compiler, "--cc")
    if named := environment.get("CC"):
        command = _named(named, "CC")
        # Often it is the one for this machine, which says nothing of others.
        if not target.is_foreign or _is_for(_probed(command), target.architecture, unknown=False):
            return command
    if target.is_foreign:
        return ()
    return next(((path,) for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), ())


def _named(command: str, option: str) -> tuple[str, ...]:
    """The words of a command. A path is made absolute: compilers are called in other folders."""
    try:
        program, *arguments = shlex.split(command)
    except ValueError as error:
        message = f"'{command}' is no command: {str(error).lower() or 'it is empty'}"
        raise BnnccError(option, message, "quote it as for a shell") from error
    path = shutil.which(program)
    if path is None:
        message = f"the C compiler '{command}' was not found"
        raise BnnccError(option, message, INSTALL_HINT, ExitCode.FAILURE)
    return (os.path.abspath(path) if os.path.dirname(program) else program, *arguments)


@lru_cache
def _probed(command: tuple[str, ...]) -> str:
    """What a compiler makes code for; "" if that is not known."""
    with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
        source = Path(folder) / "probe.c"
        source.write_text("int probe;\n", encoding="utf-8")
        try:
            Toolchain(command, ()).compile(source, source.with_suffix(".o"))
        except BnnccError:
            return ""
        return _architecture(source.with_suffix(".o"))


def _architecture(file: Path) -> str:
    with file.open("rb") as opened:
        return elf.architecture(opened.read(elf.HEAD))


def _is_for(made: str, wanted: str, unknown: bool = True) -> bool:
    """Whether code of one of elf.MACHINES is for an architecture, as `uname -m` says it anywhere; unknown:
    where either is not known."""
    if not made or not wanted:
        return unknown
    same = {"amd64": "x86_64", "arm64": "aarch64"}.get(wanted, wanted)
    same = re.sub(r"^armv\d.*", "arm", re.sub(r"^i[3-6]86$", "i386", same))
    return made == same or same not in elf.MACHINES.values()


def _archiver(compiler: tuple[str, ...]) -> tuple[str, ...]:
    """The `ar` that belongs to a compiler: beside a cross gcc, ziglang's for ziglang, or the machine's."""
    if "ziglang" in compiler:
        return _ziglang("ar")
    program = Path(compiler[0])
    for suffix in ("-gcc", "-cc"):
        if program.name.endswith(suffix):
            beside = str(program.with_name(program.name.removesuffix(suffix) + "-ar"))
            if path := shutil.which(beside):
                return (path,)
    for name in ("ar", "llvm-ar"):
        if path := shutil.which(name):
            return (path,)
    if _has_ziglang():
        return _ziglang("ar")
    hint = "install one: `pip install ziglang`, or `apt-get install binutils`"
    raise BnnccError("", "no archiver (ar) was found", hint, ExitCode.FAILURE)


def _ziglang(tool: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "ziglang", tool)


def _zig_toolchain(target: Target, flags: tuple[str, ...]) -> Toolchain:
    """ziglang for the target. Without an operating system it has no C library: the few headers that generated
    code includes are ours. With one, it makes a C library for every processor that it is told of, a minute's
    work: programs get the one for the whole architecture, the network's own code is compiled already."""
    command, archiver = _ziglang("cc"), _ziglang("ar")
    if not target.is_foreign:
        return Toolchain(command, archiver, flags, is_apple=target.is_apple)
    command += ("-target", target.zig_target or _zig_triple(target.triple))
    processor = (f"-mcpu={target.zig_cpu}",) if target.zig_cpu else ()
    if target.is_bare:
        return Toolchain((*command, *processor, "-isystem", str(runtime.FREESTANDING)), archiver, flags)
    return Toolchain((*command, *processor), archiver, flags, command)


def _zig_triple(triple: str) -> str:
    """zig writes no vendor: x86_64-unknown-linux-gnu is x86_64-linux-gnu."""
    return triple.replace("-unknown-", "-").replace("-none-", "-freestanding-")


@lru_cache(maxsize=1)
def _has_ziglang() -> bool:
    return importlib.util.find_spec("ziglang") is not None
