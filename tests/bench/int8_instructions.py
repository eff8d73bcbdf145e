# SPDX-License-Identifier: Apache-2.0
"""Instructions of layers of bytes under emulators: `python -m tests.bench.int8_instructions` prints them.

Each layer (bytes with a zero point and int8 weights below 128 in, int32 sums out) becomes a firmware, or a
program for Linux, that runs under QEMU, whose answer is compared with the reference. Instructions for a
multiply-accumulate are those of the layer's kernel; they are not cycles.

With `--shares`, layers from bytes to bytes (all weights, a scale and a bias for every channel, ReLU,
requantised) by those of float32 with bias and ReLU, as `plan.byte_costs` holds them; in stems with the
rounding of the image.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from bnncc import targets
from bnncc.kernels.build import make_kernel
from bnncc.plan.expression import Binary, Expression, Operand, Scalar, ToLevel, Unary
from bnncc.plan.kernel import KernelSpec, Map, Output
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.plan.simulate import allocate, random_buffer, run_step
from bnncc.report.table import table
from bnncc.targets import Target
from tests.bench.int8 import ZERO, Layer, by_channel
from tests.bench.kernels import square
from tests.kernels.contractions import Shape, byte_spec, dense, pointwise
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
TARGETS = (
    "cortex-m3",
    "cortex-m4",
    "cortex-m33",
    "cortex-m55",
    "rv64gcv",
    "cortex-a53",
    "cortex-a76",
    "armv7a-neon",
)


OF_KINDS = {
    "stem": (square(32, 3, 16, 3, 2), square(32, 3, 32, 3, 2)),
    "spatial": (square(16, 32, 32), square(8, 64, 64)),
    "pointwise": (pointwise(16, 32, 32), pointwise(8, 128, 128)),
    "depthwise": (by_channel(16, 64), by_channel(16, 32, 2)),
    "dense": (dense(1, 256, 64), dense(1, 512, 128)),
}
"""Layers that fit a microcontroller in float32, too."""


def rounding() -> Expression:
    """Of an image, to bytes with a zero point."""
    level = Binary("add", Unary("round", Binary("mul", Operand(0), Scalar(50.0))), Scalar(float(ZERO)))
    return ToLevel(Binary("min", Binary("max", level, Scalar(0.0)), Scalar(255.0)))


def on_linux(spec: KernelSpec, constants: tuple[np.ndarray, ...], target: Target) -> int:
    """Instructions of a call of the kernel."""
    kernel = make_kernel(spec, target)
    layouts = (*spec.inputs, *spec.operands)
    reads = [random_buffer(layout, np.random.default_rng(1), _zero(layout)) for layout in layouts]
    expected, actual = (allocate(spec.outputs[0].layout) for _ in range(2))
    run_step(spec, reads, constants, [expected])
    count = Program([kernel], target).run(kernel, reads, constants, [actual])
    _compare(expected, actual, target)
    return count


def on_a_board(spec: KernelSpec, constants: tuple[np.ndarray, ...], target: Target) -> int:
    """Instructions of the layer's step."""
    x = random_words(spec, np.random.default_rng(1))
    with tempfile.TemporaryDirectory() as folder:
        artifact = build_layer(spec, constants, target, Path(folder) / "layer", emit=("so",))
        _compare(expected_output(spec, constants, x), artifact.run({"x": x})["y"], target)
        assert artifact.emulator is not None
        return artifact.emulator.count([x], layers=True)[1][-1]


def of_rounding(spec: KernelSpec, constants: tuple[np.ndarray, ...], target: Target) -> int:
    """Instructions for the bytes that a layer reads, made of float32."""
    layout = spec.inputs[0]
    numbers = Layout.packed(Element.F32, layout.shape)
    if not target.is_bare:
        output = Output(replace(layout, halo=Halo()), rounding())
        return on_linux(KernelSpec(Map(), (numbers,), (), (output,)), (), target)
    x = np.random.default_rng(1).standard_normal((1, numbers.extent)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        layer = Path(folder) / "layer"
        artifact = build_layer(spec, constants, target, layer, rounding=rounding(), emit=("so",))
        assert artifact.emulator is not None
        return artifact.emulator.count([x], layers=True)[1][0]


def _zero(layout: Layout) -> int:
    """What is around an image."""
    return ZERO if layout.element is Element.U8 else 0


def _compare(expected: np.ndarray, actual: np.ndarray, target: Target) -> None:
    if not np.allclose(expected, actual, rtol=1e-4, atol=1e-3 * (expected.dtype == np.float32)):
        raise SystemExit(f"{target.name}: the layer's answer is wrong")


def count(spec: KernelSpec, constants: tuple[np.ndarray, ...], target: Target) -> int:
    """Instructions of a layer."""
    return (on_a_board if target.is_bare else on_linux)(spec, constants, target)


def share(kind: str, shape: Shape, target: Target) -> float:
    """Instructions of a layer from bytes to bytes by those of float32."""
    layer, rng = Layer(kind, shape), np.random.default_rng(0)
    real = tuple(rng.standard_normal(c.shape).astype(np.float32) for c in layer.real.constants)
    weight = rng.integers(-128, 128, shape.weight).astype(np.int8)
    scales = (rng.uniform(-0.01, 0.01, c.shape).astype(np.float32) for c in layer.of_bytes.constants[1:])
    constants = (weight, *scales)
    rounded = of_rounding(layer.of_bytes, constants, target) if kind == "stem" else 0
    return (count(layer.of_bytes, constants, target) + rounded) / count(layer.real, real, target)


def products(target: Target) -> list[str]:
    """Instructions for a multiply-accumulate of each of LAYERS."""
    row = []
    for shape in LAYERS.values():
        spec = byte_spec(shape, lowest=-ZERO, weight_planes=7)
        weight = np.random.default_rng(0).integers(-127, 128, shape.weight).astype(np.int8)
        row.append(f"{count(spec, (weight,), target) / (np.prod(shape.output) * shape.taps):.2f}")
    return row


def shares(target: Target) -> list[str]:
    """The mean share of the layers of each kind."""
    kinds = OF_KINDS.items()
    return [f"{np.mean([share(kind, shape, target) for shape in some]):.2f}" for kind, some in kinds]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Instructions of layers of bytes under QEMU.")
    parser.add_argument("--target", action="append", help=f"may be repeated (default: {', '.join(TARGETS)})")
    parser.add_argument("--shares", action="store_true", help="of the instructions of float32")
    arguments = parser.parse_args()
    loaded = [targets.load(name) for name in arguments.target or TARGETS]
    if arguments.shares:
        rows = [[target.name, *shares(target)] for target in loaded]
        print("instructions from bytes to bytes by those of float32, under QEMU; not cycles\n")
    else:
        rows = [[target.name, *products(target)] for target in loaded]
        print("instructions for a multiply-accumulate, the layer's kernel, under QEMU; not cycles\n")
    columns = OF_KINDS if arguments.shares else LAYERS
    print(table(("target", *columns), rows, right=range(1, len(columns) + 1)))


if __name__ == "__main__":
    main()
