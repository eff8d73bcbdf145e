# SPDX-License-Identifier: Apache-2.0
"""`<name>.h`: all that somebody who links the library needs to read."""

from __future__ import annotations

import textwrap

from bnncc.codegen import events, selftest, stateful, threads
from bnncc.codegen.text import dimensions, elements, in_comment, port_type, run_parameters, starred
from bnncc.plan.memory import ALIGNMENT
from bnncc.plan.program import Port, Program

ABI_VERSION = 1
"""Changes when a program that was written for the generated interface has to be changed."""

ERROR_STEPS = 4
"""The status where an input asks for more steps, or fewer, than there are."""

RANGES = {
    "float32": "numbers as the model was trained on; not NaN",
    "uint8": "0 to 255",
    "int8": "-128 to 127",
    "int32": "any",
    "bool": "0 or 1",
    "float16": "the bits of IEEE 754 half precision numbers",
    "float64": "numbers as the model was trained on; not NaN",
    "int16": "any",
    "int64": "any",
    "uint16": "any",
    "uint32": "any",
    "uint64": "any",
}


def header_text(
    program: Program,
    banner: str,
    weights_bytes: int,
    number_of_threads: int = 1,
    has_selftest: bool = False,
) -> str:
    """The header; `banner` says what made it. has_selftest: whether the self-test is among the files."""
    is_shared = number_of_threads > 1
    libs = "-lm, and -pthread" if is_shared else "-lm"
    thread_status = threads.status(program) if is_shared else ""
    also = f"{events.prototypes(program)}\n" if program.events is not None else ""
    also += f"{threads.prototype(program)}\n" if is_shared else ""
    also += f"{selftest.prototype(program)}\n" if has_selftest else ""
    name, upper = program.name, program.name.upper()
    macros = element_macros(program)
    between = (
        "keeps anything between calls but in the state" if program.states else "keeps state between calls"
    )
    again = " and a state" if program.states else ""
    call = "step" if program.states else "run"
    aligned = "The arena's or the state's" if program.states else "The arena's"
    sizes = "\n".join(f"#define {macro} {elements(port)}" for port, macro in macros.items())
    return f"""\
/*
{starred(banner)}
 *
 * How to use it:
 *
{starred(_example(program, macros))}
 *
 * Link with lib{name}.a (and the mathematical library, {libs}). No function allocates memory or prints, and
{_calls_text(between, again)}
 */
#ifndef {upper}_H
#define {upper}_H
#define {upper}_H_OF_{name}

{"#include <stddef.h>" + chr(10) if program.states else ""}#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

/* Changes when programs that call this library must be changed. */
#define {upper}_ABI_VERSION {ABI_VERSION}

/* The memory that {name}_{call} works in, in bytes, and the alignment of its address. */
#define {upper}_ARENA_BYTES {arena_bytes(program)}
#define {upper}_ARENA_ALIGNMENT {ALIGNMENT}
{stateful.header_constants(program) if program.states else ""}{_thread_constants(program, number_of_threads)}
/* Constant weights within the library, in bytes. */
#define {upper}_WEIGHTS_BYTES {weights_bytes}

/* Values of each input and output. */
{sizes}

/* Stands before the declaration of an arena, as above. */
#if defined(__GNUC__)
#define {upper}_ALIGNED __attribute__((aligned({ALIGNMENT})))
#elif defined(_MSC_VER)
#define {upper}_ALIGNED __declspec(align({ALIGNMENT}))
#elif defined(__cplusplus)
#define {upper}_ALIGNED alignas({ALIGNMENT})
#else
#define {upper}_ALIGNED _Alignas({ALIGNMENT})
#endif

/* What the functions return. */
enum {name}_status {{
    {upper}_OK = 0,
    /* A pointer is NULL. */
    {upper}_ERROR_NULL = 1,
    /* {aligned} address is no multiple of {upper}_ARENA_ALIGNMENT. */
    {upper}_ERROR_ALIGNMENT = 2,
    /* There is no such layer. Only the shared library's functions for tools return it. */
    {upper}_ERROR_INDEX = 3{_steps_status(program)}{events.statuses(program)}{thread_status}
}};

{stateful.prototypes(program, _parameter_docs(program)) if program.states else _run_prototype(program)}
{also}#ifdef BNNCC_PROFILE
#define {upper}_LAYERS {len(program.steps)}

/* Yours to define where the library was compiled with BNNCC_PROFILE: called before (after = 0) and after
 * (after = 1) each of the {upper}_LAYERS layers that manifest.json lists. */
void {name}_on_layer(int layer, int after);
#endif

#ifdef __cplusplus
}}
#endif

#elif !defined({upper}_H_OF_{name})
#error "Two libraries are called {name}, in other capitals: compile one with another --name."
#endif /* {upper}_H */
"""


def _thread_constants(program: Program, number: int) -> str:
    return threads.header_constants(program, number) if number > 1 else ""


def _calls_text(between: str, again: str) -> str:
    if not again:
        alone = "each with an arena of its own."
        return f" * none {between}: threads may call at the same time, {alone}"
    return f" * none {between}: threads may call at the same time, each with\n * an arena{again} of its own."


def _steps_status(program: Program) -> str:
    if not any(loop.count is not None for loop in program.loops):
        return ""
    status = f"{program.name.upper()}_ERROR_STEPS = {ERROR_STEPS}"
    return f",\n    /* The number of steps is out of range. */\n    {status}"


def _run_prototype(program: Program) -> str:
    name, upper = program.name, program.name.upper()
    return f"""\
/*
 * Runs the network once. Returns {upper}_OK, or another {name}_status; then nothing was written.
 *
 * arena: {upper}_ARENA_BYTES bytes of the caller's, aligned to {upper}_ARENA_ALIGNMENT.
 *     It needs no initial content, and nothing in it is needed after the call. It must not overlap inputs
 *     or outputs.
{_parameter_docs(program)}
 */
int {name}_run({run_parameters(program)});
"""


def arena_bytes(program: Program) -> int:
    """The arena's size; one unit where the network needs none, as C has no empty arrays."""
    return max(program.arena_bytes, ALIGNMENT)


def element_macros(program: Program) -> dict[Port, str]:
    """The name of the constant that holds each port's number of values; names that differ only in
    case get a number."""
    result: dict[Port, str] = {}
    for port in (*program.inputs, *program.outputs):
        base = macro = f"{program.name.upper()}_{port.c_name.upper()}_ELEMENTS"
        number = 2
        while macro in result.values():
            macro = base.replace("_ELEMENTS", f"_{number}_ELEMENTS")
            number += 1
        result[port] = macro
    return result


def _example(program: Program, macros: dict[Port, str]) -> str:
    name, upper = program.name, program.name.upper()
    arrays = "\n".join(
        f"static {port_type(port)} {port.c_name}[{macro}];"
        for port, macro in macros.items()
        if not port.optional
    )
    arguments = ", ".join(("arena", *(port.c_name for port in macros)))
    if program.states:
        return _stateful_example(program, arrays)
    return f"""\
    #include "{name}.h"

    static {upper}_ALIGNED unsigned char arena[{upper}_ARENA_BYTES];
{textwrap.indent(arrays, "    ")}

    int main(void)
    {{
        return {name}_run({arguments});
    }}"""


def _stateful_example(program: Program, arrays: str) -> str:
    name, upper = program.name, program.name.upper()
    ports = ("NULL" if port.optional else port.c_name for port in (*program.inputs, *program.outputs))
    arguments = ", ".join(("arena", "state", *ports))
    return f"""\
    #include "{name}.h"

    static {upper}_ALIGNED unsigned char arena[{upper}_ARENA_BYTES];
    static {upper}_ALIGNED unsigned char state[{upper}_STATE_BYTES];
{textwrap.indent(arrays, "    ")}

    int main(void)
    {{
        {name}_reset(state);
        for (;;) {{
            int status = {name}_step({arguments});
            if (status != {upper}_OK)
                return status;
        }}
    }}"""


def _parameter_docs(program: Program) -> str:
    docs = [_port_doc(port, "input", "read only") for port in program.inputs]
    for port in program.outputs:
        unwanted = "may be NULL, if it is not wanted; else " if port.optional else ""
        part = f" (zeros after as many rows as '{in_comment(port.count)}' says)" if port.count else ""
        access = f"{unwanted}written wholly{part}; must not overlap an input or another output"
        docs.append(_port_doc(port, "output", access))
    return "\n".join(docs)


def _port_doc(port: Port, what: str, access: str) -> str:
    layout = f"{port_type(port)}{dimensions(port)}, row-major without gaps"
    values = f"; values: {RANGES[port.dtype]}" if what == "input" else ""
    if port.most is not None:
        values = f"; how often a loop runs: 0 to {port.most}" if port.most else "; how often a loop runs"
    if port.spikes:
        shape = "".join(f"[{extent}]" for extent in (port.spikes[0], *port.spikes[2:], port.channels))
        values = (
            f"; spikes{shape}, packed: channel c is bit c % 32 of word c / 32 of its pixel, "
            "bits beyond the channels are 0"
        )
    text = (
        f"{port.c_name}: {what} '{in_comment(port.name)}', {layout}{values}. "
        f"The caller's, {access}; aligned as its type."
    )
    return textwrap.fill(
        text,
        110,
        initial_indent=" * ",
        subsequent_indent=" *     ",
        break_long_words=False,
        break_on_hyphens=False,
    )
