# SPDX-License-Identifier: Apache-2.0
"""roll-time: written-out time steps become one loop, so that the code does not grow with their number.

Works on the nodes as the file has them, in their order. Steps repeat the same operators with the same
attributes and the same trained numbers; a stretch of nodes that repeats itself with a period is a candidate.
It becomes a `bnn.scan` only if every operand is proved to be one of: the same value in all repetitions, a
value of the same repetition, a value of the one before (a carried state), or what goes through a tensor index
by index (a sequence). So each repetition computes what its nodes computed, and no answer changes. A first and
a last step that exporters have simplified (a state of zero, a reset that nobody reads) stay outside the loop.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, IntegerAttr, ModuleOp, i1
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, OpResult, Region, SSAValue
from xdsl.passes import ModulePass

from bnncc.dialect import operations as ops
from bnncc.dialect.sources import get_source, note_steps
from bnncc.dialect.time import Scan
from bnncc.dialect.types import element_of, is_number, numpy_type, shape_of, tensor
from bnncc.passes.matching import constant_of, main_block, sort_block

FEWEST_STEPS = 3
"""Repetitions that are worth a loop."""

LONGEST_PERIOD = 1_000
"""Nodes in one step."""

SELECTORS = ("Gather", "Slice", "Squeeze", "Split")
"""Operators that take one step out of a sequence."""


@dataclass(frozen=True)
class Selection:
    """Element `index` of dimension `axis` of a tensor; the dimension stays, of extent 1, where `kept`."""

    tensor: SSAValue
    axis: int
    index: int
    kept: bool


def selection(value: SSAValue) -> Selection | None:
    """What a value takes out of a tensor, if it does."""
    op = value.owner
    if not isinstance(op, ops.Onnx) or op.domain.data:
        return None
    match op.operator.data:
        case "Gather":
            return _gathered(op)
        case "Slice":
            return _sliced(op)
        case "Split":
            return _split(op, value)
        case "Squeeze":
            return _squeezed(op, value)
        case _:
            return None


def _integers(op: ops.Onnx, slot: int, name: str) -> list[int] | None:
    """An operand or attribute of known integers; None where there is none."""
    slots = ops.unpack(op.slots)
    if slot in slots:
        array = constant_of(op.inputs[slots.index(slot)])
        return None if array is None else [int(v) for v in array.reshape(-1)]
    attribute = op.parameters.data.get(name)
    if isinstance(attribute, DenseArrayBase):
        return list(ops.unpack(attribute))
    if isinstance(attribute, ArrayAttr):
        return [a.value.data for a in attribute if isinstance(a, IntegerAttr)]
    return None


def _axis(op: ops.Onnx, rank: int) -> int:
    attribute = op.parameters.data.get("axis")
    return (attribute.value.data if isinstance(attribute, IntegerAttr) else 0) % max(rank, 1)


def _gathered(op: ops.Onnx) -> Selection | None:
    index = constant_of(op.inputs[1]) if len(op.inputs) == 2 else None
    shape = shape_of(op.inputs[0])
    if index is None or index.size != 1 or index.ndim > 1 or not shape:
        return None
    axis = _axis(op, len(shape))
    return Selection(op.inputs[0], axis, int(index.reshape(-1)[0]) % shape[axis], index.ndim == 1)


def _sliced(op: ops.Onnx) -> Selection | None:
    shape = shape_of(op.inputs[0])
    starts, ends = _integers(op, 1, "starts"), _integers(op, 2, "ends")
    axes, steps = _integers(op, 3, "axes"), _integers(op, 4, "steps")
    if starts is None or ends is None or len(starts) != 1 or (steps or [1]) != [1]:
        return None
    axis = (axes or [0])[0] % len(shape)
    start = starts[0] + shape[axis] * (starts[0] < 0)
    if shape_of(op.outputs[0])[axis] != 1 or not 0 <= start < shape[axis]:
        return None
    return Selection(op.inputs[0], axis, start, True)


def _split(op: ops.Onnx, value: SSAValue) -> Selection | None:
    axis = _axis(op, len(shape_of(op.inputs[0])))
    if any(shape_of(result)[axis] != 1 for result in op.outputs):
        return None
    assert isinstance(value, OpResult)
    return Selection(op.inputs[0], axis, value.index, True)


def _squeezed(op: ops.Onnx, value: SSAValue) -> Selection | None:
    inner = selection(op.inputs[0])
    axes = _integers(op, 1, "axes")
    if inner is None or not inner.kept or axes is None or len(axes) != 1:
        return None
    if axes[0] % len(shape_of(op.inputs[0])) != inner.axis:
        return None
    return Selection(inner.tensor, inner.axis, inner.index, False)


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


class Prover:
    """Tries to see one stretch as a loop."""

    def __init__(self, nodes: Sequence[Operation], stretch: Stretch, offset: int):
        first, period = stretch.start + offset, stretch.period
        count = (stretch.covered - offset) // period
        self.first = first
        self.loop = Loop([list(nodes[first + t * period : first + (t + 1) * period]) for t in range(count)])
        self.before = set(nodes[:first])
        self.number: list[dict[SSAValue, int]] = [
            {value: i for i, value in enumerate(self.loop.values(t))} for t in range(count)
        ]
        self.inside = {op for step in self.loop.steps for op in step}

    def prove(self) -> Loop | None:
        """The loop, or None."""
        if len(self.loop.steps) < FEWEST_STEPS:
            return None
        for j, ops_ in enumerate(zip(*self.loop.steps, strict=True)):
            for k, operands in enumerate(zip(*(op.operands for op in ops_), strict=True)):
                if isinstance(operands[0].owner, ops.Constant):
                    continue
                kind = self.classify(operands)
                if kind is None:
                    return None
                self.loop.operands[j, k] = kind
        readable = all(map(_may_carry, self.read_outside()))
        return self.loop if self.loop.carried and readable else None

    def read_outside(self) -> list[SSAValue]:
        """Values of the first step whose like others read, of any step."""
        wanted = {
            number
            for step in range(len(self.loop.steps))
            for value, number in self.number[step].items()
            if any(use.operation not in self.inside for use in value.uses)
        }
        return [value for value, number in self.number[0].items() if number in wanted]

    def classify(self, operands: Sequence[SSAValue]) -> tuple[str, int] | None:
        """What one operand is, seen over all steps."""
        inside = [self.number[t].get(value) for t, value in enumerate(operands)]
        if inside[0] is not None:
            return ("inside", inside[0]) if len(set(inside)) == 1 else None
        earlier = [self.number[t].get(value) for t, value in enumerate(operands[1:])]
        if earlier[0] is not None:
            if len(set(earlier)) != 1 or not self.is_outer(operands[0]):
                return None
            return self.add_carried(earlier[0], operands[0])
        if not all(self.is_outer(value) or selection(value) is not None for value in operands):
            return None
        if len(set(operands)) == 1 and self.is_outer(operands[0]):
            return "invariant", _index(self.loop.invariants, operands[0])
        return self.add_sequence(list(operands))

    def is_outer(self, value: SSAValue) -> bool:
        """Whether a value is there before the first step."""
        owner = value.owner
        if not isinstance(owner, Operation) or isinstance(owner, ops.Constant):
            return True
        picked = selection(value)
        return owner in self.before or (picked is not None and self.is_outer(picked.tensor))

    def add_carried(self, value: int, initial: SSAValue) -> tuple[str, int] | None:
        """A state; one that is not a plain number is left alone."""
        if not _may_carry(initial):
            return None
        if (value, initial) not in self.loop.carried:
            self.loop.carried.append((value, initial))
        return "carried", self.loop.carried.index((value, initial))

    def add_sequence(self, values: list[SSAValue]) -> tuple[str, int] | None:
        """Something else in every step."""
        if not all(map(_may_carry, values)) or not _is_sequence(values, self.is_outer):
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


def _may_carry(value: SSAValue) -> bool:
    element = element_of(value)
    return is_number(element) and element != i1 and len(shape_of(value)) > 0


class Writer:
    """Writes a proved loop in place of its steps."""

    def __init__(self, loop: Loop, block: Block):
        self.loop, self.block = loop, block
        self.last = loop.steps[-1][-1]
        self.new: list[Operation] = []
        self.count = len(loop.steps)

    def write(self) -> None:
        """Insert the loop, make the readers outside read it, drop the steps."""
        readers = self.readers()
        finals = [number for number, _ in self.loop.carried]
        only_last = [n for n, steps in readers.items() if steps == {self.count - 1} and n not in finals]
        collected = [n for n, steps in readers.items() if steps - {self.count - 1}]
        sequences = [self.sequence(values) for values in self.loop.sequences]
        states = [initial for _, initial in self.loop.carried]
        states += [self.zeros(self.loop.values(0)[n]) for n in only_last]
        body = self.body([*finals, *only_last], collected, len(states))
        scan = Scan(sequences, states, self.loop.invariants, self.count, body)
        scan.location = self.loop.steps[0][0].location
        self.new.append(scan)
        self.connect(readers, [*finals, *only_last], collected, scan)
        self.block.insert_ops_before(self.new, self.loop.steps[0][0])
        self.note_names()
        for step in reversed(self.loop.steps):
            for op in reversed(step):
                op.detach()
                op.erase(safe_erase=False)
        sort_block(self.block)

    def note_names(self) -> None:
        """Remember what the values of each step are called in the file."""
        main = self.block.parent_op()
        assert isinstance(main, FuncOp)
        names: dict[str, list[str]] = {}
        for same in zip(*self.loop.steps, strict=True):
            sources = [source[0] for op in same if (source := get_source(op)) is not None]
            if len(sources) == len(same):
                names[sources[0]] = sources
        note_steps(main, names)

    def readers(self) -> dict[int, set[int]]:
        """For each value that others read: in which steps."""
        inside = {op for step in self.loop.steps for op in step}
        found: dict[int, set[int]] = {}
        for step in range(self.count):
            for number, value in enumerate(self.loop.values(step)):
                if any(use.operation not in inside for use in value.uses):
                    found.setdefault(number, set()).add(step)
        return found

    def body(self, states: Sequence[int], collected: Sequence[int], count: int) -> Region:
        """One step."""
        loop = self.loop
        slices = [values[0].type for values in loop.sequences]
        carried = [loop.values(0)[n].type for n in states]
        assert len(carried) == count
        block = Block(arg_types=[*slices, *carried, *(value.type for value in loop.invariants)])
        first = {"sequence": 0, "carried": len(slices), "invariant": len(slices) + len(carried)}
        values: list[SSAValue] = []
        for j, op in enumerate(loop.steps[0]):
            mapping: dict[SSAValue, SSAValue] = {}
            operands = []
            for k, operand in enumerate(op.operands):
                if (j, k) not in loop.operands:
                    assert isinstance(operand.owner, ops.Constant)
                    constant = operand.owner.clone()
                    constant.location = operand.owner.location
                    block.add_op(constant)
                    operands.append(constant.result)
                    continue
                kind, number = loop.operands[j, k]
                operands.append(values[number] if kind == "inside" else block.args[first[kind] + number])
            copy = op.clone(mapping)
            copy.operands = operands
            copy.location = op.location
            for old, new in zip(op.results, copy.results, strict=True):
                new.name_hint = old.name_hint
            block.add_op(copy)
            values += copy.results
        block.add_op(ops.Yield([values[n] for n in (*states, *collected)]))
        return Region(block)

    def sequence(self, values: Sequence[SSAValue]) -> SSAValue:
        """[T, ...] of what the steps take out of a tensor; the dimension cut along comes first."""
        picked = selection(values[0])
        assert picked is not None
        whole = picked.tensor
        shape, axis = list(shape_of(whole)), picked.axis
        if axis and all(extent == 1 for extent in shape[:axis]):
            shape = [shape[axis], *shape[:axis], *shape[axis + 1 :]]
            whole = self.add(ops.Reshape(whole, shape))
        elif axis:
            order = [axis, *(a for a in range(len(shape)) if a != axis)]
            whole = self.add(ops.Transpose(whole, order))
            shape = [shape[a] for a in order]
        if shape[0] != self.count:
            whole = self.part(whole, picked.index)
        if picked.kept:
            whole = self.add(ops.Reshape(whole, (self.count, *shape_of(values[0]))))
        return whole

    def part(self, whole: SSAValue, start: int) -> SSAValue:
        """Elements start .. start + T of dimension 0."""
        bounds = [self.constant(np.array([number])) for number in (start, start + self.count, 0)]
        type_ = tensor((self.count, *shape_of(whole)[1:]), element_of(whole))
        return self.add(ops.Onnx("Slice", [whole, *bounds], [type_]))

    def connect(
        self, readers: dict[int, set[int]], states: Sequence[int], collected: Sequence[int], scan: Scan
    ) -> None:
        """Let those who read values of the steps read the results of the loop."""
        inside = {op for step in self.loop.steps for op in step}
        for number in readers:
            if number in collected:
                stacked = scan.stacked[collected.index(number)]
                self.read_stacked(number, stacked, inside)
            last = self.loop.values(self.count - 1)[number]
            for use in [use for use in last.uses if use.operation not in inside]:
                if number in states:
                    use.operation.operands[use.index] = scan.final[states.index(number)]
                else:
                    use.operation.operands[use.index] = self.element(
                        scan.stacked[collected.index(number)], self.count - 1
                    )

    def read_stacked(self, number: int, stacked: SSAValue, inside: set[Operation]) -> None:
        """Concatenations of all steps take the stacked value; others one element."""
        values = [self.loop.values(step)[number] for step in range(self.count)]
        for concat, start in concatenations(values, inside):
            operands = list(concat.operands)
            part = stacked
            if operands[start] is values[0]:  # along dimension 0, of extent 1 in each step
                part = self.add(ops.Reshape(stacked, (self.count, *shape_of(values[0])[1:])))
            operands[start : start + self.count] = [part]
            new = ops.Onnx(
                "Concat",
                operands,
                [concat.outputs[0].type],
                dict(concat.parameters.data),
                concat.domain.data,
                concat.opset.value.data,
            )
            new.location = concat.location
            new.attributes.update(concat.attributes)
            new.outputs[0].name_hint = concat.outputs[0].name_hint
            self.block.insert_op_before(new, concat)
            concat.outputs[0].replace_all_uses_with(new.outputs[0])
            concat.detach()
            concat.erase()
        for step, value in enumerate(values[:-1]):
            for use in [use for use in value.uses if use.operation not in inside]:
                use.operation.operands[use.index] = self.element(stacked, step)

    def element(self, stacked: SSAValue, step: int) -> SSAValue:
        """One step of a stacked value."""
        type_ = tensor(shape_of(stacked)[1:], element_of(stacked))
        return self.add(ops.Onnx("Gather", [stacked, self.constant(np.array(step))], [type_]))

    def zeros(self, like: SSAValue) -> SSAValue:
        """A state that nobody reads before it is written."""
        return self.constant(np.zeros(shape_of(like), numpy_type(element_of(like))))

    def constant(self, array: np.ndarray) -> SSAValue:
        """A constant."""
        return self.add(ops.Constant(array))

    def add(self, op: Operation) -> SSAValue:
        """An operation in front of, or behind, the loop."""
        op.location = self.loop.steps[0][0].location
        self.new.append(op)
        return op.results[0]


def concatenations(values: Sequence[SSAValue], inside: set[Operation]) -> list[tuple[ops.Onnx, int]]:
    """Concat nodes along dimension 0 that take a value of every step in order, and where they begin; the
    values themselves, of extent 1, or each with such a dimension in front (Unsqueeze)."""
    found = []
    for use in values[0].uses:
        reader, first = use.operation, values[0]
        if reader in inside:
            continue
        if is_node(reader, "Unsqueeze") and _integers(reader, 1, "axes") == [0]:
            first = reader.results[0]
        for inner in first.uses if first is not values[0] else [use]:
            concat = inner.operation
            if is_node(concat, "Concat") and _axis(concat, len(shape_of(concat.outputs[0]))) == 0:
                operands = concat.operands[inner.index : inner.index + len(values)]
                if len(operands) == len(values) and all(
                    _is_step(operand, value, first is not values[0])
                    for operand, value in zip(operands, values, strict=True)
                ):
                    found.append((concat, inner.index))
    return list(dict.fromkeys(found))


def _is_step(operand: SSAValue, value: SSAValue, unsqueezed: bool) -> bool:
    if not unsqueezed:
        return operand is value and shape_of(value)[:1] == (1,)
    op = operand.owner
    return is_node(op, "Unsqueeze") and _integers(op, 1, "axes") == [0] and op.inputs[0] is value


def is_node(op: object, operator: str) -> TypeGuard[ops.Onnx]:
    """Whether an operation is an ONNX node of this operator."""
    return isinstance(op, ops.Onnx) and op.operator.data == operator and not op.domain.data


def roll(block: Block) -> bool:
    """Roll the first stretch that can be proved to be a loop; whether there was one."""
    nodes = [
        op
        for op in block.ops
        if isinstance(op, ops.Onnx) and not all(selection(result) is not None for result in op.results)
    ]
    signatures = Signatures()
    numbers = np.array([signatures.of(op) for op in nodes], np.int64)
    if len(numbers) < FEWEST_STEPS:
        return False
    for stretch in stretches(numbers):
        proved = [
            loop
            for offset in range(stretch.period)
            if (loop := Prover(nodes, stretch, offset).prove()) is not None
        ]
        if proved:
            best = min(proved, key=lambda loop: (len(loop.carried), -len(loop.steps)))
            Writer(best, block).write()
            return True
    return False


class RollTimePass(ModulePass):
    """Roll one loop after the other."""

    name = "roll-time"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the function."""
        while roll(main_block(op)):
            pass
