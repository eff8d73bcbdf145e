# SPDX-License-Identifier: Apache-2.0
"""How a model is compiled: the arguments that all commands of models share, and what becomes of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bnncc.cli import argument_types as types
from bnncc.diagnostics import BnnccError, joined
from bnncc.progress import Progress

if TYPE_CHECKING:
    from bnncc.execution.artifact import Artifact
    from bnncc.options import Options


def model_argument(sub: argparse.ArgumentParser) -> None:
    """The file that is compiled."""
    sub.add_argument(
        "model", metavar="MODEL", type=Path, help="an ONNX or NIR file, or MLIR text that --emit mlir wrote"
    )


def artifact_argument(sub: argparse.ArgumentParser) -> None:
    """What `run` and `bench` take: see `artifact_of`."""
    sub.add_argument(
        "model",
        metavar="DIR|MODEL",
        type=Path,
        help="a directory that `bnncc compile` wrote, or a model, which is compiled first",
    )


def model_arguments(sub: argparse.ArgumentParser) -> None:
    """What says how a model is compiled."""
    group = sub.add_argument_group("compilation")
    group.add_argument(
        "--target",
        metavar="TARGET",
        default="native",
        help="a processor that `bnncc targets` lists, or a TOML file (default: native, this machine's)",
    )
    group.add_argument("--name", metavar="NAME", help="the library's C name (default: from the file's name)")
    group.add_argument(
        "--dim",
        metavar="NAME=N",
        type=types.dimension,
        action="append",
        default=[],
        help="a symbolic dimension's size; may be repeated (a leading one, the batch, is 1 by default)",
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
        type=types.normalization,
        default=((), ()),
        help="compute (input - MEAN) / STD first, in units of the input (0 to 255 for u8); for each channel: "
        "MEAN,MEAN,MEAN,STD,STD,STD",
    )
    group.add_argument(
        "--state",
        metavar="BEFORE=AFTER",
        type=types.state,
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
        help="what kernels are chosen for (default: speed; without an operating system a balance of both, or "
        "the fastest that keep --flash)",
    )
    group.add_argument(
        "--threads",
        metavar="N",
        type=types.positive,
        help="threads that share the layers of a run, where there is an operating system (default: 1); `run` "
        "and `bench` of a compiled directory: how many of its threads to use",
    )
    _time_arguments(sub)
    group.add_argument(
        "--backend",
        metavar="tvm|mlir",
        type=types.backends,
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
    group.add_argument(
        "--cc",
        metavar="COMMAND",
        help="the C compiler, for another processor with what it needs to be told of it: 'arm-none-eabi-gcc "
        "-mcpu=cortex-m4 -mthumb' (default: $CC, cc, or ziglang)",
    )


def _time_arguments(sub: argparse.ArgumentParser) -> None:
    """What says how the differential equations of a NIR file become steps."""
    group = sub.add_argument_group("time, of a NIR file")
    group.add_argument(
        "--dt",
        metavar="TIME",
        type=types.number,
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
        type=types.bound,
        help="no membrane that fires falls below V, or below minus its threshold (default: no bound)",
    )


def input_argument(sub: argparse.ArgumentParser) -> None:
    """Where `run`, `verify` and `bench` take inputs from."""
    sub.add_argument(
        "--input",
        metavar="NAME=FILE.npy|FILE.npz",
        action="append",
        default=[],
        help="an input, or an archive of them by name; samples stacked on the first axis, of a network with "
        "states steps on the first and samples on the second; may be repeated",
    )


def options_of(chosen: argparse.Namespace, several_backends: bool = False) -> Options:
    """The options of a compilation, checked; of several back ends, where they are allowed, the first. Raises
    BnnccError."""
    from bnncc.options import CameraInput, Options

    mean, std = chosen.normalize
    dims = dict(chosen.dim)
    _check_options(chosen, dims, several_backends)
    return Options(
        target=chosen.target,
        name=chosen.name,
        dims=dims,
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
        dt=chosen.dt,
        reset=chosen.reset,
        integrator=chosen.integrator,
        current=chosen.current,
        v_min=chosen.v_min,
        preset=chosen.preset,
        states=dict(chosen.state),
    )


def _check_options(chosen: argparse.Namespace, dims: Mapping[str, int], several_backends: bool) -> None:
    """Options that are wrong whatever the model is, told together and before it is read."""
    from bnncc import targets
    from bnncc.plan.names import check_library_name

    def check_dims() -> None:
        if len(dims) < len(chosen.dim):
            raise BnnccError("--dim", "one dimension is given two sizes")

    def check_name() -> None:
        if chosen.name is not None:
            check_library_name(chosen.name)

    def check_states() -> None:
        if len(dict(chosen.state)) < len(chosen.state):
            raise BnnccError("--state", "one input is given as two states")

    def check_backends() -> None:
        if len(chosen.backend) > 1 and not several_backends:
            raise BnnccError("--backend", "one back end at a time", "`bench` of a model compares several")

    problems: list[BnnccError] = []
    for check in (lambda: targets.load(chosen.target), check_name, check_dims, check_states, check_backends):
        try:
            check()
        except BnnccError as problem:
            problems.append(problem)
    if problems:
        raise joined(problems)


def artifact_of(chosen: argparse.Namespace, progress: Progress) -> Artifact:
    """What `run` and `bench` are given: a directory that `compile` wrote, or a model to compile now."""
    if chosen.model.is_dir():
        from bnncc.execution import artifact

        _refuse_compilation_options(chosen)
        compiled = artifact.load(chosen.model)
        if chosen.threads is not None:
            compiled.set_threads(chosen.threads)
        return compiled
    from bnncc import driver

    return driver.compile_model(chosen.model, None, options_of(chosen), progress)


def _refuse_compilation_options(chosen: argparse.Namespace) -> None:
    """What is compiled already takes no options of compilation: to leave them out silently would mislead."""
    bare = argparse.ArgumentParser()
    model_arguments(bare)
    for name, default in vars(bare.parse_args([])).items():
        if name != "threads" and getattr(chosen, name) != default:
            option = f"--{name.replace('_', '-')}"
            hint = f"leave {option} out, or give the model instead of the directory"
            raise BnnccError(option, f"{chosen.model} is compiled already", hint)
