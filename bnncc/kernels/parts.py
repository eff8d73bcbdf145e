# SPDX-License-Identifier: Apache-2.0
"""Kernels that compute a part of their outputs, so that threads can share a layer.

A template's function is a nest of loops over outputs. Here one loop of every nest is made to run over its
share only: of e iterations, part p of P takes those from e*p/P to e*(p+1)/P, both rounded down. Every output
is computed by the same instructions as before, so results do not depend on P. What stands between the nests
(the last pixels or channels, written out) belongs to the last part.

Iterations must not depend on one another. They write different outputs in all templates, and what they use
besides lies on the stack. Where a kernel first fills scratch memory and then reads it, that is a stage of its
own, all parts of which are computed before the next. Kernels that use scratch memory otherwise, visit steps
of time in order, or call functions that write themselves, are computed whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx

from bnncc.kernels.kernel import Kernel
from bnncc.plan.kernel import FillHalo, Opaque, SpikeConv

ITERATIONS_PER_THREAD = 4
"""The outermost loop with as many iterations for each thread is shared; else the one with the most."""

NAMES = ("part", "parts", "stage")
"""The parameters, int32, after the pointers. stage: 0 fills scratch memory, 1 is the rest, ALL is both."""

ALL = 2

Value = Any
"""A TIR expression."""

Statement = Any
"""A TIR statement; typed loosely, as TVM's classes are."""


def divided(kernel: Kernel, threads: int) -> Kernel:
    """The kernel with three parameters more, NAMES; the same kernel where it cannot be divided."""
    if kernel.spec.is_recurrent:
        return kernel
    if isinstance(kernel.spec.root, Opaque | FillHalo | SpikeConv):
        return kernel
    # A row in three-word form is written from left to right: each pixel goes into sums of those before it.
    if any(output.layout.form != "plain" for output in kernel.spec.outputs):
        return kernel
    splitter = _Splitter(ITERATIONS_PER_THREAD * threads, bool(kernel.scratch_bytes))
    function: Any = kernel.function
    body = splitter.function_body(function.body)
    if body is None:
        return kernel
    parameters = [*function.params, splitter.part, splitter.parts, splitter.stage]
    function = tirx.PrimFunc(parameters, body, function.ret_type, function.attrs)
    stages = 2 if kernel.scratch_bytes else 1
    return replace(kernel, function=function, pieces=splitter.most, stages=stages)


@dataclass(frozen=True)
class _Split:
    """A nest with one of its loops shared, and how many iterations that has."""

    statement: Statement
    extent: int


class _Splitter:
    """Shares nests between `parts`; one for each function. wanted: as many iterations are enough.
    has_scratch: whether the last parameter is scratch memory."""

    def __init__(self, wanted: int, has_scratch: bool):
        self.wanted = wanted
        self.has_scratch = has_scratch
        self.part: Value
        self.parts: Value
        self.stage: Value
        self.part, self.parts, self.stage = (tirx.Var(name, "int32") for name in NAMES)
        self.most = 1
        """Iterations of the nest that has the most."""
        self.local: set[Any] = set()
        """Buffers on the stack."""

    def function_body(self, body: Statement) -> Statement | None:
        """The statements of a function with their nests shared, or None where that is not possible."""
        leaves = list(_leaves(body))
        if not all(map(_is_understood, leaves)):
            return None
        self.local = {leaf.buffer for leaf in leaves if isinstance(leaf, tirx.AllocBuffer)}
        statements = list(_sequence(body))
        filling: list[Statement] = []
        if self.has_scratch:
            stages = self.stages(statements)
            if stages is None:
                return None
            filling, statements = stages
        kept: list[Statement] = []
        alone: list[Statement] = []
        for statement in statements:
            split = self.nest(statement)
            if split is not None:
                kept.append(split.statement)
                self.most = max(self.most, split.extent)
            elif isinstance(statement, tirx.DeclBuffer):
                kept.append(statement)
            else:
                alone.append(statement)
        if self.most == 1:
            return None
        if alone:
            if _names(alone) & {var for nest in kept for var in tirx.analysis.undefined_vars(nest, [])}:
                return None
            last = self.part == self.parts - 1
            kept.append(tirx.IfThenElse(last, _joined(alone), None))
        if not filling:
            return _joined(kept)
        declared = [statement for statement in kept if isinstance(statement, tirx.DeclBuffer)]
        rest = [statement for statement in kept if not isinstance(statement, tirx.DeclBuffer)]
        first = tirx.IfThenElse(self.stage != 1, _joined(filling), None)
        return _joined([*declared, first, tirx.IfThenElse(self.stage != 0, _joined(rest), None)])

    def stages(self, statements: list[Statement]) -> tuple[list[Statement], list[Statement]] | None:
        """The nests that fill scratch memory, shared, and all other statements; None where not all of the
        former stand before the latter, or one statement does both."""
        declared = [statement for statement in statements if isinstance(statement, tirx.DeclBuffer)]
        scratch = declared[-1].buffer
        filling, others = [], []
        for statement in statements:
            stores = {leaf.buffer for leaf in _leaves(statement) if isinstance(leaf, tirx.BufferStore)}
            if scratch not in stores:
                others.append(statement)
                continue
            split = self.nest(statement)
            after_outputs = any(self.writes_outputs(other) for other in others)
            if split is None or after_outputs or stores - {scratch} - self.local:
                return None
            filling.append(split.statement)
        return filling, others

    def nest(self, statement: Statement) -> _Split | None:
        """A loop nest that writes outputs, shared at the outermost loop that has enough iterations, else at
        that which has the most; None where there is none."""
        if not isinstance(statement, tirx.For) or not isinstance(statement.extent, tirx.IntImm):
            return None
        if not self.writes_outputs(statement):
            return None
        extent = int(statement.extent)
        if extent < self.wanted:
            inner = self.inside(statement)
            if inner is not None and inner.extent > extent:
                return inner
        return _Split(self.share(statement), extent) if extent > 1 else None

    def inside(self, loop: Statement) -> _Split | None:
        """The loop with its body shared, where that is nothing but nests."""
        splits: list[Statement] = []
        extents: list[int] = []
        for statement in _sequence(loop.body):
            split = self.nest(statement)
            if split is None:
                return None
            splits.append(split.statement)
            extents.append(split.extent)
        return _Split(_with_body(loop, _joined(splits)), min(extents))

    def writes_outputs(self, statement: Statement) -> bool:
        """Whether it writes more than what lies on the stack."""
        stores = (leaf for leaf in _leaves(statement) if isinstance(leaf, tirx.BufferStore))
        return any(store.buffer not in self.local for store in stores)

    def share(self, loop: Statement) -> Statement:
        """The loop over its share of iterations, which begins at 0."""
        extent, counter = int(loop.extent), loop.loop_var
        first = tirx.Var(f"first_{counter.name}", "int32")
        end = tirx.truncdiv((self.part + 1) * extent, self.parts)
        step = tirx.Var(f"{counter.name}_of_part", "int32")
        body = _joined([tirx.Bind(counter, first + step), *_sequence(loop.body)])
        return _joined(
            [
                tirx.Bind(first, tirx.truncdiv(self.part * extent, self.parts)),
                tirx.For(step, tirx.const(0, "int32"), end - first, loop.kind, body),
            ]
        )


def _sequence(statement: Statement) -> Sequence[Statement]:
    return list(statement.seq) if isinstance(statement, tirx.SeqStmt) else [statement]


def _joined(statements: Sequence[Statement]) -> Statement:
    """One statement of several; sequences in it stay apart, as what they name is theirs."""
    flat = [inner for statement in statements for inner in _sequence(statement)]
    return flat[0] if len(flat) == 1 else tirx.SeqStmt(flat)


def _with_body(loop: Statement, body: Statement) -> Statement:
    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)


def _names(statements: Sequence[Statement]) -> set[Any]:
    """What these statements define for those after them."""
    bound = {statement.var for statement in statements if isinstance(statement, tirx.Bind)}
    return bound | {statement.buffer for statement in statements if isinstance(statement, tirx.AllocBuffer)}


def _leaves(statement: Statement) -> Iterator[Statement]:
    """The statements inside that hold no others."""
    stack = [statement]
    while stack:
        inner = stack.pop()
        if isinstance(inner, tirx.SeqStmt):
            stack += list(inner.seq)
        elif isinstance(inner, tirx.For | tirx.While):
            stack.append(inner.body)
        elif isinstance(inner, tirx.IfThenElse):
            stack += [inner.then_case, *([inner.else_case] if inner.else_case is not None else [])]
        else:
            yield inner


def _is_understood(leaf: Statement) -> bool:
    """Whether what it writes is told by its type."""
    return isinstance(leaf, tirx.BufferStore | tirx.AllocBuffer | tirx.Bind | tirx.DeclBuffer)
