# SPDX-License-Identifier: Apache-2.0
"""What is carried from step to step: the states of a step function, and those of a loop over time.

A state has memory of its own. Its new value is copied there at the end of a step, unless the kernel that
makes it can write it there at once: `update_in_place` finds that out when all steps are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from xdsl.ir import BlockArgument, Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.time import Scan
from bnncc.dialect.types import element_of, is_number, shape_of
from bnncc.lowering.expressions import unsupported
from bnncc.lowering.geometry import MAX_RANK, canonical, transposed
from bnncc.lowering.opaque import OpaqueNodes
from bnncc.lowering.storage import Plane, is_plain, plain_element, stored_element, value_name
from bnncc.plan.arena import all_reads
from bnncc.plan.kernel import FillHalo
from bnncc.plan.layout import Element, Layout
from bnncc.plan.program import Buffer, Step, TimeLoop, whole


@dataclass(frozen=True)
class Keep:
    """Step `step` copies a new state over the old one; the trip or call that it ends begins with `first`."""

    step: int
    first: int


class Carrier:
    """Lowers loops over time, and keeps states."""

    def __init__(self, opaque: OpaqueNodes, lower: Callable[[Operation], None]):
        """lower: what lowers one operation of a body."""
        self.opaque, self.steps, self.storage = opaque, opaque.steps, opaque.steps.storage
        self.lower = lower
        self.keeps: list[Keep] = []
        self.loops: list[TimeLoop] = []
        self._states: set[int] = set()

    def state(self, argument: BlockArgument, new: SSAValue, name: str, place: str) -> Plane:
        """Memory for a state, laid out as its readers (or else its maker) would like it; it lies there."""
        layout = state_layout(argument, new)
        buffer = self.storage.new_buffer(name, layout.bytes, place)  # type: ignore[arg-type]
        return self.placed_state(argument, Plane(buffer, layout))

    def placed_state(self, argument: BlockArgument, plane: Plane) -> Plane:
        """Remember that a state lies there."""
        self._place(argument, plane)
        self._states.add(plane.buffer)
        return plane

    def keep(self, new: Sequence[SSAValue], planes: Sequence[Plane], op: Operation, first: int) -> None:
        """Copy new states over the old ones; `first` is the first step of the trip or call that ends here."""
        sources = [
            self._unless_overwritten(self._source(value), plane, op)
            for value, plane in zip(new, planes, strict=True)
        ]
        for source, plane in zip(sources, planes, strict=True):
            if (source.buffer, source.layout) != (plane.buffer, plane.layout):
                self.keeps.append(Keep(len(self.steps.steps), first))
                self.steps.copy(source, plane, op, "keep the state")

    def _unless_overwritten(self, source: Plane, target: Plane, op: Operation) -> Plane:
        """A copy of what lies in another state: that may be overwritten first."""
        if source.buffer not in self._states or source.buffer == target.buffer:
            return source
        saved = self.storage.new_plane("saved", Layout.packed(source.layout.element, source.layout.shape))
        self.steps.copy(source, saved, op, "save the state")
        return saved

    def _source(self, value: SSAValue) -> Plane:
        return self.opaque.plain.get(value) or self.steps.placement(value)[0]

    # Loops.

    def scan(self, op: Scan) -> None:
        """One loop: the states start before it; slices are parts of their sequences."""
        arguments = list(op.block.args)
        slices = [arguments.pop(0) for _ in op.sequences]
        states, invariants = arguments[: len(op.initial)], arguments[len(op.initial) :]
        last = op.block.last_op
        assert isinstance(last, ops.Yield)
        new, collected = last.values[: len(states)], last.values[len(states) :]
        for argument, sequence in zip(slices, op.sequences, strict=True):
            self._place(argument, self._slice(argument, self._sequence(sequence, op)))
        for argument, value in zip(invariants, op.invariants, strict=True):
            self._share(argument, value)
        planes = [self.state(a, v, "state", "arena") for a, v in zip(states, new, strict=True)]
        for plane, value in zip(planes, op.initial, strict=True):
            self._start(plane, value, op)
        targets = [
            self._collect(whole_, value, op) for whole_, value in zip(op.stacked, collected, strict=True)
        ]
        kept = set(new)
        copied = [
            (value, plane)
            for value, plane in zip(collected, targets, strict=True)
            if value in kept or not self.storage.reserve_output(value, plane)
        ]
        first = len(self.steps.steps)
        for inner in op.block.ops:
            self.lower(inner)
        for value, plane in copied:
            self.steps.copy(self._source(value), plane, op, "collect")
        self.keep(new, planes, op, first)
        if len(self.steps.steps) > first:
            self.loops.append(TimeLoop(first, len(self.steps.steps) - 1, op.steps, self._count(op)))
        for result, plane in zip(op.final, planes, strict=True):
            self._place(result, plane)

    def _place(self, value: SSAValue, plane: Plane) -> None:
        """Remember where a value lies; opaque nodes take it from there if it is row-major."""
        if is_number(element_of(value)) and is_plain(plane.layout):
            self.opaque.add_plain(value, plane)
        else:
            self.storage.placements[value] = (plane,)

    def _count(self, op: Scan) -> int | None:
        if op.count is None:
            return None
        plane = self.opaque.plain.get(op.count)
        if plane is None or self.storage.buffers[plane.buffer].place != "input":
            raise unsupported(op, "the number of steps must be an input of the network")
        return plane.buffer

    def _share(self, argument: BlockArgument, value: SSAValue) -> None:
        """What is the same in every step lies where it lies."""
        if value in self.storage.placements:
            self.storage.placements[argument] = self.storage.placements[value]
        if value in self.opaque.plain:
            self.opaque.plain[argument] = self.opaque.plain[value]

    def _start(self, plane: Plane, value: SSAValue, op: Scan) -> None:
        """The state before the first step."""
        zero = value.owner
        filled = plane.layout.element in (Element.F32, Element.I32, Element.I16)
        if isinstance(zero, ops.Constant) and filled and not zero.array.any():
            self.steps.fill(plane, 0.0, op)
        else:
            self.steps.copy(self._source(value), plane, op, "start of the state")

    def _sequence(self, value: SSAValue, op: Scan) -> Plane:
        """The sequence row-major, so that the step is its outermost dimension."""
        plane = self._source(value)
        element = element_of(value)
        if is_number(element) and not is_plain(plane.layout):
            return self.steps.row_major(plane, op)
        if not is_number(element) and (len(shape_of(value)) > MAX_RANK or not plane.layout.is_contiguous):
            raise unsupported(op, f"no kernel cuts {value.type} into steps")
        return plane

    def _slice(self, value: SSAValue, sequence: Plane) -> Plane:
        """The part of a sequence that belongs to a step."""
        element = sequence.layout.element
        layout = Layout.packed(element, canonical(shape_of(value)))
        buffer = Buffer(value_name(value), layout.bytes, "part", base=sequence.buffer, stride=layout.bytes)
        self.storage.buffers.append(buffer)
        return Plane(len(self.storage.buffers) - 1, layout)

    def _collect(self, result: SSAValue, value: SSAValue, op: Scan) -> Plane:
        """Where a step puts what is collected; steps that do not run leave zeros there."""
        # Steps lie one after the other: a halo that readers ask for is around a copy that they make.
        self.storage.demands.pop(result, None)
        sequence = self.storage.destination(result)[0]
        part = Layout.packed(sequence.layout.element, canonical(shape_of(value)))
        if op.steps * part.bytes > sequence.layout.bytes:
            # Bits of five dimensions lie in one row, without the padding that rows of four have.
            raise unsupported(op, f"no kernel collects {value.type} of every step as bits")
        self._place(result, sequence)
        if op.count is not None:
            self.steps.clear(sequence, op)
        return self._slice(value, sequence)


def state_layout(argument: BlockArgument, new: SSAValue) -> Layout:
    """As the tensor lies in its memory: row-major as its readers see it, behind the transposition that all of
    them begin with; else as its maker sees it, before the transposition that it ends with."""
    element = plain_element(argument) if is_number(element_of(argument)) else stored_element(argument)
    shape, users = shape_of(argument), [use.operation for use in argument.uses]
    permutation: Sequence[int] | None = None
    if users and all(isinstance(user, ops.Transpose) for user in users):
        found = {ops.unpack(user.permutation) for user in users if isinstance(user, ops.Transpose)}
        permutation = found.pop() if len(found) == 1 else None
    elif isinstance(new.owner, ops.Transpose):
        permutation = ops.inverse(ops.unpack(new.owner.permutation))
    if permutation is None or element is Element.BIT or len(shape) > MAX_RANK:
        return Layout.packed(element, canonical(shape))
    inner = Layout.packed(element, canonical([shape[axis] for axis in permutation]))
    return transposed(inner, len(shape), ops.inverse(permutation))


@dataclass(frozen=True)
class Schedule:
    """Steps in order, the operation of each, the loops over them, and the buffers they work on."""

    steps: tuple[Step, ...]
    operations: tuple[Operation, ...]
    buffers: tuple[Buffer, ...]
    loops: tuple[TimeLoop, ...]


def update_in_place(schedule: Schedule, keeps: Sequence[Keep]) -> Schedule:
    """Leave out the copies of new states that can be written over the old ones where they are made."""
    steps, buffers = list(schedule.steps), list(schedule.buffers)
    gone: set[int] = set()
    for keep in keeps:
        copy = steps[keep.step]
        old, new = copy.writes[0], copy.reads[0]
        maker = _maker(steps, buffers, schedule.loops, keep)
        if maker is None or not _lies_as(copy, buffers):
            continue
        reads = [i for i in range(keep.first, keep.step) if old in _wholes(all_reads(steps[i]), buffers)]
        if reads and reads[-1] > maker:
            continue
        if maker in reads:
            pair = _pair(steps[maker], buffers, old, new)
            if pair is None:
                continue
            steps[maker] = _written_where_read(steps[maker], pair)
        buffers[new] = replace(buffers[new], place="part", base=old, stride=0)
        gone.add(keep.step)
    return without(replace(schedule, steps=tuple(steps), buffers=tuple(buffers)), gone)


def _wholes(indices: Sequence[int], buffers: Sequence[Buffer]) -> list[int]:
    return [whole(buffers, index) for index in indices]


def _maker(
    steps: Sequence[Step], buffers: Sequence[Buffer], loops: Sequence[TimeLoop], keep: Keep
) -> int | None:
    """The one step that writes the new state, if it is in no other loop than the copy."""
    new = steps[keep.step].reads[0]
    if buffers[new].place != "arena" or any(
        buffer.base == new for buffer in buffers if buffer.place == "part"
    ):
        return None
    makers = [i for i, step in enumerate(steps) if new in step.writes]
    if len(makers) != 1 or isinstance(steps[makers[0]].kernel.root, FillHalo):
        return None
    around = [{loop for loop in loops if index in loop} for index in (makers[0], keep.step)]
    return makers[0] if around[0] == around[1] else None


def _lies_as(copy: Step, buffers: Sequence[Buffer]) -> bool:
    """Whether a copy moves every byte of one buffer to the same place in the other."""
    kernel = copy.kernel
    same = bool(kernel.operands) and alike(kernel.operands[0], kernel.outputs[0].layout)
    return same and buffers[copy.reads[0]].bytes == buffers[copy.writes[0]].bytes


def _pair(step: Step, buffers: Sequence[Buffer], old: int, new: int) -> tuple[int, int] | None:
    """(operand, output) of a kernel that reads each element of the old state where it writes the new one."""
    if step.when_zero is not None or _wholes(all_reads(step), buffers).count(old) != 1:
        return None
    inputs, output = len(step.kernel.inputs), step.writes.index(new)
    if old not in step.reads[inputs:] or step.writes.count(new) != 1:
        return None
    operand = step.reads.index(old) - inputs
    written = step.kernel.outputs[output].layout
    return (operand, output) if alike(step.kernel.operands[operand], written) else None


def alike(left: Layout, right: Layout) -> bool:
    """Whether two layouts put every element at the same place; strides of single rows do not matter."""
    same = (left.element, left.shape, left.offset) == (right.element, right.shape, right.offset)
    strides = zip(left.shape, left.strides, right.strides, strict=True)
    return same and not left.halo and not right.halo and all(n == 1 or a == b for n, a, b in strides)


def _written_where_read(step: Step, pair: tuple[int, int]) -> Step:
    """The step, an operand and an output of its kernel in one place."""
    operand, output = pair
    operands = list(step.kernel.operands)
    operands[operand] = step.kernel.outputs[output].layout
    step = replace(step, kernel=replace(step.kernel, operands=tuple(operands)))
    return with_pairs(step, (*step.kernel.in_place, pair))


def with_pairs(step: Step, pairs: tuple[tuple[int, int], ...]) -> Step:
    """The step, its kernels told which operands and outputs share memory."""
    when_zero = step.when_zero and replace(
        step.when_zero, kernel=replace(step.when_zero.kernel, in_place=pairs)
    )
    return replace(step, kernel=replace(step.kernel, in_place=pairs), when_zero=when_zero)


def without(schedule: Schedule, gone: set[int]) -> Schedule:
    """The schedule without some steps."""
    kept = [i for i in range(len(schedule.steps)) if i not in gone]
    before = np.cumsum([0] + [i not in gone for i in range(len(schedule.steps))]).tolist()
    loops = (
        replace(loop, first=before[loop.first], last=before[loop.last + 1] - 1) for loop in schedule.loops
    )
    return Schedule(
        tuple(schedule.steps[i] for i in kept),
        tuple(schedule.operations[i] for i in kept),
        schedule.buffers,
        tuple(loop for loop in loops if loop.first <= loop.last),
    )
