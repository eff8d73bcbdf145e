# SPDX-License-Identifier: Apache-2.0
"""Which kernel computes a binary layer."""

from __future__ import annotations

from bnncc.kernels import binary_conv, binary_rows
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import Kernel, TileParameters
from bnncc.plan.kernel import KernelSpec


def make(spec: KernelSpec, isa: Isa, schedule: TileParameters | None = None) -> Kernel:
    """The kernel of `spec`, whose root is a BinaryConv; schedule: tile parameters of the template."""
    if binary_rows.supports(spec, isa):
        return binary_rows.make(spec, isa, schedule)
    return binary_conv.make(spec, isa, schedule)
