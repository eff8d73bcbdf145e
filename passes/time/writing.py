# SPDX-License-Identifier: Apache-2.0
"""A loop in the place of the steps that were proved to be one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, Region, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.sources import get_source, note_steps
from bnncc.dialect.time import Scan
from bnncc.dialect.types import element_of, numpy_type, shape_of, tensor
from bnncc.passes.matching import sort_block
from bnncc.passes.time.loops import Loop
from bnncc.passes.time.selections import axis_of, integers_of, is_node, selection


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
        while (found := next(concatenations(values, inside), None)) is not None:
            concat, start = found
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


def concatenations(values: Sequence[SSAValue], inside: set[Operation]) -> Iterator[tuple[ops.Onnx, int]]:
    """Concat nodes along dimension 0 that take a value of every step in order, and where they begin; the
    values themselves, of extent 1, or each with such a dimension in front (Unsqueeze)."""
    for use in values[0].uses:
        reader, first = use.operation, values[0]
        if reader in inside:
            continue
        if is_node(reader, "Unsqueeze") and integers_of(reader, 1, "axes") == [0]:
            first = reader.results[0]
        for inner in first.uses if first is not values[0] else [use]:
            concat = inner.operation
            if is_node(concat, "Concat") and axis_of(concat, len(shape_of(concat.outputs[0]))) == 0:
                operands = concat.operands[inner.index : inner.index + len(values)]
                if len(operands) == len(values) and all(
                    _is_step(operand, value, first is not values[0])
                    for operand, value in zip(operands, values, strict=True)
                ):
                    yield concat, inner.index


def _is_step(operand: SSAValue, value: SSAValue, unsqueezed: bool) -> bool:
    if not unsqueezed:
        return operand is value and shape_of(value)[:1] == (1,)
    op = operand.owner
    return is_node(op, "Unsqueeze") and integers_of(op, 1, "axes") == [0] and op.inputs[0] is value
