# SPDX-License-Identifier: Apache-2.0
"""Kernels in tests: compile them, call them on real buffers, compare with `bnncc.plan.simulate`."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.build import compile_c, compile_object, make_kernel
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.plan import simulate
from bnncc.plan.kernel import FillHalo, KernelSpec
from bnncc.plan.layout import Element, Layout
from bnncc.targets import Target
from tests.host import CC

TARGETS = [
    pytest.param(target, id=name, marks=[] if target.runs_here() else pytest.mark.skip("not this machine's"))
    for name in ("native", "x86-64-v4", "x86-64-v3", "x86-64-v2", "c")
    if (target := targets.load(name))
]
"""For `pytest.mark.parametrize("target", TARGETS)`."""

C_FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2")
GUARD = 64
"""Bytes around every buffer that a kernel must leave alone."""
GUARD_BYTE = 0xA5

PREFIX = "test"


@dataclass(frozen=True)
class Case:
    """A spec with numbers: the buffers that are read, and the constants in canonical form."""

    spec: KernelSpec
    reads: tuple[np.ndarray, ...]
    constants: tuple[np.ndarray, ...] = ()


def random_values(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Values [n, h, w, c] of the layout's element; float32 with exact zeros among them."""
    match layout.element:
        case Element.BIT:
            return rng.integers(0, 2, layout.shape).astype(bool)
        case Element.F32:
            values = rng.standard_normal(layout.shape).astype(np.float32)
            values[rng.random(layout.shape) < 0.1] = 0
            return values
        case Element.I32:
            return rng.integers(-1000, 1000, layout.shape, dtype=np.int32)
        case element:
            info = np.iinfo(element.dtype)
            return rng.integers(info.min, info.max + 1, layout.shape).astype(element.dtype)


def random_buffer(layout: Layout, rng: np.random.Generator, halo: float = 0.0) -> np.ndarray:
    """A buffer with random values; its halo holds `halo` (of bits: whether it is positive)."""
    buffer = simulate.allocate(layout, 0x77)
    around = simulate.with_halo(layout)
    simulate.store(around, buffer, np.full(around.shape, halo > 0 if layout.element is Element.BIT else halo))
    simulate.store(layout, buffer, random_values(layout, rng))
    return buffer


def random_case(
    spec: KernelSpec, constants: Sequence[np.ndarray] = (), seed: int = 0, halo: float = 0.0
) -> Case:
    """Random buffers for all that `spec` reads."""
    rng = np.random.default_rng(seed)
    reads = tuple(random_buffer(layout, rng, halo) for layout in (*spec.inputs, *spec.operands))
    return Case(spec, reads, tuple(constants))


class Guarded:
    """A copy of an array with guard bytes around it, 64-byte aligned."""

    def __init__(self, array: np.ndarray):
        memory = np.full(array.nbytes + 3 * GUARD, GUARD_BYTE, np.uint8)
        start = GUARD + -memory.ctypes.data % GUARD
        self.memory, self.start, self.stop = memory, start, start + array.nbytes
        self.array = memory[start : self.stop].view(array.dtype)
        self.array[...] = array.reshape(-1)

    @property
    def pointer(self) -> ctypes.c_void_p:
        """The address of the array."""
        return ctypes.c_void_p(self.array.ctypes.data)

    def is_intact(self) -> bool:
        """Whether the guard bytes are as they were."""
        around = (self.memory[: self.start], self.memory[self.stop :])
        return all((part == GUARD_BYTE).all() for part in around)


def write_layouts(spec: KernelSpec) -> tuple[Layout, ...]:
    """The layouts of what the kernel writes."""
    if isinstance(spec.root, FillHalo):
        return (spec.root.target,)
    return tuple(output.layout for output in spec.outputs)


class Library:
    """Kernels compiled, linked and loaded."""

    def __init__(self, kernels: Sequence[Kernel], target: Target, flags: Sequence[str] = ()):
        self.kernels = {kernel.symbol: kernel for kernel in kernels}
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        library = folder / "kernels.so"
        if target.kind == "c":
            source = folder / "kernels.c"
            source.write_text(exported_c(kernels, target))
            inputs = [*C_FLAGS, *flags, source]
        else:
            (folder / "kernels.o").write_bytes(compile_object(kernels, PREFIX, target))
            (folder / "exports.c").write_text(_trampolines(kernels))
            inputs = [folder / "kernels.o", folder / "exports.c"]
        command = [*CC, "-shared", "-fPIC", "-o", library, *inputs, "-lm"]
        subprocess.run([str(part) for part in command], check=True)
        self.library = ctypes.CDLL(str(library))

    def call(self, kernel: Kernel, pointers: Sequence[ctypes.c_void_p]) -> None:
        """Call a kernel."""
        getattr(self.library, f"call_{kernel.symbol}")(*pointers)

    def run(self, kernel: Kernel, case: Case) -> list[np.ndarray]:
        """The buffers that the kernel wrote; those of in-place outputs start as the operand."""
        reads = [Guarded(buffer) for buffer in case.reads]
        packed = kernel.pack(case.constants)
        constants = [Guarded(array) for array in packed]
        writes = [Guarded(simulate.allocate(layout, 0x5A)) for layout in write_layouts(case.spec)]
        for operand, output in case.spec.in_place:
            writes[output] = reads[len(case.spec.inputs) + operand]
        memories = [*reads, *constants, *writes]
        for parameter, memory in zip(kernel.parameters, memories, strict=True):
            itemsize = np.dtype(parameter.dtype).itemsize
            assert memory.array.nbytes == parameter.extent * itemsize, parameter.name
        self.call(kernel, [memory.pointer for memory in memories])
        assert all(memory.is_intact() for memory in memories), "written outside of a buffer"
        return [memory.array.copy() for memory in writes]


def exported_c(kernels: Sequence[Kernel], target: Target) -> str:
    """The C text of the kernels, with functions that call them."""
    return compile_c(kernels, PREFIX, target) + _trampolines(kernels, declare=False)


def _trampolines(kernels: Sequence[Kernel], declare: bool = True) -> str:
    lines = ["#include <stdint.h>"]
    for kernel in {kernel.symbol: kernel for kernel in kernels}.values():
        parameters = ", ".join(parameter.declaration for parameter in kernel.parameters)
        arguments = ", ".join(parameter.name for parameter in kernel.parameters)
        name = f"{PREFIX}_{kernel.symbol}"
        if declare:
            lines.append(f"void {name}({parameters});")
        lines.append(f"void call_{kernel.symbol}({parameters});")
        lines.append(f"void call_{kernel.symbol}({parameters}) {{ {name}({arguments}); }}")
    return "\n" + "\n".join(lines) + "\n"


def expected(case: Case) -> list[np.ndarray]:
    """The buffers that `simulate` writes."""
    writes = [simulate.allocate(layout, 0x5A) for layout in write_layouts(case.spec)]
    for operand, output in case.spec.in_place:
        writes[output] = case.reads[len(case.spec.inputs) + operand].copy()
    simulate.run_step(case.spec, case.reads, case.constants, writes)
    return writes


def check(
    cases: Sequence[Case],
    target: Target,
    schedule: TileParameters | None = None,
    tolerance: float = 2e-6,
    flags: Sequence[str] = (),
) -> None:
    """Compile all cases into one library and compare each with `simulate`: integers, bits and what lies
    around the images bit for bit, floats to `tolerance` relative to the largest."""
    kernels = [make_kernel(case.spec, target, schedule) for case in cases]
    library = Library(kernels, target, flags)
    for kernel, case in zip(kernels, cases, strict=True):
        compare(case, library.run(kernel, case), tolerance, kernel.symbol)


def compare(case: Case, found: Sequence[np.ndarray], tolerance: float, title: str) -> None:
    """Assert that what a kernel wrote is what `simulate` writes."""
    for layout, actual, wanted in zip(write_layouts(case.spec), found, expected(case), strict=True):
        if layout.element is not Element.F32 or isinstance(case.spec.root, FillHalo):
            np.testing.assert_array_equal(actual, wanted, err_msg=f"{title}: {layout}")
            continue
        values, reference = simulate.load(layout, actual), simulate.load(layout, wanted)
        finite = np.abs(reference[np.isfinite(reference)])
        scale = max(1e-30, float(finite.max(initial=0)))
        np.testing.assert_allclose(
            values, reference, rtol=tolerance, atol=tolerance * scale, err_msg=f"{title}: {layout}"
        )
        simulate.store(layout, actual, reference)
        np.testing.assert_array_equal(actual.view(np.uint32), wanted.view(np.uint32), err_msg=title)
