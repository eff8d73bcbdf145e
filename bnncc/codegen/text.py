# SPDX-License-Identifier: Apache-2.0
"""Small pieces of C text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bnncc.plan.c_values import C_TYPES
from bnncc.plan.names import SIGNIFICANT
from bnncc.plan.program import Port, Program

LINE_LENGTH = 110


def in_comment(text: str) -> str:
    """Any text so that it can stand in a C comment: ASCII, one line, nothing that ends the comment."""
    plain = text.encode("ascii", "backslashreplace").decode("ascii")
    plain = re.sub(r"[\x00-\x1f\x7f]", " ", plain).replace("\\", "/")
    plain = re.sub(r"\?(?=\?)", "? ", plain)  # no trigraphs: ??/ is a backslash to some compilers
    return re.sub(r"(?<=/)(?=\*)|(?<=\*)(?=/)", " ", plain)


def port_type(port: Port) -> str:
    """The C type of one element of an input or output."""
    return C_TYPES[port.dtype]


def run_parameters(program: Program, *more: str) -> str:
    """The parameters of `<name>_run`, of a network with states those of `<name>_step`, in order; `more` come
    before inputs and outputs."""
    parameters = ["void *arena", *(["void *state"] if program.states else []), *more]
    parameters += [f"const {port_type(port)} *{port.c_name}" for port in program.inputs]
    parameters += [f"{port_type(port)} *{port.c_name}" for port in program.outputs]
    return ", ".join(parameters)


def elements(port: Port) -> int:
    """How many values an input or output has."""
    count = 1
    for extent in port.shape:
        count *= extent
    return count


def dimensions(port: Port) -> str:
    """The shape as C declares an array: `[1][3][32][32]`."""
    return "".join(f"[{extent}]" for extent in port.shape) or "[1]"


def starred(text: str) -> str:
    """The inner lines of a block comment."""
    return "\n".join(f" * {line}".rstrip() for line in text.splitlines())


def wrapped(function: str, arguments: Sequence[str], indent: int = 0) -> str:
    """`function(arguments)`, one argument a line where all do not fit into one; starts at column `indent`."""
    line = f"{function}({', '.join(arguments)})"
    if indent + len(line) < LINE_LENGTH:
        return line
    inner = " " * (indent + 4)
    return f"{function}(\n{inner}" + f",\n{inner}".join(arguments) + ")"


def with_short_names(text: str, prefix: str, symbols: Sequence[str]) -> str:
    """C text in which the kernels `<prefix>_<symbol>` are called `<prefix>_<operation>_<hash>`: compilers
    need not look at more of a name. The comment above each function has the whole symbol."""

    def shortened(match: re.Match[str]) -> str:
        operation, digest = match[1].partition("_")[0], match[1].rpartition("_")[2]
        return f"{prefix}_{operation[: SIGNIFICANT - len(f'{prefix}__{digest}')]}_{digest}"

    return re.sub(rf"{prefix}_({'|'.join(symbols)})\b", shortened, text) if symbols else text
