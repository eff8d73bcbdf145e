# SPDX-License-Identifier: Apache-2.0
"""Leaky neurons with integer membranes on cores with Arm's DSP extension: the micro-kernel of
`runtime/src/fixed_lif.h` updates up to 32 of them and gives their spikes as a word.

An epilogue is such a neuron if its two outputs are what pass fixed-membranes writes: spikes, and the membrane
over the old one. The current may be any expression of int32.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc import runtime
from bnncc.kernels import emit
from bnncc.kernels.emit import Buffer, Buffers, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.nest import each_lane
from bnncc.plan.expression import Binary, Channel, Compare, Integer, MulShift, Operand, Select
from bnncc.plan.graph import Graph, Node
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.layout import WORD_BITS, Element

PREFIX = "bnncc_fixed_lif"

LIMITS = {Element.I16: 1 << 15, Element.I32: 1 << 30}
"""What membranes saturate at."""


@dataclass(frozen=True)
class FixedNeuron:
    """One neuron. spikes, membrane: its outputs; state: the operand under the membrane; current, level: nodes
    of the graph; factor: the node of the leak's, None where there is no leak; reset: None where the level is
    taken off."""

    spikes: int
    membrane: int
    state: int
    current: int
    level: int
    factor: int | None
    reset: int | None
    fire: str
    bits: int

    def constants(self, graph: Graph) -> set[int]:
        """Constants that are the levels and the factors of the neurons; they are stored in the type of the
        membranes."""
        nodes = [self.level, *([] if self.factor is None else [self.factor])]
        expressions = [graph.nodes[node].expression for node in nodes]
        return {expression.index for expression in expressions if isinstance(expression, Channel)}

    def function(self, graph: Graph) -> str:
        """The name of the C function."""
        leak = "keep"
        if self.factor is not None:
            leak = "leaks" if _is_each(graph, self.factor) else "leak"
        reset = "subtract" if self.reset is None else "set"
        level = "each" if _is_each(graph, self.level) else "all"
        return f"{PREFIX}{self.bits}_{leak}_{self.fire}_{reset}_{level}"


def match(spec: KernelSpec, graph: Graph, isa: Isa) -> FixedNeuron | None:
    """The neuron that an epilogue is, where there is a micro-kernel for it."""
    if not isa.is_scalar or "+dsp" not in isa.features or len(spec.outputs) != 2 or len(spec.in_place) != 1:
        return None
    ((state, membrane),) = spec.in_place
    spikes = 1 - membrane
    layout = spec.outputs[membrane].layout
    dense = layout.strides[3] == 1 or layout.shape[3] == 1
    if layout.element not in LIMITS or spec.outputs[spikes].layout.element is not Element.BIT or not dense:
        return None
    return _Matcher(spec, graph).neuron(spikes, membrane, state)


class _Matcher:
    """Looks at the nodes of an epilogue."""

    def __init__(self, spec: KernelSpec, graph: Graph):
        self.spec, self.graph = spec, graph

    def node(self, number: int) -> Node:
        return self.graph.nodes[number]

    def neuron(self, spikes: int, membrane: int, state: int) -> FixedNeuron | None:
        element = self.spec.outputs[membrane].layout.element
        fired, kept = self.graph.roots[spikes], self.graph.roots[membrane]
        compare, select = self.node(fired), self.node(kept)
        if not isinstance(compare.expression, Compare) or compare.expression.kind not in ("gt", "ge"):
            return None
        if not isinstance(select.expression, Select) or select.operands[0] != fired:
            return None
        u, level = compare.operands
        left = self.node(select.operands[1]).expression
        reset = left.value if isinstance(left, Integer) else None
        if reset is None and not self._takes_level_off(select.operands[1], u, level):
            return None
        if select.operands[2] != u or not self._is_constant(level, 2):
            return None
        total, factor = self._leak(u, state, element)
        current = self._current(total, state, LIMITS[element])
        if current is None:
            return None
        bits = 8 * element.bytes
        fire = compare.expression.kind
        return FixedNeuron(spikes, membrane, state, current, level, factor, reset, fire, bits)

    def _is_constant(self, number: int, uses: int) -> bool:
        """Whether a node is a number, or one for each channel that nothing reads but `uses` operations of the
        neuron."""
        node = self.node(number)
        if isinstance(node.expression, Channel):
            known = self.spec.constants[node.expression.index].element is Element.I32
            return known and node.uses <= uses
        return isinstance(node.expression, Integer)

    def _takes_level_off(self, number: int, u: int, level: int) -> bool:
        """Whether a node is u - level."""
        node = self.node(number)
        is_less = isinstance(node.expression, Binary) and node.expression.kind == "sub"
        return is_less and node.operands == (u, level)

    def _leak(self, u: int, state: int, element: Element) -> tuple[int, int | None]:
        """(the saturated sum, the node of the leak's factor)."""
        node = self.node(u)
        if isinstance(node.expression, Binary) and node.expression.kind == "add":
            total, leak = node.operands
            shifted = self.node(leak)
            if isinstance(shifted.expression, MulShift) and shifted.expression.shift == 8 * element.bytes:
                factor = shifted.operands[1]
                if self._is_state(shifted.operands[0], state) and self._is_constant(factor, 1):
                    return total, factor
        return u, None

    def _current(self, number: int, state: int, limit: int) -> int | None:
        """The current x of min(max(x + v, -limit), limit - 1)."""
        for kind, bound in (("min", limit - 1), ("max", -limit)):
            node = self.node(number)
            if not isinstance(node.expression, Binary) or node.expression.kind != kind:
                return None
            if self.node(node.operands[1]).expression != Integer(bound):
                return None
            number = node.operands[0]
        node = self.node(number)
        if not isinstance(node.expression, Binary) or node.expression.kind != "add":
            return None
        return node.operands[0] if self._is_state(node.operands[1], state) else None

    def _is_state(self, number: int, state: int) -> bool:
        return self.node(number).expression == Operand(state)


def store(
    neuron: FixedNeuron,
    spec: KernelSpec,
    graph: Graph,
    buffers: Buffers,
    position: tuple[Index, Index, Index],
    first: Index,
    count: int,
    value: Callable[[int, Index], Value],
) -> None:
    """Emit the update of `count` neurons from `first` on. value(node, offset): a node of the graph for neuron
    first + offset."""
    state, layout = buffers[f"operand{neuron.state}"], spec.operands[neuron.state]
    currents = _where_currents_lie(neuron, spec, graph)
    size = count if currents is not None else WORD_BITS
    for start in range(0, count, size):
        width, channel = min(size, count - start), first + start
        if currents is not None:
            place = emit.address(spec.operands[currents], *position, channel)
            current = T.address_of(buffers[f"operand{currents}"][place])
        else:
            local = emit.local(f"int{neuron.bits}", width, "current")
            for lane in each_lane(width):
                number = value(neuron.current, start + lane if start else lane)
                T.buffer_store(local, T.Cast(f"int{neuron.bits}", number), [lane])
            current = T.address_of(local[0])
        target = spec.outputs[neuron.spikes].layout
        word = emit.address(target, *position, first // WORD_BITS + start // WORD_BITS)
        arguments = [
            current,
            T.address_of(state[emit.address(layout, *position, channel)]),
            _levels(neuron, graph, buffers, channel),
            _factor(neuron, graph, buffers, channel),
            *(tirx.const(number or 0, "int32") for number in (neuron.reset, width)),
            T.address_of(buffers[f"output{neuron.spikes}"][word]),
        ]
        T.evaluate(T.call_extern("int32", neuron.function(graph), *arguments))


def _where_currents_lie(neuron: FixedNeuron, spec: KernelSpec, graph: Graph) -> int | None:
    """The operand that the currents are, in the type of the membranes; None where they are computed."""
    expression = graph.nodes[neuron.current].expression
    if not isinstance(expression, Operand):
        return None
    layout, wanted = spec.operands[expression.index], spec.operands[neuron.state].element
    dense = layout.shape[3] == spec.shape[3] and layout.strides[3] == 1
    return expression.index if layout.element is wanted and dense else None


def _levels(neuron: FixedNeuron, graph: Graph, buffers: Buffers, channel: Index) -> Value:
    expression = graph.nodes[neuron.level].expression
    if isinstance(expression, Channel):
        return T.address_of(buffers[f"constant{expression.index}"][channel])
    assert isinstance(expression, Integer)
    local: Buffer = emit.local(f"int{neuron.bits}", 1, "level")
    T.buffer_store(local, tirx.const(expression.value, f"int{neuron.bits}"), [0])
    return T.address_of(local[0])


def _factor(neuron: FixedNeuron, graph: Graph, buffers: Buffers, channel: Index) -> Value:
    if neuron.factor is None:
        return tirx.const(0, "int32")
    expression = graph.nodes[neuron.factor].expression
    if isinstance(expression, Channel):
        return T.address_of(buffers[f"constant{expression.index}"][channel])
    assert isinstance(expression, Integer)
    return tirx.const(expression.value, "int32")


def _is_each(graph: Graph, node: int) -> bool:
    """Whether a node is a number for each channel."""
    return isinstance(graph.nodes[node].expression, Channel)


def sources(text: str) -> list[str]:
    """The C text of the functions that `text` calls."""
    names = sorted(set(re.findall(rf"\b{PREFIX}\d+_\w+", text)))
    if not names:
        return []
    lines = []
    for name in names:
        bits, leak, fire, reset, level = name.removeprefix(PREFIX).split("_")
        limit = LIMITS[Element.I16 if bits == "16" else Element.I32]
        kind = ", ".join(part.upper() for part in (leak, fire, reset, level))
        lines.append(f"BNNCC_FIXED_LIF({name}, {bits}, int{bits}_t, {limit}, {kind})")
    return [runtime.source_text("fixed_lif.h"), "\n".join([*lines, ""])]
