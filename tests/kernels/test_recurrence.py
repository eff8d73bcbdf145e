# SPDX-License-Identifier: Apache-2.0
"""States that images hand on: neurons behind every root, step by step as in NumPy."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from bnncc import targets
from bnncc.kernels.build import make_kernel
from bnncc.kernels.kernel import Kernel
from bnncc.plan.expression import Accumulator, Binary, Channel, Compare, Expression, FromBit, Operand, Scalar
from bnncc.plan.kernel import Constant, KernelSpec, Map, Output
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.plan.simulate import allocate, load, random_buffer, run_step, store
from tests.kernels.contractions import Shape, dense, real_spec, spike_spec
from tests.kernels.library import Library, aligned

TARGETS = ("native", "x86-64-v3", "x86-64-v2", "c")
STEPS = 5


def neuron(current: Expression, state: Expression) -> tuple[Expression, Expression]:
    """A leaky neuron that subtracts its threshold one step late: the new membrane, the spike."""
    leaked = Binary("add", Binary("mul", Scalar(0.5), state), current)
    membrane = Binary("sub", leaked, FromBit(Compare("gt", state, Scalar(1.0)), 0.0, 1.0))
    return membrane, Compare("gt", membrane, Scalar(1.0))


def with_neuron(spec: KernelSpec, current: Expression, halo: Halo = Halo()) -> KernelSpec:
    """The spec with neurons as its epilogue: a state of one image for all of them."""
    one = Layout.packed(Element.F32, (1, *spec.shape[1:]))
    state = replace(one, shape=spec.shape, strides=(0, *one.strides[1:]))
    number = len(spec.operands)
    membrane, spike = neuron(current, Operand(number))
    outputs = (Output(state, membrane), Output(Layout.packed(Element.BIT, spec.shape, halo), spike))
    return replace(spec, operands=(*spec.operands, state), outputs=outputs, in_place=((number, 0),))


def scan(shape: tuple[int, int, int, int]) -> KernelSpec:
    """Neurons by themselves, on currents in memory."""
    layout = Layout.packed(Element.F32, shape)
    return with_neuron(
        KernelSpec(Map(), (layout,), (Constant(Element.F32, shape[3:]),), (Output(layout, Operand(0)),)),
        Binary("add", Operand(0), Channel(0)),
    )


def _cases() -> dict[str, KernelSpec]:
    image = Shape((STEPS, 6, 7, 16), 32, pads=(0, 0, 0, 0))
    return {
        "scan": scan((STEPS, 3, 4, 40)),
        "scan-vector": scan((STEPS, 1, 1, 10)),
        "scan-few": scan((STEPS, 5, 4, 3)),
        "slide": with_neuron(spike_spec(image, planes=3), Accumulator(), Halo(1, 1, 1, 1)),
        "gather": with_neuron(spike_spec(Shape((STEPS, 6, 7, 16), 20, stride=(2, 2))), Accumulator()),
        "dense": with_neuron(spike_spec(dense(STEPS, 70, 50)), Accumulator()),
        "real": with_neuron(real_spec(Shape((STEPS, 6, 7, 3), 20)), Accumulator()),
        "real-dense": with_neuron(real_spec(dense(STEPS, 30, 100)), Accumulator()),
        "depthwise": with_neuron(real_spec(Shape((STEPS, 6, 7, 32), 32, groups=32)), Accumulator()),
    }


CASES = _cases()


@cache
def _library(target: str) -> tuple[dict[str, Kernel], Library]:
    facts = targets.load(target)
    if not facts.runs_here():
        pytest.skip(f"this machine is no {target}")
    kernels = {name: make_kernel(spec, facts) for name, spec in CASES.items()}
    return kernels, Library(list(kernels.values()), facts)


def numbers(spec: KernelSpec, seed: int) -> tuple[list[np.ndarray], tuple[np.ndarray, ...]]:
    """Few binary digits, so that sums are exact in any order; states that are not zero."""
    rng = np.random.default_rng(seed)

    def real(shape: tuple[int, ...]) -> np.ndarray:
        return (rng.integers(-12, 13, shape) / 16).astype(np.float32)

    reads = []
    for layout in (*spec.inputs, *spec.operands):
        buffer = random_buffer(layout, rng, 0) if layout.element is Element.BIT else allocate(layout)
        if layout.element is Element.F32:
            first = replace(layout, shape=(1, *layout.shape[1:])) if layout.strides[0] == 0 else layout
            store(first, buffer, real(first.shape))
        reads.append(buffer)
    return reads, tuple(real(constant.shape) for constant in spec.constants)


def run(spec: KernelSpec, kernel: Kernel, library: Library, reads, constants) -> list[np.ndarray]:
    """State after the last step, spikes."""
    copies = [aligned(array) for array in reads]
    state = copies[-1]
    written = [state, aligned(allocate(spec.outputs[1].layout, 0xAB))]
    scratch = [aligned(np.zeros(kernel.scratch_bytes, np.uint8))] if kernel.scratch_bytes else []
    packed = [aligned(array) for array in kernel.pack(constants)]
    library.bind(kernel, *copies, *packed, *written, *scratch)()
    return written


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", TARGETS)
def test_steps_follow_one_another(target: str, name: str) -> None:
    spec, (kernels, library) = CASES[name], _library(target)
    reads, constants = numbers(spec, 4)
    state, spikes = run(spec, kernels[name], library, reads, constants)
    expected = [array.copy() for array in reads]
    wanted = [expected[-1], allocate(spec.outputs[1].layout, 0xAB)]
    run_step(spec, expected, constants, wanted)
    np.testing.assert_array_equal(state, wanted[0])
    np.testing.assert_array_equal(spikes, wanted[1])
    fired = load(spec.outputs[1].layout, spikes)
    assert 0.02 < fired.mean() < 0.98 and not (fired == fired[:1]).all()


def test_what_simulation_means() -> None:
    """One membrane by hand: 0.5 v + i - [v > 1]."""
    spec = scan((3, 1, 1, 1))
    currents, state = np.array([1.5, 0.25, 1.0], np.float32), np.zeros(1, np.float32)
    spikes = np.zeros(3, np.uint32)
    run_step(spec, [currents, state], [np.zeros(1, np.float32)], [state, spikes])
    assert spikes.tolist() == [1, 0, 0]
    assert state.tolist() == [0.5 * (0.5 * 1.5 + 0.25 - 1.0) + 1.0]
