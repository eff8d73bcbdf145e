# SPDX-License-Identifier: Apache-2.0
"""What the text of `--emit linalg` carries besides its meaning: locations, names to link, constants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from xdsl.builder import ImplicitBuilder
from xdsl.dialects import arith
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, ModuleOp, i32
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import Block

from bnncc.dialect.sources import location_text
from bnncc.driver import Options, front
from bnncc.linalg import builders
from bnncc.linalg.convert import convert_module
from tests.cases import load_case
from tests.mlir.support import function
from tests.mlir.test_operations import EXAMPLES


@pytest.mark.parametrize("name", ["digits_bnn_bop_legacy", "torch_bsnn_scan_dynamo"])
def test_locations_name_the_nodes(name: str, tmp_path: Path) -> None:
    """Of everything that comes from a node, and only nodes of the file."""
    case = load_case(name)
    path = case.write_model(tmp_path)
    converted = convert_module(front(path, Options()))
    inside = [op for op in converted.walk() if op.name.startswith(("linalg.generic", "arith.", "math."))]
    named = [location_text(op) for op in inside if location_text(op)]
    assert len(named) > 0.9 * len(inside)
    assert all(text.startswith(f"{path.name}:") for text in named)


CALLS = {
    "conv_bipolar_bipolar": "binary_conv2d",
    "conv_bipolar_ternary": "binary_conv2d_masked",
    "conv_u2_bipolar": "binary_conv2d",
    "conv_ternary_bipolar": "ternary_conv2d_masked",
    "conv_spikes_x_i8": "real_conv2d",
    "dense_bipolar": "binary_dense_masked",
    "dense_f32": "real_dense",
    "threshold": "pack_bits",
}


@pytest.mark.parametrize("name", CALLS)
def test_contractions_have_a_name_to_link(name: str) -> None:
    """Inputs, weights, then the sums so far, to which the layer's are added."""
    example = EXAMPLES[name]
    converted = convert_module(ModuleOp([function(name, example.arguments, example.body)]))
    calls = [op for op in converted.walk() if isinstance(op, GenericOp) and op.library_call]
    assert CALLS[name] in {op.library_call.data for op in calls if op.library_call}
    assert all(len(op.outputs) == 1 and op.outputs[0].type == op.res[0].type for op in calls)


def test_constants_are_made_of_their_bytes() -> None:
    """One number after the other would take a second for a million."""
    array = np.random.default_rng(0).integers(-(2**31), 2**31 - 1, (1 << 20,)).astype(np.int32)
    block = Block()
    with ImplicitBuilder(block):
        made = builders.constant(array, i32).owner
    assert isinstance(made, arith.ConstantOp) and isinstance(made.value, DenseIntOrFPElementsAttr)
    assert made.value.data.data == array.tobytes()
