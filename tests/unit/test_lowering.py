# SPDX-License-Identifier: Apache-2.0
"""Lowered programs, run step by step in NumPy on an arena full of noise, against their modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from bnncc.lowering.region import counted
from bnncc.plan.kernel import BinaryConv
from tests import loop_models
from tests.memory import memory_problems
from tests.models import make_model
from tests.unit.machine import check, lowered

RNG = np.random.default_rng(7)


def signs(*shape: int) -> np.ndarray:
    return RNG.choice(np.array([-1.0, 1.0], np.float32), shape)


def binarize(source: str, target: str, zero: str = "zero") -> list:
    return [
        helper.make_node("GreaterOrEqual", [source, zero], [target + "_ge"]),
        helper.make_node("Where", [target + "_ge", "one", "minus"], [target]),
    ]


CONSTANTS = {"zero": np.float32(0), "one": np.float32(1), "minus": np.float32(-1)}


def conv(source: str, weight: str, target: str, **attributes) -> object:
    return helper.make_node("Conv", [source, weight], [target], **attributes)


def test_a_residual_block_shares_memory(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["x0"])]
    constants: dict[str, Any] = dict(CONSTANTS)
    for i in range(3):
        constants[f"w{i}"] = signs(32, 32, 3, 3)
        nodes += [
            *binarize(f"x{i}", f"b{i}"),
            conv(f"b{i}", f"w{i}", f"c{i}", pads=[1, 1, 1, 1]),
            helper.make_node("Add", [f"c{i}", f"x{i}"], [f"x{i + 1}"]),
        ]
    nodes.append(helper.make_node("Relu", ["x3"], ["y"]))
    result = lowered(tmp_path, make_model(nodes, {"x": [1, 32, 6, 5]}, ["y"], constants))
    assert sum(bool(step.kernel.in_place) for step in result.program.steps) >= 2
    assert result.program.arena_bytes <= 1.05 * result.program.arena_lower_bound
    check(result, {"x": RNG.standard_normal((1, 32, 6, 5)).astype(np.float32)})


@pytest.mark.parametrize("channels", [5, 32, 40])
def test_two_paddings_of_one_value(tmp_path: Path, channels: int) -> None:
    """One consumer pads with 0, one with +1, one with nothing: one buffer, corrected by tables."""
    constants: dict[str, Any] = dict(CONSTANTS)
    constants |= {name: signs(8, channels, 3, 3) for name in ("w0", "w1", "w2")}
    constants["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    nodes = [
        *binarize("x", "b"),
        conv("b", "w0", "y0", pads=[1, 1, 1, 1]),
        helper.make_node("Pad", ["b", "pads", "one"], ["p"]),
        conv("p", "w1", "y1"),
        conv("b", "w2", "y2", strides=[2, 2]),
    ]
    result = lowered(tmp_path, make_model(nodes, {"x": [1, channels, 7, 6]}, ["y0", "y1", "y2"], constants))
    roots = [s.kernel.root for s in result.program.steps if isinstance(s.kernel.root, BinaryConv)]
    assert {root.pad_value for root in roots} == {0, 1}
    check(result, {"x": RNG.standard_normal((1, channels, 7, 6)).astype(np.float32)})


@pytest.mark.parametrize("share_of_zeros", [0.0, 0.1])
def test_sign_keeps_its_zero(tmp_path: Path, share_of_zeros: float) -> None:
    constants = {"w": signs(12, 33, 3, 3)}
    nodes = [helper.make_node("Sign", ["x"], ["s"]), conv("s", "w", "y", pads=[1, 0, 1, 2])]
    result = lowered(tmp_path, make_model(nodes, {"x": [1, 33, 5, 5]}, ["y"], constants))
    assert any(step.when_zero for step in result.program.steps)
    x = RNG.standard_normal((1, 33, 5, 5)).astype(np.float32)
    x[RNG.random(x.shape) < share_of_zeros] = 0
    expected = check(result, {"x": x})["y"]
    assert share_of_zeros == 0 or (expected % 2 == 0).any()


def test_a_mask_that_the_window_reads_keeps_its_memory(tmp_path: Path) -> None:
    """sign(conv(s) + s) with s = sign(x): the masked convolution reads the mask of s around every pixel,
    though the plain one reads it at the pixel only."""
    constants = {"w": signs(32, 32, 3, 3), "v": signs(32, 32, 3, 3)}
    nodes = [
        helper.make_node("Sign", ["x"], ["s"]),
        conv("s", "w", "c", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "s"], ["a"]),
        helper.make_node("Sign", ["a"], ["t"]),
        conv("t", "v", "y", pads=[1, 1, 1, 1]),
    ]
    result = lowered(tmp_path, make_model(nodes, {"x": [1, 32, 5, 6]}, ["y"], constants))
    step = next(step for step in result.program.steps if step.when_zero and step.kernel.operands)
    assert step.when_zero and step.when_zero.mask in step.reads
    assert not step.kernel.in_place


def test_a_state_is_read_after_its_new_value_is_made(tmp_path: Path) -> None:
    """s = [v > 1/2], v' = (v + x) / 2 + W z, z' = s, as Norse's cell fires before it hears the spikes of the
    step before: the old z is still read when the new one is made."""
    node, names = helper.make_node, ("z", "v", "xi")
    nodes = [
        node("Greater", ["v", "half"], ["above"]),
        node("Cast", ["above"], ["s"], to=TensorProto.FLOAT),
        node("Add", ["v", "xi"], ["charged"]),
        node("Mul", ["charged", "half"], ["decayed"]),
        node("MatMul", ["z", "w"], ["heard"]),
        node("Add", ["decayed", "heard"], ["v2"]),
        node("Identity", ["s"], ["spikes"]),
    ]
    body = loop_models.graph(
        nodes,
        [loop_models.value(name, (1, 5)) for name in names],
        [loop_models.value(name, (1, 5)) for name in ("s", "v2", "spikes")],
    )
    scan = node("Scan", ["start", "start", "x"], ["z9", "v9", "y"], body=body, num_scan_inputs=1)
    constants = {"start": np.zeros((1, 5), np.float32), "half": np.float32(0.5), "w": signs(5, 5) / 4}
    result = lowered(tmp_path, make_model([scan], {"x": [9, 1, 5]}, ["y", "z9", "v9"], constants))
    assert result.program.loops
    assert list(memory_problems(result.program)) == []


def test_concat_transposed_outputs_and_shared_results(tmp_path: Path) -> None:
    constants = CONSTANTS | {"w0": signs(32, 32, 1, 1), "w1": signs(32, 32, 1, 1), "v": signs(4, 64, 1, 1)}
    nodes = [
        *binarize("x", "b"),
        conv("b", "w0", "c0"),
        conv("b", "w1", "c1"),
        helper.make_node("Concat", ["c0", "c1"], ["joined"], axis=1),
        *binarize("joined", "j"),
        conv("j", "v", "scores"),
        helper.make_node("Transpose", ["scores"], ["turned"], perm=[0, 2, 3, 1]),
        helper.make_node("Flatten", ["scores"], ["flat"]),
    ]
    model = make_model(nodes, {"x": [2, 32, 3, 4]}, ["scores", "turned", "flat", "joined"], constants)
    check(lowered(tmp_path, model), {"x": RNG.standard_normal((2, 32, 3, 4)).astype(np.float32)})


def test_a_flattened_image_feeds_a_dense_layer(tmp_path: Path) -> None:
    constants = CONSTANTS | {"w": signs(3 * 4 * 20, 7)}
    nodes = [
        *binarize("x", "b"),
        helper.make_node("Flatten", ["b"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    result = lowered(tmp_path, make_model(nodes, {"x": [2, 20, 3, 4]}, ["y"], constants))
    assert any(isinstance(step.kernel.root, BinaryConv) for step in result.program.steps)
    check(result, {"x": RNG.standard_normal((2, 20, 3, 4)).astype(np.float32)})


def test_an_addend_that_varies_over_the_image_is_a_constant_buffer(tmp_path: Path) -> None:
    constants = {"table": RNG.standard_normal((1, 3, 4, 5)).astype(np.float32)}
    nodes = [helper.make_node("Add", ["x", "table"], ["y"])]
    result = lowered(tmp_path, make_model(nodes, {"x": [1, 3, 4, 5]}, ["y"], constants))
    assert any(buffer.place == "constant" for buffer in result.program.buffers)
    check(result, {"x": RNG.standard_normal((1, 3, 4, 5)).astype(np.float32)})


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5])
@pytest.mark.parametrize(
    "pads", [(0, 0, 1, 2, 0, 0, 0, 1), (0, 2, 0, 0, 0, 1, 0, 0), (1, 0, 1, 0, 0, 1, 0, 1)]
)
def test_padding_of_any_dimension_by_any_value(tmp_path: Path, value: float, pads: tuple[int, ...]) -> None:
    constants = {"pads": np.array(pads), "value": np.float32(value)}
    nodes = [
        helper.make_node("Pad", ["x", "pads", "value"], ["p"]),
        helper.make_node("Relu", ["p"], ["y"]),
    ]
    result = lowered(tmp_path, make_model(nodes, {"x": [1, 3, 4, 5]}, ["p", "y"], constants))
    check(result, {"x": RNG.standard_normal((1, 3, 4, 5)).astype(np.float32)})


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_signs_are_padded_where_channels_are_not_the_last_dimension(tmp_path: Path, value: float) -> None:
    """Of one channel, rows and columns lie as [n, 1, h, w]: packed bits would have to be shifted."""
    constants = {"pads": np.array([0, 0, 1, 2, 0, 0, 0, 1]), "value": np.float32(value)}
    nodes = [
        helper.make_node("Sign", ["x"], ["s"]),
        helper.make_node("Pad", ["s", "pads", "value"], ["p"]),
        helper.make_node("Relu", ["p"], ["y"]),
    ]
    result = lowered(tmp_path, make_model(nodes, {"x": [1, 1, 4, 5]}, ["p", "y"], constants))
    image = RNG.standard_normal((1, 1, 4, 5)).astype(np.float32)
    image[0, 0, 1] = 0
    check(result, {"x": image})


@pytest.mark.parametrize("channels", [(5, 7), (32, 20), (40, 32)])
@pytest.mark.parametrize("zeros", [True, False])
def test_bits_are_joined_at_any_channel(tmp_path: Path, channels: tuple[int, int], zeros: bool) -> None:
    constants = CONSTANTS | {"w": signs(6, sum(channels), 3, 3)}

    def decide(source: str, target: str) -> list:
        return [helper.make_node("Sign", [source], [target])] if zeros else binarize(source, target)

    nodes = [
        *decide("x", "a"),
        *decide("z", "b"),
        helper.make_node("Concat", ["a", "b"], ["joined"], axis=1),
        conv("joined", "w", "y", pads=[1, 1, 1, 1]),
    ]
    shapes = {name: [1, count, 3, 4] for name, count in zip("xz", channels, strict=True)}
    result = lowered(tmp_path, make_model(nodes, shapes, ["y", "a"], constants))
    assert any(isinstance(step.kernel.root, BinaryConv) for step in result.program.steps)
    images = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    images["x"][0, 1] = 0
    check(result, images)


def test_one_value_as_two_outputs_and_an_input_as_an_output(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("Identity", ["x"], ["c"]),
    ]
    model = make_model(nodes, {"x": [1, 3, 4, 5]}, ["a", "b", "c"])
    check(lowered(tmp_path, model), {"x": RNG.standard_normal((1, 3, 4, 5)).astype(np.float32)})


def test_the_noise_matters(tmp_path: Path) -> None:
    """Negative control: a buffer placed over another one is noticed."""
    constants = CONSTANTS | {"w": signs(32, 32, 3, 3)}
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        *binarize("r", "b"),
        conv("b", "w", "c", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "r"], ["y"]),
    ]
    result = lowered(tmp_path, make_model(nodes, {"x": [1, 32, 6, 5]}, ["y"], constants))
    for buffer in result.program.offsets:
        result.program.offsets[buffer] = 0
    with pytest.raises(AssertionError):
        check(result, {"x": RNG.standard_normal((1, 32, 6, 5)).astype(np.float32)})


def test_operations_that_repeat_themselves_are_said_once() -> None:
    assert counted(["add", *["mul", "add", "binarize"] * 3, "relu"]) == [
        "add",
        "3 x (mul + add + binarize)",
        "relu",
    ]
    assert counted(["threshold", "threshold", "mul"]) == ["2 x threshold", "mul"]
    assert counted(["mul", "add", "mul"]) == ["mul", "add", "mul"]
    assert counted([]) == []
