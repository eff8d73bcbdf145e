# SPDX-License-Identifier: Apache-2.0
"""C names from ONNX names."""

from __future__ import annotations

import re
from collections.abc import Sequence

# C99 and C++17 keywords, and what the generated code itself uses.
RESERVED = frozenset(
    """alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const constexpr
    const_cast continue decltype default delete do double dynamic_cast else enum explicit export extern false
    float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq
    private protected public register reinterpret_cast restrict return short signed sizeof static static_assert
    static_cast struct switch template this thread_local throw true try typedef typeid typename union unsigned
    using virtual void volatile wchar_t while xor xor_eq arena state main""".split()
)


def c_identifiers(names: Sequence[str], taken: set[str] | None = None) -> list[str]:
    """One C identifier per name, all different from each other and from `taken`, stable for the same names."""
    used = set(taken or ())
    result = []
    for name in names:
        base = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_") or "tensor"
        if base[0].isdigit() or base in RESERVED:
            base = "t_" + base
        candidate, count = base, 2
        while candidate in used:
            candidate, count = f"{base}_{count}", count + 1
        used.add(candidate)
        result.append(candidate)
    return result
