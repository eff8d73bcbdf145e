# SPDX-License-Identifier: Apache-2.0
"""The bodies of loops over time: how their values depend on one another, and in which order of dimensions
states are carried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import Attribute, BlockArgument, Operation, SSAValue
from xdsl.rewriter import Rewriter

from bnncc.cycles import strongly_connected
from bnncc.dialect import operations as ops
from bnncc.dialect.time import Scan
from bnncc.dialect.types import shape_of


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
    region = scan.detach_region(scan.body)
    new = Scan(scan.sequences, initial, scan.invariants, scan.steps, region, scan.count)
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
