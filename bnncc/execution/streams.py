# SPDX-License-Identifier: Apache-2.0
"""Going through a network with states step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bnncc.execution.inputs import Arrays, Manifest, checked
from bnncc.execution.memory import new_state, write_states

Bind = Callable[[Sequence[np.ndarray], Sequence[np.ndarray], np.ndarray], Callable[[], None]]
"""(inputs, outputs, state memory) -> what runs one step of the network on these."""


class Stream:
    """One sequence that goes through a network step by step. Begins with all states zero.

    A stream is a state of its own; any number of them share one library."""

    def __init__(self, manifest: Manifest, bind: Bind):
        """manifest: of a network with states."""
        self.manifest = manifest
        self._state = new_state(manifest)
        self._inputs = [np.empty(port["shape"], port["dtype"]) for port in manifest["inputs"]]
        self._outputs = [np.empty(port["shape"], port["dtype"]) for port in manifest["outputs"]]
        self._call = bind(self._inputs, self._outputs, self._state)

    def reset(self) -> None:
        """All states are zero again."""
        self._state[:] = 0

    def step(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs of one step, new states among them, by ONNX name.

        inputs: arrays of the shapes of one step; states may be among them, by their input names, and are
        then taken instead of those that the step before left. Raises BnnccError for wrong names, shapes or
        types."""
        given = checked(self.manifest, inputs, steps=False, samples=False)
        for port, place in zip(self.manifest["inputs"], self._inputs, strict=True):
            place[...] = given[port["name"]]
        write_states(self.manifest, self._state, given)
        self._call()
        names = (port["name"] for port in self.manifest["outputs"])
        return {name: array.copy() for name, array in zip(names, self._outputs, strict=True)}
