# SPDX-License-Identifier: Apache-2.0
"""An ahead-of-time compiler for binary and spiking neural networks.

    artifact = bnncc.compile("model.onnx", target="native", output="build")
    outputs = artifact.run({"x": array})

The command line `bnncc` says the same in the shell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnncc.diagnostics import BnnccError

if TYPE_CHECKING:
    import torch

    from bnncc.execution.artifact import Artifact

__all__ = ["BnnccError", "__version__", "compile", "load"]

__version__ = "0.1.0"


def compile(
    model: str | Path | torch.nn.Module | torch.export.ExportedProgram,
    example_inputs: Any = None,
    *,
    target: str | Path = "native",
    output: str | Path | None = None,
    name: str | None = None,
    dims: Mapping[str, int] | None = None,
    states: Mapping[str, str] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_batch: bool = False,
    **options: Any,
) -> Artifact:
    """Compile an ONNX or NIR file or a PyTorch module to a C library.

    model: a path, a module (compiled as it answers in evaluation mode, and left as it is), or what
    torch.export.export gives.
    target: a name that `bnncc targets` lists, or a TOML file.
    output: the directory to write (created; by default a temporary one, which ends with the process).
    name: the library's C name (default: from the file's or the class's).
    dims: sizes of symbolic dimensions by name.
    states: output name by input name of what a graph of one time step keeps for the next.

    For a module alone:

    example_inputs: what it is called with (a tensor, a tuple, or a dict of keyword arguments); they fix
    shapes and types.
    input_names, output_names: default: the parameters of `forward`, and "output" or the keys of what it
    returns.
    dynamic_batch: axis 0 of every input becomes the dimension "batch".

    options: the further options of the command line, spelled with underscores: `emit` ("lib,so" or a
    tuple), `optimize` ("size", "speed"), `threads`, `tuning_db`, `calibrate` (a path, or arrays by input
    name), `quantize_real`, `quantize_weights`, `membrane`, `input_type`, `input_layout`, `normalize` (a mean
    and a deviation, or a tuple of each), `assume_sign_zero` (1 or -1), `ram` and `flash` (bytes), `package`,
    `profile`, `cc`, `backend`; for a NIR file `dt`, the length of a step in the unit of its time constants,
    `preset`, `reset`, `integrator`, `current` and `v_min`. `bnncc compile --help` says what each does.

    Raises BnnccError where the model or an option is wrong; then nothing is written.
    """
    from bnncc import driver

    chosen = driver.Options.of(
        {"target": str(target), "name": name, "dims": dims or {}, "states": states or {}} | options
    )
    export = driver.Export(example_inputs, input_names, output_names, dynamic_batch)
    if not isinstance(model, (str, PathLike)):
        return driver.compile_module(model, output, chosen, export)
    if example_inputs is not None or input_names or output_names or dynamic_batch:
        raise BnnccError(str(model), "example inputs, names and dynamic_batch are for PyTorch modules alone")
    return driver.compile_model(Path(model), output, chosen)


def load(directory: str | Path) -> Artifact:
    """Open what `compile` wrote. Raises BnnccError where the directory holds no artifact."""
    from bnncc.execution import artifact

    return artifact.load(directory)
