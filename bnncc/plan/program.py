# SPDX-License-Identifier: Apache-2.0
"""A whole network: buffers, steps in order, and the face that the user sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bnncc.plan.kernel import KernelSpec

Place = Literal["input", "output", "arena", "constant"]


@dataclass(frozen=True)
class Buffer:
    """A piece of memory.

    place: a parameter of the generated function ("input", "output"; `index` says which), the arena, or
    the library's own constants (`data` holds the values: trained numbers that vary over the image).
    """

    name: str
    bytes: int
    place: Place
    index: int = 0
    data: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Step:
    """One call of a kernel.

    reads: buffer of each input and operand of the spec, in order; writes: of each output (of the target
    for FillHalo). constants: the numbers, in the order and canonical form of spec.constants.
    when_zero: for a layer whose activation may hold exact zeros (sign(0) = 0) the masked kernel to take when
    it does; `kernel` is the plain one, taken when the mask plane (`when_zero.mask`) is all ones inside.
    location: the ONNX node(s) behind it. operation, domains, macs: for the report.
    """

    name: str
    kernel: KernelSpec
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    constants: tuple[np.ndarray, ...] = field(default=(), compare=False)
    when_zero: Alternative | None = None
    location: str = ""
    operation: str = ""
    domains: str = ""
    macs: int = 0
    note: str = ""
    scratch: int | None = None
    """Arena buffer that the kernel may use as it likes, where it asks for one (`arena.with_scratch`)."""


@dataclass(frozen=True)
class Alternative:
    """The masked kernel of a layer whose activation may hold exact zeros: the same outputs and constants
    as the Step, one more read, the mask plane."""

    kernel: KernelSpec
    reads: tuple[int, ...]
    mask: int
    """The buffer of the mask plane; its layout is `kernel.root.mask`."""


@dataclass(frozen=True)
class Port:
    """An input or output of the network as the user sees it: ONNX name, C name, ONNX shape, dtype."""

    name: str
    c_name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int


@dataclass(frozen=True)
class Program:
    """The network as buffers and steps; `offsets` places the arena's buffers (bytes, 64-aligned)."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    offsets: dict[int, int]
    arena_bytes: int
    arena_lower_bound: int
