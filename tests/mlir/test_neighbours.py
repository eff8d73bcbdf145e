# SPDX-License-Identifier: Apache-2.0
"""Other tools read the dialect: xDSL's through the entry point, MLIR's through bnn.irdl.mlir."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.printer import Printer

from bnncc.codegen.mlir import find_tools
from bnncc.dialect.irdl import FILE, LATEST, irdl_text
from bnncc.dialect.operations import Concat
from bnncc.dialect.parsing import make_context, module_text, parse_module
from bnncc.dialect.time import Neuron, Scan
from bnncc.frontend.onnx import load_onnx
from bnncc.passes.assume_sign_zero import AssumeSignZeroPass
from bnncc.passes.pipeline import PIPELINE
from bnncc.universe import PASSES
from tests.cases import load_case
from tests.mlir.support import function, piped
from tests.mlir.test_operations import EXAMPLES

TOOLS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ModuleOp:
    """A network before its last pass, which cuts regions."""
    module = load_onnx(load_case("digits_bnn_bop_legacy").write_model(tmp_path_factory.mktemp("digits")))
    for kind, _ in PIPELINE[:-1]:
        if kind is not AssumeSignZeroPass:
            kind().apply(make_context(), module)
    return module


def generic(module: ModuleOp) -> str:
    """As `bnncc-opt --print-op-generic --print-no-properties` prints it."""
    stream = StringIO()
    Printer(stream, print_generic_format=True, print_properties_as_attributes=True).print_op(module)
    return stream.getvalue()


def test_the_file_that_ships_is_up_to_date() -> None:
    assert FILE.read_text() == irdl_text(), "write it again: python -m bnncc.dialect.irdl"
    assert LATEST.read_text() == irdl_text(latest=True), "write it again: python -m bnncc.dialect.irdl"


def test_mlir_opt_parses_every_operation() -> None:
    """IRDL wants all operands of a group to be of one type, which those of a concat need not be, and has
    another name for the sizes of several groups, which neurons and loops have."""
    functions = [function(name, e.arguments, e.body) for name, e in EXAMPLES.items()]
    module = ModuleOp([f for f in functions if not any(map(is_beyond_irdl, f.walk()))])
    printed = piped([find_tools().mlir_opt, f"--irdl-file={FILE}"], generic(module))
    assert printed.count('"bnn.') == sum(op.name.startswith("bnn.") for op in module.walk())


def test_mlir_opt_keeps_what_a_network_means(digits: ModuleOp) -> None:
    """There and back."""
    printed = piped(
        [find_tools().mlir_opt, f"--irdl-file={FILE}", "--mlir-print-op-generic"], generic(digits)
    )
    assert names(parse_module(printed)) == names(digits)


def is_beyond_irdl(op: Operation) -> bool:
    if isinstance(op, Concat):
        return len({value.type for value in op.inputs}) > 1
    return isinstance(op, Neuron | Scan)


def names(module: ModuleOp) -> list[str]:
    return [op.name for op in module.walk()]


def test_an_operation_that_bnn_does_not_have_is_refused() -> None:
    """Negative control."""
    text = '"builtin.module"() ({ %0 = "bnn.other"() : () -> tensor<1xf32> }) : () -> ()'
    done = subprocess.run(
        [find_tools().mlir_opt, f"--irdl-file={FILE}"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "bnn.other" in done.stderr


def test_xdsl_opt_knows_the_dialect_and_every_pass(digits: ModuleOp) -> None:
    """After `pip install bnncc`, by the entry point."""
    text = module_text(digits)
    passes = ("eliminate-common-subexpressions", "convert-bnn-to-linalg{form=im2col}")
    printed = piped([TOOLS / "xdsl-opt", "-p", ",".join(passes)], text)
    assert (
        "bnn." not in printed.replace("bnn.inputs", "").replace("bnn.outputs", "")
        and "linalg.generic" in printed
    )
    offered = "".join(piped([TOOLS / "xdsl-opt", "--help"]).split())
    assert all(name in offered for name in PASSES)
