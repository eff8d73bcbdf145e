# SPDX-License-Identifier: Apache-2.0
"""PyTorch modules as ONNX files, by either exporter, in any operator set."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def export(
    module: nn.Module,
    x: Tensor | tuple[Tensor, ...],
    path: Path,
    *,
    dynamo: bool,
    opset: int,
    dynamic: bool = False,
    input_names: Sequence[str] = ("x",),
    output_names: Sequence[str] = ("y",),
) -> Path:
    """Write `path`; quiet. x: the input, or all of them. With `dynamic` the batch is a symbol."""
    axes: dict[str, Any] = (
        {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamo else {"dynamic_axes": {"x": {0: "n"}}}
    )
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                x if isinstance(x, tuple) else (x,),
                str(path),
                input_names=list(input_names),
                output_names=list(output_names),
                dynamo=dynamo,
                opset_version=opset,
                **(axes if dynamic else {}),
            )
    finally:
        logging.disable(logging.NOTSET)
    return path
