# SPDX-License-Identifier: Apache-2.0
"""Every neuron over several steps against plain NumPy written from its equation; loops; step functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import f32
from xdsl.ir import Block, Region
from xdsl.utils.exceptions import VerifyException

from bnncc.diagnostics import BnnccError
from bnncc.dialect import neurons
from bnncc.dialect import operations as ops
from bnncc.dialect.parsing import parse_module
from bnncc.dialect.time import FIRES, NEURONS, RESETS, Neuron, Scan, inline
from bnncc.dialect.types import i64, spike, tensor
from bnncc.reference import evaluate, evaluate_operation, evaluate_steps

F = np.float32
STEPS, SHAPE = 40, (2, 3, 3, 4)
CHANNELS = np.linspace(0.5, 1.5, 4).astype(F)
INPUT = np.random.default_rng(3).normal(0.3, 0.6, (STEPS, *SHAPE)).astype(F)


def simulate(build: Callable[..., Neuron], states: int, *more: np.ndarray, **parameters: Any):
    """Outputs and states after every step, from the builder's operation."""
    types = [tensor(SHAPE, f32), *(tensor(array.shape, f32) for array in more)]
    block = Block(arg_types=[*types, *[tensor(SHAPE, f32)] * states])
    op = build(*block.args, **parameters)
    op.verify()
    carried = [np.zeros(SHAPE, F)] * states
    history = []
    for x in INPUT:
        results = evaluate_operation(op, [x, *more, *carried])
        carried = results[1:]
        history.append(results)
    return [np.stack(column) for column in zip(*history, strict=True)]


def expect_equal(got: Sequence[np.ndarray], step: Callable[..., Sequence[Any]], states: int) -> None:
    """Compare with a step written in NumPy: step(x, *states) gives the output and the new states."""
    carried: Sequence[np.ndarray] = [np.zeros(SHAPE, F)] * states
    fired = 0.0
    for t, x in enumerate(INPUT):
        output, *carried = step(x, *carried)
        np.testing.assert_array_equal(got[0][t], output)
        for have, want in zip(got[1:], carried, strict=True):
            assert have.dtype == F
            np.testing.assert_array_equal(have[t], want)
        fired += float(np.mean(output != 0))
    assert fired > 0, "a test where nothing ever fires shows nothing"


RESET = {
    "zero": lambda u, s, theta, value: np.where(s, F(0), u),
    "value": lambda u, s, theta, value: np.where(s, value, u),
    "subtract": lambda u, s, theta, value: u - s.astype(F) * theta,
    "none": lambda u, s, theta, value: u,
}


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("fire", ["gt", "ge"])
@pytest.mark.parametrize("reset", RESET)
def test_lif(reset: str, fire: str, delayed: bool):
    above = np.greater if fire == "gt" else np.greater_equal
    decay, gain, offset, value = F(0.9), CHANNELS, F(0.05), F(-0.25)

    def step(x, v):
        u = v * decay + x * gain + offset
        if delayed:
            u = RESET[reset](u, above(v, CHANNELS), CHANNELS, value)
            return above(u, CHANNELS), u
        s = above(u, CHANNELS)
        return s, RESET[reset](u, s, CHANNELS, value)

    parameters: dict[str, Any] = dict(threshold=CHANNELS, fire=fire, reset=reset, reset_value=value)
    got = simulate(neurons.lif, 1, decay=decay, gain=gain, offset=offset, delayed=delayed, **parameters)
    expect_equal(got, step, 1)


def test_greater_and_not_less_differ_where_the_membrane_meets_the_threshold():
    """A near miss: 0.5 + 0.5 is the threshold exactly."""
    block = Block(arg_types=[tensor((1,), f32)] * 2)
    for fire, spikes in (("gt", 0), ("ge", 1)):
        op = neurons.integrate_and_fire(*block.args, threshold=1.0, fire=fire)
        assert evaluate_operation(op, [np.full(1, 0.5, F)] * 2)[0].item() == spikes


def test_if_leaves_the_leak_out():
    got = simulate(neurons.integrate_and_fire, 1, threshold=1.0, fire="ge", reset="subtract")

    def step(x, v):
        u = v + x
        return u >= 1, u - (u >= 1).astype(F)

    expect_equal(got, step, 1)


@pytest.mark.parametrize("old", [False, True])
def test_current_lif_takes_the_new_or_the_old_current(old: bool):
    def step(x, i, v):
        new = i * F(0.8) + x
        u = v * F(0.9) + (i if old else new) * F(0.3)
        return u > 1, new, np.where(u > 1, F(0), u)

    got = simulate(neurons.current_lif, 2, current_decay=0.8, decay=0.9, gain=0.3, old_current=old)
    expect_equal(got, step, 2)


@pytest.mark.parametrize(
    ("reset", "delayed"), [("zero", False), ("subtract", False), ("subtract", True), ("zero", True)]
)
def test_recurrent_lif_hears_its_spikes_of_the_step_before(reset: str, delayed: bool):
    """In a loop that carries the spikes: W s of the step before is added to the current."""
    weights = (np.random.default_rng(5).integers(-32, 33, (4, 4)) / 64).astype(F)
    x = np.rint(INPUT[:, :, 0, 0] * 64) / F(64)  # [T, 2, 4], so that sums of products are exact
    sequence = Block(arg_types=[tensor(x.shape, f32)])
    body = Block(arg_types=[tensor((2, 4), f32)] * 3)
    now, spikes, membrane = body.args
    heard = ops.Dense(spikes, (matrix := ops.Constant(weights)).result)
    neuron = neurons.recurrent_lif(
        now, heard.result, membrane, decay=0.9, threshold=0.75, reset=reset, delayed=delayed
    )
    fired = ops.Cast(neuron.outputs[0], f32)
    body.add_ops([matrix, heard, neuron, fired])
    body.add_op(ops.Yield([fired.result, neuron.new_states[0], fired.result]))
    starts = [ops.Constant(np.zeros((2, 4), F)) for _ in range(2)]
    scan = Scan([sequence.args[0]], [start.result for start in starts], [], STEPS, Region(body))
    scan.verify()

    def run(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = v = np.zeros((2, 4), F)
        fired = []
        for current in x:
            u = v * F(0.9) + current + z @ matrix.T
            v = RESET[reset](u, (v if delayed else u) > F(0.75), F(0.75), F(0))
            z = ((v if delayed else u) > F(0.75)).astype(F)
            fired.append(z)
        return np.stack(fired), v

    expected, last = run(weights)
    _, membranes, spikes_over_time = evaluate_operation(scan, [x, last * 0, last * 0])
    np.testing.assert_array_equal(spikes_over_time, expected)
    np.testing.assert_array_equal(membranes, last)
    assert neuron.kind.data == "recurrent_lif"
    assert not np.array_equal(expected, run(weights * 0)[0]), "what it hears matters"


@pytest.mark.parametrize("old", [False, True])
def test_integrators_give_the_membrane(old: bool):
    def leaky(x, v):
        new = v * F(0.9) + x * CHANNELS + F(0.1)
        return new, new

    def current(x, i, v):
        new = i * F(0.8) + x * F(2)
        u = v * F(0.9) + (i if old else new)
        return u, new, u

    got = simulate(neurons.leaky_integrator, 1, decay=0.9, gain=CHANNELS, offset=0.1)
    expect_equal(got, leaky, 1)
    got = simulate(
        neurons.current_leaky_integrator, 2, current_decay=0.8, current_gain=2.0, decay=0.9, old_current=old
    )
    expect_equal(got, current, 2)
    got = simulate(neurons.integrator, 1, gain=0.5)
    expect_equal(got, lambda x, v: (v + x * F(0.5),) * 2, 1)


def test_adaptive_lif():
    def step(x, v, a):
        level = a * F(0.3) + F(0.7)
        u = v * F(0.9) + x
        s = (u > level).astype(F)
        return s, u - s * level, a * F(0.95) + s * F(0.05)

    got = simulate(
        neurons.adaptive_lif,
        2,
        decay=0.9,
        threshold=0.7,
        adaptation_decay=0.95,
        adaptation_strength=0.3,
        adaptation_jump=0.05,
    )
    expect_equal(got, step, 2)


@pytest.mark.parametrize("lowest", [None, -0.5])
def test_multi_spike_if(lowest: float | None):
    def step(x, v):
        u = v + x * F(3)
        n = np.maximum(np.floor(u / F(0.5)), F(0))
        v = u - n * F(0.5)
        return n, v if lowest is None else np.maximum(v, F(lowest))

    got = simulate(neurons.multi_spike_if, 1, gain=3.0, threshold=0.5, lowest=lowest)
    expect_equal(got, step, 1)
    assert got[0].max() > 1, "several spikes in one step"


def test_the_adaptive_spiking_neuron_follows_its_run_time_precision():
    decay, filtered, raised = (F(math.exp(-1 / tau)) for tau in (50, 2.5, 15))
    rest = F(1 - math.exp(-1 / 2.5))

    def current(x, i, s):
        i = i * decay + x
        s = i * rest + s * filtered
        return s, i, s

    expect_equal(simulate(neurons.adaptive_current, 2), current, 2)
    rates = []
    for precision in (0.1, 0.5):
        theta_0 = m_f = np.full(1, precision, F)

        def firing(x, s_hat, theta_d, theta_0=theta_0, m_f=m_f):
            theta = theta_d + theta_0
            s_hat = s_hat * decay
            s = x - s_hat > theta * F(0.5)
            jump = theta * s.astype(F)
            return s, s_hat + jump, (theta_d + jump * m_f) * raised

        got = simulate(neurons.adaptive_spiking, 2, theta_0, m_f)
        expect_equal(got, firing, 2)
        rates.append(got[0].mean())
    assert rates[0] > rates[1], "a lower threshold spends more spikes"


def test_decays_are_rounded_once():
    assert decay(2.5, "euler") == F(1 - 0.1 / 2.5)
    assert decay(2.5, "exp") == F(math.exp(-0.1 / 2.5))
    assert neurons.decay_of(CHANNELS, 0.1).dtype == F


def decay(tau: float, integrator: str):
    """For steps of 0.1."""
    return neurons.decay_of(tau, 0.1, integrator)


def test_a_classification_says_what_the_neuron_is():
    block = Block(arg_types=[tensor((1,), f32)] * 2)
    op = neurons.lif(*block.args, decay=0.9, reset="subtract", delayed=True)
    assert op.classification == "lif, subtract, >, delayed"
    assert neurons.leaky_integrator(*block.args, decay=0.9).classification == "leaky"
    assert op.kind.data in NEURONS and op.fire.data in FIRES and op.reset.data in RESETS
    copies, values = inline(op)
    assert [value.type for value in values] == [tensor((1,), spike), tensor((1,), f32)]
    assert any(isinstance(copy, ops.Compare) for copy in copies)


def accumulate(trips: int, with_count: bool) -> Scan:
    """state += gain * slice, collecting the state; with a count only the last one."""
    outer = Block(arg_types=[tensor((5, 4), f32), tensor((4,), f32), tensor((4,), f32), tensor((), i64)])
    x, start, gain, count = outer.args
    body = Block(arg_types=[tensor((4,), f32)] * 3)
    slice_, state, factor = body.args
    product = ops.Mul(slice_, factor)
    total = ops.Add(state, product.result)
    collected = [] if with_count else [total.result]
    body.add_ops([product, total, ops.Yield([total.result, *collected])])
    return Scan([x], [start], [gain], trips, Region(body), count if with_count else None)


def test_a_scan_carries_its_state_and_stacks_what_it_collects():
    x, start, gain = INPUT.reshape(-1)[:20].reshape(5, 4), np.ones(4, F), CHANNELS
    op = accumulate(5, False)
    op.verify()
    last, stacked = evaluate_operation(op, [x, start, gain])
    total, expected = start, []
    for row in x:
        total = total + row * gain
        expected.append(total)
    np.testing.assert_array_equal(stacked, expected)
    np.testing.assert_array_equal(last, expected[-1])


def test_a_scan_runs_as_often_as_its_count_says():
    x, start = INPUT.reshape(-1)[:20].reshape(5, 4), np.ones(4, F)
    op = accumulate(5, True)
    op.verify()
    for count in range(6):
        (last,) = evaluate_operation(op, [x, start, np.ones(4, F), np.array(count)])
        total = start
        for row in x[:count]:
            total = total + row
        np.testing.assert_array_equal(last, total)
    with pytest.raises(BnnccError, match="must be 0 to 5, got 6"):
        evaluate_operation(op, [x, start, CHANNELS, np.array(6)])


STEP = """
func.func @main(%x: tensor<4xf32>, %mem: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
    attributes {bnn.inputs = ["x", "mem_in"], bnn.outputs = ["twice", "mem"], bnn.states = PAIRS} {
  %new = bnn.add %mem, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %twice = bnn.add %new, %new : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  func.return %twice, %new : tensor<4xf32>, tensor<4xf32>
}
"""


def test_a_step_function_starts_at_zero_or_where_it_is_told():
    module = parse_module(STEP.replace("PAIRS", '[["mem_in", "mem"]]'))
    x = INPUT.reshape(-1)[:12].reshape(3, 4)
    assert set(evaluate(module, {"x": x[0]})) == {"twice", "mem"}
    outputs = evaluate_steps(module, {"x": x})
    np.testing.assert_array_equal(outputs["mem"][-1], x[0] + x[1] + x[2])
    outputs = evaluate_steps(module, {"x": x}, {"mem_in": np.ones(4, F)})
    np.testing.assert_array_equal(outputs["twice"][0], 2 * (x[0] + 1))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ('[["mem_in", "memory"]]', "expected a state among the outputs twice, mem, got memory"),
        ('[["membrane", "mem"]]', "expected a state among the inputs x, mem_in, got membrane"),
        ('[["mem_in", "mem"], ["x", "mem"]]', "expected an output of its own for each state"),
        ('[["mem_in", "mem"], ["mem_in", "twice"]]', "expected one output for each state"),
        ('[["mem_in"]]', "expected pairs of strings"),
        ("[]", None),
    ],
)
def test_states_are_pairs_of_an_input_and_an_output(pairs: str, message: str | None):
    text = STEP.replace("PAIRS", pairs)
    if message is None:
        parse_module(text)
        return
    with pytest.raises(VerifyException, match=message):
        parse_module(text)
