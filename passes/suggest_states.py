# SPDX-License-Identifier: Apache-2.0
"""suggest-states: of a network that keeps nothing from call to call, say which of its inputs and outputs look
like the membrane of a neuron before and after a time step, and how the library would keep it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.dialects.func import ReturnOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass

from bnncc.dialect.network import INPUTS, OUTPUTS, decide, main_function, names_of, states_of
from bnncc.dialect.types import element_of, shape_of
from bnncc.passes.matching import main_block
from bnncc.passes.recognize_neurons import before, is_fired, is_firing, reached, without_transposes


def membranes(module: ModuleOp) -> dict[str, str]:
    """Output by input, by name, where nothing but operations one by one lies between two of one type; empty
    where no neuron fires on the way, or where several inputs may be the one before."""
    main, block = main_function(module), main_block(module)
    last = block.last_op
    assert isinstance(last, ReturnOp)
    inputs = dict(zip(names_of(main, INPUTS), block.args, strict=True))
    outputs = dict(zip(names_of(main, OUTPUTS), last.arguments, strict=True))
    ways = {
        (name, output): fires
        for output, new in outputs.items()
        for name, old in inputs.items()
        if (fires := is_way(old, new)) is not None
    }
    found = only_pairs(ways)
    return found if any(ways[pair] for pair in found.items()) else {}


def is_way(old: SSAValue, new: SSAValue) -> bool | None:
    """Whether a comparison decides on the way of an input to an output; None where there is no such way."""
    if old.type != new.type or element_of(old) != f32:
        return None
    old, new = without_transposes(old, new)
    near = reached({old}, shape_of(old))
    if new.owner not in near or is_fired(new):
        return None
    values = {old, *(result for op in near & before(new) for result in op.results)}
    return any(is_firing(op, values) and is_fired(op.results[0]) for op in near)


def only_pairs(ways: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What belongs to what, as far as there is no choice: an output that one input alone leads to takes it
    away from all others."""
    left, found = set(ways), {}
    while True:
        counts = Counter(after for _, after in left)
        pair = min((pair for pair in left if counts[pair[1]] == 1), default=None)
        if pair is None:
            return found
        found[pair[0]] = pair[1]
        left = {way for way in left if way[0] != pair[0] and way[1] != pair[1]}


class SuggestStatesPass(ModulePass):
    """Note what may be states; nothing else changes."""

    name = "suggest-states"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Look at functions without states, of which one input at least would be left."""
        main = main_function(op)
        found = {} if states_of(main) else membranes(op)
        if found and len(found) < len(names_of(main, INPUTS)):
            pairs = " ".join(f"--state {name}={output}" for name, output in sorted(found.items()))
            decide(main, "membranes handed in and out", f"the library would keep them with {pairs}")
