# SPDX-License-Identifier: Apache-2.0
"""Published binary networks: each compiles, every binary layer of it to a kernel on bits, and every layer
agrees with the ONNX graph. Narrow ones here, the published widths and images in the slow tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnncc import driver, targets
from bnncc.driver import Options
from bnncc.plan.kernel import BinaryConv
from bnncc.verify import verify_model
from tests.bench.architectures import Architecture, architectures, exported
from tests.bench.memory import measured
from tests.e2e.commands import Shell

torch = pytest.importorskip("torch")

NAMES = sorted(architectures())
LARGE_NAMES = [name for name in NAMES if name not in ("binarynet", "cnv")]


def binary_layers(architecture: Architecture, *, small: bool) -> int:
    """How many the PyTorch network has."""
    from tests.bench.architectures.layers import BinaryConv2d, BinaryLinear

    with torch.device("meta"):
        network = architecture.small() if small else architecture.build()
    return sum(isinstance(module, BinaryConv2d | BinaryLinear) for module in network.modules())


def check(name: str, *, small: bool) -> None:
    """Compile, count, compare."""
    model = exported(name, small=small)
    program = driver.lower_model(model, Options()).program
    on_bits = sum(isinstance(step.kernel.root, BinaryConv) for step in program.steps)
    assert on_bits == binary_layers(architectures()[name], small=small)
    assert program.arena_bytes <= 1.05 * program.arena_lower_bound
    report = verify_model(model, Options(), samples=1)
    assert report.passed, report.render()


@pytest.mark.parametrize("name", NAMES)
def test_a_narrow_network_agrees_layer_by_layer(name: str) -> None:
    check(name, small=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_published_network_agrees_layer_by_layer(name: str) -> None:
    check(name, small=False)


@pytest.mark.parametrize(
    "name", ["binarynet", "cnv", *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE_NAMES)]
)
def test_a_process_needs_little_more_than_weights_and_arena(name: str, tmp_path: Path) -> None:
    """A program that opens the library and runs it grows by these, by code, and by what is left of pages."""
    if name == "cnv" and targets.native().popcount != "vector32":
        pytest.skip("beside 230 KiB of weights and arena, what fits is the code for AVX-512 VPOPCNTDQ")
    artifact = driver.compile_model(exported(name), tmp_path / "out", Options())
    memory = measured(artifact)
    assert memory.weights > 200_000
    assert 1 < memory.share < 1.10


def test_inspect_tells_the_arena_and_its_bound(bnncc: Shell) -> None:
    model = exported("cnv", small=True)
    arena = bnncc.fine("inspect", model, "--json").json["arena"]
    assert arena["lower_bound_bytes"] <= arena["bytes"] <= 1.05 * arena["lower_bound_bytes"]
    assert f"arena: {arena['bytes']:,} bytes; no plan needs less" in bnncc.fine("inspect", model).out


def test_a_real_valued_layer_is_no_binary_one() -> None:
    """The count tells layers apart: the stem and the classifier of a network stay real-valued."""
    model = exported("cnv", small=True)
    steps = driver.lower_model(model, Options()).program.steps
    assert sum(not isinstance(step.kernel.root, BinaryConv) for step in steps) >= 1


def test_a_pool_behind_the_normalisation_costs_no_threshold() -> None:
    """CNV pools what is normalised: signs go in front of the pool and fold into integers there."""
    steps = driver.lower_model(exported("cnv", small=True), Options()).program.steps
    binary = [step.operation for step in steps if isinstance(step.kernel.root, BinaryConv)]
    assert len(binary) > 5 and all("threshold" in operation for operation in binary[:-1])
