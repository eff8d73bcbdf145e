# SPDX-License-Identifier: Apache-2.0
"""`<name>_selftest.c`: golden vectors that a device can check itself by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from bnncc.codegen.text import elements, in_comment, port_type, starred
from bnncc.codegen.weights import literal_lines
from bnncc.plan.c_values import double_literal
from bnncc.plan.program import Port, Program


class Vectors(Protocol):
    """What a self-test feeds and expects: see `bnncc.checking.golden.Golden`."""

    @property
    def inputs(self) -> Sequence[np.ndarray]:
        """By port."""
        ...

    @property
    def outputs(self) -> Sequence[np.ndarray]:
        """By port."""
        ...

    @property
    def tolerance(self) -> Sequence[float]:
        """Absolute, by output."""
        ...


def selftest_file(program: Program, vectors: Vectors, banner: str) -> str:
    """The whole C file: arrays, and `int <name>_selftest(void *arena)`."""
    name = program.name
    inputs = list(zip(program.inputs, vectors.inputs, strict=True))
    outputs = list(zip(program.outputs, vectors.outputs, strict=True))
    steps = len(vectors.inputs[0]) if program.states else 1
    blocks = ["arena", *(["state", str(steps)] if program.states else [])]
    reset = f"{name}_reset(state) != {name.upper()}_OK || " if program.states else ""
    arguments = ", ".join(
        [
            *blocks,
            *(f"golden_{p.c_name}" for p in program.inputs),
            *(f"got_{p.c_name}" for p in program.outputs),
        ]
    )
    checks = "\n".join(
        _check(port, steps, tolerance)
        for port, tolerance in zip(program.outputs, vectors.tolerance, strict=True)
    )
    arrays = "\n\n".join(
        _array(f"golden_{port.c_name}", port, values) for port, values in (*inputs, *outputs)
    )
    results = "\n".join(
        f"static {port_type(port)} got_{port.c_name}[{steps * elements(port)}];" for port in program.outputs
    )
    return f"""\
/*
{starred(banner)}
 *
 * A self-test: random inputs, and what the network answers to them. Compile it with the library.
 */
#include "{name}.h"

{arrays}

{results}

{NEAR if any(map(_is_real, program.outputs)) else ""}int {name}_selftest({_memory(program)})
{{
    int wrong = 0;
    long i;
    if ({reset}{name}_run({arguments}) != {name.upper()}_OK)
        return -1;
{checks}
    return wrong;
}}
"""


def prototype(program: Program) -> str:
    """`<name>_selftest` in the header, with what there is to know."""
    name, upper = program.name, program.name.upper()
    state = (
        f" state: {upper}_STATE_BYTES bytes, aligned too; it\n * is reset first." if program.states else ""
    )
    return f"""\
/*
 * Of {name}_selftest.c, which is to be compiled with the program that calls it: runs the network on
 * the numbers there and compares. arena: {upper}_ARENA_BYTES bytes, aligned as for {name}_run.{state}
 * Returns 0 if all is well, -1 if the network could not run, else how many values are wrong.
 */
int {name}_selftest({_memory(program)});
"""


def _memory(program: Program) -> str:
    return "void *arena, void *state" if program.states else "void *arena"


def _array(symbol: str, port: Port, values: np.ndarray) -> str:
    stored = values.view(np.uint16) if values.dtype == np.float16 else values
    what = in_comment(port.name)
    return (
        f"/* '{what}' */\nstatic const {port_type(port)} {symbol}[{values.size}] = {{\n"
        f"{literal_lines(np.ascontiguousarray(stored).reshape(-1))}\n}};"
    )


NEAR = """\
/* Whether a value is as expected; NaN only if it should be. */
static int is_near(double got, double golden, double tolerance)
{
    if (golden != golden)
        return got != got;
    return got == golden || (got - golden <= tolerance && golden - got <= tolerance);
}

"""


def _is_real(port: Port) -> bool:
    return port.dtype in ("float32", "float64")


def _check(port: Port, steps: int, tolerance: float) -> str:
    got, golden = f"got_{port.c_name}[i]", f"golden_{port.c_name}[i]"
    right = (
        f"is_near({got}, {golden}, {double_literal(tolerance)})" if _is_real(port) else f"({got} == {golden})"
    )
    return f"    for (i = 0; i < {steps * elements(port)}; ++i)\n        wrong += !{right};"
