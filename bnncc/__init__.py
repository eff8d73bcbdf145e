# SPDX-License-Identifier: Apache-2.0
"""An ahead-of-time compiler for binary and spiking neural networks.

    artifact = bnncc.compile("model.onnx", target="native", output="build")
    outputs = artifact.run({"x": array})

The command line `bnncc` says the same in the shell.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnncc.diagnostics import BnnccError

if TYPE_CHECKING:
    from bnncc.artifact import Artifact

__all__ = ["BnnccError", "__version__", "compile", "load"]

__version__ = "0.1.0"


def compile(
    path: str | Path,
    target: str = "native",
    output: str | Path | None = None,
    name: str | None = None,
    dims: Mapping[str, int] | None = None,
    **options: Any,
) -> Artifact:
    """Compile an ONNX file to a C library.

    target: a name that `bnncc targets` lists, or a TOML file. output: the directory to write (created; by
    default a temporary one). name: the library's C name (default: from the file's). dims: sizes of symbolic
    dimensions. options: further fields of `bnncc.driver.Options`, such as `emit` and `assume_sign_zero`.

    Raises BnnccError where the model or an option is wrong; then nothing is written.
    """
    from bnncc import driver

    chosen = driver.Options(target=target, name=name, dims=dict(dims or {}), **options)
    return driver.compile_model(path, output, chosen)


def load(directory: str | Path) -> Artifact:
    """Open what `compile` wrote. Raises BnnccError where the directory holds no artifact."""
    from bnncc import artifact

    return artifact.load(directory)
