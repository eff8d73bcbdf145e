# SPDX-License-Identifier: Apache-2.0
"""Loops over time that are element by element: what goes through them, with the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from bnncc.dialect import operations as ops
from bnncc.dialect.parsing import make_context, parse_module
from bnncc.dialect.time import Scan, is_recurrence
from bnncc.dialect.types import element_of, shape_of, spike
from bnncc.driver import Options, lower_model
from bnncc.passes.infer_domains import InferDomainsPass
from bnncc.passes.simplify_layout import SimplifyLayoutPass
from bnncc.plan.kernel import KernelSpec, RealConv, SpikeConv
from bnncc.reference import evaluate
from tests.cases import load_case

STEPS, SAMPLES = 3, 2
TYPES = {
    "STEP": "tensor<2x4x3x5xf32>",
    "WHOLE": "tensor<3x2x4x3x5xf32>",
    "JOINED": "tensor<6x4x3x5xf32>",
    "IMAGE": "tensor<6x3x5x4xf32>",
    "CHANNEL": "tensor<4x1x1xf32>",
    "WEIGHT": "tensor<2x3x3x4xf32>",
    "LAST": "tensor<6x3x5x2xf32>",
    "DOUBLE": "tensor<6x2x4x3x5xf32>",
    "FIRES": "tensor<2x4x3x5xi1>",
}


NETWORK = """
func.func @main(%x: IMAGE, %start: STEP) -> (RESULT, STEP)
    attributes {bnn.inputs = ["x", "start"], bnn.outputs = ["y", "end"]} {
  %turned = bnn.transpose %x {permutation = array<i64: 0, 3, 1, 2>} : (IMAGE) -> JOINED
  %cut = bnn.reshape %turned : (JOINED) -> WHOLE
  %end, %all = "bnn.scan"(%cut, %start) <{
    trips = 3 : i64,
    operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 1>
  }> ({
  ^bb0(%current: STEP, %old: STEP):
    %threshold = bnn.constant dense<[[[0.5]], [[0.25]], [[1.0]], [[0.75]]]> : CHANNEL : CHANNEL
    %v = bnn.add %old, %current : (STEP, STEP) -> STEP
    %fires = bnn.compare %v, %threshold {kind = "ge"} : (STEP, CHANNEL) -> FIRES
    %bit = bnn.cast %fires : (FIRES) -> STEP
    %less = bnn.mul %bit, %threshold : (STEP, CHANNEL) -> STEP
    %new = bnn.sub %v, %less : (STEP, STEP) -> STEP
    bnn.yield %new, %bit : STEP, STEP
  }) : (WHOLE, STEP) -> (STEP, WHOLE)
AFTER
}
"""

LAYER = """
  %joined = bnn.reshape %all : (WHOLE) -> JOINED
  %back = bnn.transpose %joined {permutation = array<i64: 0, 2, 3, 1>} : (JOINED) -> IMAGE
  %weight = bnn.constant dense<0.5> : WEIGHT : WEIGHT
  %y = bnn.conv2d %back, %weight {
    strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>,
    groups = 1 : i64, pad_value = 0 : i64
  } : (IMAGE, WEIGHT) -> LAST
  func.return %y, %end : LAST, STEP
"""


def module(after: str, result: str) -> ModuleOp:
    """A loop between what folds time into the batch, and what reads it."""
    return parsed(NETWORK.replace("AFTER", after).replace("RESULT", result))


def parsed(text: str) -> ModuleOp:
    """A network in short: types by their names."""
    for name, type_ in TYPES.items():
        text = text.replace(name, type_)
    return parse_module(text)


def simplified(network: ModuleOp) -> ModuleOp:
    """Layouts and domains found."""
    copy = network.clone()
    for kind in (SimplifyLayoutPass, InferDomainsPass):
        kind().apply(make_context(), copy)
    copy.verify()
    return copy


def bits(network: ModuleOp) -> list[bytes]:
    """What a network gives for random numbers."""
    random = np.random.default_rng(0)
    x = random.uniform(-0.5, 1, (STEPS * SAMPLES, 3, 5, 4)).astype(np.float32)
    start = random.uniform(0, 0.5, (SAMPLES, 4, 3, 5)).astype(np.float32)
    return [array.tobytes() for array in evaluate(network, {"x": x, "start": start}).values()]


def the_loop(network: ModuleOp) -> Scan:
    """The only loop."""
    (scan,) = (op for op in network.walk() if isinstance(op, Scan))
    return scan


def test_transposes_and_reshapes_go_through_a_loop() -> None:
    before = module(LAYER, "LAST")
    after = simplified(before)
    scan = the_loop(after)
    assert is_recurrence(scan)
    assert [shape_of(value) for value in scan.operands] == [(3, 6, 5, 4), (6, 5, 4)]
    assert [element_of(value) for value in scan.stacked] == [spike]
    (conv,) = (op for op in after.walk() if isinstance(op, ops.Conv2d))
    assert element_of(conv.input) == spike, "its weights have one size"
    turned = [op for op in after.walk() if isinstance(op, ops.Transpose)]
    assert {shape_of(op.result) for op in turned} <= {(2, 3, 5, 4), (2, 4, 3, 5)}, "the states only"
    assert bits(before) == bits(after)


def test_what_no_layer_reads_is_collected_as_it_is() -> None:
    before = module("  func.return %all, %end : WHOLE, STEP", "WHOLE")
    after = simplified(before)
    assert [str(element_of(value)) for value in the_loop(after).stacked] == ["f32"]
    assert bits(before) == bits(after)


TWICE = """
  %twice = bnn.concat %all, %all {axis = 0 : i64} : (WHOLE, WHOLE) -> DOUBLE
  func.return %twice, %end : DOUBLE, STEP
"""


def test_a_loop_over_more_than_elements_stays_as_it_is() -> None:
    text = NETWORK.replace("AFTER", LAYER).replace("RESULT", "LAST")
    shares = "%share = bnn.softmax %current : (STEP) -> STEP"
    text = text.replace("%v = bnn.add %old, %current", f"{shares}\n    %v = bnn.add %old, %share")
    stays(parsed(text))


def test_a_loop_whose_steps_are_put_together_with_others_stays_as_it_is() -> None:
    """One of them may be its own, which straighten-time looks for."""
    stays(module(TWICE, "DOUBLE"))


def stays(before: ModuleOp) -> None:
    """The steps keep their shape, the numbers their bits."""
    after = simplified(before)
    assert shape_of(the_loop(after).initial[0]) == (2, 4, 3, 5)
    assert bits(before) == bits(after)


def roots(specs: list[KernelSpec]) -> list[type]:
    """The contractions of a network, in order."""
    return [type(spec.root) for spec in specs if isinstance(spec.root, RealConv | SpikeConv)]


def test_time_in_the_batch_and_unrolled_time_give_the_same_kernels(tmp_path: Path) -> None:
    found = []
    for name in ("bench_snn_conv_spikingjelly_T20", "bench_snn_conv_unrolled_T20"):
        (tmp_path / name).mkdir()
        path = load_case(name).write_model(tmp_path / name)
        steps = lower_model(path, Options(target="x86-64-v4")).program.steps
        found.append(roots([step.kernel for step in steps]))
        assert not any("reshape" in step.operation or "row-major" in step.operation for step in steps)
        assert sum(step.kernel.is_recurrent for step in steps) == 3
    assert found[0] == found[1] == [SpikeConv] * 3
