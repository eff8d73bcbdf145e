# SPDX-License-Identifier: Apache-2.0
"""Which spikes of a NIR graph hang on rounding: there a compiled network may decide otherwise.

A step is computed a second time in float64, from its own spikes on, so that the error of every membrane in
float32 is known. A spike hangs on rounding where the membrane lies closer to its threshold than such errors
do. Where float32 has rounded nothing, as among sums of integers, none does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bnncc.frontend.nir.evaluate import NirEvaluator
from bnncc.frontend.nir.network import image_shape

SLACK = 16
"""How many times the largest error of float32 in a layer may be met in another order of operations."""


class NirTies:
    """The spikes of one step that hang on rounding; values: what the evaluation gave for it."""

    def __init__(self, evaluator: NirEvaluator, values: Mapping[str, np.ndarray]):
        network = evaluator.network
        names = (*network.graph.inputs, *(state.before for state in network.states))
        inputs = {name: values[name] for name in names}
        narrow = evaluator.step(inputs)
        wide = evaluator.step(inputs, np.float64, narrow.values)
        self._graph = network.graph
        self._near: dict[str, np.ndarray] = {}
        for name, margin in wide.margins.items():
            error = np.abs(narrow.margins[name].astype(np.float64) - margin).max(initial=0.0)
            near = (np.abs(margin) <= SLACK * error) & (error > 0)
            self._near[name] = near.reshape(image_shape(near.shape))

    def behind(self, name: str) -> np.ndarray | None:
        """For each element of what a node gives whether it hangs on rounding; None for real values."""
        return self._near.get(name)

    def before(self, name: str) -> bool:
        """Whether any spike of this step at all that a node depends on hangs on rounding."""
        waiting, seen = [name], {name}
        while waiting:
            name = waiting.pop()
            if name in self._near and self._near[name].any():
                return True
            for source in self._graph.sources.get(name, ()):
                if source not in seen and (source, name) not in self._graph.late:
                    seen.add(source)
                    waiting.append(source)
        return False
