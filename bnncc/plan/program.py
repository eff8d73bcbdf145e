# SPDX-License-Identifier: Apache-2.0
"""A whole network: buffers, steps in order, and the face that the user sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bnncc.plan.kernel import KernelSpec
from bnncc.plan.layout import Layout

Place = Literal["input", "output", "arena", "constant", "state", "part"]


@dataclass(frozen=True)
class Buffer:
    """A piece of memory.

    place: a parameter of the generated function ("input", "output"; `index` says which), the arena, the
    library's own constants (`data` holds the values: trained numbers that vary over the image), the state
    that the caller keeps between steps, or a "part" of buffer `base`, which in each trip of the loop around
    starts `stride` bytes after that of the trip before (0: always where the base starts).
    """

    name: str
    bytes: int
    place: Place
    index: int = 0
    data: np.ndarray | None = field(default=None, compare=False)
    base: int = -1
    stride: int = 0


@dataclass(frozen=True)
class Spikes:
    """Output `output` of a step is what a layer of neurons fires. name: of the ONNX node that decides it."""

    output: int
    name: str


@dataclass(frozen=True)
class Density:
    """How many bits of an input are set on average, counted on samples or assumed."""

    bits: float
    measured: bool


@dataclass(frozen=True)
class Step:
    """One call of a kernel.

    reads: buffer of each input and operand of the spec, in order; writes: of each output (of the target
    for FillHalo). constants: the numbers, in the order and canonical form of spec.constants.
    when_zero: the kernel to take when a bit of a mask (`when_zero.mask`) is 0; `kernel` is the faster one,
    taken when all are 1. Of a layer whose activation may hold exact zeros (sign(0) = 0), that masks them; of
    one whose activation may be spikes or not, the dense one.
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
    """Arena buffer that the kernel may use as it likes, where it asks for one (`arena.with_scratch`); each of
    the threads that share the kernel may have a part of it."""
    spikes: tuple[Spikes, ...] = ()
    """Which outputs are spikes of neurons."""
    density: Density | None = None
    """Of the input of a contraction of spikes."""

    @property
    def synaptic_operations(self) -> int | None:
        """Additions of a weight for a spike, on average; None for a step that sums no spikes."""
        return None if self.density is None else round(self.macs * self.density.bits)


@dataclass(frozen=True)
class Alternative:
    """A kernel that takes any input, of the same outputs and constants as the Step. One that masks zeros
    reads the mask, too."""

    kernel: KernelSpec
    reads: tuple[int, ...]
    mask: int
    """The buffer of the mask."""
    mask_layout: Layout


@dataclass(frozen=True)
class Port:
    """An input or output of the network as the user sees it: ONNX name, C name, ONNX shape, dtype."""

    name: str
    c_name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int
    optional: bool = False
    """An output that the caller may do without: a state, which comes back from every step."""
    count: str = ""
    """The name of the input that says how many elements along the first dimension of this output the network
    makes; those after them are 0."""
    most: int | None = None
    """Of an input that says how often a loop runs: the most that it may say, 0 where there is no limit."""
    spikes: tuple[int, ...] = ()
    """The shape of the ONNX tensor whose spikes this input holds as packed words, channels last."""

    @property
    def channels(self) -> int:
        """Of packed spikes; 0 for any other port."""
        return self.spikes[1] if self.spikes else 0


@dataclass(frozen=True)
class State:
    """A tensor that the caller keeps between steps, in the state memory; zero bytes before the first step.

    port: of the state before a step, by its ONNX input name; its C name is no parameter. output: the ONNX
    name of the state after a step. layout: where in the buffer the elements of the ONNX tensor lie."""

    port: Port
    output: str
    layout: Layout


@dataclass(frozen=True)
class Ring:
    """States of which each takes over what the one before it was, without a copy: the place of slot i is
    first + (position + i) mod slots, and every step moves the position on by one.

    slots: buffers in the state, oldest first, one after the other and of one size; the newest value is
    written over the oldest one. position: a buffer in the state of one uint32 (0 after a reset, when the
    slots lie where the offsets of the program say)."""

    slots: tuple[int, ...]
    position: int


@dataclass(frozen=True)
class TimeLoop:
    """The steps `first` to `last`, both included, run `trips` times one after the other; where `count` is
    given, as often as that input of one int64 says, at most `trips` times (0: any number)."""

    first: int
    last: int
    trips: int
    count: int | None = None

    def __contains__(self, step: object) -> bool:
        return isinstance(step, int) and self.first <= step <= self.last


@dataclass(frozen=True)
class Program:
    """The network as buffers and steps; `offsets` places the buffers of the arena and of the state (bytes,
    64-aligned). With `states` it is one step of a network, called again and again."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    offsets: dict[int, int]
    arena_bytes: int
    arena_lower_bound: int
    states: tuple[State, ...] = ()
    state_bytes: int = 0
    loops: tuple[TimeLoop, ...] = ()
    events: int | None = None
    """The buffer in the state memory where the events of a step become packed spikes, if that is wanted."""

    rings: tuple[Ring, ...] = ()

    def ring_of(self, buffer: int) -> Ring | None:
        """The ring that a state is a slot of, if it is one."""
        return next((ring for ring in self.rings if buffer in ring.slots), None)

    def whole(self, buffer: int) -> int:
        """The buffer that a part is of, or the buffer itself."""
        return whole(self.buffers, buffer)


def whole(buffers: Sequence[Buffer], index: int) -> int:
    """The buffer that a part is of, or the buffer itself."""
    while buffers[index].place == "part":
        index = buffers[index].base
    return index
