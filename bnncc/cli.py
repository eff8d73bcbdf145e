# SPDX-License-Identifier: Apache-2.0
"""The `bnncc` command: one thin function per subcommand.

Everything heavy is imported inside the function that needs it, so that `--help` answers at once.
Results go to stdout, progress and errors to stderr; the exit codes are `diagnostics.ExitCode`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnncc import __version__
from bnncc.diagnostics import BnnccError, ExitCode, joined
from bnncc.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from bnncc.artifact import Artifact
    from bnncc.options import Options

PACKAGES = ("cmake", "arduino", "platformio", "zephyr", "esp-idf")
EMITS = ("lib", "so", "c", "selftest", "mlir", "linalg", "transform", "tir")
DEBUG = "BNNCC_DEBUG"
INTERRUPTED = 130
BROKEN_PIPE = 141


def entry() -> None:
    """What the console script calls."""
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Reads sys.argv where no arguments are given."""
    try:
        chosen = parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has said what is wrong, or printed the help
        return int(stop.code or 0)
    try:
        code = chosen.command(chosen)
        sys.stdout.flush()
        return code
    except BnnccError as error:
        print("\n".join(f"bnncc: {block}" for block in error.blocks()), file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print("bnncc: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more: stdout must not be flushed again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        return _internal_error(error, chosen.debug)


def _internal_error(error: Exception, debug: bool) -> int:
    if debug or os.environ.get(DEBUG):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    what = " ".join(f"{type(error).__name__}: {error}".split())
    print(
        f"bnncc: internal error{where}: {what}\n"
        f"  hint: please report it, with the model if you may; {DEBUG}=1 prints the traceback",
        file=sys.stderr,
    )
    return int(ExitCode.FAILURE)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="bnncc",
        description="Compile a binary or spiking neural network from ONNX or NIR to a C library.",
        epilog="exit codes: 0 fine, 1 a result differs, 2 the input is wrong, 3 a tool is missing or "
        "the fault is ours",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"bnncc {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--debug", action="store_true", help="print the traceback of an internal error")

    def command(
        name: str, function: Callable[[argparse.Namespace], int], help: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=help, description=f"{help}.", parents=[common], allow_abbrev=False
        )
        sub.set_defaults(command=function)
        return sub

    _compile_arguments(command("compile", compile_command, "Compile a model to a C library"))
    _run_arguments(command("run", run_command, "Run a compiled network, or a model, on arrays"))
    _verify_arguments(
        command(
            "verify", verify_command, "Compile, run and compare with the graph of the model, layer by layer"
        )
    )
    _inspect_arguments(
        command("inspect", inspect_command, "Show what the compiler makes of a model, layer by layer")
    )
    _bench_arguments(command("bench", bench_command, "Time a compiled network, or a model"))
    _tune_arguments(
        command("tune", tune_command, "Measure on a device which kernels are the fastest, layer by layer")
    )
    _json_argument(command("targets", targets_command, "List the targets"))
    _json_argument(command("doctor", doctor_command, "Check that what bnncc needs is installed"))
    return top


def _compile_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL", type=Path)
    sub.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help="the directory to write (default: ./NAME)"
    )
    _model_arguments(sub)
    sub.add_argument(
        "--emit",
        metavar="KIND,...",
        type=_emits,
        default=("lib", "so"),
        help=f"what to write, of {','.join(EMITS)} (default: lib,so)",
    )
    sub.add_argument(
        "--print-ir-after",
        metavar="PASS",
        action="append",
        default=[],
        help="print the module after this pass, or after 'all', to stderr; may be repeated",
    )
    sub.add_argument(
        "--package",
        choices=PACKAGES,
        help="write a folder that this build system takes in: sources, description, self-test",
    )
    sub.add_argument(
        "--profile",
        action="store_true",
        help="call NAME_on_layer, a function of yours, before and after every layer; bnncc_cycles.h has one",
    )
    for name, memory in (("ram", "the arena, inputs and outputs"), ("flash", "code and weights")):
        sub.add_argument(
            f"--{name}",
            metavar="BYTES",
            type=_bytes,
            help=f"fail with exit code 1 if {memory} need more; 64k is 65536",
        )
    _json_argument(sub)


def _run_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="DIR|MODEL", type=Path)
    _input_argument(sub)
    sub.add_argument(
        "--output", metavar="OUT.npz", type=Path, help="write the outputs (keys: their ONNX names)"
    )
    sub.add_argument(
        "--spikes",
        metavar="RASTER.npz",
        type=Path,
        help="write the spikes of every layer (keys: layers), uint8 [steps, samples, neurons...]",
    )
    sub.add_argument(
        "--plot",
        metavar="RASTER.png",
        type=Path,
        help="draw the spikes and the rate of every layer (needs matplotlib: pip install 'bnncc[plot]')",
    )
    events = sub.add_argument_group("events (arrays t, x, y, p) as the input of a network with states")
    events.add_argument(
        "--step-length",
        metavar="TIME",
        type=_positive,
        help="of one step, in the unit of t; says that --input is events",
    )
    events.add_argument("--steps", metavar="N", type=_positive, help="default: up to the last event")
    events.add_argument(
        "--start", metavar="TIME", type=int, help="of the first step (default: the first event's)"
    )
    _model_arguments(sub)
    _json_argument(sub)


def _verify_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL", type=Path)
    _input_argument(sub)
    sub.add_argument(
        "--samples", metavar="N", type=_positive, default=4, help="random samples, without --input"
    )
    sub.add_argument("--seed", metavar="S", type=int, default=0, help="of the random samples")
    _model_arguments(sub)
    _json_argument(sub)


def _inspect_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL", type=Path)
    _model_arguments(sub)
    _json_argument(sub)


def _bench_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="DIR|MODEL", type=Path)
    _input_argument(sub)
    sub.add_argument("--layers", action="store_true", help="time each layer too")
    sub.add_argument("--html", metavar="FILE", type=Path, help="write the report with what was measured")
    sub.add_argument("--repeat", metavar="N", type=_positive, default=20, help="timed runs (default: 20)")
    _model_arguments(sub)
    _json_argument(sub)


def _tune_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL", type=Path)
    sub.add_argument(
        "--device",
        metavar="DEVICE",
        help="where to measure: local, qemu (counts instructions), ssh://[user@]host[:port], "
        "rpc://tracker:port?key=K or serial:///dev/ttyACM0?baud=B (default: local if this machine can run "
        "the target's code, else qemu)",
    )
    sub.add_argument(
        "--flash",
        metavar="COMMAND",
        dest="flash_command",
        type=shlex.split,
        default=[],
        help="what writes a program to the board at a serial port, {image} its ELF file, {port} the port "
        "(default: the target's)",
    )
    sub.add_argument(
        "--db",
        metavar="FILE",
        type=Path,
        required=True,
        help="the database; what it holds of this device is not measured again",
    )
    sub.add_argument(
        "--trials", metavar="N", type=_positive, default=64, help="of each kind of layer (default: 64)"
    )
    sub.add_argument("--time", metavar="10m", type=_duration, help="stop after so long: 90s, 10m, 1h")
    sub.add_argument("--report", metavar="FILE", type=Path, help="write a page that draws the search")
    _model_arguments(sub)
    _json_argument(sub)


def _model_arguments(sub: argparse.ArgumentParser) -> None:
    """What says how a model is compiled."""
    group = sub.add_argument_group("compilation")
    group.add_argument(
        "--target", metavar="TARGET", default="native", help="see `bnncc targets` (default: native)"
    )
    group.add_argument("--name", metavar="NAME", help="the library's C name (default: from the file's name)")
    group.add_argument(
        "--dim",
        metavar="NAME=N",
        type=_dimension,
        action="append",
        default=[],
        help="a symbolic dimension's size",
    )
    group.add_argument(
        "--input-type",
        choices=("u8", "spikes", "events"),
        help="image inputs are bytes, or spikes packed in words, or events of a camera, not float32",
    )
    group.add_argument(
        "--input-layout", choices=("nhwc", "nchw"), help="the layout of image inputs, if not the model's"
    )
    group.add_argument(
        "--normalize",
        metavar="MEAN,STD",
        type=_normalization,
        default=((), ()),
        help="subtract and divide first, in units of the input; for each channel: MEAN,MEAN,MEAN,STD,STD,STD",
    )
    group.add_argument(
        "--state",
        metavar="BEFORE=AFTER",
        type=_state,
        action="append",
        default=[],
        help="this input is the state before a time step, that output the state after it; may be repeated",
    )
    group.add_argument(
        "--assume-sign-zero",
        metavar="+1|-1",
        choices=("+1", "1", "-1"),
        help="take sign(0) for +1 or -1 instead of 0: drops the exact handling of zeros",
    )
    group.add_argument(
        "--optimize",
        choices=("size", "speed"),
        help="what kernels are chosen for (default: without an operating system those that keep --flash, "
        "or a balance; else speed, but for hidden spiking layers of binary weights, which look products up)",
    )
    group.add_argument(
        "--threads",
        metavar="N",
        type=_positive,
        help="threads that share the layers of a run, at most, where there is an operating system (default: "
        "1); of a directory that was compiled for some: how many of them to use",
    )
    _time_arguments(sub)
    group.add_argument(
        "--backend",
        metavar="tvm|mlir",
        type=_backends,
        default=("tvm",),
        help="what makes the kernels: tvm (default), or LLVM's tools from what --emit linalg writes; `bench` "
        "compares tvm,mlir",
    )
    group.add_argument(
        "--calibrate",
        metavar="SAMPLES.npz",
        type=Path,
        help="samples (keys: input names) on which spikes are counted, to choose events or products by them, "
        "and ranges measured, for --quantize-real",
    )
    group.add_argument(
        "--tuning-db",
        metavar="FILE",
        type=Path,
        help="a database of `bnncc tune`: take the kernels that were the fastest there",
    )
    group.add_argument(
        "--quantize-weights",
        choices=("int8",),
        help="real weights that spikes meet become int8, a scale for each output; --calibrate and verify "
        "tell what changes",
    )
    group.add_argument(
        "--quantize-real",
        choices=("int8",),
        help="layers of real numbers become sums of bytes, by the ranges of the samples of --calibrate; "
        "report and verify tell what changes",
    )
    group.add_argument(
        "--membrane",
        choices=("float", "int16", "int32"),
        help="what membranes of leaky neurons are kept in (default: float, as the file says)",
    )
    group.add_argument("--cc", metavar="COMMAND", help="the C compiler (default: $CC, then cc)")


def _time_arguments(sub: argparse.ArgumentParser) -> None:
    """What says how the differential equations of a NIR file become steps."""
    group = sub.add_argument_group("time, of a NIR file")
    group.add_argument(
        "--dt",
        metavar="TIME",
        type=_number,
        help="the length of a step, in the unit of the file's time constants",
    )
    group.add_argument(
        "--preset",
        choices=("snntorch", "norse", "spikingjelly", "sinabs", "rockpool"),
        help="the tool that wrote the file: sets dt and the options below to what it means",
    )
    group.add_argument(
        "--reset",
        choices=("zero", "value", "subtract", "multi"),
        help="what a spike does to the membrane: 0, v_reset (default), minus the threshold, or that as often "
        "as it fits, with as many spikes",
    )
    group.add_argument(
        "--integrator", choices=("euler", "exp"), help="a leak of 1 - dt/tau (default) or e^(-dt/tau)"
    )
    group.add_argument(
        "--current",
        choices=("old", "new"),
        help="whether the membrane of CubaLIF sees the current of this step (new, default) or of the last",
    )
    group.add_argument(
        "--v-min",
        metavar="V|threshold",
        type=_bound,
        help="no membrane that fires falls below V, or below minus its threshold (default: no bound)",
    )


def _input_argument(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--input",
        metavar="NAME=FILE.npy|FILE.npz",
        action="append",
        default=[],
        help="an input, or an archive of them by name; samples stacked on the first axis, of a network with "
        "states steps on the first and samples on the second; may be repeated",
    )


def _json_argument(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print JSON")


def compile_command(chosen: argparse.Namespace) -> int:
    """bnncc compile MODEL [-o DIR] ..."""
    from bnncc import driver

    options = _options(chosen)
    output = chosen.output or Path(driver.name_of(chosen.model, options))
    with Progress() as progress:
        artifact = driver.compile_model(chosen.model, output, options, progress)
    if chosen.json:
        _print_json(
            {"directory": str(output), "inputs": artifact.input_names, "outputs": artifact.output_names}
        )
    else:
        print(f"{output}: {', '.join(sorted(path.name for path in output.iterdir()))}")
    return ExitCode.FINE


def run_command(chosen: argparse.Namespace) -> int:
    """bnncc run DIR|MODEL --input ... [--output OUT.npz]"""
    from bnncc import arrays, plot, spikes

    if chosen.plot:
        plot.check_available()
    rasters: list[spikes.Raster] = []
    with Progress() as progress:
        artifact = _artifact(chosen, progress)
        inputs = _run_inputs(chosen, artifact)
        progress("running")
        if chosen.spikes or chosen.plot:
            outputs, rasters = spikes.record(artifact, inputs)
        else:
            outputs = artifact.run(inputs)
    rows = [arrays.summarise(name, array) for name, array in outputs.items()]
    if chosen.output:
        arrays.write_arrays(chosen.output, outputs)
    if chosen.spikes:
        arrays.write_arrays(chosen.spikes, {raster.name: raster.spikes for raster in rasters})
    if chosen.plot:
        plot.write(chosen.plot, rasters)
    if chosen.json:
        layers = {"spikes": [raster.summary() for raster in rasters]} if rasters else {}
        _print_json({"outputs": rows} | layers)
        return ExitCode.FINE
    lines = [] if chosen.output else list(map(arrays.render_summary, rows))
    print(
        "\n".join([*lines, *([spikes.render(rasters)] if rasters else [])]),
        end="\n" if lines or rasters else "",
    )
    return ExitCode.FINE


def _run_inputs(chosen: argparse.Namespace, artifact: Artifact) -> Mapping[str, np.ndarray]:
    """Arrays by name, or events binned into steps."""
    from bnncc import arrays, spike_words

    if chosen.step_length is None:
        given = arrays.read_inputs(chosen.input, artifact.input_names)
        if {"t", "x", "y"} <= set(given) and "t" not in artifact.input_names:
            hint = "give --step-length, in the unit of t, to cut them into steps"
            raise BnnccError(str(chosen.input[0]), "these are events, not steps of an input", hint)
        return given
    if len(chosen.input) != 1:
        raise BnnccError("--input", "events are one file of arrays t, x, y and p")
    events = spike_words.read_events(arrays.read_arrays(Path(chosen.input[0])), chosen.input[0])
    return artifact.events_input(events, chosen.step_length, chosen.steps, chosen.start)


def verify_command(chosen: argparse.Namespace) -> int:
    """bnncc verify MODEL [--target T] [--input ...] [--samples N] [--seed S]"""
    from bnncc import arrays, verify

    with Progress() as progress:
        inputs = arrays.read_inputs(chosen.input, _input_names(chosen)) if chosen.input else None
        report = verify.verify_model(
            chosen.model, _options(chosen), inputs, chosen.samples, chosen.seed, progress
        )
    _print_result(chosen, report.as_dict, report.render)
    return ExitCode.FINE if report.passed else ExitCode.DIFFERS


def inspect_command(chosen: argparse.Namespace) -> int:
    """bnncc inspect MODEL"""
    from bnncc import driver
    from bnncc.report import inspect

    with Progress() as progress:
        lowered = driver.lower_model(chosen.model, _options(chosen), progress)
    rows, decisions = inspect.inspect_rows(lowered.program), driver.decisions(lowered)
    _print_result(
        chosen,
        lambda: {
            "layers": inspect.as_dicts(rows),
            "arena": {
                "bytes": lowered.program.arena_bytes,
                "lower_bound_bytes": lowered.program.arena_lower_bound,
            },
            **({"decisions": decisions} if decisions else {}),
        },
        lambda: (
            inspect.render(rows)
            + inspect.render_memory(lowered.program)
            + inspect.render_decisions(decisions)
        ),
    )
    return ExitCode.FINE


def bench_command(chosen: argparse.Namespace) -> int:
    """bnncc bench DIR|MODEL [--layers] [--repeat N] [--backend tvm,mlir]"""
    from bnncc import arrays, bench
    from bnncc.report.html import report_html

    if len(chosen.backend) > 1:
        return _compare_backends(chosen)
    layers = chosen.layers or chosen.html is not None
    with Progress() as progress:
        artifact = _artifact(chosen, progress)
        inputs = arrays.read_inputs(chosen.input, artifact.input_names) if chosen.input else None
        progress("timing" if artifact.emulator is None else "counting instructions")
        if artifact.emulator is None:
            result = bench.bench_artifact(artifact, layers, chosen.repeat, inputs)
        else:
            result = bench.count_artifact(artifact, layers, inputs)
    if chosen.html is not None:
        page = report_html(artifact.report(), bench.measured(result))
        arrays.write_text(chosen.html, page)
    _print_result(chosen, result.as_dict, result.render)
    return ExitCode.FINE


def _compare_backends(chosen: argparse.Namespace) -> int:
    """bnncc bench MODEL --backend tvm,mlir: in turns, as a table."""
    from dataclasses import replace

    from bnncc import arrays, bench, driver

    if chosen.html is not None:
        raise BnnccError("--html", "the report is of one back end", "give --backend one name")
    options = _options(chosen)
    with Progress() as progress:
        artifacts = {
            name: driver.compile_model(chosen.model, None, replace(options, backend=name), progress)
            for name in chosen.backend
        }
        first = next(iter(artifacts.values()))
        inputs = arrays.read_inputs(chosen.input, first.input_names) if chosen.input else None
        progress("timing" if first.emulator is None else "counting instructions")
        result = bench.compare(artifacts, chosen.layers, chosen.repeat, inputs)
    _print_result(chosen, result.as_dict, result.render)
    return ExitCode.FINE


def tune_command(chosen: argparse.Namespace) -> int:
    """bnncc tune MODEL --db FILE [--target T] [--device D] [--trials N] [--time T] [--report FILE]"""
    from dataclasses import asdict

    from bnncc import arrays, driver

    with Progress() as progress:
        tuning = driver.tune_model(
            chosen.model,
            _options(chosen),
            chosen.device,
            chosen.db,
            chosen.trials,
            chosen.time,
            progress,
            chosen.flash_command,
        )
    from bnncc.tuning import report

    if chosen.report is not None:
        arrays.write_text(chosen.report, report.report_page(tuning))
    _print_result(chosen, lambda: asdict(tuning), lambda: report.render(tuning))
    return ExitCode.FINE


def targets_command(chosen: argparse.Namespace) -> int:
    """bnncc targets"""
    from bnncc import targets

    known = [targets.load(name) for name in targets.names()]
    rows = [{"name": t.name, "runs_here": t.runs_here(), "description": t.description} for t in known]
    width = max(len(target.name) for target in known)
    text = (
        f"{row['name']:<{width}}  {'*' if row['runs_here'] else ' '}  {row['description']}" for row in rows
    )
    _print_result(chosen, lambda: {"targets": rows}, lambda: "\n".join((*text, "", "* runs on this machine")))
    return ExitCode.FINE


def doctor_command(chosen: argparse.Namespace) -> int:
    """bnncc doctor"""
    from bnncc import doctor

    findings = doctor.examine()
    _print_result(chosen, lambda: doctor.as_dict(findings), lambda: doctor.render(findings))
    return ExitCode.FINE if doctor.healthy(findings) else ExitCode.FAILURE


def _options(chosen: argparse.Namespace) -> Options:
    from bnncc.options import CameraInput, Options
    from bnncc.plan.budget import Budgets

    mean, std = chosen.normalize
    dims = dict(chosen.dim)
    _check_options(chosen, dims)
    return Options(
        target=chosen.target,
        name=chosen.name,
        dims=dims,
        emit=getattr(chosen, "emit", Options.emit),
        print_ir_after=tuple(getattr(chosen, "print_ir_after", ())),
        camera=CameraInput(chosen.input_type, chosen.input_layout, mean, std),
        assume_sign_zero=int(chosen.assume_sign_zero) if chosen.assume_sign_zero else None,
        cc=chosen.cc,
        calibrate=chosen.calibrate,
        backend=chosen.backend[0],
        tuning_db=chosen.tuning_db,
        threads=chosen.threads or 1,
        quantize_weights=chosen.quantize_weights,
        quantize_real=chosen.quantize_real,
        membrane=chosen.membrane,
        optimize=chosen.optimize,
        package=getattr(chosen, "package", None),
        profile=getattr(chosen, "profile", False),
        budgets=Budgets(getattr(chosen, "ram", None), getattr(chosen, "flash", None)),
        dt=chosen.dt,
        reset=chosen.reset,
        integrator=chosen.integrator,
        current=chosen.current,
        v_min=chosen.v_min,
        preset=chosen.preset,
        states=dict(chosen.state),
    )


def _check_options(chosen: argparse.Namespace, dims: Mapping[str, int]) -> None:
    """Options that are wrong whatever the model is, told together and before it is read."""
    from bnncc import targets
    from bnncc.plan.names import check_library_name

    def check_dims() -> None:
        if len(dims) < len(chosen.dim):
            raise BnnccError("--dim", "one dimension is given two sizes")

    def check_name() -> None:
        if chosen.name is not None:
            check_library_name(chosen.name)

    problems: list[BnnccError] = []

    def check_states() -> None:
        if len(dict(chosen.state)) < len(chosen.state):
            raise BnnccError("--state", "one input is given as two states")

    def check_backends() -> None:
        if len(chosen.backend) > 1 and (chosen.command is not bench_command or chosen.model.is_dir()):
            raise BnnccError("--backend", "one back end at a time", "`bench` of a model compares several")

    for check in (lambda: targets.load(chosen.target), check_name, check_dims, check_states, check_backends):
        try:
            check()
        except BnnccError as problem:
            problems.append(problem)
    if problems:
        raise joined(problems)


def _artifact(chosen: argparse.Namespace, progress: Progress) -> Artifact:
    """What `run` and `bench` are given: a directory that `compile` wrote, or a model to compile now."""
    if chosen.model.is_dir():
        from bnncc import artifact

        _refuse_compilation_options(chosen)
        compiled = artifact.load(chosen.model)
        if chosen.threads is not None:
            compiled.set_threads(chosen.threads)
        return compiled
    from bnncc import driver

    return driver.compile_model(chosen.model, None, _options(chosen), progress)


def _refuse_compilation_options(chosen: argparse.Namespace) -> None:
    """What is compiled already takes no options of compilation: to leave them out silently would mislead."""
    bare = argparse.ArgumentParser()
    _model_arguments(bare)
    for name, default in vars(bare.parse_args([])).items():
        if name != "threads" and getattr(chosen, name) != default:
            option = f"--{name.replace('_', '-')}"
            hint = f"leave {option} out, or give the model instead of the directory"
            raise BnnccError(option, f"{chosen.model} is compiled already", hint)


def _input_names(chosen: argparse.Namespace) -> list[str]:
    from bnncc import driver

    lowered = driver.lower_model(chosen.model, _options(chosen))
    return [port.name for port in lowered.program.inputs]


def _print_result(
    chosen: argparse.Namespace, as_data: Callable[[], object], as_text: Callable[[], str]
) -> None:
    if chosen.json:
        _print_json(as_data())
    else:
        print(as_text().rstrip("\n"))


def _print_json(value: object) -> None:
    from bnncc import arrays

    print(arrays.to_json(value))


def _positive(text: str) -> int:
    with contextlib.suppress(ValueError):
        if int(text) > 0:
            return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is no positive integer")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from None


def _bound(text: str) -> float | str:
    return text if text == "threshold" else _number(text)


def _bytes(text: str) -> int:
    """A size in bytes, or with a suffix k or M."""
    units = {"k": 1 << 10, "m": 1 << 20}
    number = text.lower().removesuffix("b")
    factor = units.get(number[-1:], 1)
    return _positive(number if factor == 1 else number[:-1]) * factor


def _duration(text: str) -> float:
    """Seconds, from a number with a unit: 90s, 10m, 1h; seconds without one."""
    units = {"s": 1, "m": 60, "h": 3600}
    number = text[:-1] if text[-1:] in units else text
    with contextlib.suppress(ValueError):
        if 0 < float(number) < float("inf"):
            return float(number) * units.get(text[-1:], 1)
    raise argparse.ArgumentTypeError(f"'{text}' is no time: 90s, 10m, 1h")


def _dimension(text: str) -> tuple[str, int]:
    name, equals, size = text.rpartition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=N")
    return name, _positive(size)


def _state(text: str) -> tuple[str, str]:
    before, equals, after = text.partition("=")
    if not (before and equals and after):
        raise argparse.ArgumentTypeError(f"'{text}' is not BEFORE=AFTER")
    return before, after


def _backends(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in ("tvm", "mlir"):
            raise argparse.ArgumentTypeError(f"'{name}' is none of tvm, mlir")
    return names


def _emits(text: str) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(text.split(",")))
    for kind in kinds:
        if kind not in EMITS:
            raise argparse.ArgumentTypeError(f"'{kind}' is none of {', '.join(EMITS)}")
    return kinds


def _normalization(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of numbers") from None
    half = len(numbers) // 2
    if len(numbers) % 2 or not all(abs(number) < float("inf") for number in numbers) or 0.0 in numbers[half:]:
        raise argparse.ArgumentTypeError(
            f"'{text}': expected as many finite means as deviations, none of these 0"
        )
    return numbers[:half], numbers[half:]
