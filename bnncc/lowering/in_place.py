# SPDX-License-Identifier: Apache-2.0
"""In-place reuse: a result takes the memory of an operand that nobody reads afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bnncc.lowering.carried import with_pairs
from bnncc.plan.arena import all_reads, carried
from bnncc.plan.kernel import FillHalo
from bnncc.plan.program import Buffer, Step, TimeLoop, whole


def reuse_operands(
    steps: Sequence[Step], buffers: Sequence[Buffer], loops: Sequence[TimeLoop] = ()
) -> tuple[Step, ...]:
    """The steps with `in_place` set where it holds.

    An operand can give its memory away where it is read for the last time, only once, only as an
    epilogue operand (at the very position that is written), and lies exactly as the result does. What a loop
    reads in every trip is not read for the last time in there. A result that held something before, as the
    state of a loop does, has memory of its own while the operand is made."""
    owner = [whole(buffers, index) for index in range(len(buffers))]
    last_read = {owner[b]: i for i, step in enumerate(steps) for b in all_reads(step)}
    for loop in loops:
        for buffer in carried(steps, buffers, owner, loop):
            if last_read.get(buffer, -1) in loop:
                del last_read[buffer]
    first_use: dict[int, int] = {}
    for i, step in enumerate(steps):
        if not isinstance(step.kernel.root, FillHalo):
            for buffer in (*all_reads(step), *step.writes):
                first_use.setdefault(owner[buffer], i)
    result = list(steps)
    for index, step in enumerate(steps):
        dying = {buffer for buffer, last in last_read.items() if last == index}
        fresh = {buffer for buffer in step.writes if first_use.get(owner[buffer]) == index}
        pairs = _pairs(step, buffers, dying, fresh)
        if pairs:
            result[index] = with_pairs(step, (*step.kernel.in_place, *pairs))
    return tuple(result)


def _pairs(step: Step, buffers: Sequence[Buffer], dying: set[int], fresh: set[int]) -> list[tuple[int, int]]:
    """(operand, output) of one step that can share memory, besides those that do."""
    found: list[tuple[int, int]] = []
    given = {operand for operand, _ in step.kernel.in_place}
    taken = {output for _, output in step.kernel.in_place}
    for output in range(len(step.writes)):
        if output in taken or step.writes[output] not in fresh:
            continue
        for operand in range(len(step.kernel.operands)):
            source = step.reads[len(step.kernel.inputs) + operand]
            is_free = source in dying and operand not in given
            if is_free and _is_read_once(step, source) and _lie_alike(step, operand, output, buffers):
                found.append((operand, output))
                given.add(operand)
                break
    return found


def _is_read_once(step: Step, buffer: int) -> bool:
    """Whether one operand is all that reads a buffer; the masked kernel's root may read one that the plain
    kernel's does not."""
    if step.reads.count(buffer) != 1:
        return False
    return step.when_zero is None or step.when_zero.reads.count(buffer) == 1


def _lie_alike(step: Step, operand: int, output: int, buffers: Sequence[Buffer]) -> bool:
    """Whether both are the whole of an arena buffer, with the same elements at the same places."""
    source = buffers[step.reads[len(step.kernel.inputs) + operand]]
    target = buffers[step.writes[output]]
    if not source.place == target.place == "arena" or source.bytes != target.bytes:
        return False
    written = step.kernel.outputs[output].layout
    return replace(step.kernel.operands[operand], halo=written.halo) == written
