# SPDX-License-Identifier: Apache-2.0
"""fixed-membranes: the membranes of leaky neurons become integers.

A membrane is kept as v / unit, rounded, in int16 or int32; the unit is a number for each channel. One step,
all of it integers (W: bits of the membrane; D: decay, less 1 from one half on; `bnn.mul_shift` rounds half
up):

    s  = saturate(x + v)            (x alone where decay < 1/2)
    u  = s + mul_shift(v, round(2^W D), W)
    fires where u > round(threshold / unit), or u >= it
    v' = saturate(u - reset / unit) or reset / unit where it fires, else u

with saturate(y) = min(max(y, -2^B), 2^B - 1), B = 15 or 30. A current that is a sum of integers times a
number for each channel (binary weights, int8 weights, another membrane) stays an integer: the unit is chosen
as that number over a power of two. Other currents are divided by the unit and rounded to even.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import FunctionType, ModuleOp, f32, i16, i32
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Attribute, Block, BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from bnncc.dialect import operations as ops
from bnncc.dialect.network import INPUTS, OUTPUTS, decide, main_function, names_of, states_of
from bnncc.dialect.neurons import Body
from bnncc.dialect.sources import location_text
from bnncc.dialect.time import Neuron, Scan
from bnncc.dialect.types import element_of, shape_of, spike, tensor
from bnncc.passes.fixed_currents import LIMIT, sum_of
from bnncc.passes.matching import constant_of, main_block
from bnncc.passes.neuron_parameters import Parameters, location_of, parameters_of

KINDS = {"int16": 16, "int32": 32}
"""Bits, by the name of the option's value."""

THRESHOLD = {16: 1 << 12, 32: 1 << 24}
"""A threshold is at most this many units, where that can be chosen: room for membranes beyond it."""

REAL_THRESHOLD = 1 << 18
"""The same where currents are real: float32 holds no more bits of them."""

MOST_SHIFT = 20
"""Bits behind the point that a sum of integers is given."""


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
    """One state and its neuron, rewritten."""

    def __init__(self, state: State, found: Parameters, bits: int):
        self.state, self.found, self.bits = state, found, bits
        self.limit = LIMIT[bits]
        self.element = i16 if bits == 16 else i32
        self.current = sum_of(state.neuron.inputs[0])
        self.shift, self.factor = 0, None
        self.unit = self._unit()

    def _unit(self) -> np.ndarray:
        """What 1 of the membrane stands for: float64 [] or [c]."""
        found, room = self.found, float(THRESHOLD[self.bits])
        levels = [np.abs(a) for a in (found.threshold, found.reset_by) if a is not None]
        level = float(max((array.max() for array in levels), default=0.0))
        if self.current is None:
            return np.asarray((level or 1.0) / min(room, REAL_THRESHOLD))
        scale, largest = np.abs(found.gain * self.current.scale), max(1, self.current.largest)
        units = 0.0 if not level else float((level / scale).max())
        if units > room * 2:
            # Too fine: sums of integers are scaled down.
            self.shift, self.factor = 0, scale / (level / room)
            return np.asarray(level / room)
        shift = 0
        while (
            shift < MOST_SHIFT
            and max(units, 1) * 2 ** (shift + 1) <= room
            and largest << shift + 1 < LIMIT[32]
        ):
            shift += 1
        if self.bits == 16 and not level:
            shift = 0
            while shift < MOST_SHIFT and largest << shift + 3 < self.limit:
                shift += 1
        self.shift = shift
        return scale / 2.0**shift

    # --- Before the neuron --------------------------------------------------------------------------------

    def integer_current(self, made: list[Operation]) -> SSAValue:
        """The current in units, i32 within the range of a membrane."""

        def add(op: Operation) -> SSAValue:
            made.append(op)
            return op.results[0]

        def integers(numbers: np.ndarray) -> SSAValue:
            return add(ops.Constant(_channels(numbers).astype(np.int32)))

        found, unit = self.found, self.unit
        if self.current is None:
            x = self.state.neuron.inputs[0]
            scaled = add(ops.Mul(x, add(ops.Constant(_channels(found.gain / unit).astype(np.float32)))))
            whole = add(ops.Clip(add(ops.Round(scaled)), float(-self.limit), float(self._highest)))
            value = add(ops.Cast(whole, i32))
            constant = found.offset / unit
        else:
            value = self.current.integers
            sign = np.sign(found.gain * self.current.scale)
            power = sign * 2.0**self.shift
            if not (power == 1).all():
                value = add(ops.Mul(value, integers(power)))
            if self.factor is not None:
                value = self._scaled_down(value, add)
            constant = (found.gain * self.current.bias + found.offset) / unit
        constant = np.clip(np.rint(constant), -self.limit, self._highest)
        if constant.any():
            value = add(ops.Add(value, integers(constant)))
        return value if self._bound(constant) < self.limit else self._saturated(value, add)

    def _bound(self, constant: np.ndarray) -> int:
        """Of the magnitude of the current in units."""
        most = self.limit - 1
        if self.current is not None and self.factor is None:
            turned = (self.found.gain * self.current.scale < 0).any()
            most = (self.current.largest + int(turned)) << self.shift
        elif self.current is not None:
            most = int(self.current.largest * self.factor.max()) + 1  # type: ignore[union-attr]
        return most + int(np.abs(constant).max())

    def _scaled_down(self, value: SSAValue, add) -> SSAValue:
        assert self.factor is not None and self.current is not None
        shift = 0
        while self.current.largest << shift + 1 < LIMIT[32] and shift < MOST_SHIFT:
            shift += 1
        if shift:
            value = add(ops.Mul(value, add(ops.Constant(np.array([1 << shift], np.int32)))))
        fraction = np.clip(np.rint(self.factor / 2.0**shift * 2.0**32), 0, 2**31 - 1).astype(np.int32)
        return add(ops.MulShift(value, add(ops.Constant(_channels(fraction))), 32))

    @property
    def _highest(self) -> int:
        return self.limit - 1

    def _saturated(self, value: SSAValue, add) -> SSAValue:
        low, high = (add(ops.Constant(np.array([v], np.int32))) for v in (-self.limit, self._highest))
        return add(ops.Min(add(ops.Max(value, low)), high))

    # --- The neuron ---------------------------------------------------------------------------------------

    def neuron(self, current: SSAValue, membrane: SSAValue) -> Neuron:
        """The neuron in integers."""
        found, old = self.found, self.state.neuron
        body = Body([current], [membrane])
        x, stored = body.arguments

        def integers(numbers: np.ndarray) -> SSAValue:
            rounded = np.clip(np.rint(numbers / self.unit), -self.limit, self._highest)
            return body.add(ops.Constant(_channels(rounded).astype(np.int32)))

        v = body.add(ops.Cast(stored, i32)) if self.bits == 16 else stored
        u = self._leaked(body, x, v)
        outputs: list[SSAValue] = []
        new = u
        if found.threshold is not None:
            level = integers(found.threshold)
            again = body.add(ops.Compare(found.fire, v, level)) if found.delayed else None
            if again is not None:
                u = new = self._after(body, u, again, integers)
            fired = body.add(ops.Compare(found.fire, u, level))
            fired.owner.location = location_of(old)  # type: ignore[union-attr, assignment]
            if again is None:
                new = self._after(body, u, fired, integers)
            outputs.append(body.add(ops.Cast(fired, spike)))
        else:
            outputs = [new] if old.outputs else []
        kept = body.add(ops.Cast(new, i16)) if self.bits == 16 else new
        kind, fire, reset = old.kind.data, old.fire.data, old.reset.data
        return body.neuron(outputs, [kept], kind, fire, reset, found.delayed)

    def _leaked(self, body: Body, x: SSAValue, v: SSAValue) -> SSAValue:
        base = (self.found.decay >= 0.5).all()
        fraction = np.rint((self.found.decay - base) * 2.0**self.bits)
        half = 1 << self.bits - 1
        total = self._saturated(body.add(ops.Add(x, v)), body.add) if base else x
        if not fraction.any():
            return total
        factor = body.add(ops.Constant(_channels(np.clip(fraction, -half, half - 1)).astype(np.int32)))
        leak = body.add(ops.MulShift(v, factor, self.bits))
        total = body.add(ops.Add(total, leak))
        return total if base else self._saturated(total, body.add)

    def _after(self, body: Body, u: SSAValue, fired: SSAValue, integers) -> SSAValue:
        found = self.found
        match found.reset:
            case "none":
                return u
            case "subtract":
                reset = body.add(ops.Sub(u, integers(found.reset_by)))
                reset = self._saturated(reset, body.add) if found.delayed else reset
                return body.add(ops.Select(fired, reset, u))
        return body.add(ops.Select(fired, integers(found.reset_by), u))

    # --- Around it ----------------------------------------------------------------------------------------

    def apply(self) -> None:
        """Rewrite the block of the state."""
        state, old = self.state, self.state.neuron
        block, last = state.block, state.block.last_op
        assert last is not None
        turn, back = state.inner.owner, last.operands[state.place].owner
        outer = retyped(state.outer, self.element)
        inner = retyped(turn.result, self.element) if isinstance(turn, ops.Transpose) else outer
        made: list[Operation] = []
        neuron = self.neuron(self.integer_current(made), inner)
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
            yielded = retyped(back.result, self.element)
        self._new_as_floats(new, yielded, last)
        last.operands[state.place] = yielded
        old.detach()
        old.erase(safe_erase=False)

    def _replace_outputs(self, neuron: Neuron) -> None:
        block, old = self.state.block, self.state.neuron
        for output, result in zip(old.outputs, neuron.outputs, strict=True):
            result.name_hint = output.name_hint
            chain: list[Operation] = []
            if self.found.threshold is None:
                chain = self._floats(result)
            elif result.type != output.type:
                chain = [ops.Cast(result, element_of(output))]
            for op in chain:
                op.location = old.location
            block.insert_ops_before(chain, old)
            output.replace_all_uses_with(chain[-1].results[0] if chain else result)

    def _floats(self, value: SSAValue) -> list[Operation]:
        """Operations that give the membrane as float32 again; channels last."""
        unit = ops.Constant(_channels(self.unit).astype(np.float32))
        wide = [ops.Cast(value, i32)] if element_of(value) == i16 else []
        cast = ops.Cast(wide[-1].result if wide else value, f32)
        return [*wide, cast, unit, ops.Mul(cast.result, unit.result)]

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
        outside = (
            isinstance(turn, ops.Transpose) and shape_of(value) == shape_of(turn.input) and self.unit.size > 1
        )
        if not outside:
            return self._floats(value)
        permutation = ops.unpack(turn.permutation)  # type: ignore[union-attr]
        there = ops.Transpose(value, permutation)
        chain = self._floats(there.result)
        return [there, *chain, ops.Transpose(chain[-1].results[0], ops.inverse(permutation))]

    def quantized_start(self, value: SSAValue, permutation: Sequence[int] | None) -> list[Operation]:
        """Operations that make the first state of a loop out of floats."""
        constant = constant_of(value)
        if constant is not None and not constant.any():
            dtype = np.int16 if self.bits == 16 else np.int32
            return [ops.Constant(np.zeros(shape_of(value), dtype))]
        chain: list[Operation] = [ops.Transpose(value, permutation)] if permutation else []
        factor = ops.Constant(_channels(1 / self.unit).astype(np.float32))
        scaled = ops.Mul(chain[-1].results[0] if chain else value, factor.result)
        rounded = ops.Round(scaled.result)
        clipped = ops.Clip(rounded.result, float(-self.limit), float(self._highest))
        chain += [factor, scaled, rounded, clipped, ops.Cast(clipped.result, i32)]
        if self.bits == 16:
            chain.append(ops.Cast(chain[-1].results[0], i16))
        if permutation:
            chain.append(ops.Transpose(chain[-1].results[0], ops.inverse(permutation)))
        return chain


def is_leak(decay: np.ndarray) -> bool:
    """Whether a decay, less 1 where it is at least one half, is a fraction of at most one half everywhere."""
    return bool(((decay >= 0) & (decay < 0.5)).all() or ((decay >= 0.5) & (decay <= 1)).all())


def _channels(numbers: np.ndarray) -> np.ndarray:
    """[] as [1]."""
    return np.atleast_1d(np.asarray(numbers))


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
            self._fix(FixMembrane(state, found, KINDS[self.kind]))
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
        final = retyped(scan.final[index], fix.element)
        uses = list(final.uses)
        if uses:
            back = fix._floats(final) if permutation is None else _turned(fix, final, permutation)
            scan.parent.insert_ops_after(back, scan)
            for use in uses:
                use.operation.operands[use.index] = back[-1].results[0]


def _turned(fix: FixMembrane, value: SSAValue, permutation: Sequence[int]) -> list[Operation]:
    there = ops.Transpose(value, permutation)
    chain = fix._floats(there.result)
    return [there, *chain, ops.Transpose(chain[-1].results[0], ops.inverse(permutation))]
