# SPDX-License-Identifier: Apache-2.0
"""The NumPy meaning of every operation of the `bnn` dialect: the oracle of every test.

Values of a domain are int8 arrays of their values (a bipolar tensor holds -1 and +1), numbers are arrays of
their own type. Binary contractions are exact; real ones are float32, summed in the order that BLAS likes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from xdsl.dialects.builtin import ModuleOp, i8, i32
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, SSAValue

from bnncc.data.spike_words import unpacked
from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.dialect import time
from bnncc.dialect.network import INPUTS, OUTPUTS, main_function, names_of, states_of
from bnncc.dialect.operations import unpack, vector_of
from bnncc.dialect.types import domain_values, element_of, numpy_type, shape_of, spike

Observer = Callable[[Operation, list[np.ndarray]], list[np.ndarray] | None]
"""Told of an operation and its results; returns results to go on with instead, or None to keep them."""

EXACT_IN_FLOAT32 = 1 << 24
"""Integers up to this magnitude, and so sums of as many ones, are exact in float32."""


def evaluate(
    module: ModuleOp, inputs: Mapping[str, np.ndarray], observe: Observer | None = None
) -> dict[str, np.ndarray]:
    """The outputs of `func @main` by their ONNX names, for inputs by their ONNX names.

    `observe` is called after every operation, for those inside a fused region before the region itself
    (`op.parent_op()` tells them apart), for those inside a loop once each step. Of a step function the states
    that are not given are zeros. Raises BnnccError for a missing, unknown or misshapen input.
    """
    main = main_function(module)
    arguments = check_inputs(main, inputs)
    results = evaluate_block(main.body.block, arguments, observe)
    return dict(zip(names_of(main, OUTPUTS), results, strict=True))


def evaluate_steps(
    module: ModuleOp, sequences: Mapping[str, np.ndarray], initial: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """All outputs [T, ...] of T steps of a network with states, for inputs [T, ...], by ONNX names.

    initial: states before the first step by their input names; those not given are zeros.
    Raises BnnccError as `evaluate`."""
    carried = states_of(main_function(module))
    states = dict(initial or {})
    steps: list[dict[str, np.ndarray]] = []
    for slices in zip(*sequences.values(), strict=True):
        outputs = evaluate(module, dict(zip(sequences, slices, strict=True)) | states)
        states = {before: outputs[after] for before, after in carried.items()}
        steps.append(outputs)
    return {name: np.stack([outputs[name] for outputs in steps]) for name in steps[0]}


def check_inputs(main: FuncOp, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The arguments of the function in order, in their own types. Raises BnnccError."""
    names, states = names_of(main, INPUTS), states_of(main)
    for name in inputs:
        if name not in names:
            raise BnnccError(name, "the network has no such input", f"its inputs are {', '.join(names)}")
    arguments = []
    for name, argument in zip(names, main.body.block.args, strict=True):
        if name not in inputs and name in states:
            arguments.append(np.zeros(shape_of(argument), numpy_type(element_of(argument))))
            continue
        if name not in inputs:
            raise BnnccError(name, "this input of the network is missing")
        array = np.asarray(inputs[name])
        if element_of(argument) == spike and array.dtype == np.uint32:
            array = unpacked(array, shape_of(argument)[-1])
        if array.shape != shape_of(argument):
            raise BnnccError(name, f"expected an array of shape {shape_of(argument)}, got {array.shape}")
        arguments.append(array.astype(numpy_type(element_of(argument)), copy=False))
    return arguments


def evaluate_block(
    block: Block, arguments: Sequence[np.ndarray], observe: Observer | None = None
) -> list[np.ndarray]:
    """The operands of the block's terminator, for the block's arguments."""
    values: dict[SSAValue, np.ndarray] = dict(zip(block.args, arguments, strict=True))
    for op in block.ops:
        operands = [values[operand] for operand in op.operands]
        if isinstance(op, ReturnOp | ops.Yield):
            return operands
        results = evaluate_region(op, operands, observe)
        replaced = observe(op, results) if observe is not None else None
        values.update(zip(op.results, results if replaced is None else replaced, strict=True))
    raise AssertionError("a block ends in return or yield")


def evaluate_region(
    op: Operation, operands: Sequence[np.ndarray], observe: Observer | None
) -> list[np.ndarray]:
    """The results of an operation, the observer told of what happens inside its region."""
    match op:
        case ops.Fused():
            return evaluate_fused(op, operands, observe)
        case time.Neuron():
            return evaluate_neuron(op, operands, observe)
        case time.Scan():
            return evaluate_scan(op, operands, observe)
        case _:
            return evaluate_operation(op, operands)


def evaluate_neuron(
    op: time.Neuron, operands: Sequence[np.ndarray], observe: Observer | None = None
) -> list[np.ndarray]:
    """The outputs and the new states of a neuron."""
    return evaluate_block(op.block, operands, observe)


def evaluate_scan(
    op: time.Scan, operands: Sequence[np.ndarray], observe: Observer | None = None
) -> list[np.ndarray]:
    """The final states and what the steps collected. Raises BnnccError for a count that is out of range."""
    given = list(operands)
    count = op.steps if op.count is None else _checked_count(op, given.pop())
    sequences = [given.pop(0) for _ in op.sequences]
    states, invariants = given[: len(op.initial)], given[len(op.initial) :]
    collected: list[list[np.ndarray]] = []
    for step in range(count):
        slices = [sequence[step] for sequence in sequences]
        results = evaluate_block(op.block, [*slices, *states, *invariants], observe)
        states = results[: len(states)]
        collected.append(results[len(states) :])
    stacked = [np.zeros(shape_of(value), numpy_type(element_of(value))) for value in op.stacked]
    for step, column in enumerate(collected):
        for whole, value in zip(stacked, column, strict=True):
            whole[step] = value
    return [*states, *stacked]


def _checked_count(op: time.Scan, count: np.ndarray) -> int:
    number = int(count.reshape(-1)[0])
    if number < 0 or (op.steps and number > op.steps):
        most = f"0 to {op.steps}" if op.steps else "0 or more"
        raise BnnccError("", f"the number of steps must be {most}, got {number}")
    return number


def evaluate_fused(
    op: ops.Fused, inputs: Sequence[np.ndarray], observe: Observer | None = None
) -> list[np.ndarray]:
    """The results of a fused region."""
    return evaluate_block(op.block, inputs, observe)


def evaluate_operation(op: Operation, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The results of one operation. Shapes are taken from the inputs, so an element-wise operation may be
    asked for more values than its type says."""
    with np.errstate(all="ignore"):
        return EVALUATORS[type(op)](op, *inputs)


def _constant(op: ops.Constant) -> list[np.ndarray]:
    return [op.array]


def _onnx(op: ops.Onnx, *inputs: np.ndarray) -> list[np.ndarray]:
    from bnncc.frontend.evaluate import evaluate_node
    from bnncc.frontend.nodes import to_node_proto

    given = dict(zip(unpack(op.slots), inputs, strict=True))
    slots = [given.get(slot) for slot in range(max(given, default=-1) + 1)]
    return list(evaluate_node(to_node_proto(op), op.opset.value.data, slots))


def windows(
    x: np.ndarray,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    value: float,
) -> np.ndarray:
    """A view [n, h, w, c, kh, kw] of the windows over x [n, h, w, c], `value` outside the image."""
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    view = sliding_window_view(padded, spans, axis=(1, 2))
    return view[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]]


def _conv2d(op: ops.Conv2d, x: np.ndarray, w: np.ndarray) -> list[np.ndarray]:
    exact = element_of(op.result) == i32
    out_channels, height, width, depth = w.shape
    groups, taps = op.groups.value.data, height * width * depth
    dtype = working_type(taps * _largest_product(op)) if exact else np.float32
    view = windows(
        x, (height, width), unpack(op.strides), unpack(op.dilations), unpack(op.pads), op.pad_value.value.data
    ).astype(dtype, copy=False)
    n, rows, columns = view.shape[:3]
    # [groups, pixels, taps] x [groups, taps, channels]: one BLAS call a group.
    patches = view.reshape(n * rows * columns, groups, depth, height * width)
    patches = patches.transpose(1, 0, 3, 2).reshape(groups, -1, taps)
    weights = w.astype(dtype, copy=False).reshape(groups, out_channels // groups, taps).transpose(0, 2, 1)
    y = np.matmul(patches, weights).transpose(1, 0, 2).reshape(n, rows, columns, out_channels)
    return [y.astype(numpy_type(element_of(op.result)))]


def _dense(op: ops.Dense, x: np.ndarray, w: np.ndarray) -> list[np.ndarray]:
    exact = element_of(op.result) == i32
    dtype = working_type(w.shape[1] * _largest_product(op)) if exact else np.float32
    y = np.matmul(x.astype(dtype, copy=False), w.astype(dtype, copy=False).T)
    return [y.astype(numpy_type(element_of(op.result)))]


def working_type(largest: int) -> type[np.floating]:
    """The float type in which sums of integers up to this magnitude are exact."""
    return np.float32 if largest < EXACT_IN_FLOAT32 else np.float64


def _largest_product(op: ops.Conv2d | ops.Dense) -> int:
    """Of one activation and one weight."""
    elements = [element_of(operand) for operand in op.operands]
    domains = [{128} if element == i8 else domain_values(element) or {0} for element in elements]
    return math.prod(max(map(abs, values)) for values in domains)


def _binarize(op: ops.Binarize, x: np.ndarray) -> list[np.ndarray]:
    match op.zero.value.data:
        case 0:
            return [(x > 0).astype(np.int8) - (x < 0).astype(np.int8)]
        case 1:
            return [np.where(x >= 0, np.int8(1), np.int8(-1))]
        case _:
            return [np.where(x > 0, np.int8(1), np.int8(-1))]


def _threshold(op: ops.Threshold, x: np.ndarray) -> list[np.ndarray]:
    bits = np.where(x >= vector_of(op.thresholds), np.int8(1), np.int8(-1))
    return [bits * vector_of(op.signs)]


def _flip(op: ops.Flip, x: np.ndarray) -> list[np.ndarray]:
    return [x * vector_of(op.signs)]


def _batch_norm(
    op: ops.BatchNorm,
    x: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
) -> list[np.ndarray]:
    epsilon = np.float32(op.epsilon.value.data)
    return [scale * (x - mean) / np.sqrt(variance + epsilon) + bias]


def _pool_windows(op: ops.MaxPool | ops.MeanPool, x: np.ndarray, outside: float) -> np.ndarray:
    geometry = (unpack(op.kernel), unpack(op.strides), unpack(op.dilations), unpack(op.pads))
    return windows(x, *geometry, outside)


def _max_pool(op: ops.MaxPool, x: np.ndarray) -> list[np.ndarray]:
    lowest = -np.inf if np.issubdtype(x.dtype, np.floating) else np.iinfo(x.dtype).min
    return [_pool_windows(op, x, lowest).max(axis=(4, 5))]


def _count_pool(op: ops.CountPool, x: np.ndarray) -> list[np.ndarray]:
    view = windows(x, unpack(op.kernel), unpack(op.strides), unpack(op.dilations), (0, 0, 0, 0), 0)
    return [view.sum(axis=(4, 5), dtype=np.int8)]


def _mean_pool(op: ops.MeanPool, x: np.ndarray) -> list[np.ndarray]:
    exact = np.float32 if x.dtype.kind == "f" else np.int64
    total = _pool_windows(op, x, 0).sum(axis=(4, 5), dtype=exact).astype(np.float32)
    height, width = unpack(op.kernel)
    if op.count_outside.value.data:
        return [total / np.float32(height * width)]
    inside = np.ones((1, *x.shape[1:3], 1), np.float32)
    return [total / _pool_windows(op, inside, 0.0).sum(axis=(4, 5), dtype=np.float32)]


def _channel_mean(op: ops.ChannelMean, x: np.ndarray) -> list[np.ndarray]:
    return [x.mean(axis=-1, keepdims=True, dtype=np.float32)]


def _cast(op: ops.Cast, x: np.ndarray) -> list[np.ndarray]:
    domain = element_of(op.result)
    allowed = domain_values(domain)
    if allowed is not None and x.dtype.kind == "f":
        x = np.where(np.isnan(x), min(allowed), x)
    # Whoever casts to a domain has proved that its values are there; kernels keep no more bits than it needs.
    assert allowed is None or np.isin(x, list(allowed)).all(), f"{np.unique(x)} cast to {domain}"
    return [x.astype(numpy_type(domain))]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _divide(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    if np.issubdtype(left.dtype, np.integer):
        return np.trunc(np.divide(left, right, dtype=np.float64))
    return np.divide(left, right)


UNARY: dict[type[Operation], Callable[[np.ndarray], np.ndarray]] = {
    ops.Neg: np.negative,
    ops.Abs: np.abs,
    ops.Relu: lambda x: np.maximum(x, 0),
    ops.Sqrt: np.sqrt,
    ops.Exp: np.exp,
    ops.Log: np.log,
    ops.Tanh: np.tanh,
    ops.Sigmoid: _sigmoid,
    ops.Round: np.rint,
    ops.Floor: np.floor,
    ops.Ceil: np.ceil,
    ops.Erf: _erf,
}

BINARY: dict[type[Operation], Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    ops.Add: np.add,
    ops.Sub: np.subtract,
    ops.Mul: np.multiply,
    ops.Div: _divide,
    ops.Max: np.maximum,
    ops.Min: np.minimum,
    ops.Pow: np.power,
}

COMPARE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "eq": np.equal,
    "ne": np.not_equal,
}


def _unary(op: ops.UnaryOperation, x: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(UNARY[type(op)](x)).astype(x.dtype, copy=False)]


def _binary(op: ops.BinaryOperation, left: np.ndarray, right: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(BINARY[type(op)](left, right)).astype(left.dtype, copy=False)]


def _compare(op: ops.Compare, left: np.ndarray, right: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(COMPARE[op.kind.data](left, right))]


def _select(
    op: ops.Select, condition: np.ndarray, then: np.ndarray, otherwise: np.ndarray
) -> list[np.ndarray]:
    return [np.where(condition, then, otherwise)]


def _clip(op: ops.Clip, x: np.ndarray) -> list[np.ndarray]:
    low, high = np.float32(op.low.value.data), np.float32(op.high.value.data)
    return [np.minimum(np.maximum(x, low), high)]


def _mul_shift(op: ops.MulShift, left: np.ndarray, right: np.ndarray) -> list[np.ndarray]:
    shift = op.shift.value.data
    return [((left.astype(np.int64) * right + (1 << shift - 1)) >> shift).astype(np.int32)]


def _lookup(op: ops.Lookup, x: np.ndarray) -> list[np.ndarray]:
    rows, place = op.rows, x - vector_of(op.first)
    assert place.size == 0 or (place.min() >= 0 and place.max() < rows.shape[1]), "a number beyond the table"
    return [rows[np.arange(rows.shape[0]), place]]


def _prelu(op: ops.PRelu, x: np.ndarray, slope: np.ndarray) -> list[np.ndarray]:
    return [np.where(x >= 0, x, slope * x)]


def _softmax(op: ops.Softmax, x: np.ndarray) -> list[np.ndarray]:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return [powers / powers.sum(axis=-1, keepdims=True)]


def _transpose(op: ops.Transpose, x: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(x.transpose(unpack(op.permutation)))]


def _reshape(op: ops.Reshape, x: np.ndarray) -> list[np.ndarray]:
    return [x.reshape(shape_of(op.result))]


def _pad(op: ops.Pad, x: np.ndarray) -> list[np.ndarray]:
    pads = list(zip(unpack(op.low), unpack(op.high), strict=True))
    kept = tuple(slice(max(0, -low), n - max(0, -high)) for n, (low, high) in zip(x.shape, pads, strict=True))
    widths = [(max(0, low), max(0, high)) for low, high in pads]
    value = np.asarray(op.value.value.data).astype(x.dtype)
    return [np.pad(x[kept], widths, constant_values=value)]


def _concat(op: ops.Concat, *inputs: np.ndarray) -> list[np.ndarray]:
    return [np.concatenate(inputs, axis=op.axis.value.data)]


def _fused(op: ops.Fused, *inputs: np.ndarray) -> list[np.ndarray]:
    return evaluate_fused(op, inputs)


def _neuron(op: time.Neuron, *inputs: np.ndarray) -> list[np.ndarray]:
    return evaluate_neuron(op, inputs)


def _scan(op: time.Scan, *inputs: np.ndarray) -> list[np.ndarray]:
    return evaluate_scan(op, inputs)


EVALUATORS: dict[type[Operation], Callable[..., list[np.ndarray]]] = {
    ops.Constant: _constant,
    ops.Onnx: _onnx,
    ops.Conv2d: _conv2d,
    ops.Dense: _dense,
    ops.Binarize: _binarize,
    ops.Threshold: _threshold,
    ops.Flip: _flip,
    ops.BatchNorm: _batch_norm,
    ops.MaxPool: _max_pool,
    ops.MeanPool: _mean_pool,
    ops.CountPool: _count_pool,
    ops.ChannelMean: _channel_mean,
    ops.Cast: _cast,
    **dict.fromkeys(ops.UNARY, _unary),
    **dict.fromkeys(ops.BINARY, _binary),
    ops.Compare: _compare,
    ops.Select: _select,
    ops.Clip: _clip,
    ops.PRelu: _prelu,
    ops.MulShift: _mul_shift,
    ops.Lookup: _lookup,
    ops.Softmax: _softmax,
    ops.Transpose: _transpose,
    ops.Reshape: _reshape,
    ops.Pad: _pad,
    ops.Concat: _concat,
    ops.Fused: _fused,
    time.Neuron: _neuron,
    time.Scan: _scan,
}
"""The meaning of every operation, by its class."""
