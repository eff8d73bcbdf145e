# SPDX-License-Identifier: Apache-2.0
"""The order of a compilation, readable on one screen.

The half that knows xDSL (front end, passes, lowering) runs first; the half that knows TVM is imported only
when kernels are made, so that `bnncc inspect` never pays for it.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnncc import calibrate, codegen, targets
from bnncc.checking import accuracy
from bnncc.checking.golden import Golden, golden_vectors
from bnncc.codegen import upstream
from bnncc.data.samples import Samples, read_samples
from bnncc.diagnostics import BnnccError, did_you_mean
from bnncc.dialect.network import decide, decisions_of, main_function
from bnncc.dialect.parsing import module_text
from bnncc.execution import artifact
from bnncc.frontend.camera import adapt_inputs
from bnncc.frontend.load import load_model
from bnncc.frontend.mlir import is_fused
from bnncc.frontend.states import carry_states
from bnncc.frontend.torch import Export, export_module
from bnncc.linalg.convert import convert_module
from bnncc.linalg.schedule import parts_of
from bnncc.lowering import Lowered, lower
from bnncc.lowering.stored_forms import with_three_words
from bnncc.lowering.upstream import lower_upstream
from bnncc.options import Options
from bnncc.passes.pipeline import PIPELINE, After, Rounded, run_pipeline
from bnncc.passes.recognize_spikes import Rates
from bnncc.passes.tabulate_counts import LARGEST_TABLE
from bnncc.plan import byte_costs
from bnncc.plan.budget import FlashExceeded, Goal
from bnncc.plan.density import Costs, Crossover, Form
from bnncc.plan.names import check_library_name, library_name
from bnncc.plan.program import Program
from bnncc.plan.tiling import Machine, schedule_text
from bnncc.report import reports
from bnncc.targets import Target

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from bnncc.execution.artifact import Artifact
    from bnncc.tuning.use import Tuned

Say = Callable[[str], None]
"""Called with what is being done, in a few words."""


def front(path: str | Path, options: Options, progress: Say | None = None) -> ModuleOp:
    """Model file to a module of fused regions. Imports no TVM. Raises BnnccError for the user's mistakes."""
    say = progress or quiet
    say("reading the model")
    module = read(path, options)
    if is_fused(module):
        # Text that --emit mlir wrote: the passes have run.
        return module
    samples = samples_of(options)
    rates, rounded = choices(module, options, samples, say)
    before = module.clone() if rounded and samples is not None else None
    say("recognising and fusing")
    over_time = is_layer_by_layer(options)
    printer = _ir_printer(options.print_ir_after, options.print_ir_whole)
    run_pipeline(module, printer, options.assume_sign_zero, rates, over_time, rounded, largest_table(options))
    if before is not None and samples is not None:
        say("comparing with the network that is not rounded")
        run_pipeline(before, None, options.assume_sign_zero, rates, over_time)
        found = accuracy.compare(before, module, samples)
        decide(main_function(module), "accuracy", found.text())
    return module


def is_layer_by_layer(options: Options) -> bool:
    """Whether networks with a loop over time run each layer over all steps, as application processors do,
    which have the memory; microcontrollers, portable C and who wants small code run all layers step by step.
    """
    return targets.load(options.target).kind == "llvm" and options.optimize != "size"


BARE_TABLE = 1 << 16
"""Bytes of a table of currents where there is no operating system."""


def largest_table(options: Options) -> int:
    """Bytes that the currents of a layer may take as a table (tabulate-counts).

    None where small code is asked for, and none where speed is and vectors have their products for less than
    the loads of a table take."""
    target = targets.load(options.target)
    if options.optimize == "size" or (options.optimize == "speed" and target.kind == "llvm"):
        return 0
    return BARE_TABLE if target.is_bare else LARGEST_TABLE


def read(path: str | Path, options: Options) -> ModuleOp:
    """The network in a file as the user wants to call it, before any pass. Raises BnnccError."""
    module = load_model(path, options.dims, options.time)
    carry_states(module, options.states)
    adapt_inputs(module, options.camera, Path(path).name)
    return module


def samples_of(options: Options) -> Samples | None:
    """The samples of --calibrate, by input name; None where there are none. Raises BnnccError."""
    given = options.calibrate
    return given if given is None or isinstance(given, Mapping) else read_samples(given)


def choices(module: ModuleOp, options: Options, samples: Samples | None, say: Say) -> tuple[Rates, Rounded]:
    """What passes decide by: how many neurons spike and what becomes integers, measured on samples where
    there are some. Raises BnnccError where samples are wanting, or do not fit."""
    costs, rounded = costs_of(options), options.rounded
    form = None if rounded.weights is None else "events"
    rates = Rates(costs=costs, form=form, measured=measured_forms(module, options))
    if samples is None:
        if rounded.real is not None:
            message = "the ranges of activations come from samples, and there are none"
            hint = "give --calibrate SAMPLES.npz, arrays by input name (Python: calibrate=...)"
            raise BnnccError("--quantize-real", message, hint)
        return rates, rounded
    say("measuring on samples")
    found = calibrate.measure(module, samples, costs, options.assume_sign_zero)
    ranges = None if rounded.real is None else found.ranges()
    shares = {} if options.optimize == "size" else byte_costs.shares(targets.load(options.target))
    return replace(rates, bits=found.set_bits()), replace(rounded, ranges=ranges, shares=shares)


def has_forms(options: Options) -> bool:
    """Whether contractions of spikes are events or products as is cheaper: weights that are rounded meet
    events, and layers of numbers that are rounded have other products."""
    return options.rounded.weights is None and options.rounded.real is None


def measured_forms(module: ModuleOp, options: Options) -> Mapping[str, Crossover]:
    """What the user's database says of events and products in the layers of a network, by location."""
    if options.tuning_db is None or options.backend == "mlir" or not has_forms(options):
        return {}
    from bnncc.tuning import forms

    target = targets.load(options.target)
    return forms.known(Path(options.tuning_db), target, lambda: lower_form(module, options, "events"))


def lower_form(module: ModuleOp, options: Options, form: Form) -> Program:
    """The plan of a network, before any pass, in which all contractions of spikes have one form."""
    copy, rounded = module.clone(), Rounded(membranes=options.rounded.membranes)
    over_time = is_layer_by_layer(options)
    rates = Rates(costs=costs_of(options), form=form)
    run_pipeline(copy, None, options.assume_sign_zero, rates, over_time, rounded, largest_table(options))
    return lower(copy, "network", options.camera.type == "events").program


def costs_of(options: Options) -> Costs:
    """Of the target."""
    target = targets.load(options.target)
    return Costs.of(max(1, target.vector_bits // 32), target.floats)


def lower_model(path: str | Path, options: Options, progress: Say | None = None) -> Lowered:
    """Model file to the plan: buffers, steps, arena. Imports no TVM."""
    return lower_module(front(path, options, progress), name_of(path, options), options)


def lower_module(module: ModuleOp, name: str, options: Options) -> Lowered:
    """What `front` returned to the plan of the chosen back end."""
    takes_events = options.camera.type == "events"
    if options.backend == "mlir":
        return lower_upstream(module, name, takes_events)
    lowered = lower(module, name, takes_events)
    is_portable = "c" in options.emit or options.package is not None
    counts_vectors = targets.load(options.target).popcount == "vector32"
    return with_three_words(lowered) if counts_vectors and not is_portable else lowered


def decisions(lowered: Lowered) -> dict[str, str]:
    """What was decided about a network that its file does not say, by what it is about."""
    return decisions_of(main_function(lowered.module))


def name_of(path: str | Path, options: Options) -> str:
    """The library's name: the user's, checked, or one from the file's name."""
    return library_name(path) if options.name is None else check_library_name(options.name)


def compile_model(
    path: str | Path,
    output: str | Path | None,
    options: Options,
    progress: Say | None = None,
) -> Artifact:
    """Model file to an artifact in directory `output` (a temporary one if None).

    Raises BnnccError; then the directory is as it was before."""
    return build(lower_model(path, options, progress), path, output, options, progress)


def compile_module(
    module: Any,
    output: str | Path | None,
    options: Options,
    export: Export,
    progress: Say | None = None,
) -> Artifact:
    """PyTorch module to an artifact, through an ONNX file that is gone afterwards. Raises BnnccError."""
    say = progress or quiet
    say("exporting the module")
    with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
        return compile_model(export_module(module, export, Path(folder)), output, options, progress)


def build(
    lowered: Lowered,
    path: str | Path,
    output: str | Path | None,
    options: Options,
    progress: Say | None = None,
) -> Artifact:
    """The second half: kernels, library, header, manifest, report."""
    say = progress or quiet
    target = targets.load(options.target)
    codegen.check_emit(options.emit)
    codegen.check_package(options.package)
    codegen.check_threads(options.threads, target, options.package, options.backend)
    if options.backend == "mlir":
        target = upstream.object_target(target)
        upstream.check_choice(options.emit, options.package)
    directory = Path(output) if output is not None else _temporary_directory()
    codegen.check_output(directory)
    goals = _goals(options, target)
    for goal in goals:
        try:
            _write(lowered, path, directory, target, options, goal, say)
            break
        except FlashExceeded:
            if goal == goals[-1]:
                raise
    return artifact.load(directory)


def _goals(options: Options, target: Target) -> tuple[Goal, ...]:
    """What kernels are chosen for: the user's word; else, of a budget of flash, the fastest that keep it."""
    if options.optimize is not None:
        return (options.optimize,)
    if options.backend == "mlir" or options.budgets.flash is None or target.popcount != "none":
        return (None,)
    return ("speed", None, "size")


def _write(
    lowered: Lowered,
    path: str | Path,
    directory: Path,
    target: Target,
    options: Options,
    goal: Goal,
    say: Say,
) -> None:
    """Kernels for a goal, and the artifact with them."""
    say("generating kernels")
    backend = _backend(lowered, options)
    tuned = _tuned(options, target, goal)
    kernels = codegen.make_kernels(lowered.program, target, backend, goal, tuned, options.threads)
    also_portable = target.kind != "c" and ("c" in options.emit or options.package is not None)
    portable = (
        codegen.make_kernels(lowered.program, targets.load("c"), backend, number_of_threads=options.threads)
        if also_portable
        else {}
    )
    program = codegen.with_scratch(lowered.program, kernels, portable, number_of_threads=options.threads)
    say("compiling")
    wanted = codegen.EmitOptions(
        source=Path(path).name,
        emit=options.emit,
        compiler=options.cc,
        budgets=options.budgets,
        chosen=options.chosen() | decisions(lowered) | (tuned.facts() if tuned else {}),
        optimize=goal,
        package=options.package,
        profile=options.profile,
        threads=options.threads,
        golden=_golden(lowered, path, options) if "selftest" in options.emit or options.package else None,
        modules=_modules(lowered.module, options.emit, target),
        reports=lambda manifest: reports(program, manifest),
    )
    codegen.emit(program, kernels, target, directory, wanted, backend)


def _backend(lowered: Lowered, options: Options) -> codegen.Backend:
    """Who makes the kernels; TVM is loaded here."""
    if options.backend == "mlir":
        return upstream.UpstreamBackend(lowered.program)
    from bnncc.kernels import build

    return build


def _tuned(options: Options, target: Target, goal: Goal) -> Tuned | None:
    """What is known of layers that were measured; None for kernels that have nothing to choose."""
    path = Path(options.tuning_db) if options.tuning_db is not None else None
    if options.backend == "mlir":
        if path is None:
            return None
        raise BnnccError(
            "--tuning-db", "kernels of --backend mlir cannot be tuned", "leave one of the two out"
        )
    from bnncc.tuning.use import Tuned

    return Tuned(path, target, goal)


def _modules(module: ModuleOp, emit: tuple[str, ...], target: Target) -> dict[str, str]:
    """The network as text, as the user wants it."""
    texts = {"mlir": module_text(module)} if "mlir" in emit else {}
    if not {"linalg", "transform"} & set(emit):
        return texts
    converted = convert_module(module)
    texts["linalg"] = module_text(converted)
    if "transform" in emit:
        machine = Machine.of(target.architecture, target.vector_bits)
        if not machine.has_vectors:
            raise BnnccError("--emit transform", f"{target.name} has no vectors to schedule for")
        texts["transform"] = schedule_text(parts_of(converted), machine)
    return texts


def _golden(lowered: Lowered, path: str | Path, options: Options) -> Golden:
    """Vectors for the self-test, from the network as it was before any pass."""
    return golden_vectors(read(path, options), lowered.module, lowered.program)


def _temporary_directory() -> Path:
    """A directory that lasts as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="bnncc-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "artifact"


def _ir_printer(passes: tuple[str, ...], whole: bool) -> After | None:
    """Prints the module to stderr after the passes named, or after "all"; large constants only where the
    `whole` is asked for."""
    if not passes:
        return None
    known = {kind.name for kind, _ in PIPELINE}
    for name in passes:
        if name != "all" and name not in known:
            hint = f"{did_you_mean(name, known)}passes: {', '.join(sorted(known))}, or all"
            raise BnnccError("--print-ir-after", f"there is no pass '{name}'", hint)

    def show(name: str, module: ModuleOp) -> None:
        if "all" in passes or name in passes:
            print(f"// ----- after {name} -----\n{module_text(module, whole)}", file=sys.stderr)

    return show


def quiet(_message: str) -> None:
    """The default progress: none."""
