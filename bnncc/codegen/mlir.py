# SPDX-License-Identifier: Apache-2.0
"""From upstream MLIR to object code by the tools of LLVM: mlir-opt, mlir-translate, opt, llc."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.toolchain import llvm
from bnncc.toolchain.programs import Programs

ERROR_LINES = 10
SECONDS = 3600
"""What takes longer hangs: large networks are compiled in minutes."""
NAMES = ("mlir-opt", "mlir-translate", "opt", "llc")
OLDEST = 19
"""The oldest version that will do; older ones lack passes."""
INSTALL_HINT = "apt-get install mlir-19-tools llvm-19"
OTHER_BACKEND = "compile with --backend tvm, or leave it out"

SCHEDULED = ("transform-preload-library{transform-library-paths=SCHEDULE}", "transform-interpreter")
"""Applies the schedule in a file."""

BUFFERIZE = (
    "canonicalize",
    "cse",
    "linalg-fuse-elementwise-ops",
    "canonicalize",
    "cse",
    "one-shot-bufferize{bufferize-function-boundaries=1"
    " function-boundary-type-conversion=identity-layout-map allow-return-allocs-from-loops=1}",
)
"""From tensors to buffers. Loops may carry other buffers from step to step than they began with: fusion
undoes the copies into the memory of states where a reshape comes before them."""

COPIED_RESULTS = ("buffer-results-to-out-params{PUBLIC}",)
"""The results become arguments, which they are copied to."""

WRITTEN_RESULTS = ("buffer-results-to-out-params{hoist-static-allocs=1 PUBLIC}",)
"""The results are written there at once; MLIR 19 crashes where a function gives back an argument."""

PLAIN_FLOATS = ("arith-expand",)
"""A maximum that keeps NaN becomes comparisons: LLVM has no functions for it where there is no FPU."""

LOWERED = (
    "func.func(convert-linalg-to-loops,lower-vector-multi-reduction{lowering-strategy=inner-reduction}"
    ",convert-vector-to-scf{full-unroll=1})",
    "expand-strided-metadata",
    "lower-affine",
    "convert-scf-to-cf",
    "convert-vector-to-llvm",
    "convert-math-to-llvm",
    "convert-math-to-libm",
    "convert-arith-to-llvm{index-bitwidth=INDEX}",
    "convert-index-to-llvm{index-bitwidth=INDEX}",
    "finalize-memref-to-llvm{index-bitwidth=INDEX}",
    "convert-func-to-llvm{use-bare-ptr-memref-call-conv=1 index-bitwidth=INDEX}",
    "convert-cf-to-llvm{index-bitwidth=INDEX}",
    "convert-ub-to-llvm",
    "reconcile-unrealized-casts",
)
"""From buffers to LLVM: a function of bare pointers, arguments then results. INDEX: bits of an index."""

LIFETIMES = ("buffer-deallocation-pipeline",)
"""Frees buffers where their blocks end."""

STACK = (
    "func.func(promote-buffers-to-stack{max-alloc-size-in-bytes=16777216})",
    "buffer-deallocation-pipeline",
)
"""Intermediate buffers on the stack: for programs that have enough of it."""


MEMREF_COPY = re.compile(r"memref\.copy (%\S+), (%\S+) : (memref<.*>) to (memref<.*>)$", re.MULTILINE)


@dataclass(frozen=True)
class ObjectOptions:
    """What is compiled for: LLVM's triple, options that name the processor, whether there is no operating
    system. level: how much LLVM optimises, "3" unless there is none. has_vectors: whether loops are of
    vectors."""

    triple: str
    processor: tuple[str, ...] = ()
    is_bare: bool = False
    level: str = "3"
    has_vectors: bool = False

    @property
    def passes(self) -> tuple[str, ...]:
        """Options of `opt`. Without a C library loops must not become calls of memset."""
        return ("-passes=default<Os>", "-disable-simplify-libcalls") if self.is_bare else (f"-O{self.level}",)

    @property
    def code(self) -> tuple[str, ...]:
        """Options of `llc`."""
        if self.is_bare:
            return ("--relocation-model=static", "--function-sections", "--stack-size-section", *self._abi)
        return ("--relocation-model=pic", *self._abi)

    @property
    def index_bits(self) -> int:
        """How wide indices are: as pointers, but the places of vectors in memory always have 64 bits."""
        is_narrow = self.triple.startswith(("thumb", "arm", "riscv32")) and not self.has_vectors
        return 32 if is_narrow else 64

    @property
    def _abi(self) -> tuple[str, ...]:
        """RISC-V says in objects how floats are passed, which must be alike in all."""
        if not self.triple.startswith("riscv"):
            return ()
        return ("--target-abi=lp64d",) if self.triple.startswith("riscv64") else ("--target-abi=ilp32",)


@dataclass(frozen=True)
class Tools:
    """Paths of the four programs, of one version."""

    mlir_opt: str
    mlir_translate: str
    opt: str
    llc: str

    def convert(self, text: str, passes: Sequence[str], schedule: str = "") -> str:
        """A module after a pass pipeline; schedule: a transform-dialect module whose @__transform_main comes
        first. Raises BnnccError with the tool's own words."""
        public = "modify-public-functions=1" if self.has_public_option else ""
        with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
            path = Path(folder) / "schedule.mlir"
            path.write_text(schedule, encoding="utf-8")
            first = [step.replace("SCHEDULE", str(path)) for step in SCHEDULED] if schedule else []
            pipeline = ",".join([*first, *passes]).replace("PUBLIC", public)
            pipeline = pipeline.replace("{}", "").replace(" }", "}")
            return run((self.mlir_opt, f"--pass-pipeline=builtin.module({pipeline})"), text)

    @property
    def has_public_option(self) -> bool:
        """Whether public functions keep their results unless asked (MLIR 20 and newer)."""
        return "modify-public-functions" in help_text(self.mlir_opt)

    def compile(self, text: str, options: ObjectOptions, schedule: str = "") -> bytes:
        """An object file of a module in upstream dialects: its functions take pointers of their arguments,
        then of their results. schedule as for `convert`."""
        buffers = self.convert(text, (*BUFFERIZE, *COPIED_RESULTS, *STACK), schedule)
        return self.object_code(with_copies_as_loops(buffers), options)

    def object_code(self, buffers: str, options: ObjectOptions) -> bytes:
        """An object file of a module on buffers. Without a triple `opt` would know no target."""
        lowered = (*PLAIN_FLOATS, *LOWERED) if options.is_bare else LOWERED
        passes = [step.replace("INDEX", str(options.index_bits)) for step in lowered]
        llvm_dialect = self.convert(buffers, passes)
        target = (f"-mtriple={options.triple}", *options.processor)
        llvm_ir = run((self.mlir_translate, "--mlir-to-llvmir"), llvm_dialect)
        optimised = run((self.opt, "-S", *target, *options.passes), llvm_ir)
        with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
            path = Path(folder) / "module.o"
            run((self.llc, *target, *options.code, "-filetype=obj", "-o", str(path)), optimised)
            return path.read_bytes()


def with_copies_as_loops(buffers: str) -> str:
    """Of strided memory memref.copy would be a call of a library that not every MLIR comes with."""
    return MEMREF_COPY.sub(r"linalg.copy ins(\1 : \3) outs(\2 : \4)", buffers)


def find_tools() -> Tools:
    """The newest version whose four programs are all there. Raises BnnccError where there is none."""
    found = llvm.tools(NAMES, OLDEST)
    if not found:
        message = f"{', '.join(NAMES)} of LLVM {OLDEST} or newer were not found"
        raise BnnccError("--backend mlir", message, INSTALL_HINT, ExitCode.FAILURE)
    return Tools(*found)


@lru_cache
def help_text(program: str) -> str:
    """What it prints for --help."""
    return run((program, "--help"), "")


def run(command: Sequence[str], text: str) -> str:
    """What a program makes of a text. Raises BnnccError."""
    name = Path(command[0]).name
    try:
        done = Programs().run(command, Path.cwd(), os.environ, SECONDS, text)
    except subprocess.TimeoutExpired as error:
        message = f"{name} has not ended after {SECONDS / 60:.0f} minutes"
        raise BnnccError("--backend mlir", message, OTHER_BACKEND, ExitCode.FAILURE) from error
    except OSError as error:
        message = f"{command[0]} cannot be run: {error.strerror}"
        raise BnnccError("--backend mlir", message, INSTALL_HINT, ExitCode.FAILURE) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        first = next((i for i, line in enumerate(lines) if "error:" in line), 0)
        said = "\n  ".join(lines[first : first + ERROR_LINES])
        raise BnnccError("", f"{name} failed: {said}", "", ExitCode.FAILURE)
    return done.stdout
