# SPDX-License-Identifier: Apache-2.0
"""Instructions of whole binary layers on emulated cores: `python -m tests.bench.instructions` prints a table.

Each layer (3x3, padded by zeros, stride 1, or dense; bits in, threshold, packed bits out) becomes a firmware
that runs under QEMU, whose answer is compared with the reference. What is counted is everything that the
layer executes: filling its halo, gathering windows, thresholds, packing. The count is divided by the nominal
words, K/32 * H * W * O for windows of K taps, border included: instructions for 32 multiply-accumulates. They
are not cycles. `--optimize` chooses kernels as the command line does; `--words N` sets the turn, where there
are turns.

Rows in brackets are of other engines, on the same layers and counted alike (gcc 12 -O3), and were not
measured by this program: CMSIS-NN with int8 for the same multiply-accumulates, CBin-NN after mending its
indexing, and plain C with a popcount of shifts and masks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnncc import targets
from bnncc.kernels.build import make_kernel
from bnncc.plan.kernel import KernelSpec
from bnncc.report.table import table
from bnncc.targets import Target
from tests.kernels.contractions import Shape, binary_spec, dense
from tests.kernels.firmware import build_layer, expected_output, random_words

LAYERS = {
    "32x32x32->32": Shape((1, 32, 32, 32), 32),
    "16x16x64->64": Shape((1, 16, 16, 64), 64),
    "8x8x128->128": Shape((1, 8, 8, 128), 128),
    "8x8x256->256": Shape((1, 8, 8, 256), 256),
    "dense 1024->256": dense(1, 1024, 256),
}
TARGETS = (
    *("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"),
    *("rv32imc", "rv32imac_zbb", "rv64gc"),
)

OTHERS: dict[str, dict[str, tuple[float | None, ...]]] = {
    "cortex-m4": {
        "CMSIS-NN int8": (61.5, 56.3, 54.1, None, 61.6),
        "CBin-NN": (29.1, 23.9, 20.0, None, 26.1),
        "plain C": (46.4, 30.3, 21.3, None, 17.6),
    },
    "cortex-m55": {"CMSIS-NN int8, MVE": (8.1, 6.6, 6.0, None, 15.4)},
    "rv32imc": {"CMSIS-NN int8": (153, 144, 140, None, 172), "plain C": (48.1, 33.3, 24.7, None, 22.5)},
}
"""By target: instructions for 32 multiply-accumulates in the order of LAYERS."""


@dataclass(frozen=True)
class Row:
    """One layer on one target: instructions for 32 multiply-accumulates, bytes of the library's code (a copy
    and the filling of the halo included), and the kernel in words."""

    per_word: float
    code_bytes: int
    kernel: str


def measure(spec: KernelSpec, target: Target, goal: str | None, words: int | None) -> Row:
    """Build, run, compare, count."""
    rng = np.random.default_rng(0)
    weight = rng.choice(np.array([-1, 1], np.int8), spec.constants[0].shape)
    constants = (weight, rng.integers(-40, 40, len(weight)).astype(np.int32))
    x = random_words(spec, rng)
    kernel = make_kernel(spec, target, {"words": words} if words else None, goal)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "layer"
        artifact = build_layer(spec, constants, target, directory, kernel, emit=("so",), optimize=goal)
        if not np.array_equal(artifact.run({"x": x})["y"], expected_output(spec, constants, x)):
            raise SystemExit(f"{target.name}: the layer's answer is wrong")
        assert artifact.emulator is not None
        _, (_, *counts) = artifact.emulator.count([x], layers=True)
        step = artifact.manifest["steps"][-1]
        return Row(sum(counts) / (step["macs"] / 32), artifact.manifest["code_bytes"], step["description"])


def rows_of(name: str, layers: list[str], goal: str | None, words: int | None) -> list[list[str]]:
    """The lines of one target."""
    target = targets.load(name)
    measured = []
    for layer in layers:
        print(f"{name}: {layer}", file=sys.stderr, flush=True)
        measured.append(measure(binary_spec(LAYERS[layer]), target, goal, words))
    rows = [
        [name, *(f"{row.per_word:.2f}" for row in measured)],
        ["  bytes of code", *(f"{row.code_bytes:,}" for row in measured)],
    ]
    for other, numbers in OTHERS.get(name, {}).items():
        known = dict(zip(LAYERS, numbers, strict=True))
        rows.append([f"  [{other}]", *("" if known[x] is None else f"{known[x]:.1f}" for x in layers)])
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Instructions of binary layers on emulated cores.")
    parser.add_argument("--target", action="append", help=f"may be repeated (default: {', '.join(TARGETS)})")
    parser.add_argument("--layer", action="append", choices=tuple(LAYERS), help="may be repeated")
    parser.add_argument("--optimize", choices=("size", "speed"), help="what kernels are chosen for")
    parser.add_argument("--words", type=int, help="words of a turn of straight-line code, at most")
    chosen = parser.parse_args()
    layers = chosen.layer or list(LAYERS)
    rows = [
        row
        for name in chosen.target or TARGETS
        for row in rows_of(name, layers, chosen.optimize, chosen.words)
    ]
    print("instructions for 32 multiply-accumulates, the whole layer, under QEMU; not cycles\n")
    print(table(("target", *layers), rows, right=range(1, len(layers) + 1)))


if __name__ == "__main__":
    main()
