# SPDX-License-Identifier: Apache-2.0
"""`<name>.c`: the function that the user calls, which calls the kernels one after the other.

In a library the kernels and the weights are objects of their own, and the entry declares them; in the
portable C file all three stand together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from bnncc import runtime
from bnncc.codegen import events, stateful, threads
from bnncc.codegen import weights as arrays
from bnncc.codegen.calls import Call, KernelFacts, Network, StepCalls, comment
from bnncc.codegen.masks import Look
from bnncc.codegen.text import port_type, run_parameters, starred, wrapped
from bnncc.plan.kernel import BinaryConv
from bnncc.plan.memory import ALIGNMENT
from bnncc.plan.program import Program, Step, TimeLoop

HEADERS = {"math": r"\b(INFINITY|NAN)\b", "stddef": "", "stdint": "", "string": r"\bmem\w+\("}
"""Of C's library, and what needs them: a compiler for bare metal may have only those that any has. Kernels
name their own."""

NOT_SPIKES = "spikes are 0 and 1: where other numbers came, all are multiplied"


def library_entry(network: Network, banner: str) -> str:
    """The entry of a library: kernels and weights are declared, the linker finds them."""
    name = network.program.name
    prototypes = "\n".join(
        f"{wrapped(f'void {name}_{kernel.symbol}', _declarations(kernel))};"
        for kernel in network.distinct_kernels
    )
    outside = f"{_HIDDEN_PUSH}\n{arrays.declarations(network.pool)}\n\n{prototypes}\n{_HIDDEN_POP}"
    return _file(network, banner, outside)


def _declarations(kernel: KernelFacts) -> list[str]:
    """Of a kernel's parameters."""
    names = ("first", "end", "pieces", "stage") if kernel.pieces > 1 else ()
    return [
        *(parameter.declaration for parameter in kernel.parameters),
        *(f"int32_t {name}" for name in names),
    ]


def library_entry_with_kernels(network: Network, banner: str, kernels_source: str) -> str:
    """The entry of a library whose kernels are C as well; only the weights are elsewhere."""
    outside = (
        f"{_HIDDEN_PUSH}\n{arrays.declarations(network.pool)}\n{_HIDDEN_POP}\n\n{_loops(kernels_source)}"
    )
    return _file(network, banner, outside)


def portable_file(network: Network, banner: str, kernels_source: str) -> str:
    """The whole library as one C99 file: weights, kernels, entry."""
    placement = runtime.header_text("placement.h")
    weights = arrays.typed_definitions(network.pool)
    return _file(network, banner, f"{placement}\n\n{weights}\n\n{_loops(kernels_source)}")


def weights_file(network: Network, banner: str) -> str:
    """The weights of a library, in the form that compiles quickly."""
    placement = runtime.header_text("placement.h")
    definitions = arrays.byte_definitions(network.pool)
    return f"{_comment_block(banner)}\n{placement}\n\n{_HIDDEN_PUSH}\n{definitions}\n{_HIDDEN_POP}\n"


_HIDDEN_PUSH = "#if defined(__GNUC__) && !defined(__MINGW32__)\n#pragma GCC visibility push(hidden)\n#endif"
_HIDDEN_POP = "#if defined(__GNUC__) && !defined(__MINGW32__)\n#pragma GCC visibility pop\n#endif"


def _loops(kernels_source: str) -> str:
    """The kernels, such that whoever compiles them gets the arithmetic as it is written: a product and a sum
    that are fused round once, not twice, and the arena's bytes are of one type after another. gcc is told to
    leave loops loops, too: it would make calls of memmove of some, which not every firmware has. clang has no
    pragma for aliasing."""
    return f"""\
/* The arithmetic as it is written: no product is fused with a sum; memory is of one type, then of another. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off", "no-strict-aliasing", "no-tree-loop-distribute-patterns")
#endif

{kernels_source.strip()}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif"""


def _file(network: Network, banner: str, outside: str) -> str:
    program = network.program
    name = program.name
    masked = any(calls.masked for calls in network.calls)
    helpers = [runtime.header_text(file) for file in ("profile.h", *(("mask.h",) if masked else ()))]
    is_shared = network.threads > 1
    parts = [
        *helpers,
        threads.definitions(program, network.threads) if is_shared else "",
        outside,
        _memory_struct(network),
        stateful.slot_function(program),
        *(_step_function(program, index, calls) for index, calls in enumerate(network.calls)),
        _check_function(program),
        _run_function(network),
        *(stateful.functions(program) if program.states else ()),
        events.functions(program) if program.events is not None else "",
        _layer_function(network),
    ]
    body = _paragraphs(parts)
    includes = "\n".join(
        f"#include <{header}.h>" for header, used in HEADERS.items() if re.search(used, body)
    )
    head = [_comment_block(banner), threads.POSIX if is_shared else "", f'#include "{name}.h"', includes]
    return f"{_paragraphs(head)}\n\n{body}\n"


def _paragraphs(parts: Sequence[str]) -> str:
    """Those that are not empty, with empty lines between them."""
    return "\n\n".join(part for part in parts if part)


def _memory_struct(network: Network) -> str:
    program = network.program
    fields = ["    unsigned char *arena;"]
    fields += ["    unsigned char *state;"] if program.states else []
    fields += [f"    const {port_type(port)} *{port.c_name};" for port in program.inputs]
    fields += [f"    {port_type(port)} *{port.c_name};" for port in program.outputs]
    fields += ["    size_t time_;"] if program.loops else []
    fields += threads.FIELDS if network.threads > 1 else ()
    body = "\n".join(fields)
    return f"/* The memory of one run. */\nstruct {program.name}_memory {{\n{body}\n}};"


def _step_function(program: Program, index: int, calls: StepCalls) -> str:
    step = program.steps[index]
    opening = f"/* {index}: {comment(step)} */\n{_step_head(program, index)}\n{{\n"
    if step.when_zero is None or calls.masked is None:
        plain = _piece_functions(program, index, "plain", calls.plain)
        unwanted = _unless_unwanted(program, step)
        return f"{plain}{opening}{unwanted}    {_statement(program, index, 'plain', calls.plain, 4)}\n}}"
    is_binary = isinstance(step.when_zero.kernel.root, BinaryConv)
    reason = "sign(0) is 0: where that happened, its taps must not count" if is_binary else NOT_SPIKES
    look = Look(program, index, step.when_zero)
    mask = f"/* {reason}. */\n{look.definition}\n\n"
    # The rows that a thread looks at are mostly those that it wrote, and will be read next.
    is_shared = calls.plain.pieces > 1 and calls.plain.stages == 2
    plain = _piece_functions(program, index, "plain", calls.plain, look.in_pieces() if is_shared else "")
    masked = _piece_functions(program, index, "masked", calls.masked)
    first, rest = "", range(2 - calls.plain.stages, 2)
    if is_shared:
        first, rest = f"{look.before}{_share(program, index, 'plain', calls.plain, 0)};\n    ", range(1, 2)
    return (
        f"{mask}{plain}{masked}{opening}    {first}"
        f"if ({look.found if is_shared else look.at_once()})\n"
        f"        {_statement(program, index, 'masked', calls.masked, 8)}\n"
        f"    else\n"
        f"        {_statement(program, index, 'plain', calls.plain, 8, rest)}\n"
        f"}}"
    )


def _piece_functions(program: Program, index: int, kind: str, call: Call, before: str = "") -> str:
    """What threads are called for, of a call that they share, one function for each stage; else nothing.
    before: a statement in front of the kernel, in the first one."""
    if call.pieces == 1:
        return ""
    parameters = "const void *work, int32_t first, int32_t end, int32_t pieces, int32_t thread"
    unused = "" if call.own_scratch else "    (void)thread;\n"
    return "".join(
        f"static void {program.name}_{kind}_{index}_{stage}({parameters})\n{{\n"
        f"    const struct {program.name}_memory *memory = work;\n{unused}"
        f"{before if stage == 2 - call.stages else ''}"
        f"    {call.text(4, ('first', 'end', 'pieces', str(stage)))}\n}}\n\n"
        for stage in range(2 - call.stages, 2)
    )


def _statement(
    program: Program, index: int, kind: str, call: Call, indent: int, stages: range | None = None
) -> str:
    """The call of a kernel: by all threads, or by the one that is here. stages: those that are left to do; of
    one alone, it is the last."""
    if call.pieces == 1:
        return call.text(indent)
    left = range(2 - call.stages, 2) if stages is None else stages
    return f"{', '.join(_share(program, index, kind, call, stage) for stage in left)};"


def _share(program: Program, index: int, kind: str, call: Call, stage: int) -> str:
    """A stage, as an expression."""
    function = f"{program.name}_{kind}_{index}_{stage}"
    return f"bnncc_compute(memory->pool_, {function}, memory, {call.pieces})"


def _unless_unwanted(program: Program, step: Step) -> str:
    """The test in front of a step that writes an output which the caller may do without."""
    for index in step.writes:
        buffer = program.buffers[index]
        if buffer.place == "output" and program.outputs[buffer.index].optional:
            return f"    if (!memory->{program.outputs[buffer.index].c_name})\n        return;\n"
    return ""


def _step_head(program: Program, index: int) -> str:
    return f"static void {program.name}_step_{index}(const struct {program.name}_memory *memory)"


def _check_function(program: Program) -> str:
    name, upper = program.name, program.name.upper()
    blocks = ["arena", *(["state"] if program.states else [])]
    needed = [port.c_name for port in (*program.inputs, *program.outputs) if not port.optional]
    condition = " || ".join(f"!memory->{pointer}" for pointer in (*blocks, *needed))
    aligned = " || ".join(f"(uintptr_t)memory->{pointer} % {ALIGNMENT} != 0" for pointer in blocks)
    return f"""\
static int {name}_check(const struct {name}_memory *memory)
{{
    if ({condition})
        return {upper}_ERROR_NULL;
    if ({aligned})
        return {upper}_ERROR_ALIGNMENT;
{_count_checks(program)}{events.word_checks(program)}    return {upper}_OK;
}}"""


def _count_checks(program: Program) -> str:
    """Numbers of steps that inputs say."""
    text = ""
    for loop in program.loops:
        if loop.count is not None:
            count = f"*memory->{program.inputs[program.buffers[loop.count].index].c_name}"
            # Where there is no limit, what a counter of the processor's size does not reach is too many.
            too_many = f"{count} > {loop.trips}" if loop.trips else f"(int64_t)(size_t){count} != {count}"
            text += (
                f"    if ({count} < 0 || {too_many})\n        return {program.name.upper()}_ERROR_STEPS;\n"
            )
    return text


def _run_function(network: Network) -> str:
    program = network.program
    name, upper = program.name, program.name.upper()
    begin, end = _around_steps(network)
    return f"""\
int {name}_{"step" if program.states else "run"}({run_parameters(program)})
{{
    {_memory_variable(network)}
    const int status_ = {name}_check(&memory_);
    if (status_ == {upper}_OK) {{
{begin}{_all_steps(program, _step_call)}
{end}    }}
    return status_;
}}"""


def _around_steps(network: Network) -> tuple[str, str]:
    """Statements before and after all steps: the threads are taken and given back."""
    if network.threads == 1:
        return "", ""
    return (
        f"        memory_.pool_ = bnncc_begin(&{network.program.name}_pool);\n",
        "        bnncc_end(memory_.pool_);\n",
    )


def _step_call(program: Program, index: int) -> str:
    return f"BNNCC_STEP({program.name}_on_layer, {index}, {program.name}_step_{index}(&memory_));"


def _watched_call(program: Program, index: int) -> str:
    trip = "memory_.time_" if any(index in loop for loop in program.loops) else "0"
    return f"{program.name}_step_{index}(&memory_), done_({index}, {trip});"


def _all_steps(program: Program, call: Callable[[Program, int], str]) -> str:
    """All steps in order, those of a loop over time inside one; call: the statement of one."""
    lines = []
    for index in range(len(program.steps)):
        inside = [loop for loop in program.loops if index in loop]
        for loop in inside:
            if loop.first == index:
                trips = _trips(program, loop)
                lines.append(f"        for (memory_.time_ = 0; memory_.time_ < {trips}; ++memory_.time_) {{")
        indent = " " * (8 + 4 * len(inside))
        lines.append(indent + call(program, index))
        lines += ["        }" for loop in inside if loop.last == index]
    lines += [f"        {line}" for line in stateful.moves(program)]
    return "\n".join(lines)


def _trips(program: Program, loop: TimeLoop) -> str:
    if loop.count is None:
        return str(loop.trips)
    return f"(size_t)*memory_.{program.inputs[program.buffers[loop.count].index].c_name}"


def _layer_function(network: Network) -> str:
    program = network.program
    begin, end = _around_steps(network)
    name, upper = program.name, program.name.upper()
    parameters = f"int index_, {run_parameters(program)}"
    watched = f"void (*done_)(int, size_t), {run_parameters(program)}"
    cases = "\n".join(
        f"    case {index}: {name}_step_{index}(&memory_); break;" for index in range(len(program.steps))
    )
    return f"""\
#ifdef BNNCC_LAYERS
/* One layer by itself, on what the arena holds: for tools that verify or time layers. */
int {name}_layer({parameters});

int {name}_layer({parameters})
{{
    {_memory_variable(network)}
    const int status_ = {name}_check(&memory_);
    if (status_ != {upper}_OK)
        return status_;
    if (index_ < 0 || index_ >= {len(program.steps)})
        return {upper}_ERROR_INDEX;
{begin.replace("        ", "    ", 1)}    switch (index_) {{
{cases}
    }}
{end.replace("        ", "    ", 1)}    return {upper}_OK;
}}

/* All layers in order. done_ is called after each, with the trip of the loop around it, for tools that want
 * to look at what a layer left in memory. */
int {name}_watch({watched});

int {name}_watch({watched})
{{
    {_memory_variable(network)}
    const int status_ = {name}_check(&memory_);
    if (status_ == {upper}_OK) {{
{begin}{_all_steps(program, _watched_call)}
{end}    }}
    return status_;
}}
#endif"""


def _memory_variable(network: Network) -> str:
    """A port's C name never ends in an underscore, so the local names that do cannot clash with one."""
    program = network.program
    blocks = ["(unsigned char *)arena", *(["(unsigned char *)state"] if program.states else [])]
    ports = [port.c_name for port in (*program.inputs, *program.outputs)]
    later = ["0"] * bool(program.loops) + (["0", "&zero_"] if network.threads > 1 else [])
    values = ", ".join((*blocks, *ports, *later))
    const = "" if later else "const "
    zero = "int32_t zero_ = 0;\n    " if network.threads > 1 else ""
    return f"{zero}{const}struct {program.name}_memory memory_ = {{{values}}};"


def _comment_block(banner: str) -> str:
    return f"/*\n{starred(banner)}\n */"
