# SPDX-License-Identifier: Apache-2.0
"""What neurons are called, found out by evaluating them and by what they read of each other.

Each carried state has a neuron of its own: a synaptic current, an adaptation of the threshold and the
membrane that they belong to are three. What they are together is the kind of all of them. Nothing computes by
these names; reports show them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import StringAttr, UnitAttr
from xdsl.ir import Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.time import INSIDE, Neuron
from bnncc.dialect.types import element_of, numpy_type, shape_of
from bnncc.reference import evaluate_operation

FAR = 1e4
"""A membrane far beyond any threshold."""

FIRES = {"gt": "gt", "ge": "ge", "lt": "ge", "le": "gt"}
"""How a neuron fires, by how its membrane is compared with the threshold: where it is below, it does not."""

MIRRORED = {"lt": "gt", "le": "ge", "gt": "ge", "ge": "gt"}
"""The same, by how its threshold is compared with the membrane."""

BETWEEN = (*(kind for kind in INSIDE if kind not in (ops.Constant, ops.Yield)), ops.Transpose, ops.Reshape)
"""What lies between neurons that belong together: operations element by element."""

Decision = ops.Compare | ops.Binarize


@dataclass(frozen=True)
class Kind:
    """As the attributes of `bnn.neuron`."""

    kind: str
    fire: str = "none"
    reset: str = "none"
    delayed: bool = False

    def name(self, neuron: Neuron) -> None:
        """Give them to a neuron."""
        neuron.kind, neuron.fire, neuron.reset = map(StringAttr, (self.kind, self.fire, self.reset))
        neuron.delayed = UnitAttr() if self.delayed else None


def kind_of(neuron: Neuron) -> Kind:
    """The kind of a neuron of one state by itself."""
    resting = slope(neuron, -2 * FAR, -FAR)
    keeps = bool(np.allclose(resting, 1.0, atol=1e-3))
    decisions = [op for op in neuron.block.ops if isinstance(op, Decision)]
    if any(isinstance(op, ops.Floor) for op in before(yielded(neuron))):
        return Kind("multi_spike_if", "floor", "multi")
    if not decisions:
        return Kind("integrator" if keeps else "leaky")
    given = before(yielded(neuron)[: len(neuron.outputs)])
    fire = fires(next((op for op in reversed(decisions) if op in given), decisions[-1]))
    resets = before(yielded(neuron)[len(neuron.outputs) :]).intersection(decisions)
    delayed = bool(resets) and not any(depends_on_input(neuron, op) for op in resets)
    reset = reset_of(neuron, resting) if resets else "none"
    return Kind("if" if keeps else "lif", fire, reset, delayed and reset != "none")


def reset_of(neuron: Neuron, resting: np.ndarray) -> str:
    """What a spike does to the membrane: by its slope above the threshold, and where it comes to lie. The
    inputs are 0, then 1: a threshold that is an input takes off nothing where it is 0."""
    firing, spiked = slope(neuron, FAR, 2 * FAR), after(neuron, 2 * FAR)
    if np.allclose(firing, 0.0, atol=1e-3) and not np.allclose(resting, 0.0, atol=1e-3):
        return "zero" if np.allclose(spiked, 0.0, atol=1e-3) else "value"
    for level in (0.0, 1.0):
        high, low = after(neuron, 2 * FAR, level), after(neuron, -2 * FAR, level)
        if not np.array_equal(high - firing * 2 * FAR, low + resting * 2 * FAR):
            return "subtract"
    return "none"


def yielded(neuron: Neuron) -> Sequence[SSAValue]:
    """Its outputs, then its new state, in its body."""
    last = neuron.block.last_op
    assert isinstance(last, ops.Yield)
    return last.values


def before(values: Sequence[SSAValue]) -> set[Operation]:
    """What values depend on, in one block."""
    found: set[Operation] = set()
    todo = list(values)
    while todo:
        op = todo.pop().owner
        if isinstance(op, Operation) and op not in found:
            found.add(op)
            todo += op.operands
    return found


def fires(op: Decision) -> str:
    """ "gt" or "ge"."""
    if isinstance(op, ops.Binarize):
        return "ge" if op.zero.value.data == 1 else "gt"
    mirrored = isinstance(op.left.owner, ops.Constant)
    return (MIRRORED if mirrored else FIRES).get(op.kind.data, "gt")


def depends_on_input(neuron: Neuron, op: Operation) -> bool:
    """Whether what is compared depends on an input, not on the state alone."""
    inputs = set(neuron.block.args[: len(neuron.inputs)])
    return any(operand in inputs for found in (op, *before(op.operands)) for operand in found.operands)


def evaluate_at(neuron: Neuron, membrane: float, level: float) -> Sequence[np.ndarray]:
    """Its results where the state is `membrane` and the inputs are all `level`."""
    inputs = [np.full(shape_of(v), level, numpy_type(element_of(v))) for v in neuron.inputs]
    states = [np.full(shape_of(v), membrane, np.float32) for v in neuron.states]
    return evaluate_operation(neuron, [*inputs, *states])


def after(neuron: Neuron, membrane: float, level: float = 0.0) -> np.ndarray:
    """The new state there, float64."""
    return evaluate_at(neuron, membrane, level)[len(neuron.outputs)].astype(np.float64)


def slope(neuron: Neuron, low: float, high: float) -> np.ndarray:
    """How the new state depends on the old one between two values."""
    return (after(neuron, high) - after(neuron, low)) / (high - low)


# --- Neurons together ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Carried:
    """A state that a step carries, before and after it."""

    old: SSAValue
    new: SSAValue


def name_together(neurons: Sequence[Neuron], carried: Sequence[Carried]) -> None:
    """Give neurons of one step the kinds that they have with the others that they belong to.

    A leaky state that element-wise operations alone take into a neuron that fires is its current; one that
    hears the spikes of that neuron and keeps it from firing is its adaptation. A neuron whose current comes
    from its own spikes of the step before is recurrent. A current that its neuron's spikes reset is neither:
    such neurons keep the names that they have alone."""
    states = {
        old: neuron
        for neuron in neurons
        for old in (*neuron.states, *(pair.old for pair in carried if pair.new in neuron.new_states))
    }
    for neuron in neurons:
        if neuron.fire.data in ("gt", "ge") and neuron.kind.data in ("if", "lif"):
            _name_with_others(neuron, states, carried)


def _name_with_others(neuron: Neuron, states: dict[SSAValue, Neuron], carried: Sequence[Carried]) -> None:
    near = [other for other in _neurons_read(neuron, states) if other.kind.data in ("leaky", "integrator")]
    hearing = [other for other in near if neuron in _neurons_read(other, states)]
    adapting = [other for other in hearing if _hinders(other, neuron, states)]
    currents = [other for other in near if other not in hearing]
    found = Kind(neuron.kind.data, neuron.fire.data, neuron.reset.data, neuron.delayed is not None)
    if adapting and _falls(neuron):
        _name_adaptive_spiking(neuron, adapting, currents, states)
        return
    if adapting:
        found = Kind("adaptive_lif", found.fire, found.reset, found.delayed)
    elif _hears_itself(neuron, carried):
        found = Kind("recurrent_lif", found.fire, found.reset, found.delayed)
    elif currents:
        found = Kind("cuba_lif", found.fire, found.reset, found.delayed)
    for member in (neuron, *adapting, *currents):
        found.name(member)


def _name_adaptive_spiking(
    neuron: Neuron, adapting: Sequence[Neuron], currents: Sequence[Neuron], states: dict[SSAValue, Neuron]
) -> None:
    """The estimate of a signal, which spikes raise, and the currents that the signal is filtered of."""
    for member in (neuron, *adapting):
        Kind("adaptive_spiking", neuron.fire.data, "subtract").name(member)
    for current in currents:
        for member in (current, *(other for other in _neurons_read(current, states) if other is not neuron)):
            if member.kind.data == "leaky":
                Kind("adaptive_current").name(member)


def _neurons_read(neuron: Neuron, states: dict[SSAValue, Neuron]) -> list[Neuron]:
    """Neurons whose outputs or states of the step before it reads, through element-wise operations alone."""
    found: dict[Neuron, None] = {}
    for value in reached(neuron.inputs, lambda op: isinstance(op, BETWEEN)):
        owner = value.owner if isinstance(value.owner, Neuron) else states.get(value)
        if owner is not None and owner is not neuron:
            found[owner] = None
    return list(found)


def _hears_itself(neuron: Neuron, carried: Sequence[Carried]) -> bool:
    """Whether spikes that it gave in the step before reach it, not through another neuron that fires."""
    heard = {pair.old for pair in carried if _is_spike_of(pair.new, neuron)}

    def goes_on(op: Operation) -> bool:
        return not isinstance(op, Neuron) or op.fire.data == "none"

    return not heard.isdisjoint(reached(neuron.inputs, goes_on))


def _is_spike_of(value: SSAValue, neuron: Neuron) -> bool:
    """Whether a value is what a neuron fired, perhaps of another type or layout."""
    while isinstance(value.owner, ops.Cast | ops.Transpose | ops.Reshape):
        value = value.owner.operands[0]
    outputs: list[SSAValue] = list(neuron.outputs)
    if value not in outputs:
        return False
    inside = yielded(neuron)[outputs.index(value)]
    while isinstance(inside.owner, ops.Cast):
        inside = inside.owner.input
    return isinstance(inside.owner, Decision)


def reached(values: Sequence[SSAValue], goes_on: Callable[[Operation], bool]) -> Iterator[SSAValue]:
    """Values that these depend on, themselves too, through operations that `goes_on` lets pass."""
    todo, seen = list(values), set()
    while todo:
        value = todo.pop()
        if value in seen:
            continue
        seen.add(value)
        yield value
        if isinstance(value.owner, Operation) and goes_on(value.owner):
            todo += value.owner.operands


def _falls(neuron: Neuron) -> bool:
    """Whether the neuron fires where its state is low: the state is an estimate that spikes raise."""
    ones = [np.ones(shape_of(value), numpy_type(element_of(value))) for value in neuron.inputs]
    return _fires_low(neuron, [(ones, at) for at in (-2 * FAR, 2 * FAR)])


def _hinders(other: Neuron, neuron: Neuron, states: dict[SSAValue, Neuron]) -> bool:
    """Whether the neuron fires where the state of another one is low, and does not where it is high."""
    own = {value for value, owner in states.items() if owner is other} | set(other.results)

    def value_at(value: SSAValue, level: float) -> np.ndarray:
        op = value.owner
        if value not in own and isinstance(op, BETWEEN):
            index = list[SSAValue](op.results).index(value)
            return evaluate_operation(op, [value_at(operand, level) for operand in op.operands])[index]
        if isinstance(op, ops.Constant):
            return op.array
        return np.full(shape_of(value), level if value in own else 1.0, numpy_type(element_of(value)))

    return _fires_low(
        neuron, [([value_at(value, at) for value in neuron.inputs], 0.0) for at in (-2 * FAR, 2 * FAR)]
    )


def _fires_low(neuron: Neuron, given: Sequence[tuple[Sequence[np.ndarray], float]]) -> bool:
    """Whether all fire at the first of two (inputs, state), and none at the second."""
    spikes = [i for i, value in enumerate(neuron.outputs) if _is_spike_of(value, neuron)]
    low, high = (
        evaluate_operation(neuron, [*inputs, *(np.full(shape_of(v), at, np.float32) for v in neuron.states)])
        for inputs, at in given
    )
    return bool(spikes) and all(np.all(low[i]) and not np.any(high[i]) for i in spikes)
