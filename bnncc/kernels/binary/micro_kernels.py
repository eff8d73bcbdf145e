# SPDX-License-Identifier: Apache-2.0
"""Micro-kernels in C: what they are called, and how they want weights.

They are headers of `runtime/src`, whose text becomes part of generated C wherever a kernel calls one of their
functions, all of them `static`: so two libraries in one program do not meet. A micro-kernel NAME of a FAMILY
is these functions, with P 1, 2 or 4 rows:

    void NAME_P(const void *rows, size_t stride, size_t bytes, const void *weight, size_t next,
                size_t channels, int32_t *sums, size_t pitch)
        sums[pitch * channel + p] += the bits in which row p and the weights of the channel differ,
        or sums[pitch * p + channel], as the epilogue reads them
    uint32_t FAMILY_compare(const int32_t *sums, size_t pitch, const int32_t *limits, size_t channels)
        the bits sums[pitch * channel] <= limits[channel]
    void FAMILY_clear(int32_t *sums, size_t count)
    void FAMILY_copy(void *to, const void *from, size_t bytes)

Kernels that LLVM compiles call the same functions in an object of their own, where the name of the library
precedes theirs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from bnncc import runtime
from bnncc.kernels.binary.plan import BinaryPlan
from bnncc.kernels.isa import Isa


@dataclass(frozen=True)
class MicroKernel:
    """A micro-kernel.

    name, family: of its functions, without `bnncc_`; headers `<name>.h` and `<family>_vectors.h` hold them.
    feature: of LLVM, without which it does not compile. block: channels whose weights are stored together."""

    name: str
    family: str
    feature: str
    block: int
    description: str
    rows_first: bool = False
    """Whether the sums of a row lie together: [rows][channels], not [channels][rows]."""

    @property
    def count(self) -> str:
        """The function that counts, but for the number of rows."""
        return f"bnncc_{self.name}"

    @property
    def compare(self) -> str:
        """The function that compares sums."""
        return f"bnncc_{self.family}_compare"

    @property
    def clear(self) -> str:
        """The function that sets sums to zero."""
        return f"bnncc_{self.family}_clear"

    @property
    def copy(self) -> str:
        """The function that copies bytes."""
        return f"bnncc_{self.family}_copy"

    @property
    def headers(self) -> tuple[str, ...]:
        """Files of `runtime/src`."""
        return (f"{self.family}_vectors.h", f"{self.name}.h")

    def stored_channels(self, plan: BinaryPlan) -> int:
        """Channels whose weights are stored, with those that fill the last block."""
        return -(-plan.channels.stored // self.block) * self.block

    def weight_doc(self, plan: BinaryPlan) -> str:
        """How weights are stored."""
        if self.block == 1:
            return f"weight bits [channels][{plan.planes}][{plan.steps}]"
        return f"weight bits [blocks][{plan.planes}][{2 * plan.steps} times 16 bits][{self.block} channels]"

    def stored(self, words: np.ndarray) -> np.ndarray:
        """Words [channels, planes, steps] as the micro-kernel reads them: row by row, or in blocks of
        channels 16 bits of each side by side."""
        if self.block == 1:
            return words.reshape(-1)
        _, planes, steps = words.shape
        halves = words.astype("<u4").view("<u2").reshape(-1, self.block, planes, 2 * steps)
        return np.ascontiguousarray(halves.transpose(0, 2, 3, 1)).view("<u4").astype(np.uint32).reshape(-1)

    def plane_start(self, plane: int, plan: BinaryPlan) -> int:
        """Where a plane starts, in words from the start of a block."""
        return plane * plan.steps * self.block


MICRO_KERNELS = (
    MicroKernel("riscv_lanes", "riscv", "+zvbb", 32, "16 bits of 32 channels counted in lanes"),
    MicroKernel("riscv_masks", "riscv", "+v", 1, "bits counted in mask registers"),
    MicroKernel("arm_sve", "arm", "+sve", 1, "scalable vectors along the reduction", rows_first=True),
)
"""The better ones first."""


def choose(plan: BinaryPlan, isa: Isa) -> MicroKernel | None:
    """The micro-kernel for a layer on an instruction set, if there is one: the first whose blocks would be
    filled by two thirds at least."""
    possible = [micro for micro in MICRO_KERNELS if micro.feature in isa.features]
    fitting = [micro for micro in possible if micro.stored_channels(plan) * 2 <= plan.spec.shape[3] * 3]
    return next(iter(fitting or possible[-1:]), None)


def sources(text: str) -> list[str]:
    """The C text of the headers that `text` needs."""
    return _headers([micro for micro in MICRO_KERNELS if f"{micro.count}_" in text])


def _headers(called: Iterable[MicroKernel]) -> list[str]:
    files = dict.fromkeys(header for micro in called for header in micro.headers)
    texts = (runtime.source_text(file) for file in files)
    return [re.sub(r'#include "\w+\.h"\n', "", text) for text in texts]


def is_called(symbol: str) -> bool:
    """Whether a name that an object expects is a function of a micro-kernel."""
    return symbol.startswith(tuple(f"bnncc_{micro.family}_" for micro in MICRO_KERNELS))


def object_source(symbols: Collection[str]) -> str:
    """The C text of an object with the functions of micro-kernels that an object of kernels expects; empty
    where it expects none."""
    called = [m for m in MICRO_KERNELS if any(symbol.startswith(f"{m.count}_") for symbol in symbols)]
    if not called:
        return ""
    return "\n".join([*_headers(called), ""])
