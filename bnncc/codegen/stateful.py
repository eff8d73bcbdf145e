# SPDX-License-Identifier: Apache-2.0
"""What the generated C of a network with states has besides its `<name>_step`."""

from __future__ import annotations

from bnncc.codegen.text import dimensions, elements, in_comment, port_type, run_parameters
from bnncc.plan.memory import ALIGNMENT
from bnncc.plan.program import Port, Program, Ring, State


def functions(program: Program) -> tuple[str, ...]:
    """Definitions for the entry file."""
    return _reset(program), _run(program)


def slot_function(program: Program) -> str:
    """Where a slot of a ring lies, if there are any."""
    if not program.rings:
        return ""
    return f"""\
/* The bytes before a slot of a ring that begins at `first`: slots are counted from the oldest on. */
static size_t {program.name}_slot(const unsigned char *position, size_t first, size_t stride, size_t slots,
                                  size_t slot)
{{
    return first + (*(const uint32_t *)(const void *)position + slot) % slots * stride;
}}"""


def place(program: Program, index: int) -> str:
    """The bytes in the state memory before a state, in C."""
    ring = program.ring_of(index)
    if ring is None:
        return str(program.offsets[index])
    first, position = program.offsets[ring.slots[0]], program.offsets[ring.position]
    slot = f"{stride(program, ring)}, {len(ring.slots)}, {ring.slots.index(index)}"
    return f"{program.name}_slot(memory->state + {position}, {first}, {slot})"


def stride(program: Program, ring: Ring) -> int:
    """Bytes from one slot to the next."""
    return program.offsets[ring.slots[1]] - program.offsets[ring.slots[0]]


def moves(program: Program) -> list[str]:
    """Statements at the end of a step: every ring moves on."""
    lines = []
    for ring in program.rings:
        position = f"*(uint32_t *)(void *)(memory_.state + {program.offsets[ring.position]})"
        lines.append(f"{position} = ({position} + 1) % {len(ring.slots)};")
    return lines


def ring_facts(program: Program, index: int) -> dict[str, int]:
    """Of a slot of a ring, for the manifest: where the position lies (uint32), where slot 0 does at position
    0, bytes from slot to slot, how many there are, and which it is."""
    ring = program.ring_of(index)
    if ring is None:
        return {}
    return {
        "position": program.offsets[ring.position],
        "first": program.offsets[ring.slots[0]],
        "stride": stride(program, ring),
        "slots": len(ring.slots),
        "slot": ring.slots.index(index),
    }


def _reset(program: Program) -> str:
    name, upper = program.name, program.name.upper()
    return f"""\
int {name}_reset(void *state)
{{
    if (!state)
        return {upper}_ERROR_NULL;
    if ((uintptr_t)state % {ALIGNMENT} != 0)
        return {upper}_ERROR_ALIGNMENT;
    memset(state, 0, {upper}_STATE_BYTES);
    return {upper}_OK;
}}"""


def _run(program: Program) -> str:
    name, upper = program.name, program.name.upper()
    moved = [_moved(port) for port in (*program.inputs, *program.outputs)]
    arguments = ", ".join(("arena", "state", *moved))
    return f"""\
int {name}_run({run_parameters(program, "size_t steps")})
{{
    size_t step_;
    int status_ = {upper}_OK;
    for (step_ = 0; step_ < steps && status_ == {upper}_OK; ++step_)
        status_ = {name}_step({arguments});
    return status_;
}}"""


def _moved(port: Port) -> str:
    """The place of a port's step in its sequence."""
    place = f"{port.c_name} + step_ * {elements(port)}"
    return f"{port.c_name} ? {place} : 0" if port.optional else place


def header_constants(program: Program) -> str:
    """The size of the state, and where each state lies in it."""
    upper = program.name.upper()
    places = "\n".join(_place(program, state) for state in program.states)
    return f"""\

/* The memory that a stream keeps between steps, in bytes, aligned as the arena. In it, each state as the
 * number of bytes before it; element [i][j]... is i * first stride + j * second stride... elements after
 * that. To begin with a state other than zero, write it there after {program.name}_reset. */
#define {upper}_STATE_BYTES {program.state_bytes}
{places}
"""


def _place(program: Program, state: State) -> str:
    port = state.port
    where = f"{port_type(port)}{dimensions(port)}, strides {', '.join(map(str, strides(state))) or 1}"
    return (
        f"/* '{in_comment(port.name)}': {where} */\n"
        f"#define {program.name.upper()}_{port.c_name.upper()}_OFFSET {program.offsets[port.buffer]}"
    )


def strides(state: State) -> tuple[int, ...]:
    """Elements from one to the next along each dimension of the ONNX tensor; row-major for ranks above 4."""
    shape, layout = state.port.shape, state.layout
    axes = {0: (), 1: (3,), 2: (0, 3), 3: (0, 2, 3), 4: (0, 1, 2, 3)}.get(len(shape))
    if axes is not None:
        return tuple(layout.strides[axis] for axis in axes)
    steps = [1]
    for extent in reversed(shape[1:]):
        steps.append(steps[-1] * extent)
    return tuple(reversed(steps))


def prototypes(program: Program, parameter_docs: str) -> str:
    """The functions in the header, with what there is to know."""
    name, upper = program.name, program.name.upper()
    return f"""\
/*
 * Begins a new sequence: all states are zero. state: {upper}_STATE_BYTES bytes of the caller's, aligned to
 * {upper}_ARENA_ALIGNMENT. Returns {upper}_OK, or another {name}_status; then nothing was written.
 */
int {name}_reset(void *state);

/*
 * Runs the network for one step. Returns {upper}_OK, or another {name}_status; then nothing was written.
 *
 * arena: {upper}_ARENA_BYTES bytes of the caller's, aligned to {upper}_ARENA_ALIGNMENT.
 *     It needs no initial content, and nothing in it is needed after the call: streams that do not run at the
 *     same time may share it. It must not overlap inputs, outputs or the state.
 * state: {upper}_STATE_BYTES bytes of the caller's, aligned as the arena, that {name}_reset has set
 *     and nothing but these functions changes: one for each stream.
{parameter_docs}
 */
int {name}_step({run_parameters(program)});

/*
 * Runs `steps` steps one after the other, from the state that is there: inputs and outputs hold that many,
 * without gaps. The rest is as for {name}_step.
 */
int {name}_run({run_parameters(program, "size_t steps")});
"""
