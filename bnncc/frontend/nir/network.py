# SPDX-License-Identifier: Apache-2.0
"""A NIR file with everything decided that both the importer and the evaluation need to know.

A sample of shape [c, h, w] is held as [1, h, w, c], one of [c, l] as [1, 1, l, c], a vector as [1, n]: so
values lie in the module, and states between steps.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bnncc.diagnostics import BnnccError, joined
from bnncc.frontend.checks import unexpected
from bnncc.frontend.nir.discretization import THRESHOLD, Discretization, TimeOptions, discretization
from bnncc.frontend.nir.file import noting
from bnncc.frontend.nir.graph import Graph, read_graph
from bnncc.frontend.nir.nodes import LARGEST_DELAY, SPIKING, Node, Shape
from bnncc.frontend.nir.shapes import Shapes, infer_shapes

WHOLE = 1e-3
"""A delay may be this far from a whole number of steps: it is rounding, not a fraction of a step."""

MOST_STEPS = 256
"""Of a Delay."""

LARGEST_RATIO = 1e30
"""Of a step to a time constant: quotients and their products with what float32 holds stay within float64."""


HELD = (0, 2, 3, 1)
"""Dimension i of a held image is dimension HELD[i] of [1, c, h, w]."""

NATURAL = (0, 3, 1, 2)
"""The way back."""


def image_shape(shape: Shape) -> tuple[int, ...]:
    """The shape of a sample with its leading 1, a sequence [c, l] as an image of height 1."""
    return (1, shape[0], 1, shape[1]) if len(shape) == 2 else (1, *shape)


def held_shape(shape: Shape) -> tuple[int, ...]:
    """The shape that a sample is held in."""
    image = image_shape(shape)
    return tuple(image[axis] for axis in HELD) if len(image) == 4 else image


@dataclass(frozen=True)
class State:
    """What one step hands on to the next. node: whose it is. before, after: its names as an input and as an
    output of a step. shape: of one sample, in NIR's order of dimensions."""

    node: str
    before: str
    after: str
    shape: Shape


@dataclass(frozen=True)
class Network:
    """A graph that is checked, with shapes and steps."""

    graph: Graph
    shapes: Shapes
    steps: Discretization

    @cached_property
    def own_states(self) -> Mapping[str, tuple[State, ...]]:
        """By node: the current before the membrane; the slots of a Delay from the newest to the oldest."""
        found: dict[str, tuple[State, ...]] = {}
        for name, node in self.graph.nodes.items():
            keys = STATES.get(node.kind, ())
            if node.kind == "Delay":
                keys = tuple(f"delay{step}" for step in range(1, int(self.delay_steps(node).max()) + 1))
            found[name] = tuple(self._names.state(name, key, self.shapes.given[name]) for key in keys)
        return found

    @cached_property
    def late_states(self) -> Mapping[str, State]:
        """By node: what it gave in the step before, where an edge carries that."""
        sources = dict.fromkeys(source for source, _ in sorted(self.graph.late))
        return {name: self._names.state(name, "late", self.shapes.given[name]) for name in sources}

    @cached_property
    def states(self) -> tuple[State, ...]:
        """All of them, those of a node together, in the order of the nodes. Where no node has any there is
        one that nothing reads or changes, so that every NIR network is called alike, over sequences."""
        own = (state for states in self.own_states.values() for state in states)
        return (*own, *self.late_states.values()) or (self._names.state("network", "idle", (1,)),)

    def states_of(self, name: str) -> tuple[State, ...]:
        """The states of a node itself."""
        return self.own_states[name]

    @cached_property
    def _names(self) -> _StateNames:
        return _StateNames(self.graph)

    def delay_steps(self, node: Node) -> np.ndarray:
        """How many steps a Delay holds each element, int64 in the parameter's shape."""
        return np.rint(node.arrays["delay"] / self.steps.dt).astype(np.int64)

    def facts(self) -> dict[str, str]:
        """What was decided that the file does not say, for the report."""
        late = {f"'{a}' to '{b}'": "one step late" for a, b in sorted(self.graph.late)}
        return self.steps.facts() | {f"edge {edge}": text for edge, text in late.items()}


STATES: Mapping[str, tuple[str, ...]] = {
    "IF": ("v",),
    "LIF": ("v",),
    "I": ("v",),
    "LI": ("v",),
    "CubaLIF": ("i", "v"),
    "CubaLI": ("i", "v"),
}
"""The states of each kind of neuron."""


class _StateNames:
    """Names for states that are names of nothing else."""

    def __init__(self, graph: Graph):
        self.used = set(graph.nodes)

    def state(self, node: str, key: str, shape: Shape) -> State:
        """ "lif.v" before the step, "lif.v'" after it."""
        before = self.free(f"{node}.{key}")
        return State(node, before, self.free(f"{before}'"), shape)

    def free(self, name: str) -> str:
        """The name, or one like it that is not used yet."""
        while name in self.used:
            name += "_"
        self.used.add(name)
        return name


def read_network(path: str | os.PathLike[str], options: TimeOptions) -> Network:
    """Read and check a file. Raises BnnccError, for all that is wrong with the options and the file."""
    path = Path(path)
    problems: list[BnnccError] = []
    steps = None
    with noting(problems):
        steps = discretization(options)
    found = list(problems)
    problems = []
    shapes = None
    with unexpected(path.name, "reading the model"):
        graph = read_graph(path, problems)
        if graph is not None:
            shapes = infer_shapes(graph, problems)
        if graph is not None and shapes is not None and not problems and steps is not None:
            problems += _step_problems(graph, shapes, steps)
    if found or problems:
        raise joined([*found, *problems])
    assert graph is not None and shapes is not None and steps is not None
    return Network(graph, shapes, steps)


def _step_problems(graph: Graph, shapes: Shapes, steps: Discretization) -> Iterator[BnnccError]:
    """Nodes that do not go with the length of a step."""
    for node in graph.nodes.values():
        if node.kind == "Delay":
            yield from _delay_problems(node, shapes.given[node.name], steps)
        for key, array in node.arrays.items():
            if key.startswith("tau"):
                yield from _tau_problems(node, key, float(array.min()), steps)
        if node.kind in SPIKING and (steps.reset == "multi" or steps.v_min == THRESHOLD):
            lowest = node.arrays["v_threshold"].min()
            if lowest <= 0:
                why = (
                    "--reset multi divides by" if steps.reset == "multi" else "--v-min threshold takes minus"
                )
                yield node.problem(f"its v_threshold is {lowest:g}, but {why} it", "it must be positive")


def _tau_problems(node: Node, key: str, tau: float, steps: Discretization) -> Iterator[BnnccError]:
    """tau: the shortest of them."""
    if steps.dt > LARGEST_RATIO * tau:
        text = f"its {key} is {tau:g}, but a step of {steps.dt:g} is more than {LARGEST_RATIO:g} times that"
        yield node.problem(text, "give another --dt, in the unit of the file's time constants")
    elif steps.integrator == "euler" and steps.dt > 2 * tau:
        yield node.problem(
            f"its {key} is {tau:g}, but a step of {steps.dt:g} is more than twice that: "
            f"1 - dt/tau is {1 - steps.dt / tau:g}, so the state grows from step to step",
            "give another --dt, in the unit of the file's time constants, or --integrator exp",
        )


def _delay_problems(node: Node, shape: Shape, steps: Discretization) -> Iterator[BnnccError]:
    delay, size = node.arrays["delay"], math.prod(shape)
    if delay.max() > 2 * MOST_STEPS * steps.dt:
        most = float(delay.max()) / steps.dt  # Python's own, which is infinite where NumPy warns
        yield _too_long(node, f"{most:.15g}", size)
        return
    ratio = delay / steps.dt
    count = np.rint(ratio)
    bad = (np.abs(ratio - count) > WHOLE) | ((count == 0) & (delay > 0))
    if bad.any():
        value = delay[bad].reshape(-1)[0]
        yield node.problem(
            f"its delay of {value:g} is {value / steps.dt:g} steps of {steps.dt:g}, which is no whole number",
            "give a --dt that all delays are multiples of",
        )
    elif count.max() > MOST_STEPS or count.max() * size > LARGEST_DELAY:
        yield _too_long(node, f"{int(count.max())}", size)


def _too_long(node: Node, count: str, size: int) -> BnnccError:
    return node.problem(
        f"its delay is {count} steps, of {size} values each",
        f"at most {MOST_STEPS} steps are supported, and {LARGEST_DELAY} values in all",
    )
