# SPDX-License-Identifier: Apache-2.0
"""Operations with a state: neurons, and the loop over time that carries it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from xdsl.dialects.builtin import IntegerAttr, StringAttr, TensorType, UnitAttr, f32
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    AttrSizedResultSegments,
    IRDLOperation,
    irdl_op_definition,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import IsolatedFromAbove, Pure

from bnncc.dialect import operations as ops
from bnncc.dialect.checks import StaticTensors, expect, types_text
from bnncc.dialect.types import MOST_DIMENSIONS, element_of, i64, shape_of, tensor

NEURONS = {
    "if": "integrate and fire",
    "lif": "leaky integrate and fire",
    "cuba_lif": "leaky integrate and fire on a synaptic current that leaks, too",
    "recurrent_lif": "leaky integrate and fire that hears its own spikes",
    "leaky": "leaky integrator, no spikes",
    "cuba_leaky": "leaky integrator on a synaptic current",
    "integrator": "integrator, no spikes",
    "adaptive_lif": "leaky integrate and fire with a threshold that rises by spikes",
    "multi_spike_if": "integrate and fire, several spikes a step",
    "adaptive_current": "the filtered current of the adaptive spiking neuron",
    "adaptive_spiking": "the adaptive spiking neuron (AdSNN)",
}
"""The kinds of neurons, and what they are."""

FIRES = {"gt": ">", "ge": ">=", "floor": "floor", "none": "never"}
"""How a neuron fires: membrane > threshold, membrane >= threshold, as often as the threshold fits, never."""

RESETS = ("zero", "value", "subtract", "multi", "none")
"""What a spike does to the membrane: 0, another value, less the threshold (as often as it fired), nothing."""

INSIDE = (
    ops.Constant,
    ops.Cast,
    *ops.UNARY,
    *ops.BINARY,
    ops.Compare,
    ops.Select,
    ops.Clip,
    ops.PRelu,
    ops.MulShift,
    ops.Binarize,
    ops.Yield,
)
"""Operations that the region of a neuron may hold."""


@irdl_op_definition
class Neuron(IRDLOperation):
    """One step of a layer of neurons: (outputs, new states) = body(inputs, states), element by element.

    The body is the exact arithmetic; its block arguments are the inputs (currents, and precision parameters
    that are known at run time only), then the states; its Yield names the outputs (spikes or values), then
    the new states, of the types of the states. `kind` (NEURONS), `fire` (FIRES), `reset` (RESETS) and
    `delayed` (the reset follows one step after the spike) say what the body is, for people and for the choice
    of kernels; they change nothing.
    """

    name = "bnn.neuron"
    inputs = var_operand_def(TensorType)
    states = var_operand_def(TensorType)
    outputs = var_result_def(TensorType)
    new_states = var_result_def(TensorType)
    kind = prop_def(StringAttr)
    fire = prop_def(StringAttr)
    reset = prop_def(StringAttr)
    delayed = opt_prop_def(UnitAttr)
    body = region_def("single_block")
    irdl_options = (AttrSizedOperandSegments(as_property=True), AttrSizedResultSegments(as_property=True))
    traits = traits_def(Pure(), IsolatedFromAbove(), StaticTensors())

    def __init__(
        self,
        inputs: Sequence[SSAValue],
        states: Sequence[SSAValue],
        body: Region,
        kind: str,
        fire: str = "none",
        reset: str = "none",
        delayed: bool = False,
    ):
        last = body.block.last_op
        assert isinstance(last, ops.Yield), "the body ends in a yield"
        types = [value.type for value in last.values]
        count = len(types) - len(states)
        super().__init__(
            operands=[list(inputs), list(states)],
            result_types=[types[:count], types[count:]],
            properties={
                "kind": StringAttr(kind),
                "fire": StringAttr(fire),
                "reset": StringAttr(reset),
                "delayed": UnitAttr() if delayed else None,
            },
            regions=[body],
        )

    @property
    def block(self) -> Block:
        """The only block of the body."""
        return self.body.block

    @property
    def classification(self) -> str:
        """As reports show it: "lif, subtract, >, delayed"."""
        parts = [self.kind.data]
        if self.fire.data != "none":
            parts += [self.reset.data, FIRES.get(self.fire.data, self.fire.data)]
            parts += ["delayed"] if self.delayed is not None else []
        return ", ".join(parts)

    def verify_(self) -> None:
        for label, found, known in (
            ("kind", self.kind.data, NEURONS),
            ("fire", self.fire.data, FIRES),
            ("reset", self.reset.data, RESETS),
        ):
            expect(found in known, f"a {label} of {', '.join(known)}", found)
        expect(len(self.states) > 0, "at least one state", "none")
        verify_region(self, [value.type for value in self.operands], [value.type for value in self.results])
        for old, new in zip(self.states, self.new_states, strict=True):
            expect(old.type == new.type, f"a new state of {old.type}", new.type)
        for op in self.block.ops:
            expect(isinstance(op, INSIDE), "element-wise operations in the body", op.name)


@irdl_op_definition
class Scan(IRDLOperation):
    """The loop over time: for t = 0 .. T-1 (states, slices_t) = body(sequences[t], states, invariants).

    sequences [T, ...] are cut along dimension 0; the states start as `initial`; the invariants are the same
    in every step. Block arguments: slices, states, invariants; the Yield names the new states, then what is
    collected. Results: the states after the last step, then what was collected, stacked [T, ...].

    `trips` is T. With a `count`, an i64 scalar known when the network runs, the body runs so many times; then
    `trips` is the most that there can be (0: any number, if nothing is cut or collected), and what is
    collected is 0 for the steps that did not run.
    """

    name = "bnn.scan"
    sequences = var_operand_def(TensorType)
    initial = var_operand_def(TensorType)
    invariants = var_operand_def(TensorType)
    count = opt_operand_def(TensorType)
    final = var_result_def(TensorType)
    stacked = var_result_def(TensorType)
    trips = prop_def(IntegerAttr)
    body = region_def("single_block")
    irdl_options = (AttrSizedOperandSegments(as_property=True), AttrSizedResultSegments(as_property=True))
    traits = traits_def(Pure(), IsolatedFromAbove(), StaticTensors())

    def __init__(
        self,
        sequences: Sequence[SSAValue],
        initial: Sequence[SSAValue],
        invariants: Sequence[SSAValue],
        trips: int,
        body: Region,
        count: SSAValue | None = None,
    ):
        last = body.block.last_op
        assert isinstance(last, ops.Yield), "the body ends in a yield"
        collected = last.values[len(initial) :]
        super().__init__(
            operands=[list(sequences), list(initial), list(invariants), count],
            result_types=[
                [value.type for value in initial],
                [tensor((trips, *shape_of(value)), element_of(value)) for value in collected],
            ],
            properties={"trips": IntegerAttr(trips, i64)},
            regions=[body],
        )

    @property
    def block(self) -> Block:
        """The only block of the body."""
        return self.body.block

    @property
    def yielded(self) -> tuple[SSAValue, ...]:
        """The new states, then what is collected, in the body."""
        last = self.block.last_op
        assert isinstance(last, ops.Yield)
        return tuple(last.values)

    def inside(self, result: SSAValue) -> SSAValue:
        """What a result of the loop is in each step: the value that the body yields."""
        return next(value for own, value in zip(self.results, self.yielded, strict=True) if own is result)

    @property
    def steps(self) -> int:
        """How often the body runs; with a `count`, at most so often (0: any number)."""
        return self.trips.value.data

    def verify_(self) -> None:
        if self.count is None:
            expect(self.steps > 0, "at least one step", self.steps)
        else:
            expect(element_of(self.count) == i64, "a count of i64", element_of(self.count))
            bound = self.steps > 0 or not (self.sequences or self.stacked)
            expect(bound, "a bound of the steps for what is cut and collected", self.steps)
        for value in self.sequences:
            extent = shape_of(value)[:1]
            expect(extent == (self.steps,), f"sequences of {self.steps} steps", shape_of(value))
        slices = [tensor(shape_of(value)[1:], element_of(value)) for value in self.sequences]
        states = [value.type for value in self.initial]
        collected = [tensor(shape_of(value)[1:], element_of(value)) for value in self.stacked]
        arguments = [*slices, *states, *(value.type for value in self.invariants)]
        verify_region(self, arguments, [*states, *collected])
        finals = [value.type for value in self.final]
        expect(finals == states, f"final states of {types_text(states)}", types_text(finals))
        for value in self.stacked:
            expect(shape_of(value)[0] == self.steps, f"{self.steps} steps collected", shape_of(value))


def is_recurrence(op: Operation | None) -> TypeGuard[Scan]:
    """Whether a loop is element by element, so that one kernel can run it over all steps, the states of an
    element in registers: its states are f32 of one shape, it cuts and collects tensors [T, *that shape], its
    body holds neurons and element-wise operations of that shape only."""
    if not isinstance(op, Scan) or op.count is not None or op.steps < 2 or not op.initial:
        return False
    shape = shape_of(op.initial[0])
    over_time = (op.steps, *shape)
    if len(over_time) > MOST_DIMENSIONS or any(v.type != tensor(shape, f32) for v in op.initial):
        return False
    if any(shape_of(value) != over_time for value in (*op.sequences, *op.stacked)):
        return False
    for inner in op.block.ops:
        if not isinstance(inner, (*INSIDE, Neuron)):
            return False
        is_element = isinstance(inner, ops.Constant | ops.Yield)
        if not is_element and any(shape_of(result) != shape for result in inner.results):
            return False
    return True


def verify_region(op: Neuron | Scan, arguments: Sequence[Attribute], results: Sequence[Attribute]) -> None:
    """Check the block arguments and the yielded types of an operation."""
    found = [argument.type for argument in op.block.args]
    expect(found == list(arguments), f"block arguments {types_text(arguments)}", types_text(found))
    last = op.block.last_op
    expect(isinstance(last, ops.Yield), "a bnn.yield at the end", last and last.name)
    assert isinstance(last, ops.Yield)
    inside = [value.type for value in last.values]
    expect(inside == list(results), f"yielded types {types_text(results)}", types_text(inside))


LIKELY_SPIKES = "likely_spikes"
"""Attribute of a contraction whose input comes from outside step by step: most likely spikes, so a form for
spikes is worth a look at the values when the network runs."""

NEURON = "neuron"
"""Attribute of the operations that came out of a neuron: its classification."""


def inline(op: Neuron, operands: Sequence[SSAValue] | None = None) -> tuple[list[Operation], list[SSAValue]]:
    """Copies of the body's operations on the operands (or others like them), and the values that the results
    are. The copies remember the classification."""
    values: dict[SSAValue, SSAValue] = dict(zip(op.block.args, operands or op.operands, strict=True))
    copies = []
    for inner in op.block.ops:
        if isinstance(inner, ops.Yield):
            return copies, [values.get(value, value) for value in inner.values]
        copy = inner.clone(values)
        copy.attributes[NEURON] = StringAttr(op.classification)
        copies.append(copy)
    raise AssertionError("the body ends in a yield")
