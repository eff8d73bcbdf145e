# SPDX-License-Identifier: Apache-2.0
"""Layers for templates that take windows row by row: shapes, borders, channels that they might get wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bnncc.plan.expression import Accumulator, Binary, Channel, Compare, Scalar, ToFloat
from bnncc.plan.kernel import BinaryConv, KernelSpec
from bnncc.plan.layout import Element, Halo, Layout
from bnncc.plan.simulate import allocate, random_buffer, run_step
from tests.kernels.contractions import Shape, binary_spec
from tests.kernels.library import Library
from tests.kernels.test_binary_conv import CASES as PLAIN
from tests.kernels.test_binary_conv import INTEGERS, case_numbers, filled

BOTH = (
    (Element.F32, Binary("mul", ToFloat(Accumulator()), Channel(1))),
    (Element.BIT, Compare("ge", Accumulator(), Scalar(-0.5))),
)


def _slice_of_channels(shape: Shape, first: int, whole: int) -> KernelSpec:
    """A layer that reads some of the channels of a larger tensor."""
    spec = binary_spec(shape, INTEGERS)
    around = Layout.packed(Element.BIT, (*shape.image[:3], whole), shape.halo)
    source = replace(around, shape=shape.image, offset=around.offset + first // 32)
    assert isinstance(spec.root, BinaryConv)
    return replace(spec, root=replace(spec.root, input=source))


OWN: dict[str, KernelSpec] = {
    "odd-width": binary_spec(Shape((1, 5, 7, 96), 32)),
    "odd-width-i32": binary_spec(Shape((2, 3, 11, 64), 64), INTEGERS),
    "width-one": binary_spec(Shape((1, 4, 1, 64), 32), INTEGERS),
    "width-two": binary_spec(Shape((3, 2, 2, 64), 96), INTEGERS),
    "wide": binary_spec(Shape((1, 2, 29, 64), 32), pad_value=1, halo_level=0),
    "no-padding": binary_spec(Shape((1, 5, 9, 64), 64, pads=(0, 0, 0, 0)), INTEGERS),
    "padded-on-the-left-only": binary_spec(Shape((1, 5, 9, 64), 64, pads=(0, 2, 0, 0)), INTEGERS),
    "padded-by-two": binary_spec(Shape((1, 4, 6, 64), 64, pads=(2, 2, 2, 2))),
    "one-row": binary_spec(Shape((1, 1, 40, 64), 32, (1, 3), pads=(0, 1, 0, 1)), INTEGERS),
    "five-rows": binary_spec(Shape((1, 7, 9, 32), 32, (5, 3), (2, 1), (2, 1), (4, 1, 4, 1)), INTEGERS),
    "rows-at-stride-two": binary_spec(Shape((1, 8, 9, 64), 64, stride=(2, 1)), INTEGERS),
    "strided-even": binary_spec(Shape((1, 8, 12, 64), 64, stride=(2, 2))),
    "strided-odd": binary_spec(Shape((2, 7, 9, 64), 64, stride=(2, 2)), INTEGERS),
    "strided-by-three": binary_spec(Shape((1, 9, 13, 64), 32, stride=(3, 3), pads=(0, 1, 0, 0)), INTEGERS),
    "one-channel": binary_spec(Shape((1, 5, 6, 1), 32), INTEGERS),
    "ragged-channels": binary_spec(Shape((1, 5, 6, 43), 64)),
    "ragged-channels-i32": binary_spec(Shape((1, 5, 6, 129), 64), INTEGERS, halo_level=0),
    "ragged-outputs": binary_spec(Shape((1, 5, 6, 64), 37)),
    "ragged-outputs-i32": binary_spec(Shape((1, 5, 6, 64), 83), INTEGERS),
    "two-outputs": binary_spec(Shape((1, 5, 6, 64), 96), BOTH, (Element.F32,)),
    "two-outputs-ragged": binary_spec(Shape((1, 5, 6, 40), 44), BOTH, (Element.F32,)),
    "groups-of-words": binary_spec(Shape((1, 5, 9, 128), 64, groups=2)),
    "groups-of-words-i32": binary_spec(Shape((2, 5, 9, 128), 128, groups=4), INTEGERS),
    "output-halo": binary_spec(Shape((1, 5, 9, 64), 64), output_halo=Halo(1, 2, 3, 1)),
    "slice-of-channels": _slice_of_channels(Shape((1, 5, 9, 64), 32), 32, 160),
    "many-channels": binary_spec(Shape((1, 2, 3, 576), 32), INTEGERS),
}

CASES: dict[str, KernelSpec] = {**PLAIN, **OWN}
"""Those of the plain templates, too; a template takes what it supports."""


def check(kernel, library: Library, reads: list[np.ndarray], constants: tuple[np.ndarray, ...]) -> None:
    """A kernel against the simulation, bit for bit; floats that are sums in another order, nearly."""
    expected, actual = ([allocate(output.layout, 0xAB) for output in kernel.spec.outputs] for _ in range(2))
    run_step(kernel.spec, reads, constants, expected)
    library.run(kernel, reads, constants, actual)
    for want, have in zip(expected, actual, strict=True):
        if want.dtype == np.float32:
            np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(have, want)


def equal_signs(spec: KernelSpec, input_sign: int, weight_sign: int):
    """Buffers and constants, all activations equal and all weights: the largest and the smallest sums."""
    reads, constants = case_numbers(spec, seed=4)
    root, rng = spec.root, np.random.default_rng(0)
    assert isinstance(root, BinaryConv)
    reads[0] = random_buffer(root.input, rng, root.halo_level)
    filled(root.input, reads[0], input_sign > 0)
    return reads, (np.full_like(constants[0], weight_sign), *constants[1:])
