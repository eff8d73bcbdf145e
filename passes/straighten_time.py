# SPDX-License-Identifier: Apache-2.0
"""straighten-time: a loop over time takes in what exporters and roll-time left around it.

Written-out networks have a first step of their own, which the exporter simplified because its states are
zero, and a last one whose states nobody reads. Five rewrites, each proved on the operations themselves:

- states are carried in the order of dimensions in which the body works on them;
- what a step collects of the states before it, f(old), is collected of those after it, f(new), where a last
  f(final) stands behind the loop;
- a step in front of the loop, which computes what the body does from states of zero, becomes its first trip,
  and one behind it that computes what the body does from the final states its last;
- a state whose new value is a function of another state's new value is computed from that one.

Identities of float32 that the proof uses hold for every bit: x + -0.0, x - 0.0, 1 * x are x, and x + 0.0 is x
where x cannot be -0.0. States that were never written start at -0.0 where that makes the first of them hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32, i1
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.dialect.sources import SOURCE
from bnncc.dialect.time import Scan
from bnncc.dialect.types import element_of, numpy_type, shape_of
from bnncc.passes.fold_constants import FoldConstants
from bnncc.passes.matching import ELEMENTWISE, apply_patterns, constant_of, main_block, replace, sort_block
from bnncc.passes.simplify_layout import MergeReshapes, MergeTransposes
from bnncc.passes.time.bodies import Body, carry_as_read
from bnncc.passes.time.joints import joined, move_joints, part_of, step_of
from bnncc.passes.time.matching import MOVES, Matcher

MOST_STATES = 8
"""Of a loop whose first step is looked for: every state may start at 0.0 or at -0.0."""


def function_of(value: SSAValue, leaves: set[SSAValue]) -> tuple[list[Operation], set[SSAValue]] | None:
    """The element-wise operations that make a value of some of the leaves and of constants, in order; None if
    there is anything else. They are few."""
    found: dict[Operation, None] = {}
    used: set[SSAValue] = set()

    def visit(item: SSAValue) -> bool:
        if item in leaves:
            used.add(item)
            return True
        op = item.owner
        if isinstance(op, ops.Constant) or (isinstance(op, Operation) and op in found):
            return True
        if not isinstance(op, (*ELEMENTWISE, *MOVES)) or len(found) > MOST_STATES:
            return False
        if not all(visit(operand) for operand in op.operands):
            return False
        found[op] = None
        return True

    return (list(found), used) if visit(value) else None


def copies(members: Sequence[Operation], values: dict[SSAValue, SSAValue]) -> list[Operation]:
    """Copies of operations on other operands, constants with them; `values` learns the results."""
    made = []
    for op in members:
        for operand in op.operands:
            if operand not in values and isinstance(operand.owner, ops.Constant):
                copy = operand.owner.clone()
                copy.location = operand.owner.location
                values[operand] = copy.result
                made.append(copy)
        copy = op.clone(values)
        copy.attributes.pop(SOURCE, None)
        copy.location = op.location
        made.append(copy)
    return made


def collect_after(scan: Scan) -> bool:
    """Collect f(new) instead of f(old), where f(final) follows; whether any was found."""
    body = Body(scan)
    found = False
    for number, value in enumerate(body.collected):
        function = function_of(value, set(body.old))
        result = scan.stacked[number]
        uses = joined(result)
        if function is None or not function[1] or not uses or value in body.old:
            continue
        matcher = Matcher(dict(zip(body.old, scan.final, strict=True)))
        tails = [step_of(use.after, value) for use in uses]
        if any(tail is None or not matcher.match(value, tail) for tail in tails):
            continue
        block, last = scan.parent, scan.block.last_op
        assert block is not None and last is not None
        first: dict[SSAValue, SSAValue] = dict(zip(body.old, scan.initial, strict=True))
        head = copies(function[0], first)
        lifted = ops.Reshape(first[value], (1, *shape_of(value)))
        block.insert_ops_before([*head, lifted], scan)
        after: dict[SSAValue, SSAValue] = dict(zip(body.old, body.new, strict=True))
        scan.block.insert_ops_before(copies(function[0], after), last)
        last.operands[len(body.new) + number] = after[value]
        for use in uses:
            use.op.operands[use.index] = lifted.result
            use.op.operands[use.index + 1] = result
        found = True
    return found


def starts(body: Body) -> Iterator[dict[SSAValue, np.generic]]:
    """States of zero, of either sign."""
    if len(body.old) > MOST_STATES or any(element_of(value) not in (f32, i1) for value in body.old):
        return
    choices = [
        [np.float32(-0.0), np.float32(0.0)] if element_of(value) == f32 else [np.False_] for value in body.old
    ]
    for numbers in itertools.product(*choices):
        yield dict(zip(body.old, numbers, strict=True))


def take_first_step(scan: Scan) -> Scan | None:
    """The loop with one more trip in front, if what stands there is one."""
    body = Body(scan)
    parts = [part_of(sequence) for sequence in scan.sequences]
    uses = [joined(result) for result in scan.stacked]
    if any(part.first == 0 for part in parts) or None in uses:
        return None
    slices = slices_of(body, [(part.whole, part.first - 1) for part in parts])
    heads = [
        (value, step_of(use.before, value))
        for value, found in zip(body.collected, uses, strict=True)
        for use in found or ()
    ]
    for states in starts(body):
        matcher = Matcher(invariants_of(body), states, slices)
        matches = all(matcher.match(new, old) for new, old in zip(body.new, scan.initial, strict=True))
        if matches and all(head is not None and matcher.match(value, head) for value, head in heads):
            sequences = [part.extended(part.first - 1, part.last, scan) for part in parts]
            new = longer(scan, sequences, zeros(scan, list(states.values())))
            move_joints(uses, new, -1)
            scan.erase()
            return new
    return None


def take_last_step(scan: Scan) -> Scan | None:
    """The loop with one more trip behind, if what stands there is one, and nothing else reads the states."""
    body = Body(scan)
    parts = [part_of(sequence) for sequence in scan.sequences]
    uses = [joined(result) for result in scan.stacked]
    if any(part.last == shape_of(part.whole)[0] for part in parts) or None in uses:
        return None
    slices = slices_of(body, [(part.whole, part.last) for part in parts])
    matcher = Matcher(invariants_of(body) | dict(zip(body.old, scan.final, strict=True)), {}, slices)
    tails: list[SSAValue] = []
    for value, found in zip(body.collected, uses, strict=True):
        for use in found or ():
            tail = step_of(use.after, value)
            if tail is None or use.after is None or not matcher.match(value, tail):
                return None
            tails += [tail, use.after]
    finals = later_states(scan, body, matcher)
    taken = {*tails, *finals}
    if not taken or not all(is_taken(value, taken) for value in scan.final):
        return None
    sequences = [part.extended(part.first, part.last + 1, scan) for part in parts]
    new = longer(scan, sequences, list(scan.initial))
    move_joints(uses, new, 1)
    scan.erase()
    for value, number in finals.items():
        value.replace_all_uses_with(new.final[number])
    return new


def later_states(scan: Scan, body: Body, matcher: Matcher) -> dict[SSAValue, int]:
    """Values behind a loop that are its states after one more trip."""
    found: dict[SSAValue, int] = {}
    op = scan.next_op
    while op is not None:
        for result in op.results:
            number = next((i for i, new in enumerate(body.new) if matcher.match(new, result)), None)
            if number is not None:
                found[result] = number
        op = op.next_op
    return found


def is_taken(value: SSAValue, taken: set[SSAValue]) -> bool:
    """Whether whatever is computed of a value, but through those taken, is read by nobody else."""
    waiting, seen = [value], {value}
    while waiting:
        for use in waiting.pop().uses:
            results = use.operation.results
            if not results:
                return False
            waiting += [result for result in results if result not in taken and result not in seen]
            seen.update(results)
    return True


def slices_of(body: Body, elements: Sequence[tuple[SSAValue, int]]) -> dict[SSAValue, tuple[SSAValue, int]]:
    """The parts of sequences as elements of tensors."""
    return dict(zip(body.slices, elements, strict=True))


def invariants_of(body: Body) -> dict[SSAValue, SSAValue]:
    """What is the same in every step, outside."""
    return dict(zip(body.invariants, body.scan.invariants, strict=True))


def zeros(scan: Scan, numbers: Sequence[np.generic]) -> list[SSAValue]:
    """Initial states of these numbers."""
    block, found = scan.parent, []
    assert block is not None
    for value, number in zip(scan.initial, numbers, strict=True):
        dtype = numpy_type(element_of(value))
        constant = ops.Constant(np.full(shape_of(value), number, dtype), element_of(value))
        constant.location = scan.location
        block.insert_op_before(constant, scan)
        found.append(constant.result)
    return found


def longer(scan: Scan, sequences: Sequence[SSAValue], initial: Sequence[SSAValue]) -> Scan:
    """The loop with one more trip, in its place; what it collects is for the caller to connect."""
    block = scan.parent
    assert block is not None
    invariants, steps = list(scan.invariants), scan.steps + 1
    new = Scan(sequences, initial, invariants, steps, scan.detach_region(scan.body))
    new.location = scan.location
    block.insert_op_before(new, scan)
    for old, value in zip(scan.final, new.final, strict=True):
        old.replace_all_uses_with(value)
    scan.detach()
    return new


def derive_states(scan: Scan) -> Scan:
    """The loop without states that follow from others."""
    body = Body(scan)
    gone: set[int] = set()
    for number, new in enumerate(body.new):
        source = _source(body, number, gone)
        if source is None:
            continue
        members, other = source
        last, block = scan.block.first_op, scan.parent
        assert last is not None and block is not None
        inside: dict[SSAValue, SSAValue] = {body.new[other]: body.old[other]}
        scan.block.insert_ops_before(copies(members, inside), last)
        outside: dict[SSAValue, SSAValue] = {body.new[other]: scan.final[other]}
        block.insert_ops_after(copies(members, outside), scan)
        body.old[number].replace_all_uses_with(inside[new])
        scan.final[number].replace_all_uses_with(outside[new])
        gone.add(number)
    return without_states(scan, gone) if gone else scan


def _source(body: Body, number: int, gone: set[int]) -> tuple[list[Operation], int] | None:
    """How a state follows from another one, by the number of that, if it does before the first step, too."""
    new = body.new[number]
    for other, leaf in enumerate(body.new):
        if other == number or other in gone or isinstance(leaf, BlockArgument):
            continue
        function = function_of(new, {leaf})
        if function is None or not function[1]:
            continue
        start, wanted = (body.scan.initial[i] for i in (other, number))
        matcher = Matcher({leaf: start})
        first = uniform(start)
        if first is not None:
            matcher = Matcher({}, {leaf: first})
        if matcher.match(new, wanted):
            return function[0], other
    return None


def uniform(value: SSAValue) -> np.generic | None:
    """The number that a constant is everywhere, bit for bit."""
    array = constant_of(value)
    if array is None or not array.size or array.tobytes() != np.full_like(array, array.flat[0]).tobytes():
        return None
    return array.flat[0]


def without_states(scan: Scan, gone: set[int]) -> Scan:
    """The loop without states that nobody reads."""
    block, last = scan.parent, scan.block.last_op
    assert block is not None and last is not None
    kept = [i for i in range(len(scan.initial)) if i not in gone]
    operands, count = list(last.operands), len(scan.initial)
    last.operands = [*(operands[i] for i in kept), *operands[count:]]
    for i in sorted(gone, reverse=True):
        scan.block.erase_arg(scan.block.args[len(scan.sequences) + i])
    initial = [scan.initial[i] for i in kept]
    region = scan.detach_region(scan.body)
    new = Scan(scan.sequences, initial, scan.invariants, scan.steps, region)
    new.location = scan.location
    block.insert_op_before(new, scan)
    for i, value in zip(kept, new.final, strict=True):
        scan.final[i].replace_all_uses_with(value)
    for old, value in zip(scan.stacked, new.stacked, strict=True):
        old.replace_all_uses_with(value)
    scan.detach()
    scan.erase()
    return new


class DropConcat(RewritePattern):
    """One value alone, concatenated, is itself: all steps are in the loop."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Concat, rewriter: PatternRewriter) -> None:
        """Count the operands."""
        if len(op.inputs) == 1:
            replace(rewriter, op, [], op.inputs[0])


class StraightenTimePass(ModulePass):
    """Straighten every loop of known length."""

    name = "straighten-time"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the function."""
        block = main_block(op)
        scans = [inner for inner in block.ops if isinstance(inner, Scan) and inner.count is None]
        scans = [carry_as_read(scan) for scan in scans]
        apply_patterns(op, MergeTransposes(), MergeReshapes(), FoldConstants())
        for old in scans:
            scan = old
            while collect_after(scan):
                sort_block(scan.block)
            scan = take_first_step(scan) or scan
            scan = take_last_step(scan) or scan
            derive_states(scan)
        sort_block(block)
        for inner in block.ops:
            if isinstance(inner, Scan):
                sort_block(inner.block)
        apply_patterns(op, MergeReshapes(), DropConcat())
