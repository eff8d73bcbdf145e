# SPDX-License-Identifier: Apache-2.0
"""Kernels in parts: whatever their number, together they write what the whole kernel writes, each output by
one part."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc import driver, targets
from bnncc.driver import Options
from bnncc.kernels import emit, parts
from bnncc.kernels.build import make_kernel
from bnncc.kernels.emit import Buffers
from bnncc.kernels.kernel import Kernel
from bnncc.kernels.parts import ALL
from bnncc.plan.expression import Operand
from bnncc.plan.kernel import BinaryConv, KernelSpec, Map, Opaque, Output
from bnncc.plan.layout import Element, Layout
from bnncc.plan.program import Step
from bnncc.plan.simulate import allocate, random_reads, run_step
from tests.bench.architectures import exported
from tests.kernels.contractions import Shape, binary_spec, byte_spec, dense
from tests.kernels.library import Library, aligned
from tests.kernels.test_byte_rows import DSP, MORE

pytest.importorskip("torch")

THREADS = 3
Range = tuple[int, int, int]
"""The first piece, the one after the last, of how many."""

TARGETS = ("native", "x86-64-v3", "c")
NETWORKS = ("bi_realnet18", "cnv")


@lru_cache
def kernels(network: str, target: str) -> tuple[list[tuple[Step, Kernel, Kernel]], Library, Library]:
    """Steps with their whole and divided kernels, and libraries of both; kernels that stay whole left out."""
    facts = targets.load(target)
    if not facts.runs_here():
        pytest.skip(f"this machine is no {target}")
    steps: dict[KernelSpec, Step] = {}
    for step in driver.lower_model(exported(network, small=True), Options()).program.steps:
        steps.setdefault(step.kernel, step)
    made = [
        (step, whole := make_kernel(spec, facts), parts.divided(whole, THREADS))
        for spec, step in steps.items()
    ]
    found = [row for row in made if row[2].pieces > 1]
    return found, Library([row[1] for row in found], facts), Library([row[2] for row in found], facts)


def numbers(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """A buffer of the layout, filled at random."""
    dtype, extent = np.dtype(layout.element.dtype), layout.extent
    if layout.element is Element.F32:
        return rng.standard_normal(extent).astype(np.float32)
    return rng.integers(0, np.iinfo(dtype).max, extent, dtype, endpoint=True)


class Call:
    """The arguments of a step's kernel, the same for each variant."""

    def __init__(self, step: Step, kernel: Kernel):
        rng = np.random.default_rng(5)
        self.step, self.kernel = step, kernel
        spec = step.kernel
        self.reads = [aligned(numbers(layout, rng)) for layout in (*spec.inputs, *spec.operands)]
        self.packed = [aligned(array) for array in kernel.pack(step.constants)]

    def outputs(self, library: Library, kernel: Kernel, which: list[Range]) -> list[np.ndarray]:
        """What these ranges of pieces leave in memory that held 0xA5 in every byte, or operands, where
        outputs are written in their place. Scratch memory is filled by them if they are all pieces, by the
        same call if there is one piece."""
        spec = self.step.kernel
        reads = [array.copy() for array in self.reads]
        writes = [
            aligned(np.full(o.layout.extent, 0xA5A5A5A5, np.uint32).view(np.uint8)[: o.layout.bytes])
            for o in spec.outputs
        ]
        for operand, output in spec.in_place:
            writes[output] = reads[len(spec.inputs) + operand]
        lent = [aligned(np.zeros(kernel.scratch_bytes, np.uint8))] if kernel.scratch_bytes else []
        buffers = (*reads, *self.packed, *writes, *lent)
        stage = ALL if which == [(0, 1, 1)] else 1
        if kernel.stages == 2 and stage != ALL:
            is_all = sum(end - first for first, end, _ in which) == which[0][2] if which else False
            for pieces in which if is_all else [(0, 1, 1)]:
                library.bind(kernel, *buffers, pieces=(*pieces, 0))()
        for pieces in which:
            library.bind(kernel, *buffers, pieces=(*pieces, stage))()
        return [array.view(np.uint8).copy() for array in writes]


def cut(pieces: int, rng: np.random.Generator) -> list[Range]:
    """All pieces, as ranges of any length, in any order."""
    cuts = np.unique([0, pieces, *rng.integers(0, pieces + 1, rng.integers(0, 5))])
    ranges = [(int(first), int(end), pieces) for first, end in itertools.pairwise(cuts)]
    return [ranges[i] for i in rng.permutation(len(ranges))]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("network", NETWORKS)
def test_parts_make_the_whole(network: str, target: str) -> None:
    found, whole, divided = kernels(network, target)
    assert len(found) >= 7
    rng = np.random.default_rng(11)
    for step, kernel, shared in found:
        call = Call(step, kernel)
        expected = call.outputs(whole, kernel, [(0, 1, 1)])
        for count in (1, 2, 3, 4, 7, 100):
            order = cut(count, rng)
            for got, want in zip(call.outputs(divided, shared, order), expected, strict=True):
                np.testing.assert_array_equal(got, want, err_msg=f"{step.operation} in {order}")


def test_each_output_is_written_by_one_part() -> None:
    found, _, divided = kernels("bi_realnet18", "native")
    for step, kernel, shared in found:
        if step.kernel.in_place:
            continue
        call = Call(step, kernel)
        untouched = call.outputs(divided, replace(shared, stages=1), [])
        alone = [call.outputs(divided, shared, [(part, part + 1, 3)]) for part in range(3)]
        together = call.outputs(divided, shared, [(part, part + 1, 3) for part in range(3)])
        for output, before in enumerate(untouched):
            changed = [one[output] != before for one in alone]
            assert not (changed[0] & changed[1] | changed[0] & changed[2] | changed[1] & changed[2]).any()
            assert (np.logical_or.reduce(changed) == (together[output] != before)).all()
            assert sum(mask.any() for mask in changed) > 1 or shared.pieces == 2, step.operation


def test_what_depends_on_order_stays_whole() -> None:
    """Near misses: scratch memory, nodes whose loops are TVM's, steps of time, statements that write nobody
    knows what."""
    found, _, _ = kernels("cnv", "native")
    step, kernel, shared = found[0]
    staged: Any
    assert shared.pieces > 1
    _, staged, divided = next(row for row in kernels("bi_realnet18", "native")[0] if row[2].stages == 2)
    *before, filling, reading = staged.function.body.seq
    turned = staged.function.with_body(tirx.SeqStmt([*before, reading, filling]))
    assert divided.pieces > 1
    assert parts.divided(replace(staged, function=turned), THREADS).pieces == 1
    names = [parameter.name for parameter in staged.parameters]
    output: Any = before[names.index("output0")].buffer
    writing = tirx.BufferStore(output, tirx.const(0, output.dtype), [tirx.const(0, "int32")])
    both = parts._with_body(filling, tirx.SeqStmt([filling.body, writing]))
    mixed = staged.function.with_body(tirx.SeqStmt([*before, both, reading]))
    assert parts.divided(replace(staged, function=mixed), THREADS).pieces == 1
    opaque = Opaque("Sin", b"", 17, (), (), (), ())
    assert parts.divided(replace(kernel, spec=replace(step.kernel, root=opaque)), THREADS).pieces == 1
    first = step.kernel.outputs[0]
    strides = (0, *first.layout.strides[1:])
    state = replace(first, layout=replace(first.layout, shape=(2, *step.kernel.shape[1:]), strides=strides))
    over_time = replace(step.kernel, outputs=(state,), in_place=((0, 0),))
    assert parts.divided(replace(kernel, spec=over_time), THREADS).pieces == 1
    writes = tirx.Evaluate(tirx.call_extern("int32", "somewhere"))
    function: Any = kernel.function
    body = tirx.SeqStmt([*function.body.seq, writes])
    assert parts.divided(replace(kernel, function=function.with_body(body)), THREADS).pieces == 1


CORE = replace(DSP, popcount="none")
"""It has carry-save addition for bits, too."""

WINDOWS = {
    "words": binary_spec(Shape((1, 5, 6, 1024), 40)),
    "words-batch": binary_spec(Shape((3, 4, 5, 2048), 64, groups=2)),
    **{name: MORE[name] for name in ("int7", "int7-bits", "int7-17", "int8-tail", "groups-of-24")},
}
"""Layers whose windows are copied to memory that is lent, tile by tile."""


@pytest.mark.parametrize("name", ["depthwise-5x5", *WINDOWS])
def test_layers_that_use_memory_for_a_tile(name: str) -> None:
    """On the stack, or lent: what one part left there, or another thread, is nothing to the next."""
    spec, rng = (WINDOWS | MORE)[name], np.random.default_rng(3)
    kernel = make_kernel(spec, CORE)
    shared = parts.divided(kernel, THREADS)
    assert bool(kernel.scratch_bytes) == (name in WINDOWS)
    assert shared.pieces > 1 and shared.stages == 1
    reads = [aligned(array) for array in random_reads(spec, rng)]
    weight, *others = (rng.integers(-9, 9, c.shape).astype(c.element.dtype) for c in spec.constants)
    if isinstance(spec.root, BinaryConv):
        weight = np.where(weight < 0, -1, 1).astype(np.int8)
    packed, library = [aligned(array) for array in kernel.pack((weight, *others))], Library([shared], CORE)
    expected = [allocate(output.layout) for output in spec.outputs]
    run_step(spec, reads, (weight, *others), expected)
    assert all(array.any() for array in expected)
    for count in (1, 2, 3, 7, 100):
        actual = [allocate(output.layout) for output in spec.outputs]
        for pieces in cut(count, rng):
            lent = [aligned(rng.integers(0, 256, max(1, kernel.scratch_bytes), np.uint8))]
            buffers = (*reads, *packed, *actual, *(lent if kernel.scratch_bytes else []))
            library.bind(shared, *buffers, pieces=(*pieces, ALL))()
        for got, want in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(got, want)


LARGE = {
    "bits": binary_spec(Shape((1, 9, 9, 512), 64)),
    "bits-words": binary_spec(Shape((1, 9, 9, 1024), 64)),
    "bytes": byte_spec(Shape((1, 9, 9, 64), 64), lowest=-128, weight_planes=8),
}


@pytest.mark.parametrize("target", [name for name in targets.names() if not targets.load(name).is_bare])
def test_3x3_layers_are_shared_on_every_processor_with_threads(target: str) -> None:
    for name, spec in LARGE.items():
        assert parts.divided(make_kernel(spec, targets.load(target)), THREADS).pieces >= THREADS, name


def test_what_is_filled_for_all_tiles_at_once_is_not_for_one() -> None:
    """Near misses: what a loop over tiles reads was filled before it; a single tile."""
    kernel = make_kernel(WINDOWS["int7"], DSP)
    one = make_kernel(binary_spec(dense(1, 40000, 64)), CORE)

    def body(buffers: Buffers) -> None:
        T.evaluate(T.call_extern("int32", "somewhere", T.address_of(buffers["scratch"][0])))
        with T.serial(0, 6) as row:
            value = T.Cast("float32", buffers["scratch"][row])
            T.buffer_store(buffers["output0"], value, [row])

    changed = replace(kernel, function=emit.function(kernel.symbol, kernel.parameters, body))
    assert one.scratch_of_tile and one.scratch_bytes > 0
    assert parts.divided(changed, THREADS).pieces == parts.divided(one, THREADS).pieces == 1


@pytest.mark.parametrize(("given", "is_shared"), [("input", True), ("output0", False)])
def test_what_functions_are_given(given: str, is_shared: bool) -> None:
    kernel = make_kernel(MORE["depthwise-5x5"], DSP)

    def body(buffers: Buffers) -> None:
        with T.serial(0, 6) as row:
            T.buffer_store(buffers["output0"], tirx.const(0, "int32"), [row])
            T.evaluate(T.call_extern("int32", "somewhere", T.address_of(buffers[given][0])))

    changed = replace(kernel, function=emit.function(kernel.symbol, kernel.parameters, body))
    assert (parts.divided(changed, THREADS).pieces > 1) == is_shared


def _copies(buffers: Buffers, first: int, count: int, change: int = 0) -> None:
    with T.serial(0, count) as row:
        value = buffers["operand0"][first + row] + change
        T.buffer_store(buffers["output0"], value, [first + row])


def _one_nest_and_a_rest(buffers: Buffers) -> None:
    with T.serial(0, 12) as row:  # an iteration too many would write the first one anew
        T.buffer_store(buffers["output0"], buffers["operand0"][row], [row % 12])
    T.buffer_store(buffers["output0"], buffers["operand0"][12], [12])


def _two_nests_and_a_rest(buffers: Buffers) -> None:
    _copies(buffers, 0, 5)
    _copies(buffers, 5, 7, change=3)
    T.buffer_store(buffers["output0"], buffers["operand0"][12], [12])


def _a_name_that_a_nest_uses(buffers: Buffers) -> None:
    name = emit.bind(buffers["operand0"][0] * 2)
    with T.serial(0, 6) as row:
        T.buffer_store(buffers["output0"], name + row, [row])
    _copies(buffers, 6, 7)


def _what_lies_on_the_stack(buffers: Buffers) -> None:
    table = emit.local("int32", 6, "table")
    with T.serial(0, 6) as row:
        T.buffer_store(table, buffers["operand0"][row] * 2, [row])
    with T.serial(0, 6) as row:
        T.buffer_store(buffers["output0"], table[5 - row], [row])
    _copies(buffers, 6, 7)


def _no_nest(buffers: Buffers) -> None:
    T.buffer_store(buffers["output0"], buffers["operand0"][0], [0])


def _one_iteration(buffers: Buffers) -> None:
    _copies(buffers, 0, 1)


def _a_call_in_the_other_branch(buffers: Buffers) -> None:
    _copies(buffers, 0, 12)
    with T.If(buffers["operand0"][0] > 0):
        with T.Then():
            T.buffer_store(buffers["output0"], buffers["operand0"][12], [12])
        with T.Else():
            T.evaluate(T.call_extern("int32", "somewhere"))


ROW = Layout.packed(Element.I32, (1, 1, 1, 13))
SHARED = (_one_nest_and_a_rest, _two_nests_and_a_rest, _a_name_that_a_nest_uses, _what_lies_on_the_stack)


def _kernel_of(body: Callable[[Buffers], None]) -> Kernel:
    """A kernel of 13 integers with this body."""
    kernel = make_kernel(KernelSpec(Map(), (ROW,), (), (Output(ROW, Operand(0)),)), targets.load("c"))
    return replace(kernel, function=emit.function(kernel.symbol, kernel.parameters, body))


@pytest.mark.parametrize("body", SHARED, ids=lambda body: body.__name__)
def test_what_stands_beside_nests(body: Callable[[Buffers], None]) -> None:
    facts, rng, kernel = targets.load("c"), np.random.default_rng(9), _kernel_of(body)
    shared = parts.divided(kernel, THREADS)
    assert shared.pieces > 1
    given = np.arange(1, 14, dtype=np.int32)
    expected, library = aligned(np.zeros(13, np.int32)), Library([shared], facts)
    Library([kernel], facts).bind(kernel, aligned(given), expected)()
    assert expected.all()
    for count in (1, 2, 3, 7, 20):
        actual = aligned(np.zeros(13, np.int32))
        for pieces in cut(count, rng):
            library.bind(shared, aligned(given), actual, pieces=(*pieces, ALL))()
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("body", [_no_nest, _one_iteration, _a_call_in_the_other_branch])
def test_where_there_is_nothing_to_share(body: Callable[[Buffers], None]) -> None:
    kernel = _kernel_of(body)
    assert parts.divided(kernel, THREADS) is kernel
