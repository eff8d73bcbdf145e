# SPDX-License-Identifier: Apache-2.0
"""IREE takes what `--emit linalg` writes as it is: recorded networks give their recorded answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from iree import compiler, runtime
from xdsl.dialects.builtin import ModuleOp

from bnncc.codegen.mlir import find_tools
from bnncc.dialect.irdl import LATEST
from bnncc.dialect.network import INPUTS, OUTPUTS, main_function, names_of
from bnncc.dialect.parsing import module_text
from bnncc.driver import Options, front
from bnncc.linalg.convert import convert_module
from tests.cases import case_names, load_case
from tests.mlir.support import function, parse, piped
from tests.mlir.test_neighbours import generic, is_beyond_irdl
from tests.mlir.test_operations import EXAMPLES

SMALL = ["digits_bnn_bop_legacy", "larq_signzero_exact", "torch_reactnet_block_legacy"]
"""In `make test`."""

OTHERS = sorted(set(case_names("*")) - set(SMALL) - set(case_names("nir_*", "*_step*")))
"""Those whose answers are recorded call by call."""

TOOLS = Path(sys.executable).parent
FLAGS = ("--iree-llvmcpu-target-cpu=host",)


def outputs(text: str, module: ModuleOp, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One call of @main, compiled by IREE for this machine."""
    code = compiler.compile_str(text, target_backends=["llvm-cpu"], extra_args=FLAGS)
    assert code is not None
    loaded: Any = runtime.load_vm_flatbuffer(code, driver="local-sync")
    main = main_function(module)
    got = loaded["main"](*(inputs[name] for name in names_of(main, INPUTS)))
    names = names_of(main, OUTPUTS)
    results = got if len(names) > 1 else [got]
    return {name: np.asarray(result.to_host()) for name, result in zip(names, results, strict=True)}


def check_case(name: str, folder: Path) -> None:
    case = load_case(name).first(1)
    module = front(case.write_model(folder), Options())
    text = module_text(convert_module(module))
    assert case.differences(outputs(text, module, dict(case.inputs))) == []


@pytest.mark.parametrize("name", SMALL)
def test_a_case(name: str, tmp_path: Path) -> None:
    check_case(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_case(name: str, tmp_path: Path) -> None:
    check_case(name, tmp_path)


def test_a_damaged_network_is_found_out(tmp_path: Path) -> None:
    """Negative control: with every xor an or, the answers are others."""
    case = load_case(SMALL[0]).first(1)
    module = front(case.write_model(tmp_path), Options())
    text = module_text(convert_module(module)).replace("arith.xori", "arith.ori")
    assert case.differences(outputs(text, module, dict(case.inputs))) != []


@pytest.mark.parametrize("form", ["direct", pytest.param("im2col", marks=pytest.mark.slow)])
def test_every_operation_goes_through_all_tools(form: str) -> None:
    """What is printed goes through xdsl-opt and mlir-opt and back; iree-opt, of a newer MLIR, verifies it."""
    functions = [function(name, e.arguments, e.body) for name, e in EXAMPLES.items()]
    converted = convert_module(ModuleOp(functions), form)
    text = module_text(converted)
    again = piped([TOOLS / "xdsl-opt", "--print-debuginfo"], text)
    back = piped([find_tools().mlir_opt, "--mlir-print-op-generic", "--verify-each"], again)
    names = [op.name for op in converted.walk()]
    assert [op.name for op in parse(back).walk()] == names
    assert piped([TOOLS / "iree-opt", "--verify-each"], text).count("func.func @") == len(functions)


def test_iree_opt_parses_bnn_in_generic_form() -> None:
    functions = [function(name, e.arguments, e.body) for name, e in EXAMPLES.items()]
    module = ModuleOp([f for f in functions if not any(map(is_beyond_irdl, f.walk()))])
    printed = piped([TOOLS / "iree-opt", f"--irdl-file={LATEST}"], generic(module))
    assert printed.count('"bnn.') == sum(op.name.startswith("bnn.") for op in module.walk())
