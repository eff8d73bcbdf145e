# SPDX-License-Identifier: Apache-2.0
"""Trained numbers as C arrays: one array per distinct content, aligned, const, in a section of their own.

Two forms. Typed lists (`0x1f2e3d4cu, ...`) go into the portable C file: they mean the same on every
compiler and byte order. A library is compiled from byte strings (`"\\037\\056..."`), which gcc reads
seven times faster: 4 MB in 0.3 s instead of 2.1 s. Its targets are all little-endian, as these strings are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bnncc.plan.c_values import C_TYPES, double_literal, float_literal

VALUES_PER_LINE = 12
BYTES_PER_LINE = 32


@dataclass(frozen=True)
class Weights:
    """One array: its C symbol, the numbers (flat), and which layer used it first."""

    symbol: str
    data: np.ndarray
    comment: str

    @property
    def c_type(self) -> str:
        """The C type of an element."""
        return C_TYPES[self.data.dtype.name]


@dataclass
class WeightPool:
    """Collects arrays; equal ones are stored once."""

    prefix: str
    arrays: list[Weights] = field(default_factory=list)
    _known: dict[tuple[str, bytes], Weights] = field(default_factory=dict)

    def add(self, array: np.ndarray, comment: str) -> Weights:
        """The stored array with these numbers, new or known."""
        flat = np.ascontiguousarray(array).reshape(-1)
        assert flat.dtype.name in C_TYPES and flat.size, (array.dtype, array.shape)
        key = (flat.dtype.name, flat.tobytes())
        if key not in self._known:
            self._known[key] = Weights(f"{self.prefix}_weights_{len(self.arrays)}", flat, comment)
            self.arrays.append(self._known[key])
        return self._known[key]

    @property
    def bytes(self) -> int:
        """Of all arrays together, without alignment gaps."""
        return sum(weights.data.nbytes for weights in self.arrays)


def declarations(pool: WeightPool) -> str:
    """What the entry needs to refer to arrays of another file."""
    lines = (f"extern const {w.c_type} {w.symbol}[{w.data.size}]; /* {w.comment} */" for w in pool.arrays)
    return "\n".join(lines)


def typed_definitions(pool: WeightPool) -> str:
    """`static const` arrays of their own types, for the self-contained C file."""
    return "\n\n".join(
        f"/* {w.comment} */\nBNNCC_WEIGHTS static const {w.c_type} {w.symbol}[{w.data.size}] = {{\n"
        f"{literal_lines(w.data)}\n}};"
        for w in pool.arrays
    )


def byte_definitions(pool: WeightPool) -> str:
    """The same numbers as arrays of bytes, for a file of their own within the library. Their sizes leave no
    room for the NUL that ends a string literal: it would cost an alignment's worth of padding. The entry sees
    them with their types; the two meet in the linker only."""
    return "\n\n".join(
        f"/* {w.comment} */\n"
        f"BNNCC_WEIGHTS const unsigned char {w.symbol}[{w.data.nbytes}] =\n{_string(w.data)};"
        for w in pool.arrays
    )


def literals(data: np.ndarray) -> list[str]:
    """C literals that give back exactly these numbers."""
    values = data.tolist()
    match data.dtype.name:
        case "float32":
            return [float_literal(value) for value in values]
        case "float64":
            return [double_literal(value) for value in values]
        case "uint32":
            return [f"0x{value:x}u" for value in values]
        case "uint64":
            return [f"0x{value:x}ull" for value in values]
        case "int32":
            return ["(-2147483647 - 1)" if value == -(2**31) else str(value) for value in values]
        case "int64":
            smallest = "(-INT64_C(9223372036854775807) - 1)"
            return [smallest if value == -(2**63) else f"INT64_C({value})" for value in values]
        case _:
            return [str(value) for value in values]


def literal_lines(data: np.ndarray) -> str:
    """The inside of an array's initialiser: C literals that give back exactly these numbers."""
    items = literals(data)
    chunks = (items[i : i + VALUES_PER_LINE] for i in range(0, len(items), VALUES_PER_LINE))
    return ",\n".join("    " + ", ".join(chunk) for chunk in chunks)


def _string(data: np.ndarray) -> str:
    """The bytes, little-endian, as a C string literal over several lines; three octal digits each, so
    that no digit after them can be taken for a fourth."""
    little = data.astype(data.dtype.newbyteorder("<"), copy=False)
    codes = np.array([f"\\{value:03o}".encode() for value in range(256)], dtype="S4")
    text = codes[np.frombuffer(little.tobytes(), np.uint8)].tobytes().decode("ascii")
    step = 4 * BYTES_PER_LINE
    return "\n".join(f'    "{text[i : i + step]}"' for i in range(0, len(text), step))
