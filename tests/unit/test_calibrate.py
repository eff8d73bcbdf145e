# SPDX-License-Identifier: Apache-2.0
"""Counting spikes on samples, and what that decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from bnncc import driver
from bnncc.data.spike_words import packed
from bnncc.diagnostics import BnnccError
from bnncc.options import CameraInput
from bnncc.plan import density
from bnncc.plan.kernel import RealConv, SpikeConv
from tests.models import make_model, write

RNG = np.random.default_rng(3)


def spiking() -> ModelProto:
    """Spikes, a pool of them, a convolution and a dense layer with real weights."""
    nodes = [
        helper.make_node("Greater", ["x", "one"], ["fired"]),
        helper.make_node("Cast", ["fired"], ["spikes"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["spikes", "w"], ["current"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("Greater", ["current", "one"], ["fired2"]),
        helper.make_node("Cast", ["fired2"], ["spikes2"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["spikes2"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v"], ["y"], transB=1, name="dense"),
    ]
    constants = {
        "one": np.float32(1),
        "w": RNG.normal(size=(32, 8, 3, 3)).astype(np.float32),
        "v": RNG.normal(size=(40, 32 * 16)).astype(np.float32),
    }
    return make_model(nodes, {"x": [1, 8, 8, 8]}, ["y"], constants)


def samples(rate: float, count: int = 6) -> dict[str, np.ndarray]:
    """Inputs of which this part spikes."""
    return {"x": np.where(RNG.random((count, 8, 8, 8)) < rate, 2, 0).astype(np.float32)}


def layers(folder: Path, **options) -> list[tuple[type, str]]:
    """Root and remark of the contractions."""
    program = driver.lower_model(write(folder, spiking()), driver.Options(**options)).program
    roots = (SpikeConv, RealConv)
    return [(type(s.kernel.root), s.note) for s in program.steps if isinstance(s.kernel.root, roots)]


def test_spikes_that_are_assumed(tmp_path: Path) -> None:
    (conv, note), (dense, counted) = layers(tmp_path)
    assert (conv, dense) == (SpikeConv, SpikeConv)
    assert note == f"events: {density.DEFAULT:.2g} bits set per input, assumed"
    assert counted == f"events: {density.bits_of_count(density.DEFAULT, 4):.2g} bits set per input, assumed"


def test_samples_decide(tmp_path: Path) -> None:
    given = samples(0.9)
    (conv, note), _ = layers(tmp_path, calibrate=given)
    found = float(note.partition(": ")[2].split()[0])
    assert conv is RealConv and note.startswith("float products of spikes") and note.endswith("measured")
    assert found == pytest.approx((given["x"] > 1).mean(), abs=5e-3)
    (conv, _), _ = layers(tmp_path, calibrate=samples(0.02))
    assert conv is SpikeConv


def test_spikes_of_an_input_are_counted(tmp_path: Path) -> None:
    """Those that a camera gives, packed, or dense as the model has them, and the first layer reads."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], name="conv")
    weight = RNG.normal(size=(32, 8, 3, 3)).astype(np.float32)
    path = write(tmp_path, make_model([node], {"x": [1, 8, 6, 5]}, ["y"], {"w": weight}))
    spikes = RNG.random((6, 1, 6, 5, 8)) < 0.04
    for given in (np.moveaxis(spikes, -1, -3).astype(np.float32), packed(spikes)):
        options = driver.Options(camera=CameraInput("spikes"), calibrate={"x": given})
        (found,) = (s.density for s in driver.lower_model(path, options).program.steps if s.density)
        assert found.measured and found.bits == pytest.approx(spikes.mean())


@pytest.mark.parametrize("target", ["x86-64-v4", "x86-64-v3", "aarch64", "cortex-m4f", "rv64gc"])
def test_samples_decide_for_every_target(target: str, tmp_path: Path) -> None:
    """A convolution of few outputs, where to find events costs as much as to add weights."""
    path = write(tmp_path, few_outputs())
    roots = {}
    for rate in (0.01, 0.6):
        lowered = driver.lower_model(path, driver.Options(target=target, calibrate=samples(rate)))
        (step,) = (step for step in lowered.program.steps if step.note)
        roots[rate] = type(step.kernel.root), step.density
    assert roots[0.01][0] is SpikeConv and roots[0.6][0] is RealConv
    for rate, (_, density_) in roots.items():
        assert density_ is not None and density_.measured and density_.bits == pytest.approx(rate, rel=0.3)


@pytest.mark.parametrize("target", ["cortex-m4", "rv32imc"])
def test_where_floats_are_software_events_are_cheaper_at_any_density(target: str, tmp_path: Path) -> None:
    """A sum takes some 68 instructions, a product and a sum 105."""
    path = write(tmp_path, few_outputs())
    counts = {}
    for rate in (0.01, 0.6):
        given = samples(rate)
        lowered = driver.lower_model(path, driver.Options(target=target, calibrate=given))
        (number,) = (i for i, step in enumerate(lowered.program.steps) if step.note)
        assert isinstance(lowered.program.steps[number].kernel.root, SpikeConv)
        artifact = driver.build(lowered, path, tmp_path / f"{rate}", driver.Options(target=target))
        assert artifact.emulator is not None
        counts[rate] = artifact.emulator.count([given["x"][:1]], layers=True)[1][number]
    products = 8 * 8 * 9 * 8
    assert counts[0.01] < 20 * products and counts[0.6] < 80 * products


def few_outputs() -> ModelProto:
    """Spikes and a convolution of one output."""
    nodes = [
        helper.make_node("Greater", ["x", "one"], ["fired"]),
        helper.make_node("Cast", ["fired"], ["spikes"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["spikes", "w"], ["y"], pads=[1, 1, 1, 1], name="conv"),
    ]
    constants = {"one": np.float32(1), "w": RNG.normal(size=(1, 8, 3, 3)).astype(np.float32)}
    return make_model(nodes, {"x": [1, 8, 8, 8]}, ["y"], constants)


def grouped(groups: int) -> ModelProto:
    """Spikes and a convolution in groups."""
    nodes = [
        helper.make_node("Greater", ["x", "one"], ["fired"]),
        helper.make_node("Cast", ["fired"], ["spikes"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["spikes", "w"], ["y"], pads=[1, 1, 1, 1], group=groups, name="conv"),
    ]
    weight = np.round(RNG.normal(size=(8, 8 // groups, 3, 3)) * 8).astype(np.float32)
    return make_model(nodes, {"x": [1, 8, 8, 8]}, ["y"], {"one": np.float32(1), "w": weight})


@pytest.mark.parametrize(("groups", "target"), [(8, "cortex-m4"), (2, "native"), (4, "native"), (8, "c")])
def test_groups_are_event_driven(groups: int, target: str, tmp_path: Path) -> None:
    path, given = write(tmp_path, grouped(groups)), samples(0.01, 2)
    options = driver.Options(target=target, calibrate=given)
    lowered = driver.lower_model(path, options)
    assert any(isinstance(step.kernel.root, SpikeConv) for step in lowered.program.steps)
    artifact = driver.build(lowered, path, tmp_path / "out", options)
    for x in (given["x"][:1], samples(0.5, 1)["x"]):
        (expected,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
        np.testing.assert_array_equal(artifact.run({"x": x})["y"], expected)


@pytest.mark.parametrize("rate", [0.02, 0.9])
def test_the_choice_does_not_change_results(tmp_path: Path, rate: float) -> None:
    from tests.unit.machine import Machine

    path = write(tmp_path, spiking())
    x = samples(0.2, 1)
    outputs = []
    for options in (driver.Options(), driver.Options(calibrate=samples(rate))):
        program = driver.lower_model(path, options).program
        machine = Machine(program, x)
        for step in program.steps:
            machine.run(step)
        outputs.append(machine.outputs[0])
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-4)


def test_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", x=samples(0.9)["x"])
    assert layers(tmp_path, calibrate=tmp_path / "samples.npz")[0][0] is RealConv


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"z": np.zeros((2, 8, 8, 8), np.float32)}, "no input 'z'"),
        ({}, "no samples of the input 'x'"),
        ({"x": np.zeros((2, 8, 8), np.float32)}, "its samples"),
    ],
)
def test_samples_that_do_not_fit(tmp_path: Path, given: dict, message: str) -> None:
    with pytest.raises(BnnccError, match=message):
        layers(tmp_path, calibrate=given)


def test_a_single_array_is_no_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "samples.npy", np.zeros((2, 8, 8, 8), np.float32))
    with pytest.raises(BnnccError, match="archive of arrays by input name"):
        layers(tmp_path, calibrate=tmp_path / "samples.npy")


def test_costs_cross_once() -> None:
    """Events cost more the more bits are set, products do not; one pixel prefers events up to the end."""
    layer = density.Contraction(784, 3, 3, 64, 64, slides=True)
    prefers = [density.prefers_events(layer, bits, density.Costs(16)) for bits in np.linspace(0, 1, 21)]
    assert prefers == sorted(prefers, reverse=True) and prefers[0] and not prefers[-1]
    single = density.Contraction(1, 1, 1, 1024, 512)
    assert density.prefers_events(single, 1.0, density.Costs(16))


def test_bits_of_counts() -> None:
    assert density.bits_of_count(0.3, 1) == pytest.approx(0.3)
    # 0, 1, 2, 3 or 4 of 4 spikes have 0, 1, 1, 2 and 1 bits.
    assert density.bits_of_count(0.5, 4) == pytest.approx((4 + 6 + 2 * 4 + 1) / 16)


def test_samples_may_hold_the_states_to_begin_with(tmp_path: Path) -> None:
    """As `run` takes them: one for each sample, in the first step alone."""
    node = helper.make_node
    nodes = [
        node("Add", ["v_in", "x"], ["u"]),
        node("Greater", ["u", "one"], ["fired"]),
        node("Cast", ["fired"], ["s"], to=TensorProto.FLOAT),
        node("Sub", ["u", "s"], ["v"]),
        node("Gemm", ["s", "w"], ["y"], name="dense"),
    ]
    constants = {"one": np.float32(1), "w": RNG.normal(size=(8, 4)).astype(np.float32)}
    path = write(tmp_path, make_model(nodes, {"x": [1, 8], "v_in": [1, 8]}, ["y", "v"], constants))

    def measured(**more: np.ndarray) -> float:
        given = {"x": np.full((4, 2, 8), 0.5, np.float32), **more}
        options = driver.Options(states={"v_in": "v"}, calibrate=given)
        found = [step.density for step in driver.lower_model(path, options).program.steps if step.density]
        assert len(found) == 1 and found[0].measured
        return found[0].bits

    assert measured() == pytest.approx(1 / 4), "0.5, 1, 1.5 fires, 1"
    start = np.zeros((2, 8), np.float32)
    start[1] = 0.75
    assert measured(v_in=start) == pytest.approx((1 + 2) / 8), "the second sample fires at once, and again"
