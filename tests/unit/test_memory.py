# SPDX-License-Identifier: Apache-2.0
"""The arena plan: nothing that is alive overlaps, and the bound is a bound."""

from __future__ import annotations

import random

from bnncc.plan.arena import owners, requests, state_bytes, state_offsets, with_scratch
from bnncc.plan.expression import Operand
from bnncc.plan.kernel import KernelSpec, Map, Output, Pool, Window
from bnncc.plan.layout import Element, Layout
from bnncc.plan.memory import ALIGNMENT, Request, plan_arena
from bnncc.plan.program import Alternative, Buffer, Program, Step, TimeLoop

NOTHING = KernelSpec(Map(), (), (), ())
ROW = Layout.packed(Element.F32, (1, 1, 1, 4))


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


def test_a_hole_that_fits_exactly_is_filled() -> None:
    plan = plan_arena({0: Request(64, 3, 6), 1: Request(64, 0, 1), 2: Request(64, 1, 4)})
    assert plan.bytes == plan.lower_bound == 128


def test_all_that_a_step_may_touch_is_alive() -> None:
    """Scratch memory, what only the masked kernel reads, and the mask."""
    buffers = [Buffer(name, 64, "arena") for name in ("scratch", "input", "masked", "mask")]
    masked = Alternative(NOTHING, (2,), 3, ROW)
    steps = [
        Step("makes", NOTHING, (), (1, 2, 3)),
        Step("other", NOTHING, (), ()),
        Step("reads", NOTHING, (1,), (), when_zero=masked, scratch=0),
    ]
    found = requests(steps, buffers, range(4))
    assert found == {0: Request(64, 2, 2), **{buffer: Request(64, 0, 2) for buffer in (1, 2, 3)}}


def test_shared_memory_is_as_large_as_the_largest() -> None:
    """Whichever comes first, and where a loop reaches only a part of it."""
    for sizes in ((64, 256), (256, 64)):
        buffers = [Buffer(str(size), size, "arena") for size in sizes]
        steps = [Step("0", NOTHING, (), (0,)), Step("1", NOTHING, (0,), (1,))]
        assert requests(steps, buffers, [0, 0]) == {0: Request(256, 0, 1)}
    buffers = [Buffer("whole", 256, "arena"), Buffer("part", 64, "part", base=0)]
    steps = [Step("0", NOTHING, (), (1,)), Step("1", NOTHING, (1,), ())]
    assert requests(steps, buffers, [0, 0], [TimeLoop(0, 1, 4)]) == {0: Request(256, 0, 1)}


def test_in_place_pairs_count_operands_behind_the_inputs() -> None:
    kernel = KernelSpec(Pool("max", ROW, Window(1, 1)), (ROW,), (), (Output(ROW, Operand(0)),), ((0, 0),))
    buffers = [Buffer(name, 16, "arena") for name in "xyz"]
    assert owners([Step("z", kernel, (0, 1), (2,))], buffers) == [0, 1, 1]


def test_states_lie_one_after_the_other_aligned() -> None:
    buffers = [Buffer("s", 65, "state"), Buffer("x", 1000, "arena"), Buffer("t", 1, "state")]
    buffers.append(Buffer("u", 64, "state"))
    assert state_offsets(buffers) == {0: 0, 2: 128, 3: 192}
    assert state_bytes(buffers) == 256


def test_every_kernel_that_asks_for_scratch_memory_gets_some() -> None:
    """Each for itself, and only while it runs."""
    asks = KernelSpec(Map(), (ROW,), (), (Output(ROW, Operand(0)),))
    buffers = tuple(Buffer(name, 64, "arena") for name in "wxyz")
    steps = (
        Step("a", NOTHING, (), (0,)),
        Step("b", asks, (0,), (1,)),
        Step("c", NOTHING, (1,), (2,)),
        Step("d", asks, (2,), (3,)),
    )
    program = with_scratch(Program("p", (), (), buffers, steps, {}, 0, 0), [0, 100, 0, 100])
    assert [step.scratch for step in program.steps] == [None, 4, None, 5]
    assert [buffer.bytes for buffer in program.buffers[4:]] == [100, 100]
    assert program.arena_bytes == program.arena_lower_bound == 256
    for lent, beside in ((4, (0, 1)), (5, (2, 3))):
        first, end = program.offsets[lent], program.offsets[lent] + 128
        assert all(not first <= program.offsets[other] < end for other in beside)
    assert with_scratch(program, [0] * len(steps)) is program


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
