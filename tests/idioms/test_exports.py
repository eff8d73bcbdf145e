# SPDX-License-Identifier: Apache-2.0
"""Networks in the idioms of the literature, exported from PyTorch in every way: each is compiled, answers as
PyTorch does, and has every layer that is meant binary on bit kernels.

The whole product of networks, exporters, operator sets and widths is slow; a part of it always runs, and of
the activations all: those that dynamo exports stop before kernels are made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

from xdsl.dialects.builtin import ModuleOp

import bnncc
from bnncc.dialect import operations as ops
from bnncc.frontend.onnx import load_onnx
from bnncc.lowering import lower
from bnncc.passes.pipeline import run_pipeline
from bnncc.reference import evaluate
from bnncc.report.inspect import Row, inspect_rows, is_binary
from tests.idioms.activations import BIPOLAR, UNIPOLAR, Activation
from tests.idioms.exports import export
from tests.idioms.networks import EXAMPLES, SIZE, Act, make_network

LEGACY, DYNAMO = False, True

WIDTH = 20
"""Channels: no multiple of a word."""

LIMIT = 1e-4
"""Of the difference, as a part of the largest output: real layers sum in another order."""


def image(samples: int = 1) -> torch.Tensor:
    """Inputs [n, 3, SIZE, SIZE]."""
    return torch.randn(samples, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def expected(network: torch.nn.Module, x: torch.Tensor) -> np.ndarray:
    """PyTorch's answer."""
    with torch.no_grad():
        return network(x).numpy()


def imported(path: Path) -> ModuleOp:
    """The module after all passes."""
    module = load_onnx(path)
    run_pipeline(module)
    return module


def rows_of(module: ModuleOp) -> list[Row]:
    """What inspect shows."""
    return inspect_rows(lower(module, "network").program)


def check_close(got: np.ndarray, wanted: np.ndarray) -> None:
    """Equal but for the order of real sums."""
    np.testing.assert_allclose(got, wanted, rtol=0, atol=LIMIT * float(np.abs(wanted).max()))


def check_binary(rows: list[Row], name: str) -> None:
    """Every layer meant binary is, and no other."""
    assert sum(map(is_binary, rows)) == EXAMPLES[name].binary, rows
    assert not any("plain loops" in row.note for row in rows), rows


def check_network(name: str, folder: Path, width: int, dynamo: bool, opset: int) -> None:
    """Export, compile, run, compare; and look at the layers."""
    network, x = make_network(name, width), image()
    path = export(network, x, folder / "network.onnx", dynamo=dynamo, opset=opset)
    check_binary(rows_of(imported(path)), name)
    check_close(bnncc.compile(path).run({"x": x.numpy()})["y"], expected(network, x))


class Layer(torch.nn.Module):
    """A real layer, an activation, a binary layer."""

    def __init__(self, activation: torch.nn.Module):
        super().__init__()
        torch.manual_seed(3)
        self.stem = torch.nn.Conv2d(3, WIDTH, 3)
        self.activation = activation
        self.weight = torch.nn.Parameter(torch.sign(torch.randn(7, WIDTH, 3, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One after the other."""
        return torch.nn.functional.conv2d(self.activation(self.stem(x)), self.weight, padding=1)


ALWAYS = (
    ("reactnet", LEGACY, 17),
    ("xnornet", LEGACY, 9),
    ("irnet", LEGACY, 11),
    ("adabin", LEGACY, 20),
    ("upsampled_odd", LEGACY, 11),
    ("perceptron", LEGACY, 13),
    ("tokens", LEGACY, 17),
    ("bireal", DYNAMO, 18),
    ("bitorch", DYNAMO, 20),
)
"""What is compiled in every run: network, exporter, operator set."""

SINCE_11 = ("irnet", "binaryconnect", "dorefa_unipolar", "hoyer_in_place")
"""Networks that round, or assign by a mask."""


@pytest.mark.parametrize(("name", "dynamo", "opset"), ALWAYS)
def test_a_network_compiles(name: str, dynamo: bool, opset: int, tmp_path: Path) -> None:
    check_network(name, tmp_path, WIDTH, dynamo, opset)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_layer_meant_binary_is(name: str, tmp_path: Path) -> None:
    network, x = make_network(name, WIDTH), image()
    module = imported(export(network, x, tmp_path / "network.onnx", dynamo=LEGACY, opset=17))
    check_close(evaluate(module, {"x": x.numpy()})["y"], expected(network, x))
    check_binary(rows_of(module), name)


def module_of_layer(activation: Activation, dynamo: bool, folder: Path) -> ModuleOp:
    """A real layer, the activation, a binary layer: exported, through all passes, and it answers rightly."""
    network, x = Layer(Act(activation)).eval(), image()
    opset = 18 if dynamo else 17
    module = imported(export(network, x, folder / "layer.onnx", dynamo=dynamo, opset=opset))
    check_close(evaluate(module, {"x": x.numpy()})["y"], expected(network, x))
    return module


BOTH_EXPORTERS = pytest.mark.parametrize(
    "dynamo", [LEGACY, pytest.param(DYNAMO, marks=pytest.mark.slow)], ids=["legacy", "dynamo"]
)


@BOTH_EXPORTERS
@pytest.mark.parametrize("name", BIPOLAR)
def test_every_activation_is_recognised(name: str, dynamo: bool, tmp_path: Path) -> None:
    module = module_of_layer(BIPOLAR[name], dynamo, tmp_path)
    assert [is_binary(row) for row in rows_of(module) if row.macs] == [False, True]


@BOTH_EXPORTERS
@pytest.mark.parametrize("name", UNIPOLAR)
def test_activations_of_0_and_1_are_one_comparison(name: str, dynamo: bool, tmp_path: Path) -> None:
    module = module_of_layer(UNIPOLAR[name], dynamo, tmp_path)
    assert [is_binary(row) for row in rows_of(module) if row.macs] == [False, True]
    kinds = [type(op) for op in module.walk()]
    assert kinds.count(ops.Compare) == 1
    assert not {ops.Clip, ops.Round, ops.Select, ops.Binarize} & set(kinds)


def test_assignments_of_the_new_exporter_are_recognised(tmp_path: Path) -> None:
    test_every_activation_is_recognised("in_place", DYNAMO, tmp_path)
    test_activations_of_0_and_1_are_one_comparison("hoyer_in_place", DYNAMO, tmp_path)


@pytest.mark.parametrize("dynamo", [LEGACY, DYNAMO])
def test_the_batch_may_be_a_symbol(dynamo: bool, tmp_path: Path) -> None:
    network, x = make_network("binarynet", WIDTH), image(3)
    path = export(network, x, tmp_path / "network.onnx", dynamo=dynamo, opset=18, dynamic=True)
    artifact = bnncc.compile(path, dims={"n" if dynamo is LEGACY else "batch": 3})
    check_close(artifact.run({"x": x.numpy()})["y"], expected(network, x))


@pytest.mark.slow
@pytest.mark.parametrize("width", [12, 34, 64])
@pytest.mark.parametrize(
    ("dynamo", "opset"),
    [*((LEGACY, opset) for opset in (9, 11, 13, 17, 20)), *((DYNAMO, opset) for opset in (18, 20, 23))],
)
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_export_of_every_network(
    name: str, dynamo: bool, opset: int, width: int, tmp_path: Path
) -> None:
    if opset < 11 and name in SINCE_11:
        pytest.skip("PyTorch exports it from operator set 11 on")
    check_network(name, tmp_path, width, dynamo, opset)
