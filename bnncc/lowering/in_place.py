# SPDX-License-Identifier: Apache-2.0
"""In-place reuse: a result takes the memory of an operand that nobody reads afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bnncc.plan.kernel import FillHalo, KernelSpec
from bnncc.plan.program import Buffer, Step


def reuse_operands(steps: Sequence[Step], buffers: Sequence[Buffer]) -> tuple[tuple[Step, ...], list[int]]:
    """The steps with `in_place` set where it holds, and for each buffer the one whose memory it uses.

    An operand can give its memory away where it is read for the last time, only once, only as an
    epilogue operand (at the very position that is written), and lies exactly as the result does."""
    owner = list(range(len(buffers)))
    last_read = {b: i for i, step in enumerate(steps) for b in _all_reads(step)}
    result = list(steps)
    for index, step in enumerate(steps):
        dying = {buffer for buffer, last in last_read.items() if last == index}
        pairs = _pairs(step, buffers, dying)
        for operand, output in pairs:
            owner[step.writes[output]] = owner[step.reads[len(step.kernel.inputs) + operand]]
        if pairs:
            result[index] = _with_pairs(step, tuple(pairs))
    return tuple(result), owner


def _pairs(step: Step, buffers: Sequence[Buffer], dying: set[int]) -> list[tuple[int, int]]:
    """(operand, output) of one step that can share memory."""
    if isinstance(step.kernel.root, FillHalo):
        return []
    found: list[tuple[int, int]] = []
    for output in range(len(step.writes)):
        for operand in range(len(step.kernel.operands)):
            source = step.reads[len(step.kernel.inputs) + operand]
            free = source in dying and all(operand != used for used, _ in found)
            if free and _is_read_once(step, source) and _lie_alike(step, operand, output, buffers):
                found.append((operand, output))
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


def _with_pairs(step: Step, pairs: tuple[tuple[int, int], ...]) -> Step:
    def marked(spec: KernelSpec) -> KernelSpec:
        return replace(spec, in_place=pairs)

    when_zero = step.when_zero and replace(step.when_zero, kernel=marked(step.when_zero.kernel))
    return replace(step, kernel=marked(step.kernel), when_zero=when_zero)


def _all_reads(step: Step) -> tuple[int, ...]:
    return (*step.reads, *(step.when_zero.reads if step.when_zero else ()))
