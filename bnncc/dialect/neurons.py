# SPDX-License-Identifier: Apache-2.0
"""Builders of `bnn.neuron`: one step of every kind of neuron that bnncc knows, as exact float32 arithmetic.

Each takes the layer's input x and its states as SSA values of f32 and gives the operation, not inserted
anywhere: `outputs[0]` are the spikes ({0, 1}, element type !bnn.spike) or, where a neuron gives numbers, f32;
`new_states` are the states for the next step. The states have the shape of x.

A Parameter is a number or a float32 array that broadcasts to that shape: per channel [c] (images are
[n, h, w, c]), per element, or one for all. Multiplications by 1 and additions of 0 are left out. Equations
are evaluated in float32 from left to right as they are written; v' is the state after the step.

Sources: Gerstner et al., Neuronal Dynamics (2014), chapters 1 and 5, for IF and LIF; Pedersen et al.,
Neuromorphic Intermediate Representation (Nature Communications, 2024) for LI, CubaLIF and CubaLI; the others
name theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import f32
from xdsl.ir import Block, Operation, Region, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.time import Neuron
from bnncc.dialect.types import spike

Parameter = float | np.ndarray

ADAPTIVE_CURRENT_DECAY = math.exp(-1 / 50)
ADAPTIVE_FILTER_DECAY = math.exp(-1 / 2.5)
ADAPTIVE_THRESHOLD_DECAY = math.exp(-1 / 15)
"""Of the adaptive spiking neuron, for steps of 1 ms: time constants 50, 2.5 and 15 ms."""


def decay_of(tau: Parameter, dt: float, integrator: str = "euler") -> np.ndarray:
    """What is left of a state after one step: 1 - dt/tau ("euler") or e^(-dt/tau) ("exp"), float32.

    Computed in float64 and rounded once; tau and dt in the same unit, tau not 0."""
    ratio = dt / np.asarray(tau, np.float64)
    return np.asarray(1 - ratio if integrator == "euler" else np.exp(-ratio), np.float32)


class Body:
    """The region of a neuron while it is written: its arguments, then operations one by one."""

    def __init__(self, inputs: Sequence[SSAValue], states: Sequence[SSAValue]):
        self.operands = (list(inputs), list(states))
        self.block = Block(arg_types=[value.type for value in (*inputs, *states)])
        self.arguments = tuple(self.block.args)

    def add(self, op: Operation) -> SSAValue:
        """Append an operation; its result."""
        self.block.add_op(op)
        return op.results[0]

    def constant(self, value: Parameter) -> SSAValue:
        """A parameter."""
        return self.add(ops.Constant(np.asarray(value, np.float32)))

    def scaled(self, value: SSAValue, factor: Parameter) -> SSAValue:
        """value * factor."""
        return value if _is(factor, 1) else self.add(ops.Mul(value, self.constant(factor)))

    def shifted(self, value: SSAValue, offset: Parameter) -> SSAValue:
        """value + offset."""
        return value if _is(offset, 0) else self.add(ops.Add(value, self.constant(offset)))

    def leak(self, state: SSAValue, decay: Parameter, drive: SSAValue, gain: Parameter) -> SSAValue:
        """decay * state + gain * drive."""
        return self.add(ops.Add(self.scaled(state, decay), self.scaled(drive, gain)))

    def fired(self, membrane: SSAValue, threshold: SSAValue, fire: str) -> SSAValue:
        """Whether the membrane is above ("gt"), or not below ("ge"), the threshold, i1."""
        return self.add(ops.Compare(fire, membrane, threshold))

    def reset(
        self, membrane: SSAValue, fired: SSAValue, threshold: SSAValue, reset: str, value: Parameter
    ) -> SSAValue:
        """The membrane after the spikes `fired`."""
        if reset == "none":
            return membrane
        if reset == "subtract":
            spikes = self.add(ops.Cast(fired, f32))
            return self.add(ops.Sub(membrane, self.add(ops.Mul(spikes, threshold))))
        assert reset in ("zero", "value"), reset
        return self.add(ops.Select(fired, self.constant(0.0 if reset == "zero" else value), membrane))

    def neuron(
        self,
        outputs: Sequence[SSAValue],
        new_states: Sequence[SSAValue],
        kind: str,
        fire: str = "none",
        reset: str = "none",
        delayed: bool = False,
    ) -> Neuron:
        """Close the region."""
        self.block.add_op(ops.Yield([*outputs, *new_states]))
        return Neuron(*self.operands, Region(self.block), kind, fire, reset, delayed)


def _is(parameter: Parameter, value: float) -> bool:
    return bool(np.all(np.asarray(parameter) == value))


@dataclass(frozen=True)
class Firing:
    """When a membrane fires, and what that does to it; the fields are parameters of `lif`."""

    threshold: Parameter
    fire: str = "gt"
    reset: str = "zero"
    reset_value: Parameter = 0.0
    delayed: bool = False
    lowest: Parameter | None = None
    pending: bool = False

    def after(
        self, body: Body, before: SSAValue, membrane: SSAValue, threshold: SSAValue
    ) -> tuple[SSAValue, SSAValue]:
        """Spikes and the membrane after them; before: the membrane of the last step."""
        if self.delayed:
            assert self.reset != "multi" and self.lowest is None, "no tool has these with a delayed reset"
            again = body.fired(before, threshold, self.fire)
            membrane = body.reset(membrane, again, threshold, self.reset, self.reset_value)
            fired = body.fired(membrane, threshold, self.fire)
            return body.add(ops.Cast(fired, spike)), membrane
        if self.pending:
            spikes, new = self._with_what_is_pending(body, before, membrane, threshold)
        elif self.reset == "multi":
            spikes = body.add(ops.Relu(body.add(ops.Floor(body.add(ops.Div(membrane, threshold))))))
            new = body.add(ops.Sub(membrane, body.add(ops.Mul(spikes, threshold))))
        else:
            fired = body.fired(membrane, threshold, self.fire)
            spikes = body.add(ops.Cast(fired, spike))
            new = body.reset(membrane, fired, threshold, self.reset, self.reset_value)
        return spikes, new if self.lowest is None else body.add(ops.Max(new, body.constant(self.lowest)))

    def _with_what_is_pending(
        self, body: Body, before: SSAValue, membrane: SSAValue, threshold: SSAValue
    ) -> tuple[SSAValue, SSAValue]:
        assert self.reset == "subtract", "what is pending is subtracted"
        again = body.fired(before, threshold, self.fire)
        membrane = body.reset(membrane, again, threshold, self.reset, self.reset_value)
        fired = body.fired(membrane, threshold, self.fire)
        spikes = body.add(ops.Cast(fired, spike))
        owed = body.add(ops.Sub(body.add(ops.Cast(fired, f32)), body.add(ops.Cast(again, f32))))
        return spikes, body.add(ops.Sub(membrane, body.add(ops.Mul(owed, threshold))))

    def neuron(self, body: Body, spikes: SSAValue, new_states: Sequence[SSAValue], kind: str) -> Neuron:
        """Close the region of one that gives these spikes."""
        fire = "floor" if self.reset == "multi" else self.fire
        return body.neuron([spikes], new_states, kind, fire, self.reset, self.delayed)


def integrate_and_fire(
    x: SSAValue,
    membrane: SSAValue,
    *,
    gain: Parameter = 1.0,
    threshold: Parameter = 1.0,
    fire: str = "gt",
    reset: str = "zero",
    reset_value: Parameter = 0.0,
    delayed: bool = False,
    lowest: Parameter | None = None,
    pending: bool = False,
) -> Neuron:
    """IF: u = v + gain x; s = [u > threshold] (`fire` "ge": >=); v' = reset(u, s).

    `lif` without a leak; see there for `reset`, `delayed` and `lowest`. NIR's IF has gain = R dt."""
    firing = Firing(threshold, fire, reset, reset_value, delayed, lowest, pending)
    return _lif("if", x, membrane, 1.0, gain, 0.0, firing)


def lif(
    x: SSAValue,
    membrane: SSAValue,
    *,
    decay: Parameter,
    gain: Parameter = 1.0,
    offset: Parameter = 0.0,
    threshold: Parameter = 1.0,
    fire: str = "gt",
    reset: str = "zero",
    reset_value: Parameter = 0.0,
    delayed: bool = False,
    lowest: Parameter | None = None,
    pending: bool = False,
) -> Neuron:
    """LIF: u = decay v + gain x + offset; s = [u > threshold] (`fire` "ge": >=); v' = reset(u, s).

    reset: "zero" v' = 0 where s; "value" v' = reset_value where s; "subtract" v' = u - s threshold; "none";
    "multi" n = max(0, floor(u / threshold)), v' = u - n threshold, and the output is n, f32.
    lowest: then v' = max(v', lowest).
    pending, with "subtract": a membrane that was above the threshold after its reset, r = [v > threshold], is
    compared without it: s = [u - r threshold > threshold], v' = (u - r threshold) - (s - r) threshold, as
    snnTorch's neurons with reset_delay=False do.
    Euler: decay = 1 - dt/tau, gain = (dt/tau) R, offset = (dt/tau) v_leak; exponential: e^(-dt/tau), and
    (1 - e^(-dt/tau)) R and v_leak (`decay_of`).

    delayed (snnTorch's default): the reset follows from the membrane of the step before, which is kept as it
    fired, r = [v > threshold]: "subtract" v' = decay v + gain x + offset - r threshold; "zero" v' = 0 and
    "value" v' = reset_value where r; s = [v' > threshold].
    """
    firing = Firing(threshold, fire, reset, reset_value, delayed, lowest, pending)
    return _lif("lif", x, membrane, decay, gain, offset, firing)


def _lif(
    kind: str,
    x: SSAValue,
    membrane: SSAValue,
    decay: Parameter,
    gain: Parameter,
    offset: Parameter,
    firing: Firing,
) -> Neuron:
    body = Body([x], [membrane])
    drive, v = body.arguments
    level = body.constant(firing.threshold)
    u = body.shifted(body.leak(v, decay, drive, gain), offset)
    spikes, new = firing.after(body, v, u, level)
    return firing.neuron(body, spikes, [new], kind)


def recurrent_lif(
    x: SSAValue,
    heard: SSAValue,
    membrane: SSAValue,
    *,
    decay: Parameter,
    gain: Parameter = 1.0,
    offset: Parameter = 0.0,
    threshold: Parameter = 1.0,
    fire: str = "gt",
    reset: str = "zero",
    reset_value: Parameter = 0.0,
    delayed: bool = False,
    pending: bool = False,
) -> Neuron:
    """LIF that hears its own layer (snnTorch's RLeaky): u = decay v + gain x + offset + h; fire and reset as
    `lif`.

    heard: h, what the layer's spikes of the step before come to behind their weights, h = V s; it stands
    outside, since a neuron is element by element: those spikes are a state of the loop around it."""
    body = Body([x, heard], [membrane])
    drive, own, v = body.arguments
    level = body.constant(threshold)
    u = body.shifted(body.leak(v, decay, drive, gain), offset)
    u = body.add(ops.Add(u, own))
    firing = Firing(threshold, fire, reset, reset_value, delayed, pending=pending)
    spikes, new = firing.after(body, v, u, level)
    return firing.neuron(body, spikes, [new], "recurrent_lif")


def current_lif(
    x: SSAValue,
    current: SSAValue,
    membrane: SSAValue,
    *,
    current_decay: Parameter,
    current_gain: Parameter = 1.0,
    decay: Parameter,
    gain: Parameter = 1.0,
    offset: Parameter = 0.0,
    threshold: Parameter = 1.0,
    fire: str = "gt",
    reset: str = "zero",
    reset_value: Parameter = 0.0,
    delayed: bool = False,
    old_current: bool = False,
    lowest: Parameter | None = None,
    pending: bool = False,
) -> Neuron:
    """CubaLIF, snnTorch's Synaptic; states current i and membrane v.

    i' = current_decay i + current_gain x; u = decay v + gain i' + offset; fire and reset as `lif`.
    old_current: u = decay v + gain i + offset, the current before this step's input (NIR's reference
    discretisation); snnTorch and Norse take the new one."""
    body = Body([x], [current, membrane])
    drive, i, v = body.arguments
    level = body.constant(threshold)
    new_current = body.leak(i, current_decay, drive, current_gain)
    u = body.shifted(body.leak(v, decay, i if old_current else new_current, gain), offset)
    firing = Firing(threshold, fire, reset, reset_value, delayed, lowest, pending)
    spikes, new = firing.after(body, v, u, level)
    return firing.neuron(body, spikes, [new_current, new], "cuba_lif")


def leaky_integrator(
    x: SSAValue,
    membrane: SSAValue,
    *,
    decay: Parameter,
    gain: Parameter = 1.0,
    offset: Parameter = 0.0,
) -> Neuron:
    """LI, a readout: v' = decay v + gain x + offset; the output is v', f32."""
    body = Body([x], [membrane])
    drive, v = body.arguments
    new = body.shifted(body.leak(v, decay, drive, gain), offset)
    return body.neuron([new], [new], "leaky")


def current_leaky_integrator(
    x: SSAValue,
    current: SSAValue,
    membrane: SSAValue,
    *,
    current_decay: Parameter,
    current_gain: Parameter = 1.0,
    decay: Parameter,
    gain: Parameter = 1.0,
    offset: Parameter = 0.0,
    old_current: bool = False,
) -> Neuron:
    """CubaLI: i' = current_decay i + current_gain x; v' = decay v + gain i' + offset (old_current: gain i);
    the output is v', f32."""
    body = Body([x], [current, membrane])
    drive, i, v = body.arguments
    new_current = body.leak(i, current_decay, drive, current_gain)
    new = body.shifted(body.leak(v, decay, i if old_current else new_current, gain), offset)
    return body.neuron([new], [new_current, new], "cuba_leaky")


def integrator(x: SSAValue, membrane: SSAValue, *, gain: Parameter = 1.0) -> Neuron:
    """NIR's I: v' = v + gain x (gain = R dt); the output is v', f32."""
    body = Body([x], [membrane])
    drive, v = body.arguments
    new = body.leak(v, 1.0, drive, gain)
    return body.neuron([new], [new], "integrator")


def adaptive_lif(
    x: SSAValue,
    membrane: SSAValue,
    adaptation: SSAValue,
    *,
    decay: Parameter,
    gain: Parameter = 1.0,
    offset: Parameter = 0.0,
    threshold: Parameter = 1.0,
    adaptation_decay: Parameter,
    adaptation_strength: Parameter,
    adaptation_jump: Parameter = 1.0,
    fire: str = "gt",
    reset: str = "subtract",
    reset_value: Parameter = 0.0,
) -> Neuron:
    """ALIF (Bellec et al., Long short-term memory and learning-to-learn in networks of spiking neurons,
    2018); states v and adaptation a.

    A = threshold + adaptation_strength a; u = decay v + gain x + offset; s = [u > A]; v' = reset(u, s), where
    "subtract" takes A off; a' = adaptation_decay a + adaptation_jump s (theirs: adaptation_jump
    = 1 - adaptation_decay)."""
    body = Body([x], [membrane, adaptation])
    drive, v, a = body.arguments
    level = body.shifted(body.scaled(a, adaptation_strength), threshold)
    u = body.shifted(body.leak(v, decay, drive, gain), offset)
    firing = Firing(threshold, fire, reset, reset_value)
    spikes, new = firing.after(body, v, u, level)
    jump = body.add(ops.Cast(spikes, f32))
    new_adaptation = body.leak(a, adaptation_decay, jump, adaptation_jump)
    return firing.neuron(body, spikes, [new, new_adaptation], "adaptive_lif")


def multi_spike_if(
    x: SSAValue,
    membrane: SSAValue,
    *,
    decay: Parameter = 1.0,
    gain: Parameter = 1.0,
    threshold: Parameter = 1.0,
    lowest: Parameter | None = None,
) -> Neuron:
    """Sinabs' IAF (LIF with a decay): u = decay v + gain x; n = max(0, floor(u / threshold));
    v' = max(u - n threshold, lowest). The output is n, f32; `lowest` None: no bound (Sinabs: -threshold)."""
    firing = Firing(threshold, reset="multi", lowest=lowest)
    return _lif("multi_spike_if", x, membrane, decay, gain, 0.0, firing)


def adaptive_current(
    x: SSAValue,
    current: SSAValue,
    filtered: SSAValue,
    *,
    current_decay: Parameter = ADAPTIVE_CURRENT_DECAY,
    filter_decay: Parameter = ADAPTIVE_FILTER_DECAY,
) -> Neuron:
    """The input half of the adaptive spiking neuron; states I and S_d.

    I' = current_decay I + x; S_d' = (1 - filter_decay) I' + filter_decay S_d; the output is S_d', f32.
    The first layer's current is the pixel itself: current_decay = 0. Pools and biases come between this and
    `adaptive_spiking`. Source: Zambrano et al., Sparse computation in adaptive spiking neural networks
    (Frontiers in Neuroscience, 2019)."""
    body = Body([x], [current, filtered])
    drive, i, s = body.arguments
    new_current = drive if _is(current_decay, 0) else body.leak(i, current_decay, drive, 1.0)
    rest = np.asarray(1.0 - np.asarray(filter_decay, np.float64), np.float32)
    new = body.add(ops.Add(body.scaled(new_current, rest), body.scaled(s, filter_decay)))
    return body.neuron([new], [new_current, new], "adaptive_current")


def adaptive_spiking(
    signal: SSAValue,
    threshold: SSAValue,
    adaptation: SSAValue,
    estimate: SSAValue,
    raised: SSAValue,
    *,
    estimate_decay: Parameter = ADAPTIVE_CURRENT_DECAY,
    threshold_decay: Parameter = ADAPTIVE_THRESHOLD_DECAY,
) -> Neuron:
    """The firing half of the adaptive spiking neuron; states S_hat (`estimate`) and theta_d (`raised`).

    theta = theta_0 + theta_d; S_hat <- estimate_decay S_hat; s = [S - S_hat > theta / 2];
    S_hat' = S_hat + theta s; theta_d' = threshold_decay (theta_d + m_f theta s).
    theta_0 (`threshold`) and m_f (`adaptation`), f32 scalars or one per channel, are inputs: they set the
    precision while the network runs. Source: as `adaptive_current`."""
    body = Body([signal, threshold, adaptation], [estimate, raised])
    s, theta_0, m_f, s_hat, theta_d = body.arguments
    theta = body.add(ops.Add(theta_d, theta_0))
    decayed = body.scaled(s_hat, estimate_decay)
    error = body.add(ops.Sub(s, decayed))
    fired = body.fired(error, body.scaled(theta, 0.5), "gt")
    jump = body.add(ops.Mul(theta, body.add(ops.Cast(fired, f32))))
    new_estimate = body.add(ops.Add(decayed, jump))
    sum_ = body.add(ops.Add(theta_d, body.add(ops.Mul(jump, m_f))))
    new_raised = body.scaled(sum_, threshold_decay)
    spikes = body.add(ops.Cast(fired, spike))
    return body.neuron([spikes], [new_estimate, new_raised], "adaptive_spiking", "gt", "subtract")
