# SPDX-License-Identifier: Apache-2.0
"""Where a value comes from: the ONNX node (location) and the ONNX tensor that it equals (source).

`source` is a discardable attribute `["tensor name", array<i64: permutation>]`: the operation's single result
equals that tensor of the ONNX graph with its dimensions permuted. `verify` compares at these values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, DictionaryAttr, NameLoc, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation

from bnncc.dialect.properties import ints, unpack

SOURCE = "source"


def set_source(op: Operation, name: str, permutation: Sequence[int]) -> None:
    """Say that the result of `op` is ONNX tensor `name`, dimension i being its dimension permutation[i]."""
    op.attributes[SOURCE] = ArrayAttr([StringAttr(name), ints(permutation)])


def get_source(op: Operation) -> tuple[str, tuple[int, ...]] | None:
    """The ONNX tensor that the result equals and the permutation, or None."""
    attribute = op.attributes.get(SOURCE)
    if not isinstance(attribute, ArrayAttr):
        return None
    name, permutation = attribute.data
    assert isinstance(name, StringAttr) and isinstance(permutation, DenseArrayBase)
    return name.data, unpack(permutation)


LOOPS = "bnn.loops"
"""Attribute of func @main: names of the loops of the file that are loops here. What is in the body of one is
called "<loop>/<step>/<name>", and its source is the name in step 0."""

STEP_NAMES = "bnn.step_names"
"""Attribute of func @main: of the steps that roll-time made a loop of, what a value is called in all of them,
by its name in the first."""


def note_loops(main: FuncOp, names: Sequence[str]) -> None:
    """Say which loops of the file are loops here."""
    if names:
        main.attributes[LOOPS] = ArrayAttr([StringAttr(name) for name in names])


def note_steps(main: FuncOp, names: Mapping[str, Sequence[str]]) -> None:
    """Say what values of steps that are a loop now are called, by the name in the first one."""
    known = main.attributes.get(STEP_NAMES)
    entries = dict(known.data) if isinstance(known, DictionaryAttr) else {}
    entries |= {first: ArrayAttr([StringAttr(name) for name in all_]) for first, all_ in names.items()}
    if entries:
        main.attributes[STEP_NAMES] = DictionaryAttr(entries)


class StepNames:
    """What values in loops are called in the graph of the file."""

    def __init__(self, main: FuncOp):
        loops, steps = main.attributes.get(LOOPS), main.attributes.get(STEP_NAMES)
        self._loops = [f"{name.data}/" for name in loops] if isinstance(loops, ArrayAttr) else []  # type: ignore[attr-defined]
        self._steps = steps.data if isinstance(steps, DictionaryAttr) else {}

    def name(self, source: str, step: int | None) -> str | None:
        """The name in a step of the loop, or of a value that is in no loop (None); None where it has none."""
        if step is None:
            return source
        if source in self._steps:
            names = self._steps[source]
            assert isinstance(names, ArrayAttr)
            return names.data[step].data if step < len(names) else None  # type: ignore[attr-defined]
        for loop in self._loops:
            if source.startswith(f"{loop}0/"):
                return f"{loop}{step}/{source[len(loop) + 2 :]}"
        return None


def location_text(op: Operation) -> str:
    """The ONNX node behind an operation as people write it, "model.onnx:/conv1/Conv", or "" if unknown."""
    return op.location.desc.data if isinstance(op.location, NameLoc) else ""


def node_name(op: Operation) -> str:
    """The name of the ONNX node behind an operation, or the operation's own where there is none."""
    return location_text(op).partition(":")[2] or op.name
