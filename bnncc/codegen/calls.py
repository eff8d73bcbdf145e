# SPDX-License-Identifier: Apache-2.0
"""A program with its kernels and weights: which kernel every step calls, and with which C arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bnncc.codegen import stateful, threads
from bnncc.codegen.text import in_comment, port_type, wrapped
from bnncc.codegen.weights import WeightPool, Weights
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.memory import aligned
from bnncc.plan.program import Buffer, Program, Step


class ParameterFacts(Protocol):
    """What the entry needs of a kernel's parameter."""

    @property
    def c_type(self) -> str:
        """What the pointer points to."""
        ...

    @property
    def is_const(self) -> bool:
        """Whether the kernel only reads it."""
        ...

    @property
    def declaration(self) -> str:
        """As in a C prototype."""
        ...

    @property
    def doc(self) -> str:
        """What lies there, for a comment."""
        ...


class KernelFacts(Protocol):
    """What the entry needs of a `bnncc.kernels.kernel.Kernel`."""

    @property
    def symbol(self) -> str:
        """The function's name, without the library's."""
        ...

    @property
    def parameters(self) -> Sequence[ParameterFacts]:
        """Inputs, operands, constants, outputs."""
        ...

    @property
    def function(self) -> object:
        """The code before compilation; printed by `--emit tir`."""
        ...

    @property
    def schedule(self) -> Mapping[str, int]:
        """The tile parameters."""
        ...

    @property
    def description(self) -> str:
        """One line for the report."""
        ...

    @property
    def scratch_bytes(self) -> int:
        """Of memory lent for the call; to each thread where threads share the kernel and it has one stage."""
        ...

    @property
    def pieces(self) -> int:
        """Parts that threads may compute at the same time; above 1 there are four parameters more."""
        ...

    @property
    def stages(self) -> int:
        """All pieces of a stage come before the next one."""
        ...

    def pack(self, constants: tuple[np.ndarray, ...], /) -> tuple[np.ndarray, ...]:
        """The stored form of a step's constants."""
        ...


Kernels = Mapping[KernelSpec, KernelFacts]
"""One kernel for every KernelSpec of the program."""


@dataclass(frozen=True)
class Call:
    """One call of a kernel: its C arguments, and the weights among them."""

    symbol: str
    arguments: tuple[str, ...]
    weights: tuple[Weights, ...]
    is_divided: bool = False
    """Whether the kernel wants to be told which pieces it computes."""
    pieces: int = 1
    """How many threads share; 1 where they do not."""
    stages: int = 1
    """All pieces of a stage come before the next one."""
    own_scratch: int = 0
    """Bytes of scratch memory that each thread has of its own."""

    def text(self, indent: int, pieces: tuple[str, str, str, str] = ("0", "1", "1", "2")) -> str:
        """The statement, its first line to stand at column `indent`; pieces: the first, the one after the
        last, of how many, which stage (2: all)."""
        arguments = (*self.arguments, *(pieces if self.is_divided else ()))
        return f"{wrapped(self.symbol, arguments, indent)};"


@dataclass(frozen=True)
class StepCalls:
    """What one step does: `plain`, or `masked` instead where the mask plane has a zero."""

    plain: Call
    masked: Call | None = None

    @property
    def weights(self) -> tuple[Weights, ...]:
        """All arrays that the step refers to."""
        return self.plain.weights + (self.masked.weights if self.masked else ())


@dataclass(frozen=True)
class Network:
    """A program with its kernels chosen and its weights stored: all that the generated files tell."""

    program: Program
    kernels: Kernels
    pool: WeightPool
    calls: tuple[StepCalls, ...]
    threads: int = 1
    """That a run uses, the caller's among them."""

    @property
    def distinct_kernels(self) -> tuple[KernelFacts, ...]:
        """Each kernel once, in the order of first use."""
        specs: dict[KernelSpec, None] = {}
        for step in self.program.steps:
            specs[step.kernel] = None
            if step.when_zero:
                specs[step.when_zero.kernel] = None
        by_symbol = {self.kernels[spec].symbol: self.kernels[spec] for spec in specs}
        return tuple(by_symbol.values())


def connect(program: Program, kernels: Kernels, threads: int = 1) -> Network:
    """Store the weights in each kernel's form and write down every call. threads: that share large steps."""
    pool = WeightPool(program.name)
    wanted = {program.whole(index) for step in program.steps for index in _all_reads(step)}
    stored = {
        index: pool.add(buffer.data, in_comment(buffer.name))
        for index, buffer in enumerate(program.buffers)
        if buffer.place == "constant" and buffer.data is not None and index in wanted
    }
    calls = tuple(_step_calls(program, kernels, pool, stored, step, threads) for step in program.steps)
    return Network(program, kernels, pool, calls, threads)


def scratch_bytes(program: Program, step: Step, kernel: KernelFacts, number_of_threads: int) -> int:
    """Of all the memory that is lent for a step, where this is its kernel."""
    pieces = threads.pieces(program, step, kernel.pieces, number_of_threads)
    return number_of_threads * _own_scratch(kernel, pieces) or kernel.scratch_bytes


def _own_scratch(kernel: KernelFacts, pieces: int) -> int:
    """Bytes of scratch memory that each thread has of its own, whole cache lines; 0 where all have one,
    as in kernels of two stages, where all read what all wrote."""
    return aligned(kernel.scratch_bytes) if pieces > 1 and kernel.stages == 1 else 0


def _all_reads(step: Step) -> tuple[int, ...]:
    return (*step.reads, *(step.when_zero.reads if step.when_zero else ()))


def _step_calls(
    program: Program,
    kernels: Kernels,
    pool: WeightPool,
    stored: Mapping[int, Weights],
    step: Step,
    number_of_threads: int,
) -> StepCalls:
    def call(spec: KernelSpec, reads: tuple[int, ...]) -> Call:
        kernel = kernels[spec]
        first = len(reads)
        packed = [
            pool.add(array, f"{comment(step)}: {in_comment(parameter.doc)}")
            for array, parameter in zip(kernel.pack(step.constants), kernel.parameters[first:], strict=False)
        ]
        pieces = threads.pieces(program, step, kernel.pieces, number_of_threads)
        own_scratch = _own_scratch(kernel, pieces)
        addresses = [
            *(_address(program, stored, index) for index in reads),
            *(Address(weights.symbol, weights.c_type) for weights in packed),
            *(_address(program, stored, index) for index in step.writes),
            *_scratch_address(program, step, kernel, own_scratch),
        ]
        assert len(addresses) == len(kernel.parameters), (kernel.symbol, addresses)
        arguments = tuple(a.passed_to(p) for a, p in zip(addresses, kernel.parameters, strict=True))
        constants = tuple(stored[index] for index in reads if index in stored)
        symbol = f"{program.name}_{kernel.symbol}"
        weights = (*packed, *constants)
        return Call(symbol, arguments, weights, kernel.pieces > 1, pieces, kernel.stages, own_scratch)

    plain = call(step.kernel, step.reads)
    if step.when_zero is None:
        return StepCalls(plain)
    return StepCalls(plain, call(step.when_zero.kernel, step.when_zero.reads))


@dataclass(frozen=True)
class Address:
    """Where an argument lies, as a C expression, and what lies there ("void" converts by itself)."""

    expression: str
    c_type: str

    def passed_to(self, parameter: ParameterFacts) -> str:
        """The expression, converted to the parameter's type where the two differ."""
        if self.c_type in ("void", parameter.c_type):
            return self.expression
        const = "const " if parameter.is_const else ""
        return f"({const}{parameter.c_type} *)({const}void *){self.expression}"


def _address(program: Program, stored: Mapping[int, Weights], index: int) -> Address:
    buffer = program.buffers[index]
    match buffer.place:
        case "part":
            return _part(program, _address(program, stored, buffer.base), buffer)
        case "state":
            return Address(f"(void *)(memory->state + {stateful.place(program, index)})", "void")
        case "arena":
            return Address(f"(void *)(memory->arena + {program.offsets[index]})", "void")
        case "input":
            port = program.inputs[buffer.index]
            return Address(f"memory->{port.c_name}", port_type(port))
        case "output":
            port = program.outputs[buffer.index]
            return Address(f"memory->{port.c_name}", port_type(port))
        case "constant":
            return Address(stored[index].symbol, stored[index].c_type)


def _scratch_address(program: Program, step: Step, kernel: KernelFacts, own: int) -> tuple[Address, ...]:
    """Where the memory lies that is lent for a step, if any. own: bytes of each thread, of which `thread`
    computes a piece."""
    if step.scratch is None or not kernel.scratch_bytes:
        return ()
    place = f"memory->arena + {program.offsets[step.scratch]}"
    place += f" + (size_t)thread * {own}" if own else ""
    return (Address(f"(void *)({place})", "void"),)


def _part(program: Program, base: Address, buffer: Buffer) -> Address:
    """Where the part of a buffer lies in this trip of the loop."""
    if buffer.stride == 0:
        return base
    read_only = program.buffers[program.whole(buffer.base)].place in ("input", "constant")
    const = "const " if read_only else ""
    start = f"({const}unsigned char *){base.expression}"
    return Address(f"({const}void *)({start} + memory->time_ * {buffer.stride})", "void")


def comment(step: Step) -> str:
    """What a step does, and for which node."""
    about = f"{step.operation} ({step.domains})" if step.domains else step.operation
    return in_comment(": ".join(part for part in (step.location or step.name, about) if part))
