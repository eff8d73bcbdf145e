# SPDX-License-Identifier: Apache-2.0
"""Which neurons fire when: a compiled network is run, and the spikes of every layer are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bnncc.diagnostics import BnnccError
from bnncc.execution.artifact import Artifact
from bnncc.execution.inputs import batches, checked, count_samples
from bnncc.execution.memory import initial_state, state_offset

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Raster:
    """The spikes of one layer: uint8 [T, N, neurons...], images as [T, N, channels, rows, columns]; how many
    of each neuron in each step (one at most, but for neurons that fire several times in a step)."""

    name: str
    spikes: np.ndarray

    @property
    def rate(self) -> float:
        """Spikes of a neuron in a step, on average."""
        return float(self.spikes.mean(dtype=np.float64))

    def summary(self) -> dict[str, Any]:
        """For reports."""
        steps, samples, *neurons = self.spikes.shape
        return {
            "layer": self.name,
            "neurons": int(np.prod(neurons)),
            "steps": steps,
            "samples": samples,
            "spikes": int(self.spikes.sum(dtype=np.int64)),
            "rate": self.rate,
        }


def record(
    artifact: Artifact, inputs: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[Raster]]:
    """What `artifact.run` gives, and the spikes of every layer in order of execution.

    Raises BnnccError for inputs that do not fit, a network without neurons, or one that cannot be watched."""
    if not any("spikes" in step for step in artifact.manifest["steps"]):
        raise BnnccError(artifact.name, "the network has no layer of spiking neurons", "leave --spikes out")
    manifest, has_states = artifact.manifest, artifact.is_stateful
    given = checked(manifest, inputs, steps=has_states, samples=True)
    parts: list[tuple[list[np.ndarray], list[Raster]]] = []
    for number, arrays in enumerate(batches(manifest, given, steps=has_states)):
        if has_states:
            state = initial_state(manifest, given, number * (artifact.batch or 1))
            parts.append(_sequence(artifact, arrays, state))
        else:
            outputs, layers = _watched(artifact, arrays, None)
            parts.append((outputs, _over_time(layers)))
    samples = count_samples(manifest, given, steps=has_states)
    outputs = artifact.joined([outputs for outputs, _ in parts], int(has_states), samples)
    return outputs, _joined([layers for _, layers in parts], samples)


def _sequence(
    artifact: Artifact, arrays: Sequence[np.ndarray], state: np.ndarray
) -> tuple[list[np.ndarray], list[Raster]]:
    """A batch of samples through a network with states, step by step."""
    steps = [_watched(artifact, inputs, state) for inputs in zip(*arrays, strict=True)]
    outputs = [np.stack(column) for column in zip(*(found for found, _ in steps), strict=True)]
    rasters = [
        Raster(layers[0].name, np.concatenate([layer.spikes for layer in layers]))
        for layers in zip(*(layers for _, layers in steps), strict=True)
    ]
    return outputs, _named(rasters)


@dataclass(frozen=True)
class _Layer(Raster):
    """Of one call of the library. is_loop: whether its steps are trips of a loop, or of one kernel."""

    is_loop: bool = False


def _watched(
    artifact: Artifact, inputs: Sequence[np.ndarray], state: np.ndarray | None
) -> tuple[list[np.ndarray], list[_Layer]]:
    """One call of the library: outputs, and the spikes of its layers."""
    manifest = artifact.manifest
    arena = artifact.arena()
    outputs = [np.empty(port["shape"], port["dtype"]) for port in manifest["outputs"]]
    inputs = [np.ascontiguousarray(array) for array in inputs]
    memory = _Memory(manifest["buffers"], arena, state, outputs)
    found: dict[tuple[int, int], list[np.ndarray]] = {}

    def done(step: int, trip: int) -> None:
        for number, spikes in enumerate(manifest["steps"][step].get("spikes", ())):
            found.setdefault((step, number), []).append(memory.spikes(spikes, trip))

    artifact.bind_watched(done, arena, inputs, outputs, state)()
    return outputs, [
        _layer(manifest["steps"][step]["spikes"][n], a) for (step, n), a in sorted(found.items())
    ]


def _layer(facts: Facts, arrays: Sequence[np.ndarray]) -> _Layer:
    if facts["recurrent"]:
        # One kernel goes through all steps: they are its images.
        return _Layer(facts["name"], np.concatenate(arrays)[:, None], True)
    return _Layer(facts["name"], np.stack(arrays), len(arrays) > 1)


@dataclass(frozen=True)
class _Memory:
    """The memory of one call, by the manifest's buffers."""

    buffers: Sequence[Facts]
    arena: np.ndarray
    state: np.ndarray | None
    outputs: Sequence[np.ndarray]

    def spikes(self, facts: Facts, trip: int) -> np.ndarray:
        """uint8 [n, c] or [n, c, h, w], as they lie there now."""
        element = np.dtype({"bit": "uint32", "f32": "float32"}.get(facts["element"], "int32"))
        memory = self._bytes(facts["buffer"], trip)[facts["offset"] * element.itemsize :]
        n, h, w, c = facts["shape"]
        depth = -(-c // 32) if facts["element"] == "bit" else c
        last = sum((e - 1) * s for e, s in zip((n, h, w, depth), facts["strides"], strict=True))
        flat = memory[: (last + 1) * element.itemsize].view(element)
        steps = [stride * element.itemsize for stride in facts["strides"]]
        values = np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, (n, h, w, depth), steps))
        if facts["element"] == "bit":
            values = np.unpackbits(values.view(np.uint8), axis=-1, bitorder="little")[..., :c]
        values = values.astype(np.uint8).transpose(0, 3, 1, 2)
        return values.reshape(n, c) if h == w == 1 else values

    def _bytes(self, buffer: int, trip: int) -> np.ndarray:
        facts = self.buffers[buffer]
        match facts["place"]:
            case "part":
                return self._bytes(facts["base"], trip)[facts["stride"] * trip :]
            case "output":
                return self.outputs[facts["index"]].reshape(-1).view(np.uint8)
            case "state":
                assert self.state is not None
                return self.state[state_offset(facts, self.state) :]
        return self.arena[facts["offset"] :]


def _over_time(layers: Sequence[_Layer]) -> list[Raster]:
    """The layers of a network with time inside. Exporters unroll time: what fires before the loop and after
    it are earlier and later steps of the layers in it, those of the same size, in their order."""
    loops = [index for index, layer in enumerate(layers) if layer.is_loop]
    if not loops:
        return _named(layers)
    inside = [layer for layer in layers if layer.is_loop]
    before, after = layers[: loops[0]], [layer for layer in layers[loops[0] :] if not layer.is_loop]
    merged: list[Raster] = []
    for layer in inside:
        twins = [other for other in inside if _size(other) == _size(layer)]
        number = next(i for i, other in enumerate(twins) if other is layer)
        early, late = ([p for p in part if _size(p) == _size(layer)] for part in (before, after))
        if len(early) % len(twins) == len(late) % len(twins) == 0:
            parts = [*early[number :: len(twins)], layer, *late[number :: len(twins)]]
            merged.append(Raster(layer.name, np.concatenate([part.spikes for part in parts])))
        else:
            merged.append(layer)
    sizes = {_size(layer) for layer in inside}
    apart = [layer for layer in (*before, *after) if _size(layer) not in sizes]
    return _named([*merged, *apart])


def _size(layer: _Layer) -> tuple[int, ...]:
    return layer.spikes.shape[1:]


def _named(layers: Sequence[Raster]) -> list[Raster]:
    """By the module that a node belongs to, where no other layer is in it."""
    scopes = [layer.name.strip("/").rpartition("/")[0] for layer in layers]
    names = [
        scope if scope and scopes.count(scope) == 1 else layer.name
        for scope, layer in zip(scopes, layers, strict=True)
    ]
    return [
        replace(layer, name=name if names.count(name) == 1 else f"{name} {number}")
        for number, (name, layer) in enumerate(zip(names, layers, strict=True))
    ]


def _joined(parts: Sequence[list[Raster]], samples: int | None) -> list[Raster]:
    """All batches: samples are on axis 1."""
    columns: Iterator[tuple[Raster, ...]] = zip(*parts, strict=True)
    return [
        Raster(column[0].name, np.concatenate([layer.spikes for layer in column], axis=1)[:, :samples])
        for column in columns
    ]


def render(rasters: Sequence[Raster]) -> str:
    """A line for each layer."""
    rows = [raster.summary() for raster in rasters]
    return "\n".join(
        f"{row['layer']}: {row['neurons']:,} neurons, {row['steps']} steps, {row['spikes']:,} spikes, "
        f"rate {row['rate']:.4f}"
        for row in rows
    )
