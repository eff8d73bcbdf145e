# SPDX-License-Identifier: Apache-2.0
"""Stretches of nodes that repeat themselves, and the proof that one of them is a loop."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from xdsl.dialects.builtin import i1
from xdsl.ir import Operation, OpResult, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import element_of, is_number, shape_of
from bnncc.passes.time.selections import Selection, selection

FEWEST_STEPS = 3
"""Repetitions that are worth a loop."""

LONGEST_PERIOD = 4_000
"""Nodes in one step."""


class Signatures:
    """Numbers for operations: equal ones where operator, attributes, types and constant operands are."""

    def __init__(self) -> None:
        self.known: dict[Hashable, int] = {}
        self.constants: dict[Operation, Hashable] = {}

    def of(self, op: Operation) -> int:
        """The number of an operation."""
        types = tuple(result.type for result in op.results)
        constants = tuple(
            self.constant(operand.owner) if isinstance(operand.owner, ops.Constant) else None
            for operand in op.operands
        )
        key = (op.name, tuple(sorted(op.properties.items())), types, constants)
        return self.known.setdefault(key, len(self.known))

    def constant(self, op: ops.Constant) -> Hashable:
        """What equal constants share."""
        if op not in self.constants:
            self.constants[op] = (op.result.type, op.value.data.data)
        return self.constants[op]


@dataclass(frozen=True)
class Stretch:
    """`covered` nodes from `start` on, each like the one a period before."""

    start: int
    period: int
    covered: int


def stretches(signatures: np.ndarray) -> Iterator[Stretch]:
    """Maximal repetitions, those that cover most nodes first, of several periods the shortest."""
    found = []
    count = len(signatures)
    for period in range(1, min(count // FEWEST_STEPS, LONGEST_PERIOD) + 1):
        same = np.concatenate([[False], signatures[period:] == signatures[:-period], [False]])
        edges = np.flatnonzero(same[1:] != same[:-1]).reshape(-1, 2)
        for first, last in edges.tolist():
            steps = (last - first) // period + 1
            if steps >= FEWEST_STEPS:
                found.append((-(last - first + period), period, first))
    for covered, period, first in sorted(found):
        yield Stretch(first, period, -covered)


@dataclass
class Loop:
    """A loop that was proved. carried: (value of a step, its initial value). collected: values of a step that
    others read. sequences: what is different in every step."""

    steps: list[list[Operation]]
    operands: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)
    """What operand k of operation j of a step is: ("inside", number of a value), ("carried", number of a
    state), ("sequence", ...), ("invariant", ...); constants are not listed."""
    carried: list[tuple[int, SSAValue]] = field(default_factory=list)
    sequences: list[list[SSAValue]] = field(default_factory=list)
    invariants: list[SSAValue] = field(default_factory=list)

    def values(self, step: int) -> list[OpResult]:
        """The results of a step's operations, numbered."""
        return [result for op in self.steps[step] for result in op.results]


@dataclass(frozen=True)
class Nodes:
    """Operations in order. places: which one each is."""

    order: Sequence[Operation]
    places: Mapping[Operation, int]

    @staticmethod
    def of(order: Sequence[Operation]) -> Nodes:
        """With their places."""
        return Nodes(order, {op: place for place, op in enumerate(order)})


class Prover:
    """Tries to see one stretch as a loop.

    Most attempts end at their first operations: what takes as long as there are nodes is not done before."""

    def __init__(self, nodes: Nodes, stretch: Stretch, offset: int):
        self.nodes, self.period = nodes, stretch.period
        self.first = stretch.start + offset
        self.count = (stretch.covered - offset) // stretch.period
        self.end = self.first + self.count * self.period
        self.loop = Loop([])
        step = nodes.order[self.first : self.first + self.period]
        self.numbers = [0, *accumulate(len(op.results) for op in step)]
        """Of the first result of each operation among those of its step."""
        self.obstacle: tuple[Operation, str] | None = None
        """The first operation that no loop could hold, and why."""

    def number(self, value: SSAValue, step: int) -> int | None:
        """Which result of a step a value is; None where it is none of that step."""
        place = self.nodes.places.get(value.owner) if isinstance(value, OpResult) else None
        if place is None or not self.first <= place < self.end:
            return None
        found, j = divmod(place - self.first, self.period)
        return self.numbers[j] + value.index if found == step else None  # type: ignore[union-attr]

    def prove(self) -> Loop | None:
        """The loop, or None."""
        if self.count < FEWEST_STEPS:
            return None
        for j in range(self.period):
            ops_ = self.nodes.order[self.first + j : self.end : self.period]
            for k, operands in enumerate(zip(*(op.operands for op in ops_), strict=True)):
                if isinstance(operands[0].owner, ops.Constant):
                    continue
                kind = self.classify(operands)
                if isinstance(kind, str):
                    self.obstacle = ops_[0], kind
                    return None
                self.loop.operands[j, k] = kind
        bounds = range(self.first, self.end, self.period)
        self.loop.steps = [list(self.nodes.order[start : start + self.period]) for start in bounds]
        unreadable = [value for value in self.read_outside() if not may_carry(value)]
        if unreadable and isinstance(unreadable[0].owner, Operation):
            self.obstacle = unreadable[0].owner, "others read it, and it is nothing that a loop collects"
        return self.loop if self.loop.carried and not unreadable else None

    def read_outside(self) -> list[SSAValue]:
        """Values of the first step whose like others read, of any step."""
        wanted = {
            number
            for step in range(self.count)
            for number, value in enumerate(self.loop.values(step))
            if not all(self.is_inside(use.operation) for use in value.uses)
        }
        return [value for number, value in enumerate(self.loop.values(0)) if number in wanted]

    def is_inside(self, op: Operation) -> bool:
        """Whether an operation is one of a step."""
        return self.first <= self.nodes.places.get(op, -1) < self.end

    def classify(self, operands: Sequence[SSAValue]) -> tuple[str, int] | str:
        """What one operand is, seen over all steps; or why it is nothing that a loop has."""
        inside = self.number(operands[0], 0)
        if inside is not None:
            same = all(self.number(value, t) == inside for t, value in enumerate(operands))
            return ("inside", inside) if same else "it reads something else in another step"
        earlier = self.number(operands[1], 0)
        if earlier is not None:
            same = all(self.number(value, t) == earlier for t, value in enumerate(operands[1:]))
            if not same or not self.is_outer(operands[0]):
                return "it reads something else of the step before in another step"
            return self.add_carried(earlier, operands[0]) or "its state is not a plain number"
        if not all(self.is_outer(value) or selection(value) is not None for value in operands):
            return "it reads what is neither of its own step nor of the one before"
        if len(set(operands)) == 1 and self.is_outer(operands[0]):
            return "invariant", _index(self.loop.invariants, operands[0])
        return self.add_sequence(list(operands)) or "it reads no sequence that goes on by one with every step"

    def is_outer(self, value: SSAValue) -> bool:
        """Whether a value is there before the first step."""
        owner = value.owner
        if not isinstance(owner, Operation) or isinstance(owner, ops.Constant):
            return True
        picked = selection(value)
        return self.nodes.places.get(owner, self.first) < self.first or (
            picked is not None and self.is_outer(picked.tensor)
        )

    def add_carried(self, value: int, initial: SSAValue) -> tuple[str, int] | None:
        """A state; one that is not a plain number is left alone."""
        if not may_carry(initial):
            return None
        if (value, initial) not in self.loop.carried:
            self.loop.carried.append((value, initial))
        return "carried", self.loop.carried.index((value, initial))

    def add_sequence(self, values: list[SSAValue]) -> tuple[str, int] | None:
        """Something else in every step."""
        if not all(map(may_carry, values)) or not _is_sequence(values, self.is_outer):
            return None
        if values not in self.loop.sequences:
            self.loop.sequences.append(values)
        return "sequence", self.loop.sequences.index(values)


def _is_sequence(values: Sequence[SSAValue], is_outer) -> bool:
    """Whether values go through one tensor that is there before, element by element."""
    picked = [selection(value) for value in values]
    first = picked[0]
    if first is None or not is_outer(first.tensor):
        return False
    expected = [
        Selection(first.tensor, first.axis, first.index + step, first.kept) for step in range(len(values))
    ]
    return picked == expected


def _index(values: list[SSAValue], value: SSAValue) -> int:
    if value not in values:
        values.append(value)
    return values.index(value)


def may_carry(value: SSAValue) -> bool:
    """Whether a value may be a state, or be collected."""
    element = element_of(value)
    return is_number(element) and element != i1 and len(shape_of(value)) > 0
