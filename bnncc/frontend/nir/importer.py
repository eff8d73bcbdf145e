# SPDX-License-Identifier: Apache-2.0
"""NIR file -> module with one step of the network: func @main(inputs, states) -> (outputs, new states).

Samples are held as `network` says; so images are turned at the Inputs, Outputs and Flattens alone. What
nodes give is f32 (spikes 0 and 1), so that fan-in can be summed; the neurons' own outputs are spikes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import numpy as np
from xdsl.dialects.builtin import ModuleOp, NameLoc, NoneAttr, StringAttr, f32
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, Region, SSAValue

from bnncc.dialect import neurons
from bnncc.dialect import operations as ops
from bnncc.dialect.network import INPUTS, OUTPUTS, set_decisions, set_states
from bnncc.dialect.sources import set_source
from bnncc.dialect.time import Neuron
from bnncc.dialect.types import element_of, spike, tensor
from bnncc.frontend.checks import unexpected
from bnncc.frontend.nir.discretization import THRESHOLD, TimeOptions
from bnncc.frontend.nir.graph import RELAY
from bnncc.frontend.nir.network import (
    HELD,
    NATURAL,
    Network,
    held_shape,
    image_shape,
    read_network,
)
from bnncc.frontend.nir.nodes import SPIKING, Node, Shape
from bnncc.frontend.onnx import identifier, strings


def load_nir(path: str | os.PathLike[str], options: TimeOptions) -> ModuleOp:
    """One step of the network in a NIR file, as `builtin.module { func.func @main }` with `bnn.states`.

    The inputs and outputs are named as the Input and Output nodes, [1, *shape] f32 each. Raises BnnccError
    for whatever is wrong with the file or the options."""
    network = read_network(path, options)
    with unexpected(network.graph.file, "importing the model"):
        return Importer(network).run()


class Importer:
    """Builds the function, node by node."""

    def __init__(self, network: Network):
        self.network, self.graph = network, network.graph
        self.location = NoneAttr()
        shapes = [(1, *network.shapes.given[name]) for name in self.graph.inputs]
        shapes += [held_shape(state.shape) for state in network.states]
        self.block = Block(arg_types=[tensor(shape, f32) for shape in shapes])
        names = [*self.graph.inputs, *(state.before for state in network.states)]
        self.arguments: dict[str, SSAValue] = dict(zip(names, self.block.args, strict=True))
        for name, argument in self.arguments.items():
            argument.name_hint = identifier(name)
        self.values: dict[str, SSAValue] = {}
        """What each node gives, held, f32."""
        self.after: dict[str, SSAValue] = {}
        """New states by their names before the step."""

    def run(self) -> ModuleOp:
        """The module, verified."""
        for node in self.graph.nodes.values():
            self.locate(node)
            self.values[node.name] = self.node(node)
        for node in self.graph.nodes.values():
            if node.kind == "Delay" and self.network.states_of(node.name):
                self.locate(node)
                self.store(node)
        for name, state in self.network.late_states.items():
            self.after[state.before] = self.values[name]
        self.after = {**self.arguments, **self.after}
        return self.module()

    def module(self) -> ModuleOp:
        """The function around the block."""
        states = self.network.states
        results = []
        for name in self.graph.outputs:
            self.locate(self.graph.nodes[name])
            results.append(self.natural(self.values[name], self.network.shapes.given[name]))
        results += [self.after[state.before] for state in states]
        self.block.add_op(ReturnOp(*results))
        types = (list(self.block.arg_types), [result.type for result in results])
        function = FuncOp("main", types, Region(self.block))
        function.attributes[INPUTS] = strings(self.arguments)
        function.attributes[OUTPUTS] = strings([*self.graph.outputs, *(state.after for state in states)])
        set_decisions(function, self.network.facts())
        set_states(function, {state.before: state.after for state in states}, private=True)
        module = ModuleOp([function])
        module.verify()
        return module

    # Building.

    def locate(self, node: Node) -> None:
        """Say of which node the operations to come are."""
        self.location = NameLoc(StringAttr(node.location), NoneAttr())

    def add(self, op: Operation) -> SSAValue:
        """Append an operation; its first result."""
        op.location = self.location  # type: ignore[assignment]
        self.block.add_op(op)
        return op.results[0]

    def constant(self, array: np.ndarray | float) -> SSAValue:
        """A float32 constant."""
        return self.add(ops.Constant(np.ascontiguousarray(array, np.float32)))

    def sourced(self, value: SSAValue, node: Node) -> SSAValue:
        """Say that a held value equals what the node gives; an argument needs no telling."""
        if isinstance(value.owner, Operation) and value is value.owner.results[0]:
            held = len(image_shape(self.network.shapes.given[node.name])) == 4
            set_source(value.owner, node.name, HELD if held else range(2))
        return value

    def held(self, value: SSAValue, shape: Shape) -> SSAValue:
        """From [1, *shape] to how a sample of this shape is held."""
        if len(shape) == 2:
            value = self.add(ops.Reshape(value, image_shape(shape)))
        return value if len(shape) == 1 else self.add(ops.Transpose(value, HELD))

    def natural(self, value: SSAValue, shape: Shape) -> SSAValue:
        """From how a sample of this shape is held to [1, *shape]."""
        if len(shape) == 1:
            return value
        value = self.add(ops.Transpose(value, NATURAL))
        return self.add(ops.Reshape(value, (1, *shape))) if len(shape) == 2 else value

    def parameter(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """A parameter of a sample, float32, as few values as say the same: a number for all, one for each
        channel of an image, or one for each element, held as the sample."""
        array = np.asarray(array, np.float32)
        if array.size == 1 or (array == array.flat[0]).all():
            return array.reshape(-1)[:1].reshape(())
        whole = np.broadcast_to(array, shape)
        if len(shape) == 1:
            return whole
        if (whole == whole.reshape(shape[0], -1)[:, :1].reshape(-1, *[1] * (len(shape) - 1))).all():
            return whole.reshape(shape[0], -1)[:, 0]
        return whole.reshape(image_shape(shape)).transpose(HELD)[0]

    # Nodes.

    def taken(self, node: Node) -> SSAValue:
        """The sum of what the edges bring, from left to right in the order of the file."""
        total = None
        for source in self.graph.sources[node.name]:
            is_late = (source, node.name) in self.graph.late
            term = self.late(source, node) if is_late else self.values[source]
            total = term if total is None else self.add(ops.Add(total, term))
        assert total is not None, node.name
        return total

    def late(self, source: str, node: Node) -> SSAValue:
        """What a source gave in the step before. Spikes in front of weights are told from 0: a state may hold
        any number, and weights are summed over what is known to be spikes."""
        value = self.arguments[self.network.late_states[source].before]
        fires = self.graph.nodes[source].kind in SPIKING and self.network.steps.reset != "multi"
        return self.above(value, 0.0) if fires and "weight" in node.arrays else value

    def above(self, x: SSAValue, level: np.ndarray | float) -> SSAValue:
        """The spikes [x > level], f32."""
        above = self.add(ops.Compare("gt", x, self.constant(level)))
        return self.add(ops.Cast(self.add(ops.Cast(above, spike)), f32))

    def node(self, node: Node) -> SSAValue:
        """What the node gives, held, f32."""
        if node.kind == "Input":
            return self.sourced(self.held(self.arguments[node.name], self.shape(node)), node)
        if node.kind == "Delay":
            return self.sourced(self.delayed(node), node)
        x = self.taken(node)
        if node.kind in NEURONS:
            return self.sourced(self.neuron(node, x), node)
        y = STATELESS[node.kind](self, node, x)
        return y if y is x else self.sourced(y, node)

    def shape(self, node: Node) -> Shape:
        """Of what the node gives."""
        return self.network.shapes.given[node.name]

    def neuron(self, node: Node, x: SSAValue) -> SSAValue:
        """One step of a neuron; its new states go to `after`."""
        states = self.network.states_of(node.name)
        constants = _Constants(self, node)
        op: Neuron = NEURONS[node.kind](constants, x, *(self.arguments[state.before] for state in states))
        self.add(op)
        self.after.update((state.before, new) for state, new in zip(states, op.new_states, strict=True))
        output = op.outputs[0]
        return self.add(ops.Cast(output, f32)) if element_of(output) == spike else output

    def delayed(self, node: Node) -> SSAValue:
        """For each element the slot of its delay, or the input itself where that is 0."""
        steps = np.broadcast_to(self.network.delay_steps(node), self.shape(node))
        slots = [self.arguments[state.before] for state in self.network.states_of(node.name)]
        result: SSAValue | None = None
        for count in np.unique(steps).tolist():
            value = self.taken(node) if count == 0 else slots[count - 1]
            if result is None:
                result = value
                continue
            here = self.parameter((steps == count).astype(np.float32), self.shape(node))
            chosen = self.add(ops.Compare("gt", self.constant(here), self.constant(0.0)))
            result = self.add(ops.Select(chosen, value, result))
        assert result is not None
        return result

    def store(self, node: Node) -> None:
        """A Delay's slots move on by one, the input goes to the first."""
        states = self.network.states_of(node.name)
        kept = [self.taken(node), *(self.arguments[state.before] for state in states[:-1])]
        self.after.update((state.before, value) for state, value in zip(states, kept, strict=True))


class _Constants:
    """The coefficients of a neuron's step (see `discretization`), each rounded to float32 once."""

    def __init__(self, importer: Importer, node: Node):
        self.importer, self.node, self.steps = importer, node, importer.network.steps

    def held(self, array: np.ndarray | float) -> np.ndarray:
        """As a Parameter of the builders in `neurons`. Raises BnnccError for what float32 cannot hold."""
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.asarray(array).astype(np.float32)).all()
        if not finite:
            raise self.node.problem("its coefficients of a step are beyond float32", "look at --dt and its r")
        return self.importer.parameter(np.asarray(array), self.importer.shape(self.node))

    def decay(self, tau: str) -> np.ndarray:
        """What is left of a state after a step."""
        return self.held(neurons.decay_of(self.node.arrays[tau], self.steps.dt, self.steps.integrator))

    def gain(self, tau: str, weight: str) -> np.ndarray:
        """(dt / tau) weight; the weight is 1 where the file has none."""
        ratio = self.steps.dt / self.node.arrays[tau]
        return self.held(ratio * self.node.arrays[weight] if weight in self.node.arrays else ratio)

    def offset(self, tau: str) -> np.ndarray:
        """What v_leak adds in a step."""
        ratio = self.steps.dt / self.node.arrays[tau]
        share = ratio if self.steps.integrator == "euler" else -np.expm1(-ratio)
        return self.held(share * self.node.arrays["v_leak"])

    def integrated(self) -> np.ndarray:
        """dt R."""
        return self.held(self.steps.dt * self.node.arrays["r"])

    def firing(self) -> dict[str, object]:
        """When it fires, and what that does to the membrane."""
        arrays, steps = self.node.arrays, self.steps
        reset, value = steps.reset, arrays["v_reset"]
        if reset == "value" and not value.any():
            reset = "zero"
        lowest = -arrays["v_threshold"] if steps.v_min == THRESHOLD else steps.v_min
        return {
            "threshold": self.held(arrays["v_threshold"]),
            "fire": steps.fire,
            "reset": reset,
            "reset_value": self.held(value),
            "pending": steps.pending,
            "lowest": None if lowest is None else self.held(lowest),  # type: ignore[arg-type]
        }


def _if(c: _Constants, x: SSAValue, v: SSAValue) -> Neuron:
    return neurons.integrate_and_fire(x, v, gain=c.integrated(), **c.firing())  # type: ignore[arg-type]


def _lif(c: _Constants, x: SSAValue, v: SSAValue) -> Neuron:
    decay, gain, offset = c.decay("tau"), c.gain("tau", "r"), c.offset("tau")
    return neurons.lif(x, v, decay=decay, gain=gain, offset=offset, **c.firing())  # type: ignore[arg-type]


def _cuba_lif(c: _Constants, x: SSAValue, i: SSAValue, v: SSAValue) -> Neuron:
    return neurons.current_lif(x, i, v, **_cuba(c), **c.firing())  # type: ignore[arg-type]


def _cuba(c: _Constants) -> dict[str, object]:
    return {
        "current_decay": c.decay("tau_syn"),
        "current_gain": c.gain("tau_syn", "w_in"),
        "decay": c.decay("tau_mem"),
        "gain": c.gain("tau_mem", "r"),
        "offset": c.offset("tau_mem"),
        "old_current": c.steps.current == "old",
    }


def _i(c: _Constants, x: SSAValue, v: SSAValue) -> Neuron:
    return neurons.integrator(x, v, gain=c.integrated())


def _li(c: _Constants, x: SSAValue, v: SSAValue) -> Neuron:
    decay, gain, offset = c.decay("tau"), c.gain("tau", "r"), c.offset("tau")
    return neurons.leaky_integrator(x, v, decay=decay, gain=gain, offset=offset)


def _cuba_li(c: _Constants, x: SSAValue, i: SSAValue, v: SSAValue) -> Neuron:
    return neurons.current_leaky_integrator(x, i, v, **_cuba(c))  # type: ignore[arg-type]


NEURONS: Mapping[str, Callable[..., Neuron]] = {
    "IF": _if,
    "LIF": _lif,
    "CubaLIF": _cuba_lif,
    "I": _i,
    "LI": _li,
    "CubaLI": _cuba_li,
}


def _affine(importer: Importer, node: Node, x: SSAValue) -> SSAValue:
    """Over the last dimension of the sample in its natural order."""
    weight = node.arrays["weight"]
    taken, given = importer.network.shapes.taken[node.name], importer.shape(node)
    rows = importer.natural(x, taken)
    if weight.ndim == 3:
        y = _rows(importer, weight, rows)
    else:
        y = importer.add(ops.Dense(rows, importer.constant(weight)))
    if node.bias is not None and node.bias.any():
        y = importer.add(ops.Add(y, importer.constant(node.bias)))
    return importer.held(y, given)


def _rows(importer: Importer, weight: np.ndarray, x: SSAValue) -> SSAValue:
    """y[1, b, o] = sum_k x[1, b, k] w[b, o, k]: a pointwise convolution of one pixel in b groups."""
    batch, outputs, depth = weight.shape
    pixel = importer.add(ops.Reshape(x, (1, 1, 1, batch * depth)))
    kernel = importer.constant(weight.reshape(batch * outputs, 1, 1, depth))
    y = importer.add(ops.Conv2d(pixel, kernel, groups=batch))
    return importer.add(ops.Reshape(y, (1, batch, outputs)))


def _conv(importer: Importer, node: Node, x: SSAValue) -> SSAValue:
    window, weight = node.window, node.arrays["weight"]
    assert window is not None
    kernel = weight.reshape(*weight.shape[:2], *window.kernel).transpose(0, 2, 3, 1)
    contraction = ops.Conv2d(
        x, importer.constant(kernel), window.strides, window.dilations, window.pads, node.groups
    )
    y = importer.add(contraction)
    if node.bias is None or not node.bias.any():
        return y
    return importer.add(ops.Add(y, importer.constant(node.bias)))


def _average_pool(importer: Importer, node: Node, x: SSAValue) -> SSAValue:
    """As PyTorch does by default, padding counts as zeros."""
    assert node.window is not None
    window = node.window
    pool = ops.MeanPool(x, window.kernel, window.strides, window.dilations, window.pads, count_outside=True)
    return importer.add(pool)


def _sum_pool(importer: Importer, node: Node, x: SSAValue) -> SSAValue:
    """The mean times the size of the window, where that is a power of two and so exact; else a convolution of
    each channel with ones."""
    assert node.window is not None
    window, channels = node.window, importer.shape(node)[0]
    size = window.kernel[0] * window.kernel[1]
    if size & (size - 1) == 0:
        mean = _average_pool(importer, node, x)
        return importer.add(ops.Mul(mean, importer.constant(float(size))))
    ones = importer.constant(np.ones((channels, *window.kernel, 1)))
    return importer.add(ops.Conv2d(x, ones, window.strides, window.dilations, window.pads, groups=channels))


def _flatten(importer: Importer, node: Node, x: SSAValue) -> SSAValue:
    taken, given = importer.network.shapes.taken[node.name], importer.shape(node)
    if taken == given:
        return x
    flat = importer.add(ops.Reshape(importer.natural(x, taken), (1, *given)))
    return importer.held(flat, given)


def _scale(importer: Importer, node: Node, x: SSAValue) -> SSAValue:
    factor = importer.parameter(node.arrays["scale"], importer.shape(node))
    return importer.add(ops.Mul(x, importer.constant(factor)))


def _threshold(importer: Importer, node: Node, x: SSAValue) -> SSAValue:
    level = importer.parameter(node.arrays["threshold"], importer.shape(node))
    return importer.above(x, level)


def _same(_: Importer, __: Node, x: SSAValue) -> SSAValue:
    return x


STATELESS: Mapping[str, Callable[[Importer, Node, SSAValue], SSAValue]] = {
    "Affine": _affine,
    "Linear": _affine,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "AvgPool2d": _average_pool,
    "SumPool2d": _sum_pool,
    "Flatten": _flatten,
    "Scale": _scale,
    "Threshold": _threshold,
    "Output": _same,
    RELAY: _same,
}
