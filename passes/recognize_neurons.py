# SPDX-License-Identifier: Apache-2.0
"""recognize-neurons: the arithmetic between a state and its next value becomes a `bnn.neuron`.

Element-wise operations on the way from a carried state to its new value, and those that make spikes of it,
are wrapped as they are: the neuron computes what they computed, in their order. What kind of neuron it is,
how it fires and how it is reset is found out by evaluating it, for reports; that it is one operation lets its
arithmetic become part of the kernel that makes its input.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr, f32
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from bnncc.dialect import operations as ops
from bnncc.dialect.network import INPUTS, OUTPUTS, main_function, names_of, states_of
from bnncc.dialect.time import FIRES as FIRE_TEXTS
from bnncc.dialect.time import INSIDE, NEURON, Neuron, Scan
from bnncc.dialect.types import element_of, shape_of
from bnncc.passes.matching import apply_patterns, main_block, sort_block
from bnncc.passes.neuron_kinds import Carried, Kind, kind_of, name_together

ELEMENTWISE = tuple(kind for kind in INSIDE if kind not in (ops.Constant, ops.Yield))

DECISIONS = (ops.Compare, ops.Binarize)
"""What makes spikes."""


def state_pairs(module: ModuleOp) -> Iterator[tuple[Block, SSAValue, SSAValue]]:
    """Each carried state that is a real tensor, before and after a step, and the block of the step."""
    main = main_function(module)
    block, carried = main_block(module), states_of(main)
    last = block.last_op
    assert isinstance(last, ReturnOp)
    before = dict(zip(names_of(main, INPUTS), block.args, strict=True))
    after = dict(zip(names_of(main, OUTPUTS), last.arguments, strict=True))
    pairs = [(block, before[name], after[output]) for name, output in carried.items()]
    for op in block.ops:
        if isinstance(op, Scan):
            end = op.block.last_op
            assert isinstance(end, ops.Yield)
            first = len(op.sequences)
            arguments = op.block.args[first : first + len(op.initial)]
            pairs += [(op.block, old, new) for old, new in zip(arguments, end.values, strict=False)]
    for block, old, new in pairs:
        if element_of(old) == f32:
            yield block, *without_transposes(old, new)


def without_transposes(old: SSAValue, new: SSAValue) -> tuple[SSAValue, SSAValue]:
    """A state as the network works on it, behind the transposition that it begins with and before the one
    that it ends with, where these undo each other."""
    users = {use.operation for use in old.uses}
    (turn,) = users if len(users) == 1 else (None,)
    back = new.owner
    if isinstance(turn, ops.Transpose) and isinstance(back, ops.Transpose):
        if ops.inverse(ops.unpack(turn.permutation)) == ops.unpack(back.permutation):
            return turn.result, back.input
    return old, new


def turn(old: SSAValue, new: SSAValue) -> tuple[bool, bool, int]:
    """When a state has its turn: what a comparison belongs to whose threshold another state raises. First
    those that are compared themselves on the way to their new value, of these those that anything but spikes
    drives, then the shortest ways."""
    way = reached({old}, shape_of(old), DECISIONS) & before(new, stops=DECISIONS)
    own: set[SSAValue] = {result for op in way for result in op.results}
    near = {result for op in reached(own, shape_of(old), DECISIONS) for result in op.results}
    decides = any(
        isinstance(op, DECISIONS) and (is_firing(op, {old}) or not (own | near).isdisjoint(op.operands))
        for op in readers({old} | own | near)
    )
    given = {value for op in way for value in op.operands} - own - {old}
    is_driven = any(
        not isinstance(value.owner, ops.Constant)
        and not any(isinstance(op, DECISIONS) for op in before(value))
        for value in given
    )
    return not decides, not is_driven, len(way)


@dataclass
class Arithmetic:
    """The operations of a neuron in order, what they read from outside, what others read of them."""

    members: list[Operation]
    inputs: list[SSAValue]
    outputs: list[SSAValue]


def arithmetic(
    block: Block, old: SSAValue, new: SSAValue, apart: Collection[Operation] = ()
) -> Arithmetic | None:
    """What lies between a state and its new value; None where that is not element by element.

    apart: operations that were computed again for others, and stay outside."""
    after = reached({old}, shape_of(old))
    if new.owner not in after:
        return None
    members = {op for op in before(new) if op in after}
    values = {old, *(result for op in members for result in op.results)}
    waiting = readers(values)
    while waiting:  # what makes spikes of the membrane
        op = waiting.pop()
        if op not in members and op not in apart and is_firing(op, values):
            members.add(op)
            values.update(op.results)
            waiting += readers(op.results)
    inside = [op for op in block.ops if op in members]
    for op in reversed(inside):
        idle = not any(use.operation in members for result in op.results for use in result.uses)
        if idle and new not in op.results and not isinstance(op, ops.Compare | ops.Cast | ops.Binarize):
            members.discard(op)
    inside = [op for op in inside if op in members]
    made = {result for op in inside for result in op.results}
    inputs = list(
        dict.fromkeys(
            operand
            for op in inside
            for operand in op.operands
            if operand is not old and operand not in made and not isinstance(operand.owner, ops.Constant)
        )
    )
    outputs: list[SSAValue] = [
        result
        for op in inside
        for result in op.results
        if any(use.operation not in members for use in result.uses) and result is not new
    ]
    if not depends(inputs, members):
        return Arithmetic(inside, inputs, outputs)
    copies = () if apart else compute_again(block, inside, old)
    return arithmetic(block, old, new, copies) if copies else None


def compute_again(block: Block, members: Sequence[Operation], old: SSAValue) -> Collection[Operation]:
    """Give operations outside a neuron their own copies of what follows from its old state alone, such as
    whether it was above the threshold, which resets currents too. The copies; none if nobody reads them."""
    alone: set[SSAValue] = {old}
    copies: dict[SSAValue, SSAValue] = {}
    for op in members:
        if not all(value in alone or isinstance(value.owner, ops.Constant) for value in op.operands):
            continue
        alone.update(op.results)
        copy = op.clone(copies)
        copy.location = op.location
        block.insert_op_after(copy, op)
        for value, other in zip(op.results, copy.results, strict=True):
            copies[value] = other
    made = {copy.owner for copy in copies.values() if isinstance(copy.owner, Operation)}
    inside = made.union(members)
    others = [
        (use.operation, use.index, copy)
        for value, copy in copies.items()
        for use in value.uses
        if use.operation not in inside
    ]
    for user, index, copy in others:
        user.operands[index] = copy
    return made if others else ()


def readers(values: Iterable[SSAValue]) -> list[Operation]:
    """The operations that read values."""
    return [use.operation for value in values for use in value.uses]


def reached(
    start: Iterable[SSAValue], shape: tuple[int, ...], stops: tuple[type, ...] = ()
) -> set[Operation]:
    """Element-wise operations of one shape that depend on values through such, but not through `stops`."""
    found, waiting = set(), readers(start)
    while waiting:
        op = waiting.pop()
        if op in found or not isinstance(op, ELEMENTWISE) or isinstance(op, stops):
            continue
        if shape_of(op.results[0]) == shape:
            found.add(op)
            waiting += readers(op.results)
    return found


def before(value: SSAValue, stops: tuple[type, ...] = ()) -> set[Operation]:
    """Element-wise operations that a value depends on through such, but not through `stops`."""
    found, todo = set(), [value]
    while todo:
        op = todo.pop().owner
        if isinstance(op, ELEMENTWISE) and op not in found and not isinstance(op, stops):
            found.add(op)
            todo += op.operands
    return found


def is_firing(op: Operation, values: set[SSAValue]) -> bool:
    """Whether an operation compares a value of the neuron with a constant, or comes before or after that."""
    if not isinstance(op, ops.Compare | ops.Cast | ops.Binarize | ops.Sub | ops.Add):
        return False
    known = [isinstance(operand.owner, ops.Constant) for operand in op.operands]
    own = [operand in values for operand in op.operands]
    return any(own) and all(a or b for a, b in zip(known, own, strict=True))


def depends(values: Sequence[SSAValue], members: set[Operation]) -> bool:
    """Whether a value depends on one of the operations."""
    seen: set[Operation] = set()
    todo = list(values)
    while todo:
        op = todo.pop().owner
        if not isinstance(op, Operation) or op in seen:
            continue
        if op in members:
            return True
        seen.add(op)
        todo += op.operands
    return False


def wrap(block: Block, found: Arithmetic, old: SSAValue, new: SSAValue) -> Neuron:
    """Put the arithmetic into a neuron, which is not named yet."""
    body = Block(arg_types=[value.type for value in (*found.inputs, old)])
    values: dict[SSAValue, SSAValue] = dict(zip((*found.inputs, old), body.args, strict=True))
    for op in found.members:
        for operand in op.operands:
            if operand not in values:
                assert isinstance(operand.owner, ops.Constant)
                body.add_op(operand.owner.clone(values))
        copy = op.clone(values)
        copy.location = op.location
        body.add_op(copy)
    body.add_op(ops.Yield([values[value] for value in (*found.outputs, new)]))
    neuron = Neuron(found.inputs, [old], Region(body), "lif")
    neuron.location = found.members[-1].location
    block.insert_op_before(neuron, found.members[-1])
    inside = set(found.members)
    for value, result in zip((*found.outputs, new), neuron.results, strict=True):
        result.name_hint = value.name_hint
        for use in [use for use in value.uses if use.operation not in inside and use.operation is not neuron]:
            if value is new or result not in neuron.new_states:
                use.operation.operands[use.index] = result
    for op in reversed(found.members):
        op.detach()
        op.erase(safe_erase=False)
    sort_block(block)
    return neuron


def told(members: Sequence[Operation]) -> Kind | None:
    """What the front end said of the neuron that the operations came out of, if it did."""
    texts = [text.data for op in members if isinstance(text := op.attributes.get(NEURON), StringAttr)]
    if not texts:
        return None
    kind, *rest = texts[-1].split(", ")
    reset, fire, *delayed = rest or ("none", "never")
    spelled = {text: name for name, text in FIRE_TEXTS.items()}
    return Kind(kind, spelled[fire], reset, bool(delayed))


def is_fired(value: SSAValue) -> bool:
    """Whether a value is a comparison as numbers: a state like that is spikes to be heard, no membrane."""
    while isinstance(value.owner, ops.Cast):
        value = value.owner.input
    return isinstance(value.owner, ops.Compare | ops.Binarize)


class RecognizeNeuronsPass(ModulePass):
    """Wrap the arithmetic of every carried state."""

    name = "recognize-neurons"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the function and its loops."""
        unnamed: dict[Block, list[Neuron]] = {}
        for block, old, new in sorted(state_pairs(op), key=lambda pair: turn(*pair[1:])):
            found = None if is_fired(new) else arithmetic(block, old, new)
            if found is None or all(isinstance(member, ops.Cast) for member in found.members):
                continue
            known = told(found.members)
            neuron = wrap(block, found, old, new)
            (known or kind_of(neuron)).name(neuron)
            if known is None:
                unnamed.setdefault(block, []).append(neuron)
        for block, neurons in unnamed.items():
            carried = [Carried(old, new) for where, old, new in state_pairs(op) if where is block]
            name_together(neurons, carried)
        apply_patterns(op)
