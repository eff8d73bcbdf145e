# SPDX-License-Identifier: Apache-2.0
"""Spiking networks in the arithmetic of the frameworks, exported from PyTorch in every way that they write
time: each answers as PyTorch does, its spikes exactly.

The whole product is slow; a part of it, in which every neuron and every form of time occurs, always runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

import bnncc
from bnncc import driver
from bnncc.report.inspect import inspect_rows
from tests.idioms.exports import export
from tests.idioms.spiking import NEURONS
from tests.idioms.spiking_networks import FORMS, STEPS, Form, Network, Unrolled, spikes

LEGACY, DYNAMO = False, True

TOLERANCE = 1e-5
"""Of states, as a part of the largest."""


def names(network: Network) -> list[str]:
    """Of the outputs."""
    return ["y", *(f"v{i}" for i in range(len(network.shapes)))]


def answers(form: Form, network: Network, x: torch.Tensor) -> dict[str, np.ndarray]:
    """What PyTorch computes: outputs [T, 1, ...] or their sum, and the last states."""
    with torch.no_grad():
        y, *states = Unrolled(network)(x)
    results = [y.sum(0) if form.sums else y, *states]
    return dict(zip(names(network), (result.numpy() for result in results), strict=True))


def exported(form: Form, network: Network, x: torch.Tensor, path: Path, dynamo: bool, opset: int) -> Path:
    """The file."""
    inputs = form.inputs(network, x)
    module = form.make(network).eval()
    return export(
        module,
        tuple(inputs.values()),
        path,
        dynamo=dynamo,
        opset=opset,
        input_names=list(inputs),
        output_names=names(network),
    )


def run(form: Form, network: Network, x: torch.Tensor, path: Path) -> dict[str, np.ndarray]:
    """The answers of the library, of states the last ones."""
    artifact = bnncc.compile(path, states=form.states(network), output=path.parent / "library")
    given = {"x": x.numpy()}
    if form.counts:
        given["steps"] = np.array(len(x))
    outputs = artifact.run(given)
    return {name: array[-1] if form.is_step and name != "y" else array for name, array in outputs.items()}


def check(name: str, form: str, dynamo: bool, opset: int, folder: Path, layers: str = "dense") -> None:
    """Export, compile, run, compare."""
    network, how = Network(name, layers), FORMS[form]
    x = spikes(network)
    expected = answers(how, network, x)
    got = run(how, network, x, exported(how, network, x, folder / "network.onnx", dynamo, opset))
    if NEURONS[name].fires:
        rate = float(expected["y"].mean()) / (STEPS if how.sums else 1)
        assert 0.02 < rate < (20 if "iaf" in name else 0.98), "a network that says something"
        np.testing.assert_array_equal(got["y"], expected["y"])
    for output, array in expected.items():
        np.testing.assert_allclose(got[output], array, rtol=0, atol=TOLERANCE * max(1.0, np.abs(array).max()))


def ways(form: str) -> list[tuple[bool, int]]:
    """Exporters and operator sets that write a form."""
    how = FORMS[form]
    return [*((LEGACY, opset) for opset in how.legacy), *((DYNAMO, opset) for opset in how.dynamo)]


def identity(name: str, form: str, dynamo: bool, opset: int) -> str:
    """The name of a test."""
    return f"{name}-{form}-{'dynamo' if dynamo else 'legacy'}{opset}"


def rotated() -> list[tuple[str, str, bool, int]]:
    """Every neuron once by the older exporter, which is quick, all forms and operator sets in turn."""
    forms = [form for form in FORMS if FORMS[form].legacy]
    chosen = []
    for number, name in enumerate(NEURONS):
        form = forms[number % len(forms)]
        opsets = FORMS[form].legacy
        chosen.append((name, form, LEGACY, opsets[number // len(forms) % len(opsets)]))
    return chosen


ALWAYS = [
    *rotated(),
    ("snntorch_leaky", "unrolled", DYNAMO, 20),
    ("norse_lif", "scan", DYNAMO, 18),
    ("snntorch_rleaky", "while", DYNAMO, 23),
    ("snntorch_rleaky", "loop_counted", LEGACY, 11),
]
"""What is compiled in every run."""

EVERY = [
    (name, form, dynamo, opset)
    for number, name in enumerate(NEURONS)
    for form in FORMS
    for place, (dynamo, opset) in enumerate(ways(form))
    if name in ("snntorch_leaky", "spikingjelly_lif") or place % 4 == number % 4 or place == 5
]
"""Two neurons in every form, exporter and operator set; the others in every form, by a part of these."""


@pytest.mark.parametrize(
    ("name", "form", "dynamo", "opset"), [pytest.param(*way, id=identity(*way)) for way in ALWAYS]
)
def test_an_export(name: str, form: str, dynamo: bool, opset: int, tmp_path: Path) -> None:
    check(name, form, dynamo, opset, tmp_path)


@pytest.mark.parametrize("name", [name for name, idiom in NEURONS.items() if idiom.called])
def test_inspect_says_which_neuron_it_is(name: str, tmp_path: Path) -> None:
    network, form = Network(name), FORMS["step"]
    path = exported(form, network, spikes(network), tmp_path / "step.onnx", LEGACY, 17)
    rows = inspect_rows(driver.lower_model(path, driver.Options(states=form.states(network))).program)
    named = " + ".join(row.operation for row in rows)
    assert NEURONS[name].called in named, named


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form", "dynamo", "opset"),
    [pytest.param(*way, id=identity(*way)) for way in EVERY if way not in ALWAYS],
)
def test_every_export_of_every_neuron(name: str, form: str, dynamo: bool, opset: int, tmp_path: Path) -> None:
    check(name, form, dynamo, opset, tmp_path)


IMAGES = [name for name, idiom in NEURONS.items() if not idiom.is_dense]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["step", "unrolled", "folded", "loop"])
@pytest.mark.parametrize("name", IMAGES)
def test_images(name: str, form: str, tmp_path: Path) -> None:
    """A convolution, an average of spikes, a classifier."""
    check(name, form, LEGACY, 17, tmp_path, "conv")


@pytest.mark.parametrize(
    ("form", "dynamo", "opset"),
    [
        ("step", LEGACY, 9),
        ("folded", LEGACY, 17),
        pytest.param("unrolled", LEGACY, 13, marks=pytest.mark.slow),
        pytest.param("unrolled", DYNAMO, 23, marks=pytest.mark.slow),
        pytest.param("folded", DYNAMO, 20, marks=pytest.mark.slow),
        pytest.param("scan", DYNAMO, 20, marks=pytest.mark.slow),
        pytest.param("loop", LEGACY, 20, marks=pytest.mark.slow),
    ],
)
def test_binary_weights(form: str, dynamo: bool, opset: int, tmp_path: Path) -> None:
    """B-SNN: weights of one magnitude for each output, integrate and fire."""
    check("spikingjelly_if_soft", form, dynamo, opset, tmp_path, "binary")
