# SPDX-License-Identifier: Apache-2.0
"""What a NIR graph computes, node by node in float32: the reference that compiled networks are held against.

Written from the equations of the format and of `discretization`, without the dialect: it shares with the
importer which graph there is (`network`), not what it means.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bnncc.diagnostics import BnnccError
from bnncc.frontend.nir.discretization import THRESHOLD, Discretization, TimeOptions
from bnncc.frontend.nir.graph import RELAY
from bnncc.frontend.nir.network import (
    HELD,
    NATURAL,
    Network,
    State,
    held_shape,
    image_shape,
    read_network,
)
from bnncc.frontend.nir.nodes import Node, Window
from bnncc.frontend.nir.shapes import flattened_dimensions

Arrays = Mapping[str, np.ndarray]


class NirEvaluator:
    """A whole file, read and checked once, to be evaluated step by step."""

    def __init__(self, path: str | os.PathLike[str], options: TimeOptions):
        """Raises BnnccError as `read_network` does."""
        self.network: Network = read_network(path, options)

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """One step: what every node gives, by its name, and all states before and after it, by theirs.

        inputs: the Inputs by name [1, *shape], and states by their names before the step, as they are held
        (see `network`); states that are left out are zeros. What nodes give is [1, *shape], sequences as
        images [1, c, 1, l]. Raises BnnccError where an input is missing, unknown or of another shape."""
        self._check(inputs)
        return self.step(inputs).results()

    def step(
        self, inputs: Arrays, dtype: type[np.floating] = np.float32, decisions: Arrays | None = None
    ) -> Step:
        """One step in another type: float64 shows how much float32 rounds. decisions: what neurons that fire
        and Thresholds give instead of what they computed, by name [*shape]."""
        step = Step(self.network, inputs, dtype, decisions or {})
        with np.errstate(all="ignore"):
            step.run()
        return step

    def run(self, sequences: Arrays) -> dict[str, np.ndarray]:
        """All steps from rest on: what every node gives, [T, 1, *shape], for Inputs [T, 1, *shape]."""
        states: dict[str, np.ndarray] = {}
        steps: list[dict[str, np.ndarray]] = []
        for inputs in zip(*sequences.values(), strict=True):
            results = self(dict(zip(sequences, inputs, strict=True)) | states)
            states = {state.before: results[state.after] for state in self.network.states}
            steps.append(results)
        shapes = self.network.shapes.given
        return {
            name: np.stack([step[name].reshape(1, *shapes[name]) for step in steps])
            for name in self.network.graph.nodes
        }

    def _check(self, inputs: Arrays) -> None:
        graph, shapes = self.network.graph, self.network.shapes.given
        expected = {name: (1, *shapes[name]) for name in graph.inputs}
        for name, shape in expected.items():
            if name not in inputs:
                raise BnnccError(f"{graph.file}:{name}", f"no value for the input '{name}', {list(shape)}")
        expected |= {state.before: held_shape(state.shape) for state in self.network.states}
        for name, array in inputs.items():
            if name not in expected:
                hint = f"its inputs: {', '.join(graph.inputs)}"
                raise BnnccError(f"{graph.file}:{name}", f"the network has no input '{name}'", hint)
            if array.shape != expected[name]:
                text = f"the input '{name}' is {list(array.shape)}, expected {list(expected[name])}"
                raise BnnccError(f"{graph.file}:{name}", text)


class Step:
    """One step of a network. values: what each node gives, [*shape]; after: new states by their names before
    the step; margins: how far each decision was from the other side."""

    def __init__(self, network: Network, inputs: Arrays, dtype: type[np.floating], decisions: Arrays):
        self.network, self.dtype, self.decisions = network, dtype, decisions
        self.states = {
            state.before: self._natural(state, inputs.get(state.before)) for state in network.states
        }
        shapes = network.shapes.given
        self.inputs = {
            name: inputs[name].reshape(shapes[name]).astype(dtype) for name in network.graph.inputs
        }
        self.values: dict[str, np.ndarray] = {}
        self.after: dict[str, np.ndarray] = {}
        self.margins: dict[str, np.ndarray] = {}

    def _natural(self, state: State, held: np.ndarray | None) -> np.ndarray:
        if held is None:
            return np.zeros(state.shape, self.dtype)
        image = held.transpose(NATURAL) if held.ndim == 4 else held
        return image.reshape(state.shape).astype(self.dtype)

    def results(self) -> dict[str, np.ndarray]:
        """As `NirEvaluator` gives them."""
        found = {name: array.reshape(image_shape(array.shape)) for name, array in self.values.items()}
        for state in self.network.states:
            for name, array in ((state.before, self.states), (state.after, self.after)):
                image = array[state.before].reshape(image_shape(state.shape))
                found[name] = image.transpose(HELD) if image.ndim == 4 else image
        return found

    def run(self) -> None:
        """Compute all values and new states."""
        network = self.network
        for name, node in network.graph.nodes.items():
            self.values[name] = self.node(node)
        # What a Delay stores may be computed after what it gives.
        for name in (name for name, node in network.graph.nodes.items() if node.kind == "Delay"):
            slots = network.states_of(name)
            kept = [self.taken(name), *(self.states[state.before] for state in slots)]
            self.after.update((state.before, array) for state, array in zip(slots, kept, strict=False))
        for name, state in network.late_states.items():
            self.after[state.before] = self.values[name]
        self.after = {**self.states, **self.after}

    def taken(self, name: str) -> np.ndarray:
        """What the edges bring to a node, added from left to right in the order of the file."""
        graph, total = self.network.graph, None
        for source in graph.sources[name]:
            late = (source, name) in graph.late
            term = self.states[self.network.late_states[source].before] if late else self.values[source]
            total = term if total is None else total + term
        assert total is not None, name
        return total

    def node(self, node: Node) -> np.ndarray:
        """What the node gives; its new states go to `after`."""
        if node.kind == "Input":
            return self.inputs[node.name]
        states = self.network.states_of(node.name)
        if node.kind == "Delay":
            return self.delayed(node, [self.states[state.before] for state in states])
        x = self.taken(node.name)
        if node.kind in STATELESS:
            if node.kind == "Threshold":
                self.margins[node.name] = x - node.arrays["threshold"].astype(np.float32)
            y = STATELESS[node.kind](node, x, self.dtype)
            return self.decisions.get(node.name, y) if node.kind == "Threshold" else y
        membrane = _Membrane(node, self.network.steps, self.dtype)
        y, new = DYNAMICS[node.kind](membrane, x, *(self.states[state.before] for state in states))
        self.after.update((state.before, array) for state, array in zip(states, new, strict=True))
        if membrane.margin is not None:
            self.margins[node.name] = membrane.margin
            return self.decisions.get(node.name, y)
        return y

    def delayed(self, node: Node, slots: Sequence[np.ndarray]) -> np.ndarray:
        """y(t) = x(t - delay), element by element; slots: x of the step before, of that before it, ..."""
        newest = self.taken(node.name) if node.waits else np.zeros_like(slots[0])
        history = np.stack([newest, *slots])
        steps = np.broadcast_to(self.network.delay_steps(node), newest.shape)
        return np.take_along_axis(history, steps[None], 0)[0]


class _Membrane:
    """The constants of a neuron, each rounded once, and what it does with its membrane."""

    def __init__(self, node: Node, steps: Discretization, dtype: type[np.floating]):
        self.node, self.steps, self.dtype = node, steps, dtype
        self.margin: np.ndarray | None = None
        """How far the membrane was from firing, or from firing once more or less."""

    def rounded(self, array: np.ndarray | float) -> np.ndarray:
        """A constant as the compiled network holds it: float32, also where more is computed with."""
        return np.asarray(array).astype(np.float32).astype(self.dtype)

    def leaky(self, state: np.ndarray, drive: np.ndarray, tau: str, weight: str) -> np.ndarray:
        """One step of tau ds/dt = -s + weight drive."""
        ratio = self.steps.dt / self.node.arrays[tau]
        left = np.exp(-ratio) if self.steps.integrator == "exp" else 1 - ratio
        gain = ratio * self.node.arrays.get(weight, 1.0)
        return self.rounded(left) * state + self.rounded(gain) * drive

    def rest(self, tau: str) -> np.ndarray:
        """What v_leak adds in one step."""
        ratio = self.steps.dt / self.node.arrays[tau]
        share = -np.expm1(-ratio) if self.steps.integrator == "exp" else ratio
        return self.rounded(share * self.node.arrays["v_leak"])

    def integrated(self, state: np.ndarray, drive: np.ndarray) -> np.ndarray:
        """One step of dv/dt = R I."""
        return state + self.rounded(self.steps.dt * self.node.arrays["r"]) * drive

    def current(self, old: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The synaptic current after the step, and the one that the membrane sees."""
        new = self.leaky(old, x, "tau_syn", "w_in")
        return new, old if self.steps.current == "old" else new

    def fired(self, v: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Spikes, and the membrane after them; `before`: after the last step."""
        threshold = self.rounded(self.node.arrays["v_threshold"])
        again = np.zeros((), self.dtype)
        if self.steps.pending:
            again = np.asarray(self.is_above(before, threshold)).astype(self.dtype)
            v = v - again * threshold
        if self.steps.reset == "multi":
            spikes = np.maximum(np.floor(v / threshold), 0).astype(self.dtype)
            self.margin = v - np.maximum(np.rint(v / threshold), 1) * threshold
        else:
            self.margin = v - threshold
            spikes = np.asarray(self.is_above(v, threshold)).astype(self.dtype)
        if self.steps.reset in ("multi", "subtract"):
            v = v - (spikes - again) * threshold
        else:
            value = self.node.arrays["v_reset"] if self.steps.reset == "value" else 0.0
            v = np.where(spikes > 0, self.rounded(value), v)
        bound = self.steps.v_min
        if bound is not None:
            v = np.maximum(v, -threshold if bound == THRESHOLD else self.rounded(float(bound)))
        return spikes, v

    def is_above(self, v: np.ndarray, threshold: np.ndarray) -> np.ndarray:
        """Where it fires."""
        return v >= threshold if self.steps.fire == "ge" else v > threshold


States = tuple[np.ndarray, ...]
Outcome = tuple[np.ndarray, States]


def _if(m: _Membrane, x: np.ndarray, v: np.ndarray) -> Outcome:
    spikes, v = m.fired(m.integrated(v, x), v)
    return spikes, (v,)


def _lif(m: _Membrane, x: np.ndarray, v: np.ndarray) -> Outcome:
    spikes, v = m.fired(m.leaky(v, x, "tau", "r") + m.rest("tau"), v)
    return spikes, (v,)


def _cuba_lif(m: _Membrane, x: np.ndarray, i: np.ndarray, v: np.ndarray) -> Outcome:
    new, seen = m.current(i, x)
    spikes, v = m.fired(m.leaky(v, seen, "tau_mem", "r") + m.rest("tau_mem"), v)
    return spikes, (new, v)


def _i(m: _Membrane, x: np.ndarray, v: np.ndarray) -> Outcome:
    v = m.integrated(v, x)
    return v, (v,)


def _li(m: _Membrane, x: np.ndarray, v: np.ndarray) -> Outcome:
    v = m.leaky(v, x, "tau", "r") + m.rest("tau")
    return v, (v,)


def _cuba_li(m: _Membrane, x: np.ndarray, i: np.ndarray, v: np.ndarray) -> Outcome:
    new, seen = m.current(i, x)
    v = m.leaky(v, seen, "tau_mem", "r") + m.rest("tau_mem")
    return v, (new, v)


DYNAMICS: Mapping[str, Callable[..., Outcome]] = {
    "IF": _if,
    "LIF": _lif,
    "CubaLIF": _cuba_lif,
    "I": _i,
    "LI": _li,
    "CubaLI": _cuba_li,
}


def _affine(node: Node, x: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    y = np.einsum("...ok,...k->...o", node.arrays["weight"].astype(dtype), x)
    return y if node.bias is None else y + node.bias


def _windows(x: np.ndarray, window: Window) -> np.ndarray:
    """[c, h', w', kh, kw] of x [c, h, w], zeros outside."""
    top, left, bottom, right = window.pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    spans = [(size - 1) * step + 1 for size, step in zip(window.kernel, window.dilations, strict=True)]
    view = sliding_window_view(padded, spans, axis=(1, 2))
    (down, across), (dy, dx) = window.strides, window.dilations
    return view[:, ::down, ::across, ::dy, ::dx]


def _conv(node: Node, x: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """[O, h', w'] of [C, h, w] (without h for Conv1d), group by group."""
    assert node.window is not None
    weight = node.arrays["weight"].astype(dtype)
    weight = weight.reshape(*weight.shape[:2], *node.window.kernel)
    windows = _windows(x if x.ndim == 3 else x[:, None], node.window)
    parts = zip(np.split(weight, node.groups), np.split(windows, node.groups), strict=True)
    y = np.concatenate([np.tensordot(w, view, ((1, 2, 3), (0, 3, 4))) for w, view in parts])
    if node.bias is not None:
        y = y + node.bias[:, None, None]
    return y if x.ndim == 3 else y[:, 0]


def _sum_pool(node: Node, x: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    assert node.window is not None
    return _windows(x, node.window).sum(axis=(3, 4), dtype=dtype)


def _average_pool(node: Node, x: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    assert node.window is not None
    return _sum_pool(node, x, dtype) / dtype(node.window.kernel[0] * node.window.kernel[1])


def _flatten(node: Node, x: np.ndarray, _: type[np.floating]) -> np.ndarray:
    first, last = flattened_dimensions(node, x.ndim)
    return x.reshape(*x.shape[:first], -1, *x.shape[last + 1 :])


def _scale(node: Node, x: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    return x * node.arrays["scale"].astype(np.float32).astype(dtype)


def _threshold(node: Node, x: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    return (x > node.arrays["threshold"].astype(np.float32)).astype(dtype)


def _same(_: Node, x: np.ndarray, __: type[np.floating]) -> np.ndarray:
    return x


STATELESS: Mapping[str, Callable[[Node, np.ndarray, type[np.floating]], np.ndarray]] = {
    "Affine": _affine,
    "Linear": _affine,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "SumPool2d": _sum_pool,
    "AvgPool2d": _average_pool,
    "Flatten": _flatten,
    "Scale": _scale,
    "Threshold": _threshold,
    "Output": _same,
    RELAY: _same,
}
