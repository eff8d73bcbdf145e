# SPDX-License-Identifier: Apache-2.0
"""The arena plan: nothing that is alive overlaps, and the bound is a bound."""

from __future__ import annotations

import random

from bnncc.plan.arena import owners, requests
from bnncc.plan.expression import Operand
from bnncc.plan.kernel import KernelSpec, Map, Output
from bnncc.plan.layout import Element, Layout
from bnncc.plan.memory import ALIGNMENT, Request, plan_arena
from bnncc.plan.program import Buffer, Step, TimeLoop


def test_buffers_that_never_live_together_share_memory() -> None:
    plan = plan_arena({0: Request(100, 0, 1), 1: Request(100, 2, 3)})
    assert plan.offsets == {0: 0, 1: 0}
    assert plan.bytes == plan.lower_bound == 128


def test_a_buffer_alive_at_the_last_read_of_another_is_apart() -> None:
    plan = plan_arena({0: Request(64, 0, 1), 1: Request(64, 1, 2)})
    assert sorted(plan.offsets.values()) == [0, 64]


def test_what_lives_around_a_loop_lives_through_it() -> None:
    """Steps 1 to 3 are a loop: x comes from before it, y is for what follows; z is one trip's own, and p a
    part of r, of which every trip has another."""
    names = {name: number for number, name in enumerate("xyzrp")}
    buffers = [Buffer(name, 64, "arena") for name in "xyzr"] + [Buffer("p", 8, "part", base=names["r"])]
    kernel = KernelSpec(Map(), (), (), ())
    steps = [
        Step(str(number), kernel, tuple(names[name] for name in reads), tuple(names[name] for name in writes))
        for number, (reads, writes) in enumerate((("", "x"), ("x", "z"), ("z", "yp"), ("p", ""), ("y", "")))
    ]
    found = requests(steps, buffers, [0, 1, 2, 3, 3], [TimeLoop(1, 3, 5)])
    assert found == {
        names["x"]: Request(64, 0, 3),
        names["y"]: Request(64, 1, 4),
        names["z"]: Request(64, 1, 2),
        names["r"]: Request(64, 1, 3),
    }


def test_parts_lie_where_the_whole_is_computed_in_place() -> None:
    layout = Layout.packed(Element.F32, (1, 1, 1, 4))
    kernel = KernelSpec(Map(), (layout,), (), (Output(layout, Operand(0)),), ((0, 0),))
    buffers = [Buffer(name, 16, "arena") for name in "xyz"] + [Buffer("part of z", 4, "part", base=2)]
    steps = [Step("y", kernel, (0,), (1,)), Step("z", kernel, (1,), (2,))]
    assert owners(steps, buffers) == [0, 0, 0, 0]


def test_nothing_to_place_needs_nothing() -> None:
    plan = plan_arena({})
    assert (plan.bytes, plan.lower_bound, plan.offsets) == (0, 0, {})


def test_random_plans_are_valid_and_near_the_bound() -> None:
    rng = random.Random(0)
    for _ in range(200):
        requests = {}
        for key in range(rng.randint(1, 20)):
            first = rng.randint(0, 20)
            requests[key] = Request(rng.randint(1, 4000), first, first + rng.randint(0, 5))
        plan = plan_arena(requests)
        for a, request in requests.items():
            assert plan.offsets[a] % ALIGNMENT == 0
            assert plan.offsets[a] + request.bytes <= plan.bytes
            for b, other in requests.items():
                apart = (
                    plan.offsets[a] + request.bytes <= plan.offsets[b]
                    or plan.offsets[b] + other.bytes <= plan.offsets[a]
                )
                assert a == b or apart or not request.overlaps(other)
        assert plan.lower_bound <= plan.bytes <= 2 * plan.lower_bound
