# SPDX-License-Identifier: Apache-2.0
"""Arrays that a caller gives: held against the ports of a manifest, and cut into what one call takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bnncc.data.spike_words import as_words
from bnncc.diagnostics import BnnccError, did_you_mean, joined

Arrays = Mapping[str, np.ndarray]
"""By ONNX name."""

Manifest = Mapping[str, Any]
"""manifest.json of an artifact as plain data."""

TURNS = ((0, 3, 1, 2), (0, 2, 3, 1))
"""Channels from last to first, and back."""


def checked(manifest: Manifest, inputs: Arrays, *, steps: bool, samples: bool) -> dict[str, np.ndarray]:
    """The arrays, those of inputs first and in their order, names, shapes and types right, dense spikes
    packed where the library wants words. States may be among them.

    steps: a dimension T stands in front of those of one step, but for states. samples: axis 0 of a step may
    have any length, where the network counts samples there. Raises one BnnccError of all that is wrong."""
    name, hint = manifest["name"], _described(manifest, steps, samples)
    if not isinstance(inputs, Mapping):
        raise BnnccError(name, f"inputs must be arrays by name, found {type(inputs).__name__}", hint)
    needed = [port["name"] for port in manifest["inputs"]]
    ports = {port["name"]: port for port in (*manifest["inputs"], *manifest.get("states", ()))}
    given = _with_words(manifest, inputs)
    problems = [
        BnnccError(name, f"there is no input '{extra}'", did_you_mean(extra, ports) + hint)
        for extra in given
        if extra not in ports
    ]
    problems += [
        BnnccError(name, f"the input '{missing}' is missing", hint)
        for missing in needed
        if missing not in given
    ]
    for port in (port for name, port in ports.items() if name in given):
        wanted = _wanted(manifest, port, steps and port["name"] in needed, samples)
        problems += _shape_problems(port, given[port["name"]], wanted)
    if problems := problems or _length_problems(manifest, given, steps, samples):
        raise joined(problems)
    return {name: given[name] for name in ports if name in given}


def count_samples(manifest: Manifest, given: Arrays, *, steps: bool) -> int | None:
    """How many samples checked arrays hold; None where the network does not count them."""
    first = manifest["inputs"][0]["name"] if manifest["inputs"] else None
    if first is None or manifest.get("batch") is None:
        return None
    return given[first].shape[int(steps)]


def batches(manifest: Manifest, given: Arrays, *, steps: bool) -> Iterator[list[np.ndarray]]:
    """Checked arrays in the order of the inputs, cut into what one call takes, C-contiguous: the compiled
    batch of samples, the last filled up with zeros; all T steps of it."""
    arrays = [given[port["name"]] for port in manifest["inputs"]]
    batch = manifest.get("batch")
    for start in range(0, count_samples(manifest, given, steps=steps) or 1, batch or 1):
        yield [cut(array, start, batch, int(steps)) for array in arrays]


def cut(array: np.ndarray, start: int, batch: int | None, axis: int) -> np.ndarray:
    """The samples from `start` on along an axis, a batch of them, zeros where there are no more; the whole
    array where there is no batch. C-contiguous."""
    if batch is not None:
        array = array[(slice(None),) * axis + (slice(start, start + batch),)]
        missing = batch - array.shape[axis]
        if missing:
            array = np.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)])
    return np.ascontiguousarray(array).reshape(array.shape)


def wrong_shape(where: str, wanted: Sequence[int | str], shape: Sequence[int]) -> BnnccError:
    """The error for an array of another shape than wanted (a name: any length), and how it would fit."""
    missing, hint = len(wanted) - len(shape), ""
    if missing > 0 and _fits(wanted, (1,) * missing + tuple(shape)):
        hint = f"put the axes that it lacks in front: array[{', '.join(['None'] * missing)}]"
    for axes in TURNS:
        if len(shape) == len(axes) and _fits(wanted, [shape[axis] for axis in axes]):
            hint = f"turn its axes: array.transpose{axes}; or compile with --input-layout"
    return BnnccError(where, f"expected the shape {_spelled(wanted)}, got {list(shape)}", hint)


def _with_words(manifest: Manifest, inputs: Arrays) -> Arrays:
    """The inputs, dense spikes packed where the library wants words."""
    wanted = {port["name"]: port for port in manifest["inputs"] if "spikes" in port}
    return {
        name: as_words(wanted[name], array) if name in wanted else array for name, array in inputs.items()
    }


def _wanted(manifest: Manifest, port: Mapping[str, Any], steps: bool, samples: bool) -> list[int | str]:
    """The shape of an array; a name stands for any length."""
    shape = list(port["shape"])
    if samples and manifest.get("batch") is not None:
        shape[0] = "N"
    return ["T", *shape] if steps else shape


def _fits(wanted: Sequence[int | str], shape: Sequence[int]) -> bool:
    pairs = zip(wanted, shape, strict=False)
    return len(shape) == len(wanted) and all(isinstance(w, str) or w == s for w, s in pairs)


def _described(manifest: Manifest, steps: bool, samples: bool) -> str:
    def listed(ports: Sequence[Mapping[str, Any]], steps: bool) -> str:
        shapes = (_spelled(_wanted(manifest, port, steps, samples)) for port in ports)
        pairs = zip(ports, shapes, strict=True)
        return ", ".join(f"'{port['name']}' ({port['dtype']} {shape})" for port, shape in pairs)

    text = f"the inputs are {listed(manifest['inputs'], steps)}"
    states = manifest.get("states", ())
    return f"{text}; states that may be given: {listed(states, False)}" if states else text


def _spelled(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _shape_problems(port: Mapping[str, Any], array: object, wanted: Sequence[int | str]) -> list[BnnccError]:
    where = f"input '{port['name']}'"
    if not isinstance(array, np.ndarray):
        message = f"expected a NumPy array, got {type(array).__name__}"
        return [BnnccError(where, message, "numpy.asarray makes one")]
    if array.dtype != np.dtype(port["dtype"]):
        hint = f"convert it: array.astype(numpy.{port['dtype']})"
        return [BnnccError(where, f"expected {port['dtype']}, got {array.dtype}", hint)]
    if not _fits(wanted, array.shape):
        return [wrong_shape(where, wanted, array.shape)]
    free = [length for length, any_ in zip(array.shape, wanted, strict=True) if isinstance(any_, str)]
    if 0 in free:
        return [BnnccError(where, f"there is nothing to run: its shape is {list(array.shape)}")]
    return []


def _length_problems(manifest: Manifest, given: Arrays, steps: bool, samples: bool) -> list[BnnccError]:
    """T must be the same for all inputs, N for these and the states."""
    needed = [port["name"] for port in manifest["inputs"]]
    counts: dict[str, dict[str, int]] = {}
    if steps:
        counts["steps"] = {name: given[name].shape[0] for name in needed}
    if samples and manifest.get("batch") is not None:
        axis = {name: int(steps and name in needed) for name in given}
        counts["samples"] = {name: array.shape[axis[name]] for name, array in given.items()}
    return [
        BnnccError(
            manifest["name"],
            f"the inputs hold different numbers of {what}: "
            + ", ".join(f"{count} in '{name}'" for name, count in found.items()),
        )
        for what, found in counts.items()
        if len(set(found.values())) > 1
    ]
