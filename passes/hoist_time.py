# SPDX-License-Identifier: Apache-2.0
"""hoist-time: layer by layer, each over all time steps, instead of all layers in every step.

A loop over time is distributed over the layers in it, which the dependences of its body allow wherever no
layer hears a later one. What carries no state leaves the loop and takes time as its batch: a convolution of
[1, h, w, c] in each of T steps is one of [T, h, w, c]. What carries a state stays a loop, of its own: a
neuron becomes a recurrence (`is_recurrence`), which kernels compute with time innermost, the membranes in
registers; neurons that hear what they cause through a contraction stay together in one loop. A state that
only delays a value becomes the value of the step before: concatenated behind the initial one, the last left
out.

What every step computes is the same as before, in the same order; the memory of T steps is what it costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, TensorType, UnitAttr, UnknownLoc, f32
from xdsl.ir import Attribute, Block, BlockArgument, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from bnncc.dialect import operations as ops
from bnncc.dialect.network import decide, main_function
from bnncc.dialect.sources import SOURCE
from bnncc.dialect.time import LIKELY_SPIKES, Neuron, Scan
from bnncc.dialect.types import MOST_DIMENSIONS, Level, element_of, is_number, shape_of, tensor
from bnncc.passes.bodies import constant_like, with_shapes, with_types
from bnncc.passes.matching import ELEMENTWISE, apply_patterns, main_block, sort_block
from bnncc.passes.recognize_spikes import Rates
from bnncc.passes.time.bodies import Body, Component, carry_as_read
from bnncc.passes.time.obstacles import feedbacks, obstacles, place
from bnncc.plan import tables
from bnncc.plan.kernel import Window

MOST_BYTES = 1 << 26
"""What an operation may read and write over all steps: beyond that no cache holds any of it when the next one
comes, and few would want the arena."""


def with_first(type_: Attribute, extent: int | None) -> TensorType:
    """A tensor type, its first dimension of another extent, or without it."""
    assert isinstance(type_, TensorType)
    rest = type_.get_shape()[1:]
    return tensor(rest if extent is None else (extent, *rest), type_.get_element_type())


def is_given(value: SSAValue) -> bool:
    """Whether a value of a body is part of a sequence from outside, as it is."""
    while isinstance(value.owner, ops.Transpose | ops.Reshape | ops.Pad):
        value = value.owner.operands[0]
    return isinstance(value, BlockArgument) and element_of(value) == f32


def may_look_up(op: ops.Conv2d, lanes: int) -> bool:
    """Whether tables of sums serve a convolution if its input is spikes, at any density."""
    outputs, height, width, inputs = shape_of(op.weight)
    is_real = op.groups.value.data == 1 and element_of(op.weight) == f32
    steps = (*ops.unpack(op.strides), *ops.unpack(op.dilations))
    window = Window(height, width, *steps)
    return is_real and tables.fit(tables.Layer(window, inputs, shape_of(op.result)[2], outputs), lanes)


def note_likely_spikes(block: Block, lanes: int) -> None:
    """The same of convolutions that stand before a loop, on all steps of the network's input."""
    for op in block.ops:
        if isinstance(op, ops.Conv2d) and is_given(op.input) and feeds_loop(op.result):
            if may_look_up(op, lanes):
                op.attributes[LIKELY_SPIKES] = UnitAttr()


def feeds_loop(value: SSAValue) -> bool:
    """Whether a loop cuts a value into steps, or what is made of it element by element."""
    passing = (*ELEMENTWISE, ops.Reshape, ops.Transpose)
    return any(
        (isinstance(use.operation, Scan) and use.index < len(use.operation.sequences))
        or (isinstance(use.operation, passing) and feeds_loop(use.operation.results[0]))
        for use in value.uses
    )


class Writer:
    """Writes the layers of a loop one after the other in front of it."""

    def __init__(self, body: Body, lanes: int):
        """lanes: float32 lanes of the target's vectors."""
        self.body = body
        self.lanes = lanes
        self.scan = body.scan
        self.steps = body.scan.steps
        self.new: list[Operation] = []
        self.known: dict[SSAValue, SSAValue] = {}
        """Varying values of the body over all steps, [T, ...]; of others the value outside."""
        self.final: dict[int, SSAValue] = {}

    def add(self, op: Operation) -> SSAValue:
        """An operation in front of the loop; located there if it has no place of its own."""
        if isinstance(op.location, UnknownLoc):
            op.location = self.scan.location
        self.new.append(op)
        return op.results[0]

    def write(self, components: Sequence[Component]) -> None:
        """Replace the loop."""
        body = self.body
        for argument, sequence in zip(body.slices, self.scan.sequences, strict=True):
            self.known[argument] = self.reshaped(sequence, (self.steps, *shape_of(argument)[1:]))
        self.known.update(zip(body.invariants, self.scan.invariants, strict=True))
        for op in body.order:
            if not any(result in body.varying for result in op.results):
                self.invariant(op)
        for component in components:
            if component.states:
                self.loop(component).write()
            else:
                self.batch(component.members[0])
            self.delays(component)
        finals = [self.final[i] for i in range(len(body.new))]
        stacked = [
            self.reshaped(self.known[value], shape_of(result))
            for value, result in zip(body.collected, self.scan.stacked, strict=True)
        ]
        block = self.scan.parent
        assert block is not None
        block.insert_ops_before(self.new, self.scan)
        for old, value in zip(self.scan.results, [*finals, *stacked], strict=True):
            old.replace_all_uses_with(value)
        self.scan.detach()
        self.scan.erase()

    def reshaped(self, value: SSAValue, shape: Sequence[int]) -> SSAValue:
        """The value in another shape, if it is not its own."""
        if shape_of(value) == tuple(shape):
            return value
        return self.add(ops.Reshape(value, shape))

    def invariant(self, op: Operation) -> None:
        """What is the same in every step, once."""
        copy = op.clone(self.known)
        copy.location = op.location
        copy.attributes.pop(SOURCE, None)
        self.add(copy)

    def batch(self, op: Operation) -> None:
        """An operation without a state, of all steps at once."""
        types = [with_first(result.type, self.steps) for result in op.results]
        new = with_types(op, [self.known[operand] for operand in op.operands], types)
        if isinstance(op, ops.Conv2d) and is_given(op.input) and may_look_up(op, self.lanes):
            new.attributes[LIKELY_SPIKES] = UnitAttr()
        if SOURCE in op.attributes:  # of all steps: `verify` puts them together
            new.attributes[SOURCE] = op.attributes[SOURCE]
        self.add(new)
        self.known.update(zip(op.results, new.results, strict=True))

    def delays(self, component: Component) -> None:
        """States that a group writes and later groups read: the value of the step before."""
        inside = set(component.members)
        for i, (old, new) in enumerate(zip(self.body.old, self.body.new, strict=True)):
            if new.owner not in inside or i in component.states:
                continue
            self.final[i] = self.cut(self.known[new], self.steps - 1, 1)
            joined = self.add(ops.Concat([self.scan.initial[i], self.known[new]], 0))
            self.known[old] = self.cut(joined, 0, self.steps)

    def cut(self, value: SSAValue, first: int, count: int) -> SSAValue:
        """Steps first ... first + count - 1 of a value over all steps."""
        shape = shape_of(value)
        rest = [0] * (len(shape) - 1)
        return self.add(ops.Pad(value, [-first, *rest], [first + count - shape[0], *rest]))

    # What stays in a loop.

    def uncut(self, components: Sequence[Component]) -> list[str]:
        """What the loops would cut or collect and cannot be stored in steps: bits of images have no fifth
        dimension that they could be cut along, and counts are several planes of bits."""
        loops = [self.loop(component) for component in components if component.states]
        return [
            f"{place(loop.component.members[-1])}: no kernel cuts {value.type} into steps"
            for loop in loops
            if not loop.is_short
            for value in (*loop.sequences, *loop.collected)
            if not is_number(element_of(value))
            and (len(shape_of(value)) >= MOST_DIMENSIONS or isinstance(element_of(value), Level))
        ]

    def loop(self, component: Component) -> Loop:
        """A loop of what depends on itself: without the dimension of 1 where it is element by element."""
        is_short = all(isinstance(op, (*ELEMENTWISE, Neuron)) for op in component.members)
        return Loop(self, component, is_short)


class Loop:
    """A loop of the members of a component."""

    def __init__(self, writer: Writer, component: Component, is_short: bool):
        """is_short: whether its values lose their first dimension, of extent 1."""
        self.writer, self.body, self.component = writer, writer.body, component
        self.is_short = is_short
        inside = set(component.members)
        read = list(dict.fromkeys(operand for op in component.members for operand in op.operands))
        old = {self.body.old[i] for i in component.states}
        made = {result for op in component.members for result in op.results}
        free = [value for value in read if value not in old and value not in made]
        self.sequences = [value for value in free if value in self.body.varying]
        constants = [value for value in free if isinstance(value.owner, ops.Constant)]
        others = [value for value in free if value not in self.body.varying]
        self.constants = [value for value in constants if value not in self.body.varying]
        self.invariants = [value for value in others if value not in set(constants)]
        states = [self.body.new[i] for i in component.states]
        readers = set(self.body.collected)
        self.collected = [
            value
            for value in [*(self.body.old[i] for i in component.states), *sorted_results(component.members)]
            if value in readers or self._is_read_outside(value, inside)
        ]
        self.new_states = states

    def _is_read_outside(self, value: SSAValue, inside: set[Operation]) -> bool:
        """Whether another group reads a value, or a state that delays it does."""
        last = self.body.scan.block.last_op
        if any(use.operation not in inside and use.operation is not last for use in value.uses):
            return True
        circle = set(self.component.states)
        return any(new is value and i not in circle for i, new in enumerate(self.body.new))

    def type_of(self, type_: Attribute, rank: int) -> Attribute:
        """A type inside: one of the full rank loses its first dimension."""
        assert isinstance(type_, TensorType)
        return with_first(type_, None) if self.is_short and len(type_.get_shape()) == rank else type_

    def write(self) -> None:
        """Put the loop in front of the old one."""
        writer, body, states = self.writer, self.body, self.component.states
        rank = len(shape_of(body.old[states[0]]))

        def shape(old: tuple[int, ...]) -> tuple[int, ...]:
            return old[1:] if len(old) == rank else old

        def array(old: np.ndarray) -> np.ndarray:
            return self._array(old, rank)

        sequences = [self._over_time(value, rank) for value in self.sequences]
        initial = [self._shortened(body.scan.initial[i], rank) for i in states]
        invariants = [self._shortened(writer.known[value], rank) for value in self.invariants]
        arguments = [*self.sequences, *(body.old[i] for i in states), *self.invariants]
        block = Block(arg_types=[self.type_of(value.type, rank) for value in arguments])
        values: dict[SSAValue, SSAValue] = dict(zip(arguments, block.args, strict=True))
        for op in [*(value.owner for value in self.constants), *self.component.members]:
            assert isinstance(op, Operation)
            operands = [values[operand] for operand in op.operands]
            copy = op.clone(values) if not self.is_short else with_shapes(op, operands, shape, array)
            block.add_op(copy)
            values.update(zip(op.results, copy.results, strict=True))
        block.add_op(ops.Yield([values[value] for value in (*self.new_states, *self.collected)]))
        scan = Scan(sequences, initial, invariants, writer.steps, Region(block))
        scan.location = self.component.members[-1].location
        writer.new.append(scan)
        for i, final in zip(states, scan.final, strict=True):
            writer.final[i] = writer.reshaped(final, shape_of(body.old[i]))
        for value, result in zip(self.collected, scan.stacked, strict=True):
            writer.known[value] = writer.reshaped(result, (writer.steps, *shape_of(value)[1:]))

    def _over_time(self, slice_: SSAValue, rank: int) -> SSAValue:
        """What is cut into slices: [T, ...], or [T, 1, ...] where they keep their first dimension."""
        type_ = self.type_of(slice_.type, rank)
        assert isinstance(type_, TensorType)
        return self.writer.reshaped(self.writer.known[slice_], (self.writer.steps, *type_.get_shape()))

    def _shortened(self, value: SSAValue, rank: int) -> SSAValue:
        type_ = self.type_of(value.type, rank)
        assert isinstance(type_, TensorType)
        if type_ == value.type:
            return value
        if isinstance(value.owner, ops.Constant):
            return self.writer.add(constant_like(value.owner, self._array(value.owner.array, rank)))
        return self.writer.reshaped(value, type_.get_shape())

    def _array(self, array: np.ndarray, rank: int) -> np.ndarray:
        """A constant inside."""
        return array[0] if self.is_short and array.ndim == rank else array


def sorted_results(members: Iterable[Operation]) -> list[SSAValue]:
    """All results in order."""
    return [result for op in members for result in op.results]


@dataclass(frozen=True)
class HoistTimePass(ModulePass):
    """Distribute every loop that allows it.

    lanes: float32 lanes of the target's vectors. memory: bytes that an operation may touch."""

    name = "hoist-time"
    lanes: int = Rates().costs.lanes
    memory: int = MOST_BYTES

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the function; what nobody reads would be collected."""
        apply_patterns(op)
        block, together = main_block(op), list[str]()
        for scan in [inner for inner in block.ops if isinstance(inner, Scan)]:
            scan = carry_as_read(scan)
            body = Body(scan)
            components = body.components()
            has_layers = any(isinstance(inner, ops.ROOTS) for inner in body.order)
            writer = Writer(body, self.lanes)
            reasons = obstacles(body, components, self.memory) or writer.uncut(components)
            if not reasons:
                writer.write(components)
                reasons = feedbacks(components)
            together += reasons if has_layers else []
        if together:
            decide(main_function(op), "step by step", "; ".join(together))
        note_likely_spikes(block, self.lanes)
        sort_block(block)
        apply_patterns(op)
