# SPDX-License-Identifier: Apache-2.0
"""Every operation of the dialect in upstream MLIR: mlir-opt takes it, and compiled by LLVM it gives what the
reference does."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp, TensorType, f16, f32, f64, i1, i8, i32
from xdsl.ir import Block, Operation, Region, SSAValue

from bnncc.dialect import BNN, neurons
from bnncc.dialect import operations as ops
from bnncc.dialect.time import Scan
from bnncc.dialect.types import (
    bipolar,
    element_of,
    i64,
    is_number,
    level_type,
    shape_of,
    spike,
    tensor,
    ternary,
    ui8,
)
from bnncc.linalg.convert import convert_module
from bnncc.linalg.convolution import FORMS
from bnncc.reference import evaluate_block
from tests.mlir.support import Compiled, append, function, known, values

RANDOM = np.random.default_rng(8)

Body = Callable[..., Operation]


@dataclass(frozen=True)
class Example:
    """A function of one operation, or few."""

    arguments: tuple[TensorType, ...]
    body: Body
    allowed: Sequence[int] | None = None
    """Numbers that the arguments hold, where not any will do."""


EXAMPLES: dict[str, Example] = {}

IMAGE = (2, 5, 4, 40)
DOMAINS = {
    "bipolar": bipolar,
    "spike": spike,
    "ternary": ternary,
    "u2": level_type(0, 3),
    "s3": level_type(-4, 3),
    "odd": level_type(2, 5),
}
NUMBERS = {"f32": f32, "i32": i32, "i8": i8, "ui8": ui8, "f64": f64, "i64": i64, "f16": f16}


def example(
    name: str, arguments: Sequence[TensorType], body: Body, allowed: Sequence[int] | None = None
) -> None:
    """Add one; names are C names."""
    name = re.sub(r"\W", "_", name)
    assert name not in EXAMPLES
    EXAMPLES[name] = Example(tuple(arguments), body, allowed)


def convolutions() -> None:
    """Domains, paddings, strides, groups and odd channels."""
    weights = {"bipolar": bipolar, "ternary": ternary, "s2": level_type(-2, 1), "odd": level_type(-3, 3)}
    for (name, x), (of, w) in itertools.product(DOMAINS.items(), weights.items()):
        example(
            f"conv {name} {of}",
            [tensor(IMAGE, x)],
            lambda v, w=w: ops.Conv2d(v, known(RANDOM, (9, 3, 3, 40), w), pads=(1, 1, 1, 1)),
        )
    for value, x in itertools.product((-1, 1), (bipolar, ternary)):
        example(
            f"conv {x.name} padding {value + 1}",
            [tensor(IMAGE, x)],
            lambda v, value=value: ops.Conv2d(
                v,
                known(RANDOM, (9, 3, 3, 40), bipolar),
                pads=(2, 0, 1, 1),
                strides=(2, 1),
                pad_value=value,
            ),
        )
    for groups, channels in ((2, 64), (4, 40), (40, 40), (1, 7)):
        for x, w in ((bipolar, bipolar), (ternary, ternary), (f32, f32), (level_type(0, 3), bipolar)):
            example(
                f"conv {groups} groups of {channels} {x.name} {getattr(x, 'planes', '')}",
                [tensor((1, 6, 5, channels), x)],
                lambda v, g=groups, c=channels, w=w: ops.Conv2d(
                    v,
                    known(RANDOM, (2 * g, 3, 2, c // g), w),
                    pads=(1, 0, 1, 1),
                    dilations=(2, 1),
                    strides=(1, 2),
                    groups=g,
                ),
            )
    for name, x in (("spikes x i8", spike), ("counts x i8", level_type(0, 4))):
        arguments = [tensor((1, 5, 4, 9), x)]
        example(f"conv {name}", arguments, lambda v: ops.Conv2d(v, known(RANDOM, (3, 2, 2, 9), i8)))
        example(f"dense {name}", [tensor((2, 45), x)], lambda v: ops.Dense(v, known(RANDOM, (11, 45), i8)))
    for name, x in {**DOMAINS, "f32": f32}.items():
        w = f32 if x == f32 else ternary
        example(
            f"dense {name}",
            [tensor((2, 3, 45), x)],
            lambda v, w=w: ops.Dense(v, known(RANDOM, (11, 45), w)),
        )


def element_wise() -> None:
    """Arithmetic, comparisons, casts."""
    shape = (3, 4, 5)
    for kind in (f32, i32):
        for op in ops.UNARY:
            if kind == f32 or op in (ops.Neg, ops.Abs, ops.Relu):
                example(f"{op.name} {kind}", [tensor(shape, kind)], op)
        for op in ops.BINARY:
            if kind == f32 or op is not ops.Pow:
                some = (-3, -1, 2, 5) if op is ops.Div and kind == i32 else None
                example(f"{op.name} {kind}", [tensor(shape, kind), tensor((4, 1), kind)], op, some)
        for relation in ops.COMPARISONS:
            example(
                f"{relation} {kind}",
                [tensor(shape, kind), tensor((5,), kind)],
                lambda x, y, relation=relation: ops.Compare(relation, x, y),
            )
    example(
        "select",
        [tensor(shape, i1), tensor(shape, f32), tensor((), f32)],
        ops.Select,
    )
    for name, x in DOMAINS.items():
        example(f"select {name}", [tensor(shape, i1), tensor(shape, x), tensor(shape, x)], ops.Select)
    example("clip", [tensor(shape, f32)], lambda x: ops.Clip(x, -1.5, math.inf))
    for shift in (16, 32):
        arguments = [tensor(shape, i32), tensor((5,), i32)]
        example(f"mul_shift {shift}", arguments, lambda x, y, shift=shift: ops.MulShift(x, y, shift))
    for name, rows in (("one row", 1), ("a row for each", 5)):
        table, first = RANDOM.uniform(-1, 1, (rows, 9)).astype(np.float32), np.full(rows, -4)
        arguments = [tensor(shape, i32)]
        example(f"lookup {name}", arguments, lambda x, t=table, f=first: ops.Lookup(x, t, f))
    example("prelu", [tensor(shape, f32), tensor((5,), f32)], ops.PRelu)
    example(
        "batch_norm",
        [tensor(shape, f32)],
        lambda x: ops.BatchNorm(
            [x, *(ops.Constant(a).result for a in RANDOM.uniform(0.5, 2, (4, 5)).astype(np.float32))], 1e-3
        ),
    )
    for (name, x), (to, y) in itertools.product({**DOMAINS, **NUMBERS, "i1": i1}.items(), repeat=2):
        allowed = is_number(y) or (is_number(x) and y == spike) or x == y
        if allowed:
            some = (0, 1) if y == spike and is_number(x) else None
            example(f"cast {name} {to}", [tensor((2, 37), x)], lambda v, y=y: ops.Cast(v, y), some)


def decisions() -> None:
    """What makes bits of numbers."""
    for zero, kind in itertools.product((-1, 0, 1), (f32, i32)):
        example(
            f"binarize {zero + 1} {kind}",
            [tensor((2, 70), kind)],
            lambda x, zero=zero: ops.Binarize(x, zero),
        )
    signs = RANDOM.choice([-1, 1], 70)
    limits = RANDOM.integers(-3, 4, 70)
    example("threshold", [tensor((2, 70), i32)], lambda x: ops.Threshold(x, limits, signs))
    example("flip", [tensor((2, 70), bipolar)], lambda x: ops.Flip(x, signs))


def movement() -> None:
    """Transposes, reshapes, pads, concatenations of numbers and of bits."""
    for name, x in {"f32": f32, "bipolar": bipolar, "ternary": ternary, "u2": level_type(0, 3)}.items():
        value = {"f32": -2.5, "bipolar": 1.0, "ternary": -1.0, "u2": 2.0}[name]
        example(f"transpose outer {name}", [tensor((2, 3, 40), x)], lambda v: ops.Transpose(v, (1, 0, 2)))
        example(f"transpose all {name}", [tensor((2, 3, 40), x)], lambda v: ops.Transpose(v, (2, 0, 1)))
        example(f"reshape {name}", [tensor((2, 3, 40), x)], lambda v: ops.Reshape(v, (4, 60)))
        example(f"reshape words {name}", [tensor((2, 3, 64), x)], lambda v: ops.Reshape(v, (2, 192)))
        example(f"reshape outer {name}", [tensor((2, 3, 40), x)], lambda v: ops.Reshape(v, (6, 1, 40)))
        example(
            f"pad outer {name}",
            [tensor((2, 3, 40), x)],
            lambda v, value=value: ops.Pad(v, (1, 0, 0), (0, 2, 0), value),
        )
        example(
            f"pad inner {name}",
            [tensor((2, 3, 40), x)],
            lambda v, value=value: ops.Pad(v, (0, 1, 3), (0, 0, 1), value),
        )
        for axis, extents in enumerate(((2, 3), (2, 2), (33, 40))):
            shapes = [[2, 2, 40], [2, 2, 40]]
            for shape, extent in zip(shapes, extents, strict=True):
                shape[axis] = extent
            example(
                f"concat {axis} {name}",
                [tensor(shape, x) for shape in shapes],
                lambda *v, axis=axis: ops.Concat(v, axis),
            )


def reductions() -> None:
    """Pools, means, softmax."""
    window = {"kernel": (3, 2), "strides": (2, 1), "pads": (1, 0, 1, 1)}
    for kind in (f32, i32, bipolar):
        example(f"max_pool {kind.name}", [tensor(IMAGE, kind)], lambda x: ops.MaxPool(x, **window))
    for count in (False, True):
        example(
            f"mean_pool {count}",
            [tensor(IMAGE, f32)],
            lambda x, count=count: ops.MeanPool(x, **window, count_outside=count),
        )
    example("count_pool", [tensor(IMAGE, spike)], lambda x: ops.CountPool(x, (3, 2), (2, 1)))
    example("channel_mean", [tensor(IMAGE, f32)], ops.ChannelMean)
    example("softmax", [tensor((2, 3, 7), f32)], ops.Softmax)


def over_time() -> None:
    """Neurons, and loops that carry states and collect numbers and bits."""
    shape = (2, 37)
    state = tensor(shape, f32)
    for reset, fire, delayed in itertools.product(("zero", "subtract"), ("gt", "ge"), (False, True)):
        example(
            f"lif {reset} {fire} {delayed}",
            [state, state],
            lambda x, v, r=reset, f=fire, d=delayed: neurons.lif(
                x, v, decay=0.5, threshold=2.0, reset=r, fire=f, delayed=d
            ),
        )
    example("multi_spike_if", [state, state], lambda x, v: neurons.multi_spike_if(x, v, lowest=-1.0))

    def layer(x: SSAValue, v: SSAValue, gain: SSAValue) -> Operation:
        """x [T, ...] spikes; the neurons' spikes are collected."""
        block = Block(arg_types=[tensor(shape, spike), state, gain.type])
        current = ops.Mul(ops.Cast(block.args[0]).result, block.args[2])
        neuron = neurons.lif(current.result, block.args[1], decay=0.5, threshold=1.0, reset="subtract")
        append(block, neuron)
        block.add_op(ops.Yield([neuron.new_states[0], neuron.outputs[0], current.result]))
        return Scan([x], [v], [gain], 5, Region(block))

    example("scan", [tensor((5, *shape), spike), state, tensor((37,), f32)], layer)


for add in (convolutions, element_wise, decisions, movement, reductions, over_time):
    add()


@pytest.fixture(scope="module", params=[*FORMS, "scheduled"])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    functions = [function(name, e.arguments, e.body) for name, e in EXAMPLES.items()]
    scheduled = request.param == "scheduled"
    form = "direct" if scheduled else request.param
    return Compiled(ModuleOp(functions), tmp_path_factory.mktemp("mlir"), form, scheduled)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_operation(name: str, compiled: Compiled) -> None:
    block, allowed = compiled.functions[name].body.block, EXAMPLES[name].allowed
    inputs = [values(RANDOM, shape_of(value), element_of(value)) for value in block.args]
    if allowed:
        inputs = [RANDOM.choice(np.array(allowed, x.dtype), x.shape) for x in inputs]
    with np.errstate(all="ignore"):
        expected = evaluate_block(block, inputs)
    for got, wanted in zip(compiled.run(name, inputs), expected, strict=True):
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=2e-6)
        else:
            np.testing.assert_array_equal(got, wanted)


def test_every_operation_has_an_example() -> None:
    """But those that others are made of, and those that hold others."""
    used = {op.name for example in EXAMPLES.values() for op in body_of(example)}
    known_here = {kind.name for kind in BNN.operations}
    elsewhere = {"bnn.onnx", "bnn.fused", "bnn.yield"}
    assert known_here - used == elsewhere


def body_of(example: Example) -> Iterator[Operation]:
    block = function("f", example.arguments, example.body).body.block
    return iter(op for op in block.ops)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_of_bnn_is_left(form: str) -> None:
    functions = [function(name, e.arguments, e.body) for name, e in EXAMPLES.items()]
    dialects = {op.name.partition(".")[0] for op in convert_module(ModuleOp(functions), form).walk()}
    assert dialects <= {"builtin", "func", "linalg", "tensor", "arith", "math", "scf"}
