# SPDX-License-Identifier: Apache-2.0
"""Activations and weights of a few bits, from ONNX to the steps of a program."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, helper
from xdsl.ir import Block

from bnncc.dialect import operations as ops
from bnncc.dialect.types import bipolar, tensor
from bnncc.lowering import Lowered
from bnncc.passes.affine_levels import affine
from bnncc.passes.levels import Levels, Range
from tests.models import make_model
from tests.unit.machine import check, lowered

RNG = np.random.default_rng(11)
QONNX = "qonnx.custom_op.general"

Nodes = list[NodeProto]
Quantiser = tuple[Nodes, dict[str, Any]]


def node(operator: str, inputs: str, output: str, **attributes) -> NodeProto:
    """A node; inputs in one text, separated by spaces."""
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def dorefa(bits: int) -> Quantiser:
    """round(clip(x, 0, 1) * (2^k - 1)) / (2^k - 1)"""
    nodes = [
        node("Clip", "x zero one", "clipped"),
        node("Mul", "clipped most", "scaled"),
        node("Round", "scaled", "rounded"),
        node("Div", "rounded most", "q"),
    ]
    return nodes, {"zero": np.float32(0), "one": np.float32(1), "most": np.float32(2**bits - 1)}


def quant(bits: float, signed: int, narrow: int, zero_point: float = 0, scale: float = 0.25) -> Quantiser:
    """QONNX Quant."""
    constants = {"s": np.float32(scale), "z": np.float32(zero_point), "b": np.float32(bits)}
    flags = {"signed": signed, "narrow": narrow, "rounding_mode": "ROUND"}
    return [node("Quant", "x s z b", "q", domain=QONNX, **flags)], constants


def steps(count: int, low: float, high: float, scale: float = 0.1) -> Quantiser:
    """Standard operators, of a scale that float32 rounds; the last Mul is applied `count` times."""
    nodes = [
        node("Div", "x s", "divided"),
        node("Round", "divided", "rounded"),
        node("Clip", "rounded low high", "clipped"),
        node("Mul", "clipped s", "q" if count == 1 else "q1"),
    ]
    nodes += [node("Mul", "q1 s", "q")] if count == 2 else []
    return nodes, {"s": np.float32(scale), "low": np.float32(low), "high": np.float32(high)}


def no_inverse() -> Quantiser:
    """Integers divided by a number whose inverse float32 cannot hold."""
    nodes = [node("Clip", "x zero most", "clipped"), node("Round", "clipped", "rounded")]
    constants = {"tiny": np.float32(1e-45), "zero": np.float32(0), "most": np.float32(3)}
    return [*nodes, node("Div", "rounded tiny", "q")], constants


def spikes() -> Quantiser:
    """1 where x >= t[c], else 0."""
    constants = {"t": RNG.standard_normal((1, 40, 1, 1)).astype(np.float32)}
    return [
        node("GreaterOrEqual", "x t", "fired"),
        node("Where", "fired one zero", "q"),
    ], constants | {"one": np.float32(1), "zero": np.float32(0)}


def softsign() -> Quantiser:
    """round(x / (|x| + c))"""
    nodes = [
        node("Abs", "x", "a"),
        node("Add", "a c", "b"),
        node("Div", "x b", "d"),
        node("Round", "d", "q"),
    ]
    return nodes, {"c": np.float32(0.001)}


def multi_threshold(steps: int, scale: float, bias: float) -> Quantiser:
    """FINN's: how many thresholds of its channel x reaches."""
    thresholds = np.sort(RNG.standard_normal((40, steps)).astype(np.float32), axis=1)
    more = {"out_scale": scale, "out_bias": bias, "data_layout": "NCHW"}
    return [node("MultiThreshold", "x t", "q", domain=QONNX, **more)], {"t": thresholds}


ACTIVATIONS: dict[str, tuple[Quantiser, str]] = {
    "dorefa2": (dorefa(2), "u2"),
    "dorefa3": (dorefa(3), "u3"),
    "dorefa4": (dorefa(4), "u4"),
    "signed": (quant(2, 1, 0), "s2"),
    "narrow": (quant(2, 1, 1), "s2"),
    "unsigned-narrow": (quant(2, 0, 1), "u2"),
    "zero-point": (quant(3, 0, 0, zero_point=4), "s3"),
    "far-zero-point": (quant(2, 0, 0, zero_point=-5), "5..8"),
    "odd-scale": (quant(4, 1, 0, scale=0.3), "s4"),
    "steps": (steps(1, -2, 1), "s2"),
    "scaled-twice": (steps(2, 0, 7), "u3"),
    "spikes": (spikes(), "spike"),
    "softsign": (softsign(), "s2"),
    "thresholds": (multi_threshold(3, 1.0, 0.0), "u2"),
    "signed-thresholds": (multi_threshold(15, 0.5, -4.0), "s4"),
}

WEIGHTS: dict[str, tuple[Callable[[tuple[int, ...]], np.ndarray], str]] = {
    "bipolar": (lambda shape: RNG.choice([-1.0, 1.0], shape) * 0.75, "bipolar"),
    "ternary": (lambda shape: RNG.choice([-1.0, 0.0, 1.0], shape), "ternary"),
    "s2": (lambda shape: RNG.choice([-2.0, -1.0, 0.0, 1.0], shape) * 0.1, "s2"),
    "s4": (lambda shape: RNG.integers(-8, 8, shape) * 0.3, "s4"),
    "odd": (lambda shape: RNG.choice([-3.0, -1.0, 1.0, 3.0], shape), "s3"),
}

X = (RNG.standard_normal((2, 40, 7, 6)) * 2).astype(np.float32)


def network(activation: Quantiser, weight: np.ndarray, folder: Path, **attributes) -> Lowered:
    """The program of one convolution."""
    nodes, constants = activation
    conv = node("Conv", "q w", "y", **attributes)
    constants = constants | {"w": weight.astype(np.float32)}
    return lowered(
        folder, make_model([*nodes, conv], {"x": list(X.shape)}, ["y"], constants, domains=[QONNX])
    )


def domains(result: Lowered) -> list[str]:
    """Of each contraction."""
    return [step.domains for step in result.program.steps if step.domains]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_a_few_bits(name: str, tmp_path: Path) -> None:
    activation, domain = ACTIVATIONS[name]
    weight = RNG.choice([-1.0, 1.0], (9, 40, 3, 3))
    result = network(activation, weight, tmp_path, pads=[1, 1, 1, 1])
    assert domains(result) == [f"{domain} x bipolar"]
    expected = check(result, {"x": X})["y"]
    assert len(np.unique(expected)) > 20


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("activation", ["dorefa2", "narrow", "far-zero-point", "spikes"])
def test_weights_of_a_few_bits(activation: str, name: str, tmp_path: Path) -> None:
    make, domain = WEIGHTS[name]
    quantiser, levels = ACTIVATIONS[activation]
    window = {"group": 4, "strides": [2, 1], "dilations": [1, 2], "pads": [1, 2, 0, 1]}
    result = network(quantiser, make((12, 10, 3, 3)), tmp_path, **window)
    assert domains(result) == [f"{levels} x {domain}"]
    check(result, {"x": X})


@pytest.mark.parametrize(("bits", "domain"), [(2, "s2"), (8, "s8")])
@pytest.mark.parametrize("outside", [-2, -1, 1])
def test_one_value_with_two_paddings_and_a_float_reader(
    bits: int, domain: str, outside: int, tmp_path: Path
) -> None:
    """Levels below 0, padded by 0 for one reader and otherwise for another; a third adds them as numbers."""
    nodes, constants = quant(bits, 1, 0, scale=1)
    constants |= {f"w{i}": RNG.choice([-1.0, 1.0], (40, 40, 3, 3)).astype(np.float32) for i in range(2)}
    constants |= {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "value": np.float32(outside)}
    nodes = [
        *nodes,
        node("Conv", "q w0", "y0", pads=[1, 1, 1, 1]),
        node("Pad", "q pads value", "p"),
        node("Conv", "p w1", "y1"),
        node("Add", "y0 y1", "sum"),
        node("Add", "sum q", "y"),
    ]
    result = lowered(tmp_path, make_model(nodes, {"x": list(X.shape)}, ["y"], constants, domains=[QONNX]))
    assert domains(result) == [f"{domain} x bipolar"] * 2
    check(result, {"x": X * 2 ** (bits - 2)})


@pytest.mark.parametrize("axis", [1, 2])
def test_bytes_side_by_side(axis: int, tmp_path: Path) -> None:
    """Two values of one quantiser in one tensor, turned round on the way."""
    nodes, constants = quant(8, 1, 0, scale=0.125)
    shape = (9, 80, 3, 3) if axis == 1 else (9, 40, 3, 3)
    constants |= {"w": RNG.choice([-1.0, 1.0], shape).astype(np.float32)}
    nodes = [
        *nodes,
        node("Transpose", "q", "t", perm=[0, 1, 3, 2]),
        node("Concat", "q q2", "both", axis=axis),
        node("Conv", "both w", "y", pads=[1, 1, 1, 1]),
    ]
    nodes.insert(-2, node("Transpose", "t", "q2", perm=[0, 1, 3, 2]))
    result = lowered(tmp_path, make_model(nodes, {"x": list(X.shape)}, ["y"], constants, domains=[QONNX]))
    assert domains(result) == ["s8 x bipolar"]
    check(result, {"x": X * 9})


@pytest.mark.parametrize("stride", [1, 2])
def test_bytes_in_a_transposed_convolution(stride: int, tmp_path: Path) -> None:
    nodes, constants = quant(8, 0, 0, scale=0.125)
    constants |= {"w": RNG.choice([-1.0, 1.0], (40, 5, 4, 4)).astype(np.float32)}
    pads = [1, 1, 1, 1] if stride == 2 else [2, 1, 1, 2]
    nodes = [*nodes, node("ConvTranspose", "q w", "y", strides=[stride, stride], pads=pads)]
    result = lowered(tmp_path, make_model(nodes, {"x": list(X.shape)}, ["y"], constants, domains=[QONNX]))
    assert domains(result) and set(domains(result)) == {"u8 x bipolar"}
    check(result, {"x": X * 9})


def test_levels_behind_a_pool_and_in_front_of_a_dense_layer(tmp_path: Path) -> None:
    nodes, constants = dorefa(2)
    constants |= {"w": RNG.choice([-1.0, 1.0], (40 * 3 * 3, 7)).astype(np.float32)}
    nodes = [
        *nodes,
        node("MaxPool", "q", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "m", "f"),
        node("MatMul", "f w", "y"),
    ]
    result = lowered(tmp_path, make_model(nodes, {"x": list(X.shape)}, ["y"], constants))
    assert domains(result) == ["u2 x bipolar"]
    check(result, {"x": X})


def test_a_sign_of_levels_folds_over_their_whole_range(tmp_path: Path) -> None:
    """sum(q * w) >= 0.5 reaches values beyond the number of taps."""
    nodes, constants = quant(4, 0, 0, scale=1)
    constants |= {"w": RNG.choice([-1.0, 1.0], (8, 40, 3, 3)).astype(np.float32)}
    constants |= {"v": RNG.choice([-1.0, 1.0], (5, 8, 1, 1)).astype(np.float32), "t": np.float32(380.5)}
    nodes = [
        *nodes,
        node("Conv", "q w", "a"),
        node("Sub", "a t", "d"),
        node("Sign", "d", "sign"),
        node("Conv", "sign v", "y"),
    ]
    result = lowered(tmp_path, make_model(nodes, {"x": list(X.shape)}, ["y"], constants, domains=[QONNX]))
    assert domains(result) == ["u4 x bipolar", "bipolar x bipolar"]
    levels = np.where(constants["w"][0].sum(axis=(1, 2)) > 0, 15, 3).astype(np.float32)
    sums = constants["w"].sum(axis=(2, 3)) @ levels
    assert sums.max() > 360, "beyond the number of taps"
    answer = constants["v"][:, :, 0, 0] @ np.sign(sums - 380.5)
    y = check(result, {"x": np.broadcast_to(levels[None, :, None, None], X.shape)})["y"]
    np.testing.assert_array_equal(y, np.broadcast_to(answer[None, :, None, None], y.shape))
    check(result, {"x": X * 4})


def test_nan_is_the_lowest_level(tmp_path: Path) -> None:
    """As it is -1 of a sign: no NaN comes out, nor anything that is no level."""
    weight = np.ones((1, 40, 1, 1))
    result = network(quant(2, 0, 0, scale=1), weight, tmp_path)
    expected = check(result, {"x": np.full(X.shape, np.nan, np.float32)})["y"]
    assert (expected == 0).all()


BYTES: dict[str, tuple[Quantiser, str]] = {
    "17 levels": (steps(1, 0, 16), "u5"),
    "signed": (quant(8, 1, 0), "s8"),
    "narrow": (quant(8, 1, 1, scale=0.3), "s8"),
    "unsigned": (quant(8, 0, 0, scale=0.01), "u8"),
    "zero point": (quant(8, 0, 0, zero_point=100, scale=0.1), "-100..155"),
    "some": (steps(1, -40, 3), "-40..3"),
    "above zero": (steps(1, 40, 200, scale=0.01), "40..200"),
}


@pytest.mark.parametrize("name", BYTES)
@pytest.mark.parametrize("weight", ["bipolar", "ternary", "s4"])
def test_activations_of_up_to_8_bits_are_bytes(name: str, weight: str, tmp_path: Path) -> None:
    (activation, domain), (make, levels) = BYTES[name], WEIGHTS[weight]
    window = {} if name == "above zero" else {"pads": [1, 2, 0, 1], "strides": [2, 1]}
    result = network(activation, make((9, 40, 3, 3)), tmp_path, **window)
    assert domains(result) == [f"{domain} x {levels}"]
    expected = check(result, {"x": X * 20})["y"]
    assert len(np.unique(expected)) > 20


def test_bytes_are_read_as_numbers_too_and_moved(tmp_path: Path) -> None:
    """A dense layer behind a pool and a reshape; what it reads is added as numbers elsewhere."""
    nodes, constants = quant(8, 1, 0, scale=0.125)
    weights = {
        f"w{i}": RNG.choice([-1.0, 1.0], shape) for i, shape in enumerate([(7, 40 * 9), (40, 40, 1, 1)])
    }
    constants |= {name: array.astype(np.float32) for name, array in weights.items()}
    nodes = [
        *nodes,
        node("MaxPool", "q", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "m", "f"),
        node("Gemm", "f w0", "y", transB=1),
        node("Conv", "q w1", "c"),
        node("Add", "c q", "sum"),
    ]
    model = make_model(nodes, {"x": list(X.shape)}, ["y", "sum"], constants, domains=[QONNX])
    result = lowered(tmp_path, model)
    assert sorted(domains(result)) == ["s8 x bipolar"] * 2
    check(result, {"x": X * 9})


def moved(low: float, high: float, *more: tuple[str, float]) -> Quantiser:
    """round(clip(x)), then operations by one number each."""
    nodes = [node("Clip", "x low high", "clipped"), node("Round", "clipped", "n0")]
    constants: dict[str, Any] = {"low": np.float32(low), "high": np.float32(high)}
    for index, (operator, number) in enumerate(more):
        result = "q" if index == len(more) - 1 else f"n{index + 1}"
        nodes.append(node(operator, f"n{index} c{index}", result))
        constants[f"c{index}"] = np.float32(number)
    return nodes, constants


@pytest.mark.parametrize(
    ("activation", "domain"),
    [
        (moved(0, 255, ("Sub", 127.5), ("Div", 127.5)), "u8"),
        (moved(0, 255, ("Mul", 2 / 255), ("Add", -1)), "u8"),
        (moved(-128, 127, ("Add", 0.5), ("Mul", -0.25)), "s8"),
        (moved(0, 3, ("Mul", 2), ("Sub", 3), ("Div", 3)), "u2"),
    ],
    ids=["pixels", "scaled first", "negative", "four levels"],
)
@pytest.mark.parametrize("window", [{}, {"pads": [1, 1, 1, 1]}], ids=["inside", "padded"])
def test_an_offset_becomes_a_constant(
    activation: Quantiser, domain: str, window: dict, tmp_path: Path
) -> None:
    """Padding is 0 of the numbers behind the offset, so that the constant differs at the border."""
    result = network(activation, RNG.choice([-0.5, 0.5], (9, 40, 3, 3)), tmp_path, **window)
    assert domains(result) == [f"{domain} x bipolar"]
    check(result, {"x": X * 30})


@pytest.mark.parametrize(
    ("activation", "weight"),
    [
        (moved(0, 256, ("Sub", 127.5), ("Div", 127.5)), RNG.choice([-1.0, 1.0], (9, 40, 3, 3))),
        (moved(0, 255, ("Sub", np.inf), ("Div", 127.5)), RNG.choice([-1.0, 1.0], (9, 40, 3, 3))),
        (moved(0, 255, ("Sub", 127.5), ("Div", 127.5)), RNG.standard_normal((9, 40, 3, 3))),
    ],
    ids=["257 levels", "infinite", "real weights"],
)
def test_other_offsets_stay_real(activation: Quantiser, weight: np.ndarray, tmp_path: Path) -> None:
    assert domains(network(activation, weight, tmp_path)) == ["f32 x f32"]


def test_bytes_in_groups_are_summed(tmp_path: Path) -> None:
    weight = RNG.choice([-1.0, 1.0], (40, 2, 3, 3))
    result = network(quant(8, 1, 0), weight, tmp_path, group=20, pads=[1, 1, 1, 1])
    assert domains(result) == ["s8 x bipolar"]
    check(result, {"x": X * 20})


def test_bytes_channel_by_channel_are_summed(tmp_path: Path) -> None:
    weight = RNG.choice([-1.0, 1.0], (40, 1, 3, 3))
    result = network(quant(8, 1, 0), weight, tmp_path, group=40, pads=[1, 1, 1, 1])
    assert domains(result) == ["s8 x bipolar"]
    check(result, {"x": X * 20})


def test_bytes_that_are_never_0_have_no_padding(tmp_path: Path) -> None:
    weight = RNG.choice([-1.0, 1.0], (9, 40, 3, 3))
    result = network(steps(1, 40, 200, scale=0.01), weight, tmp_path, pads=[1, 1, 1, 1])
    assert domains(result) == ["f32 x f32"]


@pytest.mark.parametrize(
    "activation",
    [
        steps(1, 0, 256),
        steps(1, 0, 2.5),
        steps(1, 0, np.inf),
        (dorefa(2)[0], dorefa(2)[1] | {"most": np.float32(np.nan)}),
        quant(9, 1, 0),
        no_inverse(),
        (quant(2, 1, 0)[0], quant(2, 1, 0)[1] | {"s": RNG.uniform(0.1, 1, (1, 40, 1, 1)).astype(np.float32)}),
    ],
    ids=[
        "257 levels",
        "bound off the grid",
        "no bound",
        "NaN",
        "9 bits",
        "no inverse",
        "scale per channel",
    ],
)
def test_what_is_no_few_levels_stays_real(activation: Quantiser, tmp_path: Path) -> None:
    result = network(activation, RNG.choice([-1.0, 1.0], (9, 40, 3, 3)), tmp_path)
    assert domains(result) == ["f32 x f32"]


@pytest.mark.parametrize(
    "weight",
    [RNG.standard_normal((9, 40, 3, 3)), RNG.integers(-8, 9, (9, 40, 3, 3))],
    ids=["real", "17 levels"],
)
def test_real_weights_leave_levels_real(weight: np.ndarray, tmp_path: Path) -> None:
    result = network(dorefa(2), weight, tmp_path)
    assert domains(result) == ["f32 x f32"]


def test_a_quotient_that_overflows_stays_one(tmp_path: Path) -> None:
    """0 / c is 0, where 0 times an infinite 1 / c would be NaN."""
    nodes, constants = no_inverse()
    result = lowered(tmp_path, make_model(nodes, {"x": [1, 40]}, ["q"], constants))
    x = np.linspace(-2, 5, 40, dtype=np.float32)[None]
    answer = check(result, {"x": x})["q"]
    assert set(np.unique(answer)) == {0, np.inf}


def test_a_number_that_is_not_finite_is_no_multiple() -> None:
    """Pads of infinity and steps too small to divide by, as damaged models have them."""
    whole = Range(0.0, 3.0, 1.0, True)
    assert whole.has(2.0) and not whole.has(2.5)
    assert not whole.has(math.inf) and not whole.has(math.nan)
    assert not Range(0.0, 1.0, 5e-324).has(1e300)


def test_bounds_are_rounded_as_values_are(tmp_path: Path) -> None:
    """2.2 * 3.6363635 is a hair below 8 and, in float32, 8: there are nine levels."""
    nodes = [node("Clip", "x zero most", "c"), node("Mul", "c s", "m"), node("Floor", "m", "q")]
    most = np.float32(2.2)
    constants = {"zero": np.float32(0), "most": most, "s": np.float32(8) / most}
    assert float(most) * float(constants["s"]) < 8
    result = network((nodes, constants), RNG.choice([-1.0, 1.0], (9, 40, 1, 1)), tmp_path)
    assert domains(result) == ["u4 x bipolar"]
    check(result, {"x": np.full(X.shape, 5, np.float32)})


@pytest.mark.parametrize("lowest", [-100, -42, 0])
def test_bytes_behind_a_scale_have_all_of_their_levels(lowest: int) -> None:
    """255 steps of a scale, rounded to float32, are a little more or less than 255 steps."""
    for scale in RNG.uniform(0.001, 0.1, 200).astype(np.float32).tolist():
        known = Range(float(lowest), lowest + 255.0, 1.0, True).scaled(scale)
        assert known.bounds() == (lowest, lowest + 255)
        assert known.divided(scale).bounds() == (lowest, lowest + 255)


def test_an_offset_that_rounds_is_none() -> None:
    """(q * 0.3 + 1.5 * 2^23) - 1.5 * 2^23 is q * 0.3, rounded to an integer."""

    def chain(offset: float) -> tuple[float, ...] | None:
        value = ops.Cast(Block(arg_types=[tensor((2, 3), bipolar)]).args[0]).result
        for kind, number in ((ops.Mul, 0.3), (ops.Add, offset), (ops.Sub, offset)):
            value = kind(value, ops.Constant(np.asarray(number, np.float32)).result).result
        found = affine(Levels(), value)
        return found and found[1:]

    assert chain(1.5 * 2**23) is None
    assert chain(4096.0) is None
    assert chain(2.0) == pytest.approx((0.3, 0.0))


def test_steps_that_a_large_offset_rounds_are_none() -> None:
    """2^20 steps of 0.3 are a float32; one step more is rounded to a multiple of 2^-5."""
    steps, integers = Range(0.0, 15.0, 1.0, True).scaled(0.3), Range(0.0, 15.0, 1.0, True)
    assert steps.moved(0.3 * 2**20).step is None
    assert steps.moved(-0.3 * 128).step == pytest.approx(0.3)
    assert integers.moved(2.0**20).exact and not integers.moved(2.0**20 + 0.5).exact


def test_zeros_around_an_image_count_in_its_mean(tmp_path: Path) -> None:
    """Values of 10 to 14 have means below 10 at the border, where the padding counts."""
    pool = node("AveragePool", "c", "a", kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=1)
    nodes = [node("Clip", "x low high", "c"), pool, node("Round", "a", "q")]
    constants = {"low": np.float32(10), "high": np.float32(14)}
    result = network((nodes, constants), RNG.choice([-1.0, 1.0], (9, 40, 1, 1)), tmp_path)
    assert domains(result) == ["u4 x bipolar"]
    check(result, {"x": np.full(X.shape, 12, np.float32)})


def test_a_clip_between_integers_leaves_none(tmp_path: Path) -> None:
    """3 - 2^-22 is so near to 3 that it passes for a multiple of 1; an integer it is not."""
    known = Range(-10.0, 10.0, 1.0, True).clipped(0.0, 3 - 2.0**-22)
    assert known.step == 1 and not known.exact
    assert Range(-10.0, 10.0, 1.0, True).clipped(0.0, 3.0).exact


def test_long_chains_are_not_walked_by_recursion() -> None:
    value = ops.Cast(Block(arg_types=[tensor((2, 3), bipolar)]).args[0]).result
    for _ in range(5000):
        value = ops.Neg(value).result
    assert Levels().of(value) == Range(-1.0, 1.0, 1.0, True)
