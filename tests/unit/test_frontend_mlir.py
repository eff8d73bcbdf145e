# SPDX-License-Identifier: Apache-2.0
"""Networks as text of the dialect: what is taken, and what is said of what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bnncc
from bnncc import driver, opt
from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.dialect.parsing import module_text
from bnncc.frontend.mlir import is_fused, load_mlir
from bnncc.frontend.onnx import load_onnx
from bnncc.options import Options
from bnncc.passes.pipeline import run_pipeline
from bnncc.reference import evaluate
from tests.cases import load_case

RELU = """\
func.func @main(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %0 = bnn.relu %x : (tensor<1x4xf32>) -> tensor<1x4xf32>
  func.return %0 : tensor<1x4xf32>
}
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "net.mlir"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_network_written_by_hand(tmp_path: Path) -> None:
    artifact = bnncc.compile(write(tmp_path, RELU), output=tmp_path / "out")
    x = np.array([[-1, 2, 0, 3]], np.float32)
    np.testing.assert_array_equal(artifact.run({"arg0": x})["out0"], np.maximum(x, 0))


@pytest.mark.parametrize("fused", [False, True], ids=["before the passes", "after them"])
@pytest.mark.parametrize("name", ["digits_bnn_bop_legacy", "torch_signzero_trap_legacy"])
def test_text_means_what_the_onnx_file_does(name: str, fused: bool, tmp_path: Path) -> None:
    case = load_case(name).first(1)
    module = load_onnx(case.write_model(tmp_path))
    if fused:
        run_pipeline(module)
    again = load_mlir(write(tmp_path, module_text(module)))
    assert is_fused(again) == fused
    inputs = dict(case.inputs)
    for output, expected in evaluate(module, inputs).items():
        np.testing.assert_array_equal(evaluate(again, inputs)[output], expected)


def test_the_text_that_was_emitted_gives_the_same_library(tmp_path: Path) -> None:
    path = load_case("digits_bnn_bop_legacy").write_model(tmp_path)
    first = bnncc.compile(path, name="digits", output=tmp_path / "first", emit=("lib", "so", "mlir"))
    text = first.directory / "digits.mlir"
    second = bnncc.compile(text, name="digits", output=tmp_path / "second", emit=("lib", "so"))
    for file in ("libdigits.a", "libdigits.so"):
        assert (first.directory / file).read_bytes() == (second.directory / file).read_bytes()


BAD = {
    "no MLIR": ("this is no MLIR", "net.mlir:1"),
    "cut short": (RELU[:80], "net.mlir:2"),
    "no text": (b"\xff\xfe\x00", "no text"),
    "no function": ("builtin.module {}", "one func @main"),
    "another name": (RELU.replace("@main", "@other"), "one func @main"),
    "two functions": (RELU + RELU.replace("@main", "@other"), "one func @main"),
    "an operation of another dialect": (
        RELU.replace("bnn.relu %x", '"arith.sitofp"(%x)'),
        "arith.sitofp",
    ),
    "an unknown operation": (RELU.replace("bnn.relu", "bnn.rectify"), "rectify"),
    "a shape that is known at run time": (RELU.replace("1x4x", "?x4x"), "static"),
    "a shape with nothing in it": (RELU.replace("1x4x", "0x4x"), "not empty"),
    "types that do not agree": (
        RELU.replace("-> tensor<1x4xf32>\n", "-> tensor<1x5xf32>\n"),
        "previously used",
    ),
    "a type of no kernel": (RELU.replace("f32", "bf16"), "bf16"),
    "bits as inputs": (RELU.replace("f32", "!bnn.bipolar"), "number"),
    "a tensor of many gigabytes": (RELU.replace("1x4x", "90000x90000x"), "larger than"),
    "names that are not there": (
        RELU.replace("-> tensor<1x4xf32> {", '-> tensor<1x4xf32> attributes {bnn.inputs = ["a", "b"]} {'),
        "1 different names as bnn.inputs",
    ),
    "a constant that is not a number": (
        RELU.replace(
            "bnn.relu %x : (tensor<1x4xf32>)",
            'bnn.constant dense<"0x0000C07F0000C07F0000C07F0000C07F"> : tensor<1x4xf32> :',
        ).replace(": -> tensor<1x4xf32>", ": tensor<1x4xf32>"),
        "NaN",
    ),
    "regions in regions": ("module {" * 5000, "nested"),
}


def test_what_is_printed_to_be_looked_at_leaves_large_constants_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = load_case("digits_bnn_bop_legacy").write_model(tmp_path)
    printed = {}
    for whole in (False, True):
        options = Options(print_ir_after=("convert-onnx",), print_ir_whole=whole)
        driver.front(path, options)
        printed[whole] = capsys.readouterr().err
    assert len(printed[False]) < 12_000 < 100_000 < len(printed[True])
    # 32 biases are written, 288 weights are not.
    assert "dense<[0.0154" in printed[False] and "dense_resource<__elided__> : tensor<32x" in printed[False]
    load_mlir(write(tmp_path, printed[True]))
    with pytest.raises(BnnccError) as caught:
        load_mlir(write(tmp_path, printed[False]))
    assert "--print-ir-whole" in caught.value.hint
    assert opt.main([str(tmp_path / "net.mlir")]) == ExitCode.USER
    assert "--print-ir-whole" in capsys.readouterr().err


@pytest.mark.parametrize("name", BAD)
def test_bad_text_is_refused_with_its_place(name: str, tmp_path: Path) -> None:
    text, words = BAD[name]
    with pytest.raises(BnnccError) as caught:
        bnncc.compile(write(tmp_path, text), output=tmp_path / "out")
    assert caught.value.exit_code == ExitCode.USER, str(caught.value)
    assert words in str(caught.value) and "net.mlir" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(BnnccError, match="cannot be read"):
        load_mlir("missing.mlir")
