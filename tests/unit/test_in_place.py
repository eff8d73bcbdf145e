# SPDX-License-Identifier: Apache-2.0
"""Which results are written over an operand: each rule with its near misses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bnncc.lowering.in_place import reuse_operands
from bnncc.plan.expression import Operand
from bnncc.plan.kernel import FillHalo, KernelSpec, Map, Output, Pool, Window
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.plan.program import Alternative, Buffer, Step, TimeLoop

ROW = Layout.packed(Element.F32, (1, 1, 1, 4))
PADDED = Layout.packed(Element.F32, (1, 1, 1, 4), Halo(0, 1, 0, 0))
INTEGERS = Layout.packed(Element.I32, (1, 1, 1, 4))
PAIR = tuple[int, int]
FIRST: tuple[PAIR, ...] = ((0, 0),)


def made(
    operands: str, writes: str, root: str = "", in_place: tuple[PAIR, ...] = (), also: str | None = None
) -> Step:
    """A step on buffers of one letter: it reads `root` through a window and the others element by element.
    also: what its masked kernel reads, the mask last."""
    kind = Pool("max", ROW, Window(1, 1)) if root else Map()
    outputs = (Output(ROW, Operand(0)),) * len(writes)
    kernel = KernelSpec(kind, (ROW,) * len(operands), (), outputs, in_place)
    step = Step("", kernel, tuple(map(ord, root + operands)), tuple(map(ord, writes)))
    if also is None:
        return step
    reads = tuple(map(ord, also))
    return replace(step, when_zero=Alternative(kernel, reads[:-1], reads[-1], ROW))


def halo(writes: str) -> Step:
    """A step that writes around an image."""
    return Step("", KernelSpec(FillHalo(PADDED, 0), (), (), ()), (), tuple(map(ord, writes)))


X = made("", "x")
ENDS: dict[str, tuple[list[Step], tuple[PAIR, ...]]] = {
    "read for the last time": ([X, made("x", "y")], FIRST),
    "read later": ([X, made("x", "y"), made("x", "z")], ()),
    "read before": ([X, made("x", "z"), made("x", "y")], FIRST),
    "read through a window": ([X, made("", "y", root="x")], ()),
    "read through a window, too": ([X, made("x", "y", root="x")], ()),
    "read twice": ([X, made("xx", "y")], ()),
    "the second of two": ([X, made("", "w"), made("wx", "y"), made("w", "z")], ((1, 0),)),
    "one for each of two": ([X, made("", "w"), made("xw", "yz")], ((0, 0), (1, 1))),
    "one for two": ([X, made("x", "yz")], FIRST),
    "one that was given before": ([X, made("", "w"), made("xw", "yz", in_place=FIRST)], ((0, 0), (1, 1))),
    "one that was given before, and no other": ([X, made("x", "yz", in_place=FIRST)], FIRST),
    "the result was written before": ([X, made("", "y"), made("x", "y")], ()),
    "the result was read before": ([X, made("y", "z"), made("x", "y")], ()),
    "the result is read at the same time": ([X, made("x", "y", root="y")], FIRST),
    "only its halo was": ([X, halo("y"), made("x", "y")], FIRST),
    "read later where zeros are masked": ([X, made("x", "y"), made("", "z", root="w", also="wxm")], ()),
    "a mask later": ([X, made("x", "y"), made("", "z", root="w", also="wx")], ()),
    "the masked kernel reads it alike": ([X, made("x", "y", root="w", also="wxm")], FIRST),
    "the masked kernel reads it twice": ([X, made("x", "y", root="w", also="wxxm")], ()),
    "given by the user": ([made("i", "y")], ()),
    "given to the user": ([X, made("x", "o")], ()),
    "a part of something": ([made("p", "y")], ()),
    "a larger one": ([made("", "l"), made("l", "y")], ()),
}
"""Steps, and the pairs of the last but those that only read."""

BUFFERS = [Buffer(chr(letter), 16, "arena") for letter in range(ord("z") + 1)]
BUFFERS[ord("i")] = Buffer("i", 16, "input")
BUFFERS[ord("o")] = Buffer("o", 16, "output")
BUFFERS[ord("p")] = Buffer("p", 16, "part", base=ord("x"))
BUFFERS[ord("l")] = Buffer("l", 32, "arena")


def pairs_for_y(steps: list[Step], loops: tuple[TimeLoop, ...] = ()) -> tuple[PAIR, ...]:
    """What shares memory in the step that makes y (or o), both of its kernels agreeing."""
    found = reuse_operands(steps, BUFFERS, loops)
    (step,) = [
        s for s in found if {ord("y"), ord("o")} & set(s.writes) and (s.kernel.operands or s.kernel.inputs)
    ]
    assert step.when_zero is None or step.when_zero.kernel.in_place == step.kernel.in_place
    return step.kernel.in_place


@pytest.mark.parametrize("name", ENDS)
def test_who_gives_its_memory_away(name: str) -> None:
    steps, expected = ENDS[name]
    assert pairs_for_y(steps) == expected


@pytest.mark.parametrize(
    ("first", "expected"), [(0, FIRST), (1, ())], ids=["made in every trip", "made before the loop"]
)
def test_what_every_trip_reads_stays(first: int, expected: tuple[PAIR, ...]) -> None:
    assert pairs_for_y([X, made("x", "y")], (TimeLoop(first, 1, 5),)) == expected


@pytest.mark.parametrize(
    ("operand", "output", "expected"),
    [
        (PADDED, PADDED, FIRST),
        (replace(PADDED, halo=Halo()), PADDED, FIRST),
        (PADDED, ROW, ()),
        (ROW, replace(ROW, offset=1), ()),
        (INTEGERS, ROW, ()),
    ],
    ids=["alike", "whose halo nobody reads", "padded", "later", "of another type"],
)
def test_both_lie_alike(operand: Layout, output: Layout, expected: tuple[PAIR, ...]) -> None:
    kernel = KernelSpec(Map(), (operand,), (), (Output(output, Operand(0)),))
    assert pairs_for_y([X, replace(made("x", "y"), kernel=kernel)]) == expected
