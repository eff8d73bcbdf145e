# SPDX-License-Identifier: Apache-2.0
"""The arena of a program: when each buffer is alive, and memory that kernels ask for once they are made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bnncc.plan.memory import ArenaPlan, Request, aligned, plan_arena
from bnncc.plan.program import Buffer, Program, Step, TimeLoop, whole


def requests(
    steps: Sequence[Step], buffers: Sequence[Buffer], owner: Sequence[int], loops: Sequence[TimeLoop] = ()
) -> dict[int, Request]:
    """When each arena buffer (of those that share memory, their owner) is alive."""
    found: dict[int, Request] = {}
    for index, step in enumerate(steps):
        for buffer in {*all_reads(step), *step.writes, *scratch(step)}:
            key = owner[buffer]
            if buffers[key].place != "arena":
                continue
            known = found.get(key, Request(0, index, index))
            size = max(known.bytes, buffers[buffer].bytes)
            found[key] = Request(size, known.first, index)
    for loop in loops:
        for key in carried(steps, buffers, owner, loop):
            if key in found:
                request = found[key]
                first, last = min(request.first, loop.first), max(request.last, loop.last)
                found[key] = replace(
                    request, bytes=max(request.bytes, buffers[key].bytes), first=first, last=last
                )
    return found


def carried(
    steps: Sequence[Step], buffers: Sequence[Buffer], owner: Sequence[int], loop: TimeLoop
) -> set[int]:
    """Owners of memory whose content one trip of a loop leaves for another, or that lives around the loop."""
    inside, outside, parts = set(), set(), set()
    for index, step in enumerate(steps):
        touched = {*all_reads(step), *step.writes, *scratch(step)}
        (inside if index in loop else outside).update(owner[buffer] for buffer in touched)
        if index in loop:
            parts.update(owner[buffer] for buffer in touched if buffers[buffer].place == "part")
    return inside & outside | parts


def all_reads(step: Step) -> tuple[int, ...]:
    """Every buffer that a step may read."""
    other = step.when_zero
    return (*step.reads, *((*other.reads, other.mask) if other else ()))


def scratch(step: Step) -> tuple[int, ...]:
    """The buffer that a step's kernel may use as it likes, if any."""
    return () if step.scratch is None else (step.scratch,)


def with_scratch(program: Program, sizes: Sequence[int]) -> Program:
    """The program with a buffer for each step whose kernel asks for scratch memory, its arena planned anew.

    sizes: bytes by step, 0 for those that ask for none."""
    if not any(sizes):
        return program
    steps, buffers = list(program.steps), list(program.buffers)
    for index, (step, size) in enumerate(zip(program.steps, sizes, strict=True)):
        if size:
            steps[index] = replace(step, scratch=len(buffers))
            buffers.append(Buffer(f"{step.name}_scratch", size, "arena"))
    arena, offsets = planned(steps, buffers, program.loops)
    return replace(
        program,
        buffers=tuple(buffers),
        steps=tuple(steps),
        offsets=offsets,
        arena_bytes=arena.bytes,
        arena_lower_bound=arena.lower_bound,
    )


def planned(
    steps: Sequence[Step], buffers: Sequence[Buffer], loops: Sequence[TimeLoop]
) -> tuple[ArenaPlan, dict[int, int]]:
    """The arena, and the offsets of all buffers in it and in the state."""
    owner = owners(steps, buffers)
    arena = plan_arena(requests(steps, buffers, owner, loops))
    known = {**arena.offsets, **state_offsets(buffers)}
    return arena, {i: known[key] for i, key in enumerate(owner) if key in known}


def owners(steps: Sequence[Step], buffers: Sequence[Buffer]) -> list[int]:
    """For each buffer the one whose memory it uses, as parts and the kernels' in-place pairs say."""
    owner = [whole(buffers, index) for index in range(len(buffers))]
    for step in steps:
        for operand, output in step.kernel.in_place:
            owner[step.writes[output]] = owner[step.reads[len(step.kernel.inputs) + operand]]
    return [owner[whole(buffers, index)] for index in range(len(buffers))]


def state_offsets(buffers: Iterable[Buffer]) -> dict[int, int]:
    """Where each state lies in the state memory, one after the other."""
    offsets, at = {}, 0
    for index, buffer in enumerate(buffers):
        if buffer.place == "state":
            offsets[index] = at
            at += aligned(buffer.bytes)
    return offsets


def state_bytes(buffers: Sequence[Buffer]) -> int:
    """Bytes of the state memory."""
    return sum(aligned(buffer.bytes) for buffer in buffers if buffer.place == "state")
