# SPDX-License-Identifier: Apache-2.0
"""Passes keep the meaning of a network: random networks before and after each, and how they end up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from xdsl.dialects.builtin import ModuleOp, f32, i32
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass

from bnncc import verify
from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.dialect.operations import ROOTS
from bnncc.dialect.parsing import make_context
from bnncc.dialect.sources import get_source, set_source
from bnncc.dialect.types import element_of, is_number, tensor
from bnncc.driver import Options
from bnncc.frontend.onnx import load_onnx
from bnncc.passes.convert_onnx import ConvertOnnxPass
from bnncc.passes.fixed_currents import sum_of
from bnncc.passes.matching import ELEMENTWISE, main_block, push_source
from bnncc.passes.pipeline import PIPELINE, run_pipeline
from bnncc.passes.time.matching import Matcher
from bnncc.reference import evaluate
from bnncc.universe import PASSES, UNIVERSE
from tests.models import make_model, write
from tests.unit.networks import IDIOMS, Network, random_input, random_network

SEEDS = range(60)

node = helper.make_node


def load(model: onnx.ModelProto, folder: Path) -> ModuleOp:
    """The module of a model."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    return load_onnx(path)


def output(module: ModuleOp, x: np.ndarray) -> np.ndarray:
    """The only output for an input."""
    (y,) = evaluate(module, {"x": x}).values()
    return y


@pytest.mark.parametrize(
    "seed", [*SEEDS[:45], *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[45:])]
)
def test_each_pass_keeps_the_meaning(seed: int, tmp_path: Path) -> None:
    module = load(random_network(seed), tmp_path)
    inputs = [random_input(i) for i in range(3)]
    expected = [output(module, x) for x in inputs]

    def compare(name: str, after: ModuleOp) -> None:
        assert not left_over(after), f"after {name}"
        for x, y in zip(inputs, expected, strict=True):
            np.testing.assert_array_equal(output(after, x), y, err_msg=f"after {name}")

    run_pipeline(module, compare)
    check_fused(module)


def left_over(module: ModuleOp) -> list[Operation]:
    """Operations outside the module that read values of it: they were built, and not put in."""
    values = [value for op in main_block(module).ops for value in op.results]
    return [use.operation for value in values for use in value.uses if use.operation.parent is None]


def check_fused(module: ModuleOp) -> None:
    """Every kernel is a region with its root first; no ONNX node is left, nor a binary layer in float32."""
    for op in main_block(module).ops:
        outside = (ops.Fused, ops.Constant, ops.Transpose, ops.Reshape, ops.Pad, ops.Concat, ops.Softmax)
        assert isinstance(op, (*outside, ReturnOp)), op.name
    for fused in module.walk():
        if not isinstance(fused, ops.Fused):
            continue
        work = [op for op in fused.block.ops if not isinstance(op, ops.Constant | ops.Yield)]
        assert all(isinstance(op, ELEMENTWISE) for op in work[1:]), fused
        assert isinstance(work[0], (*ROOTS, *ELEMENTWISE)), fused
        assert fused.outputs, fused


@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda idiom: idiom.__name__)
def test_every_idiom_makes_a_binary_layer(idiom, tmp_path: Path) -> None:
    network = Network(1)
    bits = idiom(network, "x")
    weight = network.constant(network.numbers([-0.5, 0.5], 3, 2, 3, 3))
    y = network.node("Conv", bits, weight, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    module = load(network.model((1, 2, 6, 6), y), tmp_path)
    x = random_input(0)
    expected = output(module, x)
    run_pipeline(module)
    np.testing.assert_array_equal(output(module, x), expected)
    convs = [op for op in module.walk() if isinstance(op, ops.Conv2d)]
    assert [is_number(element_of(conv.input)) for conv in convs] == [False]
    binarizes = [op for op in module.walk() if isinstance(op, ops.Binarize)]
    assert len(binarizes) == 1


def test_assuming_sign_zero_drops_ternary_values(tmp_path: Path) -> None:
    network = Network(1)
    weight = network.numbers([-1, 1], 3, 2, 1, 1)
    y = network.node("Conv", network.node("Sign", "x"), network.constant(weight), kernel_shape=[1, 1])
    module = load(network.model((1, 2, 6, 6), y), tmp_path)
    run_pipeline(module, assume_sign_zero=-1)
    assert "ternary" not in str(module)
    zeros = np.zeros((1, 2, 6, 6), np.float32)
    expected = np.broadcast_to(-weight.sum(axis=1)[None], (1, 3, 6, 6))
    np.testing.assert_array_equal(output(module, zeros), expected)


@pytest.mark.parametrize("seed", range(0, 60, 4))
def test_sources_name_equal_values(seed: int, tmp_path: Path) -> None:
    module = load(random_network(seed), tmp_path)
    known: dict[str, np.ndarray] = {}
    compared = 0

    def remember(op: Operation, results: list[np.ndarray]) -> None:
        source = get_source(op)
        if source is not None:
            known[source[0]] = results[0]

    def compare(op: Operation, results: list[np.ndarray]) -> None:
        nonlocal compared
        source = get_source(op)
        if source is not None and not isinstance(op, ops.Constant):
            compared += 1
            expected = known[source[0]].transpose(source[1])
            np.testing.assert_array_equal(results[0], expected, err_msg=str(op))

    evaluate(module, {"x": random_input(seed)}, remember)
    run_pipeline(module)
    evaluate(module, {"x": random_input(seed)}, compare)
    assert compared >= 2


@pytest.mark.parametrize(
    ("before", "after", "back"),
    [
        ((1, 8, 1, 1), (1, 1, 1, 8), True),
        ((1, 1, 1, 8), (1, 8, 1, 1), True),
        ((3, 1, 5, 1), (1, 3, 1, 5), True),
        ((1, 8, 2, 1), (1, 2, 8, 1), False),
        ((1, 4, 2, 1), (1, 1, 1, 8), False),
        ((1, 8, 1), (1, 1, 1, 8), False),
    ],
)
def test_images_of_one_pixel_keep_their_source(before: tuple, after: tuple, back: bool) -> None:
    """A reshape that only moves dimensions of 1 names its operand too, so that `verify` can compare it."""
    array = np.arange(np.prod(before), dtype=np.float32).reshape(before)
    relu = ops.Relu(ops.Constant(array).result)
    reshape = ops.Reshape(relu.result, after)
    set_source(reshape, "pooled", range(len(after)))
    push_source(reshape)
    source = get_source(relu)
    assert (source is not None) == back
    if source is not None:
        name, permutation = source
        assert name == "pooled"
        np.testing.assert_array_equal(array.reshape(after).transpose(permutation), array)


def test_values_behind_an_image_of_one_pixel_are_verified(tmp_path: Path) -> None:
    """The signs of what a global pool gives are held against the graph's own."""
    rng = np.random.default_rng(4)
    nodes = [
        node("GlobalMaxPool", ["x"], ["g"]),
        node("Sign", ["g"], ["s"]),
        node("Conv", ["s", "w"], ["c"]),
        node("Mul", ["c", "a"], ["m"]),
        node("Sign", ["m"], ["t"]),
        node("Conv", ["t", "v"], ["y"]),
    ]
    constants = {"w": rng.choice([-1.0, 1.0], (7, 5, 1, 1)), "v": rng.choice([-1.0, 1.0], (3, 7, 1, 1))}
    constants["a"] = rng.uniform(-1, 1, (1, 7, 1, 1))
    numbers = {name: array.astype(np.float32) for name, array in constants.items()}
    path = write(tmp_path, make_model(nodes, {"x": [1, 5, 4, 4]}, ["y"], numbers))
    report = verify.verify_model(path, Options(target="c"), samples=2)
    assert report.passed, report.render()
    against = {(row.layer.rpartition(":")[2], row.against) for row in report.rows}
    assert {("Sign_1", "onnx"), ("Sign_4", "onnx")} <= against, report.render()


def test_unknown_nodes_are_told_together(tmp_path: Path) -> None:
    network = Network(0)
    y = network.node("LpNormalization", network.node("LpNormalization", "x"))
    module = load(network.model((1, 2, 6, 6), y), tmp_path)
    with pytest.raises(BnnccError, match="2 problems") as caught:
        run_pipeline(module)
    assert "LpNormalization_0" in str(caught.value) and "LpNormalization_1" in str(caught.value)


def test_a_sign_of_levels_that_never_changes_is_left_as_it_is(tmp_path: Path) -> None:
    """sign(0.5 * b - 1) is -1 for both b: it was rewritten to itself without end."""
    network = Network(0)
    below = network.node("Less", "x", network.constant(np.float32(0)))
    one, minus, half = (network.constant(np.float32(v)) for v in (1, -1, 0.5))
    levels = network.node("Where", below, one, minus)
    moved = network.node("Add", network.node("Mul", levels, half), minus)
    module = load(network.model((1, 2, 3, 3), network.node("Sign", moved)), tmp_path)
    run_pipeline(module)
    x = random_input(0)[:, :2, :3, :3]
    (result,) = evaluate(module, {"x": x}).values()
    assert (result == -1).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_pipeline_is_deterministic(seed: int, tmp_path: Path) -> None:
    texts = []
    for _ in range(2):
        module = load(random_network(seed), tmp_path)
        run_pipeline(module)
        texts.append(str(module))
    assert texts[0] == texts[1]


def test_every_entry_has_a_reason_and_a_name() -> None:
    for kind, reason in PIPELINE:
        assert issubclass(kind, ModulePass) and len(reason) > 20, kind
        assert kind.name in PASSES
    on_request = {"call-library-kernels", "convert-bnn-to-linalg"}
    assert {kind.name for kind, _ in PIPELINE} == set(PASSES) - on_request


@pytest.mark.parametrize("name", PASSES)
def test_names_files_and_classes_agree(name: str) -> None:
    kind = UNIVERSE.all_passes[name]()
    assert kind.name == name
    assert kind.__name__ == "".join(part.capitalize() for part in name.split("-")) + "Pass"


def test_a_refused_node_leaves_no_readers_behind(tmp_path: Path) -> None:
    """What its conversion built before it was refused would count as reading its operands: patterns ask how
    many readers there are, and rewrite those that they find."""
    network = Network(1)
    x = network.node("Reshape", "x", network.constant([1, 4], np.int64))
    weight = network.constant(network.numbers([-1, 1], 4, 4))
    y = network.node("Gemm", network.node("Sign", x), weight, x)
    module = load(network.model((1, 4, 1, 1), y), tmp_path)
    ConvertOnnxPass().apply(make_context(), module)
    assert any(isinstance(op, ops.Onnx) for op in module.walk()), "a bias that is computed is refused"
    assert not left_over(module)


def test_what_differs_by_channel_is_no_number() -> None:
    """The signs of zeros are +1 everywhere; turned for one channel, they are two numbers."""
    state = Block(arg_types=[tensor((1, 2), f32)]).args[0]
    bits = ops.Binarize(state, 1)
    flip = ops.Flip(bits.result, np.array([1, -1], np.int8))
    matcher = Matcher({}, {state: np.float32(0)})
    assert matcher.number(bits.result) == 1
    assert matcher.number(flip.result) is None


@pytest.mark.parametrize("inner, outer, is_sum", [(0.5, -1, True), (-0.5, -1, False), (-0.5, 1, False)])
def test_the_maximum_of_a_current_is_one_of_integers(inner: float, outer: float, is_sum: bool) -> None:
    """-max(0.5 x) is -0.5 max(x), but -max(-0.5 x) is the least of them."""

    def scaled(value: SSAValue, number: float) -> SSAValue:
        return ops.Mul(value, ops.Constant(np.asarray(number, np.float32)).result).result

    block = Block(arg_types=[tensor((1, 4, 4, 2), i32)])
    cast = ops.Cast(block.args[0], f32)
    pool = ops.MaxPool(scaled(cast.result, inner), (2, 2), (2, 2))
    block.add_op(pool)
    found = sum_of(scaled(pool.result, outer))
    assert (found is not None) == is_sum
    assert found is None or found.scale == inner * outer


def test_what_a_zero_leaves_as_it_is() -> None:
    """0.0 + x is x where x cannot be -0.0; 0.0 - x is not."""
    state, inner, outer = Block(arg_types=[tensor((1, 2), f32)] * 3).args

    def plus(number: float) -> SSAValue:
        return ops.Add(outer, ops.Constant(np.asarray(number, np.float32)).result).result

    def matches(op: type[ops.Add] | type[ops.Sub], value: SSAValue) -> bool:
        return Matcher({inner: value}, {state: np.float32(0)}).match(op(state, inner).result, value)

    assert matches(ops.Add, plus(1.0))
    assert not matches(ops.Add, plus(-0.0))
    assert not matches(ops.Sub, plus(1.0))
