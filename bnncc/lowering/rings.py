# SPDX-License-Identifier: Apache-2.0
"""States that hand their values on, step by step, as a Delay's do, become the slots of a ring.

What is k steps old lies k slots behind the place where the newest is written; a position moves on with every
step, so that a step writes one slot, however long the delay is, and copies nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import BlockArgument, SSAValue

from bnncc.dialect.network import INPUTS, OUTPUTS, names_of, public_outputs, states_of
from bnncc.lowering.carried import state_layout

SHORTEST = 3
"""Slots of a ring: fewer are copied for less than a position costs."""


def chains(main: FuncOp) -> list[tuple[BlockArgument, ...]]:
    """The states of which each takes over what the one before it was, newest first, that no caller is given
    and that lie alike in memory."""
    block = main.body.block
    last = block.last_op
    assert isinstance(last, ReturnOp)
    carried, public = states_of(main), set(public_outputs(main))
    arguments = dict(zip(names_of(main, INPUTS), block.args, strict=True))
    results = dict(zip(names_of(main, OUTPUTS), last.arguments, strict=True))
    becomes: dict[BlockArgument, SSAValue] = {
        arguments[name]: results[output] for name, output in carried.items() if output not in public
    }
    older: dict[BlockArgument, BlockArgument] = {}
    shared: set[BlockArgument] = set()
    for state, new in becomes.items():
        if isinstance(new, BlockArgument) and new in becomes and new is not state:
            shared.update({new} if new in older else ())
            older[new] = state
    heads = [state for state in becomes if state in older and becomes[state] not in older]
    found = [_followed(head, older, shared) for head in heads]
    return [chain for chain in found if len(chain) >= SHORTEST and _lie_alike(chain, becomes)]


def _followed(
    state: BlockArgument, older: dict[BlockArgument, BlockArgument], shared: set[BlockArgument]
) -> tuple[BlockArgument, ...]:
    """A state and those that hand on its value, up to one that two take over."""
    chain = [state]
    while chain[-1] in older and chain[-1] not in shared:
        chain.append(older[chain[-1]])
    return tuple(chain)


def _lie_alike(chain: Sequence[BlockArgument], becomes: Mapping[BlockArgument, SSAValue]) -> bool:
    layouts = {state_layout(state, becomes[state]) for state in chain}
    return len(layouts) == 1
