# SPDX-License-Identifier: Apache-2.0
"""Measuring candidates: good ones, and such as crash, hang, lie or write where they must not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.space import candidates
from bnncc.plan.kernel import KernelSpec, SpikeConv
from bnncc.plan.layout import Element, Layout
from bnncc.plan.simulate import load
from bnncc.tuning import measure as measuring
from bnncc.tuning import program
from bnncc.tuning.devices import Device, Emulated, Local
from bnncc.tuning.measure import Subject, measure, measure_together
from tests.kernels.contractions import Shape, real_spec
from tests.kernels.test_real_conv import ONE, SIGNS
from tests.tuning.bad_candidates import HANG, impatient_at_first, misbehave, only_the_second_fails
from tests.tuning.layers import NATIVE, layer, numbers, spikes

REAL = real_spec(Shape((1, 8, 8, 3), 32), SIGNS, ONE)
SUBJECT = Subject.of(layer(), numbers(layer()))


@pytest.mark.parametrize("target", ["native", "x86-64-v3", "c", "cortex-a72", "cortex-m4", "rv32imc"])
def test_right_answers_have_a_score(target: str):
    facts = targets.load(target)
    device: Device = Local(facts) if facts.runs_here() else Emulated(facts)
    choices = candidates(SUBJECT.spec, facts)[:3]
    outcomes = measure(SUBJECT, choices, device, facts)
    assert [outcome.parameters for outcome in outcomes] == choices
    assert all(outcome.score and not outcome.problem for outcome in outcomes)
    if device.unit == "instructions":
        assert all(outcome.score and outcome.score > 1000 for outcome in outcomes)


@pytest.mark.parametrize(("density", "planes"), [(0.003, 1), (0.1, 1), (0.3, 1), (0.3, 3)])
def test_a_layer_of_spikes_is_measured_at_the_density_it_was_made_for(density: float, planes: int):
    spec = spikes(density, planes)
    subject = Subject.of(spec, numbers(spec))
    bits = [load(layout, read) for layout, read in zip(spec.inputs, subject.reads, strict=False)]
    assert np.mean(np.sum(bits, axis=0)) == pytest.approx(density, rel=0.15, abs=0.002)


def test_numbers_that_are_all_spikes_are_0_and_1():
    spec = spikes(0.1)
    assert isinstance(spec.root, SpikeConv)
    layout = Layout.packed(Element.F32, spec.root.input.shape, spec.root.input.halo)
    read = replace(spec, root=replace(spec.root, input=layout))
    values = load(layout, Subject.of(read, numbers(read)).reads[0])
    assert set(np.unique(values)) == {0, 1} and values.mean() == pytest.approx(0.1, rel=0.15)


def test_layers_of_several_kinds_are_measured_in_one_program():
    """Candidates of two layers, each of which is checked against its own answers."""
    other = layer(Shape((1, 4, 4, 32), 32))
    subjects = (SUBJECT, Subject.of(other, numbers(other)))
    chosen = [(subject, candidates(subject.spec, NATIVE)[0]) for subject in subjects]
    outcomes = measure_together(chosen, Local(NATIVE), NATIVE)
    assert all(outcome.score and not outcome.problem for outcome in outcomes), outcomes
    wrong = replace(subjects[1], answers=tuple(~answer for answer in subjects[1].answers))
    good, bad = measure_together([chosen[0], (wrong, chosen[1][1])], Local(NATIVE), NATIVE)
    assert good.score and bad.problem == "its answer is wrong"


def test_instructions_are_counted_exactly():
    facts = targets.load("cortex-a72")
    choices = candidates(SUBJECT.spec, facts)[:2]
    first, again = (measure(SUBJECT, choices, Emulated(facts), facts) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("__builtin_trap();", "it failed: exit status"),
        (HANG, "took longer"),
        ("((unsigned char *)p[3])[-1] = 1;", "outside of its outputs"),
        ("p[0] = p[1];", "its answer is wrong"),
    ],
    ids=["crash", "hang", "outside", "wrong"],
)
def test_a_bad_candidate_costs_itself_only(monkeypatch: pytest.MonkeyPatch, statement: str, problem: str):
    assert len(SUBJECT.reads) == 1 and len(SUBJECT.constants) == 2
    misbehave(monkeypatch, statement)
    device: Device = Local(NATIVE)
    if statement is HANG:
        impatient_at_first(monkeypatch, device, 5)
    choices = candidates(SUBJECT.spec, NATIVE)[:4]
    only_the_second_fails(measure(SUBJECT, choices, device, NATIVE), problem)


def test_what_cannot_be_generated_is_a_failure_of_its_own():
    nonsense = {"lanes": 16, "rows": 1, "no such parameter": 3}
    good, bad = measure(SUBJECT, [*candidates(SUBJECT.spec, NATIVE)[:1], nonsense], Local(NATIVE), NATIVE)
    assert good.score and bad.score is None and bad.problem.startswith("not generated")


def test_what_does_not_compile_is_a_failure_of_its_own(monkeypatch: pytest.MonkeyPatch):
    compile_object = program.compile_object
    choices = candidates(SUBJECT.spec, NATIVE)[:3]

    def failing(kernels, prefix, target):
        if any(kernel.schedule == choices[1] for kernel in kernels):
            raise RuntimeError("LLVM has had enough")
        return compile_object(kernels, prefix, target)

    monkeypatch.setattr(program, "compile_object", failing)
    one, two, three = measure(SUBJECT, choices, Local(NATIVE), NATIVE)
    assert one.score and three.score and "LLVM has had enough" in two.problem


@pytest.mark.parametrize(
    ("times", "settled"),
    [([3.0], 3.0), ([2, 2.1, 2.2], 2.1), ([2, 9, 2.1, 7, 2.2, 8, 9, 30], 2.1), ([10, 11, 12], 11)],
)
def test_disturbed_measurements_are_rejected(times: list[float], settled: float):
    assert measuring.undisturbed(times) == settled


@pytest.mark.parametrize(
    ("flips", "spec", "is_right"), [(1, REAL, True), (99, REAL, False), (1, SUBJECT.spec, False)]
)
def test_single_bits_may_differ_behind_a_float_sum_only(flips: int, spec: KernelSpec, is_right: bool):
    answers = np.zeros(4000, np.uint32)
    flipped = answers.copy()
    flipped[:flips] = 1
    assert Subject(spec, (), (), (answers,)).is_right([flipped]) is is_right
