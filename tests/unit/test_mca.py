# SPDX-License-Identifier: Apache-2.0
"""Inner loops of a disassembly, and what is said where LLVM's tools or models are missing."""

import shutil
from pathlib import Path

import pytest

from bnncc import targets
from bnncc.toolchain import mca

DISASSEMBLY = """
kernels.o:	file format elf64-littleaarch64

0000000000000000 <outer>:
       0:      	mov	x8, xzr
       4:      	ldr	q0, [x0]
       8:      	cnt	v0.16b, v0.16b
       c:      	cmp	x7, #128
      10:      	b.ne	0x4 <outer+0x4>
      14:      	add	x1, x1, #1
      18:      	cmp	x1, #56
      1c:      	b.ne	0x0 <outer>
      20:      	ret

0000000000000024 <straight>:
      24:      	b	0x28 <straight+0x4>
      28:      	ret
"""


def test_the_innermost_loop_is_found():
    functions = mca._functions(DISASSEMBLY)
    assert [text.split("\t")[0] for text in mca._largest_loop(functions["outer"])] == [
        "ldr",
        "cnt",
        "cmp",
        "b.ne",
    ]
    assert mca._largest_loop(functions["straight"]) == []


def test_a_generic_processor_has_no_cycles():
    assert "llvm-mca has no model of 'aarch64'" in mca.why_not(targets.load("aarch64"))


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert mca.why_not(targets.load("cortex-a72")) == mca.MISSING and "apt-get install llvm" in mca.MISSING


def test_a_tool_that_fails_gives_no_cycles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    assert mca.loops(tmp_path / "none.a", targets.load("cortex-a72"), frozenset({"outer"})) == {}


@pytest.mark.skipif(mca.why_not(targets.load("cortex-a72")) != "", reason="LLVM's tools are not installed")
def test_cycles_of_a_loop():
    body = mca._largest_loop(mca._functions(DISASSEMBLY)["outer"])
    cycles = mca._cycles(body, targets.load("cortex-a72"))
    assert cycles is not None and 0.5 < cycles < 20
