# SPDX-License-Identifier: Apache-2.0
"""Buffers of a function of upstream MLIR, as mlir-opt prints it, moved into memory that the caller lends.

What the function allocated becomes places in one last argument, the scratch memory: no heap and no large
stack. mlir-opt ends the block of every `memref.alloc` with its `memref.dealloc`; a buffer of the function
itself lives until the last statement that names it or a view of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bnncc.plan.memory import Request, aligned, plan_arena

BYTES = {"f64": 8, "i64": 8, "f32": 4, "i32": 4, "f16": 2, "i16": 2, "i8": 1, "i1": 1, "index": 8}
"""Of an element; booleans are bytes."""

FUNCTION = re.compile(
    r"^  func\.func @(?P<name>\w+)\((?P<arguments>[^\n]*)\) \{\n(?P<body>.*?)^  \}\n", re.M | re.S
)
ALLOCATED = re.compile(r"^ *(?P<name>%\w+) = memref\.alloc\(\).* : (?P<type>memref<(?P<shape>[^,>]*)>)$")
FREED = re.compile(r"^ *memref\.dealloc (?P<name>%\w+) :")
NAMED = re.compile(r"%\w+")
DEFINED = re.compile(r"(%\w+)(?::\d+)? = ")
INTERNAL = "llvm.linkage = #llvm.linkage<internal>"
INDENT = "    "
"""Of a function's own statements."""


@dataclass(frozen=True)
class Allocated:
    """A buffer that the function makes: its name and type there, its bytes and the lines it lives for."""

    name: str
    type: str
    lines: Request


def without_allocations(text: str, share: bool) -> tuple[str, dict[str, int]]:
    """The module with each function's buffers in a scratch argument, and the bytes of it by function; those
    that need none take no such argument.

    share: let buffers that live one after the other take the same bytes. Then LLVM does not know that they
    are apart from each other, which costs time."""
    sizes: dict[str, int] = {}

    def rewritten(match: re.Match[str]) -> str:
        lines = match["body"].splitlines()
        buffers = list(_allocated(lines))
        offsets, sizes[match["name"]] = _placed(buffers, share)
        body = "".join(f"{line}\n" for line in lines if not (ALLOCATED.match(line) or FREED.match(line)))
        arguments = match["arguments"].split(", ") if match["arguments"] else []
        return _function(match["name"], arguments, body, buffers, offsets, sizes[match["name"]])

    moved = FUNCTION.sub(rewritten, text)
    assert "memref.alloc" not in moved and "memref.dealloc" not in moved, "all buffers have moved"
    return moved, sizes


def _allocated(lines: Sequence[str]) -> Iterator[Allocated]:
    freed = {match["name"]: i for i, line in enumerate(lines) if (match := FREED.match(line))}
    ends = _statement_ends(lines)
    for i, line in enumerate(lines):
        if match := ALLOCATED.match(line):
            *extents, element = match["shape"].split("x")
            size = math.prod(map(int, extents)) * BYTES[element]
            is_outermost = line.startswith(INDENT + "%")
            last = ends[_last_use(lines, i, match["name"])] if is_outermost else freed[match["name"]]
            yield Allocated(match["name"], match["type"], Request(size, i, last))


def _statement_ends(lines: Sequence[str]) -> list[int]:
    """For each line the last one of the function's statement that it belongs to."""
    ends, end = [0] * len(lines), len(lines) - 1
    for i in reversed(range(len(lines))):
        if lines[i].startswith(INDENT + "}"):
            end = i
        ends[i] = max(i, end) if lines[i].startswith(INDENT + " ") or lines[i].startswith(INDENT + "}") else i
    return ends


def _last_use(lines: Sequence[str], first: int, name: str) -> int:
    """The last line that names a buffer or what may be a view of it."""
    views, last = {name}, first
    for i in range(first + 1, len(lines)):
        if FREED.match(lines[i]) or views.isdisjoint(NAMED.findall(lines[i])):
            continue
        last = i
        if "memref" in lines[i]:
            views.update(DEFINED.findall(lines[i]))
    return last


def _placed(buffers: Sequence[Allocated], share: bool) -> tuple[list[int], int]:
    """The offset of each buffer, and the bytes of all."""
    if share:
        plan = plan_arena({i: buffer.lines for i, buffer in enumerate(buffers)})
        return [plan.offsets[i] for i in range(len(buffers))], plan.bytes
    offsets, at = [], 0
    for buffer in buffers:
        offsets.append(at)
        at += aligned(buffer.lines.bytes)
    return offsets, at


def _function(
    name: str,
    arguments: list[str],
    body: str,
    buffers: Sequence[Allocated],
    offsets: Sequence[int],
    size: int,
) -> str:
    """A function that cuts the scratch memory and calls another one, whose pointers are distinct."""
    given = [argument.split(" {")[0] for argument in arguments]
    inner = [*given, *(f"{buffer.name}: {buffer.type}" for buffer in buffers)]
    distinct = ", ".join(f"{argument} {{llvm.noalias}}" for argument in inner)
    outer = ", ".join([*given, *([f"%scratch: memref<{size}xi8>"] if size else [])])
    views = "".join(
        f"    %offset{i} = arith.constant {offset} : index\n"
        f"    {buffer.name} = memref.view %scratch[%offset{i}][] : memref<{size}xi8> to {buffer.type}\n"
        for i, (buffer, offset) in enumerate(zip(buffers, offsets, strict=True))
    )
    names = ", ".join(argument.split(": ")[0] for argument in inner)
    types = ", ".join(argument.split(": ")[1] for argument in inner)
    return (
        f"  func.func private @{name}_body({distinct}) attributes {{{INTERNAL}}} {{\n{body}  }}\n"
        f"  func.func @{name}({outer}) {{\n{views}"
        f"    func.call @{name}_body({names}) : ({types}) -> ()\n    return\n  }}\n"
    )
