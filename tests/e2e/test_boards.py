# SPDX-License-Identifier: Apache-2.0
"""What a firmware can measure by itself, on emulated boards: its stack, and the cycles of every layer."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from bnncc import runtime, targets
from bnncc.execution.boards import BARE_OPTIONS, memory_map
from bnncc.toolchain import c_compiler, elf
from tests import tiny
from tests.cases import load_case
from tests.conditions import PATIENCE
from tests.e2e.commands import Shell
from tests.e2e.test_link import compile_and_run

STEP = 16
"""An exit status is a byte: the depth is told in units of so many bytes."""

STACK = """\
#include <stdint.h>
#include "digits.h"
#include "board.h"

static DIGITS_ALIGNED unsigned char arena[DIGITS_ARENA_BYTES];
static float x[1024], y[64];

int main(void)
{
    volatile unsigned char *const here = (volatile unsigned char *)__builtin_frame_address(0) - 256;
    int depth;
    for (depth = 0; depth < 3072; ++depth)
        here[-depth] = 0xa5;
    if (digits_run(arena, x, y) != DIGITS_OK)
        return 255;
    for (depth = 3071; depth > 0 && here[-depth] == 0xa5; --depth)
        ;
    return (depth + 256) / 16;
}
"""

CYCLES = """\
#define BNNCC_PROFILE
#include "digits.h"
#include "bnncc_cycles.h"
#include "board.h"

static DIGITS_ALIGNED unsigned char arena[DIGITS_ARENA_BYTES];
static float x[1024], y[64];
static uint32_t cycles[DIGITS_LAYERS];
BNNCC_CYCLES_HOOK(digits, cycles)

int main(void)
{
    int counted = 0, layer;
    bnncc_cycles_start();
    if (digits_run(arena, x, y) != DIGITS_OK)
        return 255;
    for (layer = 0; layer < DIGITS_LAYERS; ++layer)
        counted += cycles[layer] > 0 && cycles[layer] < 100000000;
    return counted;
}
"""

COUNTER = """\
#define BNNCC_PROFILE
#define BNNCC_CYCLES clock_of_mine
#include <stdio.h>
#include "tiny.h"
#include "bnncc_cycles.h"

static uint32_t cycles[TINY_LAYERS];
BNNCC_CYCLES_HOOK(tiny, cycles)

uint32_t clock_of_mine(void)
{
    static uint32_t now = 0xffffffffu;
    return now += 7;
}

int main(void)
{
    static TINY_ALIGNED unsigned char arena[TINY_ARENA_BYTES];
    float x[TINY_INPUT_1_ELEMENTS] = {0}, y[TINY_LOGITS_ELEMENTS];
    if (tiny_run(arena, x, y) != TINY_OK)
        return 1;
    printf("%u %u", (unsigned)cycles[0], (unsigned)cycles[1]);
    return 0;
}
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return load_case("digits_bnn_bop_legacy").write_model(tmp_path_factory.mktemp("digits"))


def run_firmware(name: str, library: Path, source: str, folder: Path) -> int:
    """The exit status of a firmware without an operating system, under its emulator."""
    target = targets.load(name)
    folder.mkdir()
    for file in (f"{target.system}.c", f"{target.system}.ld", "board.h", "semihosting.h"):
        shutil.copy(runtime.BOARDS / file, folder)
    for file in library.glob("*.[ha]"):
        shutil.copy(file, folder)
    (folder / "main.c").write_text(source)
    (folder / "memory.ld").write_text(memory_map(target))
    options = ("-Tmemory.ld", "-Wl,--entry=Reset_Handler", "-Wl,--gc-sections")
    image = folder / "image.elf"
    c_compiler.find(target).link_program(["main.c", f"{target.system}.c"], "libdigits.a", image, options)
    command = [*target.emulator, *BARE_OPTIONS, "-kernel", str(image)]
    return subprocess.run(command, cwd=folder, timeout=PATIENCE, check=False).returncode


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m4", "cortex-m55", "rv32imc"])
def test_the_stack_is_no_deeper_than_stated(target: str, digits: Path, tmp_path: Path, bnncc: Shell):
    """Painted before the call, looked at after it. The functions of the C library come on top."""
    library = tmp_path / "library"
    bnncc.fine("compile", digits, "--name", "digits", "--target", target, "-o", library, "--emit", "lib")
    stated = json.loads((library / "manifest.json").read_text())["stack_bytes"]
    assert f"stack    {stated:>12,} bytes" in (library / "report.txt").read_text()
    found = STEP * run_firmware(target, library, STACK, tmp_path / "firmware")
    of_the_library_and_main = 160
    assert stated / 2 < found <= stated + of_the_library_and_main


def test_cycles_of_every_layer_on_a_board(digits: Path, tmp_path: Path, bnncc: Shell):
    library = tmp_path / "library"
    common = ("compile", digits, "--name", "digits", "--emit", "lib", "--profile")
    bnncc.fine(*common, "--target", "rv32imc", "-o", library)
    layers = len(json.loads((library / "manifest.json").read_text())["steps"])
    assert run_firmware("rv32imc", library, CYCLES, tmp_path / "firmware") == layers > 4
    bnncc.fine(*common, "--target", "cortex-m4", "-o", tmp_path / "arm")
    found = run_firmware("cortex-m4", tmp_path / "arm", CYCLES, tmp_path / "on_arm")
    assert found == 0, "QEMU has no DWT counter: it reads 0"


def test_a_counter_of_the_users(tmp_path: Path):
    directory = tiny.emit(tmp_path / "out", emit=("lib",), profile=True)
    assert compile_and_run(tmp_path, COUNTER, f"-I{directory}", directory / "libtiny.a") == b"7 7"


def test_stack_sizes_of_an_object(tmp_path: Path):
    source = tmp_path / "two.c"
    source.write_text(
        "void use(volatile char *);\n"
        "void small(void); void small(void) { volatile char a[16]; use(a); }\n"
        "void large(void); void large(void) { volatile char a[1000]; use(a); }\n"
    )
    for name in ("cortex-m4", "rv32imc"):
        tools = c_compiler.find(targets.load(name))
        tools.compile(source, tmp_path / "two.o", tools.stack_flags)
        sizes = elf.stack_sizes((tmp_path / "two.o").read_bytes())
        assert sizes.keys() == {"small", "large"}
        assert 16 <= sizes["small"] <= 64 and 1000 <= sizes["large"] <= 1048
