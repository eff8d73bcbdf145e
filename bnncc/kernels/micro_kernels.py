# SPDX-License-Identifier: Apache-2.0
"""Micro-kernels in C: what they are called, and how they want weights.

Each is a header of `runtime/src`, whose text becomes part of generated C wherever a kernel calls one of its
functions, all of them `static`: so two libraries in one program do not meet. Of a micro-kernel named NAME,
with P 1, 2 or 4 rows, these are:

    void NAME_P(const void *rows, size_t stride, size_t bytes, const void *weight, size_t next,
                size_t channels, int32_t *sums, size_t pitch)
        sums[pitch * channel + p] += the bits in which row p and the channel's row of weights differ
    uint32_t NAME_compare(const int32_t *sums, size_t pitch, const int32_t *limits, size_t channels)
        the bits sums[pitch * channel] <= limits[channel]
    void NAME_clear(int32_t *sums, size_t count)
    void NAME_copy(void *to, const void *from, size_t bytes)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnncc import runtime
from bnncc.kernels.binary_plan import BinaryPlan
from bnncc.kernels.isa import Isa


@dataclass(frozen=True)
class MicroKernel:
    """One header: `<name>.h` without `bnncc_`. feature: of LLVM, without which it does not compile."""

    name: str
    feature: str
    description: str

    @property
    def count(self) -> str:
        """The function that counts, but for the number of rows."""
        return f"bnncc_{self.name}"

    @property
    def compare(self) -> str:
        """The function that compares sums."""
        return f"bnncc_{self.name}_compare"

    @property
    def clear(self) -> str:
        """The function that sets sums to zero."""
        return f"bnncc_{self.name}_clear"

    @property
    def copy(self) -> str:
        """The function that copies bytes."""
        return f"bnncc_{self.name}_copy"

    @property
    def source(self) -> str:
        """Its C text."""
        return runtime.source_text(f"{self.name}.h")

    def weight_doc(self, planes: int, steps: int) -> str:
        """How weights are stored."""
        return f"weight bits [channels][{planes}][{steps}]"

    def stored(self, words: np.ndarray) -> np.ndarray:
        """Words [channels, planes, steps] as the micro-kernel reads them."""
        return words.reshape(-1)

    def plane_start(self, plane: int, plan: BinaryPlan) -> int:
        """Where a plane starts, in words from the start of a channel."""
        return plane * plan.steps


MICRO_KERNELS = (MicroKernel("riscv_masks", "+v", "bits counted in mask registers"),)


def of_isa(isa: Isa) -> MicroKernel | None:
    """The micro-kernel for an instruction set, if there is one."""
    return next((micro for micro in MICRO_KERNELS if micro.feature in isa.features), None)


def sources(text: str) -> list[str]:
    """The C text of the micro-kernels that `text` calls."""
    return [micro.source for micro in MICRO_KERNELS if f"{micro.count}_" in text]
