# SPDX-License-Identifier: Apache-2.0
"""Instructions of binary layers on processors with vectors: `python -m tests.bench.vectors` prints tables.

Each layer (3x3, padded by ones, stride 1; bits in, threshold, packed bits out) becomes a program for Linux
that runs under QEMU, whose answer is compared with the reference. What is counted is one call of the kernel;
its input has its border already. The count is divided by the nominal vectors, K * H * W * O bits by 128, on
RISC-V by VLEN, border included. Instructions are not cycles: those of the inner loop, for each vector that it
counts, are from llvm-mca where it has a model of the processor.

Rows in brackets were not measured by this program: daBNN, without padding, thresholds and packing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnncc import targets
from bnncc.kernels.build import compile_object, make_kernel
from bnncc.kernels.kernel import Kernel
from bnncc.plan.simulate import allocate, random_buffer, run_step
from bnncc.report.table import table
from bnncc.targets import Target
from bnncc.toolchain import elf, mca
from tests.bench.kernels import random_constants, square
from tests.kernels.contractions import Shape, binary_spec
from tests.kernels.emulated import Program
from tests.kernels.library import PREFIX


def layers_of(*sizes: tuple[int, int]) -> dict[str, Shape]:
    """Layers by name, for pairs of size and channels."""
    return {f"{size}x{size}x{channels}": square(size, channels, channels) for size, channels in sizes}


ARM = layers_of((56, 64), (28, 128), (14, 256), (7, 512))
RISCV = layers_of((16, 64), (8, 128), (8, 256))


@dataclass(frozen=True)
class Machine:
    """A target on an emulator. bits: what the count is for. options: of the emulator, in the place of the
    target's; length: bits of a vector there."""

    target: str
    bits: int
    options: tuple[str, ...] = ()
    length: int = 0

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.target}, vectors of {self.length}" if self.options else self.target


def riscv(bits: int) -> Machine:
    """RISC-V with vectors of so many bits."""
    return Machine("rv64gcv", bits, ("qemu-riscv64", "-cpu", f"rv64,v=true,vlen={bits},vext_spec=v1.0"), bits)


def sve(bits: int) -> Machine:
    """SVE with vectors of so many bits."""
    processor = f"max,sve-default-vector-length={bits // 8}"
    return Machine("neoverse-v1", 128, ("qemu-aarch64", "-cpu", processor), bits)


MACHINES = (
    *(Machine(name, 128) for name in ("cortex-a53", "cortex-a72", "cortex-a76", "aarch64", "armv7a-neon")),
    *(sve(bits) for bits in (128, 256, 512)),
    *(riscv(bits) for bits in (128, 256)),
)
OTHERS = {"cortex-a53": {"daBNN": (5.6, 4.0, 4.0, 4.5)}}


def count(kernel: Kernel, program: Program, machine: Machine) -> int:
    """Run a kernel on random numbers, compare, count."""
    spec, rng = kernel.spec, np.random.default_rng(0)
    reads = [random_buffer(layout, rng, 1) for layout in spec.inputs]
    constants = random_constants(spec, rng)
    expected, actual = (allocate(spec.outputs[0].layout) for _ in range(2))
    run_step(spec, reads, constants, [expected])
    instructions = program.run(kernel, reads, constants, [actual], machine.options or None)
    if not np.array_equal(expected, actual):
        raise SystemExit(f"{machine.name}: the layer's answer is wrong")
    return instructions


def loop_cycles(kernel: Kernel, target: Target) -> str:
    """Cycles of the inner loop over the counts of bits in it; empty where they are not to be had."""
    if target.kind != "llvm" or mca.why_not(target):
        return ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.o"
        path.write_bytes(elf.hide_symbols(compile_object([kernel], PREFIX, target)))
        loop = mca.loops(path, target, frozenset({f"{PREFIX}_{kernel.symbol}"})).get(
            f"{PREFIX}_{kernel.symbol}"
        )
    return f"{loop.cycles / loop.counts:.2f}" if loop and loop.counts else ""


def rows_of(machine: Machine, layers: dict[str, Shape]) -> list[list[str]]:
    """The lines of one machine."""
    print(machine.name, file=sys.stderr, flush=True)
    target = targets.load(machine.target)
    kernels = [make_kernel(binary_spec(shape, pad_value=1), target) for shape in layers.values()]
    program = Program(kernels, target)
    nominal = [np.prod(shape.output) * shape.taps / machine.bits for shape in layers.values()]
    counts = [count(kernel, program, machine) for kernel in kernels]
    rows = [[machine.name, *(f"{c / n:.2f}" for c, n in zip(counts, nominal, strict=True))]]
    cycles = [loop_cycles(kernel, target) for kernel in kernels]
    if any(cycles):
        rows.append(["  cycles of the inner loop", *cycles])
    for other, numbers in OTHERS.get(machine.name, {}).items():
        rows.append([f"  [{other}]", *(f"{number:.1f}" for number in numbers)])
    return rows


def show(layers: dict[str, Shape], machines: Sequence[Machine]) -> None:
    """Measure and print one table."""
    rows = [row for machine in machines for row in rows_of(machine, layers)]
    if rows:
        print(table(("target", *layers), rows, right=range(1, len(layers) + 1)))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Instructions of binary layers on processors with vectors.")
    names = sorted({machine.target for machine in MACHINES})
    parser.add_argument("--target", action="append", choices=names, help="may be repeated (default: all)")
    chosen = parser.parse_args().target or names
    machines = [machine for machine in MACHINES if machine.target in chosen]
    print("instructions for 128 bits (RISC-V: VLEN), whole layers, under QEMU; not cycles\n")
    show(ARM, [machine for machine in machines if not machine.target.startswith("rv")])
    print()
    show(RISCV, [machine for machine in machines if machine.target.startswith("rv")])


if __name__ == "__main__":
    main()
