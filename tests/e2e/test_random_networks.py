# SPDX-License-Identifier: Apache-2.0
"""Random binary and spiking networks, bit for bit; `python -m tests.random_networks` runs more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from bnncc import driver
from bnncc.lowering import Lowered
from bnncc.plan import arena
from bnncc.plan.kernel import BinaryConv
from tests.memory import memory_problems
from tests.models import make_model, write
from tests.random_networks import TARGETS, Generator, Outcome, check, draw
from tests.spiking_networks import SpikingNetwork

CHUNK = 5
COUNT = 100

KINDS = frozenset(
    """Add AveragePool BatchNormalization BipolarQuant Cast Clip Concat Conv Div Flatten Gather Gemm
    GlobalAveragePool Greater GreaterOrEqual LeakyRelu Less LessOrEqual MatMul MaxPool Mul PRelu Pad Quant
    Relu Reshape Round Sign Slice Sub Transpose Where
    """.split()
)


def failures(outcome: Outcome) -> str:
    """What is wrong with one network, or ""."""
    return "\n".join((*outcome.problems, *([outcome.refused] if outcome.refused else ())))


def quick_targets(seed: int) -> tuple[str, ...]:
    """Of the networks of most seeds the roads of TVM and LLVM compare what they compute on this machine."""
    other = TARGETS[1 + seed % 2]
    return (TARGETS[0], other) if isinstance(draw(seed), SpikingNetwork) else (other,)


@pytest.mark.parametrize("first", range(0, COUNT, CHUNK))
def test_random_networks_compute_what_their_graphs_say(first: int) -> None:
    """For one of the other targets in turn, and for this machine where `tests.mlir.roads` draws a spiking
    network of the seed; the slow tests have all of them."""
    outcomes = [check(seed, quick_targets(seed)) for seed in range(first, first + CHUNK)]
    assert not any(failures(outcome) for outcome in outcomes), "\n".join(map(str, outcomes))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 3000, 100))
def test_many_more(first: int) -> None:
    outcomes = [check(seed) for seed in range(first, first + 100)]
    assert not any(failures(outcome) for outcome in outcomes), "\n".join(map(str, outcomes))


SPIKING = [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 200))]
"""Seeds of spiking networks."""


@pytest.mark.parametrize("seed", SPIKING)
def test_random_spiking_networks_do_too(seed: int) -> None:
    """For one of the targets in turn, some of which run step by step and some layer by layer."""
    outcome = check(seed, (TARGETS[-1 - seed % 2],), kind=SpikingNetwork)
    assert outcome.exact and not failures(outcome), outcome


def test_the_networks_differ_enough() -> None:
    """Every kind of layer, several outputs, values with several readers, images and vectors."""
    models = [Generator(seed).model() for seed in range(COUNT)]
    assert {node.op_type for model in models for node in model.graph.node} >= KINDS
    assert sum(len(model.graph.output) > 1 for model in models) > COUNT // 5
    convolutions = [node for model in models for node in model.graph.node if node.op_type == "Conv"]
    drawn = [{a.name: a for a in node.attribute} for node in convolutions]
    full = [attributes for attributes in drawn if "pads" in attributes]
    assert any(a["group"].i > 1 for a in full)
    assert any(max(a["strides"].ints) > 1 for a in full)
    assert any(max(a["dilations"].ints) > 1 for a in full)
    assert any(a["pads"].ints[:2] != a["pads"].ints[2:] for a in full)


def test_most_networks_have_nothing_to_round() -> None:
    assert sum(check(seed, targets=()).exact for seed in range(40)) > 20


def damaged(lowered: Lowered) -> Lowered:
    """One weight of the first binary layer negated."""
    steps = list(lowered.program.steps)
    index = next(i for i, step in enumerate(steps) if isinstance(step.kernel.root, BinaryConv))
    weight = steps[index].constants[0].copy()
    nonzero = tuple(np.argwhere(weight)[0])
    weight[nonzero] *= -1
    steps[index] = replace(steps[index], constants=(weight, *steps[index].constants[1:]))
    return replace(lowered, program=replace(lowered.program, steps=tuple(steps)))


def test_a_wrong_weight_is_found_on_every_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control. Each target has a plan of its own."""
    honest, planned = driver.lower_model, []

    def lower(path: Path, options: driver.Options) -> Lowered:
        planned.append(options.target)
        return damaged(honest(path, options))

    monkeypatch.setattr(driver, "lower_model", lower)
    problems = "\n".join(check(0).problems)
    for target in TARGETS:
        assert f"{target}:\n" in problems
    assert tuple(planned) == TARGETS


# --- memory ----------------------------------------------------------------------------------------------


def lowered_network(seed: int, folder: Path) -> Lowered:
    path = folder / "network.onnx"
    path.write_bytes(Generator(seed).model().SerializeToString())
    return driver.lower_model(path, driver.Options())


def test_overlapping_buffers_are_noticed(tmp_path: Path) -> None:
    """Negative control: everything at offset 0."""
    programs = [lowered_network(seed, tmp_path).program for seed in range(20)]
    crowded = [p for p in programs if len(p.offsets) > 2]
    assert crowded
    for program in crowded:
        assert not list(memory_problems(program))
        squeezed = replace(program, offsets=dict.fromkeys(program.offsets, 0))
        assert any("which" in problem for problem in memory_problems(squeezed)), program.steps


def test_what_a_trip_of_a_loop_leaves_to_the_next_must_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: states that a loop over time carries said to be needed in one trip only."""
    path = write(tmp_path, SpikingNetwork(4).model())
    for is_careless in (False, True):
        if is_careless:
            monkeypatch.setattr(arena, "carried", lambda *_: set())
        program = driver.lower_model(path, driver.Options(target="c")).program
        assert program.loops and bool(list(memory_problems(program))) is is_careless


def test_memory_shared_with_what_a_window_reads_is_noticed(tmp_path: Path) -> None:
    """Negative control: a binary layer said to be in place on its own input."""
    nodes = [
        helper.make_node("Sign", ["x"], ["s"]),
        helper.make_node("Conv", ["s", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "x"], ["y"]),
    ]
    model = make_model(nodes, {"x": [1, 8, 4, 4]}, ["y"], {"w": np.ones((8, 8, 3, 3), np.float32)})
    program = driver.lower_model(write(tmp_path, model), driver.Options()).program
    index, step = next((i, s) for i, s in enumerate(program.steps) if isinstance(s.kernel.root, BinaryConv))
    assert len(step.reads) == 2 and not list(memory_problems(program))
    shared = replace(step, kernel=replace(step.kernel, in_place=((0, 0),)), reads=(step.reads[0],) * 2)
    steps = (*program.steps[:index], shared, *program.steps[index + 1 :])
    assert any("through its window" in text for text in memory_problems(replace(program, steps=steps)))
