# SPDX-License-Identifier: Apache-2.0
"""Instructions of layers of bytes under emulators: `python -m tests.bench.int8_instructions` prints them.

Each layer (bytes with a zero point and int8 weights below 128 in, int32 sums out) becomes a firmware, or a
program for Linux, that runs under QEMU, whose answer is compared with the reference. Instructions for a
multiply-accumulate are those of the layer's kernel; they are not cycles.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from bnncc import targets
from bnncc.kernels.build import make_kernel
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.simulate import allocate, random_buffer, run_step
from bnncc.report.table import table
from bnncc.targets import Target
from tests.bench.int8 import ZERO, by_channel
from tests.bench.kernels import square
from tests.kernels.contractions import byte_spec, dense, pointwise
from tests.kernels.emulated import Program
from tests.kernels.firmware import build_layer, expected_output, random_words

LAYERS = {
    "3x3 16x16x3->16": square(16, 3, 16),
    "3x3 16x16x8->16": square(16, 8, 16),
    "3x3 14x14x64": square(14, 64, 64),
    "1x1 16x16x32->32": pointwise(16, 32, 32),
    "depthwise 16x16x16": by_channel(16, 16),
    "dense 256->64": dense(1, 256, 64),
}
TARGETS = ("cortex-m3", "cortex-m4", "cortex-m33", "cortex-a53", "cortex-a76", "armv7a-neon")


def on_linux(spec: KernelSpec, weight: np.ndarray, target: Target) -> int:
    """Instructions of a call of the kernel."""
    kernel = make_kernel(spec, target)
    reads = [random_buffer(layout, np.random.default_rng(1), ZERO) for layout in spec.inputs]
    expected, actual = (allocate(spec.outputs[0].layout) for _ in range(2))
    run_step(spec, reads, (weight,), [expected])
    count = Program([kernel], target).run(kernel, reads, (weight,), [actual])
    if not np.array_equal(expected, actual):
        raise SystemExit(f"{target.name}: the layer's answer is wrong")
    return count


def on_a_board(spec: KernelSpec, weight: np.ndarray, target: Target) -> int:
    """Instructions of the layer's step."""
    x = random_words(spec, np.random.default_rng(1))
    with tempfile.TemporaryDirectory() as folder:
        artifact = build_layer(spec, (weight,), target, Path(folder) / "layer", emit=("so",))
        if not np.array_equal(artifact.run({"x": x})["y"], expected_output(spec, (weight,), x)):
            raise SystemExit(f"{target.name}: the layer's answer is wrong")
        assert artifact.emulator is not None
        return artifact.emulator.count([x], layers=True)[1][-1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Instructions of layers of bytes under QEMU.")
    parser.add_argument("--target", action="append", help=f"may be repeated (default: {', '.join(TARGETS)})")
    rows = []
    for name in parser.parse_args().target or TARGETS:
        target, row = targets.load(name), [name]
        for shape in LAYERS.values():
            spec = byte_spec(shape, lowest=-ZERO, weight_planes=7)
            weight = np.random.default_rng(0).integers(-127, 128, shape.weight).astype(np.int8)
            count = (on_a_board if target.is_bare else on_linux)(spec, weight, target)
            row.append(f"{count / (np.prod(shape.output) * shape.taps):.2f}")
        rows.append(row)
    print("instructions for a multiply-accumulate, the layer's kernel, under QEMU; not cycles\n")
    print(table(("target", *LAYERS), rows, right=range(1, len(LAYERS) + 1)))


if __name__ == "__main__":
    main()
