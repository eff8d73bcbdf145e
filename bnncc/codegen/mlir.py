# SPDX-License-Identifier: Apache-2.0
"""From upstream MLIR to object code by the tools of LLVM: mlir-opt, mlir-translate, opt, llc."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bnncc.diagnostics import BnnccError, ExitCode

NAMES = ("mlir-opt", "mlir-translate", "opt", "llc")
OLDEST, NEWEST = 19, 30
"""Versions of LLVM that are looked for, newest first; older ones lack passes."""
INSTALL_HINT = "apt-get install mlir-19-tools llvm-19"

BUFFERIZE = (
    "canonicalize",
    "cse",
    "linalg-fuse-elementwise-ops",
    "canonicalize",
    "cse",
    "one-shot-bufferize{bufferize-function-boundaries=1"
    " function-boundary-type-conversion=identity-layout-map}",
    "buffer-results-to-out-params{PUBLIC}",
)
"""From tensors to buffers: the results become arguments."""

LOOPS = (
    "func.func(convert-linalg-to-loops,convert-vector-to-scf{full-unroll=1})",
    "expand-strided-metadata",
    "lower-affine",
    "convert-scf-to-cf",
    "convert-vector-to-llvm",
    "convert-math-to-llvm",
    "convert-math-to-libm",
    "convert-arith-to-llvm",
    "convert-index-to-llvm",
    "finalize-memref-to-llvm",
    "convert-func-to-llvm{use-bare-ptr-memref-call-conv=1}",
    "convert-cf-to-llvm",
    "convert-ub-to-llvm",
    "reconcile-unrealized-casts",
)
"""From buffers to LLVM: a function of bare pointers, arguments then results."""

STACK = (
    "func.func(promote-buffers-to-stack{max-alloc-size-in-bytes=16777216})",
    "buffer-deallocation-pipeline",
)
"""Intermediate buffers on the stack: for programs that have enough of it."""


MEMREF_COPY = re.compile(r"memref\.copy (%\S+), (%\S+) : (memref<.*>) to (memref<.*>)$", re.MULTILINE)


@dataclass(frozen=True)
class Tools:
    """Paths of the four programs, of one version."""

    mlir_opt: str
    mlir_translate: str
    opt: str
    llc: str

    def convert(self, text: str, passes: Sequence[str], before: str = "") -> str:
        """A module after a pass pipeline. Raises BnnccError with the tool's own words."""
        public = "modify-public-functions=1" if self.has_public_option else ""
        pipeline = ",".join([*([before] if before else []), *passes])
        pipeline = pipeline.replace("{PUBLIC}", f"{{{public}}}" if public else "")
        return run((self.mlir_opt, f"--pass-pipeline=builtin.module({pipeline})"), text)

    @property
    def has_public_option(self) -> bool:
        """Whether public functions keep their results unless asked (MLIR 20 and newer)."""
        return "modify-public-functions" in help_text(self.mlir_opt)

    def compile(self, text: str, triple: str, options: Sequence[str] = ("-O3",), before: str = "") -> bytes:
        """An object file of a module in upstream dialects: its functions take pointers of their arguments,
        then of their results. before: a pass to run first."""
        buffers = self.convert(text, (*BUFFERIZE, *STACK), before)
        # Of strided memory memref.copy would be a call of a library that not every MLIR comes with.
        copied = MEMREF_COPY.sub(r"linalg.copy ins(\1 : \3) outs(\2 : \4)", buffers)
        return self.object_code(self.convert(copied, LOOPS), triple, options)

    def object_code(self, llvm_dialect: str, triple: str, options: Sequence[str]) -> bytes:
        """An object file of a module in the LLVM dialect. Without a triple `opt` would know no target."""
        target = (f"-mtriple={triple}", *options)
        llvm = run((self.mlir_translate, "--mlir-to-llvmir"), llvm_dialect)
        optimised = run((self.opt, "-S", *target), llvm)
        with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
            path = Path(folder) / "module.o"
            command = (self.llc, *target, "--relocation-model=pic", "-filetype=obj", "-o", str(path))
            run(command, optimised)
            return path.read_bytes()


def find_tools() -> Tools:
    """The newest version whose four programs are all there. Raises BnnccError where there is none."""
    for suffix in ("", *(f"-{version}" for version in range(NEWEST, OLDEST - 1, -1))):
        found = [shutil.which(name + suffix) for name in NAMES]
        if all(found) and version_of(str(found[0])) >= OLDEST:
            return Tools(*map(str, found))
    message = f"{', '.join(NAMES)} of LLVM {OLDEST} or newer were not found"
    raise BnnccError("--backend mlir", message, INSTALL_HINT, ExitCode.FAILURE)


@lru_cache
def version_of(program: str) -> int:
    """The major version of one of LLVM's programs, 0 if it does not say."""
    found = re.search(r"LLVM version (\d+)", run((program, "--version"), ""))
    return int(found[1]) if found else 0


@lru_cache
def help_text(program: str) -> str:
    """What it prints for --help."""
    return run((program, "--help"), "")


def run(command: Sequence[str], text: str) -> str:
    """What a program makes of a text. Raises BnnccError."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n  ".join(done.stderr.strip().splitlines()[:10])
        raise BnnccError("", f"{Path(command[0]).name} failed: {said}", "", ExitCode.FAILURE)
    return done.stdout
