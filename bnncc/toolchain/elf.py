# SPDX-License-Identifier: Apache-2.0
"""ELF objects: hide and rename what they define, list what they expect, what they are for and how large."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

SYMBOL_TABLE = 2
"""sh_type of a symbol table."""
ZEROS = 8
"""sh_type of memory that starts as zeros."""
RELOCATIONS = (4, 9)
"""sh_type of relocations, with and without addends."""
DEBUGGING = (".debug_", ".rel.debug_", ".rela.debug_")
"""How the names of sections begin that debuggers read."""
SECTION = {False: "<10I", True: "<IIQQQQIIQQ"}
"""A section's header of 32 and of 64 bits: name, type, flags, address, offset, size, link, info, alignment,
size of an entry."""
UNWINDING = (0x70000001,)
"""sh_type of Arm's and x86-64's tables for unwinding the stack, which C does without."""
ALLOCATED = 2
"""sh_flags of what is in memory while a program runs."""
LOADED = 1
"""p_type of what is loaded into memory."""
LOCAL = 0
FUNCTION = 2
"""Of a symbol's st_info, its type."""
HIDDEN = 2
UNDEFINED = 0


MACHINES = {
    (3, 1): "i386",
    (40, 1): "arm",
    (62, 2): "x86_64",
    (183, 2): "aarch64",
    (243, 1): "riscv32",
    (243, 2): "riscv64",
}
"""Architectures by e_machine and class (1: 32 bits)."""
HEAD = 20
"""Bytes of a file up to e_machine and with it."""


@dataclass(frozen=True)
class _Symbol:
    """One entry: its name, binding, section, where it and its st_other byte lie in the file, and which
    section holds its name."""

    name: str
    binding: int
    section: int
    at: int
    other: int
    strings: int

    @property
    def is_for_others(self) -> bool:
        """Whether the object defines it for other objects."""
        return self.binding != LOCAL and self.section != UNDEFINED


def hide_symbols(code: bytes) -> bytes:
    """The object with every symbol that it defines for others made hidden, so that a shared library does not
    export it."""
    result = bytearray(code)
    for symbol in _symbols(code):
        if symbol.is_for_others:
            result[symbol.other] = result[symbol.other] & ~3 | HIDDEN
    return bytes(result)


def without_debugging(code: bytes) -> bytes:
    """The object without what debuggers read; these sections stay, empty, as others count them.

    What TVM writes there is of a program that nobody has, and larger than the code."""
    is_64 = code[4] == 2
    _, sections = _sections(code)
    result = bytearray(code[: 64 if is_64 else 52])
    places: dict[int, tuple[int, int]] = {}
    for index in sorted(range(len(sections)), key=lambda i: sections[i][4]):
        _, kind, _, _, start, length, _, _, alignment, _ = sections[index]
        if _section_name(code, index).startswith(DEBUGGING):
            length = 0
        result += bytes(-len(result) % max(1, alignment))
        places[index] = (len(result), length)
        if kind != ZEROS:
            result += code[start : start + length]
    result += bytes(-len(result) % 8)
    struct.pack_into("<Q" if is_64 else "<I", result, 40 if is_64 else 32, len(result))
    for index, fields in enumerate(sections):
        result += struct.pack(SECTION[is_64], *fields[:4], *places[index], *fields[6:])
    return bytes(result)


def prefix_symbols(code: bytes, prefix: str, expected: Collection[str] = ()) -> bytes:
    """The object with `<prefix>_` before every symbol that it defines for others and that lacks it, and
    before those of `expected` that it expects from others.

    TVM puts its own `__truncsfhf2` and `__extendhfsf2` into every object; under these names a program that
    links the library could get them in place of its compiler's, which pass half floats otherwise."""
    renamed = [
        symbol
        for symbol in _symbols(code)
        if (symbol.is_for_others and not symbol.name.startswith(f"{prefix}_"))
        or (symbol.section == UNDEFINED and symbol.name in expected)
    ]
    if not renamed:
        return code
    result, is_64 = bytearray(code), code[4] == 2
    header, sections = _sections(code)
    index = renamed[0].strings
    start, size = sections[index][4], sections[index][5]
    strings = bytearray(code[start : start + size])
    for symbol in renamed:
        struct.pack_into("<I", result, symbol.at, len(strings))
        strings += f"{prefix}_{symbol.name}\0".encode()
    entry = header + index * (64 if is_64 else 40)
    struct.pack_into(
        "<QQ" if is_64 else "<II", result, entry + (24 if is_64 else 16), len(code), len(strings)
    )
    return bytes(result + strings)


def loaded_bytes(code: bytes) -> int:
    """Bytes of an object that a program takes from it into its image: code, constants, initial values."""
    _, sections = _sections(code)
    return sum(
        length
        for _, kind, flags, _, _, length, *_ in sections
        if flags & ALLOCATED and kind != ZEROS and kind not in UNWINDING
    )


def stack_sizes(code: bytes) -> dict[str, int]:
    """Bytes of stack that each function uses by itself, of what Clang wrote with -fstack-size-section: pairs
    of an address, filled in by a relocation, and a number of seven bits a byte, the lowest first."""
    is_64 = code[4] == 2
    _, sections = _sections(code)
    names = {section: name for name, section in _function_sections(code)}
    sizes: dict[str, int] = {}
    for _, kind, _, _, start, length, link, info, _, entry in sections:
        if kind not in RELOCATIONS or _section_name(code, info) != ".stack_sizes":
            continue
        symbols = sections[link]
        for at in range(start, start + length, entry):
            place, which = struct.unpack_from("<QQ" if is_64 else "<II", code, at)
            symbol = symbols[4] + (which >> (32 if is_64 else 8)) * symbols[9]
            (section,) = struct.unpack_from("<H", code, symbol + (6 if is_64 else 14))
            sizes[names[section]] = _uleb128(code, sections[info][4] + place + (8 if is_64 else 4))
    return sizes


def _function_sections(code: bytes) -> Iterator[tuple[str, int]]:
    """Functions that have a section each (-ffunction-sections), by their section's name."""
    for index in range(len(_sections(code)[1])):
        name = _section_name(code, index)
        if name.startswith(".text."):
            yield name.removeprefix(".text."), index


def _section_name(code: bytes, index: int) -> str:
    _, sections = _sections(code)
    (strings,) = struct.unpack_from("<H", code, 62 if code[4] == 2 else 50)
    start = sections[strings][4] + sections[index][0]
    return code[start : code.index(b"\0", start)].decode()


def _uleb128(code: bytes, at: int) -> int:
    value = shift = 0
    while code[at] & 0x80:
        value |= (code[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | code[at] << shift


def memory_image(code: bytes, first: int) -> bytes:
    """What a program for 32 bits puts into memory from an address on before it starts. Memory that starts as
    zeros is left out, and so are the file's own headers, which the linker puts into the page before."""
    assert code[:6] == b"\x7fELF\x01\x01", "not a little-endian program for 32 bits"
    (header,), (size, count) = struct.unpack_from("<I", code, 28), struct.unpack_from("<HH", code, 42)
    segments = [struct.unpack_from("<8I", code, header + i * size) for i in range(count)]
    loaded = [s for s in segments if s[0] == LOADED and s[3] >= first]
    memory = bytearray(max(address + length for _, _, _, address, length, *_ in loaded if length) - first)
    for _, offset, _, address, length, *_ in loaded:
        memory[address - first : address - first + length] = code[offset : offset + length]
    return bytes(memory)


def architecture(head: bytes) -> str:
    """What processors a file of which these are the first HEAD bytes is for, as in MACHINES; "" if it is no
    little-endian ELF file, or for others."""
    if len(head) < HEAD or head[:4] != b"\x7fELF" or head[5] != 1:
        return ""
    return MACHINES.get((struct.unpack_from("<H", head, 18)[0], head[4]), "")


def is_thumb(code: bytes) -> bool:
    """Whether all functions of an object for 32-bit Arm are Thumb code: bit 0 of their addresses says so."""
    functions = (s.at for s in _symbols(code) if s.section != UNDEFINED and code[s.at + 12] & 15 == FUNCTION)
    return all(struct.unpack_from("<I", code, at + 4)[0] & 1 for at in functions)


def undefined_symbols(code: bytes) -> set[str]:
    """The names that the object expects from elsewhere."""
    return {symbol.name for symbol in _symbols(code) if symbol.section == UNDEFINED and symbol.name}


def _sections(code: bytes) -> tuple[int, list[tuple[int, ...]]]:
    """Where the section headers begin, and their fields, of a little-endian ELF object, 32 or 64 bit."""
    assert code[:4] == b"\x7fELF" and code[5] == 1, "not a little-endian ELF object"
    is_64 = code[4] == 2
    header = struct.unpack_from("<Q", code, 40)[0] if is_64 else struct.unpack_from("<I", code, 32)[0]
    size, count = struct.unpack_from("<HH", code, 58 if is_64 else 46)
    return header, [struct.unpack_from(SECTION[is_64], code, header + i * size) for i in range(count)]


def _symbols(code: bytes) -> Iterator[_Symbol]:
    """All symbols of a little-endian ELF object, 32 or 64 bit."""
    is_64 = code[4] == 2
    _, sections = _sections(code)
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
            yield _Symbol(text.decode(), info >> 4, index, at, other, link)
