# SPDX-License-Identifier: Apache-2.0
"""How much answers change by rounding: a network before and after it, on samples, both by the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from bnncc import reference
from bnncc.data.samples import LABELS, Samples, sequences
from bnncc.dialect import operations as ops
from bnncc.dialect.network import main_function, states_of
from bnncc.lowering.spikes import fired


@dataclass(frozen=True)
class Accuracy:
    """samples: calls, of a network with states sequences. spikes, equal: decisions of neurons, and those that
    are the same. error: the largest change of an output that is no state, relative to its largest value.
    labels: how many are right before and after, and how many there are. kept: of rows of scores, how many
    have their largest where it was, and how many there are."""

    samples: int
    spikes: int
    equal: int
    error: float
    labels: tuple[int, int, int] | None = None
    kept: tuple[int, int] | None = None

    def text(self) -> str:
        """One line."""
        parts = [
            f"{self.samples} samples",
            f"outputs change by {self.error:.2g} of their largest value at most",
        ]
        if self.spikes:
            parts.insert(
                1, f"{self.equal / self.spikes:.3%} of {self.spikes:,} decisions to spike are the same"
            )
        if self.kept is not None:
            parts.append(f"{self.kept[0]} of {self.kept[1]} answers have the same label")
        if self.labels is not None:
            before, after, total = self.labels
            parts.append(f"{after} of {total} labels right, {before} before")
        return "; ".join(parts)


def compare(before: ModuleOp, after: ModuleOp, samples: Samples) -> Accuracy:
    """before, after: the same network fused, its arithmetic as the file says and rounded. Raises BnnccError
    for samples that do not fit."""
    kept = set(states_of(main_function(before)).values())
    spikes = equal = count = 0
    error = 0.0
    scores: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for sequence in sequences(before, samples):
        count += 1
        (exact, fires), (rounded, others) = (_run(module, sequence) for module in (before, after))
        for name in fires.keys() & others.keys():
            for one, other in zip(fires[name], others[name], strict=False):
                if one.shape == other.shape:
                    spikes, equal = spikes + one.size, equal + int((one == other).sum())
        public = [name for name in exact if name not in kept]
        for name in public:
            error = max(error, _change(exact[name], rounded[name]))
        for into, outputs in zip(scores, (exact, rounded), strict=True):
            into.append(_scores([outputs[name] for name in public]))
    labels = samples.get(LABELS)
    right = None if labels is None else _right(scores, labels)
    return Accuracy(count, spikes, equal, error, right, _kept(scores))


def _run(
    module: ModuleOp, sequence: Sequence[Samples]
) -> tuple[dict[str, np.ndarray], dict[str, list[np.ndarray]]]:
    """All outputs [T, ...] of a sequence, and what neurons decide, by the node that decides it."""
    found: dict[str, list[np.ndarray]] = {}

    def note(op: Operation, results: list[np.ndarray]) -> None:
        if isinstance(op, ops.Fused):
            for spikes in fired(op.results_inside):
                found.setdefault(spikes.name, []).append(results[spikes.output] != 0)

    pairs, states = states_of(main_function(module)), {}
    steps = []
    for inputs in sequence:
        outputs = reference.evaluate(module, {**states, **inputs}, note)
        states = {before: outputs[after] for before, after in pairs.items()}
        steps.append(outputs)
    return {name: np.stack([outputs[name] for outputs in steps]) for name in steps[0]}, found


def _change(exact: np.ndarray, rounded: np.ndarray) -> float:
    largest = float(np.abs(exact).max(initial=0.0))
    return float(np.abs(rounded.astype(np.float64) - exact).max(initial=0.0)) / (largest or 1.0)


def _scores(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Scores [N, classes]: the first output of that form, summed over time."""
    tables = [array for array in outputs if array.ndim == 3 and array.shape[-1] > 1]
    return tables[0].sum(axis=0) if tables else np.zeros((1, 1))


def _kept(scores: tuple[list[np.ndarray], list[np.ndarray]]) -> tuple[int, int] | None:
    """How many rows of scores name the same class; None where there are no scores."""
    before, after = (np.concatenate(part) for part in scores)
    if before.shape != after.shape or before.shape[1] < 2:
        return None
    return int((before.argmax(axis=1) == after.argmax(axis=1)).sum()), len(before)


def _right(
    scores: tuple[list[np.ndarray], list[np.ndarray]], labels: np.ndarray
) -> tuple[int, int, int] | None:
    tables = [np.concatenate(part)[: len(labels)] for part in scores]
    if any(len(table) != len(labels) or table.shape[1] < 2 for table in tables):
        return None
    before, after = (int((table.argmax(axis=1) == labels).sum()) for table in tables)
    return before, after, len(labels)
