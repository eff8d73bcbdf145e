# SPDX-License-Identifier: Apache-2.0
"""The symbol table of an ELF object: hide what it defines, list what it expects."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

SYMBOL_TABLE = 2
"""sh_type of a symbol table."""
LOCAL = 0
HIDDEN = 2
UNDEFINED = 0


@dataclass(frozen=True)
class _Symbol:
    """One entry: its name, binding, section, and where its st_other byte lies in the file."""

    name: str
    binding: int
    section: int
    other: int


def hide_symbols(code: bytes) -> bytes:
    """The object with every symbol that it defines for others made hidden, so that a shared library does not
    export it."""
    result = bytearray(code)
    for symbol in _symbols(code):
        if symbol.binding != LOCAL and symbol.section != UNDEFINED:
            result[symbol.other] = result[symbol.other] & ~3 | HIDDEN
    return bytes(result)


def undefined_symbols(code: bytes) -> set[str]:
    """The names that the object expects from elsewhere."""
    return {symbol.name for symbol in _symbols(code) if symbol.section == UNDEFINED and symbol.name}


def _symbols(code: bytes) -> Iterator[_Symbol]:
    """All symbols of a little-endian ELF object, 32 or 64 bit."""
    assert code[:4] == b"\x7fELF" and code[5] == 1, "not a little-endian ELF object"
    is_64 = code[4] == 2
    offset = struct.unpack_from("<Q", code, 40)[0] if is_64 else struct.unpack_from("<I", code, 32)[0]
    size, count = struct.unpack_from("<HH", code, 58 if is_64 else 46)
    section_format = "<IIQQQQIIQQ" if is_64 else "<10I"
    sections = [struct.unpack_from(section_format, code, offset + i * size) for i in range(count)]
    for section in sections:
        _, kind, _, _, start, length, link, _, _, entry = section
        if kind != SYMBOL_TABLE:
            continue
        strings = sections[link][4]
        for at in range(start, start + length, entry):
            if is_64:
                name, info, _, index = struct.unpack_from("<IBBH", code, at)
                other = at + 5
            else:
                name, _, _, info, _, index = struct.unpack_from("<IIIBBH", code, at)
                other = at + 13
            text = code[strings + name : code.index(b"\0", strings + name)]
            yield _Symbol(text.decode(), info >> 4, index, other)
