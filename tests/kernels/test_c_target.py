# SPDX-License-Identifier: Apache-2.0
"""Portable C and objects as artifacts: sanitizers, warnings, symbols, determinism."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnncc import runtime, targets
from bnncc.kernels.build import compile_c, compile_object, make_kernel
from bnncc.kernels.c_helpers import SOURCES, VECTOR
from bnncc.plan import simulate
from bnncc.targets import Target
from bnncc.toolchain import elf
from tests.host import CC
from tests.kernels.support import C_FLAGS, PREFIX, Case, exported_c, write_layouts
from tests.kernels.test_map import channel_cases
from tests.kernels.test_pool import WINDOWS, bits_case, numbers_case
from tests.kernels.test_reduce import reduction_cases

C = targets.load("c")
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def some_cases() -> list[Case]:
    """A few of every template."""
    window, size = WINDOWS[1]
    return [
        *channel_cases(33),
        *reduction_cases(17),
        bits_case(33, window, size, True),
        bits_case(33, window, size, False),
        numbers_case("mean", simulate.Element.F32, 17, *WINDOWS[2]),
    ]


def program(cases: list[Case]) -> str:
    """A C program that calls every kernel on exactly as much memory as it may touch."""
    kernels = [make_kernel(case.spec, C) for case in cases]
    lines = [exported_c(kernels, C), "#include <stdlib.h>", "#include <string.h>", "int main(void) {"]
    for case, kernel in zip(cases, kernels, strict=True):
        arrays = [*case.reads, *kernel.pack(case.constants)]
        arrays += [simulate.allocate(layout) for layout in write_layouts(case.spec)]
        names = [f"p{i}" for i in range(len(arrays))]
        lines.append("  {")
        for name, array, parameter in zip(names, arrays, kernel.parameters, strict=True):
            lines.append(f"    {parameter.c_type} *{name} = malloc({array.nbytes});")
            lines.append(f"    memset({name}, 1, {array.nbytes});")
        lines.append(f"    call_{kernel.symbol}({', '.join(names)});")
        lines += [f"    free({name});" for name in names]
        lines.append("  }")
    return "\n".join([*lines, "  return 0;", "}"])


def test_sanitizers(tmp_path: Path):
    """Nothing reads or writes outside of its buffers, no undefined behaviour."""
    (tmp_path / "main.c").write_text(program(some_cases()))
    command = [*CC, *C_FLAGS, *SANITIZERS, "-o", tmp_path / "main", tmp_path / "main.c", "-lm"]
    subprocess.run([str(part) for part in command], check=True)
    subprocess.run([str(tmp_path / "main")], check=True)


@pytest.mark.parametrize("name", ["c", "x86-64-v2", "x86-64-v3", "znver4"])
def test_equal_input_gives_equal_bytes(name: str):
    target: Target = targets.load(name)

    def build():
        kernels = [make_kernel(case.spec, target) for case in channel_cases(17)]
        return (compile_c if name == "c" else compile_object)(kernels, PREFIX, target)

    assert build() == build()


@pytest.mark.parametrize(
    ("cpu", "mode"), [("arm926ej_s", "-marm"), ("arm1176jzf_s", "-marm"), ("cortex_a7", "-marm")]
)
def test_what_is_written_for_one_arm_compiles_for_all(cpu: str, mode: str, tmp_path: Path):
    """Older ones lack some of the extensions, the longer instruction set wants registers of even numbers."""
    helpers = "".join(text for name, text in SOURCES.items() if name != VECTOR)
    use = """void use(const uint16_t *e, int32_t n, const uint32_t *w, int32_t *s, int16_t *t)
    { bnncc_add_rows(e, n, w, s); bnncc_add_to_sums(t, w, n); s[0] = (int32_t)bnncc_add_bytes(w[0], 1); }"""
    products = runtime.source_text("byte_products.h")
    (tmp_path / "a.c").write_text(f"#include <stdint.h>\n{helpers}\n{products}\n{use}\n")
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", "arm-freestanding-eabi", f"-mcpu={cpu}", mode)
    subprocess.run([*zig, "-O2", "-c", "a.c", "-o", "a.o"], cwd=tmp_path, check=True)


def test_objects_export_nothing(tmp_path: Path):
    target = targets.load("x86-64-v3")
    kernels = [make_kernel(case.spec, target) for case in channel_cases(3)]
    code = compile_object([*kernels, kernels[0]], "mine", target)
    assert elf.undefined_symbols(code) <= {"memcpy", "memset"}
    (tmp_path / "kernels.o").write_bytes(code)
    command = [*CC, "-shared", "-o", tmp_path / "kernels.so", tmp_path / "kernels.o"]
    subprocess.run([str(part) for part in command], check=True)
    library = ctypes.CDLL(str(tmp_path / "kernels.so"))
    assert not hasattr(library, f"mine_{kernels[0].symbol}")


def test_c_is_documented_and_free_of_tvm():
    text = compile_c([make_kernel(case.spec, C) for case in some_cases()], "mine", C)
    assert "tvm" not in text.lower()
    assert "operand0: f32 [2x5x7x33]" in text
    assert text.count("static void mine_") == len(some_cases())


def test_packed_constants_are_plain_arrays():
    case = channel_cases(33)[1]
    kernel = make_kernel(case.spec, C)
    real, flips = kernel.pack(case.constants)
    assert real.dtype == np.float32 and real.shape == (64,) and flips.dtype == np.int32
