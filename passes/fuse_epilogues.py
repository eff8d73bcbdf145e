# SPDX-License-Identifier: Apache-2.0
"""fuse-epilogues: one kernel, and one pass over memory, for each contraction or pool and what follows it.

An element-wise operation joins the region of its operand that is computed last; all its other operands exist
before that region's root, so each region reads finished values only. What is neither a root nor follows one
becomes a region without a root. A recurrence, element-wise in every step, joins like one. Transposes,
reshapes, pads, concatenations and softmax stay outside.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, UnknownLoc, i1
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from bnncc.dialect import operations as ops
from bnncc.dialect.network import decide, main_function
from bnncc.dialect.operations import CONTRACTIONS, ROOTS
from bnncc.dialect.time import Neuron, Scan, inline, is_recurrence
from bnncc.dialect.types import Level, element_of, is_number, shape_of
from bnncc.passes.matching import (
    ELEMENTWISE,
    all_blocks,
    apply_patterns,
    main_block,
    producer,
    uniform_value,
)

MOST_OPERATIONS = 64
"""A region does not grow beyond this by what follows it: what kernels are made from has a limited depth, and
a processor a limited number of registers."""

MOST_REPEATED = 16
"""What every reader computes again is at most so many operations."""

MOST_TERMS = 512
"""Nor beyond a value that, written out as one expression, would have more terms than this: what is used twice
is named in a kernel, but TVM's simplifier looks behind names, and x + x of x + x ... doubles every time."""


@dataclass(eq=False)
class Group:
    """A region to be: the place of its first operation in the schedule, its shape, and its operations."""

    position: int
    shape: tuple[int, ...]
    members: list[Operation] = field(default_factory=list)
    terms: dict[Operation, int] = field(default_factory=dict)
    """How many terms the value of a member would have, written out."""

    def has_room_for(self, op: Operation, cheap: Set[Operation]) -> bool:
        """Whether it stays small enough with one more operation."""
        return len(self.members) < MOST_OPERATIONS and self.terms_of(op, cheap) <= MOST_TERMS

    def terms_of(self, op: Operation, cheap: Set[Operation]) -> int:
        """Of an operation that reads members, and cheap operations that come with it."""
        return 1 + sum(
            self.terms[owner] if owner in self.terms else self.terms_of(owner, cheap) if owner in cheap else 1
            for owner in written_owners(op)
        )

    def add(self, op: Operation, cheap: Set[Operation]) -> None:
        """One more member."""
        self.terms[op] = self.terms_of(op, cheap)
        self.members.append(op)


def could_be_repeated(op: Operation) -> bool:
    """Casts of binary values, bytes times a number, and comparisons: better computed again by every reader
    than stored."""
    if isinstance(op, ops.Cast):
        return not is_number(element_of(op.input))
    if isinstance(op, ops.Mul):
        return uniform_value(op.right) is not None and _is_of_bytes(op.left)
    return isinstance(op, ops.Compare) or (isinstance(op, ELEMENTWISE) and element_of(op.results[0]) == i1)


def _is_of_bytes(value: SSAValue) -> bool:
    cast = producer(value, ops.Cast)
    domain = None if cast is None else element_of(cast.input)
    return isinstance(domain, Level) and domain.is_byte


def written_owners(op: Operation) -> list[Operation]:
    """The operations behind the operands, each as often as a kernel writes it: c ? a : b of booleans is
    c & a | ~c & b."""
    values = list(op.operands)
    if isinstance(op, ops.Select) and element_of(op.results[0]) == i1:
        values.append(values[0])
    return [value.owner for value in values if isinstance(value.owner, Operation)]


def cheap_operations(block: Block) -> set[Operation]:
    """Those that could be repeated, as long as what is repeated with them is little."""
    terms: dict[Operation, int] = {}
    for op in block.ops:
        count = 1 + sum(terms.get(owner, 0) for owner in written_owners(op))
        if could_be_repeated(op) and count <= MOST_REPEATED:
            terms[op] = count
    return set(terms)


def repeat_for_each_use(block: Block) -> set[Operation]:
    """Give every reader of a cheap operation its own copy of it, next to the reader; all cheap operations."""
    cheap = cheap_operations(block)
    for op in reversed(list(block.ops)):
        if op not in cheap:
            continue
        for use in list(op.results[0].uses)[1:]:
            copy = op.clone()
            block.insert_ops_before([copy], use.operation)
            use.operation.operands[use.index] = copy.results[0]
            cheap.add(copy)
    return cheap


def schedule(block: Block) -> list[Operation]:
    """The operations but constants and the terminator in an order in which contractions come as late as they
    can, so that what else an epilogue needs is there."""
    todo = [op for op in block.ops if not isinstance(op, ops.Constant) and op is not block.last_op]
    index = {op: i for i, op in enumerate(todo)}
    waiting = {op: len({v.owner for v in op.operands} & index.keys()) for op in todo}
    ready = [_priority(op, index) for op in todo if waiting[op] == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        op = todo[heapq.heappop(ready)[-1]]
        order.append(op)
        for user in {use.operation for result in op.results for use in result.uses}:
            if user not in waiting:
                continue
            waiting[user] -= 1
            if waiting[user] == 0:
                heapq.heappush(ready, _priority(user, index))
    assert len(order) == len(todo), "the function has no cycles"
    return order


def _priority(op: Operation, index: dict[Operation, int]) -> tuple[bool, int]:
    return isinstance(op, CONTRACTIONS), index[op]


def shape_inside(op: Operation) -> tuple[int, ...]:
    """The shape of a region that an operation is in: of a recurrence that of all steps."""
    if isinstance(op, Scan):
        return (op.steps, *shape_of(op.initial[0]))
    return shape_of(op.results[0])


def inline_neurons(block: Block) -> None:
    """Neurons become their arithmetic."""
    for op in [op for op in block.ops if isinstance(op, Neuron)]:
        copies, values = inline(op)
        block.insert_ops_before(copies, op)
        for copy in copies:
            if copy.location == UnknownLoc():
                copy.location = op.location
        for result, value in zip(op.results, values, strict=True):
            result.replace_all_uses_with(value)
        op.detach()
        op.erase()


class Grouping:
    """Which group each operation belongs to; operations without one stay outside."""

    def __init__(self, order: Sequence[Operation], cheap: Set[Operation]):
        self.order = order
        self.cheap = cheap
        self.position = {op: i for i, op in enumerate(order)}
        self.group_of: dict[Operation, Group] = {}
        for op in order:
            if isinstance(op, ROOTS):
                self.open(op)
            elif (
                isinstance(op, (*ELEMENTWISE, Neuron)) or is_recurrence(op)
            ) and not self.is_taken_by_reader(op):
                self.join(op)

    def is_taken_by_reader(self, op: Operation) -> bool:
        """Whether the only reader of a cheap operation will take it into its own group."""
        readers = [use.operation for use in op.results[0].uses]
        return op in self.cheap and len(readers) == 1 and isinstance(readers[0], ELEMENTWISE)

    def open(self, op: Operation) -> Group:
        """Begin a group with an operation."""
        group = Group(self.position[op], shape_inside(op))
        group.add(op, self.cheap)
        self.group_of[op] = group
        return group

    def join(self, op: Operation) -> None:
        """Put an operation into the group of its latest operand, or into one of its own."""
        _, group = self.latest(op.operands)
        if group is None or group.shape != shape_inside(op) or not group.has_room_for(op, self.cheap):
            group = self.open(op)
        else:
            group.add(op, self.cheap)
            self.group_of[op] = group
        self.take_cheap_operands(op, group)

    def take_cheap_operands(self, op: Operation, group: Group) -> None:
        """Cheap operations in front of a member that belong to no group yet become members."""
        for operand in op.operands:
            owner = operand.owner
            if isinstance(owner, ELEMENTWISE) and owner not in self.group_of:
                group.add(owner, self.cheap)
                self.group_of[owner] = group
                self.take_cheap_operands(owner, group)

    def latest(self, values: Iterable[SSAValue]) -> tuple[int, Group | None]:
        """The position of the value that is computed last, and its group (None outside all groups)."""
        return max((self.anchor(value) for value in values), key=lambda anchor: anchor[0], default=(-1, None))

    def anchor(self, value: SSAValue) -> tuple[int, Group | None]:
        """When a value is there, and in which group; -1 for inputs and constants."""
        owner = value.owner
        if not isinstance(owner, Operation) or owner not in self.position:
            return -1, None
        group = self.group_of.get(owner)
        if group is not None:
            return group.position, group
        if isinstance(owner, ELEMENTWISE):  # cheap, not placed yet
            return self.latest(owner.operands)
        return self.position[owner], None


class Rebuild:
    """Writes the function anew: a Fused for every group, everything else as it was."""

    def __init__(self, block: Block, grouping: Grouping):
        self.block = block
        self.grouping = grouping
        self.values: dict[SSAValue, SSAValue] = {argument: argument for argument in block.args}
        self.new: list[Operation] = []

    def run(self) -> None:
        """Replace the operations of the block."""
        last = self.block.last_op
        assert last is not None
        old = [op for op in self.block.ops if op is not last]
        groups = set(self.grouping.group_of.values())
        outside = [op for op in self.grouping.order if op not in self.grouping.group_of]
        items: list[tuple[int, Group | Operation]] = [(group.position, group) for group in groups]
        items += [(self.grouping.position[op], op) for op in outside]
        for _, item in sorted(items, key=lambda pair: pair[0]):
            if isinstance(item, Group):
                self.fuse(item)
            else:
                self.keep(item)
        last.operands = [self.value(operand) for operand in last.operands]
        self.block.insert_ops_before(self.new, last)
        for op in reversed(old):
            op.detach()
            op.erase(safe_erase=False)

    def value(self, old: SSAValue) -> SSAValue:
        """The new value; a constant is copied when it is first asked for."""
        if old not in self.values:
            assert isinstance(old.owner, ops.Constant), old.owner
            self.keep(old.owner)
        return self.values[old]

    def keep(self, op: Operation) -> None:
        """Copy an operation that stays outside."""
        for operand in op.operands:
            self.value(operand)
        copy = op.clone(self.values)
        self.new.append(copy)

    def fuse(self, group: Group) -> None:
        """Make a region of a group; what others read are its results."""
        members = sorted(group.members, key=self.place_inside)
        inside = set(members)
        inputs = self.inputs_of(members, inside)
        results = [r for op in members for r in op.results if any(u.operation not in inside for u in r.uses)]
        block = Block(arg_types=[value.type for value in inputs])
        local: dict[SSAValue, SSAValue] = dict(zip(inputs, block.args, strict=True))
        for value, argument in local.items():
            argument.name_hint = value.name_hint
        for op in members:
            for operand in op.operands:
                if operand not in local and isinstance(operand.owner, ops.Constant):
                    block.add_op(operand.owner.clone(local))
            for copy in self.copies(op, local):
                block.add_op(copy)
        block.add_op(ops.Yield([local[result] for result in results]))
        types = [result.type for result in results]
        fused = ops.Fused([self.value(value) for value in inputs], types, Region(block))
        fused.location = members[0].location
        for old, new in zip(results, fused.outputs, strict=True):
            self.values[old] = new
            new.name_hint = old.name_hint
        self.new.append(fused)

    def copies(self, op: Operation, local: dict[SSAValue, SSAValue]) -> list[Operation]:
        """A member inside its region; of neurons their arithmetic."""
        if isinstance(op, Scan):
            copy = op.clone(local)
            inline_neurons(copy.block)
            return [copy]
        if not isinstance(op, Neuron):
            return [op.clone(local)]
        copies, values = inline(op, [local[operand] for operand in op.operands])
        local.update(zip(op.results, values, strict=True))
        for copy in copies:
            if copy.location == UnknownLoc():
                copy.location = op.location
        return copies

    def place_inside(self, op: Operation) -> tuple[bool, int]:
        """The root comes first in its region, then the order of the schedule."""
        return not isinstance(op, ROOTS), self.grouping.position[op]

    def inputs_of(self, members: Sequence[Operation], inside: set[Operation]) -> list[SSAValue]:
        """What a group reads, but constants, in the order of first use."""
        read = [operand for op in members for operand in op.operands]
        return list(
            dict.fromkeys(v for v in read if not isinstance(v.owner, ops.Constant) and v.owner not in inside)
        )


def is_one_layer(scan: Scan) -> bool:
    """Whether a loop is one over the steps of neurons, which hear nothing of other layers in it."""
    return scan.count is None and not any(isinstance(op, ROOTS) for op in scan.block.ops)


class FuseEpiloguesPass(ModulePass):
    """Group, then rebuild."""

    name = "fuse-epilogues"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the function; say so where every layer runs over all steps."""
        apply_patterns(op)
        steps = [scan.steps for scan in main_block(op).ops if isinstance(scan, Scan) and is_one_layer(scan)]
        if steps:
            decide(main_function(op), "time", f"layer by layer, each over all {max(steps)} steps")
        for block in all_blocks(op):
            if is_recurrence(block.parent_op()):
                continue
            cheap = repeat_for_each_use(block)
            Rebuild(block, Grouping(schedule(block), cheap)).run()
