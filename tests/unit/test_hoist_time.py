# SPDX-License-Identifier: Apache-2.0
"""Networks layer by layer over all steps: the same bits as step by step, in the reference and compiled."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp

import bnncc
from bnncc.checking.comparison import Comparison
from bnncc.dialect import operations as ops
from bnncc.dialect.network import decisions_of, main_function
from bnncc.dialect.parsing import make_context
from bnncc.dialect.time import Scan, is_recurrence
from bnncc.dialect.types import shape_of
from bnncc.driver import Options, lower_model
from bnncc.frontend.evaluate import ModelEvaluator
from bnncc.frontend.onnx import load_onnx
from bnncc.passes.assume_sign_zero import AssumeSignZeroPass
from bnncc.passes.hoist_time import HoistTimePass
from bnncc.passes.pipeline import PIPELINE, run_pipeline
from bnncc.plan.kernel import Opaque, RealConv, SpikeConv
from bnncc.reference import evaluate
from tests.cases import load_case
from tests.models import write
from tests.spiking_networks import NEURONS, SpikingNetwork

SEEDS = range(60)


def fused(path: Path, layer_by_layer: bool) -> ModuleOp:
    """The module of a model, after all passes."""
    module = load_onnx(path)
    run_pipeline(module, layer_by_layer=layer_by_layer)
    return module


def sequence(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Spikes of 0 and 1, float32."""
    return (np.random.default_rng(seed).random(shape) < 0.4).astype(np.float32)


def loops(module: ModuleOp) -> list[Scan]:
    """The loops that stand by themselves."""
    return [op for op in main_function(module).body.block.ops if isinstance(op, Scan)]


@cache
def by_layers(seed: int) -> tuple[bool, dict[str, np.ndarray]]:
    """Whether a network is computed layer by layer, where that is wanted, and what it answers then."""
    network = SpikingNetwork(seed)
    with TemporaryDirectory() as folder:
        module = fused(write(Path(folder), network.model()), True)
    x = sequence((network.steps, *network.image), seed)
    return "time" in decisions_of(main_function(module)), evaluate(module, {"x": x})


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_give_the_same_bits(seed: int, tmp_path: Path) -> None:
    network = SpikingNetwork(seed)
    path = write(tmp_path, network.model())
    x = sequence((network.steps, *network.image), seed)
    _, got = by_layers(seed)
    for name, array in evaluate(fused(path, False), {"x": x}).items():
        np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize("layer_by_layer", [False, True])
@pytest.mark.parametrize("seed", [1, 11, 23, 37])
def test_every_step_is_called_what_the_file_calls_it(seed: int, layer_by_layer: bool, tmp_path: Path) -> None:
    """A simplified first step has no sum of the membrane before it: its membrane is the current."""
    network = SpikingNetwork(seed)
    assert network.is_simplified
    path = write(tmp_path, network.model())
    (batch,) = network.batches(1, (network.steps, *network.image))
    rows = Comparison(fused(path, layer_by_layer), ModelEvaluator(path), batch, batch).rows()
    assert rows and not [row for row in rows if row.differing]


def test_random_networks_are_of_every_kind() -> None:
    """Most are hoisted; those whose layers hear later ones are not, at least not whole."""
    kinds = {neuron for seed in SEEDS for _, _, neuron, _ in SpikingNetwork(seed).plan}
    found = [by_layers(seed) for seed in SEEDS]
    hoisted = sum(is_hoisted for is_hoisted, _ in found)
    active = sum(any(0.02 < array.mean() < 0.98 for array in answers.values()) for _, answers in found)
    assert kinds == set(NEURONS)
    assert hoisted > len(SEEDS) * 0.6 and active > len(SEEDS) * 0.3, (hoisted, active)


def network_of(*plan: tuple[str, str, str, int], collects: str = "spikes", simplified: bool = True):
    """A network of given layers."""
    network = SpikingNetwork(0)
    network.plan, network.collects, network.is_simplified = list(plan), collects, simplified
    return network


@pytest.mark.parametrize("collects", ["spikes", "twice", "membrane", "last", "sum"])
@pytest.mark.parametrize("simplified", [True, False])
def test_layers_without_feedback_leave_no_loop(collects: str, simplified: bool, tmp_path: Path) -> None:
    network = network_of(
        ("conv", "average", "delayed", 4),
        ("padded", "maximum", "delayed", 3),
        ("dense", "none", "delayed", 4),
        collects=collects,
        simplified=simplified,
    )
    module = fused(write(tmp_path, network.model()), True)
    assert loops(module) == []
    inside = [op for op in module.walk() if is_recurrence(op)]
    assert len(inside) >= 3
    batches = [shape_of(op.input)[0] for op in module.walk() if isinstance(op, ops.Conv2d)]
    whole = collects in (
        "spikes",
        "twice",
        "last",
    )  # of others the first and the last step compute something else
    assert set(batches) == {network.steps} if whole else max(batches) >= network.steps - 2


def test_a_layer_that_hears_a_later_one_stays_in_a_loop_with_it(tmp_path: Path) -> None:
    network = network_of(
        ("conv", "none", "delayed", 4), ("padded", "none", "hears next", 4), ("padded", "none", "delayed", 3)
    )
    path = write(tmp_path, network.model())
    module = fused(path, True)
    assert loops(module), "what hears a later layer is a loop"
    reason = decisions_of(main_function(module))["step by step"]
    assert "Conv" in reason and reason.endswith("it hears what it caused in the step before")
    one_step = decisions_of(main_function(fused(path, False)))["step by step"]
    assert one_step.startswith("all layers of a loop, in the memory of one step")
    x = sequence((network.steps, *network.image), 3)
    for name, array in evaluate(fused(path, False), {"x": x}).items():
        np.testing.assert_array_equal(evaluate(module, {"x": x})[name], array)


def test_more_than_memory_holds_is_not_hoisted(tmp_path: Path) -> None:
    network = network_of(("conv", "average", "delayed", 4), ("dense", "none", "delayed", 4))
    module = load_onnx(write(tmp_path, network.model()))
    for kind, _ in PIPELINE:
        instance = HoistTimePass(memory=6 * 4 * 36 * 4) if kind is HoistTimePass else kind()
        if kind is not AssumeSignZeroPass:
            instance.apply(make_context(), module)
    assert len(loops(module)) == 1
    assert "more than caches hold" in decisions_of(main_function(module))["step by step"]


def test_the_first_step_is_one_of_the_loop(tmp_path: Path) -> None:
    """Whether the exporter simplified it or not, the same operations are left."""
    counts = []
    for simplified in (True, False):
        network = network_of(("conv", "average", "delayed", 4), ("dense", "none", "delayed", 4))
        network.is_simplified = simplified
        module = fused(write(tmp_path, network.model()), True)
        counts.append(sum(isinstance(op, ops.CONTRACTIONS) for op in module.walk()))
    assert counts == [2, 2]


def test_pools_that_drop_rows_shrink_what_comes_before(tmp_path: Path) -> None:
    network = network_of(("conv", "average", "delayed", 4), ("dense", "none", "delayed", 4))
    network.image = (1, 1, 9, 9)  # 7x7 after the convolution, of which the pool reads 6x6
    module = fused(write(tmp_path, network.model()), True)
    first = next(op for op in module.walk() if isinstance(op, ops.Conv2d))
    assert shape_of(first.result) == (6, 6, 6, 4)


def test_inputs_that_are_spikes_are_looked_up_and_others_multiplied(tmp_path: Path) -> None:
    network = network_of(("conv", "average", "delayed", 4), ("dense", "none", "delayed", 4))
    path = write(tmp_path, network.model())
    lowered = lower_model(path, Options(target="x86-64-v3"))
    (step,) = [step for step in lowered.program.steps if step.when_zero]
    assert isinstance(step.kernel.root, SpikeConv) and step.when_zero
    assert isinstance(step.when_zero.kernel.root, RealConv)
    artifact = bnncc.compile(path, output=tmp_path / "library")
    module = fused(path, False)
    x = sequence((network.steps, *network.image), 5)
    almost = x.copy()
    almost[-1, 0, 0, -1, 0] = 0.5
    for given in (x, almost, -x, x * np.float32(3)):
        for name, array in evaluate(module, {"x": given}).items():
            np.testing.assert_array_equal(artifact.run({"x": given})[name], array)


def test_the_recorded_network_is_three_layers_with_one_state_each(tmp_path: Path) -> None:
    """Nothing is left of its first step, its last one, or the spikes that it carries beside membranes."""
    case = load_case("bench_snn_conv_unrolled_T20")
    steps = lower_model(case.write_model(tmp_path), Options(target="x86-64-v3")).program.steps
    assert not any(isinstance(step.kernel.root, Opaque) for step in steps)
    recurrent = [step.kernel for step in steps if step.kernel.is_recurrent]
    assert [len(kernel.in_place) for kernel in recurrent] == [1, 1, 1]
    assert {kernel.shape[0] for kernel in recurrent} == {20} and len(steps) <= 11


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_compiled_networks_give_the_same_bits(seed: int, tmp_path: Path) -> None:
    network = SpikingNetwork(seed)
    path = write(tmp_path, network.model())
    x = sequence((network.steps, *network.image), seed)
    artifact = bnncc.compile(path, output=tmp_path / "library")
    for name, array in evaluate(fused(path, False), {"x": x}).items():
        np.testing.assert_array_equal(artifact.run({"x": x})[name], array)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 24))
def test_more_compiled_networks_give_the_same_bits(seed: int, tmp_path: Path) -> None:
    test_compiled_networks_give_the_same_bits(seed, tmp_path)


def test_microcontrollers_run_step_by_step(tmp_path: Path) -> None:
    """Their arena holds one step of every layer, whatever their number."""
    sizes = []
    for steps in (6, 12):
        network = SpikingNetwork(0, steps)
        network.plan = [("conv", "average", "delayed", 4), ("dense", "none", "delayed", 4)]
        network.collects = "last"
        path = write(tmp_path, network.model())
        plans = [lower_model(path, Options(target=target)).program for target in ("cortex-m4", "x86-64-v3")]
        assert plans[0].loops and not plans[1].loops
        sizes.append([plan.arena_bytes for plan in plans])
    assert sizes[0][0] == sizes[1][0] < sizes[0][1] < sizes[1][1]
