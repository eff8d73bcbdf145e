# SPDX-License-Identifier: Apache-2.0
"""fixed-membranes: the membranes of leaky neurons become integers.

The arithmetic is that of `fixed_neurons`. Here the state that carries a membrane changes its type, from where
it starts to where it is read: integers go around the loop, and other readers are given floats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import FunctionType, ModuleOp, f32
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Attribute, Block, BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from bnncc.dialect import operations as ops
from bnncc.dialect.network import INPUTS, OUTPUTS, decide, main_function, names_of, states_of
from bnncc.dialect.sources import location_text
from bnncc.dialect.time import Neuron, Scan
from bnncc.dialect.types import element_of, shape_of, tensor
from bnncc.passes.fixed_neurons import FixedNeuron, is_leak
from bnncc.passes.matching import constant_of, main_block
from bnncc.passes.neuron_parameters import parameters_of

KINDS = {"int16": 16, "int32": 32}
"""Bits, by the name of the option's value."""


@dataclass
class State:
    """A carried state. outer: the block argument; inner: as the neuron reads it, behind a transposition, if
    there is one; new: as the neuron gives it; place: which operand of the block's terminator it is."""

    block: Block
    outer: BlockArgument
    inner: SSAValue
    new: SSAValue
    place: int
    neuron: Neuron


NO_MEMBRANES = "the network carries no membrane of a neuron from step to step: --membrane changes nothing"


def states(module: ModuleOp) -> Iterator[State]:
    """Every state that a neuron alone makes of the one before."""
    main = main_function(module)
    arguments = dict(zip(names_of(main, INPUTS), main.body.block.args, strict=True))
    outputs = names_of(main, OUTPUTS)
    found = [
        (main.body.block, arguments[before], outputs.index(after))
        for before, after in states_of(main).items()
    ]
    for op in main_block(module).ops:
        if isinstance(op, Scan):
            first = len(op.sequences)
            found += [(op.block, op.block.args[first + i], i) for i in range(len(op.initial))]
    for block, outer, place in found:
        if element_of(outer) == f32 and (state := _state(block, outer, place)) is not None:
            yield state


def _state(block: Block, outer: BlockArgument, place: int) -> State | None:
    last = block.last_op
    assert last is not None
    new = last.operands[place]
    users = {use.operation for use in outer.uses}
    turns = [op for op in users if isinstance(op, ops.Transpose)]
    inner: SSAValue = outer
    if isinstance(new.owner, ops.Transpose) and len(turns) == 1 and isinstance(new.owner.input.owner, Neuron):
        if ops.inverse(ops.unpack(turns[0].permutation)) == ops.unpack(new.owner.permutation):
            inner, new = turns[0].result, new.owner.input
    neuron = new.owner
    if not isinstance(neuron, Neuron) or len(neuron.states) != 1 or neuron.states[0] is not inner:
        return None
    return State(block, outer, inner, new, place, neuron) if neuron.new_states[0] is new else None


class FixMembrane:
    """One state and its neuron, rewritten; fixed: the neuron in integers."""

    def __init__(self, state: State, fixed: FixedNeuron):
        self.state, self.fixed = state, fixed

    def apply(self) -> None:
        """Rewrite the block of the state."""
        state, old = self.state, self.state.neuron
        block, last = state.block, state.block.last_op
        assert last is not None
        turn, back = state.inner.owner, last.operands[state.place].owner
        outer = retyped(state.outer, self.fixed.element)
        inner = retyped(turn.result, self.fixed.element) if isinstance(turn, ops.Transpose) else outer
        made: list[Operation] = []
        neuron = self.fixed.neuron(self.fixed.integer_current(made), inner)
        for op in (*made, neuron):
            op.location = old.location
        block.insert_ops_before([*made, neuron], old)
        self._replace_outputs(neuron)
        new = neuron.new_states[0]
        for value in (outer, inner) if inner is not outer else (outer,):
            self._as_floats(value, keep={turn, neuron} if isinstance(turn, ops.Transpose) else {neuron})
        yielded: SSAValue = new
        state.new.replace_all_uses_with(new)
        if isinstance(back, ops.Transpose) and back.input is new:
            yielded = retyped(back.result, self.fixed.element)
        self._new_as_floats(new, yielded, last)
        last.operands[state.place] = yielded
        old.detach()
        old.erase(safe_erase=False)

    def _replace_outputs(self, neuron: Neuron) -> None:
        block, old = self.state.block, self.state.neuron
        for output, result in zip(old.outputs, neuron.outputs, strict=True):
            result.name_hint = output.name_hint
            chain: list[Operation] = []
            if self.fixed.found.threshold is None:
                chain = self.fixed.floats(result)
            elif result.type != output.type:
                chain = [ops.Cast(result, element_of(output))]
            for op in chain:
                op.location = old.location
            block.insert_ops_before(chain, old)
            output.replace_all_uses_with(chain[-1].results[0] if chain else result)

    def _as_floats(self, value: SSAValue, keep: set[Operation]) -> None:
        """Other readers of the old state."""
        uses = [use for use in value.uses if use.operation not in keep]
        if uses:
            first = self.state.block.first_op
            assert first is not None
            chain = self._from(value)
            anchor = value.owner.next_op if isinstance(value.owner, Operation) else first
            self.state.block.insert_ops_before(chain, anchor)  # type: ignore[arg-type]
            for use in uses:
                use.operation.operands[use.index] = chain[-1].results[0]

    def _new_as_floats(self, new: SSAValue, yielded: SSAValue, last: Operation) -> None:
        """Other readers of the new state, and other places of the terminator that it is in."""
        for value in {new, yielded}:
            uses = [
                use
                for use in value.uses
                if not (use.operation is last and use.index == self.state.place)
                and use.operation is not yielded.owner
            ]
            if uses:
                chain = self._from(value)
                assert isinstance(value.owner, Operation)
                self.state.block.insert_ops_after(chain, value.owner)
                for use in uses:
                    use.operation.operands[use.index] = chain[-1].results[0]

    def _from(self, value: SSAValue) -> list[Operation]:
        """The float32 view of a state as it lies outside or inside its transposition."""
        turn = self.state.inner.owner
        if isinstance(turn, ops.Transpose) and shape_of(value) == shape_of(turn.input):
            if self.fixed.unit.size > 1:
                return self.turned_floats(value, ops.unpack(turn.permutation))
        return self.fixed.floats(value)

    def turned_floats(self, value: SSAValue, permutation: Sequence[int]) -> list[Operation]:
        """The float32 view of a state whose channels a transposition brings to the last place."""
        there = ops.Transpose(value, permutation)
        chain = self.fixed.floats(there.result)
        return [there, *chain, ops.Transpose(chain[-1].results[0], ops.inverse(permutation))]

    def quantized_start(self, value: SSAValue, permutation: Sequence[int] | None) -> list[Operation]:
        """Operations that make the first state of a loop out of floats."""
        constant = constant_of(value)
        if constant is not None and not constant.any():
            dtype = np.int16 if self.fixed.bits == 16 else np.int32
            return [ops.Constant(np.zeros(shape_of(value), dtype))]
        if not permutation:
            return self.fixed.integers(value)
        there = ops.Transpose(value, permutation)
        chain = self.fixed.integers(there.result)
        return [there, *chain, ops.Transpose(chain[-1].results[0], ops.inverse(permutation))]


def retyped(value: SSAValue, element: Attribute) -> SSAValue:
    """The same value of another element type; its readers read it."""
    return Rewriter.replace_value_with_new_type(value, tensor(shape_of(value), element))


@dataclass(frozen=True)
class FixedMembranesPass(ModulePass):
    """Fix the membranes of all neurons whose arithmetic is understood; say of the others that they stay."""

    name = "fixed-membranes"
    kind: str | None = None
    """"int16" or "int32"; None: nothing is done."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the function and its loops."""
        if self.kind is None:
            return
        order = {inner: number for number, inner in enumerate(op.walk())}
        left: list[str] = []
        found_states = sorted(states(op), key=lambda state: order[state.neuron])
        for state in found_states:
            found = parameters_of(state.neuron)
            if found is None or not is_leak(found.decay):
                left.append(location_text(state.neuron).partition(":")[2] or state.neuron.kind.data)
                continue
            self._fix(FixMembrane(state, FixedNeuron(state.neuron, found, KINDS[self.kind])))
        main = main_function(op)
        last = main.body.block.last_op
        assert isinstance(last, ReturnOp)
        types = [[value.type for value in values] for values in (main.body.block.args, last.arguments)]
        main.function_type = FunctionType.from_lists(*types)
        if left:
            decide(main, "membranes kept as float32", ", ".join(left))
        if not found_states:
            decide(main, f"membranes kept as {self.kind}", NO_MEMBRANES)

    def _fix(self, fix: FixMembrane) -> None:
        scan = fix.state.block.parent_op()
        turn = fix.state.inner.owner
        permutation = ops.unpack(turn.permutation) if isinstance(turn, ops.Transpose) else None
        fix.apply()
        if not isinstance(scan, Scan):
            return
        index = fix.state.place
        start = scan.initial[index]
        chain = fix.quantized_start(start, permutation)
        assert isinstance(scan.parent, Block)
        scan.parent.insert_ops_before(chain, scan)
        scan.operands[len(scan.sequences) + index] = chain[-1].results[0]
        final = retyped(scan.final[index], fix.fixed.element)
        uses = list(final.uses)
        if uses:
            back = fix.turned_floats(final, permutation) if permutation else fix.fixed.floats(final)
            scan.parent.insert_ops_after(back, scan)
            for use in uses:
                use.operation.operands[use.index] = back[-1].results[0]
