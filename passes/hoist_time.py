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

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, TensorType, UnitAttr, UnknownLoc, f32
from xdsl.ir import Attribute, Block, BlockArgument, Operation, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from bnncc.dialect import operations as ops
from bnncc.dialect.sources import SOURCE
from bnncc.dialect.time import LIKELY_SPIKES, MOST_DIMENSIONS, Neuron, Scan
from bnncc.dialect.types import Level, domain_values, element_of, is_number, shape_of, tensor
from bnncc.passes.bodies import constant_like, with_shapes, with_types
from bnncc.passes.matching import ELEMENTWISE, apply_patterns, main_block, sort_block
from bnncc.passes.recognize_spikes import Rates
from bnncc.plan import tables
from bnncc.plan.kernel import Window

MOST_BYTES = 1 << 26
"""What an operation may read and write over all steps: beyond that no cache holds any of it when the next one
comes, and few would want the arena."""

IMAGES = (ops.Conv2d, ops.MaxPool, ops.MeanPool, ops.CountPool, ops.ChannelMean)
"""Operations whose first dimension is a batch, whatever else they do."""


@dataclass
class Component:
    """Operations of a body that depend on each other through states, or one that depends on none of its own;
    states: the numbers of those that make the circle."""

    members: list[Operation]
    states: list[int]


class Body:
    """The body of a loop, and how its values depend on one another."""

    def __init__(self, scan: Scan):
        self.scan = scan
        arguments = list(scan.block.args)
        first, count = len(scan.sequences), len(scan.initial)
        self.slices = arguments[:first]
        self.old = arguments[first : first + count]
        self.invariants = arguments[first + count :]
        last = scan.block.last_op
        assert isinstance(last, ops.Yield)
        self.new, self.collected = list(last.values[:count]), list(last.values[count:])
        self.order = [op for op in scan.block.ops if op is not last]
        self.varying = self._varying()

    def _varying(self) -> set[SSAValue]:
        """The values that differ from step to step."""
        found: set[SSAValue] = {*self.slices, *self.old}
        for op in self.order:
            if any(operand in found for operand in op.operands):
                found.update(op.results)
        return found

    def components(self) -> list[Component]:
        """The varying operations, each group behind those that it reads from."""
        nodes = [op for op in self.order if any(result in self.varying for result in op.results)]
        known = set(nodes)

        def readers(op: Operation) -> list[Operation]:
            values = list(op.results)
            values += [old for old, new in zip(self.old, self.new, strict=True) if new.owner is op]
            return [use.operation for value in values for use in value.uses if use.operation in known]

        groups = strongly_connected(nodes, readers)
        return [Component(sorted(group, key=nodes.index), self._circle(group)) for group in groups]

    def _circle(self, group: Sequence[Operation]) -> list[int]:
        """The states that a group both writes and reads."""
        inside = set(group)
        return [
            i
            for i, (old, new) in enumerate(zip(self.old, self.new, strict=True))
            if new.owner in inside and any(use.operation in inside for use in old.uses)
        ]


def strongly_connected(
    nodes: Sequence[Operation], successors: Callable[[Operation], Sequence[Operation]]
) -> list[list[Operation]]:
    """Groups of nodes that reach each other, each before those that it reaches (Kosaraju and Sharir)."""
    following = {node: list(dict.fromkeys(successors(node))) for node in nodes}
    preceding: dict[Operation, list[Operation]] = {node: [] for node in nodes}
    for node, others in following.items():
        for other in others:
            preceding[other].append(node)
    finished: dict[Operation, None] = {}
    for node in nodes:
        _visit(node, following, finished)
    assigned: dict[Operation, None] = {}
    groups = []
    for node in reversed(list(finished)):
        before = len(assigned)
        _visit(node, preceding, assigned)
        if len(assigned) > before:
            groups.append(list(assigned)[before:])
    return groups


def _visit(
    start: Operation, edges: Mapping[Operation, Sequence[Operation]], finished: dict[Operation, None]
) -> None:
    """Add what is reached from a node, in the order in which a search by depth leaves it."""
    if start in finished:
        return
    entered = {start}
    stack = [(start, iter(edges[start]))]
    while stack:
        node, others = stack[-1]
        for other in others:
            if other not in finished and other not in entered:
                entered.add(other)
                stack.append((other, iter(edges[other])))
                break
        else:
            finished[node] = None
            stack.pop()


Move = tuple[type[ops.Transpose] | type[ops.Reshape], tuple[int, ...]]
"""A transposition by a permutation, or a reshape to a shape."""


def carry_as_read(scan: Scan) -> Scan:
    """The loop, its states carried as the body works on them: where all readers of a state transpose or
    reshape it alike, and its new value comes out of the opposite, this is done outside."""
    body = Body(scan)
    moves = [moved(old, new) for old, new in zip(body.old, body.new, strict=True)]
    if not any(moves):
        return scan
    block, last = scan.parent, scan.block.last_op
    assert block is not None and last is not None
    initial = list(scan.initial)
    for i, move in enumerate(moves):
        if move is None:
            continue
        before = make_move(move, initial[i], scan)
        initial[i] = before.results[0]
        back = body.new[i].owner
        assert isinstance(back, ops.Transpose | ops.Reshape)
        last.operands[i] = back.input
        if not back.result.uses.get_length():
            back.detach()
            back.erase()
        read_as(body.old[i], initial[i].type)
    new = Scan(scan.sequences, initial, scan.invariants, scan.steps, scan.detach_region(scan.body))
    new.location = scan.location
    block.insert_op_before(new, scan)
    finals = [
        value if move is None else make_move(reverse(move, shape_of(old)), value, scan).results[0]
        for move, value, old in zip(moves, new.final, scan.final, strict=True)
    ]
    for old, value in zip(scan.results, [*finals, *new.stacked], strict=True):
        old.replace_all_uses_with(value)
    scan.detach()
    scan.erase()
    return new


def moved(old: SSAValue, new: SSAValue) -> Move | None:
    """What a state goes through before it is read, if its new value comes back from there."""
    found = {move_of(use.operation) for use in old.uses}
    move = found.pop() if found else None
    if found or move is None or not isinstance(new.owner, Operation):
        return None
    return move if move_of(new.owner) == reverse(move, shape_of(old)) else None


def move_of(op: Operation) -> Move | None:
    """The move that an operation is."""
    if isinstance(op, ops.Transpose):
        return ops.Transpose, ops.unpack(op.permutation)
    return (ops.Reshape, shape_of(op.result)) if isinstance(op, ops.Reshape) else None


def reverse(move: Move, shape: tuple[int, ...]) -> Move:
    """The move back, to a shape."""
    kind, numbers = move
    return kind, ops.inverse(numbers) if kind is ops.Transpose else shape


def make_move(move: Move, value: SSAValue, scan: Scan) -> Operation:
    """A move of a value in front of a loop."""
    kind, numbers = move
    op = kind(value, numbers)
    op.location = scan.location
    block = scan.parent
    assert block is not None
    block.insert_op_before(op, scan)
    return op


def read_as(argument: BlockArgument, type_: Attribute) -> None:
    """Let an argument be what the moves made of it, which all of its readers are."""
    readers = list(dict.fromkeys(use.operation for use in argument.uses))
    Rewriter.replace_value_with_new_type(argument, type_)
    for reader in readers:
        reader.results[0].replace_all_uses_with(argument.block.args[argument.index])
        reader.detach()
        reader.erase()


def bytes_over_time(body: Body, components: Sequence[Component]) -> int:
    """What the values that one operation reads and writes take over all steps, at most."""

    def size(value: SSAValue) -> int:
        domain = domain_values(element_of(value))
        bits = 32 if domain is None else (max(domain) - min(domain)).bit_length()
        return math.prod(shape_of(value)) * bits // 8

    largest = 0
    for component in components:
        for op in component.members:
            touched = {value for value in (*op.operands, *op.results) if value in body.varying}
            largest = max(largest, sum(map(size, touched)))
    return largest * body.scan.steps


def is_hoistable(body: Body, components: Sequence[Component]) -> bool:
    """Whether every operation of a body can take time as its batch, or stays in a loop; and one leaves it."""
    scan = body.scan
    if scan.count is not None or scan.steps < 2:
        return False
    carried = [*body.slices, *body.old, *body.collected]
    if any(shape_of(value)[:1] != (1,) for value in carried):
        return False
    if any(isinstance(value, BlockArgument) or value not in body.varying for value in body.new):
        return False
    if any(value not in body.varying for value in body.collected):
        return False
    looping = [component for component in components if component.states]
    if len(looping) == len(components) == 1 and len(looping[0].members) > 1:
        return False
    alone = [component.members[0] for component in components if not component.states]
    return all(takes_batch(op, body.varying) for op in alone)


def takes_batch(op: Operation, varying: set[SSAValue]) -> bool:
    """Whether an operation on [1, ...] in each of T steps is the same operation on [T, ...] once."""
    result = op.results[0]
    rank = len(shape_of(result))
    values = [operand for operand in op.operands if operand in varying]
    others = [operand for operand in op.operands if operand not in varying]
    if not rank or any(shape_of(value)[:1] != (1,) for value in (result, *values)):
        return False
    match op:
        case ops.Transpose():
            return ops.unpack(op.permutation)[0] == 0
        case ops.Reshape():
            return True
        case ops.Concat():
            return op.axis.value.data != 0 and not others
        case ops.Pad():
            return ops.unpack(op.low)[0] == ops.unpack(op.high)[0] == 0
        case ops.Softmax() | ops.Dense():
            return rank > 1 and values == [op.operands[0]]
        case _ if isinstance(op, IMAGES):
            return values == [op.operands[0]]
        case _ if isinstance(op, ELEMENTWISE):
            return all(len(shape_of(value)) == rank for value in values)
    return False


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

    def can_cut(self, components: Sequence[Component]) -> bool:
        """Whether what the loops cut and collect can be stored in steps: bits of images have no fifth
        dimension that they could be cut along, and counts are several planes of bits."""
        loops = [self.loop(component) for component in components if component.states]
        return all(
            is_number(element_of(value))
            or (len(shape_of(value)) < MOST_DIMENSIONS and not isinstance(element_of(value), Level))
            for loop in loops
            if not loop.is_short
            for value in (*loop.sequences, *loop.collected)
        )

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

        sequences = [self._over_time(writer.known[value], value) for value in self.sequences]
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

    def _over_time(self, value: SSAValue, slice_: SSAValue) -> SSAValue:
        """[T, ...], or [T, 1, ...] where the slices keep their first dimension."""
        shape = shape_of(slice_)
        return value if self.is_short else self.writer.reshaped(value, (self.writer.steps, *shape))

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


class HoistTimePass(ModulePass):
    """Distribute every loop that allows it."""

    name = "hoist-time"

    def __init__(self, lanes: int = Rates().costs.lanes, memory: int = MOST_BYTES):
        """lanes: float32 lanes of the target's vectors. memory: bytes that an operation may touch."""
        self.lanes = lanes
        self.memory = memory

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the function; what nobody reads would be collected."""
        apply_patterns(op)
        block = main_block(op)
        for scan in [inner for inner in block.ops if isinstance(inner, Scan)]:
            body = Body(carry_as_read(scan))
            components = body.components()
            writer = Writer(body, self.lanes)
            fits = bytes_over_time(body, components) <= self.memory
            if fits and is_hoistable(body, components) and writer.can_cut(components):
                writer.write(components)
        note_likely_spikes(block, self.lanes)
        sort_block(block)
        apply_patterns(op)
