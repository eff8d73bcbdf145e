# SPDX-License-Identifier: Apache-2.0
"""Kernels of one's own behind `library_call`: what the commands of docs/mlir.md make, linked with C."""

from __future__ import annotations

import ctypes
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser
from xdsl.universe import Universe

from bnncc.cli import main
from bnncc.codegen.mlir import STACK, ObjectOptions, find_tools
from bnncc.diagnostics import BnnccError
from bnncc.passes.call_library_kernels import CallLibraryKernelsPass
from tests.cases import load_case
from tests.mlir.support import call

PAGE = Path(__file__).resolve().parents[2] / "docs" / "mlir.md"
COMMANDS = re.findall(r"^```bash\n(.*?)\n```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)

KERNEL = """
void {name}(const uint32_t *x, const uint32_t *weights, int32_t *sums)
{{
    ++calls;
    for (int p = 0; p < {height} * {width}; ++p)
        for (int o = 0; o < {outputs}; ++o)
            for (int tap = 0; tap < {rows} * {columns}; ++tap)
                for (int word = 0; word < {words}; ++word) {{
                    int row = p / {width} * {step} + tap / {columns};
                    int column = p % {width} * {step} + tap % {columns};
                    uint32_t pixel = x[(row * {line} + column) * {words} + word];
                    uint32_t weight = weights[(tap * {words} + word) * {outputs} + o];
                    sums[p * {outputs} + o] += __builtin_popcount({negated}(pixel ^ weight));
                }}
}}
"""
NAME = re.compile(
    r"binary_conv2d_1x\d+x(?P<line>\d+)x(?P<words>\d+)_(?P<rows>\d+)x(?P<columns>\d+)x\d+x(?P<outputs>\d+)"
    r"_to_1x(?P<height>\d+)x(?P<width>\d+)x\d+(?:_step(?P<step>\d)x\d)?"
)


def kernels(code: bytes, negated: str = "") -> str:
    """A kernel in C for every name that an object file asks for; negated: "~" for wrong ones."""
    names = sorted(set(re.findall(rb"binary_conv2d_\w+", code)))
    found = [NAME.fullmatch(name.decode()) for name in names]
    assert found and all(found)
    text = "#include <stdint.h>\nint calls;\n"
    for match in filter(None, found):
        shape = match.groupdict() | {"step": match["step"] or "1"}
        text += KERNEL.format(name=match[0], negated=negated, **shape)
    return text


@pytest.fixture(scope="module", params=["digits_bnn_bop_legacy", "larq_quicknet_blocks"])
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def code(case: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An object file in which binary convolutions are calls: what the page's two commands make, by LLVM."""
    folder = tmp_path_factory.mktemp("own")
    model = load_case(case).write_model(folder)
    assert (
        main(["compile", str(model), "--name", "digits", "--emit", "linalg", "-o", str(folder / "out")]) == 0
    )
    tools = folder / "tools"
    tools.mkdir()
    (tools / "mlir-opt").symlink_to(find_tools().mlir_opt)
    path = f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin"
    for command in COMMANDS:
        environment = {"PATH": path, "PYTHONPATH": str(PAGE.parents[1])}
        subprocess.run(["sh", "-c", command], cwd=folder, env=environment, check=True)
    buffers = find_tools().convert((folder / "called.mlir").read_text(), STACK)
    return find_tools().object_code(buffers, ObjectOptions(f"{platform.machine()}-unknown-linux-gnu"))


def run(code: bytes, source: str, case: str, folder: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """What the linked network answers to the first recorded input, what it should, and the calls counted."""
    (folder / "module.o").write_bytes(code)
    (folder / "own.c").write_text(source)
    objects = [str(folder / "own.c"), str(folder / "module.o")]
    subprocess.run(
        ["cc", "-O2", "-shared", "-fPIC", "-o", str(folder / "own.so"), *objects, "-lm"], check=True
    )
    library = ctypes.CDLL(str(folder / "own.so"))
    recorded = load_case(case)
    (given,), (expected,) = recorded.inputs.values(), recorded.outputs.values()
    x, answer = np.ascontiguousarray(given[:1]), np.empty_like(expected[:1])
    call(library.main, [x, answer])
    return answer, expected[:1], ctypes.c_int.in_dll(library, "calls").value


def test_the_network_calls_them(code: bytes, case: str, tmp_path: Path) -> None:
    answer, expected, calls = run(code, kernels(code), case, tmp_path)
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4)
    assert calls >= 3


def test_wrong_kernels_give_wrong_answers(code: bytes, case: str, tmp_path: Path) -> None:
    answer, expected, _ = run(code, kernels(code, "~"), case, tmp_path)
    assert not np.allclose(answer, expected, rtol=1e-4, atol=1e-4)


CONTRACTION = """
func.func @f(%x: memref<1x9x9x2xi32{layout}>, %w: memref<3x3x2x16xi32>, %s: memref<1x{result}x16xi32>) {{
  linalg.generic {{
    indexing_maps = [
      affine_map<(n, y, x, o, r, s, k) -> (n, y * {step} + r * {apart}, x + s * {apart}, k)>,
      affine_map<(n, y, x, o, r, s, k) -> (r, s, k, o)>, affine_map<(n, y, x, o, r, s, k) -> (n, y, x, o)>],
    iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction", "reduction", "reduction"],
    library_call = "binary_conv2d"
  }} ins(%x, %w : memref<1x9x9x2xi32{layout}>, memref<3x3x2x16xi32>) outs(%s : memref<1x{result}x16xi32>) {{
  ^bb0(%a: i32, %b: i32, %c: i32):
    linalg.yield %c : i32
  }} loc("model.onnx:/conv")
  func.return
}}
"""


def contraction(result: str, step: int = 1, apart: int = 1, layout: str = "") -> ModuleOp:
    """A module with one contraction on buffers."""
    context = Context()
    for name, dialect in Universe.get_multiverse().all_dialects.items():
        context.register_dialect(name, dialect)
    text = CONTRACTION.format(result=result, step=step, apart=apart, layout=layout)
    return Parser(context, text).parse_module()


@pytest.mark.parametrize(
    ("result", "step", "apart", "name"),
    [
        ("7x7", 1, 1, "binary_conv2d_1x9x9x2_3x3x2x16_to_1x7x7x16"),
        ("4x7", 2, 1, "binary_conv2d_1x9x9x2_3x3x2x16_to_1x4x7x16_step2x1"),
        ("3x3", 2, 3, "binary_conv2d_1x9x9x2_3x3x2x16_to_1x3x3x16_step2x1_apart3x3"),
    ],
)
def test_the_name_says_what_is_computed(result: str, step: int, apart: int, name: str) -> None:
    module = contraction(result, step, apart)
    CallLibraryKernelsPass(("binary_conv2d",)).apply(Context(), module)
    module.verify()
    text = str(module)
    assert f"func.call @{name}(" in text and f"func.func private @{name}(" in text
    assert "linalg.generic" not in text


def test_only_whole_buffers_are_pointers() -> None:
    module = contraction("7x7", layout=", strided<[200, 20, 2, 1], offset: 22>")
    with pytest.raises(BnnccError, match=r"model\.onnx:/conv: an operand of type .* is a part of a buffer"):
        CallLibraryKernelsPass(("binary_conv2d",)).apply(Context(), module)


def test_a_name_that_no_contraction_has() -> None:
    with pytest.raises(BnnccError, match=r"'binary_conv'[^$]*did you mean 'binary_conv2d'"):
        CallLibraryKernelsPass(("binary_conv",)).apply(Context(), contraction("7x7"))
