# SPDX-License-Identifier: Apache-2.0
"""From a Program and its kernels to the artifact's files, all of them or none."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import bnncc
from bnncc import runtime, targets
from bnncc.codegen import entry, threads
from bnncc.codegen.calls import KernelFacts, Kernels, Network, connect, scratch_bytes
from bnncc.codegen.ecosystems import PACKAGES, Parts, package_files
from bnncc.codegen.header import header_text
from bnncc.codegen.manifest import Manifest, list_files, make_manifest, manifest_text
from bnncc.codegen.output import replacing
from bnncc.codegen.selftest import Vectors, selftest_file
from bnncc.codegen.text import in_comment, with_short_names
from bnncc.diagnostics import BnnccError, joined
from bnncc.execution import artifact
from bnncc.plan import arena
from bnncc.plan.budget import Budgets, FlashSizes, check_flash, check_ram
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.names import check_library_name
from bnncc.plan.program import Program, Step
from bnncc.targets import Target
from bnncc.toolchain import c_compiler, elf
from bnncc.toolchain.c_compiler import Toolchain

EMITTABLE = ("lib", "so", "c", "selftest", "mlir", "linalg", "transform", "tir")
"""lib: static library; so: shared library that `run` loads (for another processor: an archive that it
links for the emulator); c: one portable C99 file; selftest: golden vectors in C; mlir: the network before
lowering; linalg: the same in upstream MLIR; transform: a
schedule for that; tir: the kernels. Header, manifest and reports are always
written."""

MODULES = {"mlir": ".mlir", "linalg": ".linalg.mlir", "transform": ".transform.mlir"}
"""How files end that hold the network as a module, by kind."""


class Backend(Protocol):
    """Who makes kernels and compiles them: `bnncc.kernels.build`, or a stand-in of a test.

    `kernels` are ones that `make_kernel` of the same backend returned."""

    def make_kernel(
        self,
        spec: KernelSpec,
        target: Target,
        schedule: Mapping[str, int] | None = None,
        *,
        goal: Literal["size", "speed"] | None = None,
    ) -> KernelFacts:
        """The kernel of a specification; schedule: its tile parameters, if not the default; goal: what
        matters most."""
        ...

    def compile_object(self, kernels: Any, prefix: str, target: Target) -> bytes:
        """An object file that defines `<prefix>_<symbol>` of every kernel."""
        ...

    def micro_kernel_source(self, code: bytes, prefix: str) -> str:
        """C text of what such an object calls that no C library has; empty, if nothing."""
        ...

    def compile_c(self, kernels: Any, prefix: str, target: Target) -> str:
        """C99 text that defines them as static functions; `target` is of kind "c"."""
        ...

    def divided(self, kernel: Any, threads: int) -> KernelFacts:
        """The kernel so that so many threads can share it, where that is possible."""
        ...


@dataclass(frozen=True)
class EmitOptions:
    """How the artifact is written.

    source: the model's file name without folders. emit: which files (EMITTABLE). compiler: the C compiler
    command, or None to search. chosen: the user's options as the header and the manifest tell them.
    optimize: what portable kernels are compiled for, and what all kernels were chosen for.
    budgets: bytes that the network may take. package: for which build system (PACKAGES) a folder is written.
    golden: what <name>_selftest.c holds. modules: the text of the network by kind (MODULES). reports: what
    makes the texts of reports from the manifest, by file name.
    profile: compile the calls of `<name>_on_layer` in, and write bnncc_cycles.h. weights_section: where the
    linker finds the weights (default: .rodata.<name>_weights). threads: that share the layers of a run.
    """

    source: str = "model.onnx"
    emit: tuple[str, ...] = ("lib", "so")
    compiler: str | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    optimize: Literal["size", "speed"] | None = None
    package: str | None = None
    golden: Vectors | None = None
    modules: Mapping[str, str] = field(default_factory=dict)
    reports: Callable[[Manifest], Mapping[str, str]] = lambda manifest: {}
    budgets: Budgets = Budgets()
    profile: bool = False
    weights_section: str | None = None
    threads: int = 1


def make_kernels(
    program: Program,
    target: Target,
    backend: Backend | None = None,
    goal: Literal["size", "speed"] | None = None,
    tuned: Callable[[KernelSpec], Mapping[str, int] | None] | None = None,
    number_of_threads: int = 1,
) -> Kernels:
    """One kernel for each KernelSpec of the program, made once; goal: what they are chosen for. tuned: the
    tile parameters of a spec, None for the default. number_of_threads: that are to share a kernel.

    Raises BnnccError for nodes that the importer of last resort does not take, all at once."""
    backend = backend or _kernels_of_this_package()
    kernels: dict[KernelSpec, KernelFacts] = {}
    refused: list[BnnccError] = []
    symbols: dict[str, KernelSpec] = {}
    for step in program.steps:
        alternative = (step.when_zero.kernel,) if step.when_zero else ()
        for spec in (step.kernel, *alternative):
            if spec not in kernels:
                try:
                    schedule = tuned(spec) if tuned else None
                    kernel = backend.make_kernel(spec, target, schedule, goal=goal)
                    if number_of_threads > 1:
                        kernel = backend.divided(kernel, number_of_threads)
                    assert symbols.setdefault(kernel.symbol, spec) == spec, f"two kernels {kernel.symbol}"
                    kernels[spec] = kernel
                except BnnccError as error:
                    refused.append(replace(error, location=error.location or step.location))
    if refused:
        raise joined(refused)
    return kernels


def with_scratch(program: Program, *kernels: Kernels, number_of_threads: int = 1) -> Program:
    """The program with the memory that its kernels ask for, in whatever set of them asks for the most; where
    each thread is lent some of its own, for so many."""

    def size(step: Step) -> int:
        specs = (step.kernel, *((step.when_zero.kernel,) if step.when_zero else ()))
        asking = [made[spec] for made in kernels for spec in specs if spec in made]
        return max(scratch_bytes(program, step, kernel, number_of_threads) for kernel in asking)

    return arena.with_scratch(program, [size(step) for step in program.steps])


def emit(
    program: Program,
    kernels: Kernels,
    target: Target,
    directory: Path,
    options: EmitOptions,
    backend: Backend | None = None,
) -> Manifest:
    """Write the artifact into `directory`; its manifest. The default backend is `bnncc.kernels`.

    Raises BnnccError where an option is wrong, the directory is not ours to replace or cannot be written,
    or a tool is missing or fails; then the directory is as it was."""
    check_emit(options.emit)
    check_library_name(program.name)
    check_ram(program, options.budgets)
    with replacing(directory) as folder:
        writer = _Writer(program, kernels, target, folder, options, backend or _kernels_of_this_package())
        return writer.write()


def check_emit(emit: tuple[str, ...]) -> None:
    """Raise a BnnccError unless every word is in EMITTABLE."""
    for word in emit:
        if word not in EMITTABLE:
            raise BnnccError("--emit", f"'{word}' cannot be emitted", f"choose among {', '.join(EMITTABLE)}")


def check_package(kind: str | None) -> None:
    """Raise a BnnccError unless it is one of PACKAGES or None."""
    if kind is not None and kind not in PACKAGES:
        raise BnnccError("--package", f"'{kind}' is not known", f"choose among {', '.join(PACKAGES)}")


def _kernels_of_this_package() -> Backend:
    """Imported late: it loads TVM."""
    from bnncc.kernels import build

    return build


class _Writer:
    """The writing of one artifact into an empty folder."""

    def __init__(
        self,
        program: Program,
        kernels: Kernels,
        target: Target,
        folder: Path,
        options: EmitOptions,
        backend: Backend,
    ):
        self.network = connect(program, kernels, options.threads)
        self.target = target
        self.folder = folder
        self.options = options
        self.backend = backend
        self.name = program.name
        self.stack: int | None = None
        self.banner = banner(target, options)

    def write(self) -> Manifest:
        """Every file, the manifest last."""
        emit = self.options.emit
        network = self.network
        tested = "selftest" in emit or self.options.package is not None
        header = header_text(network.program, self.banner, network.pool.bytes, network.threads, tested)
        self._text(f"{self.name}.h", header)
        if self.options.profile:
            self._text("bnncc_cycles.h", runtime.header_file("cycles.h"))
        flash = None
        if "lib" in emit or "so" in emit:
            with tempfile.TemporaryDirectory(prefix="bnncc-") as work:
                flash = self._libraries(Path(work), header)
            check_flash(self.network.program, flash, self.options.budgets)
        if "c" in emit:
            self._text(f"{self.name}.c", self._portable())
        if "selftest" in emit:
            assert self.options.golden is not None
            text = selftest_file(self.network.program, self.options.golden, self.banner)
            self._text(f"{self.name}_selftest.c", text)
        for kind, ending in MODULES.items():
            if kind in emit:
                self._text(f"{self.name}{ending}", self.options.modules[kind])
        if "tir" in emit:
            self._text(f"{self.name}.tir", self._tir())
        if self.options.package is not None:
            self._package(self.options.package, header)
        manifest = make_manifest(
            self.network,
            self.target,
            self.options.source,
            self.options.chosen,
            flash,
            self.stack,
            self.options.optimize,
        )
        for file, text in self.options.reports(manifest).items():
            self._text(file, text)
        manifest["files"] = list_files(self.folder)
        self._text(artifact.MANIFEST, manifest_text(manifest))
        return manifest

    def _package(self, kind: str, header: str) -> None:
        """The folder that a build system takes in, named after the library, in one named after its kind."""
        assert self.options.golden is not None
        archive = kind == "cmake" and self.target.kind == "llvm" and "lib" in self.options.emit
        parts = Parts(
            name=self.name,
            version=bnncc.__version__,
            source=self.options.source,
            header=header,
            code="" if archive else self._portable(),
            selftest=selftest_file(self.network.program, self.options.golden, self.banner),
            archive=archive,
            stateful=bool(self.network.program.states),
            threads=self.options.threads > 1,
        )
        folder = Path(kind) / self.name
        for path, text in package_files(kind, parts).items():
            (self.folder / folder / path).parent.mkdir(parents=True, exist_ok=True)
            self._text(str(folder / path), text)
        if archive:
            library = self.folder / folder / "lib"
            library.mkdir()
            shutil.copy(self.folder / f"lib{self.name}.a", library)

    def _text(self, file: str, text: str) -> None:
        # The model's file name may have bytes that are no UTF-8.
        path = self.folder / file
        path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")

    def _libraries(self, work: Path, header: str) -> FlashSizes:
        """The objects are compiled side by side; the linker waits for all. How large the library is."""
        tools = c_compiler.find(self.target, self.options.compiler)
        (work / f"{self.name}.h").write_text(header, encoding="utf-8", newline="\n")
        source = work / f"{self.name}.c"
        source.write_text(self._entry(), encoding="utf-8", newline="\n")
        run, run_and_layers = work / f"{self.name}.o", work / f"{self.name}_layers.o"
        optimisation = c_compiler.kernel_flags(self.target, self.options.optimize == "size")
        profile = ("-DBNNCC_PROFILE",) if self.options.profile else ()
        stack = tools.stack_flags if self.target.is_bare else ()
        shared = threads.FLAGS if self.network.threads > 1 else ()
        with tools.programs.side_by_side() as submit:
            jobs = [submit(self._weights, work, tools)]
            flags = (*optimisation, *profile, *stack, *shared)
            jobs.append(submit(tools.compile, source, run, flags))
            if "so" in self.options.emit:
                flags = (*optimisation, *shared, "-DBNNCC_LAYERS")
                jobs.append(submit(tools.compile, source, run_and_layers, flags))
            parts = (work / f"{self.name}_weights.o", *self._kernels(work, tools))
            for job in jobs:
                job.result()
        if stack:
            sizes = [elf.stack_sizes(path.read_bytes()) for path in (run, *parts[1:])]
            self.stack = self._stack_bytes({name: size for found in sizes for name, size in found.items()})
        if "lib" in self.options.emit:
            tools.archive([run, *parts], self.folder / f"lib{self.name}.a")
        if "so" in self.options.emit and self.target.is_foreign:
            tools.archive([run_and_layers, *parts], self.folder / f"lib{self.name}_layers.a")
        elif "so" in self.options.emit:
            exported = [f"{self.name}_{suffix}" for suffix in ("run", "layer", "watch")]
            if self.network.program.states:
                exported += [f"{self.name}_reset", f"{self.name}_step"]
            exported += [f"{self.name}_threads"] if shared else []
            library = self.folder / f"lib{self.name}.so"
            tools.link_shared([run_and_layers, *parts], library, exported, shared)
        return self._flash([run, *parts[1:]], parts[0])

    def _stack_bytes(self, sizes: Mapping[str, int]) -> int:
        """No more stack is needed than this: a layer calls a kernel, that calls a helper, and whatever else
        there is calls one another. What belongs to the C library or the compiler is not counted."""
        kernels = {f"{self.name}_{kernel.symbol}" for kernel in self.network.distinct_kernels}
        layer = re.compile(rf"{self.name}_step_\d+")
        depths = {"kernel": 0, "helper": 0, "layer": 0}
        others = 0
        for function, size in sizes.items():
            kind = "kernel" if function in kernels else "helper" if function.startswith("bnncc_") else ""
            kind = kind or ("layer" if layer.fullmatch(function) else "")
            if kind:
                depths[kind] = max(depths[kind], size)
            else:
                others += size
        return others + sum(depths.values())

    def _flash(self, code: Sequence[Path], weights: Path) -> FlashSizes:
        sizes = [elf.loaded_bytes(path.read_bytes()) for path in (*code, weights)]
        distinct = ({w.symbol: w.data.nbytes for w in calls.weights} for calls in self.network.calls)
        return FlashSizes(sum(sizes[:-1]), sizes[-1], tuple(sum(sizes.values()) for sizes in distinct))

    def _entry(self) -> str:
        if self.target.kind == "c":
            return entry.library_entry_with_kernels(
                self.network, self.banner, self._kernels_c(self.network, self.target)
            )
        return entry.library_entry(self.network, self.banner)

    def _weights(self, work: Path, tools: Toolchain) -> None:
        source, compiled = work / f"{self.name}_weights.c", work / f"{self.name}_weights.o"
        source.write_text(entry.weights_file(self.network, self.banner), encoding="utf-8", newline="\n")
        tools.compile(source, compiled, self._section())

    def _section(self) -> tuple[str, ...]:
        section = self.options.weights_section
        if section is None and "darwin" not in self.target.triple and self.target.triple:
            section = f".rodata.{self.name}_weights"
        return (f'-DBNNCC_WEIGHTS_SECTION="{section}"',) if section else ()

    def _kernels(self, work: Path, tools: Toolchain) -> tuple[Path, ...]:
        if self.target.kind == "c":
            return ()
        compiled = work / f"{self.name}_kernels.o"
        code = self.backend.compile_object(self.network.distinct_kernels, self.name, self.target)
        compiled.write_bytes(code)
        source = self.backend.micro_kernel_source(code, self.name)
        if not source:
            return (compiled,)
        micro = work / f"{self.name}_micro.o"
        (work / f"{self.name}_micro.c").write_text(source, encoding="utf-8", newline="\n")
        tools.compile(work / f"{self.name}_micro.c", micro)
        micro.write_bytes(elf.prefix_symbols(elf.hide_symbols(micro.read_bytes()), self.name))
        return compiled, micro

    def _portable(self) -> str:
        """The one C file; where the libraries are for a processor, with kernels of the portable kind."""
        network, target, made_by = self.network, self.target, self.banner
        if target.kind != "c":
            target = targets.load("c")
            made_by = banner(target, self.options)
            kernels = make_kernels(
                network.program, target, self.backend, number_of_threads=self.network.threads
            )
            network = connect(network.program, kernels, self.network.threads)
        text = entry.portable_file(network, made_by, self._kernels_c(network, target))
        return with_short_names(text, self.name, [kernel.symbol for kernel in network.distinct_kernels])

    def _kernels_c(self, network: Network, target: Target) -> str:
        return self.backend.compile_c(network.distinct_kernels, self.name, target)

    def _tir(self) -> str:
        return "\n\n".join(str(kernel.function) for kernel in self.network.distinct_kernels) + "\n"


def banner(target: Target, options: EmitOptions) -> str:
    """What made the files: no dates and no folders, so the same input gives the same bytes."""
    processor = " ".join((target.mcpu, *target.features)).strip()
    lines = [
        f"Made by bnncc {bnncc.__version__} from {in_comment(options.source)}; do not edit.",
        f"Target: {in_comment(target.name)}{f' ({in_comment(processor)})' if processor else ''}",
    ]
    chosen = " ".join(f"{key}={value}" for key, value in options.chosen.items())
    if chosen:
        lines.append(f"Options: {in_comment(chosen)}")
    return "\n".join(lines)
