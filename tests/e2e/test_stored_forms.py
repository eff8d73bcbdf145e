# SPDX-License-Identifier: Apache-2.0
"""Networks whose bits are stored in another form than the plain one where that pays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bnncc import driver, targets
from bnncc.driver import Options
from bnncc.lowering import Lowered
from bnncc.plan.kernel import BinaryConv
from bnncc.verify import verify_model
from tests.cases import load_case

NETWORKS = {"larq_binarynet_cifar": 2, "larq_quicknet_blocks": 1}
"""How many tensors have the three-word form."""


def _forms(lowered: Lowered) -> int:
    layouts = [output.layout for step in lowered.program.steps for output in step.kernel.outputs]
    return sum(layout.form != "plain" for layout in layouts)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_agrees(name: str, tmp_path: Path):
    if targets.native().popcount != "vector32":
        pytest.skip("this machine has no AVX-512 VPOPCNTDQ")
    case = load_case(name)
    path = case.write_model(tmp_path)
    assert _forms(driver.lower_model(path, Options())) == NETWORKS[name]
    artifact = driver.compile_model(path, tmp_path / "library", Options())
    ports = artifact.manifest["inputs"]
    batch = {port["name"]: case.inputs[port["name"]][: port["shape"][0]] for port in ports}
    report = verify_model(path, Options(), {name: np.asarray(array) for name, array in batch.items()})
    assert report.passed


def test_where_the_plain_form_is_kept(tmp_path: Path):
    """For other processors, and where portable C is made too; not for threads."""
    path = load_case("larq_binarynet_cifar").write_model(tmp_path)
    assert _forms(driver.lower_model(path, Options(target="znver4"))) == 2
    assert _forms(driver.lower_model(path, Options(target="znver4", threads=2))) == 2
    assert _forms(driver.lower_model(path, Options(target="x86-64-v3"))) == 0
    assert _forms(driver.lower_model(path, Options(target="znver4", emit=("c",)))) == 0


def test_residual_connections(tmp_path: Path):
    """Real numbers and bits are written by one layer, of complements only where padding is with ones; what a
    convolution with a stride reads is plain, and what a pool writes."""
    expected = {
        "larq_zoo_birealnet_64px": {(1, "plain"): 1, (1, "three-word"): 12, (2, "plain"): 3},
        "larq_quicknetsmall_full": {(1, "plain"): 4, (1, "three-word complement"): 12},
    }
    for name, forms in expected.items():
        path = load_case(name).write_model(tmp_path)
        steps = driver.lower_model(path, Options(target="znver4")).program.steps
        roots = [step.kernel.root for step in steps if isinstance(step.kernel.root, BinaryConv)]
        assert Counter((root.window.stride_x, root.input.form) for root in roots) == forms
