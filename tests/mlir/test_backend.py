# SPDX-License-Identifier: Apache-2.0
"""`--backend mlir`: the same library as TVM's, its kernels made by mlir-opt and LLVM."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import bnncc
from bnncc import doctor, verify
from bnncc.cli import main
from bnncc.codegen.buffers import without_allocations
from bnncc.codegen.upstream import object_target
from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.driver import Options
from bnncc.frontend.evaluate import evaluate_model
from bnncc.targets import load
from bnncc.toolchain import llvm
from tests.cases import case_names, load_case
from tests.models import make_model, write

BARE = ["cortex-m4", "cortex-m0plus", "rv32imc"]
"""Of other kinds of processors."""

RUNTIME = re.compile(
    r"__(aeabi_\w+|\w+[sdt][fi]\d?)|mem(cpy|set)|f?(sqrt|exp|log|floor|ceil|rint|tanh|erf|pow)f?"
)
"""What compilers call by themselves, and libm."""

QUICK = """
digits_bnn_bop_legacy brevitas_tfc_1w2a_qonnx_legacy larq_signzero_exact torch_reactnet_block_legacy
snntorch_step_convleaky_legacy torch_bsnn_scan_dynamo nir_norse_fc_lifbox""".split()

DIGITS = "digits_bnn_bop_legacy"


def model(name: str, folder: Path) -> Path:
    return load_case(name).write_model(folder)


def check_layers(name: str, folder: Path) -> None:
    """Integers and bits are the reference's, real values up to rounding."""
    case = load_case(name)
    options = Options(backend="mlir", dt=case.meta["dt"] if case.file.endswith(".nir") else None)
    report = verify.verify_model(case.write_model(folder), options, samples=1)
    assert report.passed, report.render()
    assert any(row.against == "reference" for row in report.rows)


@pytest.mark.parametrize("name", QUICK)
def test_every_layer_agrees(name: str, tmp_path: Path) -> None:
    check_layers(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(case_names("*")) - set(QUICK)))
def test_every_layer_of_every_case_agrees(name: str, tmp_path: Path) -> None:
    check_layers(name, tmp_path)


def test_what_is_none_of_bnns_is_named(tmp_path: Path) -> None:
    """The node, and why."""
    path = tmp_path / "model.onnx"
    node = helper.make_node("Selu", ["x"], ["y"], "scaled")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy"]
    graph = helper.make_graph([node], "graph", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    with pytest.raises(BnnccError, match="nothing for Selu") as refused:
        bnncc.compile(path, backend="mlir")
    assert "scaled" in refused.value.location


@pytest.mark.parametrize("target", ["x86-64-v2", "aarch64", "rv64gc", *BARE])
def test_other_processors(target: str, tmp_path: Path) -> None:
    """Layer by layer, under their emulators."""
    report = verify.verify_model(model(DIGITS, tmp_path), Options(backend="mlir", target=target), samples=1)
    assert report.passed, report.render()


@pytest.mark.parametrize("target", BARE)
def test_no_heap_and_no_large_stack(target: str, tmp_path: Path) -> None:
    """Without an operating system nothing is called but the compiler's own functions; what a kernel needs
    lies in the arena."""
    artifact = bnncc.compile(
        model(DIGITS, tmp_path),
        backend="mlir",
        target=target,
        emit=("lib",),
        output=tmp_path / "out",
        name="digits",
    )
    kernels = [
        symbol for symbol in undefined(tmp_path / "out" / "libdigits.a") if not symbol.startswith("digits_")
    ]
    assert all(RUNTIME.fullmatch(symbol) for symbol in kernels), kernels
    assert artifact.manifest["stack_bytes"] < 1024
    assert any(buffer["name"].endswith("_scratch") for buffer in artifact.manifest["buffers"])


def undefined(archive: Path) -> set[str]:
    """What the objects of an archive need of others, but for one another."""
    nm = llvm.tool("llvm-nm") or "nm"
    lines = subprocess.run([nm, archive], capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = [line.split()[-2:] for line in lines if len(line.split()) > 1]
    return {name for kind, name in symbols if kind == "U"} - {name for kind, name in symbols if kind != "U"}


@pytest.mark.parametrize("target", ["native", "cortex-m4", "cortex-m55", "armv7a-neon"])
def test_real_layers_between_ports_of_half_precision(target: str, tmp_path: Path) -> None:
    """LLVM knows no maximum without an FPU, and MLIR no vectors at places of 32 bits. NaN stays NaN."""
    rng = np.random.default_rng(3)
    weights = {"w": rng.choice([-1.0, 1.0], (6, 8)), "v": rng.choice([-0.5, 0.25], (8, 3))}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["above"]),
        helper.make_node("MatMul", ["above", "v"], ["y"]),
    ]
    constants = {name: array.astype(np.float16) for name, array in weights.items()}
    made = make_model(nodes, {"x": [2, 6]}, ["y"], constants)
    for port in (*made.graph.input, *made.graph.output):
        port.type.tensor_type.elem_type = TensorProto.FLOAT16
    x = rng.choice([-2.0, -0.5, 0.0, 1.5], (2, 6)).astype(np.float16)
    expected = np.maximum(x.astype(np.float32) @ weights["w"], 0) @ weights["v"]
    x[1, 2] = expected[1] = np.nan
    artifact = bnncc.compile(write(tmp_path, made), target=target, backend="mlir", output=tmp_path / "lib")
    got = artifact.run({"x": x})["y"]
    assert got.dtype == np.float16
    np.testing.assert_array_equal(got, expected.astype(np.float16))


def test_the_face_is_that_of_the_other_back_end(tmp_path: Path) -> None:
    """Functions, their parameters, names, the fields of the manifest: all but how much memory is needed."""
    path = model("snntorch_step_convleaky_legacy", tmp_path)
    artifacts = {b: bnncc.compile(path, backend=b, output=tmp_path / b, name="net") for b in ("tvm", "mlir")}
    declared = [
        re.sub(r"\d+", "0", (tmp_path / b / "net.h").read_text().replace("Options: backend=mlir\n * ", ""))
        for b in artifacts
    ]
    assert strip(declared[0]) == strip(declared[1])
    tvm, mlir = (artifact.manifest for artifact in artifacts.values())
    assert tvm.keys() == mlir.keys() and set(tvm["files"]) == set(mlir["files"])
    assert [port["name"] for port in tvm["inputs"]] == [port["name"] for port in mlir["inputs"]]


def strip(header: str) -> list[str]:
    """The lines that a compiler reads."""
    return re.sub(r"/\*.*?\*/", "", header, flags=re.S).split()


def test_equal_layers_share_a_function(tmp_path: Path) -> None:
    """Whatever their weights; a layer of other strides has one of its own."""
    nodes, weights = [], np.random.default_rng(3).choice(np.array([-1, 1], np.float32), (3, 8, 8, 3, 3))
    for i, stride in enumerate((1, 1, 2)):
        pads, strides = [1, 1, 1, 1], [stride, stride]
        nodes += [
            helper.make_node("Sign", [f"x{i}"], [f"s{i}"]),
            helper.make_node("Conv", [f"s{i}", f"w{i}"], [f"x{i + 1}"], pads=pads, strides=strides),
        ]
    constants = {f"w{i}": weight for i, weight in enumerate(weights)}
    path = write(tmp_path, make_model(nodes, {"x0": [1, 8, 6, 6]}, ["x3"], constants))
    artifact = bnncc.compile(path, backend="mlir", output=tmp_path / "library")
    steps = artifact.manifest["steps"]
    layers = [step["kernel"] for step in steps if step["operation"].startswith("conv2d")]
    assert len(layers) == 3 and layers[0] == layers[1] != layers[2]
    assert all(re.fullmatch(r"mlir_\w+_[0-9a-f]{8}", step["kernel"]) for step in steps)
    x = np.random.default_rng(4).standard_normal((1, 8, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(artifact.run({"x0": x})["x3"], evaluate_model(path, {"x0": x})["x3"])


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    path = model(DIGITS, tmp_path)
    for name in "ab":
        bnncc.compile(path, backend="mlir", output=tmp_path / name, name="net", target="x86-64-v3")
    for file in ("libnet.a", "libnet.so", "net.h"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_step_by_step(tmp_path: Path) -> None:
    """States that the caller keeps: what the other back end gives."""
    path = model("snntorch_step_convleaky_legacy", tmp_path)
    states = {f"{name}_in": name for name in ("mem1", "mem2", "mem3")}
    x = np.random.default_rng(5).uniform(0, 1, (3, 1, 1, 28, 28)).astype(np.float32)
    results = [bnncc.compile(path, backend=b, states=states).run({"x": x}) for b in ("tvm", "mlir")]
    assert results[0]["spk3"].shape[0] == 3
    for name in results[0]:
        np.testing.assert_allclose(results[1][name], results[0][name], rtol=1e-5, atol=1e-5)


def test_bench_compares_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one table, and not where one back end is asked for."""
    path = str(model(DIGITS, tmp_path))
    assert main(["bench", path, "--backend", "tvm,mlir", "--repeat", "3"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^tvm +\d\.\d+ +1\.00$", said, re.M) and re.search(
        r"^mlir +\d\.\d+ +\d+\.\d\d$", said, re.M
    )
    assert main(["verify", path, "--backend", "tvm,mlir"]) == ExitCode.USER
    assert main(["bench", path, "--backend", "gcc"]) == ExitCode.USER


# --- What cannot be ---------------------------------------------------------------------------------------


def test_a_missing_tool_is_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(llvm, "tools", lambda names, oldest: ())
    path = model(DIGITS, tmp_path)
    code = main(["compile", str(path), "--backend", "mlir", "-o", str(tmp_path / "out")])
    assert code == ExitCode.FAILURE
    said = capsys.readouterr().err
    assert "mlir-opt" in said and "apt-get install" in said and not (tmp_path / "out").exists()
    finding = next(f for f in doctor.examine() if f.subject == "mlir-opt")
    assert finding.wrong and not finding.needed and finding.mend in said


def test_c_is_none_of_its_targets() -> None:
    with pytest.raises(BnnccError, match="is C"):
        object_target(load("c"))


@pytest.mark.parametrize("options", [{"emit": ("c",)}, {"emit": ("tir",)}, {"package": "cmake"}])
def test_files_that_it_does_not_write(options: dict, tmp_path: Path) -> None:
    with pytest.raises(BnnccError, match="objects only"):
        bnncc.compile(model(DIGITS, tmp_path), backend="mlir", **options)


# --- Buffers ----------------------------------------------------------------------------------------------

FUNCTION = """\
module {
  func.func @two(%arg0: memref<4xf32>, %arg1: memref<4xf32>) {
    %alloc = memref.alloc() {alignment = 64 : i64} : memref<4x5xf32>
    %subview = memref.subview %alloc[0, 0] [4, 1] [1, 1] : memref<4x5xf32> to memref<4xf32, strided<[5]>>
    linalg.copy ins(%arg0 : memref<4xf32>) outs(%subview : memref<4xf32, strided<[5]>>)
    %alloc_0 = memref.alloc() : memref<8xi1>
    scf.for %arg2 = %c0 to %c4 step %c1 {
      %alloc_1 = memref.alloc() : memref<100xi32>
      linalg.copy ins(%subview : memref<4xf32, strided<[5]>>) outs(%arg1 : memref<4xf32>)
      memref.dealloc %alloc_1 : memref<100xi32>
    }
    %alloc_2 = memref.alloc() : memref<4x5xf32>
    linalg.copy ins(%alloc_2 : memref<4x5xf32>) outs(%alloc_2 : memref<4x5xf32>)
    memref.dealloc %alloc : memref<4x5xf32>
    memref.dealloc %alloc_0 : memref<8xi1>
    memref.dealloc %alloc_2 : memref<4x5xf32>
    return
  }
}
"""


def offsets(text: str) -> list[int]:
    return [int(offset) for offset in re.findall(r"arith.constant (\d+) : index", text)]


def test_buffers_that_live_at_once_are_apart() -> None:
    """%alloc is read in the loop through its view, so it lives as long; %alloc_2 may take its place."""
    text, sizes = without_allocations(FUNCTION, share=True)
    first, second, inside, last = offsets(text)
    assert sizes == {"two": 576}
    assert len({first, second, inside}) == 3 or (second == inside)
    assert not (first <= inside < first + 80) and not (inside <= first < inside + 400)
    assert last in (0, 64, 128, 448, 512) and "memref.alloc" not in text and "memref.dealloc" not in text


def test_buffers_apart_from_all_others() -> None:
    text, sizes = without_allocations(FUNCTION, share=False)
    assert offsets(text) == [0, 128, 192, 640] and sizes == {"two": 768}
    assert "%scratch: memref<768xi8>" in text and text.count("memref.view") == 4


def test_no_scratch_where_nothing_is_allocated() -> None:
    text = "module {\n  func.func @one(%arg0: memref<4xf32>) {\n    return\n  }\n}\n"
    moved, sizes = without_allocations(text, share=True)
    assert sizes == {"one": 0} and "%scratch" not in moved
