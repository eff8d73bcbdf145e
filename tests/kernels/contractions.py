# SPDX-License-Identifier: Apache-2.0
"""Specs and numbers of contractions for the tests and benchmarks of kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnncc.lowering.geometry import transposed
from bnncc.plan.expression import Accumulator, Channel, Compare, Expression
from bnncc.plan.kernel import (
    BIPOLAR,
    BinaryConv,
    ByteConv,
    Constant,
    Grid,
    KernelSpec,
    Output,
    RealConv,
    SpikeConv,
    Window,
)
from bnncc.plan.layout import Element, Halo, Layout


@dataclass(frozen=True)
class Shape:
    """A contraction without its epilogue. pads: top, left, bottom, right."""

    image: tuple[int, int, int, int]
    outputs: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    groups: int = 1

    @property
    def window(self) -> Window:
        """The window of the plan."""
        return Window(*self.kernel, *self.stride, *self.dilation, *self.pads[:2])

    @property
    def output(self) -> tuple[int, int, int, int]:
        """[n, h, w, c] of the result."""
        n, h, w, _ = self.image
        return n, self._extent(h, 0), self._extent(w, 1), self.outputs

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """[O, KH, KW, C/groups]."""
        return self.outputs, *self.kernel, self.image[3] // self.groups

    @property
    def taps(self) -> int:
        """Terms of one sum."""
        return int(np.prod(self.weight[1:]))

    @property
    def halo(self) -> Halo:
        """What the window reads around the image, at least."""
        _, h, w, _ = self.image
        _, oh, ow, _ = self.output
        bottom = (oh - 1) * self.stride[0] + (self.kernel[0] - 1) * self.dilation[0] - self.pads[0] - (h - 1)
        right = (ow - 1) * self.stride[1] + (self.kernel[1] - 1) * self.dilation[1] - self.pads[1] - (w - 1)
        return Halo(self.pads[0], self.pads[1], max(0, bottom), max(0, right))

    def _extent(self, size: int, axis: int) -> int:
        padded = size + self.pads[axis] + self.pads[axis + 2]
        return (padded - (self.kernel[axis] - 1) * self.dilation[axis] - 1) // self.stride[axis] + 1


def dense(batch: int, inputs: int, outputs: int) -> Shape:
    """A dense layer."""
    return Shape((batch, 1, 1, inputs), outputs, (1, 1), pads=(0, 0, 0, 0))


def pointwise(size: int, inputs: int, outputs: int) -> Shape:
    """A 1x1 convolution of a square image."""
    return Shape((1, size, size, inputs), outputs, (1, 1), pads=(0, 0, 0, 0))


THRESHOLD = Compare("ge", Accumulator(), Channel(1))
"""The bit is value >= constant 1."""


def binary_spec(
    shape: Shape,
    epilogue: tuple[tuple[Element, Expression], ...] = ((Element.BIT, THRESHOLD),),
    constants: tuple[Element, ...] = (Element.I32,),
    operands: tuple[Layout, ...] = (),
    pad_value: int = 0,
    halo_level: int = 1,
    ternary_weight: bool = False,
    ternary_input: bool = False,
    halo: Halo | None = None,
    output_halo: Halo = Halo(),
    grid: Grid = BIPOLAR,
    weight_planes: int = 1,
) -> KernelSpec:
    """A KernelSpec; constants: the elements of the channel vectors after the weight."""
    source = Layout.packed(Element.BIT, shape.image, shape.halo if halo is None else halo)
    root = BinaryConv(
        source,
        shape.window,
        shape.groups,
        pad_value,  # type: ignore[arg-type]
        halo_level,  # type: ignore[arg-type]
        ternary_weight,
        ternary_input,
        source if ternary_input else None,
        grid,
        (source,) * (grid.planes - 1),
        weight_planes,
    )
    weight = Constant(Element.I8, shape.weight)
    return _spec(shape, root, weight, epilogue, constants, operands, output_halo)


def real_spec(
    shape: Shape,
    epilogue: tuple[tuple[Element, Expression], ...] = ((Element.F32, Accumulator()),),
    constants: tuple[Element, ...] = (),
    operands: tuple[Layout, ...] = (),
    channels_first: bool = False,
    output_halo: Halo = Halo(),
) -> KernelSpec:
    """A KernelSpec; channels_first: the input is a transposed view of [n, c, h, w] (without padding)."""
    source = Layout.packed(Element.F32, shape.image, shape.halo)
    if channels_first:
        n, h, w, c = shape.image
        source = transposed(Layout.packed(Element.F32, (n, c, h, w)), 4, (0, 2, 3, 1))
    root = RealConv(source, shape.window, shape.groups)
    return _spec(shape, root, Constant(Element.F32, shape.weight), epilogue, constants, operands, output_halo)


def byte_spec(
    shape: Shape,
    epilogue: tuple[tuple[Element, Expression], ...] = ((Element.I32, Accumulator()),),
    constants: tuple[Element, ...] = (),
    operands: tuple[Layout, ...] = (),
    lowest: int = 0,
    weight_planes: int = 1,
    channels_first: bool = False,
    output_halo: Halo = Halo(),
) -> KernelSpec:
    """A KernelSpec of a contraction of bytes; channels_first as in `real_spec`."""
    source = Layout.packed(Element.U8, shape.image, shape.halo)
    if channels_first:
        n, h, w, c = shape.image
        source = transposed(Layout.packed(Element.U8, (n, c, h, w)), 4, (0, 2, 3, 1))
    root = ByteConv(source, shape.window, lowest, weight_planes, shape.groups)
    return _spec(shape, root, Constant(Element.I8, shape.weight), epilogue, constants, operands, output_halo)


def spike_spec(
    shape: Shape,
    epilogue: tuple[tuple[Element, Expression], ...] = ((Element.F32, Accumulator()),),
    constants: tuple[Element, ...] = (),
    operands: tuple[Layout, ...] = (),
    planes: int = 1,
    weight: Element = Element.F32,
    output_halo: Halo = Halo(),
) -> KernelSpec:
    """A KernelSpec of a contraction of spikes, or of counts of several planes."""
    source = Layout.packed(Element.BIT, shape.image, shape.halo)
    assert weight in (Element.F32, Element.I8)
    root = SpikeConv(source, shape.window, (source,) * (planes - 1), weight, shape.groups)
    return _spec(shape, root, Constant(weight, shape.weight), epilogue, constants, operands, output_halo)


def _spec(shape, root, weight, epilogue, constants, operands, output_halo) -> KernelSpec:
    vectors = tuple(Constant(element, (shape.outputs,)) for element in constants)
    outputs = tuple(
        Output(Layout.packed(element, shape.output, output_halo), expression)
        for element, expression in epilogue
    )
    return KernelSpec(root, operands, (weight, *vectors), outputs)
