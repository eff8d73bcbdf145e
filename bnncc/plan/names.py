# SPDX-License-Identifier: Apache-2.0
"""C names: of the library, which every symbol begins with, and of what ONNX names freely."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

from bnncc.diagnostics import BnnccError

SIGNIFICANT = 63
"""Characters of a name that every C99 compiler looks at."""

MAXIMUM_LENGTH = 40
"""Of a library's name; the rest of SIGNIFICANT is for the suffix."""

KEYWORDS = frozenset(
    """
    alignas alignof and asm auto bitand bitor bool break case catch char class compl concept const constexpr
    continue decltype default delete do double else enum explicit export extern false float for friend goto
    if inline int long main mutable namespace new noexcept not nullptr operator or private protected public
    register requires restrict return short signed sizeof static struct switch template this throw true try
    typedef typeid typename typeof union unsigned using virtual void volatile while xor
    """.split()
)
"""Of C and of C++, as the header serves both."""

TYPES = frozenset(f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64, "ptr")) | {"size_t"}
"""Which parameters after one of that name could not be of."""

RESERVED = (
    KEYWORDS
    | TYPES
    | frozenset(
        """
    arena linux unix i386 NULL EOF I INFINITY NAN errno stdin stdout stderr
    INPUT OUTPUT HIGH LOW DEFAULT EXTERNAL INTERNAL PI HALF_PI TWO_PI DEG_TO_RAD RAD_TO_DEG EULER
    """.split()
    )
)
"""Also the first parameter of every generated function, and macros of common compilers and headers, in the
second line those of Arduino."""

HEADERS = frozenset(
    """
    aio assert complex cpio ctype dirent dlfcn errno fcntl features fenv float fnmatch ftw glob grp iconv
    inttypes iso646 langinfo libgen limits locale malloc math memory monetary mqueue ndbm netdb poll pthread
    pwd regex sched search semaphore setjmp signal spawn stdalign stdarg stdatomic stdbool stddef stdint stdio
    stdlib stdnoreturn string strings stropts syslog tar termios tgmath threads time trace uchar ulimit unistd
    utime utmpx wchar wctype wordexp
    """.split()
)
"""Of C and POSIX: where `string.h` is a library's, a program that includes <string.h> may get it."""


def c_identifier(name: str) -> str:
    """The ONNX name with every run of other characters as one underscore: `/conv1/Relu:0` is `conv1_Relu_0`.

    It never ends in an underscore: such names are the generated code's own."""
    text = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_")[:MAXIMUM_LENGTH].rstrip("_")
    if not text:
        return "tensor"
    return f"tensor_{text}" if text[0].isdigit() or text in RESERVED else text


STATEFUL = ("state", "steps", "events", "count", "start", "step_length")
"""Parameters of the functions of a network with states."""


def c_names(names: Iterable[str], reserved: Iterable[str] = ()) -> tuple[str, ...]:
    """A C name for each ONNX name, in order, no two alike even when written in capitals, and none of those
    that are reserved."""
    taken = {name.upper() for name in reserved}
    result = []
    for name in names:
        base = candidate = c_identifier(name)
        suffix = 2
        while candidate.upper() in taken:
            candidate = f"{base}_{suffix}"
            suffix += 1
        taken.add(candidate.upper())
        result.append(candidate)
    return tuple(result)


def library_name(model: str | PurePath) -> str:
    """The library's name where the user gives none: `nets/Digits-v2.onnx` is `Digits_v2`."""
    path = PurePath(model)
    stem = path.stem if path.suffix in (".onnx", ".nir", ".h5", ".hdf5", ".mlir") else path.name
    text = re.sub(r"[^0-9A-Za-z]+", "_", stem).strip("_")[:MAXIMUM_LENGTH].rstrip("_")
    if not text:
        return "model"
    return f"model_{text}" if text[0].isdigit() or _is_taken(text) else text


def _is_taken(name: str) -> bool:
    """Whether a library's name would be another's: a keyword, a header, or what generated code begins its own
    names with. Some file systems know no capitals."""
    return name in KEYWORDS or name.lower() in HEADERS | {"bnncc"}


def check_library_name(name: str) -> str:
    """The name, if C symbols may begin with it; a BnnccError otherwise."""
    is_spelled = re.fullmatch(r"[A-Za-z][0-9A-Za-z_]*", name) and len(name) <= MAXIMUM_LENGTH
    if is_spelled and not _is_taken(name):
        return name
    raise BnnccError(
        "--name",
        f"'{name}' cannot be the name of a C library",
        f"letters, digits and underscores, a letter first, at most {MAXIMUM_LENGTH} characters, no keyword "
        f"of C or C++ and no header of theirs; for example {library_name(name)}",
    )
