# SPDX-License-Identifier: Apache-2.0
"""recognize-neurons: the arithmetic between a state and its next value becomes a `bnn.neuron`.

Element-wise operations on the way from a carried state to its new value, and those that make spikes of it,
are wrapped as they are: the neuron computes what they computed, in their order. What kind of neuron it is,
how it fires and how it is reset is found out by evaluating it, for reports; that it is one operation lets its
arithmetic become part of the kernel that makes its input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr, UnitAttr, f32
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from bnncc.dialect import operations as ops
from bnncc.dialect.network import INPUTS, OUTPUTS, main_function, names_of, states_of
from bnncc.dialect.time import FIRES as FIRE_TEXTS
from bnncc.dialect.time import INSIDE, NEURON, Neuron, Scan
from bnncc.dialect.types import element_of, numpy_type, shape_of
from bnncc.passes.matching import apply_patterns, main_block, sort_block
from bnncc.reference import evaluate_operation

ELEMENTWISE = tuple(kind for kind in INSIDE if kind not in (ops.Constant, ops.Yield))

FAR = 1e4
"""A membrane far beyond any threshold."""

FIRES = {"gt": "gt", "ge": "ge", "lt": "ge", "le": "gt"}
"""How a neuron fires, by how its membrane is compared with the threshold: where it is below, it does not."""

MIRRORED = {"lt": "gt", "le": "ge", "gt": "ge", "ge": "gt"}
"""The same, by how its threshold is compared with the membrane."""


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


@dataclass
class Arithmetic:
    """The operations of a neuron in order, what they read from outside, what others read of them."""

    members: list[Operation]
    inputs: list[SSAValue]
    outputs: list[SSAValue]


def arithmetic(block: Block, old: SSAValue, new: SSAValue) -> Arithmetic | None:
    """What lies between a state and its new value; None where that is not element by element."""
    order = list(block.ops)
    after = reached(order, {old}, shape_of(old))
    if new.owner not in after:
        return None
    members = {op for op in before(new) if op in after}
    values = {old, *(result for op in members for result in op.results)}
    for op in order:  # what makes spikes of the membrane
        if op not in members and is_firing(op, values):
            members.add(op)
            values.update(op.results)
    for op in reversed(order):
        idle = op in members and not any(use.operation in members for r in op.results for use in r.uses)
        if idle and new not in op.results and not isinstance(op, ops.Compare | ops.Cast | ops.Binarize):
            members.discard(op)
    inside = [op for op in order if op in members]
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
    if depends(inputs, members):
        return None
    return Arithmetic(inside, inputs, outputs)


def reached(order: Sequence[Operation], start: set[SSAValue], shape: tuple[int, ...]) -> set[Operation]:
    """Element-wise operations of one shape that depend on values through such."""
    values, found = set(start), set()
    for op in order:
        if isinstance(op, ELEMENTWISE) and any(operand in values for operand in op.operands):
            if shape_of(op.results[0]) == shape:
                found.add(op)
                values.update(op.results)
    return found


def before(value: SSAValue) -> set[Operation]:
    """Element-wise operations that a value depends on through such."""
    found, todo = set(), [value]
    while todo:
        op = todo.pop().owner
        if isinstance(op, ELEMENTWISE) and op not in found:
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
    """Put the arithmetic into a neuron."""
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
    kind, fire, reset, delayed = told(found.members) or classification(neuron)
    neuron.kind, neuron.fire, neuron.reset = (StringAttr(text) for text in (kind, fire, reset))
    neuron.delayed = UnitAttr() if delayed else None
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


def told(members: Sequence[Operation]) -> tuple[str, str, str, bool] | None:
    """What the front end said of the neuron that the operations came out of, if it did."""
    texts = [text.data for op in members if isinstance(text := op.attributes.get(NEURON), StringAttr)]
    if not texts:
        return None
    kind, *rest = texts[-1].split(", ")
    reset, fire, *delayed = rest or ("none", "never")
    spelled = {text: name for name, text in FIRE_TEXTS.items()}
    return kind, spelled[fire], reset, bool(delayed)


def classification(neuron: Neuron) -> tuple[str, str, str, bool]:
    """Kind, fire, reset, and whether the reset follows a step later; found out by evaluating the neuron."""
    resting = slope(neuron, -2 * FAR, -FAR)
    keeps = bool(np.allclose(resting, 1.0, atol=1e-3))
    compares = [op for op in neuron.block.ops if isinstance(op, ops.Compare | ops.Binarize)]
    if not compares:
        return ("integrator" if keeps else "leaky"), "none", "none", False
    fire = fires(compares[-1])
    driven = [op for op in compares if depends_on_input(neuron, op)]
    delayed = 0 < len(driven) < len(compares)
    firing, spiked = slope(neuron, FAR, 2 * FAR), after(neuron, 2 * FAR)
    if np.allclose(firing, 0.0, atol=1e-3) and not np.allclose(resting, 0.0, atol=1e-3):
        reset = "zero" if np.allclose(spiked, 0.0, atol=1e-3) else "value"
    else:
        rest = after(neuron, -2 * FAR)
        reset = "none" if np.array_equal(spiked - firing * 2 * FAR, rest + resting * 2 * FAR) else "subtract"
    return ("if" if keeps else "lif"), fire, reset, delayed


def fires(op: ops.Compare | ops.Binarize) -> str:
    """ "gt" or "ge"."""
    if isinstance(op, ops.Binarize):
        return "ge" if op.zero.value.data == 1 else "gt"
    mirrored = isinstance(op.left.owner, ops.Constant)
    return (MIRRORED if mirrored else FIRES).get(op.kind.data, "gt")


def depends_on_input(neuron: Neuron, op: Operation) -> bool:
    """Whether what is compared depends on an input, not on the state alone."""
    inputs = set(neuron.block.args[: len(neuron.inputs)])
    todo, seen = list(op.operands), set()
    while todo:
        value = todo.pop()
        if value in inputs:
            return True
        if isinstance(value.owner, Operation) and value.owner not in seen:
            seen.add(value.owner)
            todo += value.owner.operands
    return False


def after(neuron: Neuron, membrane: float) -> np.ndarray:
    """The new state without input, float64."""
    inputs = [np.zeros(shape_of(v), numpy_type(element_of(v))) for v in neuron.inputs]
    states = [np.full(shape_of(v), membrane, np.float32) for v in neuron.states]
    return evaluate_operation(neuron, [*inputs, *states])[len(neuron.outputs)].astype(np.float64)


def slope(neuron: Neuron, low: float, high: float) -> np.ndarray:
    """How the new state depends on the old one between two values."""
    return (after(neuron, high) - after(neuron, low)) / (high - low)


class RecognizeNeuronsPass(ModulePass):
    """Wrap the arithmetic of every carried state."""

    name = "recognize-neurons"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the function and its loops."""
        for block, old, new in list(state_pairs(op)):
            found = arithmetic(block, old, new)
            if found is not None and any(not isinstance(m, ops.Cast) for m in found.members):
                wrap(block, found, old, new)
        apply_patterns(op)
