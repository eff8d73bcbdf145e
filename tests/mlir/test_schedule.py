# SPDX-License-Identifier: Apache-2.0
"""`--emit transform`: the schedule that goes with `--emit linalg`. What it makes gives the same numbers
(`test_operations`, `test_networks`); here, that mlir-opt applies it and that it reaches every contraction."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import bnncc
from bnncc.codegen.mlir import SCHEDULED, find_tools
from bnncc.diagnostics import BnnccError
from bnncc.plan.tiling import Contraction, Machine, Packing, schedule_text
from tests.cases import load_case

AVX512, AVX2, NEON = Machine(16, 32), Machine(8, 16), Machine(4, 32)


def contraction(width: int, channels: int, row: int | None = 2) -> Contraction:
    image, weight = f"tensor<1x{width + 2}x{width + 2}x2xi32>", f"tensor<3x3x2x{channels}xi32>"
    result = f"tensor<1x{width}x{width}x{channels}xi32>"
    parallel = (1, width, width, channels)
    return Contraction("binary_conv2d", (image, weight, result), result, parallel, 3, row, "i32")


@pytest.mark.parametrize(
    ("machine", "width", "channels", "tile"),
    [
        (AVX512, 56, 64, (1, 1, 8, 32)),
        (AVX512, 14, 256, (1, 1, 7, 32)),
        (AVX2, 28, 128, (1, 1, 4, 16)),
        (NEON, 7, 512, (1, 1, 7, 8)),
        (NEON, 13, 10, (1, 1, 1, 5)),
    ],
)
def test_tiles_divide_the_image_and_fit_the_registers(
    machine: Machine, width: int, channels: int, tile: tuple[int, ...]
) -> None:
    assert contraction(width, channels).tile(machine) == tile
    assert tile[2] * -(-tile[3] // machine.lanes) <= machine.registers // 2


def test_pixels_that_are_not_neighbours_are_taken_one_by_one() -> None:
    assert contraction(56, 64, row=None).tile(AVX512) == (1, 1, 1, 64)


def test_a_shape_is_scheduled_once() -> None:
    """And operations that make words of bits, with what was fused into them."""
    same = [contraction(56, 64), contraction(56, 64), Packing("tensor<1x56x56x2xi32>", 5)]
    text = schedule_text(same, AVX512)
    assert text.count("// binary_conv2d") == 1 and text.count("@pack_if_possible_5(") == 1


def test_mlir_opt_applies_what_is_written(tmp_path: Path) -> None:
    """No named contraction is left that the schedule names; without the schedule all are."""
    model = load_case("larq_quicknet_blocks").write_model(tmp_path)
    out = tmp_path / "out"
    bnncc.compile(model, emit=("linalg", "transform"), output=out, name="net", target="x86-64-v3")
    network, schedule = out / "net.linalg.mlir", out / "net.transform.mlir"
    passes = ",".join(step.replace("SCHEDULE", str(schedule)) for step in SCHEDULED)
    command = [find_tools().mlir_opt, f"--pass-pipeline=builtin.module({passes})", str(network)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    named = re.compile(r'library_call = "(\w+)"')
    before = named.findall(network.read_text())
    assert {"binary_conv2d", "real_conv2d"} < set(before)
    assert not set(named.findall(done.stdout)) - {"pack_bits"}
    assert "math.ctpop" in done.stdout and re.search(r"math\.ctpop %\w+ : vector<\d+x16xi32>", done.stdout)
    assert "vector.multi_reduction <or>" in done.stdout


def test_a_processor_without_vectors_has_no_schedule(tmp_path: Path) -> None:
    model = load_case("digits_bnn_bop_legacy").write_model(tmp_path)
    with pytest.raises(BnnccError, match="no vectors"):
        bnncc.compile(model, emit=("transform",), target="cortex-m4")
