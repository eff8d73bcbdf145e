# SPDX-License-Identifier: Apache-2.0
"""What is printed, `bnn` and upstream MLIR, goes through xdsl-opt and mlir-opt and comes back the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp

from bnncc.codegen.mlir import find_tools
from bnncc.dialect.parsing import module_text, parse_module
from bnncc.driver import Options, front
from bnncc.linalg.convert import convert_module
from bnncc.linalg.convolution import FORMS
from tests.cases import case_names, load_case
from tests.mlir.support import parse, piped

HERE = Path(__file__).parent
FILES = sorted((HERE.parent / "filecheck" / "linalg").glob("*.mlir"))
XDSL_OPT = Path(sys.executable).parent / "xdsl-opt"

QUICK = ["digits_bnn_bop_legacy", "torch_bsnn_scan_dynamo", "nir_norse_fc_lifbox"]
OTHERS = sorted(set(case_names("*")) - set(QUICK))

Shape = list[tuple[str, tuple[str, ...]]]


def shape(module: ModuleOp) -> Shape:
    """Every operation, in order: its name and the types of its results."""
    return [(op.name, tuple(str(value.type) for value in op.results)) for op in module.walk()]


def check(module: ModuleOp) -> None:
    """A module of upstream MLIR: each tool reads what the one before it printed."""
    by_xdsl = piped([XDSL_OPT], module_text(module))
    by_mlir = piped([find_tools().mlir_opt, "--mlir-print-op-generic", "--verify-each"], by_xdsl)
    assert shape(parse(by_xdsl)) == shape(module)
    assert shape(parse(by_mlir)) == shape(module)


@pytest.mark.parametrize("form", FORMS)
def test_what_the_filecheck_files_show(form: str) -> None:
    whole = ModuleOp([])
    for path in FILES:
        for op in list(convert_module(parse_module(path.read_text()), form).ops):
            assert isinstance(op, FuncOp)
            op.detach()
            op.sym_name = StringAttr(f"{path.stem}_{op.sym_name.data}".replace("-", "_"))
            whole.body.block.add_op(op)
    check(whole)


def check_case(name: str, folder: Path) -> None:
    case = load_case(name)
    dt = case.meta["dt"] if case.file.endswith(".nir") else None
    module = front(case.write_model(folder), Options(dt=dt))
    assert piped([XDSL_OPT], module_text(module)).count("bnn.") == module_text(module).count("bnn.")
    for form in FORMS:
        check(convert_module(module, form))


@pytest.mark.parametrize("name", QUICK)
def test_a_case(name: str, tmp_path: Path) -> None:
    check_case(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_case(name: str, tmp_path: Path) -> None:
    check_case(name, tmp_path)


def test_a_type_that_changes_on_the_way_is_noticed() -> None:
    """Negative control."""
    text = (HERE.parent / "filecheck" / "linalg" / "unary.mlir").read_text()
    module = convert_module(parse_module(text))
    assert shape(parse(module_text(module).replace("math.sqrt", "math.exp"))) != shape(module)
