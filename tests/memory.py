# SPDX-License-Identifier: Apache-2.0
"""What must hold of every plan's memory, said without the planner's own code: nothing that is still needed is
overwritten."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from bnncc.plan.kernel import FillHalo, KernelSpec
from bnncc.plan.program import Program, Step, TimeLoop


def memory_problems(program: Program) -> Iterator[str]:
    """One line for each way in which the steps of a program get in each other's way."""
    yield from arena_problems(program)
    for step in program.steps:
        yield from in_place_problems(program, step, step.kernel, step.reads)
        if step.when_zero is not None:
            yield from in_place_problems(program, step, step.when_zero.kernel, step.when_zero.reads)


def reads_of(step: Step) -> tuple[int, ...]:
    """Every buffer that a step may read."""
    return (*step.reads, *(step.when_zero.reads if step.when_zero else ()))


def arena_problems(program: Program) -> Iterator[str]:
    """Every buffer lies inside the arena, and no step writes over what a later one still reads; only an
    operand that gives its memory away in place may be written over."""
    names = [buffer.name for buffer in program.buffers]
    arena = [i for i, buffer in enumerate(program.buffers) if buffer.place == "arena"]
    inside = {b: range(o, o + program.buffers[b].bytes) for b, o in program.offsets.items() if b in arena}
    for buffer, place in inside.items():
        if place.start % 64 or place.stop > program.arena_bytes:
            yield f"'{names[buffer]}' lies at {place} in an arena of {program.arena_bytes} bytes"
    if program.arena_bytes < program.arena_lower_bound:
        yield f"the arena has {program.arena_bytes} bytes, less than the bound {program.arena_lower_bound}"
    touched = {b for step in program.steps for b in (*reads_of(step), *step.writes)}
    for buffer in touched.intersection(arena):
        if buffer not in inside:
            yield f"'{names[buffer]}' has no place in the arena"
    whole = [held_in(program, buffer) for buffer in range(len(program.buffers))]
    order = trace(program)
    written: set[int] = set()
    alive: set[int] = set()
    for number, needed in zip(order, needed_after(program, order, whole), strict=True):
        step = program.steps[number]
        inputs = len(step.kernel.inputs)
        given = {whole[step.writes[o]]: whole[step.reads[inputs + a]] for a, o in step.kernel.in_place}
        scratch = () if step.scratch is None else (step.scratch,)
        written_now = {whole[buffer] for buffer in (*step.writes, *scratch)}
        fresh = sorted(written_now.intersection(inside))
        for one, other in itertools.combinations(fresh, 2):
            if overlap(inside[one], inside[other]):
                yield f"{step.name} writes '{names[one]}' over '{names[other]}', which it writes too"
        for target in fresh:
            for other in alive - {target, given.get(target)}:
                if overlap(inside[target], inside[other]):
                    yield f"{step.name} writes '{names[target]}' over '{names[other]}', which is still read"
        written |= {whole[buffer] for buffer in step.writes}.intersection(inside)
        alive = written & needed


def needed_after(program: Program, order: Sequence[int], whole: Sequence[int]) -> list[set[int]]:
    """For each place in the order: the buffers that a later step reads before everything that writes them
    has written them anew. What is written in parts, a slice in every trip, is never written anew."""
    writers: dict[int, set[int]] = {}
    for number, step in enumerate(program.steps):
        for buffer in step.writes:
            writers.setdefault(whole[buffer], set()).add(number if whole[buffer] == buffer else -1)
    outstanding: dict[int, set[int]] = {}
    found = []
    for number in reversed(order):
        found.append(set(outstanding))
        step = program.steps[number]
        for buffer in outstanding.keys() & {whole[buffer] for buffer in step.writes}:
            outstanding[buffer].discard(number)
        for buffer in reads_of(step):
            outstanding[whole[buffer]] = set(writers.get(whole[buffer], ()))
        outstanding = {buffer: left for buffer, left in outstanding.items() if left}
    return found[::-1]


def trace(program: Program) -> list[int]:
    """The steps in the order in which they run; of each loop two trips, so that what one trip leaves to the
    next is read."""

    def run(first: int, end: int, loops: list[TimeLoop]) -> list[int]:
        found = []
        while first < end:
            begun = [loop for loop in loops if loop.first == first]
            if not begun:
                found.append(first)
                first += 1
                continue
            outer = max(begun, key=lambda loop: loop.last)
            inner = [loop for loop in loops if loop is not outer]
            found += 2 * run(first, outer.last + 1, inner)
            first = outer.last + 1
        return found

    return run(0, len(program.steps), list(program.loops))


def held_in(program: Program, buffer: int) -> int:
    """The buffer that a part is a part of, or itself."""
    while program.buffers[buffer].place == "part":
        buffer = program.buffers[buffer].base
    return buffer


def overlap(left: range, right: range) -> bool:
    """Whether two pieces of memory have a byte in common."""
    return left.start < right.stop and right.start < left.stop


def in_place_problems(
    program: Program, step: Step, kernel: KernelSpec, reads: tuple[int, ...]
) -> Iterator[str]:
    """An output may take an operand's memory only where each pixel reads nothing but itself there."""
    inputs = len(kernel.inputs)
    shared = {step.writes[output]: reads[inputs + operand] for operand, output in kernel.in_place}
    for written, source in shared.items():
        name = program.buffers[source].name
        if reads[:inputs].count(source):
            yield f"{step.name} writes '{name}' in place and reads it through its window"
        if reads.count(source) != 1:
            yield f"{step.name} writes '{name}' in place and reads it twice"
        if program.offsets.get(written) != program.offsets.get(source):
            yield f"{step.name} says that '{name}' is in place, but the two lie apart"
    # Whatever is not declared must not share memory with what the kernel reads.
    if isinstance(kernel.root, FillHalo):
        return
    for written in step.writes:
        for source in set(reads) - {shared.get(written)}:
            if written in program.offsets and source in program.offsets:
                one, other = place(program, written), place(program, source)
                if overlap(one, other) and written != source:
                    yield (
                        f"{step.name} writes '{program.buffers[written].name}' over "
                        f"'{program.buffers[source].name}', which it reads"
                    )


def place(program: Program, buffer: int) -> range:
    """The bytes of an arena buffer."""
    start = program.offsets[buffer]
    return range(start, start + program.buffers[buffer].bytes)
