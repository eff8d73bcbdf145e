# SPDX-License-Identifier: Apache-2.0
"""Every kind of expression node, the accuracy of the functions, shared subexpressions."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.build import make_kernel
from bnncc.plan import simulate
from bnncc.plan.expression import (
    Accumulator,
    Binary,
    BinaryKind,
    Channel,
    Compare,
    CompareKind,
    Expression,
    Operand,
    Scalar,
    Select,
    Unary,
    UnaryKind,
)
from bnncc.plan.graph import Graph
from bnncc.plan.kernel import Constant, KernelSpec, Map, Output
from bnncc.plan.layout import Element, Layout
from bnncc.targets import Target
from tests.kernels import library
from tests.kernels.library import before_forbidden_memory
from tests.kernels.support import TARGETS, Case, Library, check, compare, random_case

X, Y = Operand(0), Operand(1)

EXTREMES = [0.0, -0.0, 1e-40, -1e-40, 1e-30, 0.5, 1.5, 2.5, -0.5, -1.5, 3e38, -3e38, np.inf, -np.inf]


def numbers(kind: str) -> np.ndarray:
    """Arguments of a function: a sweep, its neighbourhood of 0, the extremes."""
    sweep = np.linspace(-20, 20, 4001)
    wide = np.linspace(-110, 95, 4001)
    small = np.concatenate([sign * np.logspace(-30, 0, 500) for sign in (1, -1)])
    everything = np.concatenate([sweep, wide, small, EXTREMES, [np.nan] * 3]).astype(np.float32)
    if kind in ("sqrt", "log"):
        return np.abs(everything)
    return everything


def flat(count: int, element: Element = Element.F32) -> Layout:
    """A vector as a tensor."""
    return Layout.packed(element, (1, 1, 1, count))


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest error in units of the last place; infinite where one is NaN or infinite and the other
    not."""
    special = ~np.isfinite(wanted)
    if not np.array_equal(found[special], wanted[special].astype(np.float32), equal_nan=True):
        return math.inf
    found, wanted = found[~special].astype(np.float64), wanted[~special]
    unit = np.spacing(np.maximum(np.abs(wanted), np.finfo(np.float32).tiny).astype(np.float32))
    return float(np.max(np.abs(found - wanted) / unit, initial=0))


@pytest.mark.parametrize("target", TARGETS)
def test_functions_are_accurate(target: Target):
    """To 3 units in the last place, NaN to NaN, in vectors and in the scalars at their end."""
    kinds = get_args(UnaryKind)
    arguments = [numbers(kind) for kind in kinds]
    specs = [
        KernelSpec(Map(), (flat(x.size),), (), (Output(flat(x.size), Unary(kind, X)),))
        for kind, x in zip(kinds, arguments, strict=True)
    ]
    kernels = [make_kernel(spec, target) for spec in specs]
    library = Library(kernels, target)
    for kind, kernel, spec, x in zip(kinds, kernels, specs, arguments, strict=True):
        (found,) = library.run(kernel, Case(spec, (x,)))
        with np.errstate(all="ignore"):
            wanted = np.asarray(simulate.unary(kind, x), np.float64)
        assert distance(found, wanted) <= 3, kind


@pytest.mark.parametrize("target", TARGETS)
def test_binary_and_compare(target: Target):
    cases = []
    layout, bits = flat(37), flat(37, Element.BIT)
    for kind in get_args(BinaryKind):
        base = Unary("abs", X) if kind == "pow" else X
        outputs = (
            Output(layout, Binary(kind, base, Y)),
            Output(layout, Binary(kind, base, Scalar(1.7))),
            Output(layout, Binary(kind, Scalar(1.7), Y)),
        )
        cases.append(random_case(KernelSpec(Map(), (layout, layout), (), outputs)))
    for kind in get_args(CompareKind):
        outputs = (Output(bits, Compare(kind, X, Y)), Output(bits, Compare(kind, Scalar(0.0), Y)))
        cases.append(random_case(KernelSpec(Map(), (layout, layout), (), outputs)))
    check(cases, target)


@pytest.mark.parametrize("target", TARGETS)
def test_nan_survives_clipping(target: Target):
    layout = flat(19)
    clipped = Binary("min", Binary("max", X, Scalar(-1.0)), Scalar(1.0))
    spec = KernelSpec(Map(), (layout,), (), (Output(layout, clipped), Output(layout, Unary("relu", X))))
    x = np.linspace(-2, 2, 19, dtype=np.float32)
    x[[3, 18]] = np.nan
    check([Case(spec, (x,))], target)


@pytest.mark.parametrize("target", TARGETS)
def test_scalars_are_exact(target: Target):
    """Numbers that seven digits do not tell apart reach the code as they are."""
    layout = flat(5)
    x = np.zeros(5, np.float32)
    for value in (0.1, 16777215.0, 1.0000001, 3.4028235e38, 1e-45, -0.33333334, math.inf, -math.inf):
        spec = KernelSpec(Map(), (layout,), (), (Output(layout, Binary("add", X, Scalar(value))),))
        kernel = make_kernel(spec, target)
        (found,) = Library([kernel], target).run(kernel, Case(spec, (x,)))
        assert (found == np.float32(value)).all()


@pytest.mark.parametrize("target", TARGETS)
def test_select_of_booleans(target: Target):
    layout, bits = flat(21), flat(21, Element.BIT)
    chosen = Select(Compare("gt", X, Scalar(0.0)), Compare("ge", Y, X), Compare("lt", Y, Scalar(0.5)))
    spec = KernelSpec(Map(), (layout, layout), (), (Output(bits, chosen),))
    check([random_case(spec)], target)


def test_shared_subexpressions_are_one_node():
    twice = Unary("exp", X)
    graph = Graph.of([Binary("add", twice, Unary("exp", Operand(0))), twice])
    assert [type(node.expression).__name__ for node in graph.nodes] == ["Operand", "Unary", "Binary"]
    assert [node.uses for node in graph.nodes] == [1, 3, 1]
    assert graph.roots == (2, 1)


def test_sharing_costs_nothing():
    """Sixty levels that each use the one below twice: 2^60 paths, 61 nodes."""
    value: Expression = Accumulator()
    for _ in range(60):
        value = Binary("add", value, value)
    assert len(Graph.of([value]).nodes) == 61


def test_zeros_of_either_sign_differ():
    graph = Graph.of([Binary("div", Scalar(0.0), Scalar(-0.0))])
    assert len(graph.nodes) == 3


@pytest.mark.parametrize("target", TARGETS)
def test_constants_longer_than_the_channels(target: Target):
    """Stored constants are padded; what lies beyond is not stored in the outputs."""
    layout, bits = flat(41), flat(41, Element.BIT)
    constants = (np.linspace(-1, 1, 41, dtype=np.float32),)
    spec = KernelSpec(
        Map(),
        (),
        (Constant(Element.F32, (41,)),),
        (Output(layout, Channel(0)), Output(bits, Compare("le", Channel(0), Scalar(0.25)))),
    )
    kernel = make_kernel(spec, target)
    case = Case(spec, (), constants)
    compare(case, Library([kernel], target).run(kernel, case), 0, kernel.symbol)


@pytest.mark.parametrize("count", [3, 43, 77])
def test_nothing_is_read_behind_an_operand(count: int):
    """A last vector may reach beyond the channels only where memory does: constants do, operands do not."""
    target = targets.load("native")
    constants = (Constant(Element.F32, (count,)),)
    spec = KernelSpec(Map(), (flat(count),), constants, (Output(flat(count), Binary("add", X, Channel(0))),))
    kernel = make_kernel(spec, target)
    x, added = (np.random.default_rng(seed).standard_normal(count).astype(np.float32) for seed in (1, 2))
    found = np.zeros(count, np.float32)
    stored = map(before_forbidden_memory, kernel.pack((added,)))
    library.Library([kernel], target).bind(kernel, before_forbidden_memory(x), *stored, found)()
    np.testing.assert_array_equal(found, x + added)
