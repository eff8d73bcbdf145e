# SPDX-License-Identifier: Apache-2.0
"""Why layers stay together in a loop over time: each reason, and near misses."""

from __future__ import annotations

import re

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from bnncc.dialect.network import decisions_of, main_function
from bnncc.dialect.parsing import parse_module
from bnncc.dialect.time import Scan
from bnncc.dialect.types import shape_of
from bnncc.passes.time.bodies import Body
from bnncc.passes.time.obstacles import bytes_over_time, feedbacks, note_one_step, obstacles, takes_batch

NO_LIMIT = 1 << 40


def tensor(shape: str) -> str:
    """A type: "1x3" of float32, or with its element."""
    is_real = re.fullmatch(r"[\dx]*", shape)
    return f"tensor<{shape}{'x' * bool(shape)}f32>" if is_real else f"tensor<{shape}>"


def operation_of(varying: dict[str, str], others: dict[str, str], text: str, result: str) -> Operation:
    """One operation on values that differ from step to step, and on those that do not."""
    types = {name: tensor(shape) for name, shape in {**varying, **others}.items()}
    arguments = ", ".join(f"%{name}: {type_}" for name, type_ in types.items())
    operands = ", ".join(types[name] for name in re.findall(r"%(\w+)", text))
    names = ", ".join(f'"{name}"' for name in types)
    module = parse_module(f"""
func.func @main({arguments}) -> {tensor(result)} attributes {{bnn.inputs = [{names}], bnn.outputs = ["r"]}} {{
  %r = {text} : ({operands}) -> {tensor(result)}
  func.return %r : {tensor(result)}
}}""")
    op = main_function(module).body.block.first_op
    assert op is not None
    return op


WINDOW = "kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>"
NO_PADS = "pads = array<i64: 0, 0, 0, 0>"
CONV = (
    "bnn.conv2d %a, %w {strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>,"
    " dilations = array<i64: 1, 1>, groups = 1 : i64, pad_value = 0 : i64}"
)
A, IMAGE = {"a": "1x3"}, {"a": "1x4x4x2"}

TAKES_BATCH: dict[str, tuple[dict[str, str], dict[str, str], str, str]] = {
    "transpose": (
        {"a": "1x2x3"},
        {},
        "bnn.transpose %a {permutation = array<i64: 0, 2, 1>}",
        "1x3x2",
    ),
    "reshape": ({"a": "1x6"}, {}, "bnn.reshape %a", "1x2x3"),
    "concat": ({"a": "1x3", "b": "1x2"}, {}, "bnn.concat %a, %b {axis = 1 : i64}", "1x5"),
    "concat of one": (A, {}, "bnn.concat %a {axis = 0 : i64}", "1x3"),
    "pad": (
        A,
        {},
        "bnn.pad %a {low = array<i64: 0, 1>, high = array<i64: 0, -2>, value = 0.0 : f32}",
        "1x2",
    ),
    "softmax": (A, {}, "bnn.softmax %a", "1x3"),
    "dense": (A, {"w": "2x3"}, "bnn.dense %a, %w", "1x2"),
    "conv2d": (IMAGE, {"w": "3x1x1x2"}, CONV, "1x4x4x3"),
    "max_pool": (IMAGE, {}, f"bnn.max_pool %a {{{WINDOW}, {NO_PADS}}}", "1x2x2x2"),
    "mean_pool": (
        IMAGE,
        {},
        f"bnn.mean_pool %a {{{WINDOW}, {NO_PADS}, count_outside = 0 : i64}}",
        "1x2x2x2",
    ),
    "count_pool": (
        {"a": "1x4x4x2x!bnn.spike"},
        {},
        f"bnn.count_pool %a {{{WINDOW}}}",
        "1x2x2x2x!bnn.level<0, 4>",
    ),
    "channel_mean": (IMAGE, {}, "bnn.channel_mean %a", "1x4x4x1"),
    "element by element": ({"a": "1x3", "b": "1x3"}, {}, "bnn.mul %a, %b", "1x3"),
    "with what is the same in every step": (A, {"k": "3"}, "bnn.mul %a, %k", "1x3"),
}
STAYS: dict[str, tuple[dict[str, str], dict[str, str], str, str]] = {
    "the batch is moved": (
        {"a": "1x1x3"},
        {},
        "bnn.transpose %a {permutation = array<i64: 1, 0, 2>}",
        "1x1x3",
    ),
    "the batch becomes something else": ({"a": "1x6"}, {}, "bnn.reshape %a", "6"),
    "something else becomes the batch": ({"a": "6"}, {}, "bnn.reshape %a", "1x6"),
    "a single number": ({"a": "1"}, {}, "bnn.reshape %a", ""),
    "along the batch": ({"a": "1x3", "b": "1x3"}, {}, "bnn.concat %a, %b {axis = 0 : i64}", "2x3"),
    "beside what is the same in every step": (
        A,
        {"k": "1x2"},
        "bnn.concat %a, %k {axis = 1 : i64}",
        "1x5",
    ),
    "a step is replaced": (
        A,
        {},
        "bnn.pad %a {low = array<i64: 1, 0>, high = array<i64: -1, 0>, value = 0.0 : f32}",
        "1x3",
    ),
    "softmax over the batch": ({"a": "1"}, {}, "bnn.softmax %a", "1"),
    "weights of every step": ({"w": "1x3"}, {"a": "1x3"}, "bnn.dense %a, %w", "1x1"),
    "filters of every step": ({"w": "1x1x1x2"}, {"a": "1x4x4x2"}, CONV, "1x4x4x1"),
    "of fewer dimensions": ({"a": "1", "b": "1x3"}, {}, "bnn.mul %a, %b", "1x3"),
    "two images": ({"a": "2x3"}, {}, "bnn.tanh %a", "2x3"),
    "another operation": (
        A,
        {"s": "3", "t": "3", "m": "3", "v": "3"},
        "bnn.batch_norm %a, %s, %t, %m, %v {epsilon = 1.0e-5 : f32}",
        "1x3",
    ),
}


@pytest.mark.parametrize("name", [*TAKES_BATCH, *STAYS])
def test_what_takes_time_as_its_batch(name: str) -> None:
    varying, others, text, result = (TAKES_BATCH | STAYS)[name]
    op = operation_of(varying, others, text, result)
    arguments = main_function_arguments(op)
    assert takes_batch(op, set(arguments[: len(varying)])) == (name in TAKES_BATCH)


def main_function_arguments(op: Operation) -> tuple:
    """The arguments of the function around an operation."""
    block = op.parent
    assert block is not None
    return tuple(block.args)


def network(
    body: str,
    slices: str = "1x4",
    state: str = "1x4",
    result: str = "1x4",
    collects: str = "%o",
    new: str = "%n",
    trips: int = 5,
    count: bool = False,
) -> ModuleOp:
    """A loop with one sequence (steps %s), one state %v and an invariant %k; it collects one value."""
    for name in ("slices", "state", "result"):
        body = body.replace(name.upper(), tensor(locals()[name]))
    whole, all_ = tensor(f"{trips}x{slices}"), tensor(f"{trips}x{result}")
    given = f"{whole}, {tensor(state)}, {tensor('1x4')}"
    arguments = f"%x: {whole}, %start: {tensor(state)}, %k0: {tensor('1x4')}, %steps: tensor<i64>"
    operands, types = (
        ("%x, %start, %k0, %steps", f"{given}, tensor<i64>") if count else ("%x, %start, %k0", given)
    )
    return parse_module(f"""
func.func @main({arguments}) -> ({tensor(state)}, {all_})
    attributes {{bnn.inputs = ["x", "start", "k0", "steps"], bnn.outputs = ["v", "y"]}} {{
  %last, %all = "bnn.scan"({operands}) <{{
    trips = {trips} : i64, operandSegmentSizes = array<i32: 1, 1, 1, {int(count)}>,
    resultSegmentSizes = array<i32: 1, 1>
  }}> ({{
  ^bb0(%s: {tensor(slices)}, %v: {tensor(state)}, %k: {tensor("1x4")}):
{body}
    bnn.yield {new}, {collects} : {tensor(state)}, {tensor(result)}
  }}) : ({types}) -> ({tensor(state)}, {all_})
  func.return %last, %all : {tensor(state)}, {all_}
}}""")


T4 = tensor("1x4")
HALF = f"    %h = bnn.mul %s, %k : ({T4}, {T4}) -> {T4}\n"
ADD = f"    %n = bnn.add %v, %h : ({T4}, {T4}) -> {T4}\n"
OUT = f"    %o = bnn.tanh %n : ({T4}) -> {T4}\n"
LAYERS = HALF + ADD + OUT
NEURONS = f"    %u = bnn.add %v, %s : ({T4}, {T4}) -> {T4}\n    %n = bnn.tanh %u : ({T4}) -> {T4}\n"
HEARS = (
    "    %w = bnn.constant dense<0.5> : tensor<4x4xf32> : tensor<4x4xf32>\n"
    f"    %d = bnn.dense %v, %w : ({T4}, tensor<4x4xf32>) -> {T4}\n"
    f"    %n = bnn.add %d, %s : ({T4}, {T4}) -> {T4}\n"
)
MIXED = (
    f"    %f = bnn.reshape %s : ({T4}) -> tensor<4xf32>\n    %b = bnn.reshape %f : (tensor<4xf32>) -> {T4}\n"
)
"""The batch is lost, and found again: neither is the same of all steps."""

WHOLE = "bnn.scan: "
APART = "what it does in one step is not what it does to all of them"
NO_BATCH = WHOLE + "what it carries has no batch of 1"
OBSTACLES: dict[str, tuple[ModuleOp, list[str]]] = {
    "layers": (network(LAYERS), []),
    "two steps": (network(LAYERS, trips=2), []),
    "one step": (network(LAYERS, trips=1), [WHOLE + "one step"]),
    "counted": (network(LAYERS, count=True), [WHOLE + "how many steps there are is an input"]),
    "slices of two": (
        network(
            f"    %r = bnn.reshape %s : (SLICES) -> {T4}\n    %h = bnn.mul %r, %k : ({T4}, {T4}) -> {T4}\n"
            + ADD
            + OUT,
            slices="2x2",
        ),
        [NO_BATCH],
    ),
    "states of two": (
        network(
            HALF + f"    %r = bnn.reshape %h : ({T4}) -> STATE\n"
            "    %n = bnn.add %v, %r : (STATE, STATE) -> STATE\n"
            f"    %q = bnn.reshape %n : (STATE) -> {T4}\n    %o = bnn.tanh %q : ({T4}) -> {T4}\n",
            state="2x2",
        ),
        [NO_BATCH],
    ),
    "two are collected": (
        network(LAYERS + f"    %p = bnn.reshape %o : ({T4}) -> RESULT\n", result="2x2", collects="%p"),
        [NO_BATCH],
    ),
    "the state is constant": (
        network(
            HALF + f"    %n = bnn.tanh %k : ({T4}) -> {T4}\n    %o = bnn.add %v, %h : ({T4}, {T4}) -> {T4}\n"
        ),
        [WHOLE + "a state does not depend on the steps"],
    ),
    "the state is what comes in": (
        network(HALF + f"    %o = bnn.add %v, %h : ({T4}, {T4}) -> {T4}\n", new="%s"),
        [WHOLE + "a state is handed on as it is"],
    ),
    "what is collected is constant": (
        network(HALF + ADD + f"    %o = bnn.tanh %k : ({T4}) -> {T4}\n"),
        [WHOLE + "it collects what is the same in every step"],
    ),
    "one layer of neurons": (network(NEURONS, collects="%u"), [WHOLE + "one layer of neurons"]),
    "one operation": (network(f"    %n = bnn.add %v, %s : ({T4}, {T4}) -> {T4}\n", collects="%n"), []),
    "a state that nobody reads": (network(f"    %n = bnn.tanh %s : ({T4}) -> {T4}\n", collects="%n"), []),
    "neurons and what follows": (network(NEURONS + OUT), []),
    "a layer that hears itself": (
        network(HEARS, collects="%n"),
        ["bnn.dense: it hears what it caused in the step before"],
    ),
    "a layer that hears itself, and what follows": (network(HEARS + OUT), []),
    "no batch": (
        network(MIXED + f"    %n = bnn.add %v, %b : ({T4}, {T4}) -> {T4}\n" + OUT),
        [f"bnn.reshape: {APART}", f"bnn.reshape: {APART}"],
    ),
    "no batch in a loop": (
        network(
            HALF
            + f"    %f = bnn.reshape %v : ({T4}) -> tensor<4xf32>\n"
            + f"    %b = bnn.reshape %f : (tensor<4xf32>) -> {T4}\n"
            + f"    %n = bnn.add %b, %h : ({T4}, {T4}) -> {T4}\n"
            + OUT
        ),
        [],
    ),
}


def scan_of(module: ModuleOp) -> Scan:
    """Its loop."""
    return next(op for op in module.walk() if isinstance(op, Scan))


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_keeps_a_loop_together(name: str) -> None:
    module, expected = OBSTACLES[name]
    body = Body(scan_of(module))
    assert obstacles(body, body.components(), NO_LIMIT) == expected


def test_who_hears_what_it_caused() -> None:
    """A layer behind the loop does not."""
    after = "    %o = bnn.dense %n, %w : (tensor<1x4xf32>, tensor<4x4xf32>) -> tensor<1x4xf32>\n"
    body = Body(scan_of(network(HEARS.replace("\n    %n", ' loc("Gemm_1")\n    %n') + after)))
    assert feedbacks(body.components()) == ["Gemm_1: it hears what it caused in the step before"]


MANY = tensor("1x262144")
LARGE = (
    f"    %h = bnn.tanh %s : ({MANY}) -> {MANY}\n    %n = bnn.add %v, %h : ({MANY}, {MANY}) -> {MANY}\n"
    f"    %o = bnn.relu %n : ({MANY}) -> {MANY}\n"
)


@pytest.mark.parametrize(("memory", "is_too_small"), [(15 << 20, False), ((15 << 20) - 1, True)])
def test_memory_over_all_steps(memory: int, is_too_small: bool) -> None:
    """The addition touches three times 1 MiB in each of five steps."""
    body = Body(scan_of(network(LARGE, "1x262144", "1x262144", "1x262144")))
    found = obstacles(body, body.components(), memory)
    assert found == ["bnn.add: 15 MiB over all steps, more than caches hold"] * is_too_small


def test_memory_does_not_matter_where_something_else_does() -> None:
    module, expected = OBSTACLES["no batch"]
    body = Body(scan_of(module))
    assert obstacles(body, body.components(), 0) == expected


@pytest.mark.parametrize(
    ("element", "expected"),
    [("f32", 1024), ("!bnn.spike", 32), ("!bnn.level<0, 7>", 96), ("!bnn.level<-4, 3>", 96)],
)
def test_bytes_by_domain(element: str, expected: int) -> None:
    """256 values in each of two steps, that an operation reads only: its other operand is no part of it."""
    many = f"tensor<1x256x{element}>"
    text = (
        f"    %h = bnn.reshape %s : ({many}) -> tensor<1x16x16x{element}>\n"
        f"    %n = bnn.reshape %v : ({T4}) -> {T4}\n"
    )
    body = Body(
        scan_of(network(text, f"1x256x{element}", result=f"1x16x16x{element}", collects="%h", trips=2))
    )
    total, op = bytes_over_time(body, body.components())
    assert total == 2 * 2 * expected
    assert op is not None and shape_of(op.results[0]) == (1, 16, 16)


def test_what_is_the_same_in_every_step_takes_no_memory_over_time() -> None:
    body = Body(scan_of(network(LAYERS)))
    total, op = bytes_over_time(body, body.components())
    assert total == 5 * 3 * 16 and op is not None and op.name == "bnn.add"


@pytest.mark.parametrize(("body", "is_noted"), [(HEARS + OUT, True), (LAYERS, False)])
def test_step_by_step_is_noted_where_there_are_layers(body: str, is_noted: bool) -> None:
    module = network(body)
    note_one_step(module)
    assert ("step by step" in decisions_of(main_function(module))) == is_noted
