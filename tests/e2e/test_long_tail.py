# SPDX-License-Identifier: Apache-2.0
"""Operators outside the dialect: the library keeps its promises, types and batches work, errors are clear."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bnncc import targets
from bnncc.driver import Options, compile_model, lower_model
from bnncc.kernels.build import ALLOWED_SYMBOLS, make_kernel
from tests import conformance
from tests.e2e.commands import Shell

SAMPLE = (
    "test_and2d",
    "test_bitshift_left_uint8",
    "test_cast_FLOAT_to_DOUBLE",
    "test_constant_pad_axes",
    "test_convinteger_with_padding",
    "test_cumsum_1d",
    "test_depthtospace_example",
    "test_erf",
    "test_gather_negative_indices",
    "test_mod_mixed_sign_float32",
    "test_qlinearconv",
    "test_reflect_pad",
    "test_resize_upsample_scales_nearest",
    "test_scatter_elements_with_axis",
    "test_tan",
    "test_tile",
    "test_top_k",
    "test_where_long_example",
)
"""Of ONNX's node tests: each kind of loops, of types, of mathematical functions."""

TARGETS = [name for name in ("c", "x86-64-v3", "native") if targets.load(name).runs_here()]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SAMPLE)
def test_plain_loops_are_right_on_every_target_and_need_nothing_but_libc(name: str, target: str):
    assert conformance.check(name, target, needs_nothing_but_libc) == []


def needs_nothing_but_libc(library: Path) -> None:
    """No allocation, no threads, nothing of TVM's."""
    command = ["nm", "--dynamic", "--undefined-only", library]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    fields = [line.split() for line in listed.splitlines()]
    names = {name.partition("@")[0] for kind, name in fields if kind == "U"}
    assert names <= ALLOWED_SYMBOLS | {"memmove"}


def save(
    folder: Path,
    nodes: Sequence[NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str],
    **constants: np.ndarray,
) -> Path:
    known = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(nodes, "g", inputs, results, known)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "dtype",
    ["bool", "float16", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"],
)
def test_every_type_of_number_goes_in_and_out(dtype: str, target: str, tmp_path: Path):
    """Turned, joined and gathered by plain loops, between inputs and outputs of that type."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    path = save(
        tmp_path,
        [
            helper.make_node("Gather", ["x", "at"], ["g"], axis=1),
            helper.make_node("Tile", ["g", "twice"], ["y"]),
        ],
        [helper.make_tensor_value_info("x", kind, [3, 5])],
        ["y"],
        at=np.array([4, 0, -2]),
        twice=np.array([1, 2]),
    )
    x = (np.arange(15).reshape(3, 5) % 7 - (3 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)
    artifact = compile_model(path, tmp_path / "out", Options(target=target, emit=("so",)))
    got = artifact.run({"x": x})["y"]
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, np.tile(x[:, [4, 0, -2]], (1, 2)))


def test_batches_of_any_size_pass_through_plain_loops(tmp_path: Path):
    """What was compiled for one sample, or for four, takes seven."""
    path = save(
        tmp_path,
        [
            helper.make_node("CumSum", ["x", "axis"], ["s"]),
            helper.make_node("Mod", ["s", "three"], ["m"], fmod=1),
            helper.make_node("Add", ["m", "x"], ["y"]),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        ["y"],
        axis=np.array(1),
        three=np.array(3, np.float32),
    )
    x = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    expected = np.asarray(onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0])
    for batch in (1, 4):
        options = Options(dims={"n": batch}, emit=("so",))
        artifact = compile_model(path, tmp_path / f"out{batch}", options)
        np.testing.assert_allclose(artifact.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-6)


def test_indices_beyond_a_tensor_read_inside_it(tmp_path: Path):
    """They are the caller's mistake, but no way to other memory."""
    path = save(
        tmp_path,
        [helper.make_node("Gather", ["x", "at"], ["y"])],
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [4]),
            helper.make_tensor_value_info("at", TensorProto.INT64, [3]),
        ],
        ["y"],
    )
    artifact = compile_model(path, tmp_path / "out", Options(emit=("so",)))
    at = np.array([2, 10**12, -(10**12)])
    got = conformance.run_guarded(artifact, {"x": np.arange(4, dtype=np.float32), "at": at})["y"]
    assert got[0] == 2 and set(got) <= {0.0, 1.0, 2.0, 3.0}


@pytest.mark.parametrize("target", ["native", "c"])
def test_rows_of_a_table(target: str, tmp_path: Path, bnncc: Shell):
    """An embedding: rows of a constant by indices that are an input, from the end too, and never beyond it.
    Indices that `verify` draws do not exist: it says what to do."""
    table = np.random.default_rng(1).normal(size=(10, 4)).astype(np.float32)
    path = save(
        tmp_path,
        [helper.make_node("Gather", ["table", "at"], ["y"], name="rows")],
        [helper.make_tensor_value_info("at", TensorProto.INT64, [2, 3])],
        ["y"],
        table=table,
    )
    artifact = compile_model(path, tmp_path / "out", Options(target=target, emit=("so",)))
    at = np.array([[0, 9, -1], [-10, 4, 4]])
    np.testing.assert_array_equal(artifact.run({"at": at})["y"], table[at])
    beyond = conformance.run_guarded(artifact, {"at": at + 10**12})["y"]
    assert {row.tobytes() for row in beyond.reshape(-1, 4)} <= {row.tobytes() for row in table}
    said = bnncc("verify", path, "--target", target)
    assert said.code == 2 and "rows: Gather cannot be evaluated" in said.err and "--input" in said.err


REFUSED = {
    "Resize": (helper.make_node("Resize", ["x", "", "s"], ["y"], name="odd", mode="linear"), "whole sizes"),
    "IsInf": (
        helper.make_node("IsInf", ["x"], ["y"], name="odd", detect_negative=0, detect_positive=0),
        "neither",
    ),
    "Mod": (helper.make_node("Mod", ["x", "x"], ["y"], name="odd"), "sign of the divisor"),
    "Det": (helper.make_node("Det", ["x"], ["y"], name="odd"), "bnncc has no such operator yet"),
    "MaxPool": (
        helper.make_node("MaxPool", ["x"], ["y", "i"], name="odd", kernel_shape=[2, 2]),
        "TVM's importer says: Missing outputs",
    ),
}
"""By operator: a node that nobody gets right, and the reason that the message gives."""


COMPILE_ALL = """
import sys
from bnncc.cli import main
for path in sys.argv[1:]:
    code = main(["compile", path, "-o", path.replace("model.onnx", "out")])
    print(f"exit code {code}", file=sys.stderr, flush=True)
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What is written to stderr for each of REFUSED, the exit code last. In a process of their own, as TVM
    writes where Python does not see it."""
    folders = {operator: tmp_path_factory.mktemp(operator) for operator in REFUSED}
    paths = [
        save(
            folders[operator],
            [odd],
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 5, 5])],
            list(odd.output),
            s=np.array([1, 1, 0.5, 0.5], np.float32),
        )
        for operator, (odd, _) in REFUSED.items()
    ]
    command = [sys.executable, "-c", COMPILE_ALL, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not any((folder / "out").exists() for folder in folders.values())
    answers = re.findall(r"(.*?\nexit code \d+\n)", done.stderr, re.DOTALL)
    assert "".join(answers) == done.stderr
    return {operator: answer.splitlines() for operator, answer in zip(REFUSED, answers, strict=True)}


@pytest.mark.parametrize("operator", REFUSED)
def test_a_node_that_nobody_lowers_ends_in_one_clear_message(operator: str, refusals: dict[str, list[str]]):
    first, second, code = refusals[operator]
    assert first.startswith(f"bnncc: model.onnx:odd: operator {operator} is not supported: ")
    assert REFUSED[operator][1] in first and second.startswith("  hint: ")
    assert code == "exit code 2"


def test_inspect_tells_plain_loops_from_kernels(tmp_path: Path, bnncc: Shell):
    path = save(
        tmp_path,
        [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("ConvInteger", ["q", "w"], ["c"], name="integers"),
            helper.make_node("Cast", ["c"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["f", "r"], ["y"]),
        ],
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 3, 3]),
            helper.make_tensor_value_info("q", TensorProto.UINT8, [1, 2, 5, 5]),
        ],
        ["y"],
        w=np.full((4, 2, 3, 3), 200, np.uint8),
    )
    layers = bnncc.fine("inspect", path, "--json").json["layers"]
    (row,) = [layer for layer in layers if layer["operation"] == "ConvInteger"]
    assert row["node"] == "model.onnx:integers" and row["note"].startswith("plain loops: ")
    assert row["macs"] == 1 * 4 * 3 * 3 * 2 * 3 * 3 and row["domains"] == ""


def test_equal_nodes_share_a_function(tmp_path: Path):
    nodes = [helper.make_node("Tan", ["x"], ["a"]), helper.make_node("Tan", ["a"], ["y"])]
    path = save(tmp_path, nodes, [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5])], ["y"])
    steps = lower_model(path, Options()).program.steps
    specs = {step.kernel for step in steps}
    assert len(steps) == 2 and len(specs) == 1
    assert make_kernel(specs.pop(), targets.load("c")).scratch_bytes == 0
