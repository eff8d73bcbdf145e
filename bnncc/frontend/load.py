# SPDX-License-Identifier: Apache-2.0
"""A model file of any kind -> a module."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from xdsl.dialects.builtin import ModuleOp

from bnncc.diagnostics import BnnccError
from bnncc.frontend.mlir import SUFFIX, load_mlir
from bnncc.frontend.nir.discretization import TimeOptions
from bnncc.frontend.nir.file import is_nir
from bnncc.frontend.nir.importer import load_nir
from bnncc.frontend.onnx import load_onnx


def load_model(path: str | os.PathLike[str], dims: Mapping[str, int], time: TimeOptions) -> ModuleOp:
    """The network in an ONNX file, a NIR file or a file of our own dialect, as the front end of its kind
    reads it.

    dims: of ONNX; time: of NIR. Raises BnnccError for whatever is wrong with the file, and for options that
    are of the other kind."""
    path = Path(path)
    if is_nir(path):
        if dims:
            raise BnnccError("--dim", f"{path.name} is a NIR file: its shapes are fixed", "leave --dim out")
        return load_nir(path, time)
    for name in time.given():
        raise BnnccError(
            f"--{name}", f"{path.name} is no NIR file: it says itself what a step is", "leave it out"
        )
    if path.suffix == SUFFIX:
        if dims:
            raise BnnccError("--dim", f"the shapes in {path.name} are fixed", "leave --dim out")
        return load_mlir(path)
    return load_onnx(path, dims)
