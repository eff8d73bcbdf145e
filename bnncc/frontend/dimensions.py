# SPDX-License-Identifier: Apache-2.0
"""The inputs of a model get static shapes: the batch is 1 unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from bnncc.diagnostics import BnnccError
from bnncc.frontend.kinds import LARGEST_TENSOR, Kind, kind_from_proto

BATCH = 1
"""The size of a symbolic leading dimension that `--dim` does not name."""


def input_kinds(file: str, inputs: Sequence[onnx.ValueInfoProto], dims: Mapping[str, int]) -> dict[str, Kind]:
    """Name -> static kind of every input of the graph.

    A dimension goes by the name that the file gives it, else by `input.axis` ("x.2"). A leading one that
    `dims` does not name is the batch. Raises BnnccError where a size is missing, wrong, or of no use."""
    for name, size in dims.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise BnnccError(f"--dim {name}", f"a dimension must be a positive integer, not {size!r}")
    kinds = {value.name: declared_kind(file, value) for value in inputs}
    names = {value.name: dimension_names(value) for value in inputs}
    symbols = {symbol: None for sizes in names.values() for symbol in sizes if symbol is not None}
    unknown = [name for name in dims if name not in symbols]
    if unknown:
        listed = ", ".join(symbols) or "none"
        raise BnnccError(
            f"--dim {unknown[0]}",
            f"no input of the model has a symbolic dimension '{unknown[0]}'",
            f"the symbolic dimensions of {file}: {listed}",
        )
    sizes = {sizes[0]: BATCH for sizes in names.values() if sizes and sizes[0] is not None}
    sizes.update(dims)
    return {name: resolve(file, name, kinds[name], names[name], sizes) for name in kinds}


def declared_kind(file: str, value: onnx.ValueInfoProto) -> Kind:
    """The kind that the file declares for an input."""
    location = f"{file}:{value.name}"
    try:
        kind = kind_from_proto(value.type)
    except ValueError as why:
        raise BnnccError(location, f"the input '{value.name}' is not supported: {why}") from None
    if kind is None:
        raise BnnccError(
            location,
            f"the input '{value.name}' has no element type or no shape",
            "export the model with typed inputs of known rank",
        )
    return kind


def dimension_names(value: onnx.ValueInfoProto) -> list[str | None]:
    """For each dimension of an input: the name of its symbol, or None where the file gives its size."""
    return [
        None if dim.HasField("dim_value") else dim.dim_param or f"{value.name}.{axis}"
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
    ]


def resolve(
    file: str, name: str, kind: Kind, symbols: Sequence[str | None], sizes: Mapping[str, int]
) -> Kind:
    """The kind with every symbol replaced by its size."""
    location = f"{file}:{name}"
    shape: list[int] = []
    for axis, (size, symbol) in enumerate(zip(kind.shape, symbols, strict=True)):
        if symbol is not None and symbol not in sizes:
            raise BnnccError(
                location,
                f"dimension {axis} of the input '{name}' is symbolic ('{symbol}'), and not the batch",
                f"say its size: --dim {symbol}=VALUE",
            )
        actual = size if symbol is None else sizes[symbol]
        if actual is None or actual < 1:
            raise BnnccError(
                location,
                f"dimension {axis} of the input '{name}' is {actual}, but must be at least 1",
                "export the model with sensible input shapes",
            )
        shape.append(actual)
    static = Kind(kind.dtype, tuple(shape))
    if static.bytes > LARGEST_TENSOR:
        raise BnnccError(location, f"the input '{name}', {static}, would take {static.bytes} bytes")
    return static
