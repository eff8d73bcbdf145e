# SPDX-License-Identifier: Apache-2.0
"""Inputs of spikes in the generated C: the check of packed words, and the events of a camera as an input."""

from __future__ import annotations

from bnncc.codegen.text import elements, port_type
from bnncc.plan.layout import WORD_BITS
from bnncc.plan.program import Port, Program

ERROR_SPIKES = 5
"""The status where packed words have bits beyond their channels."""

SEQUENCE = ("uint32_t start", "uint32_t step_length", "size_t steps")
"""More parameters of `<name>_run_events`."""

ERROR_EVENT = 6
"""The status where an event lies outside the input, or before the one in front of it."""


def loose_ports(program: Program) -> list[Port]:
    """Inputs of packed spikes whose last words have bits that stand for nothing."""
    return [port for port in program.inputs if port.channels % WORD_BITS]


def word_checks(program: Program) -> str:
    """Statements of `<name>_check`: kernels add a row of weights for every bit that is set."""
    text = ""
    for port in loose_ports(program):
        depth = port.shape[-1]
        last = (
            f"memory->{port.c_name}[i * {depth} + {depth - 1}]" if depth > 1 else f"memory->{port.c_name}[i]"
        )
        text += f"""\
    {{
        uint32_t beyond = 0;
        size_t i;
        for (i = 0; i < {elements(port) // depth}; ++i)
            beyond |= {last};
        if (beyond >> {port.channels % WORD_BITS})
            return {program.name.upper()}_ERROR_SPIKES;
    }}
"""
    return text


def statuses(program: Program) -> str:
    """More constants of the enumeration of statuses."""
    upper, text = program.name.upper(), ""
    if loose_ports(program):
        text += (
            ",\n    /* Packed spikes have bits beyond their channels. */\n"
            f"    {upper}_ERROR_SPIKES = {ERROR_SPIKES}"
        )
    if program.events is not None:
        text += (
            ",\n    /* An event lies outside the input, or before the one in front of it. */\n"
            f"    {upper}_ERROR_EVENT = {ERROR_EVENT}"
        )
    return text


def limits(port: Port) -> dict[str, int]:
    """What each coordinate of an event stays below: of an image, or of a row, whose channels x counts."""
    _, channels, *image = port.spikes
    return {"x": image[1], "y": image[0], "p": channels} if image else {"x": channels, "y": 1, "p": 1}


def parameters(program: Program, *more: str) -> str:
    """Of the functions that take events."""
    common = [
        "void *arena",
        "void *state",
        f"const struct {program.name}_event *events",
        "size_t count",
        *more,
    ]
    return ", ".join([*common, *(f"{port_type(port)} *{port.c_name}" for port in program.outputs)])


def prototypes(program: Program) -> str:
    """What the header says of them."""
    name, upper = program.name, program.name.upper()
    (port,) = program.inputs
    below = limits(port)
    ranges = ", ".join(f"{field} below {limit}" for field, limit in below.items())
    return f"""\
/*
 * A spike of an event camera at time t, in any unit. {ranges.replace("p below", "polarity p below")}.
 */
struct {name}_event {{
    uint32_t t;
    uint16_t x;
    uint16_t y;
    uint8_t p;
}};

/*
 * {name}_step with the `count` events of one step as the input, in any order; what comes twice counts once,
 * and t is not looked at. Returns {upper}_OK, or another {name}_status ({upper}_ERROR_EVENT
 * for an event out of range): then the states are as they were. events: the caller's, read only; may be NULL
 * if count is 0.
 */
int {name}_step_events({parameters(program)});

/*
 * Runs `steps` steps on events in order of time: step k takes those with start + k * step_length <= t
 * < start + (k + 1) * step_length, and later ones are left out. Times may wrap around once. Outputs as for
 * {name}_run. Returns {upper}_ERROR_EVENT, and has run nothing, if one of the events is out of range or comes
 * before the one in front of it, or step_length is 0.
 */
int {name}_run_events({parameters(program, *SEQUENCE)});
"""


def functions(program: Program) -> str:
    """Their definitions."""
    name, upper = program.name, program.name.upper()
    assert program.events is not None
    (port,) = program.inputs
    below = limits(port)
    refused = " || ".join(
        f"events[i].{field} >= {limit}" for field, limit in below.items() if limit < _largest(field)
    )
    check = (
        f"""\
        if ({refused})
            return {upper}_ERROR_EVENT;
"""
        if refused
        else ""
    )
    outputs = ", ".join(port.c_name for port in program.outputs)
    moved = ", ".join(
        f"{port.c_name} ? {port.c_name} + step_ * {elements(port)} : 0"
        if port.optional
        else f"{port.c_name} + step_ * {elements(port)}"
        for port in program.outputs
    )
    depth = port.shape[-1]
    bit, pixel = (
        ("p", f"((size_t)events[i].y * {below['x']} + events[i].x)") if len(port.spikes) == 4 else ("x", "0")
    )
    index = f"{pixel} * {depth}" if len(port.spikes) == 4 else "(size_t)0"
    if depth > 1:
        index += f" + events[i].{bit} / {WORD_BITS}"
    return f"""\
static int {name}_check_events(const void *state, const struct {name}_event *events, size_t count)
{{
    size_t i;
    if (!state || (!events && count))
        return {upper}_ERROR_NULL;
    if ((uintptr_t)state % {upper}_ARENA_ALIGNMENT != 0)
        return {upper}_ERROR_ALIGNMENT;
    for (i = 0; i < count; ++i) {{
{check}    }}
    return {upper}_OK;
}}

/* The events as packed spikes, in memory of their own behind the states. */
static const uint32_t *{name}_gather(void *state, const struct {name}_event *events, size_t count)
{{
    uint32_t *const words = (uint32_t *)(void *)((unsigned char *)state + {program.offsets[program.events]});
    size_t i;
    memset(words, 0, {elements(port)} * sizeof *words);
    for (i = 0; i < count; ++i)
        words[{index}] |= (uint32_t)1 << (events[i].{bit} % {WORD_BITS});
    return words;
}}

int {name}_step_events({parameters(program)})
{{
    const int status_ = {name}_check_events(state, events, count);
    if (status_ != {upper}_OK)
        return status_;
    return {name}_step(arena, state, {name}_gather(state, events, count), {outputs});
}}

int {name}_run_events({parameters(program, *SEQUENCE)})
{{
    size_t step_, at_ = 0, i_;
    uint32_t before_ = 0;
    int status_ = {name}_check_events(state, events, count);
    if (status_ == {upper}_OK && step_length == 0)
        status_ = {upper}_ERROR_EVENT;
    for (i_ = 0; i_ < count && status_ == {upper}_OK; ++i_) {{
        if (events[i_].t - start < before_)
            status_ = {upper}_ERROR_EVENT;
        before_ = events[i_].t - start;
    }}
    for (step_ = 0; step_ < steps && status_ == {upper}_OK; ++step_) {{
        const size_t first_ = at_;
        const uint32_t *words_;
        while (at_ < count && (events[at_].t - start) / step_length == step_)
            ++at_;
        words_ = {name}_gather(state, at_ > first_ ? events + first_ : events, at_ - first_);
        status_ = {name}_step(arena, state, words_, {moved});
    }}
    return status_;
}}"""


def _largest(field: str) -> int:
    """How many values the member has."""
    return 256 if field == "p" else 65536
