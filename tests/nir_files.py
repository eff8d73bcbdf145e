# SPDX-License-Identifier: Apache-2.0
"""NIR files that tests make: networks of every node type, written with the package `nir`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np

Edges = Sequence[tuple[str, str]]


def write(folder: Path, nodes: Mapping[str, nir.NIRNode], edges: Edges, name: str = "model.nir") -> Path:
    """A file with these nodes and edges, unchecked."""
    path = folder / name
    nir.write(path, nir.NIRGraph(dict(nodes), list(edges), type_check=False))
    return path


def chain(
    folder: Path, shape: Sequence[int], *middle: nir.NIRNode, result: Sequence[int] | None = None
) -> Path:
    """input -> n0 -> n1 ... -> output; `result`: the shape of the output, if it is not that of the input."""
    names = [f"n{i}" for i in range(len(middle))]
    nodes = {
        "input": port(nir.Input, shape),
        **dict(zip(names, middle, strict=True)),
        "output": port(nir.Output, shape if result is None else result),
    }
    path = ["input", *names, "output"]
    return write(folder, nodes, list(pairwise(path)))


def port(kind: type, shape: Sequence[int]) -> nir.NIRNode:
    """An Input or an Output."""
    return kind(np.array(shape))


def vector(*values: float) -> np.ndarray:
    """Numbers as float32."""
    return np.array(values, np.float32)


def full(shape: Sequence[int], value: float) -> np.ndarray:
    """A parameter, the same for every neuron."""
    return np.full(shape, value, np.float32)


def lif(shape: Sequence[int], tau: float = 2e-3, v_threshold: float = 0.3, **more: float) -> nir.LIF:
    """A LIF layer; r 2, v_leak 0.05, v_reset -0.1 unless told otherwise."""
    values = {"tau": tau, "r": 2.0, "v_leak": 0.05, "v_reset": -0.1, "v_threshold": v_threshold, **more}
    parameters: dict[str, Any] = {name: full(shape, value) for name, value in values.items()}
    return nir.LIF(**parameters)


def cuba_lif(shape: Sequence[int], **more: float) -> nir.CubaLIF:
    """A CubaLIF layer."""
    values = {"tau_syn": 3e-3, "tau_mem": 2e-3, "r": 2.0, "v_leak": 0.02, "v_reset": -0.1, "v_threshold": 0.3}
    values |= {"w_in": 1.5, **more}
    parameters: dict[str, Any] = {name: full(shape, value) for name, value in values.items()}
    return nir.CubaLIF(**parameters)


def dyadic(rng: np.random.Generator, scale: float, shape: Sequence[int]) -> np.ndarray:
    """Normal numbers rounded to 64ths: sums of some hundred products in float32 are exact."""
    return (np.rint(rng.normal(0, scale, shape) * 64) / 64).astype(np.float32)


def affine(rng: np.random.Generator, outputs: int, inputs: int, scale: float = 1.0) -> nir.Affine:
    """Random weights and bias."""
    return nir.Affine(dyadic(rng, scale / np.sqrt(inputs), (outputs, inputs)), dyadic(rng, 0.1, (outputs,)))


def conv2d(
    rng: np.random.Generator,
    outputs: int,
    inputs: int,
    image: tuple[int, int],
    size: int = 3,
    stride: int = 1,
    padding: int | str = 1,
    groups: int = 1,
    dilation: int = 1,
) -> nir.Conv2d:
    """Random weights and bias, for images of a height and a width."""
    weight, bias = dyadic(rng, 0.5, (outputs, inputs // groups, size, size)), dyadic(rng, 0.1, (outputs,))
    sizes = padding if isinstance(padding, str) else (padding, padding)
    return nir.Conv2d(image, weight, (stride, stride), sizes, (dilation, dilation), groups, bias)


def spikes(rng: np.random.Generator, steps: int, shape: Sequence[int], rate: float = 0.3) -> np.ndarray:
    """[T, 1, *shape] of zeros and ones."""
    return (rng.random((steps, 1, *shape)) < rate).astype(np.float32)
