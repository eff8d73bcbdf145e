# SPDX-License-Identifier: Apache-2.0
"""Looking for zeros in a mask plane, before a step that has a kernel of its own for them."""

from __future__ import annotations

from dataclasses import dataclass

from bnncc.plan.program import Alternative, Program


@dataclass(frozen=True)
class Look:
    """C that looks for zeros in the mask plane of step `index`."""

    program: Program
    index: int
    masked: Alternative

    before = "*memory->zero_ = 0;\n    "
    """Statement in front of the looking in pieces."""

    found = "*memory->zero_"
    """Condition after it."""

    @property
    def plane(self) -> str:
        """The name of the constant that describes it."""
        return f"{self.program.name}_mask_{self.index}"

    @property
    def definition(self) -> str:
        """The constant, in the order of the fields of `struct bnncc_plane`."""
        layout = self.masked.mask_layout
        values = ", ".join(map(str, (layout.offset, *layout.shape, *layout.strides[:3])))
        return f"static const struct bnncc_plane {self.plane} = {{{values}}};"

    def at_once(self) -> str:
        """The condition, where one thread looks at all rows."""
        return self._call("0", str(self._rows))

    def in_pieces(self) -> str:
        """The statement of a thread that looks at the rows of its pieces."""
        rows = (f"(size_t){self._rows} * (size_t){piece} / (size_t)pieces" for piece in ("first", "end"))
        store = "__atomic_store_n(memory->zero_, 1, __ATOMIC_RELAXED)"
        return f"    if ({self._call(*rows)})\n        {store};\n"

    @property
    def _rows(self) -> int:
        return self.masked.mask_layout.shape[0] * self.masked.mask_layout.shape[1]

    def _call(self, first: str, end: str) -> str:
        place = f"memory->arena + {self.program.offsets[self.masked.mask]}"
        words = f"(const uint32_t *)(const void *)({place})"
        return f"bnncc_any_zero({words}, &{self.plane}, {first}, {end})"
