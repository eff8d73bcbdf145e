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
from bnncc.frontend.nir.network import Network, State, read_network
from bnncc.frontend.nir.nodes import Node, Window
from bnncc.frontend.nir.shapes import flattened_dimensions

Arrays = Mapping[str, np.ndarray]


class NirEvaluator:
    """A whole file, read and checked once, to be evaluated step by step.

    dtype: the type that is computed in; float64 shows how much float32 rounds."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        options: TimeOptions,
        dtype: type[np.floating] = np.float32,
    ):
        """Raises BnnccError as `read_network` does."""
        self.network: Network = read_network(path, options)
        self.dtype = dtype

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """One step: what every node gives, by its name, and the new states by theirs, [1, *shape] each.

        inputs: the Inputs by name, and states by their names before the step; states that are left out are
        zeros. Raises BnnccError where an input is missing, unknown or of another shape."""
        self._check(inputs)
        with np.errstate(all="ignore"):
            results = _Step(self, inputs).run()
        return {name: array[None] for name, array in results.items()}

    def run(self, sequences: Arrays) -> dict[str, np.ndarray]:
        """All steps from rest on: what every node gives, [T, 1, *shape], for Inputs [T, 1, *shape]."""
        states: dict[str, np.ndarray] = {}
        steps: list[dict[str, np.ndarray]] = []
        for inputs in zip(*sequences.values(), strict=True):
            results = self(dict(zip(sequences, inputs, strict=True)) | states)
            states = {state.before: results[state.after] for state in self.network.states}
            steps.append(results)
        return {name: np.stack([step[name] for step in steps]) for name in self.network.graph.nodes}

    def _check(self, inputs: Arrays) -> None:
        graph, shapes = self.network.graph, self.network.shapes.given
        expected = {name: shapes[name] for name in graph.inputs}
        for name, shape in expected.items():
            if name not in inputs:
                raise BnnccError(f"{graph.file}:{name}", f"no value for the input '{name}', {[1, *shape]}")
        expected |= {state.before: state.shape for state in self.network.states}
        for name, array in inputs.items():
            if name not in expected:
                hint = f"its inputs: {', '.join(graph.inputs)}"
                raise BnnccError(f"{graph.file}:{name}", f"the network has no input '{name}'", hint)
            if array.shape != (1, *expected[name]):
                text = f"the input '{name}' is {list(array.shape)}, expected {[1, *expected[name]]}"
                raise BnnccError(f"{graph.file}:{name}", text)


class _Step:
    """One step: values by node, states before and after by name, without the leading 1."""

    def __init__(self, evaluator: NirEvaluator, inputs: Arrays):
        self.network, self.dtype = evaluator.network, evaluator.dtype
        self.inputs = {name: array[0].astype(self.dtype) for name, array in inputs.items()}
        self.values: dict[str, np.ndarray] = {}
        self.after: dict[str, np.ndarray] = {}

    def run(self) -> dict[str, np.ndarray]:
        """All values and new states."""
        network = self.network
        for name, node in network.graph.nodes.items():
            self.values[name] = self.node(node)
        # What a Delay stores may be computed after what it gives.
        for name in (name for name, node in network.graph.nodes.items() if node.kind == "Delay"):
            slots = network.states_of(name)
            kept = [self.taken(name), *(self.before(state) for state in slots[:-1])]
            self.after.update((state.after, array) for state, array in zip(slots, kept, strict=bool(slots)))
        for name, state in network.late_states.items():
            self.after[state.after] = self.values[name]
        return self.values | self.after

    def before(self, state: State) -> np.ndarray:
        """A state as the last step left it."""
        given = self.inputs.get(state.before)
        return np.zeros(state.shape, self.dtype) if given is None else given

    def taken(self, name: str) -> np.ndarray:
        """What the edges bring to a node, added from left to right in the order of the file."""
        graph, total = self.network.graph, None
        for source in graph.sources[name]:
            late = (source, name) in graph.late
            term = self.before(self.network.late_states[source]) if late else self.values[source]
            total = term if total is None else total + term
        assert total is not None, name
        return total

    def node(self, node: Node) -> np.ndarray:
        """What the node gives; its new states go to `after`."""
        if node.kind == "Input":
            return self.inputs[node.name]
        states = self.network.states_of(node.name)
        if node.kind == "Delay":
            return self.delayed(node, [self.before(state) for state in states])
        x = self.taken(node.name)
        if node.kind in STATELESS:
            return STATELESS[node.kind](node, x, self.dtype)
        membrane = _Membrane(node, self.network.steps, self.dtype)
        y, new = DYNAMICS[node.kind](membrane, x, *(self.before(state) for state in states))
        self.after.update((state.after, array) for state, array in zip(states, new, strict=True))
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

    def fired(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Spikes, and the membrane after them."""
        threshold = self.rounded(self.node.arrays["v_threshold"])
        if self.steps.reset == "multi":
            spikes = np.maximum(np.floor(v / threshold), 0).astype(self.dtype)
        else:
            above = v >= threshold if self.steps.fire == "ge" else v > threshold
            spikes = np.asarray(above).astype(self.dtype)
        if self.steps.reset in ("multi", "subtract"):
            v = v - spikes * threshold
        else:
            value = self.node.arrays["v_reset"] if self.steps.reset == "value" else 0.0
            v = np.where(spikes > 0, self.rounded(value), v)
        if self.steps.v_min is not None:
            v = np.maximum(v, -threshold if self.steps.v_min == THRESHOLD else self.rounded(self.steps.v_min))  # type: ignore[arg-type]
        return spikes, v


States = tuple[np.ndarray, ...]
Outcome = tuple[np.ndarray, States]


def _if(m: _Membrane, x: np.ndarray, v: np.ndarray) -> Outcome:
    spikes, v = m.fired(m.integrated(v, x))
    return spikes, (v,)


def _lif(m: _Membrane, x: np.ndarray, v: np.ndarray) -> Outcome:
    spikes, v = m.fired(m.leaky(v, x, "tau", "r") + m.rest("tau"))
    return spikes, (v,)


def _cuba_lif(m: _Membrane, x: np.ndarray, i: np.ndarray, v: np.ndarray) -> Outcome:
    new, seen = m.current(i, x)
    spikes, v = m.fired(m.leaky(v, seen, "tau_mem", "r") + m.rest("tau_mem"))
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
