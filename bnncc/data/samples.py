# SPDX-License-Identifier: Apache-2.0
"""Samples of a network's inputs: read from a file, and cut into sequences of calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from bnncc.data import arrays
from bnncc.data.spike_words import unpacked
from bnncc.diagnostics import BnnccError
from bnncc.dialect.network import INPUTS, main_function, names_of, states_of
from bnncc.dialect.types import element_of, shape_of, spike

LABELS = "labels"
"""The array of samples that holds what is right, for those who count it."""

Samples = Mapping[str, np.ndarray]
"""Arrays by input name, stacked along axis 0: batches, or steps of one sequence where there are states."""


def read_samples(path: str | Path) -> Samples:
    """The arrays of a .npz. Raises BnnccError."""
    samples = arrays.read_arrays(Path(path))
    if "" in samples:
        hint = "write it with numpy.savez, an array for each input by its name"
        raise BnnccError(str(path), "samples are an archive of arrays by input name", hint)
    return samples


def sequences(module: ModuleOp, samples: Samples) -> Iterator[list[dict[str, np.ndarray]]]:
    """The given inputs of every sequence of calls, which begins with states of zero or those that are given
    [N, ...]. Of a network with states: steps [T, ...] of one sequence, or [T, N, ...] of N samples, cut into
    what a step takes; else every call is one by itself. Labels are left out."""
    main = main_function(module)
    samples = _unpacked(module, {name: array for name, array in samples.items() if name != LABELS})
    if not states_of(main):
        yield from ([batch] for batch in batches(module, samples))
        return
    types = dict(zip(names_of(main, INPUTS), main.body.block.args, strict=True))
    shapes = {name: shape_of(types[name]) for name in samples if name in types}
    many = {
        name: samples[name].shape[1] // shape[0]
        for name, shape in shapes.items()
        if samples[name].ndim == len(shape) + 1 and shape and samples[name].shape[1:] != shape
    }
    initial = {
        name: samples[name]
        for name in states_of(main)
        if name in shapes and samples[name].ndim == len(shapes[name])
    }
    samples = {name: array for name, array in samples.items() if name not in initial}
    if not many:
        yield _begun(list(batches(module, samples)), initial)
        return
    for number in range(min(many.values())):
        part = {
            name: array[:, number * shapes[name][0] : (number + 1) * shapes[name][0]]
            if name in many
            else array
            for name, array in samples.items()
        }
        first = {
            name: array[number * shapes[name][0] : (number + 1) * shapes[name][0]]
            for name, array in initial.items()
        }
        yield _begun(list(batches(module, part)), first)


def _begun(calls: list[dict[str, np.ndarray]], initial: Samples) -> list[dict[str, np.ndarray]]:
    """A sequence that begins with states that were given once, as `run` takes them."""
    return [{**calls[0], **initial}, *calls[1:]] if calls else []


def _unpacked(module: ModuleOp, samples: Samples) -> Samples:
    """The same, for inputs of packed spikes as 0 and 1, channels last."""
    main = main_function(module)
    types = dict(zip(names_of(main, INPUTS), main.body.block.args, strict=True))
    packed = {name: shape_of(value) for name, value in types.items() if element_of(value) == spike}
    return {
        name: _channels_last(array, packed[name]) if name in packed else array
        for name, array in samples.items()
    }


def _channels_last(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Spikes for an input of this shape [n, c] or [n, h, w, c]: packed words, or dense as the model has them
    ([n, c, h, w]), with any dimensions in front."""
    if array.dtype == np.uint32:
        return unpacked(array, shape[-1])
    is_first = len(shape) == 4 and array.shape[-3:] == (shape[3], *shape[1:3])
    return np.moveaxis(array, -3, -1) if is_first else array


def batches(module: ModuleOp, samples: Samples) -> Iterator[dict[str, np.ndarray]]:
    """The given inputs of every call: samples cut along axis 0."""
    main = main_function(module)
    types = dict(zip(names_of(main, INPUTS), main.body.block.args, strict=True))
    unknown = sorted(set(samples) - set(types))
    if unknown:
        hint = f"its inputs are {', '.join(types)}"
        raise BnnccError("--calibrate", f"the network has no input '{unknown[0]}'", hint)
    given = [name for name in types if name in samples or name not in states_of(main)]
    cut = {name: _cut(name, samples, types[name]) for name in given}
    if len({len(parts) for parts in cut.values()}) != 1:
        raise BnnccError("--calibrate", "the inputs have different numbers of samples")
    for parts in zip(*cut.values(), strict=True):
        yield dict(zip(cut, parts, strict=True))


def _cut(name: str, samples: Samples, value: SSAValue) -> list[np.ndarray]:
    """The samples of one input, each of its shape; what is left over is dropped."""
    shape = shape_of(value)
    if name not in samples:
        raise BnnccError("--calibrate", f"no samples of the input '{name}'")
    array = samples[name]
    if array.shape[1:] == shape:
        return list(array)
    if not shape or array.shape[1:] != shape[1:] or len(array) < shape[0]:
        message = f"'{name}' has shape {shape}, its samples {array.shape}"
        raise BnnccError("--calibrate", message, "stack samples along axis 0")
    return [array[i : i + shape[0]] for i in range(0, len(array) - shape[0] + 1, shape[0])]
