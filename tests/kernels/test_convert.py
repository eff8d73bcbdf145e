# SPDX-License-Identifier: Apache-2.0
"""Copies between element types, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.kernels.opaque import convert
from bnncc.plan.expression import Accumulator
from bnncc.plan.kernel import Convert, KernelSpec, Output
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.plan.simulate import allocate, load, store
from tests.kernels.library import before_forbidden_memory, compiled

NUMBERS = (Element.F32, Element.F64, Element.I8, Element.U8, Element.I16, Element.I32, Element.I64)
PAIRS = [
    *((source, target) for source, target in zip(NUMBERS, NUMBERS[3:] + NUMBERS[:3], strict=True)),
    *((Element.BIT, target) for target in (Element.BIT, Element.BOOL, Element.F32, Element.U8)),
    *((source, Element.BIT) for source in (Element.BOOL, Element.F32, Element.I8)),
    (Element.BOOL, Element.I64),
    (Element.F64, Element.BOOL),
]
"""What is converted to what."""


def spec_of(source: Element, target: Element, channels: int) -> KernelSpec:
    """Two images of 2 x 3 pixels; the input ends with its last pixel."""
    shape = (2, 2, 3, channels)
    output = Layout.packed(target, shape, Halo(0, 1, 1, 0))
    return KernelSpec(
        Convert(Layout.packed(source, shape, Halo(1, 1))), (), (), (Output(output, Accumulator()),)
    )


CASES = {
    f"{source}-{target}-{channels}": spec_of(source, target, channels)
    for source, target in PAIRS
    for channels in ((1, 32, 70) if Element.BIT in (source, target) else (5,))
}


@pytest.mark.parametrize("target", ["native", "c"])
def test_equals_numpy(target: str):
    """Numbers that both types hold, zeros among them; nothing behind the input is read."""
    kernels, library = compiled(CASES, target, convert.make)
    rng = np.random.default_rng(3)
    for name, spec in CASES.items():
        source, output = spec.inputs[0], spec.outputs[0].layout
        is_truth = {source.element, output.element} & {Element.BIT, Element.BOOL}
        x = rng.integers(0, 2 if is_truth else 100, source.shape)
        if source.element is Element.F32 and is_truth:
            x = x * 0.25
        read, expected, actual = allocate(source, 0x77), allocate(output, 0xAB), allocate(output, 0xAB)
        store(source, read, x != 0 if source.element is Element.BIT else x)
        stored = load(source, read)
        store(output, expected, stored != 0 if output.element in (Element.BIT, Element.BOOL) else stored)
        library.run(kernels[name], [], (), [before_forbidden_memory(read), actual])
        np.testing.assert_array_equal(actual, expected, name)
