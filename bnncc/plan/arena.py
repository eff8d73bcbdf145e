# SPDX-License-Identifier: Apache-2.0
"""The arena of a program: when each buffer is alive, and memory that kernels ask for once they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bnncc.plan.kernel import KernelSpec
from bnncc.plan.memory import Request, plan_arena
from bnncc.plan.program import Buffer, Program, Step


def requests(steps: Sequence[Step], buffers: Sequence[Buffer], owner: Sequence[int]) -> dict[int, Request]:
    """When each arena buffer (of those that share memory, their owner) is alive."""
    found: dict[int, Request] = {}
    for index, step in enumerate(steps):
        reads = (*step.reads, *(step.when_zero.reads if step.when_zero else ()))
        scratch = () if step.scratch is None else (step.scratch,)
        for buffer in {*reads, *step.writes, *scratch}:
            if buffers[buffer].place != "arena":
                continue
            key = owner[buffer]
            known = found.get(key, Request(0, index, index))
            size = max(known.bytes, buffers[buffer].bytes)
            found[key] = Request(size, known.first, index)
    return found


def with_scratch(program: Program, sizes: Mapping[KernelSpec, int]) -> Program:
    """The program with a buffer for each step whose kernel asks for scratch memory, its arena planned anew.

    sizes: bytes by kernel, of those that ask for any."""
    if not any(step.kernel in sizes for step in program.steps):
        return program
    steps, buffers = list(program.steps), list(program.buffers)
    for index, step in enumerate(program.steps):
        if step.kernel in sizes:
            steps[index] = replace(step, scratch=len(buffers))
            buffers.append(Buffer(f"{step.name}_scratch", sizes[step.kernel], "arena"))
    owner = owners(steps, len(buffers))
    arena = plan_arena(requests(steps, buffers, owner))
    return replace(
        program,
        buffers=tuple(buffers),
        steps=tuple(steps),
        offsets={i: arena.offsets[key] for i, key in enumerate(owner) if key in arena.offsets},
        arena_bytes=arena.bytes,
        arena_lower_bound=arena.lower_bound,
    )


def owners(steps: Sequence[Step], count: int) -> list[int]:
    """For each buffer the one whose memory it uses, as the kernels' in-place pairs say."""
    owner = list(range(count))
    for step in steps:
        for operand, output in step.kernel.in_place:
            owner[step.writes[output]] = owner[step.reads[len(step.kernel.inputs) + operand]]
    return owner
