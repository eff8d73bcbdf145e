# SPDX-License-Identifier: Apache-2.0
"""What the arithmetic of a leaky neuron comes to: u = decay v + gain x + offset, a threshold, a reset.

The numbers are found by evaluating the neuron, then checked against it at random: a neuron whose answers do
not follow is none of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnncc.dialect import operations as ops
from bnncc.dialect.time import Neuron
from bnncc.dialect.types import shape_of
from bnncc.passes.matching import channel_form, compress
from bnncc.reference import evaluate_neuron

FAR = 1e6
"""A current beyond any threshold."""

BISECTIONS = 80
"""Of an interval of float32 numbers, until none lies between its ends."""

TOLERANCE = 1e-4
"""Of the check, relative to the largest value."""

SAME = 1e-5
"""A reset is by the threshold where the two are so near, relative to it."""

SAMPLES = 16
"""Random evaluations of the check."""


@dataclass(frozen=True)
class Parameters:
    """float64, scalars [] or one for each channel [c].

    threshold: None for a neuron that does not fire. reset_by: what a spike takes off the membrane
    ("subtract") or leaves of it ("zero", "value"). fire, reset, delayed: as of `bnn.neuron`."""

    decay: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    threshold: np.ndarray | None
    reset_by: np.ndarray
    fire: str
    reset: str
    delayed: bool

    def step(self, x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(what is compared with the threshold, whether it fires, the new state), float64."""
        u = self.decay * v + self.gain * x + self.offset
        if self.threshold is None:
            return u, np.zeros(u.shape, bool), u
        if self.delayed:
            u = self._after(u, self._fires(v))
            return u, self._fires(u), u
        fired = self._fires(u)
        return u, fired, self._after(u, fired)

    def _fires(self, u: np.ndarray) -> np.ndarray:
        return u >= self.threshold if self.fire == "ge" else u > self.threshold

    def _after(self, u: np.ndarray, fired: np.ndarray) -> np.ndarray:
        match self.reset:
            case "none":
                return u
            case "subtract":
                return u - fired * self.reset_by
        return np.where(fired, self.reset_by, u)


class Probe:
    """Evaluates a neuron with one current and one state."""

    def __init__(self, neuron: Neuron):
        self.neuron = neuron
        self.shape = shape_of(neuron.states[0])
        self.spikes = [i for i, value in enumerate(neuron.outputs) if is_decision(neuron, i)]

    def __call__(self, x: np.ndarray | float, v: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """(whether it fires, the new state), float64, for values that broadcast."""
        full = shape_of(self.neuron.inputs[0])
        given = [
            np.broadcast_to(np.asarray(x, np.float32), full),
            np.broadcast_to(np.asarray(v, np.float32), self.shape),
        ]
        results = evaluate_neuron(self.neuron, given)
        fired = np.zeros(self.shape, bool)
        for index in self.spikes:
            fired = np.broadcast_to(results[index] != 0, self.shape)
        return fired, results[-1].astype(np.float64)


def is_decision(neuron: Neuron, output: int) -> bool:
    """Whether an output is what a comparison says."""
    last = neuron.block.last_op
    assert isinstance(last, ops.Yield)
    op = last.values[output].owner
    while isinstance(op, ops.Cast):
        op = op.input.owner
    return isinstance(op, ops.Compare)


def parameters_of(neuron: Neuron) -> Parameters | None:
    """The parameters of a neuron of one current and one state whose outputs are its spikes; else None."""
    if len(neuron.inputs) != 1 or len(neuron.states) != 1 or neuron.reset.data == "multi":
        return None
    if shape_of(neuron.inputs[0]) != shape_of(neuron.states[0]):
        return None
    decisions = [is_decision(neuron, index) for index in range(len(neuron.outputs))]
    if not all(decisions) or len(decisions) > 1:
        return None
    with np.errstate(all="ignore"):
        found = _found(neuron, Probe(neuron), bool(decisions))
    return found if found is not None and _agrees(found, Probe(neuron)) else None


def _found(neuron: Neuron, probe: Probe, fires: bool) -> Parameters | None:
    resting, offset = probe(0.0, 0.0)
    decay, gain = offset - probe(0.0, -1.0)[1], offset - probe(-1.0, 0.0)[1]
    arrays: list[np.ndarray] = [decay, gain, offset]
    threshold, reset_by = None, np.zeros(())
    if fires:
        if resting.any() or not (gain > 0).all():
            return None
        low, high = np.zeros(probe.shape, np.float32), np.full(probe.shape, FAR, np.float32)
        if not probe(high, 0.0)[0].all():
            return None
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            fired = probe(middle, 0.0)[0]
            low, high = np.where(fired, low, middle), np.where(fired, middle, high)
        # What fires first is at the threshold (">=") or just above it.
        edge = high if neuron.fire.data == "ge" else low
        threshold = gain * edge + offset
        level = 2 * np.abs(threshold) + 1
        if neuron.delayed is not None:
            reset_by = decay * level.astype(np.float32) + offset - probe(0.0, level)[1]
        else:
            x = (level / gain).astype(np.float32)
            reset_by = gain * x + offset - probe(x, 0.0)[1]
        if np.allclose(reset_by, threshold, rtol=SAME, atol=0):
            reset_by = threshold
        if neuron.reset.data in ("zero", "value"):
            reset_by = probe(level, 0.0)[1] if neuron.delayed is None else probe(0.0, level)[1]
        arrays += [threshold, reset_by]
    forms = [_form(array, len(probe.shape)) for array in arrays]
    if any(form is None for form in forms):
        return None
    decay, gain, offset, *rest = (form for form in forms if form is not None)
    reset = neuron.reset.data if fires else "none"
    return Parameters(
        decay,
        gain,
        offset,
        rest[0] if fires else None,
        rest[1] if fires else np.zeros(()),
        neuron.fire.data,
        reset,
        neuron.delayed is not None,
    )


def _form(array: np.ndarray, rank: int) -> np.ndarray | None:
    """A scalar or a vector over the channels."""
    return channel_form(compress(np.asarray(array, np.float64)), rank)


def _agrees(found: Parameters, probe: Probe) -> bool:
    """Whether random currents and states give what the parameters say, but for rounding."""
    rng = np.random.default_rng(0)
    scale = 1.0 if found.threshold is None else float(np.abs(found.threshold).max())
    for _ in range(SAMPLES):
        x, v = (rng.uniform(-3, 3, probe.shape).astype(np.float32) * np.float32(scale) for _ in "xv")
        fired, new = probe(x, v)
        u, expected, state = found.step(x.astype(np.float64), v.astype(np.float64))
        near: np.ndarray = np.zeros(u.shape, bool)
        if found.threshold is not None:
            near = np.abs(u - found.threshold) < TOLERANCE * scale
            near |= np.abs(v - found.threshold) < TOLERANCE * scale
        limit = TOLERANCE * max(scale, float(np.abs(state).max()))
        if (((fired != expected) | (np.abs(new - state) > limit)) & ~near).any():
            return False
    return True


def location_of(neuron: Neuron) -> object:
    """Of the comparison that fires, or of the neuron."""
    compares: Sequence[ops.Compare] = [op for op in neuron.block.ops if isinstance(op, ops.Compare)]
    return compares[-1].location if compares else neuron.location
