# SPDX-License-Identifier: Apache-2.0
"""Hidden layers of networks with spikes and binary weights: bits are counted, no products of floats, as the
emitted code shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bnncc import driver, targets
from bnncc.kernels.build import compile_c, make_kernel
from bnncc.kernels.c_helpers import POPCOUNT
from bnncc.plan.kernel import BinaryConv, KernelSpec, RealConv, SpikeConv
from bnncc.plan.program import Step
from tests import cases

PREFIX = "layer"
NETWORKS = {
    "torch_bsnn_if_T16_legacy": (3, {"spike x bipolar", "u3 x bipolar"}),
    "torch_bann_vgg16_hoyer_cw_binw_where_legacy": (12, {"spike x bipolar"}),
}
"""Case: hidden layers of one time step at least, and their domains."""


def hidden_layers(name: str, folder: Path) -> list[Step]:
    """The contractions but those of the network's input and those that make its output."""
    if not cases.case_names(name):
        pytest.skip(f"no case {name}")
    path = cases.load_case(name).write_model(folder)
    program = driver.lower_model(path, driver.Options(target="c")).program
    roots = (BinaryConv, RealConv, SpikeConv)
    layers = [step for step in program.steps if isinstance(step.kernel.root, roots)]
    return [step for step in layers if step.domains != "f32 x f32" and not step.domains.endswith("x f32")]


def tap_loops(code: str) -> list[str]:
    """The innermost text of every loop over the taps of a window."""
    lines, found = code.split("\n"), []
    for start, line in enumerate(lines):
        if not re.match(r" *for \(int32_t (tap|words?)(_\w+)? = 0;", line):
            continue
        indent = len(line) - len(line.lstrip())
        end = next(i for i in range(start + 1, len(lines)) if lines[i] == " " * indent + "}")
        found.append("\n".join(lines[start:end]))
    return found


def check_counts_bits(spec: KernelSpec) -> None:
    """The C text of a layer sums in integers, and counts bits to do so."""
    target = targets.load("c")
    code = compile_c([make_kernel(spec, target)], PREFIX, target)
    loops = tap_loops(code.partition(f"static void {PREFIX}")[2])
    assert loops and any(POPCOUNT in loop for loop in loops)
    for loop in loops:
        assert "float" not in loop and not re.search(r"\d\.\d|constant\d", loop), loop


@pytest.mark.parametrize("name", NETWORKS)
def test_hidden_layers_count_bits(name: str, tmp_path: Path) -> None:
    count, domains = NETWORKS[name]
    layers = hidden_layers(name, tmp_path)
    assert len(layers) >= count
    assert {step.domains for step in layers} == domains
    for spec in {step.kernel for step in layers}:
        assert isinstance(spec.root, BinaryConv)
        check_counts_bits(spec)


def test_products_of_floats_would_be_seen(tmp_path: Path) -> None:
    """The same look at a layer of real weights finds them."""
    from tests.kernels.contractions import Shape, real_spec

    target = targets.load("c")
    spec = real_spec(Shape((1, 8, 8, 16), 32))
    code = compile_c([make_kernel(spec, target)], PREFIX, target)
    loops = tap_loops(code.partition(f"static void {PREFIX}")[2])
    assert any("float" in loop for loop in loops)
