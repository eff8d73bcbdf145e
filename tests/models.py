# SPDX-License-Identifier: Apache-2.0
"""Small ONNX models, written by tests into a folder of theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Shape = Sequence[int | str | None]


def real(values: ArrayLike) -> np.ndarray:
    """A float32 array."""
    return np.array(values, np.float32)


def whole(values: ArrayLike) -> np.ndarray:
    """An int64 array."""
    return np.array(values, np.int64)


def make_model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Iterable[str],
    constants: Mapping[str, ArrayLike] | None = None,
    opset: int = 17,
    domains: Iterable[str] = (),
) -> ModelProto:
    """A model with float inputs of the shapes given (a name: symbolic, None: nameless), untyped outputs."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def write(folder: Path, model: ModelProto, name: str = "model.onnx") -> Path:
    """Put the model into a file; its path."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path
