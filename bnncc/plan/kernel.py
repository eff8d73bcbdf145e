# SPDX-License-Identifier: Apache-2.0
"""What a kernel computes, without saying how: the subject of a template and of a tuning record.

A KernelSpec holds no trained numbers, so layers of equal shape share one function; a Step binds a
KernelSpec to buffers and constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from bnncc.plan import density
from bnncc.plan.expression import Expression
from bnncc.plan.graph import Graph
from bnncc.plan.layout import Element, Layout
from bnncc.plan.tiling import Contraction, Packing


@dataclass(frozen=True)
class Window:
    """A sliding window: output pixel (y, x) reads input pixels
    (y*stride_y + ky*dilation_y - top, x*stride_x + kx*dilation_x - left) for ky < height, kx < width."""

    height: int
    width: int
    stride_y: int = 1
    stride_x: int = 1
    dilation_y: int = 1
    dilation_x: int = 1
    top: int = 0
    left: int = 0

    def valid_rows(self, y: int, rows: int) -> tuple[bool, ...]:
        """Which ky of output row y lie inside an input of `rows` rows."""
        first = y * self.stride_y - self.top
        return tuple(0 <= first + k * self.dilation_y < rows for k in range(self.height))

    def valid_columns(self, x: int, columns: int) -> tuple[bool, ...]:
        """Which kx of output column x lie inside an input of `columns` columns."""
        first = x * self.stride_x - self.left
        return tuple(0 <= first + k * self.dilation_x < columns for k in range(self.width))


@dataclass(frozen=True)
class Grid:
    """Which integers packed bits stand for: x = step * q + lowest, and bit b of q lies in plane b."""

    planes: int
    step: int
    lowest: int

    def value(self, level: int) -> int:
        """The integer of a level q."""
        return self.step * level + self.lowest


BIPOLAR = Grid(1, 2, -1)
"""One bit, 1 for +1 and 0 for -1."""


@dataclass(frozen=True)
class BinaryConv:
    """y[n,h,w,o] = sum_{ky,kx,c} x[n, h*sy+ky*dy-top, w*sx+kx*dx-left, g*C/G+c] * weight[o,ky,kx,c], int32.

    x is packed bits that stand for the integers of `grid`: the plane `input`, then those in `more`. Their
    halo covers the window and holds level `halo_level`; g = o // (O / groups). Constant 0 is the weight, int8
    [O, KH, KW, C/groups] of odd numbers below 2^weight_planes in magnitude ({-1,+1} for one plane), or of any
    such numbers ({-1,0,+1}) where `ternary_weight`.
    What lies outside the image counts as `pad_value`, whatever the halo holds.
    Where `ternary_input`, input 1 is the mask plane (1 where x is not 0), the halos of both planes hold
    `pad_value`, and the sum is over the taps whose mask bit is 1.
    """

    input: Layout
    window: Window
    groups: int
    pad_value: int
    halo_level: int
    ternary_weight: bool = False
    ternary_input: bool = False
    mask: Layout | None = None
    grid: Grid = BIPOLAR
    more: tuple[Layout, ...] = ()
    weight_planes: int = 1


@dataclass(frozen=True)
class ByteConv:
    """The same sum over levels of 8 bits: x = q + lowest for the bytes q of `input`, whose halo holds the
    byte that stands for 0. Constant 0 is the weight, int8 [O, KH, KW, C/groups], below 2^weight_planes in
    magnitude (8: any)."""

    input: Layout
    window: Window
    lowest: int = 0
    weight_planes: int = 1
    groups: int = 1


@dataclass(frozen=True)
class RealConv:
    """The same sum in float32: x float32 with zeros in its halo, constant 0 the weight, float32
    [O, KH, KW, C/groups]. The order of summation is the kernel's."""

    input: Layout
    window: Window
    groups: int


@dataclass(frozen=True)
class SpikeConv:
    """The same sum over events: x is spikes or small counts, sum_b 2^b plane_b >= 0 of the packed planes
    `input`, then `more`, zeros in their halos; the kernel adds the weights of those bits that are set. Or x
    is float32 numbers that are all 0 or 1.

    Constant 0 is the weight [O, KH, KW, C/groups] of element `weight`: float32, then the sum is float32 in an
    order of the kernel's, or int8, then it is an exact int32. density: bits of an input that are expected to
    be set, of which kernels may make what they want."""

    input: Layout
    window: Window
    more: tuple[Layout, ...] = ()
    weight: Literal[Element.F32, Element.I8] = Element.F32
    groups: int = 1
    density: float = density.DEFAULT

    @property
    def planes(self) -> tuple[Layout, ...]:
        """All planes, the lowest bit first."""
        return (self.input, *self.more)


@dataclass(frozen=True)
class Pool:
    """Maximum or mean over a window that skips what lies outside the image, or how many bits are set in it.

    input: f32, i32, bytes (their maximum is an int32, their mean that of q + lowest, summed in integers), or
    packed bits (kinds "max", an OR, and "count", an int32).
    A mean divides by the number of taps inside the image, or by height*width where `count_outside`. Windows
    of a count lie inside the image, and its outputs are planes BitOf(Accumulator) of it."""

    kind: Literal["max", "mean", "count"]
    input: Layout
    window: Window
    count_outside: bool = False
    lowest: int = 0


@dataclass(frozen=True)
class ChannelMean:
    """y[n,h,w,0] = mean over c of x[n,h,w,c], float32; Accumulator is that mean."""

    input: Layout


@dataclass(frozen=True)
class Map:
    """No root: the outputs are functions of the operands at each position."""


@dataclass(frozen=True)
class Softmax:
    """y[n,h,w,c] = exp(x[..,c] - max_c x) / sum_c exp(x - max), float32."""

    input: Layout


@dataclass(frozen=True)
class FillHalo:
    """Set the halo of `target` to `value` (all bits of the channels, or a number); reads nothing."""

    target: Layout
    value: int


@dataclass(frozen=True)
class Convert:
    """Accumulator is the element of `input` at this position, converted to the output's element: between any
    two types, packed bits as 0 and 1. Loops over single elements."""

    input: Layout


@dataclass(frozen=True)
class Argument:
    """One input of an opaque node: its position, and what it is. The numbers of shapes, axes and the like are
    part of the kernel: `values` holds them, row-major little-endian."""

    slot: int
    element: Element
    shape: tuple[int, ...]
    values: bytes | None = None


@dataclass(frozen=True)
class Opaque:
    """An ONNX node that has no kernel of our own, as its importer of last resort takes it.

    node: a serialised NodeProto with inputs x0, x1... by slot and outputs y0, y1... arguments: what is fed to
    the slots; `fed` of them, in order, are the kernel's inputs, those in `weights` its constants, the rest is
    known. results: element and shape of each output. All tensors are row-major; the spec's layouts tell
    their sizes only, as [1, 1, 1, elements]."""

    operator: str
    node: bytes
    opset: int
    arguments: tuple[Argument, ...]
    fed: tuple[int, ...]
    weights: tuple[int, ...]
    results: tuple[tuple[Element, tuple[int, ...]], ...]

    def argument(self, slot: int) -> Argument:
        """The argument of a slot."""
        return next(argument for argument in self.arguments if argument.slot == slot)


@dataclass(frozen=True)
class Upstream:
    """An operation as a function of upstream MLIR: `text` is a module of one function @kernel whose arguments
    are the inputs, then the constants of the spec, and whose results are the outputs, all of them row-major.

    operation: a word for what it is, for names. parts: what in it
    schedules are made for."""

    operation: str
    text: str
    inputs: tuple[Layout, ...]
    parts: tuple[Contraction | Packing, ...] = ()


Root = (
    BinaryConv
    | ByteConv
    | RealConv
    | SpikeConv
    | Pool
    | ChannelMean
    | Map
    | Softmax
    | FillHalo
    | Convert
    | Opaque
    | Upstream
)


@dataclass(frozen=True)
class Constant:
    """A constant parameter: channel vectors f32 or i32 [c], tables f32 [rows, levels] that expressions look
    up, or the weight of the root."""

    element: Element
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Output:
    """Where one result of the epilogue goes. Packed bits store a boolean expression; f32 and i32 a number, u8
    and i8 one that they hold. A stored channel stride other than 1 is allowed for numbers."""

    layout: Layout
    expression: Expression

    @cached_property
    def key(self) -> tuple:
        """Plain data that is equal where outputs are. The tree itself would be walked once for every path to
        a subexpression that is used more than once: their number doubles with every x + x."""
        return (self.layout, Graph.of([self.expression]).key())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Output) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True)
class KernelSpec:
    """One fused operation.

    C parameters in order: the root's inputs, the operands, the constants (in the stored form that the
    template chose), the outputs, and scratch memory where the kernel asks for some. All outputs (but those
    of an Opaque) have the same shape [n, h, w, c]; operands may have extent 1 where they are broadcast.
    """

    root: Root
    operands: tuple[Layout, ...]
    constants: tuple[Constant, ...]
    outputs: tuple[Output, ...]
    in_place: tuple[tuple[int, int], ...] = ()
    """(operand, output) pairs that share one buffer and one layout: each position is read before it is
    written. A kernel reaches such memory through the operand's pointer only, so that its compiler may take
    all pointers that it uses for distinct.

    A pair whose layout has stride 0 along n is a state: image n reads what image n - 1 wrote, the first one
    what the buffer held. Kernels visit the images of a position in order."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[n, h, w, c] of the iteration space."""
        if isinstance(self.root, FillHalo):
            return self.root.target.shape
        return self.outputs[0].layout.shape

    @property
    def is_recurrent(self) -> bool:
        """Whether images are steps of time that hand a state on."""
        states = (self.outputs[output].layout for _, output in self.in_place)
        return any(layout.shape[0] > 1 and layout.strides[0] == 0 for layout in states)

    @property
    def writes_bits(self) -> bool:
        """Whether an output is packed bits."""
        return any(output.layout.element is Element.BIT for output in self.outputs)

    @property
    def inputs(self) -> tuple[Layout, ...]:
        """What the root reads, before the operands."""
        match self.root:
            case BinaryConv(mask=Layout() as mask, ternary_input=True):
                return (self.root.input, mask)
            case BinaryConv(more=more) | SpikeConv(more=more) as root:
                return (root.input, *more)
            case Map() | FillHalo():
                return ()
            case Opaque() as root:
                return tuple(flat_layout(a.element, a.shape) for a in map(root.argument, root.fed))
            case Upstream() as root:
                return root.inputs
            case root:
                return (root.input,)


def flat_layout(element: Element, shape: tuple[int, ...]) -> Layout:
    """A row-major tensor of any rank as [1, 1, 1, elements]."""
    return Layout.packed(element, (1, 1, 1, math.prod(shape)))
