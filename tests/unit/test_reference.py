# SPDX-License-Identifier: Apache-2.0
"""The reference against plain loops and against what the docstrings of the dialect say."""

from __future__ import annotations

import numpy as np
import pytest
from xdsl.dialects import test
from xdsl.dialects.builtin import ModuleOp, f32, i1, i32
from xdsl.ir import Attribute, Operation

from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.dialect.parsing import parse_module
from bnncc.dialect.types import bipolar, spike, tensor, ternary
from bnncc.reference import evaluate, evaluate_operation

RANDOM = np.random.default_rng(7)


def real(values) -> np.ndarray:
    """A float32 array."""
    return np.asarray(values, np.float32)


def integer(values) -> np.ndarray:
    """An int32 array."""
    return np.asarray(values, np.int32)


def value(shape: tuple[int, ...], element: Attribute = f32):
    """An SSA value of a type, defined by nothing in particular."""
    return test.TestOp(result_types=[tensor(shape, element)]).res[0]


def signs(*shape: int) -> np.ndarray:
    """Random values in {-1, +1}."""
    return RANDOM.choice(np.array([-1, 1], np.int8), shape)


def run(op: Operation, *inputs: np.ndarray) -> np.ndarray:
    """The single result of an operation, checked against its type."""
    op.verify()
    (result,) = evaluate_operation(op, inputs)
    return result


def convolve(x, w, strides, dilations, pads, groups, pad_value) -> np.ndarray:
    """The equation of bnn.conv2d as loops, in Python integers or float64."""
    top, left, bottom, right = pads
    padded = np.pad(
        x.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=pad_value
    )
    o, kh, kw, depth = w.shape
    h = (padded.shape[1] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    v = (padded.shape[2] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    y = np.zeros((x.shape[0], h, v, o))
    for out in range(o):
        group = out // (o // groups)
        part = padded[..., group * depth : (group + 1) * depth]
        for i in range(h):
            for j in range(v):
                rows = i * strides[0] + np.arange(kh) * dilations[0]
                columns = j * strides[1] + np.arange(kw) * dilations[1]
                y[:, i, j, out] = (part[:, rows][:, :, columns] * w[out]).sum(axis=(1, 2, 3))
    return y


@pytest.mark.parametrize(
    ("strides", "dilations", "pads", "groups", "pad_value"),
    [
        ((1, 1), (1, 1), (0, 0, 0, 0), 1, 0),
        ((2, 1), (1, 2), (1, 2, 0, 1), 2, 0),
        ((1, 2), (2, 1), (1, 1, 1, 1), 6, 1),
        ((3, 3), (1, 1), (2, 2, 2, 2), 3, -1),
    ],
)
def test_conv2d_of_bipolar_values(strides, dilations, pads, groups, pad_value):
    x, w = signs(2, 7, 6, 6), signs(12, 3, 2, 6 // groups)
    op = ops.Conv2d(
        value(x.shape, bipolar), value(w.shape, bipolar), strides, dilations, pads, groups, pad_value
    )
    y = run(op, x, w)
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, convolve(x, w, strides, dilations, pads, groups, pad_value))


def test_conv2d_of_real_values():
    x = RANDOM.standard_normal((1, 5, 6, 4)).astype(np.float32)
    w = RANDOM.standard_normal((4, 3, 3, 1)).astype(np.float32)
    op = ops.Conv2d(value(x.shape), value(w.shape), pads=(1, 0, 1, 0), groups=4)
    y = run(op, x, w)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, convolve(x, w, (1, 1), (1, 1), (1, 0, 1, 0), 4, 0), rtol=1e-5, atol=1e-5)


def test_dense_of_ternary_values():
    x, w = signs(3, 50), signs(4, 50)
    x[:, ::3] = 0
    y = run(ops.Dense(value(x.shape, ternary), value(w.shape, bipolar)), x, w)
    np.testing.assert_array_equal(y, x.astype(int) @ w.T.astype(int))


@pytest.mark.parametrize(
    ("zero", "expected"), [(0, [0, 0, 1, -1, 0]), (1, [1, 1, 1, -1, -1]), (-1, [-1, -1, 1, -1, -1])]
)
def test_binarize_zeros_and_nan(zero, expected):
    x = np.array([0.0, -0.0, 1e-30, -1e-30, np.nan], np.float32)
    np.testing.assert_array_equal(run(ops.Binarize(value((5,)), zero), x), expected)


def test_threshold_and_flip():
    x = np.array([[1, 2, 3], [2, 3, 4]], np.int32)
    signs_of = np.array([1, -1, 1])
    y = run(ops.Threshold(value(x.shape, i32), np.array([2, 3, -9]), signs_of), x)
    np.testing.assert_array_equal(y, [[-1, 1, 1], [1, -1, 1]])
    np.testing.assert_array_equal(run(ops.Flip(value(y.shape, bipolar), signs_of), y), y * signs_of)


def test_pools_skip_what_lies_outside():
    x = -np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    maximum = run(ops.MaxPool(value(x.shape), (2, 2), (2, 2), pads=(1, 1, 0, 0)), x)
    np.testing.assert_array_equal(maximum.reshape(-1), [-1, -2, -4, -5])
    mean = run(ops.MeanPool(value(x.shape), (2, 2), (2, 2), pads=(1, 1, 0, 0)), x)
    np.testing.assert_array_equal(mean.reshape(-1), [-1, -2.5, -5.5, -7])
    whole = run(ops.MeanPool(value(x.shape), (2, 2), (2, 2), pads=(1, 1, 0, 0), count_outside=True), x)
    np.testing.assert_array_equal(whole.reshape(-1), [-0.25, -1.25, -2.75, -7])


def test_max_pool_of_bits_and_integers():
    x = signs(1, 4, 4, 3)
    bits = run(ops.MaxPool(value(x.shape, bipolar), (3, 3), (1, 1), pads=(1, 1, 1, 1)), x)
    numbers = run(ops.MaxPool(value(x.shape, i32), (3, 3), (1, 1), pads=(1, 1, 1, 1)), x.astype(np.int32))
    np.testing.assert_array_equal(bits, numbers)


def test_batch_norm_is_evaluated_from_left_to_right():
    x = RANDOM.standard_normal((2, 3)).astype(np.float32)
    scale, bias, mean = RANDOM.standard_normal((3, 3)).astype(np.float32)
    variance = real([0.5, 1.5, 2.5])
    y = run(ops.BatchNorm([value((2, 3)), *[value((3,))] * 4], 1e-3), x, scale, bias, mean, variance)
    np.testing.assert_array_equal(y, scale * (x - mean) / np.sqrt(variance + np.float32(1e-3)) + bias)


def test_element_wise_operations():
    x = real([-2.5, -0.5, 0.0, 1.5])
    half = real([0.5])
    np.testing.assert_array_equal(run(ops.Round(value((4,))), x), [-2, 0, 0, 2])
    np.testing.assert_array_equal(run(ops.Clip(value((4,)), -1, 1), x), [-1, -0.5, 0, 1])
    np.testing.assert_array_equal(run(ops.PRelu(value((4,)), value((1,))), x, half), [-1.25, -0.25, 0, 1.5])
    np.testing.assert_array_equal(run(ops.Compare("lt", value((4,)), value((1,))), x, half), [1, 1, 1, 0])
    chosen = run(ops.Select(value((4,), i1), value((4,)), value((1,))), x > 0, x, half)
    np.testing.assert_array_equal(chosen, [0.5, 0.5, 0.5, 1.5])
    np.testing.assert_allclose(
        run(ops.Sigmoid(value((4,))), x), 1 / (1 + np.exp(-x.astype(float))), rtol=1e-6
    )
    np.testing.assert_allclose(run(ops.Erf(value((1,))), half), [0.5204999], rtol=1e-6)
    integers = integer([-7, 7])
    np.testing.assert_array_equal(
        run(ops.Div(value((2,), i32), value((2,), i32)), integers, integer([2, 2])), [-3, 3]
    )
    np.testing.assert_array_equal(run(ops.Cast(value((4,)), i32), x), [-2, 0, 0, 1])


def test_softmax_does_not_overflow():
    y = run(ops.Softmax(value((1, 2))), real([[1000, 1000]]))
    np.testing.assert_array_equal(y, [[0.5, 0.5]])


def test_layout_operations():
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    np.testing.assert_array_equal(
        run(ops.Transpose(value(x.shape), (0, 3, 1, 2)), x), x.transpose(0, 3, 1, 2)
    )
    np.testing.assert_array_equal(run(ops.Reshape(value(x.shape), (6, 4)), x), x.reshape(6, 4))
    padded = run(ops.Pad(value((2,)), (1,), (2,), 0.5), real([1, 2]))
    np.testing.assert_array_equal(padded, [0.5, 1, 2, 0.5, 0.5])
    joined = run(ops.Concat([value((1, 2)), value((1, 1))], 1), real([[1, 2]]), real([[3]]))
    np.testing.assert_array_equal(joined, [[1, 2, 3]])


MODULE = """
builtin.module {
  func.func @main(%x: tensor<1x2xf32>) -> (tensor<1x2x!bnn.bipolar>)
      attributes {bnn.inputs = ["in"], bnn.outputs = ["out"]} {
    %y = "bnn.fused"(%x) ({
    ^bb0(%a: tensor<1x2xf32>):
      %n = bnn.neg %a : (tensor<1x2xf32>) -> tensor<1x2xf32>
      %b = bnn.binarize %n {zero = 1 : i64} : (tensor<1x2xf32>) -> tensor<1x2x!bnn.bipolar>
      bnn.yield %b : tensor<1x2x!bnn.bipolar>
    }) : (tensor<1x2xf32>) -> tensor<1x2x!bnn.bipolar>
    func.return %y : tensor<1x2x!bnn.bipolar>
  }
}
"""


def module() -> ModuleOp:
    return parse_module(MODULE, "test.mlir")


def test_evaluate_goes_into_fused_regions():
    outputs = evaluate(module(), {"in": real([[1, -1]])})
    np.testing.assert_array_equal(outputs["out"], [[-1, 1]])


def test_observer_sees_and_replaces():
    seen = []

    def observe(op: Operation, results: list[np.ndarray]) -> list[np.ndarray] | None:
        seen.append(op.name)
        return [real([[5, 5]])] if op.name == "bnn.neg" else None

    outputs = evaluate(module(), {"in": real([[1, -1]])}, observe)
    assert seen == ["bnn.neg", "bnn.binarize", "bnn.fused"]
    np.testing.assert_array_equal(outputs["out"], [[1, 1]])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing"),
        ({"in": np.zeros((2, 2))}, r"expected an array of shape \(1, 2\), got \(2, 2\)"),
        ({"in": np.zeros((1, 2)), "other": np.zeros(1)}, "no such input"),
    ],
)
def test_wrong_inputs(inputs, message):
    with pytest.raises(BnnccError, match=message):
        evaluate(module(), inputs)


def test_count_pool():
    x = np.array([[1, 0, 1, 1], [1, 1, 0, 1], [0, 0, 1, 0]], np.int8).reshape(1, 3, 4, 1)
    spikes = value(x.shape, spike)
    assert run(ops.CountPool(spikes, (2, 2), (1, 2)), x).reshape(2, 2).tolist() == [[3, 3], [2, 2]]
    assert run(ops.CountPool(spikes, (2, 2), dilations=(2, 3)), x).reshape(-1).tolist() == [2]
