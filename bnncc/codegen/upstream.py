# SPDX-License-Identifier: Apache-2.0
"""`--backend mlir`: kernels that are functions of upstream MLIR, compiled by LLVM's own tools."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bnncc.codegen import mlir
from bnncc.codegen.buffers import without_allocations
from bnncc.diagnostics import BnnccError
from bnncc.plan.c_values import C_TYPES, Pointer
from bnncc.plan.kernel import KernelSpec, Upstream
from bnncc.plan.layout import Layout
from bnncc.plan.program import Program
from bnncc.plan.tiling import Machine, schedule_text
from bnncc.targets import Target
from bnncc.toolchain import elf

LLVM_FEATURES = {"-vfp4d16sp": "-fpregs", "+mve_fp": "+mve.fp"}
"""Features that LLVM and zig spell differently; zig takes away what depends on one, too."""


@dataclass(frozen=True)
class Parameter(Pointer):
    """One pointer parameter of a kernel."""

    name: str
    c_type: str
    is_const: bool
    doc: str


@dataclass(frozen=True)
class UpstreamKernel:
    """`void symbol(inputs, constants, outputs, scratch)`; `function` is its text in upstream MLIR."""

    symbol: str
    spec: KernelSpec
    function: str
    parameters: tuple[Parameter, ...]
    scratch_bytes: int
    pieces: int = 1
    stages: int = 1
    description: str = "by mlir-opt and LLVM"
    schedule: Mapping[str, int] = field(default_factory=dict)

    def pack(self, constants: tuple[np.ndarray, ...], /) -> tuple[np.ndarray, ...]:
        """The stored form of a step's constants: as they are, but in types that C has."""
        return tuple(map(_stored, constants))


class UpstreamBackend:
    """Makes and compiles the kernels of a program of `lower_upstream`; a `codegen.package.Backend`.

    All functions of a program go through the tools together."""

    def __init__(self, program: Program):
        """Raises BnnccError where LLVM's tools are missing."""
        self.tools = mlir.find_tools()
        specs = dict.fromkeys(step.kernel for step in program.steps)
        self.symbols = {spec: symbol_of(spec) for spec in specs}
        self._buffers: dict[bool, tuple[str, dict[str, int]]] = {}

    def make_kernel(
        self, spec: KernelSpec, target: Target, schedule: Any = None, *, goal: Any = None
    ) -> UpstreamKernel:
        """The kernel of a specification; there is one way to make it, whatever the goal."""
        del goal
        assert isinstance(spec.root, Upstream)
        symbol = self.symbols[spec]
        size = self._bufferized(target)[1][symbol]
        parameters = [_parameter(f"x{i}", layout, True) for i, layout in enumerate(spec.inputs)]
        parameters += [
            Parameter(
                f"c{i}", C_TYPES[constant.element.dtype], True, f"trained numbers {list(constant.shape)}"
            )
            for i, constant in enumerate(spec.constants)
        ]
        parameters += [_parameter(f"y{i}", output.layout, False) for i, output in enumerate(spec.outputs)]
        if size:
            parameters.append(Parameter("scratch", "uint8_t", False, "memory for intermediate results"))
        return UpstreamKernel(symbol, spec, spec.root.text, tuple(parameters), size)

    def divided(self, kernel: UpstreamKernel, threads: int) -> UpstreamKernel:
        """Not: MLIR's loops are its own."""
        del threads
        return kernel

    def compile_object(self, kernels: Sequence[UpstreamKernel], prefix: str, target: Target) -> bytes:
        """An object file that defines `<prefix>_<symbol>` of every kernel, hidden."""
        text = self._bufferized(target)[0]
        for kernel in kernels:
            text = re.sub(rf"@{kernel.symbol}\b", f"@{prefix}_{kernel.symbol}", text)
        return elf.hide_symbols(self.tools.object_code(text, options_of(target)))

    def micro_kernel_source(self, code: bytes, prefix: str) -> str:
        """Nothing is called that no C library has."""
        del code, prefix
        return ""

    def compile_c(self, kernels: Any, prefix: str, target: Target) -> str:
        """MLIR's C is none of ours."""
        del kernels, prefix, target
        raise BnnccError(
            "--backend mlir", "no C text can be made", "--backend tvm writes --emit c and packages"
        )

    def _bufferized(self, target: Target) -> tuple[str, dict[str, int]]:
        """All functions on buffers, and what scratch memory each needs."""
        share = target.is_bare
        if share not in self._buffers:
            passes = (*mlir.BUFFERIZE, *mlir.WRITTEN_RESULTS, *mlir.LIFETIMES)
            buffers = self.tools.convert(module_of(self.symbols), passes, self._schedule(target))
            self._buffers[share] = without_allocations(mlir.with_copies_as_loops(buffers), share)
        return self._buffers[share]

    def _schedule(self, target: Target) -> str:
        """The transform-dialect schedule of all functions; none for processors without vectors."""
        machine = Machine.of(target.architecture, target.vector_bits)
        roots = [spec.root for spec in self.symbols if isinstance(spec.root, Upstream)]
        parts = [part for root in roots for part in root.parts]
        return schedule_text(parts, machine) if parts and machine.has_vectors else ""


def symbol_of(spec: KernelSpec) -> str:
    """A kernel's name: what it does, and a hash that tells it from others."""
    assert isinstance(spec.root, Upstream)
    word = re.sub(r"\W+", "_", spec.root.operation)
    return f"mlir_{word}_{hashlib.sha256(spec.root.text.encode()).hexdigest()[:8]}"


def module_of(symbols: Mapping[KernelSpec, str]) -> str:
    """One module of the functions of all specifications."""
    functions = []
    for spec, symbol in symbols.items():
        assert isinstance(spec.root, Upstream)
        lines = spec.root.text.strip().splitlines()[1:-1]
        functions += ["\n".join(lines).replace("@kernel(", f"@{symbol}(", 1)]
    return "module {\n" + "\n".join(functions) + "\n}\n"


def object_target(target: Target) -> Target:
    """The target as one whose kernels are objects by LLVM. Raises BnnccError for portable C."""
    if target.kind == "llvm":
        return target
    if not target.triple:
        message = f"'{target.name}' is C, which the tools of LLVM do not write"
        raise BnnccError("--backend mlir", message, "choose a processor by --target")
    processor, *features = re.split(r"(?=[+-])", target.zig_cpu)
    return replace(
        target,
        kind="llvm",
        # Which says how floats are passed, too.
        triple=target.zig_target.replace("freestanding", "none") if target.is_bare else target.triple,
        mcpu=processor.replace("_", "-"),
        features=tuple(LLVM_FEATURES.get(feature, feature) for feature in features),
    )


def check_choice(emit: Sequence[str], package: str | None) -> None:
    """Raise BnnccError for files that this back end does not write."""
    for option, is_chosen in (
        ("--emit c", "c" in emit),
        ("--emit tir", "tir" in emit),
        ("--package", package),
    ):
        if is_chosen:
            raise BnnccError(option, "--backend mlir writes objects only", "--backend tvm, or leave it out")


def options_of(target: Target) -> mlir.ObjectOptions:
    """How LLVM compiles for a target."""
    triple = target.triple or f"{target.architecture or platform.machine()}-unknown-linux-gnu"
    processor = [f"-mcpu={target.mcpu}"] if target.mcpu else []
    features = [f"-mattr={','.join(target.features)}"] if target.features else []
    machine = Machine.of(target.architecture, target.vector_bits)
    return mlir.ObjectOptions(
        triple, (*processor, *features), target.is_bare, has_vectors=machine.has_vectors
    )


def _parameter(name: str, layout: Layout, is_const: bool) -> Parameter:
    doc = f"{layout.element.value} {list(layout.shape)}"
    return Parameter(name, C_TYPES[layout.element.dtype], is_const, doc)


def _stored(array: np.ndarray) -> np.ndarray:
    replaced = {"bool": np.uint8, "float16": np.uint16}.get(array.dtype.name)
    return array if replaced is None else array.view(replaced)
