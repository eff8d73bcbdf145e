# SPDX-License-Identifier: Apache-2.0
"""Which decisions of an ONNX graph hang on rounding: there a compiled network may decide otherwise.

A decision is a comparison, a sign, or a quantiser. The graph is evaluated a second time in float64,
from its own decisions on, so that the error of every real value in float32 is known. A decision hangs on
rounding where what it looks at lies closer to the boundary than such errors do. Where float32 has rounded
nothing, as among sums of integers, no decision does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bnncc.frontend.evaluate import ModelEvaluator

SLACK = 16
"""How many times the largest error of float32 in a tensor may be met in another order of operations."""

COMPARISONS = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"})
SIGNS = frozenset({"Sign", "BipolarQuant"})
QUANTIZERS = frozenset({"Quant", "IntQuant", "MultiThreshold", "Round", "Floor", "Ceil"})
STEPS = SIGNS | QUANTIZERS
"""Operators whose results in float32 are decisions: they are kept as they are."""

CARRIERS = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Where", "Cast", "Not", "And", "Or", "Clip"})
"""Element-wise operators that may stand between a decision and the numbers that are made of it."""

MOVERS = frozenset({"Reshape", "Flatten", "Transpose", "MaxPool", "Pad", "Concat", "Squeeze", "Unsqueeze"})
"""Operators that move decisions about, or take the largest of some."""

Tensors = Mapping[str, np.ndarray]


class Ties:
    """The decisions of one evaluation `values` of a graph that hang on rounding."""

    def __init__(self, graph: ModelEvaluator, values: Tensors):
        self._values = values
        self._wide = evaluate_wide(graph, values)
        self._producers = {name: entry for entry in graph.trace for name in entry[0].proto.output if name}
        self._known: dict[str, np.ndarray | None] = {}

    def behind(self, name: str) -> np.ndarray | None:
        """For each element of a tensor whether a decision that it was made from hangs on rounding; None
        where no decision is known."""
        if name not in self._known:
            self._known[name] = self._look(name)
        return self._known[name]

    def before(self, name: str) -> bool:
        """Whether any decision at all that a tensor depends on hangs on rounding."""
        waiting, seen = [name], {name}
        while waiting:
            mask = self.behind(given := waiting.pop())
            if mask is not None and mask.any():
                return True
            inputs = self._producers[given][0].proto.input if given in self._producers else ()
            waiting += [other for other in inputs if other and other not in seen]
            seen.update(inputs)
        return False

    def _look(self, name: str) -> np.ndarray | None:
        if name not in self._producers:
            return None
        node, shape = self._producers[name][0].proto, self._values[name].shape
        inputs = [given for given in node.input if given]
        if node.op_type in MOVERS:
            return self._moved(name, inputs)
        if node.op_type not in COMPARISONS | STEPS | CARRIERS:
            return None
        found = [self.behind(given) for given in inputs if self._values[given].shape == shape]
        if node.op_type in COMPARISONS:
            found.append(self._near(inputs, shape))
        if node.op_type in SIGNS:
            found.append(self._near(inputs[:1], shape))
        if node.op_type in QUANTIZERS:
            found.append(self._between(name))
        masks = [mask for mask in found if mask is not None]
        return np.logical_or.reduce(masks) if masks else None

    def _moved(self, name: str, inputs: Sequence[str]) -> np.ndarray | None:
        """The node, applied to what is known of its inputs' decisions."""
        node, evaluate = self._producers[name]
        count = len(inputs) if node.proto.op_type == "Concat" else 1
        masks = [self.behind(given) for given in inputs[:count]]
        if all(mask is None for mask in masks):
            return None
        moved = [
            np.zeros(self._values[given].shape, np.float32) if mask is None else mask.astype(np.float32)
            for given, mask in zip(inputs, masks, strict=False)
        ]
        return evaluate([*moved, *(self._values[given] for given in inputs[count:])])[0] != 0

    def _between(self, name: str) -> np.ndarray:
        """Where the node would answer otherwise within rounding of what it looks at."""
        node, evaluate = self._producers[name]
        first, *rest = node.proto.input
        x, others = self._values[first], [self._values[given] if given else None for given in rest]
        with np.errstate(invalid="ignore"):
            error = SLACK * np.abs(x.astype(np.float64) - self._wide[first]).max(initial=0.0)
        if not error > 0:
            return np.zeros(x.shape, bool)
        sides = [
            np.nextafter((x + side * error).astype(np.float32), side * np.float32(np.inf)) for side in (-1, 1)
        ]
        below, above = (evaluate([side, *others])[0] for side in sides)
        return below != above

    def _near(self, names: Sequence[str], shape: tuple[int, ...]) -> np.ndarray | None:
        """Where the first tensor lies within rounding of the second, or of 0."""
        if any(self._values[name].dtype.kind != "f" for name in names):
            return None
        narrow, wide = (
            [tensors[name].astype(np.float64) for name in names] for tensors in (self._values, self._wide)
        )
        with np.errstate(invalid="ignore"):
            errors = [np.abs(a - b).max(initial=0.0) for a, b in zip(narrow, wide, strict=True)]
            margin = np.abs(wide[0] - (wide[1] if len(wide) > 1 else 0.0))
        near = margin <= SLACK * sum(errors) if any(errors) else np.zeros(margin.shape, bool)
        return np.broadcast_to(near, shape)


def evaluate_wide(graph: ModelEvaluator, values: Tensors) -> dict[str, np.ndarray]:
    """Every real tensor in float64, but decisions as they are in `values`."""
    wide = {name: array.astype(np.float64) if _is_real(array) else array for name, array in values.items()}
    for node, evaluate in graph.trace:
        if node.proto.op_type in STEPS:
            continue
        try:
            results = evaluate([wide[name] if name else None for name in node.proto.input])
        except Exception:  # not every operator takes float64: then its result counts as exact
            continue
        for name, result in zip(node.proto.output, results, strict=True):
            if name and _is_real(values[name]):
                wide[name] = result.astype(np.float64)
    return wide


def _is_real(array: np.ndarray) -> bool:
    return array.dtype == np.float32
