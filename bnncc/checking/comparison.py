# SPDX-License-Identifier: Apache-2.0
"""One batch through the graph of the model and through the reference of the compiled network, side by side.

What lies in a loop over time is compared in every step: the graph's tensors are there under names of their
own for each (`dialect.sources.StepNames`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue

from bnncc import reference
from bnncc.checking.rounding import Ties
from bnncc.dialect import operations as ops
from bnncc.dialect.network import main_function
from bnncc.dialect.sources import StepNames, get_source, location_text
from bnncc.dialect.time import Neuron, Scan
from bnncc.dialect.types import element_of, numpy_type
from bnncc.frontend.evaluate import ModelEvaluator
from bnncc.frontend.nir.evaluate import NirEvaluator
from bnncc.frontend.nir.rounding import NirTies

ROUNDING = 2e-5
"""Allowed error of a real value, relative to the largest magnitude in its tensor: a few thousand float32
terms summed in another order stay well below."""

LAYER_STEPS = 12
"""So many steps of a loop are fed to its compiled layers: the first ones, and the last."""

UNITS = 4
"""Integers that real numbers were rounded to may differ by so much."""


class RoundedEvaluator:
    """The network with its weights or membranes rounded, evaluated in the very integers."""

    def __init__(self, module: ModuleOp):
        self.module = module

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs by name."""
        return reference.evaluate(self.module, inputs)


Evaluator = ModelEvaluator | NirEvaluator | RoundedEvaluator
Values = Mapping[SSAValue, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One comparison: `against` is "onnx" or "nir" (passes) or "reference" (kernel)."""

    layer: str
    operation: str
    against: str
    values: int
    differing: int
    explained: int
    error: float
    """Largest difference of a real value, relative to the largest magnitude of its tensor."""

    @property
    def passed(self) -> bool:
        """Whether every difference is explained."""
        return self.differing == self.explained


@dataclass(frozen=True)
class Alone:
    """The folded arithmetic by itself. flipped: whether its first bit that is not the graph's lies within
    rounding of the threshold."""

    outputs: Mapping[str, np.ndarray]
    flipped: bool


class Comparison:
    """One batch through the graph and through the reference, the latter anchored to the former.

    graph: every tensor of the model's graph."""

    def __init__(
        self,
        module: ModuleOp,
        evaluator: Evaluator,
        fed: Mapping[str, np.ndarray],
        batch: Mapping[str, np.ndarray],
    ):
        """fed: the graph's inputs; batch: the module's."""
        self.graph = evaluator(fed)
        self._evaluator = evaluator
        self._rows: list[Row] = []
        self._known: dict[tuple[Operation, int], np.ndarray] = {}
        self._module, self._batch = module, batch
        self._turns: Counter[Operation] = Counter()
        main = main_function(module)
        self._names = StepNames(main)
        self._values: dict[SSAValue, np.ndarray] = {}
        """Of the main block."""
        self._steps: dict[Scan, list[dict[SSAValue, np.ndarray]]] = {}
        """Of the bodies of loops, step by step."""
        arguments = reference.check_inputs(main, batch)
        self._values.update(zip(main.body.block.args, arguments, strict=True))
        reference.evaluate(module, batch, self._observe)

    @property
    def against(self) -> str:
        """What the graph is called in a row."""
        if isinstance(self._evaluator, RoundedEvaluator):
            return "rounded"
        return "nir" if isinstance(self._evaluator, NirEvaluator) else "onnx"

    def rows(self) -> list[Row]:
        """The reference's own arithmetic against the graph."""
        return self._rows

    def values_around(self, op: Operation) -> Iterator[Values]:
        """The values that an operation may read; in a loop those of several steps, one after the other."""
        loop = op.parent_op()
        if not isinstance(loop, Scan):
            yield self._values
            return
        steps = len(self._steps.get(loop, []))
        for step, values in enumerate(self._trips(loop)):
            if step < LAYER_STEPS - 1 or step == steps - 1:
                yield values

    def _trips(self, loop: Scan) -> Iterator[Values]:
        """The values in the body of a loop, its arguments included, step by step."""
        last = loop.block.last_op
        assert isinstance(last, ops.Yield)
        states = [self._values[value] for value in loop.initial]
        invariants = [self._values[value] for value in loop.invariants]
        for step, made in enumerate(self._steps.get(loop, [])):
            slices = [self._values[value][step] for value in loop.sequences]
            values = dict(zip(loop.block.args, [*slices, *states, *invariants], strict=True)) | made
            yield values
            states = [values[value] for value in last.values[: len(states)]]

    @cached_property
    def ties(self) -> Ties | NirTies | None:
        """The decisions of the graph that hang on rounding; None where there is no graph."""
        if isinstance(self._evaluator, RoundedEvaluator):
            return None
        if isinstance(self._evaluator, NirEvaluator):
            return NirTies(self._evaluator, self.graph)
        return Ties(self._evaluator, self.graph)

    def alone(self) -> Alone:
        """The folded arithmetic from the inputs on, fed nothing of the graph's."""
        flips: list[bool] = []
        turns: Counter[Operation] = Counter()

        def watch(op: Operation, results: list[np.ndarray]) -> None:
            turn = turns[op]
            turns[op] += 1
            if (op, turn) not in self._known:
                return
            expected = self._known[op, turn]
            if (differ := differs(results[0], expected)).any():
                near, name = self._near(op, turn), self._source_name(op, turn)
                if near is None and is_real(expected):
                    return  # no decision, but what follows from one
                if near is None:  # an operation between lost its source
                    flips.append(name is not None and self.ties is not None and self.ties.before(name))
                else:
                    flips.append(not (differ & ~near).any())

        outputs = reference.evaluate(self._module, self._batch, watch)
        # What comes after the first flip may differ by as much as it likes.
        return Alone(outputs, bool(flips) and flips[0])

    def _source_name(self, op: Operation, turn: int) -> str | None:
        """The graph's tensor that an operation stands for, where it is run for the `turn`-th time."""
        source = get_source(op)
        return None if source is None else self._names.name(source[0], turn if in_loop(op) else None)

    def _near(self, op: Operation, turn: int) -> np.ndarray | None:
        """Where the graph's tensor that an operation stands for hangs on rounding."""
        source, name = get_source(op), self._source_name(op, turn)
        near = self.ties.behind(name) if name is not None and self.ties is not None else None
        return None if source is None or near is None else near.transpose(source[1])

    def _observe(self, op: Operation, results: list[np.ndarray]) -> list[np.ndarray]:
        turn = self._turns[op]
        self._turns[op] += 1
        anchored = self._anchored(op, results, turn)
        parent = op.parent_op()
        if isinstance(parent, Scan):
            steps = self._steps.setdefault(parent, [])
            if len(steps) == turn:
                steps.append({})
            steps[turn].update(zip(op.results, anchored, strict=True))
        elif parent is not None and not isinstance(parent, ops.Fused | Neuron):
            self._values.update(zip(op.results, anchored, strict=True))
        return anchored

    def _anchored(self, op: Operation, results: list[np.ndarray], turn: int) -> list[np.ndarray]:
        if isinstance(op, ops.Constant) or len(results) != 1:
            return results
        expected = self._expected(op, results[0].shape, turn)
        if expected is None:
            return results
        expected = expected.astype(numpy_type(element_of(op.results[0])))
        near = self._near(op, turn) if (results[0] != expected).any() else None
        about = op.name.removeprefix("bnn.")
        self._rows.append(compare(location_text(op), about, self.against, results[0], expected, near))
        self._known[op, turn] = expected
        return [np.ascontiguousarray(expected)]

    def _expected(self, op: Operation, shape: Sequence[int], turn: int) -> np.ndarray | None:
        """What the graph has for an operation; outside a loop a value of all its steps, too."""
        source, name = get_source(op), self._source_name(op, turn)
        if source is None or name is None:
            return None
        tensor = self.graph.get(name)
        if tensor is None or tensor.ndim != len(source[1]):
            return None
        expected = tensor.transpose(source[1])
        if expected.shape == tuple(shape):
            return expected
        return None if in_loop(op) else self._all_steps(source, shape)

    def _all_steps(self, source: tuple[str, Sequence[int]], shape: Sequence[int]) -> np.ndarray | None:
        """What the graph has in all steps of a loop, as a tensor of this shape: along a dimension of its own,
        or along the first one; None where that does not fit."""
        name, permutation = source
        parts = []
        while (one := self._names.name(name, len(parts))) is not None and one in self.graph:
            parts.append(self.graph[one].transpose(permutation))
        if not parts:
            return None
        whole = np.stack(parts)
        fits = whole.shape == tuple(shape) or whole.shape[2:] == tuple(shape[1:])
        return whole.reshape(shape) if fits and whole.size == np.prod(shape) else None


def in_loop(op: Operation) -> bool:
    """Whether an operation is in the body of a loop, however deep."""
    parent = op.parent_op()
    return parent is not None and (isinstance(parent, Scan) or in_loop(parent))


def compare(
    layer: str,
    operation: str,
    against: str,
    got: np.ndarray,
    expected: np.ndarray,
    near: np.ndarray | None,
) -> Row:
    """One tensor; `near` tells where a decision behind it hangs on rounding."""
    differ = differs(got, expected)
    if near is not None and expected.dtype.kind == "i":
        near = near | (np.abs(got.astype(np.int64) - expected) <= UNITS)
    explained = 0 if near is None else int((differ & near).sum())
    error = relative_error(got, expected) if is_real(expected) else 0.0
    return Row(layer, operation, against, expected.size, int(differ.sum()), explained, error)


def is_real(array: np.ndarray) -> bool:
    """Whether an array holds real numbers."""
    return np.issubdtype(array.dtype, np.floating)


def differs(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where reals are not alike up to rounding, other values not equal."""
    return ~close(got, expected) if is_real(expected) else got != expected


def close(got: np.ndarray, expected: np.ndarray, rounding: float = ROUNDING) -> np.ndarray:
    """Where values are alike up to rounding."""
    if got.dtype == np.bool_:
        return got == expected
    with np.errstate(invalid="ignore"):
        near = np.abs(got - expected) <= rounding * _scale(expected)
    return near | (got == expected) | (np.isnan(got) & np.isnan(expected))


def _scale(expected: np.ndarray) -> float:
    finite = expected[np.isfinite(expected)]
    return max(float(np.abs(finite).max(initial=0.0)), 1e-30)


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest magnitude."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(got.astype(np.float64) - expected)
    finite = difference[np.isfinite(difference)]
    return float(finite.max(initial=0.0)) / _scale(expected)
