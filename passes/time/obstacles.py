# SPDX-License-Identifier: Apache-2.0
"""Why layers stay together in a loop over time, as reports say it: where, and a few words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import BlockArgument, Operation, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.network import decide, main_function
from bnncc.dialect.sources import location_text
from bnncc.dialect.time import Scan
from bnncc.dialect.types import domain_values, element_of, shape_of
from bnncc.passes.matching import ELEMENTWISE, main_block
from bnncc.passes.time.bodies import Body, Component

IMAGES = (ops.Conv2d, ops.MaxPool, ops.MeanPool, ops.CountPool, ops.ChannelMean)
"""Operations whose first dimension is a batch, whatever else they do."""


def obstacles(body: Body, components: Sequence[Component], memory: int) -> list[str]:
    """What keeps a loop from being distributed over its layers, each "node: reason"; empty where every
    operation can take time as its batch, or stays in a loop, and one leaves it. memory: bytes that one
    operation may touch over all steps."""
    scan = body.scan
    whole = of_the_loop(body)
    if whole:
        return [f"{place(scan)}: {whole}"]
    looping = [component for component in components if component.states]
    if len(looping) == len(components) == 1 and len(looping[0].members) > 1:
        return feedbacks(components) or [f"{place(scan)}: one layer of neurons"]
    found = [
        f"{place(op)}: what it does in one step is not what it does to all of them"
        for op in (component.members[0] for component in components if not component.states)
        if not takes_batch(op, body.varying)
    ]
    largest, op = bytes_over_time(body, components)
    if not found and op is not None and largest > memory:
        found = [f"{place(op)}: {largest >> 20} MiB over all steps, more than caches hold"]
    return found


def of_the_loop(body: Body) -> str:
    """What keeps the whole loop together; empty for nothing."""
    scan = body.scan
    if scan.count is not None:
        return "how many steps there are is an input"
    if scan.steps < 2:
        return "one step"
    if any(shape_of(value)[:1] != (1,) for value in (*body.slices, *body.old, *body.collected)):
        return "what it carries has no batch of 1"
    if any(isinstance(value, BlockArgument) for value in body.new):
        return "a state is handed on as it is"
    if any(value not in body.varying for value in body.new):
        return "a state does not depend on the steps"
    if any(value not in body.varying for value in body.collected):
        return "it collects what is the same in every step"
    return ""


def feedbacks(components: Sequence[Component]) -> list[str]:
    """Layers that hear what they caused a step before: they stay together, each such group in a loop."""
    return [
        f"{place(op)}: it hears what it caused in the step before"
        for component in components
        if component.states
        for op in component.members
        if isinstance(op, ops.CONTRACTIONS)
    ]


def note_one_step(module: ModuleOp) -> None:
    """Say that all layers run step by step because nobody asked for more than the memory of one step."""
    loops = [op for op in main_block(module).ops if isinstance(op, Scan)]
    if any(isinstance(inner, ops.ROOTS) for loop in loops for inner in loop.block.ops):
        why = "all layers of a loop, in the memory of one step: the target, or --optimize size"
        decide(main_function(module), "step by step", why)


def place(op: Operation) -> str:
    """The node that an operation is from."""
    return location_text(op) or op.name


def bytes_over_time(body: Body, components: Sequence[Component]) -> tuple[int, Operation | None]:
    """What the values that one operation reads and writes take over all steps, at most, and which one."""

    def size(value: SSAValue) -> int:
        domain = domain_values(element_of(value))
        bits = 32 if domain is None else (max(domain) - min(domain)).bit_length()
        return math.prod(shape_of(value)) * bits // 8

    largest: tuple[int, Operation | None] = (0, None)
    for op in (op for component in components for op in component.members):
        touched = {value for value in (*op.operands, *op.results) if value in body.varying}
        total = sum(map(size, touched)) * body.scan.steps
        if total > largest[0]:
            largest = total, op
    return largest


def takes_batch(op: Operation, varying: set[SSAValue]) -> bool:
    """Whether an operation on [1, ...] in each of T steps is the same operation on [T, ...] once."""
    result = op.results[0]
    rank = len(shape_of(result))
    values = [operand for operand in op.operands if operand in varying]
    others = [operand for operand in op.operands if operand not in varying]
    if any(shape_of(value)[:1] != (1,) for value in (result, *values)):
        return False
    match op:
        case ops.Transpose():
            return ops.unpack(op.permutation)[0] == 0
        case ops.Reshape():
            return True
        case ops.Concat():
            return not others
        case ops.Pad():
            return ops.unpack(op.low)[0] == 0
        case ops.Softmax() | ops.Dense():
            return rank > 1 and values == [op.operands[0]]
        case _ if isinstance(op, IMAGES):
            return values == [op.operands[0]]
        case _ if isinstance(op, ELEMENTWISE):
            return all(len(shape_of(value)) == rank for value in values)
    return False
