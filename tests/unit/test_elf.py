# SPDX-License-Identifier: Apache-2.0
"""Objects without what debuggers read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bnncc import targets
from bnncc.kernels.build import compile_object, make_kernel
from bnncc.toolchain import elf
from tests import tiny
from tests.host import CC

ZIG = (sys.executable, "-m", "ziglang", "cc")
SOURCE = "int g(int); int table[300]; int f(int x) { table[x] = x; return g(table[x]) + table[0]; }\n"
MAIN = "int f(int); int g(int x) { return 2 * x; } int main(void) { return f(21) != 42; }\n"


def stripped(folder: Path, *compiler: str) -> tuple[bytes, bytes]:
    """An object with debugging information, and without."""
    (folder / "a.c").write_text(SOURCE)
    subprocess.run([*compiler, "-g", "-O1", "-c", "a.c", "-o", "a.o"], cwd=folder, check=True)
    code = (folder / "a.o").read_bytes()
    return code, elf.without_debugging(code)


def test_it_links_and_runs(tmp_path: Path):
    code, short = stripped(tmp_path, *CC)
    assert len(short) < len(code) - 200
    (tmp_path / "short.o").write_bytes(short)
    (tmp_path / "main.c").write_text(MAIN)
    subprocess.run([*CC, "main.c", "short.o", "-o", "main"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"]).returncode == 0


@pytest.mark.parametrize("target", ["thumb-freestanding-eabi", "riscv32-freestanding-none"])
def test_other_processors(target: str, tmp_path: Path):
    """A linker for them takes it, and gives the same program."""
    code, short = stripped(tmp_path, *ZIG, "-target", target)
    assert elf.undefined_symbols(short) == elf.undefined_symbols(code) >= {"g"}
    assert elf.loaded_bytes(short) == elf.loaded_bytes(code) and len(short) < len(code) - 200
    (tmp_path / "g.c").write_text("int g(int x) { return x; }\n")
    programs = []
    for name, content in (("a.o", code), ("short.o", short)):
        (tmp_path / name).write_bytes(content)
        link = (*ZIG, "-target", target, "-nostdlib", "-Wl,--entry=f", "-s")
        subprocess.run([*link, "g.c", name, "-o", "program"], cwd=tmp_path, check=True)
        programs.append((tmp_path / "program").read_bytes())
    assert programs[0] == programs[1]


@pytest.mark.parametrize("name", ["x86-64-v3", "armv7a-neon"])
def test_kernels_say_nothing_to_debuggers(name: str):
    target = targets.load(name)
    code = compile_object([make_kernel(tiny.DENSE, target)], "net", target)
    assert b"CodeGenLLVM" not in code and b".debug_" in code  # what TVM calls itself; the empty sections
