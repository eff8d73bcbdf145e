# SPDX-License-Identifier: Apache-2.0
"""First and last steps that exporters have simplified, shown to be steps of a loop like the others.

Before its first step a spiking network has states of zero, and what exporters fold of them is gone from the
file; after its last step nobody reads the states. So a copy of the loop's step is made that begins with zeros
(or goes on behind the last step). Where exact rewriting (constants evaluated, x + 0 = x, x * 1 = x and the
like) shows the copy's values to be those that the file computes, the copy takes their place, and the loop
is one step longer.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from xdsl.ir import Block, Operation, OpResult, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.sources import SOURCE
from bnncc.dialect.types import element_of, numpy_type, shape_of
from bnncc.frontend.evaluate import NodeEvaluator
from bnncc.frontend.nodes import to_node_proto
from bnncc.passes.matching import discard
from bnncc.passes.time.loops import Loop, may_carry
from bnncc.passes.time.selections import Selection, selection

COMMUTATIVE = frozenset({"Add", "Mul", "And", "Or", "Min", "Max", "Equal"})

CONTRACTIONS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""What makes a step expensive: a step that is not rid of them is not worth it."""

LARGEST_FOLDED = 1 << 22
"""Elements of a value that is evaluated here."""


Replaced = dict[OpResult, OpResult]
"""A value of the file -> the value of a copied step that is equal to it."""


class Keys:
    """Numbers for values: two values of one number are equal. `arrays`: those of the constants.

    x + 0 is x but for the sign of a zero. Where a network divides by what it computes, that could be seen,
    and is not taken for equal."""

    def __init__(self, nodes: Sequence[Operation]) -> None:
        self.signs_matter = any(map(shows_signs, nodes))
        self.numbers: dict[Hashable, int] = {}
        self.arrays: dict[int, np.ndarray] = {}
        self.known: dict[SSAValue, int] = {}
        self.see(nodes)

    def of(self, value: SSAValue) -> int:
        """The number of a value; one of its own where nothing is known of its maker."""
        if value not in self.known:
            owner = value.owner
            constant = isinstance(owner, ops.Constant)
            self.known[value] = self.constant(owner.array) if constant else self.number(("value", value))
        return self.known[value]

    def see(self, nodes: Sequence[Operation]) -> None:
        """Number the results of nodes, producers first."""
        for op in nodes:
            if isinstance(op, ops.Onnx):
                self.known.update(zip(op.results, self.results(op), strict=True))

    def results(self, op: ops.Onnx) -> list[int]:
        """The numbers of a node's results."""
        picked = [selection(result) for result in op.results]
        if all(picked):
            return [self.number(("element", self.of(p.tensor), p.axis, p.index, p.kept)) for p in picked if p]
        operands = [self.of(value) for value in op.operands]
        same = self.passed_through(op, operands)
        if same is not None:
            return [same]
        if op.operator.data in COMMUTATIVE:
            operands.sort()
        types = tuple(result.type for result in op.results)
        key = (op.operator, op.domain, op.opset, op.parameters, op.slots, types, tuple(operands))
        if key not in self.numbers and all(number in self.arrays for number in operands):
            self.fold(op, key)
        first = self.number(key)
        folded = self.numbers.get((first, "folded"))
        if folded is not None:
            return [folded]
        return [first, *(self.number((first, index)) for index in range(1, len(op.results)))]

    def fold(self, op: ops.Onnx, key: Hashable) -> None:
        """Remember that a node of constants is a constant, if it can be evaluated."""
        if len(op.results) > 1 or np.prod(shape_of(op.results[0])) > LARGEST_FOLDED:
            return
        slots = dict(zip(ops.unpack(op.slots), op.operands, strict=True))
        inputs = [
            self.arrays[self.of(slots[slot])] if slot in slots else None for slot in range(max(slots) + 1)
        ]
        try:
            (array,) = NodeEvaluator(to_node_proto(op), op.opset.value.data)(inputs)
        except Exception:  # then it is no constant to us
            return
        array = array.astype(numpy_type(element_of(op.results[0])), copy=False)
        self.numbers[self.number(key), "folded"] = self.constant(array)

    def passed_through(self, op: ops.Onnx, operands: Sequence[int]) -> int | None:
        """The operand that the result equals, if it does."""
        operator, result = op.operator.data, op.results[0]
        if op.domain.data or len(op.results) != 1 or len(operands) != len(op.operands):
            return None
        if operator == "Cast" and op.operands[0].type == result.type:
            return operands[0]
        if operator == "Where" and operands[0] in self.arrays:
            condition = self.arrays[operands[0]]
            slot = 1 if condition.all() else 2
            uniform = condition.all() or not condition.any()
            return operands[slot] if uniform and op.operands[slot].type == result.type else None
        neutral = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}.get(operator)
        if neutral is None:
            return None
        if operator == "Add" and self.signs_matter:
            return None
        for slot in (1, 0) if operator in COMMUTATIVE else (1,):
            other = 1 - slot
            if self.is_uniform(operands[slot], neutral) and op.operands[other].type == result.type:
                return operands[other]
        return None

    def is_uniform(self, number: int, value: int) -> bool:
        """Whether a value is a constant, everywhere the same."""
        return number in self.arrays and bool((self.arrays[number] == value).all())

    def constant(self, array: np.ndarray) -> int:
        """The number of a constant."""
        array = array + np.zeros((), array.dtype) if array.dtype.kind == "f" else array  # one zero, not two
        number = self.number(("constant", array.dtype.str, array.shape, array.tobytes()))
        self.arrays[number] = array
        return number

    def number(self, key: Hashable) -> int:
        """The number of what is described."""
        return self.numbers.setdefault(key, len(self.numbers))


def shows_signs(op: Operation) -> bool:
    """Whether a node's result may tell one zero from the other."""
    if not isinstance(op, ops.Onnx):
        return False
    divides = op.operator.data == "Div" and not isinstance(op.operands[1].owner, ops.Constant)
    return divides or op.operator.data in ("Reciprocal", "Pow")


@dataclass
class Copy:
    """One more step. carried: what its states begin with; slices: of the sequences."""

    nodes: list[Operation]
    carried: list[SSAValue]
    slices: list[SSAValue]

    @property
    def values(self) -> list[OpResult]:
        """The results, numbered like those of the loop's steps."""
        return [result for op in self.nodes for result in op.results]


class Peeled:
    """Looks for steps before and after a loop in its block."""

    def __init__(self, block: Block, loop: Loop, keys: Keys):
        self.block, self.loop, self.keys = block, loop, keys
        self.inside = {op for step in loop.steps for op in step}
        self.elements: dict[Selection, SSAValue] = {}
        self.by_number: dict[bool, dict[int, list[OpResult]]] = {True: {}, False: {}}
        """What nodes before (True) and after the loop compute."""
        before = True
        for op in block.ops:
            before = before and op not in self.inside
            if isinstance(op, ops.Onnx) and op not in self.inside:
                for result in op.results:
                    picked = selection(result)
                    if picked is not None:
                        self.elements.setdefault(picked, result)
                    else:
                        self.by_number[before].setdefault(keys.of(result), []).append(result)

    def ends(self) -> int:
        """At how many ends the loop can be longer."""
        found = [self.look(first) for first in (True, False)]
        for copy, _ in filter(None, found):
            discard(copy.nodes)
        return sum(one is not None for one in found)

    def extend(self) -> Loop | None:
        """The loop, one step longer at either end; None where nothing more is a step of it."""
        for first in (True, False):
            found = self.look(first)
            if found is not None:
                return self.joined(*found, first)
        return None

    def look(self, first: bool) -> tuple[Copy, Replaced] | None:
        """One more step, and what of the file is equal to its values."""
        copy = self.copy(first)
        if copy is None:
            return None
        self.keys.see(copy.nodes)
        replaced = self.matched(copy, first)
        if replaced is None:
            discard(copy.nodes)
            return None
        return copy, replaced

    def copy(self, first: bool) -> Copy | None:
        """A step before the first, or after the last; None where a sequence has no element for it."""
        loop = self.loop
        slices = [self.neighbour(values, first) for values in loop.sequences]
        present = [value for value in slices if value is not None]
        if len(present) < len(slices):
            return None
        last = loop.values(-1)
        carried: list[SSAValue] = [zeros(start) if first else last[n] for n, start in loop.carried]
        copy = Copy([], carried, present)
        sources = {"carried": carried, "sequence": present, "invariant": loop.invariants}
        for j, op in enumerate(loop.steps[0]):
            twin = op.clone()
            twin.location = (loop.steps[0] if first else loop.steps[-1])[j].location
            values = copy.values
            twin.operands = [
                operand
                if kind is None
                else values[kind[1]]
                if kind[0] == "inside"
                else sources[kind[0]][kind[1]]
                for operand, kind in ((v, loop.operands.get((j, k))) for k, v in enumerate(op.operands))
            ]
            copy.nodes.append(twin)
        return copy

    def neighbour(self, values: Sequence[SSAValue], first: bool) -> SSAValue | None:
        """The element of a sequence before the first that the loop takes, or after the last."""
        picked = selection(values[0] if first else values[-1])
        assert picked is not None
        index = picked.index + (-1 if first else 1)
        if not 0 <= index < shape_of(picked.tensor)[picked.axis]:
            return None
        return self.elements.get(replace(picked, index=index))

    def matched(self, copy: Copy, first: bool) -> Replaced | None:
        """What the copy's values are in the file; None if what the file computes is not the step."""
        values, read = copy.values, self.numbers_read()
        carried = [number for number, _ in self.loop.carried]
        if first and any(
            self.keys.of(values[n]) != self.keys.of(initial) for n, initial in self.loop.carried
        ):
            return None
        replaced: Replaced = {}
        # Of several equal values the one is taken that others may read.
        for number in sorted(range(len(values)), key=lambda n: (n not in read, n not in carried)):
            value = values[number]
            for other in self.by_number[first].get(self.keys.of(value), []):
                if other.type == value.type and other not in self.loop.invariants:
                    replaced.setdefault(other, value)
        known = {self.keys.of(other) for other in replaced}
        if any(self.keys.of(values[number]) not in known for number in read):
            return None
        readable = {values[number] for number in read} if first else set(values)
        replaced = gone_with_readers(replaced, readable, self.inside)
        left = {self.keys.of(other) for other in replaced if is_contraction(other)}
        return replaced if all(self.keys.of(v) in left for v in values if is_contraction(v)) else None

    def numbers_read(self) -> set[int]:
        """Which values of a step others read in steps that are not the last."""
        return {
            number
            for step in range(len(self.loop.steps) - 1)
            for number, value in enumerate(self.loop.values(step))
            if any(use.operation not in self.inside for use in value.uses)
        }

    def joined(self, copy: Copy, replaced: Replaced, first: bool) -> Loop:
        """The loop with the copy as a step, which replaces what the file computes."""
        loop, steps = self.loop, self.loop.steps
        if first:
            starts = [value.owner for value in copy.carried]
            new = [*(op for op in starts if isinstance(op, Operation)), *copy.nodes]
            self.block.insert_ops_before(new, steps[0][0])
            carried = [(n, start) for (n, _), start in zip(loop.carried, copy.carried, strict=True)]
            sequences = [[value, *values] for value, values in zip(copy.slices, loop.sequences, strict=True)]
            steps = [copy.nodes, *steps]
        else:
            self.block.insert_ops_after(copy.nodes, steps[-1][-1])
            carried = loop.carried
            sequences = [[*values, value] for value, values in zip(copy.slices, loop.sequences, strict=True)]
            steps = [*steps, copy.nodes]
        for other, value in replaced.items():
            other.replace_all_uses_with(value)
        self.name(copy, replaced)
        erase_dead(self.block, {op for step in steps for op in step})
        return replace(loop, steps=steps, carried=carried, sequences=sequences)

    def name(self, copy: Copy, replaced: Replaced) -> None:
        """What the copied nodes are called in the file: each like the node there whose value it has, not like
        the node of another step that it was copied from."""
        for twin in copy.nodes:
            twin.attributes.pop(SOURCE, None)
        for other, value in replaced.items():
            twin, node = value.op, other.op
            alike = (
                isinstance(twin, ops.Onnx) and isinstance(node, ops.Onnx) and twin.operator == node.operator
            )
            if SOURCE in node.attributes and (alike or SOURCE not in twin.attributes):
                twin.attributes[SOURCE] = node.attributes[SOURCE]
            if alike:
                twin.location = node.location


def gone_with_readers(replaced: Replaced, readable: set[OpResult], inside: set[Operation]) -> Replaced:
    """Those values whose readers are gone, too, once all are replaced, or may read the loop instead."""
    kept = dict(replaced)
    while True:
        refused = [
            other
            for other, value in kept.items()
            if not all(
                (use.operation.results and kept.keys() >= set(use.operation.results))
                or use.operation in inside
                or (value in readable and may_carry(value))
                for use in other.uses
            )
        ]
        if not refused:
            return kept
        for other in refused:
            del kept[other]


def zeros(like: SSAValue) -> SSAValue:
    """What a state begins with."""
    return ops.Constant(np.zeros(shape_of(like), numpy_type(element_of(like)))).result


def is_contraction(value: OpResult) -> bool:
    """Whether a value is made at the cost of many products."""
    return isinstance(value.op, ops.Onnx) and value.op.operator.data in CONTRACTIONS


def erase_dead(block: Block, kept: set[Operation]) -> None:
    """Drop nodes that nobody reads."""
    for op in reversed(list(block.ops)):
        if isinstance(op, ops.Onnx | ops.Constant) and op not in kept:
            if all(result.first_use is None for result in op.results):
                op.detach()
                op.erase()


def absorb(block: Block, loop: Loop, keys: Keys) -> Loop:
    """The loop with the first and last steps that are like its own."""
    while (longer := Peeled(block, loop, keys).extend()) is not None:
        loop = longer
    return loop
