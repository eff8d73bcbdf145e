# SPDX-License-Identifier: Apache-2.0
"""Memory that a library is lent, as its manifest says: the arena, and the states of one sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bnncc.execution.inputs import Arrays, Manifest, cut


def new_arena(manifest: Manifest) -> np.ndarray:
    """uint8 [arena bytes], aligned, all zeros."""
    return _zeros(manifest["arena"])


def new_state(manifest: Manifest) -> np.ndarray:
    """uint8 [state bytes], aligned; all states are zero."""
    return _zeros(manifest["state"])


def initial_state(manifest: Manifest, given: Arrays, start: int) -> np.ndarray:
    """The same for the batch of samples from `start` on: zeros, or those states [N, ...] that are given."""
    memory, batch = new_state(manifest), manifest.get("batch")
    names = {port["name"] for port in manifest["states"]}
    write_states(
        manifest,
        memory,
        {name: cut(array, start, batch, 0) for name, array in given.items() if name in names},
    )
    return memory


def write_states(manifest: Manifest, memory: np.ndarray, given: Arrays) -> None:
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


def _zeros(facts: Mapping[str, Any]) -> np.ndarray:
    """At an aligned address."""
    size, alignment = facts["bytes"], facts["alignment_bytes"]
    memory = np.zeros(size + alignment, np.uint8)
    start = -memory.ctypes.data % alignment
    return memory[start : start + size]
