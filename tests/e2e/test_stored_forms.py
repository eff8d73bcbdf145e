# SPDX-License-Identifier: Apache-2.0
"""Networks whose bits are stored in another form than the plain one where that pays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bnncc import driver, targets
from bnncc.driver import Options
from bnncc.lowering import Lowered, stored_forms
from bnncc.verify import verify_model
from tests.cases import load_case

NETWORKS = {"larq_binarynet_cifar": 2}
"""How many tensors have the three-word form where any number of channels may have it."""


def _forms(lowered: Lowered) -> int:
    layouts = [output.layout for step in lowered.program.steps for output in step.kernel.outputs]
    return sum(layout.form == "three-word" for layout in layouts)


@pytest.fixture
def any_channels(monkeypatch: pytest.MonkeyPatch):
    """These networks are narrow."""
    monkeypatch.setattr(stored_forms, "LEAST_CHANNELS", 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_agrees(name: str, tmp_path: Path, any_channels: None):
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


def test_where_the_plain_form_is_kept(tmp_path: Path, any_channels: None, monkeypatch: pytest.MonkeyPatch):
    """For other processors, where portable C is made too, and for few channels; not for threads."""
    path = load_case("larq_binarynet_cifar").write_model(tmp_path)
    assert _forms(driver.lower_model(path, Options(target="znver4"))) == 2
    assert _forms(driver.lower_model(path, Options(target="znver4", threads=2))) == 2
    assert _forms(driver.lower_model(path, Options(target="x86-64-v3"))) == 0
    assert _forms(driver.lower_model(path, Options(target="znver4", emit=("c",)))) == 0
    monkeypatch.setattr(stored_forms, "LEAST_CHANNELS", 10_000)
    assert _forms(driver.lower_model(path, Options(target="znver4"))) == 0


def test_a_reader_that_cannot_have_it_keeps_the_plain_form(tmp_path: Path):
    """Residual connections end in real numbers, and their bits are plain."""
    path = load_case("larq_zoo_birealnet_64px").write_model(tmp_path)
    assert _forms(driver.lower_model(path, Options(target="znver4"))) == 0
