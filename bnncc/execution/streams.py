# SPDX-License-Identifier: Apache-2.0
"""Running a network with states: streams, and sequences of independent samples.

A stream is a state of its own; any number of them share one library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bnncc.data.spike_words import as_words
from bnncc.diagnostics import BnnccError, did_you_mean, joined

if TYPE_CHECKING:
    from bnncc.execution.artifact import Artifact

Arrays = Mapping[str, np.ndarray]


class Stream:
    """One sequence that goes through a network step by step. Begins with all states zero."""

    def __init__(self, artifact: Artifact):
        """artifact: of a network with states."""
        self.artifact = artifact
        manifest = artifact.manifest
        self._arena, self._state = artifact.arena(), artifact.state_memory()
        self._inputs = [np.empty(port["shape"], port["dtype"]) for port in manifest["inputs"]]
        self._outputs = [np.empty(port["shape"], port["dtype"]) for port in manifest["outputs"]]
        self._call = artifact.bind(self._arena, self._inputs, self._outputs, self._state)

    def reset(self) -> None:
        """All states are zero again."""
        self._state[:] = 0

    def step(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs of one step, new states among them, by ONNX name.

        inputs: arrays of the shapes of one step; states may be among them, by their input names, and are
        then taken instead of those that the step before left. Raises BnnccError for wrong names, shapes or
        types."""
        given = checked(self.artifact, inputs, leading=0)
        for port, place in zip(self.artifact.manifest["inputs"], self._inputs, strict=True):
            place[...] = given[port["name"]]
        write_states(self.artifact.manifest, self._state, given)
        self._call()
        return {
            name: array.copy() for name, array in zip(self.artifact.output_names, self._outputs, strict=True)
        }


def run_sequences(artifact: Artifact, inputs: Arrays) -> dict[str, np.ndarray]:
    """All outputs [T, N, ...] for inputs [T, N, ...], every sample from states of zero or the given [N, ...].

    N is any number of samples where the network counts them on axis 0 of a step; else T steps of its shapes.
    Raises BnnccError for wrong names, shapes or types."""
    given = checked(artifact, inputs, leading=1)
    samples, step = _samples(artifact, given), artifact.batch or 1
    parts = [
        (arrays, sample_states(artifact, given, number * step))
        for number, arrays in enumerate(sample_batches(artifact, given))
    ]
    if artifact.emulator is not None:
        results = artifact.emulator.run_sequences(parts)
    else:
        results = [artifact.run_sequence(arrays, state) for arrays, state in parts]
    if artifact.batch is None:
        return dict(zip(artifact.output_names, results[0], strict=True))
    return {
        name: np.concatenate([part[index] for part in results], axis=1)[:, :samples]
        for index, name in enumerate(artifact.output_names)
    }


def sample_batches(artifact: Artifact, given: Arrays) -> list[list[np.ndarray]]:
    """Inputs [T, N, ...] in order, cut into what one call takes: [T, batch, ...], the last filled up with
    zeros."""
    names = [port["name"] for port in artifact.manifest["inputs"]]
    starts = range(0, _samples(artifact, given), artifact.batch or 1)
    return [[_cut(given[name], start, artifact.batch, 1) for name in names] for start in starts]


def _samples(artifact: Artifact, given: Arrays) -> int:
    first = given[artifact.manifest["inputs"][0]["name"]]
    return 1 if artifact.batch is None else first.shape[1]


def sample_states(artifact: Artifact, given: Arrays, start: int) -> np.ndarray:
    """State memory at the beginning of a batch of samples."""
    memory = artifact.state_memory()
    names = {port["name"] for port in artifact.manifest["states"]}
    initial = {name: _cut(array, start, artifact.batch, 0) for name, array in given.items() if name in names}
    write_states(artifact.manifest, memory, initial)
    return memory


def _cut(array: np.ndarray, start: int, batch: int | None, axis: int) -> np.ndarray:
    """The samples from `start`, a batch of them, zeros where there are no more."""
    if batch is None:
        return np.ascontiguousarray(array)
    part = array[(slice(None),) * axis + (slice(start, start + batch),)]
    missing = [(0, 0)] * array.ndim
    missing[axis] = (0, batch - part.shape[axis])
    return np.ascontiguousarray(np.pad(part, missing))


def write_states(manifest: Mapping[str, Any], memory: np.ndarray, given: Arrays) -> None:
    """Put those states that are given where they lie in the state memory."""
    for port in manifest["states"]:
        if port["name"] in given:
            state_view(port, memory)[...] = given[port["name"]]


def state_view(port: Mapping[str, Any], memory: np.ndarray) -> np.ndarray:
    """A state in the state memory, in its ONNX shape; not a copy."""
    dtype = np.dtype(port["dtype"])
    start = memory[state_offset(port, memory) :].view(dtype)
    steps = [stride * dtype.itemsize for stride in port["strides"]]
    return np.lib.stride_tricks.as_strided(start, port["shape"], steps)


def state_offset(facts: Mapping[str, Any], memory: np.ndarray) -> int:
    """Where a state, or a buffer in the state memory, lies now: a slot of a ring moves with every step."""
    ring = facts.get("ring")
    if ring is None:
        return facts["offset"]
    position = int(memory[ring["position"] :][:4].view(np.uint32)[0])
    return ring["first"] + (position + ring["slot"]) % ring["slots"] * ring["stride"]


def checked(artifact: Artifact, inputs: Arrays, leading: int) -> dict[str, np.ndarray]:
    """The arrays, their names, shapes and types right. leading: dimensions in front of those of a step
    (1: T); then axis 0 of a step may have any length, where it counts samples."""
    if not isinstance(inputs, Mapping):
        message = f"inputs must be arrays by name, found {type(inputs).__name__}"
        raise BnnccError(artifact.name, message, _described(artifact, leading))
    manifest = artifact.manifest
    inputs = with_words(manifest, inputs)
    ports = {port["name"]: port for port in (*manifest["inputs"], *manifest["states"])}
    needed = [port["name"] for port in manifest["inputs"]]
    hint = _described(artifact, leading)
    problems = [
        BnnccError(artifact.name, f"there is no input '{name}'", did_you_mean(name, ports) + hint)
        for name in inputs
        if name not in ports
    ]
    problems += [
        BnnccError(artifact.name, f"the input '{name}' is missing", hint)
        for name in needed
        if name not in inputs
    ]
    for name in ports.keys() & inputs.keys():
        problems += _shape_problems(
            artifact, ports[name], inputs[name], leading if name in needed else 0, leading
        )
    if not problems:
        problems = _length_problems(artifact, inputs, needed, leading)
    if problems:
        raise joined(problems)
    return dict(inputs)


def with_words(manifest: Mapping[str, Any], inputs: Arrays) -> Arrays:
    """The inputs, dense spikes packed where the library wants words."""
    wanted = {port["name"]: port for port in manifest["inputs"] if "spikes" in port}
    return {
        name: as_words(wanted[name], array) if name in wanted else array for name, array in inputs.items()
    }


def _described(artifact: Artifact, leading: int) -> str:
    manifest, front = artifact.manifest, ["T"] * leading
    known = [
        f"'{p['name']}' ({p['dtype']} {_spelled(_wanted(artifact, p, front, leading))})"
        for p in manifest["inputs"]
    ]
    states = [
        f"'{p['name']}' ({p['dtype']} {_spelled(_wanted(artifact, p, [], leading))})"
        for p in manifest["states"]
    ]
    return f"the inputs are {', '.join(known)}; states that may be given: {', '.join(states)}"


TURNS = ((0, 3, 1, 2), (0, 2, 3, 1))
"""Channels from last to first, and back."""


def wrong_shape(where: str, wanted: Sequence[int | str], shape: Sequence[int]) -> BnnccError:
    """The error for an array of another shape than wanted (a name: any length), and how it would fit."""

    def fits(shape: Sequence[int]) -> bool:
        pairs = zip(wanted, shape, strict=False)
        return len(shape) == len(wanted) and all(isinstance(w, str) or w == s for w, s in pairs)

    missing, hint = len(wanted) - len(shape), ""
    if missing > 0 and fits((1,) * missing + tuple(shape)):
        hint = f"put the axes that it lacks in front: array[{', '.join(['None'] * missing)}]"
    for axes in TURNS:
        if len(shape) == len(axes) and fits([shape[axis] for axis in axes]):
            hint = f"turn its axes: array.transpose{axes}; or compile with --input-layout"
    return BnnccError(where, f"expected the shape {_spelled(wanted)}, got {list(shape)}", hint)


def _spelled(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _wanted(
    artifact: Artifact, port: Mapping[str, Any], front: Sequence[str], leading: int
) -> list[int | str]:
    shape = list(port["shape"])
    if leading and artifact.batch is not None:
        shape[0] = "N"
    return [*front, *shape]


def _shape_problems(
    artifact: Artifact, port: Mapping[str, Any], array: object, front: int, leading: int
) -> list[BnnccError]:
    where = f"input '{port['name']}'"
    if not isinstance(array, np.ndarray):
        message = f"expected a NumPy array, got {type(array).__name__}"
        return [BnnccError(where, message, "numpy.asarray makes one")]
    if array.dtype != np.dtype(port["dtype"]):
        hint = f"convert it: array.astype(numpy.{port['dtype']})"
        return [BnnccError(where, f"expected {port['dtype']}, got {array.dtype}", hint)]
    free = 1 if leading and artifact.batch is not None else 0
    fits = array.ndim == front + len(port["shape"])
    fits = fits and list(array.shape[front + free :]) == list(port["shape"][free:])
    if not fits:
        wanted = _wanted(artifact, port, ["T"] * front, leading)
        return [wrong_shape(where, wanted, array.shape)]
    if 0 in array.shape[: front + free]:
        return [BnnccError(where, f"there is nothing to run: its shape is {list(array.shape)}")]
    return []


def _length_problems(
    artifact: Artifact, inputs: Arrays, needed: Sequence[str], leading: int
) -> list[BnnccError]:
    """T must be the same for all inputs, N for these and the states."""
    if not leading:
        return []
    steps = {name: inputs[name].shape[0] for name in needed}
    samples = {name: array.shape[1 if name in needed else 0] for name, array in inputs.items() if array.ndim}
    found = []
    for what, counts in (("steps", steps), ("samples", samples if artifact.batch is not None else {})):
        if len(set(counts.values())) > 1:
            text = ", ".join(f"{count} in '{name}'" for name, count in counts.items())
            found.append(BnnccError(artifact.name, f"the inputs hold different numbers of {what}: {text}"))
    return found
