# SPDX-License-Identifier: Apache-2.0
"""Binary convolutions on emulated processors against NumPy, bit for bit: the forms that no x86 has."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.binary import along as binary_along
from bnncc.kernels.binary import conv as binary_conv
from bnncc.kernels.binary import rows as binary_rows
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.build import compile_c, make_kernel
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.nest import Pixels, Schedule
from bnncc.plan.kernel import BinaryConv, KernelSpec
from bnncc.plan.layout import Element
from bnncc.plan.simulate import allocate, run_step
from bnncc.targets import Target
from bnncc.toolchain import c_compiler
from tests.kernels.contractions import THRESHOLD, Shape, binary_spec, dense, pointwise
from tests.kernels.emulated import Program
from tests.kernels.test_binary_conv import CASES, INTEGERS, case_numbers, filled

SOME = ["plain", "strided-i32", "deep", "dense-i32", "groups", "u2", "stream-tails", "pad-plus-one-halo-0"]
"""Cases of every kind."""

RISCV_LANES = replace(
    targets.load("rv64gcv"), name="rv64gcv without Zbb's instructions", features=("+v", "+zvbb")
)
"""What rv64gcv_zvbb computes, the bits of a lane counted without Zvbb, which QEMU 7.2 does not know."""

VPOPCOUNT = (0xFC0FF07F, 0b010010 << 26 | 0b01110 << 15 | 0b010 << 12 | 0x57)
"""Mask and value of vcpop.v."""

POPCOUNT = (0xFFF0707F, 0x602 << 20 | 0b001 << 12 | 0x13)
"""Of Zbb's cpop."""

ALONG = {name: spec for name, spec in CASES.items() if not spec.root.ternary_input}  # type: ignore[union-attr]
"""Cases that this form takes: not those with a mask plane."""

BITS = ((Element.BIT, THRESHOLD),)

TILES = [(1, 1, 8), (1, 2, 4), (1, 3, 2), (1, 4, 2), (2, 2, 2), (3, 1, 4), (1, 5, 1), (2, 3, 8)]
"""Rows and columns of pixels by channels."""

LARGEST = (2, 3, 8)
"""Of long reductions it is only unrolled code: 416 KiB, which take 13 seconds to compile."""

SHAPES = {
    "runs-of-12": Shape((1, 5, 7, 32), 20),
    "runs-of-24": Shape((2, 5, 7, 64), 33),
    "runs-of-28": Shape((1, 4, 9, 200), 16, (2, 1)),
    "runs-of-48": Shape((1, 6, 5, 128), 24, stride=(1, 2)),
    "words": Shape((1, 6, 7, 32), 8, dilation=(1, 2)),
    "chunks": Shape((1, 3, 5, 512), 17),
    "chunks-and-pieces": Shape((1, 3, 5, 416), 9, (3, 3)),
    "pointwise": pointwise(5, 96, 40),
    "dense": dense(1, 8300, 40),
    "dense-batch": dense(7, 330, 12),
    "two-chunks-and-pieces": pointwise(5, 40 * 128 + 96, 12),
    "just-a-loop": pointwise(4, 63 * 128, 9),
    "sums-of-32-bits": dense(3, 33000, 10),
}


ALWAYS = (1, 4, 2)
"""The tile of the largest sums, for all shapes."""


def tiles_of(name: str, half: int) -> list[tuple[int, int, int]]:
    """Those that a shape is tried in: half of them, the others in the slow tests; the next shape in turn."""
    first = (list(SHAPES).index(name) + half) % 2
    tiles = [tile for tile in TILES[first::2] if tile != LARGEST or not name.startswith("chunks")]
    return tiles if half or ALWAYS in tiles else [*tiles, ALWAYS]


def along(spec: KernelSpec, tile: tuple[int, int, int] | None = None) -> Kernel:
    """The kernel with vectors along the reduction, whether it pays or not."""
    assert isinstance(spec.root, BinaryConv)
    plan = BinaryPlan.of(spec, "uint32", binary_along.LANES)
    schedule = binary_along.default(plan, Pixels.of(spec, spec.root.window))
    if tile is not None:
        rows, columns, channels = tile
        schedule = Schedule(binary_along.LANES, rows, columns, 1, 1, channels)
    return binary_conv.make(spec, Isa.of(targets.load("cortex-a72")), schedule.parameters())


@cache
def default_program(target: str | Target) -> tuple[dict[str, Kernel], Program]:
    """Every case by its default kernel."""
    facts = targets.load(target) if isinstance(target, str) else target
    cases = CASES if "+v" in facts.features else {name: CASES[name] for name in SOME}
    kernels = {name: make_kernel(spec, facts) for name, spec in cases.items()}
    return kernels, Program(list(kernels.values()), facts)


@cache
def along_program() -> tuple[dict[str, Kernel], Program]:
    """Every case with vectors along the reduction."""
    kernels = {name: along(spec) for name, spec in ALONG.items()}
    return kernels, Program(list(kernels.values()), targets.load("cortex-a72"))


def check(
    kernel: Kernel,
    program: Program,
    seed: int = 3,
    fill: int | None = None,
    emulator: tuple[str, ...] | None = None,
) -> None:
    """Run a kernel on random numbers, or with all activations and weights of one sign, and compare."""
    spec = kernel.spec
    reads, constants = case_numbers(spec, seed)
    if fill is not None:
        layouts = zip(spec.inputs, reads, strict=False)
        reads[: len(spec.inputs)] = [filled(layout, buffer, fill > 0) for layout, buffer in layouts]
        constants = (np.full_like(constants[0], 1), *constants[1:])
    expected, actual = ([allocate(output.layout, 0xAB) for output in spec.outputs] for _ in range(2))
    run_step(spec, reads, constants, expected)
    program.run(kernel, reads, constants, actual, emulator)
    for output, want, have in zip(spec.outputs, expected, actual, strict=True):
        if output.layout.element is Element.F32:
            np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("name", ALONG)
def test_vectors_along_the_reduction(name: str):
    kernels, program = along_program()
    assert "along the reduction" in kernels[name].description
    check(kernels[name], program)


@pytest.mark.parametrize("fill", [1, -1])
@pytest.mark.parametrize("name", ["plain", "pad-minus-one", "deep", "dense-i32", "pointwise"])
def test_largest_and_smallest_sums(name: str, fill: int):
    """Where counts would overflow first."""
    kernels, program = along_program()
    check(kernels[name], program, fill=fill)


@cache
def tile_program(half: int) -> tuple[dict[tuple[str, tuple[int, int, int]], Kernel], Program]:
    """Every shape in its tiles."""
    kernels = {
        (name, tile): along(binary_spec(shape, INTEGERS if i % 2 else BITS), tile)
        for i, (name, shape) in enumerate(SHAPES.items())
        for tile in tiles_of(name, half)
    }
    return kernels, Program(list(kernels.values()), targets.load("cortex-a72"))


@pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SHAPES)
def test_every_tile(name: str, half: int):
    kernels, program = tile_program(half)
    for tile in tiles_of(name, half):
        check(kernels[name, tile], program, seed=5)


@pytest.mark.parametrize("fill", [1, -1])
@pytest.mark.parametrize("name", SHAPES)
def test_largest_and_smallest_sums_of_long_reductions(name: str, fill: int):
    kernels, program = tile_program(0)
    check(kernels[name, ALWAYS], program, fill=fill)


ISA_OF_SVE = Isa.of(targets.load("neoverse-v1"))
SVE = {name: spec for name, spec in CASES.items() if binary_rows.supports(spec, ISA_OF_SVE)}


@cache
def sve_program() -> tuple[dict[str, Kernel], Program]:
    """Every case with scalable vectors, whether they pay or not."""
    kernels = {name: binary_rows.make(spec, ISA_OF_SVE) for name, spec in SVE.items()}
    return kernels, Program(list(kernels.values()), targets.load("neoverse-v1"))


@pytest.mark.parametrize("name", SVE)
def test_scalable_vectors_of_arm(name: str):
    check_sve(name, 256)


@pytest.mark.parametrize("bits", [128, 512])
@pytest.mark.parametrize("name", SOME)
def test_scalable_vectors_of_other_lengths(name: str, bits: int):
    check_sve(name, bits)


def check_sve(name: str, bits: int, fill: int | None = None) -> None:
    """Run a case on vectors of so many bits."""
    kernels, program = sve_program()
    emulator = ("qemu-aarch64", "-cpu", f"max,sve-default-vector-length={bits // 8}")
    check(kernels[name], program, fill=fill, emulator=emulator)


@pytest.mark.parametrize("fill", [1, -1])
def test_scalable_vectors_hold_the_largest_sums(fill: int):
    check_sve("dense-i32", 128, fill)


def test_scalable_vectors_are_taken_for_long_sums():
    target = targets.load("neoverse-v1")
    long, short = (make_kernel(binary_spec(Shape((1, 7, 7, c), 64)), target) for c in (512, 64))
    assert "scalable" in long.description and "along" in short.description


@pytest.mark.parametrize("name", CASES)
def test_default_kernels_of_riscv(name: str):
    kernels, program = default_program("rv64gcv")
    check(kernels[name], program)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("target", ["armv7a-neon", "rv64gc", "cortex-a53"])
def test_default_kernels(target: str, name: str):
    kernels, program = default_program(target)
    check(kernels[name], program)


@pytest.mark.parametrize("name", CASES)
def test_channels_in_lanes_of_riscv(name: str):
    kernels, program = default_program(RISCV_LANES)
    check(kernels[name], program)


def test_lanes_of_riscv_hold_the_longest_rows():
    """Of 65536 bits and more, which all differ: 16 bits hold one less."""
    spec = binary_spec(dense(1, 65536 + 40, 22), INTEGERS)
    kernel = make_kernel(spec, RISCV_LANES)
    assert "16 bits" in kernel.description
    reads, constants = case_numbers(spec, 4)
    filled(spec.inputs[0], reads[0], True)
    actual = allocate(spec.outputs[0].layout)
    weights = (np.full_like(constants[0], -1), *constants[1:])
    Program([kernel], RISCV_LANES).run(kernel, reads, weights, [actual])
    np.testing.assert_array_equal(actual, -65576)


@pytest.mark.parametrize(
    ("target", "instruction", "found"),
    [
        ("rv64gcv_zvbb", VPOPCOUNT, True),
        ("rv64gcv", VPOPCOUNT, False),
        ("rv32imac_zbb", POPCOUNT, True),
        ("rv32imc", POPCOUNT, False),
    ],
)
def test_bits_are_counted_by_the_instruction(
    target: str, instruction: tuple[int, int], found: bool, tmp_path: Path
):
    """What no emulator here runs, or what a C compiler must recognise."""
    facts = targets.load(target)
    kernel = make_kernel(CASES["plain"], facts)
    name = f"test_{kernel.symbol}"
    use = f"void (*const kept)(void) = (void (*)(void)){name};\n"
    (tmp_path / "kernel.c").write_text(compile_c([kernel], "test", facts) + use)
    c_compiler.find(facts).compile(tmp_path / "kernel.c", tmp_path / "kernel.o", ("-O3",))
    code = (tmp_path / "kernel.o").read_bytes()
    mask, value = instruction
    words = (int.from_bytes(code[at : at + 4], "little") for at in range(0, len(code) - 3, 2))
    assert any(word & mask == value for word in words) == found


@pytest.mark.parametrize("bits", [256, 1024])
@pytest.mark.parametrize(
    "name", ["plain", "strided-i32", "deep", "dense-i32", "groups", "u2", "stream-tails"]
)
def test_vectors_of_other_lengths(name: str, bits: int):
    """A library for RISC-V's vectors runs on vectors of any length."""
    kernels, program = default_program("rv64gcv")
    assert "mask registers" in kernels[name].description
    emulator = ("qemu-riscv64", "-cpu", f"rv64,v=true,vlen={bits},vext_spec=v1.0")
    check(kernels[name], program, emulator=emulator)
    check(kernels[name], program, fill=-1, emulator=emulator)


@pytest.mark.parametrize("form", ["along", "rv64gcv", "lanes", "sve"])
def test_a_wrong_weight_is_noticed(form: str):
    """The comparison itself."""
    programs = {"along": along_program, "sve": sve_program}
    targets_of_riscv = {"rv64gcv": "rv64gcv", "lanes": RISCV_LANES}
    kernels, program = programs[form]() if form in programs else default_program(targets_of_riscv[form])
    kernel = kernels["plain-i32"]
    reads, constants = case_numbers(kernel.spec, 6)
    expected, actual = (allocate(kernel.spec.outputs[0].layout) for _ in range(2))
    run_step(kernel.spec, reads, constants, [expected])
    constants[0][5, 1, 1, 7] *= -1
    program.run(kernel, reads, constants, [actual])
    assert np.count_nonzero(expected != actual) == 6 * 9


@pytest.mark.parametrize(
    ("channels", "form"), [(8, "byte lanes"), (40, "byte lanes"), (64, "along"), (256, "along")]
)
def test_the_cheaper_form_is_taken(channels: int, form: str):
    spec = binary_spec(Shape((1, 8, 8, channels), 32))
    assert form in binary_conv.make(spec, Isa.of(targets.load("cortex-a72"))).description
