# SPDX-License-Identifier: Apache-2.0
"""The order of a compilation, readable on one screen.

The half that knows xDSL (front end, passes, lowering) runs first; the half that knows TVM is imported only
when kernels are made, so that `bnncc inspect` never pays for it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bnncc import targets
from bnncc.frontend.camera import CameraInput, adapt_inputs
from bnncc.frontend.onnx import load_onnx
from bnncc.lowering import Lowered, lower
from bnncc.passes.pipeline import run_pipeline
from bnncc.plan.names import check_library_name, library_name

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from bnncc.artifact import Artifact

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a user may choose.

    target: a name or a TOML file. name: the library's C name (default: from the file). dims: symbolic
    dimensions. emit: which files. print_ir_after: pass names or "all", printed to stderr.
    camera: inputs as a camera gives them. assume_sign_zero: +1 or -1 drops the exact handling of sign(0) = 0.
    cc: the C compiler command.
    """

    target: str = "native"
    name: str | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    emit: tuple[str, ...] = ("lib", "so")
    print_ir_after: tuple[str, ...] = ()
    camera: CameraInput = CameraInput()
    assume_sign_zero: int | None = None
    cc: str | None = None


def front(path: str | Path, options: Options, progress: Progress | None = None) -> ModuleOp:
    """ONNX file to a module of fused regions. Imports no TVM. Raises BnnccError for the user's mistakes."""
    say = progress or _quiet
    say("reading the model")
    module = load_onnx(path, dict(options.dims))
    adapt_inputs(module, options.camera)
    say("recognising and fusing")
    run_pipeline(module, options.print_ir_after, options.assume_sign_zero)
    return module


def lower_model(path: str | Path, options: Options, progress: Progress | None = None) -> Lowered:
    """ONNX file to the plan: buffers, steps, arena. Imports no TVM."""
    return lower(front(path, options, progress), name_of(path, options))


def name_of(path: str | Path, options: Options) -> str:
    """The library's name: the user's, checked, or one from the file's name."""
    return library_name(path) if options.name is None else check_library_name(options.name)


def compile_model(
    path: str | Path,
    output: str | Path | None,
    options: Options,
    progress: Progress | None = None,
) -> Artifact:
    """ONNX file to an artifact in directory `output` (a temporary one if None).

    Raises BnnccError; then the directory is as it was before."""
    return build(lower_model(path, options, progress), path, output, options, progress)


def build(
    lowered: Lowered,
    path: str | Path,
    output: str | Path | None,
    options: Options,
    progress: Progress | None = None,
) -> Artifact:
    """The second half: kernels, library, header, manifest, report."""
    say = progress or _quiet
    target = targets.load(options.target)
    say("generating kernels")
    from bnncc import codegen

    directory = Path(output) if output is not None else Path(tempfile.mkdtemp(prefix="bnncc-")) / "artifact"
    return codegen.emit(lowered, target, directory, Path(path).name, options, say)


def _quiet(_message: str) -> None:
    """The default progress: none."""
