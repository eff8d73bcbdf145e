# SPDX-License-Identifier: Apache-2.0
"""Whole networks in upstream MLIR, compiled by LLVM: the answers that the frameworks recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp

from bnncc.dialect.network import INPUTS, OUTPUTS, main_function, names_of
from bnncc.frontend.onnx import load_onnx
from bnncc.passes.pipeline import run_pipeline
from tests.cases import case_names, load_case
from tests.mlir.support import Compiled


def network(path: Path) -> ModuleOp:
    """As `--emit linalg` sees it."""
    module = load_onnx(path)
    run_pipeline(module)
    return module


def outputs(module: ModuleOp, compiled: Compiled, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    main = main_function(module)
    got = compiled.run("main", [inputs[name] for name in names_of(main, INPUTS)])
    return dict(zip(names_of(main, OUTPUTS), got, strict=True))


SMALL = """brevitas_tfc_1w2a_qonnx_legacy digits_bnn_bop_legacy larq_bireal_block_stesign_onepad
larq_signzero_exact torch_binarize_idioms_zeros_legacy torch_reactnet_block_legacy
torch_reactnet_block_ste_dynamo torch_signzero_trap_legacy torch_xnornet_kmap_legacy""".split()
"""Cases whose loops, as LLVM leaves them, take no time to speak of."""

LARGE = sorted(set(case_names("digits_bnn_*", "brevitas_*", "larq_*", "torch_*")) - set(SMALL))


def check_case(name: str, folder: Path) -> None:
    """The recorded answers of the first samples, two at most, within their tolerance."""
    case = load_case(name).first(2)
    module = network(case.write_model(folder))
    compiled = Compiled(module, folder)
    samples = [
        outputs(module, compiled, {name: x[i : i + 1] for name, x in case.inputs.items()})
        for i in range(min(2, *map(len, case.inputs.values())))
    ]
    got = {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}
    assert case.differences(got) == []


@pytest.mark.parametrize("name", SMALL)
def test_a_case(name: str, tmp_path: Path) -> None:
    check_case(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_every_case(name: str, tmp_path: Path) -> None:
    check_case(name, tmp_path)
