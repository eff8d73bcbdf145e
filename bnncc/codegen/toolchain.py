# SPDX-License-Identifier: Apache-2.0
"""The C compiler and the archiver: found on this machine, called so that output does not depend on where.

In this order: what the user names (`--cc`), the environment variable CC, `cc`, `gcc` or `clang` on PATH,
and `python -m ziglang cc`, which pip installs. A target of another architecture always takes ziglang,
unless the user names a compiler.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.targets import Target

INSTALL_HINT = "install one: `pip install ziglang`, or `apt-get install gcc`; or name yours with --cc or CC"
ERROR_LINES = 12

COMMON_FLAGS = ("-fPIC", "-ffp-contract=off", "-g0")
"""Position-independent, so the archive may go into a shared library; the arithmetic as it is written."""


@dataclass(frozen=True)
class Toolchain:
    """Commands as lists: `compiler` compiles and links, `archiver` takes `rcsD ARCHIVE OBJECT...`."""

    compiler: tuple[str, ...]
    archiver: tuple[str, ...]
    c_flags: tuple[str, ...] = ()

    def compile(self, source: Path, object_file: Path, flags: Sequence[str] = ()) -> None:
        """One C file to one object. The compiler is called in the file's folder with its bare name, so
        that no path gets into the object."""
        command = (*self.compiler, "-std=c99", "-O2", *COMMON_FLAGS, *self.c_flags, *flags)
        self._run((*command, "-c", source.name, "-o", str(object_file.resolve())), source.parent)

    def archive(self, objects: Sequence[Path], archive: Path) -> None:
        """Objects to a static library without dates and owners."""
        archive.unlink(missing_ok=True)
        folder = objects[0].parent
        assert all(path.parent == folder for path in objects)
        names = (path.name for path in objects)
        self._run((*self.archiver, "rcsD", str(archive.resolve()), *names), folder)

    def link_shared(self, objects: Sequence[Path], library: Path, exported: Sequence[str]) -> None:
        """Objects to a shared library that shows `exported` and nothing else."""
        folder = objects[0].parent
        command = [*self.compiler, *self.c_flags, "-shared", *(path.name for path in objects)]
        if sys.platform == "darwin":
            names = folder / "exported.txt"
            names.write_text("".join(f"_{name}\n" for name in exported))
            command += [f"-Wl,-exported_symbols_list,{names.name}"]
        else:
            names = folder / "exported.map"
            names.write_text("{ global: " + " ".join(f"{name};" for name in exported) + " local: *; };\n")
            command += [
                f"-Wl,--version-script={names.name}",
                "-Wl,--build-id=none",
                "-Wl,-z,noexecstack",
                "-s",
            ]
        self._run((*command, "-o", str(library.resolve()), "-lm"), folder)

    def version(self) -> str:
        """The first line of the compiler's `--version`."""
        return self._run((*self.compiler, "--version"), Path.cwd()).partition("\n")[0]

    @staticmethod
    def _run(command: Sequence[str], folder: Path) -> str:
        environment = {**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
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
                "try another compiler with --cc or CC",
                ExitCode.FAILURE,
            )
        return done.stdout


def find(
    target: Target, compiler: str | None = None, environment: Mapping[str, str] = os.environ
) -> Toolchain:
    """The tool chain for a target.

    compiler: a command with its arguments, as a shell would split it, or None to search."""
    foreign = target.architecture not in ("", platform.machine())
    named = compiler or environment.get("CC")
    if named:
        command = _named(named, "--cc" if compiler else "CC")
        return Toolchain(command, _archiver(command), target.c_flags)
    if not foreign:
        for name in ("cc", "gcc", "clang"):
            if path := shutil.which(name):
                return Toolchain((path,), _archiver((path,)), target.c_flags)
    if not _has_ziglang():
        what = f"for {target.architecture} " if foreign else ""
        raise BnnccError("", f"no C compiler {what}was found", INSTALL_HINT, ExitCode.FAILURE)
    triple = ("-target", _zig_triple(target.triple)) if foreign else ()
    return Toolchain((*_ziglang("cc"), *triple), _ziglang("ar"), target.c_flags)


def _named(command: str, option: str) -> tuple[str, ...]:
    words = tuple(shlex.split(command))
    if not words or shutil.which(words[0]) is None:
        message = f"the C compiler '{command}' was not found"
        raise BnnccError(option, message, INSTALL_HINT, ExitCode.FAILURE)
    return words


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


def _zig_triple(triple: str) -> str:
    """zig writes no vendor: x86_64-unknown-linux-gnu is x86_64-linux-gnu."""
    return triple.replace("-unknown-", "-").replace("-none-", "-freestanding-")


@lru_cache(maxsize=1)
def _has_ziglang() -> bool:
    return importlib.util.find_spec("ziglang") is not None
