# SPDX-License-Identifier: Apache-2.0
"""Kernels that compute a part of their outputs, so that threads can share a layer.

A template's function is a nest of loops over outputs. Here one loop of every nest is made to run over a range
of its iterations only: of e iterations, pieces f to g - 1 of P take those from e*f/P to e*g/P, both rounded
down. Every output is computed by the same instructions as before, so results do not depend on P. What stands
between the nests (the last pixels or channels, written out) belongs to the last piece; beside one nest it
counts as one more iteration.

Iterations must not depend on one another. They write different outputs in all templates, and what they use
besides lies on the stack. Only rows in three-word form are written from left to right: each pixel goes into
sums of those before it. Where a kernel first fills scratch memory and then reads it, that is a stage of its
own, all pieces of which are computed before the next. Where each tile of outputs fills scratch memory anew,
every thread is lent some of its own, which then is as good as the stack. Kernels that use scratch memory
otherwise, visit steps of time in order, or call functions that write more than that, are computed whole.

Which loop: threads that write neighbouring channels of the same pixels would take the cache lines of packed
bits from each other, so pixels are shared where there are more bytes of outputs than of weights; else
channels, so that each thread reads weights of its own. Where there are few iterations, and not as many for
each thread, those of the loop inside are counted through with them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from bnncc.kernels import emit
from bnncc.kernels.kernel import Kernel
from bnncc.plan.kernel import FillHalo, Opaque, SpikeConv

ITERATIONS_PER_THREAD = 4
"""The outermost loop with as many iterations for each thread is shared; else the one with the most."""

UNEVEN = 16
"""Iterations for each thread: where there are fewer, and not as many for each, those of the loop inside are
shared with them (14 rows between four threads are four for some)."""

NAMES = ("first", "end", "pieces", "stage")
"""The parameters, int32, after the pointers. The first piece and the one after the last, and how many there
are; stage: 0 fills scratch memory, 1 is the rest, ALL is both."""

ALL = 2

CHANNEL_LOOPS = ("block", "group")
COLUMN_LOOPS = ("column",)
"""What the names of loops over channels and over the pixels of a row begin with (see `nest`)."""

Value = Any
"""A TIR expression."""

Statement = Any
"""A TIR statement; typed loosely, as TVM's classes are."""


def divided(kernel: Kernel, threads: int) -> Kernel:
    """The kernel with four parameters more, NAMES; the same kernel where it cannot be divided."""
    if kernel.spec.is_recurrent:
        return kernel
    if isinstance(kernel.spec.root, Opaque | FillHalo | SpikeConv):
        return kernel
    splitter = _Splitter(kernel, threads)
    function: Any = kernel.function
    body = splitter.function_body(function.body)
    if body is None:
        return kernel
    parameters = [*function.params, splitter.first, splitter.end, splitter.pieces, splitter.stage]
    function = tirx.PrimFunc(parameters, body, function.ret_type, function.attrs)
    stages = 2 if splitter.is_staged else 1
    return replace(kernel, function=function, pieces=splitter.most, stages=stages)


@dataclass(frozen=True)
class _Split:
    """A nest with one of its loops shared, and how many iterations that has."""

    statement: Statement
    extent: int


class _Splitter:
    """Shares the nests of a kernel between `pieces`, for so many threads."""

    def __init__(self, kernel: Kernel, threads: int):
        self.threads = threads
        self.wanted = ITERATIONS_PER_THREAD * threads
        """As many iterations are enough."""
        self.is_staged = bool(kernel.scratch_bytes) and not kernel.scratch_of_tile
        """Whether scratch memory, the last parameter, is filled first, for all outputs."""
        self.is_tiled = bool(kernel.scratch_bytes) and kernel.scratch_of_tile
        """Whether it is filled for each tile."""
        self.prefers_pixels = _output_bytes(kernel) > _weight_bytes(kernel)
        writes_rows = any(output.layout.form != "plain" for output in kernel.spec.outputs)
        self.ordered = COLUMN_LOOPS if writes_rows else ()
        """What loops are called whose iterations come one after the other."""
        self.first: Value
        self.end: Value
        self.pieces: Value
        self.stage: Value
        self.first, self.end, self.pieces, self.stage = (tirx.Var(name, "int32") for name in NAMES)
        self.beside = 0
        """Iterations that a nest has more, for what stands beside it."""
        self.most = 1
        """Iterations of the nest that has the most."""
        self.local: set[Any] = set()
        """Buffers on the stack, and scratch memory that is a thread's own."""
        self.tile_scratch: Any = None
        """The latter's buffer, if there is any."""
        self.constant = [parameter.is_const for parameter in kernel.parameters]
        """Of each parameter, whether it is only read."""

    def function_body(self, body: Statement) -> Statement | None:
        """The statements of a function with their nests shared, or None where that is not possible."""
        leaves = list(_leaves(body))
        self.local = {leaf.buffer for leaf in leaves if isinstance(leaf, tirx.AllocBuffer)}
        statements = list(_sequence(body))
        buffers = [part.buffer for part in statements if isinstance(part, tirx.DeclBuffer)]
        if self.is_tiled:
            self.tile_scratch = buffers[-1]
            self.local.add(self.tile_scratch)
        harmless = self.local | set(itertools.compress(buffers, self.constant))
        if not all(_is_understood(leaf, harmless) for leaf in leaves):
            return None
        filling: list[Statement] = []
        if self.is_staged:
            stages = self.stages(statements)
            if stages is None:
                return None
            filling, statements = stages
        declared = [statement for statement in statements if isinstance(statement, tirx.DeclBuffer)]
        nests = self.nests(statements)
        alone = [s for s in statements if s not in nests and s not in declared]
        self.beside = int(bool(alone) and len(nests) == 1)
        splits = [split for split in map(self.nest, nests) if split is not None]
        kept = [split.statement for split in splits]
        self.most = max((split.extent for split in splits), default=1)
        if self.most == 1:
            return None
        if alone:
            kept.append(tirx.IfThenElse(self.end == self.pieces, _joined(alone), None))
        if not filling:
            return _joined([*declared, *kept])
        first = tirx.IfThenElse(self.stage != 1, _joined(filling), None)
        return _joined([*declared, first, tirx.IfThenElse(self.stage != 0, _joined(kept), None)])

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

    def nests(self, statements: list[Statement]) -> list[Statement]:
        """The nests among statements that use nothing of what stands beside them: names, and scratch memory
        that was filled there."""
        own, found = _names(statements), []
        for statement in statements:
            used = _used(statement)
            if self.nest(statement) is not None and not own & used:
                found.append(statement)
            elif self.tile_scratch in used:
                own.add(self.tile_scratch)
        return found

    def nest(self, statement: Statement) -> _Split | None:
        """A loop nest that writes outputs, shared at the outermost loop that has enough iterations, else at
        that which has the most; None where there is none."""
        if not isinstance(statement, tirx.For) or not isinstance(statement.extent, tirx.IntImm):
            return None
        if not self.writes_outputs(statement):
            return None
        extent = int(statement.extent)
        inner = self.inside(statement) if self.looks_inside(statement) else None
        if inner is not None and inner.extent > (extent if extent < self.wanted else self.wanted - 1):
            return inner
        if extent == 1 or str(statement.loop_var.name).startswith(self.ordered):
            return inner
        inside = self.only_loop(statement) if self.is_uneven(extent) else None
        if inside is not None:
            return _Split(self.share_both(statement, inside), extent * int(inside.extent))
        return _Split(self.share(statement), extent + self.beside)

    def is_uneven(self, extent: int) -> bool:
        """Whether some threads would get noticeably more iterations than others."""
        return extent % self.threads != 0 and extent < UNEVEN * self.threads and not self.beside

    def only_loop(self, loop: Statement) -> Statement | None:
        """The nest that is all there is in a loop besides names, if its iterations may be shared, too."""
        *names, inner = _sequence(loop.body)
        is_loop = isinstance(inner, tirx.For) and isinstance(inner.extent, tirx.IntImm)
        if not is_loop or not all(isinstance(statement, tirx.Bind) for statement in names):
            return None
        is_ordered = str(inner.loop_var.name).startswith(self.ordered)
        return None if is_ordered or not self.writes_outputs(inner) else inner

    def looks_inside(self, loop: Statement) -> bool:
        """Whether a loop in it may be the better one to share."""
        name, extent = str(loop.loop_var.name), int(loop.extent)
        if (self.prefers_pixels and name.startswith(CHANNEL_LOOPS)) or name.startswith(self.ordered):
            return True
        is_evened = self.prefers_pixels and extent >= self.threads and self.only_loop(loop) is not None
        return extent < self.wanted and not is_evened

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
        extent = int(loop.extent)
        begin, end = (
            tirx.truncdiv(piece * (extent + self.beside), self.pieces) for piece in (self.first, self.end)
        )
        if self.beside:
            end = tirx.min(end, tirx.const(extent, "int32"))
        return _over(loop, begin, end, _sequence(loop.body))

    def share_both(self, outer: Statement, inner: Statement) -> Statement:
        """Two loops over their share of the iterations of both."""
        number = int(inner.extent)
        begin, end = (tirx.Var(f"{name}_{inner.loop_var.name}", "int32") for name in ("begin", "end"))
        row, count = outer.loop_var, int(outer.extent) * number
        done = tirx.max(begin - row * number, tirx.const(0, "int32"))
        last = tirx.min(end - row * number, tirx.const(number, "int32"))
        *names, _ = _sequence(outer.body)
        body = _over(inner, done, last, _sequence(inner.body))
        whole = _over(
            outer,
            tirx.truncdiv(begin, number),
            tirx.truncdiv(end + (number - 1), number),
            [*names, *_sequence(body)],
        )
        bounds = ((begin, self.first), (end, self.end))
        return _joined(
            [*(tirx.Bind(var, tirx.truncdiv(piece * count, self.pieces)) for var, piece in bounds), whole]
        )


def _over(loop: Statement, begin: Value, end: Value, body: Sequence[Statement]) -> Statement:
    """The loop from `begin` to `end`; it counts from 0, as TVM's loops do."""
    counter = loop.loop_var
    start, step = tirx.Var(f"first_{counter.name}", "int32"), tirx.Var(f"{counter.name}_of_share", "int32")
    inside = _joined([tirx.Bind(counter, start + step), *body])
    return _joined(
        [tirx.Bind(start, begin), tirx.For(step, tirx.const(0, "int32"), end - start, loop.kind, inside)]
    )


def _output_bytes(kernel: Kernel) -> int:
    return sum(output.layout.bytes for output in kernel.spec.outputs)


def _weight_bytes(kernel: Kernel) -> int:
    """Of the constants as they are stored."""
    constants = kernel.parameters[len(kernel.spec.inputs) + len(kernel.spec.operands) :]
    return sum(p.extent * np.dtype(p.dtype).itemsize for p in constants if p.is_const)


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


def _used(statement: Statement) -> set[Any]:
    """What a statement uses that others define."""
    return set(tirx.analysis.undefined_vars(statement, []))


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


def _is_understood(leaf: Statement, harmless: Set[Any]) -> bool:
    """Whether what it writes is told by its type; of a function that is called, whether it is given no other
    buffers than these."""
    known = tirx.BufferStore | tirx.AllocBuffer | tirx.Bind | tirx.DeclBuffer
    if isinstance(leaf, known) or emit.is_prefetch(leaf):
        return True
    call: Value = leaf.value if isinstance(leaf, tirx.Evaluate) else None
    if not _calls(call, "tirx.call_extern"):
        return False
    places = [argument.args[0] for argument in call.args if _calls(argument, "tirx.address_of")]
    return bool(places) and all(place.source in harmless for place in places)


def _calls(value: Value, operation: str) -> bool:
    """Whether a value is a call of one of TVM's operations."""
    return isinstance(value, tvm.ir.Call) and value.op.same_as(tvm.ir.Op.get(operation))
