# SPDX-License-Identifier: Apache-2.0
"""What a template hands back: a function, its parameters, and how its constants are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import tvm

from bnncc.plan.c_values import Pointer
from bnncc.plan.kernel import KernelSpec

TileParameters = Mapping[str, int]
"""Tile parameters of a template by name; which there are is the template's business."""

Pack = Callable[[tuple[np.ndarray, ...]], tuple[np.ndarray, ...]]
"""Constants of a Step in canonical form -> one array per constant parameter of the kernel."""


@dataclass(frozen=True)
class Parameter(Pointer):
    """One pointer parameter of a kernel.

    dtype: what the code reads or writes through it (NumPy's name). It may be finer than `c_type`: packed
    bits are uint32_t words to the caller, a vector kernel may write them bytewise. extent: elements of dtype.
    """

    name: str
    dtype: str
    extent: int
    is_const: bool
    c_type: str
    doc: str


@dataclass(frozen=True)
class Kernel:
    """A compiled-to-be function `void symbol(parameters...)`.

    Parameters: the root's inputs, the operands, the constants in the template's stored form (`pack` makes
    them), the outputs. schedule: the tile that was chosen. description: one line for the report.
    """

    symbol: str
    spec: KernelSpec
    function: tvm.tirx.PrimFunc
    parameters: tuple[Parameter, ...]
    pack: Pack
    schedule: TileParameters = field(default_factory=dict)
    description: str = ""
    scratch_bytes: int = 0
    """Of the last parameter, memory that the caller lends for the call; 0 where there is none."""
    scratch_of_tile: bool = False
    """Whether each tile of outputs fills what it reads of the scratch memory. Then threads may share the
    kernel, each with memory of its own."""
    pieces: int = 1
    """Pieces that threads may compute at the same time, at most. Where it is above 1 the function takes four
    int32 more, after the pointers: the first piece, the one after the last, of how many (any number), and
    which stage (see `parts`)."""
    stages: int = 1
    """One after the other: all pieces of one come before the next."""
