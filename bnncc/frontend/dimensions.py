# SPDX-License-Identifier: Apache-2.0
"""The inputs of a model get static shapes: the batch is 1 unless told otherwise."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx

from bnncc.diagnostics import BnnccError, did_you_mean, joined
from bnncc.frontend.kinds import LARGEST_TENSOR, Kind, kind_from_proto

BATCH = 1
"""The size of a symbolic leading dimension that `--dim` does not name."""


def input_kinds(
    file: str,
    inputs: Sequence[onnx.ValueInfoProto],
    dims: Mapping[str, int],
    problems: list[BnnccError],
    counts: Collection[str] = (),
) -> dict[str, Kind]:
    """Name -> static kind of every input of the graph, but those that `problems` tells of.

    A dimension goes by the name that the file gives it, else by `input.axis` ("x.2"). A leading one that
    `dims` does not name is the batch. counts: inputs that say how often a loop runs, which `dims` may bound.
    Raises BnnccError where `dims` is wrong."""
    for name, size in dims.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise BnnccError(f"--dim {name}", f"a dimension must be a positive integer, not {size!r}")
    kinds: dict[str, Kind] = {}
    for value in inputs:
        try:
            kinds[value.name] = declared_kind(file, value)
        except BnnccError as problem:
            problems.append(problem)
    names = {value.name: dimension_names(value) for value in inputs}
    symbols = {symbol: None for sizes in names.values() for symbol in sizes if symbol is not None}
    symbols |= dict.fromkeys(name for name in names if name in counts)
    unknown = [name for name in dims if name not in symbols]
    if unknown:
        listed = f"the symbolic dimensions of {file}: {', '.join(symbols) or 'none'}"
        raise joined(
            [
                BnnccError(
                    f"--dim {name}",
                    f"no input of the model has a symbolic dimension '{name}'",
                    did_you_mean(name, symbols) + listed,
                )
                for name in unknown
            ]
        )
    sizes = {sizes[0]: BATCH for sizes in names.values() if sizes and sizes[0] is not None}
    sizes.update(dims)
    return {
        name: static
        for name, kind in kinds.items()
        if (static := resolve(file, name, kind, names[name], sizes, problems)) is not None
    }


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
    file: str,
    name: str,
    kind: Kind,
    symbols: Sequence[str | None],
    sizes: Mapping[str, int],
    problems: list[BnnccError],
) -> Kind | None:
    """The kind with every symbol replaced by its size; None where that fails, and `problems` says why."""
    location = f"{file}:{name}"
    shape: list[int] = []
    before = len(problems)
    for axis, (size, symbol) in enumerate(zip(kind.shape, symbols, strict=True)):
        if symbol is not None and symbol not in sizes:
            problems.append(
                BnnccError(
                    location,
                    f"dimension {axis} of the input '{name}' is symbolic ('{symbol}'), and not the batch",
                    f"say its size: --dim {symbol}=VALUE",
                )
            )
            continue
        actual = size if symbol is None else sizes[symbol]
        if actual is None or actual < 1:
            problems.append(
                BnnccError(
                    location,
                    f"dimension {axis} of the input '{name}' is {actual}, but must be at least 1",
                    "export the model with sensible input shapes",
                )
            )
            continue
        shape.append(actual)
    static = Kind(kind.dtype, tuple(shape))
    if len(problems) == before and static.bytes > LARGEST_TENSOR:
        hint = "export the model with sensible input shapes"
        problems.append(
            BnnccError(location, f"the input '{name}', {static}, would take {static.bytes} bytes", hint)
        )
    return static if len(problems) == before else None
