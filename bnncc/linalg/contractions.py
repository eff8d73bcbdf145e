# SPDX-License-Identifier: Apache-2.0
"""Convolutions and dense layers: popcounts of packed bits, or floating-point sums.

Activations x = step q + lowest with bits q_b of the level q in planes, weights w = sum_c 2^c t_c with t_c in
{-1, 0, +1}, sign bits s_c (1 for +1) and mask bits n_c (1 where t_c is not 0). As the sum of q_b t_c over a
window is P_c - popcount((q_b ^ s_c) & n_c), with P_c the number of +1 among t_c,

    y = lowest W + step sum_c 2^c (P_c (2^planes - 1) - sum_b 2^b popcount((q_b ^ s_c) & n_c))

where W is the sum of the weights. Outside the image all bits are 0, which counts as `lowest`: where the
padding is another value, (padding - lowest) times the weights outside is added, from a table over the cases
of `borders`: the counts start with minus that over `step` where it is a whole number. A ternary x with sign
bits q and mask bits m is popcount(m & n_c) - 2 popcount((q ^ s_c) & m & n_c) for every c; its padding is bits
as any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects import math as maths
from xdsl.dialects.builtin import f32, i32
from xdsl.ir import Attribute, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import unpack
from bnncc.dialect.types import Bipolar, Level, Spike, Ternary, element_of, shape_of
from bnncc.linalg import builders as b
from bnncc.linalg.bits import Plane, Planes
from bnncc.plan.bits import pack_words
from bnncc.plan.borders import Borders
from bnncc.plan.kernel import Window
from bnncc.plan.layout import WORD_BITS

FORMS = ("direct", "im2col")
"""How a convolution is written: as one contraction over a moving window, or as a matrix product of the
windows, which are gathered first."""


@dataclass(frozen=True)
class Geometry:
    """A convolution: x [n, h, w, C], weights [O, kh, kw, C/G]."""

    window: Window
    pads: tuple[int, int, int, int]
    groups: int
    channels: int
    result: tuple[int, int, int, int]

    @staticmethod
    def of(op: ops.Conv2d) -> Geometry:
        """Of the operation."""
        height, width = shape_of(op.weight)[1:3]
        top, left, bottom, right = unpack(op.pads)
        (sy, sx), (dy, dx) = unpack(op.strides), unpack(op.dilations)
        window = Window(height, width, sy, sx, dy, dx, top, left)
        shape = shape_of(op.result)
        assert len(shape) == 4
        channels = shape_of(op.input)[3]
        return Geometry(window, (top, left, bottom, right), op.groups.value.data, channels, shape)

    @property
    def rows(self) -> str:
        """The input row of output row y and kernel row r."""
        return f"{self.window.stride_y}*y+{self.window.dilation_y}*r"

    @property
    def columns(self) -> str:
        """The input column of output column x and kernel column s."""
        return f"{self.window.stride_x}*x+{self.window.dilation_x}*s"

    @property
    def is_depthwise(self) -> bool:
        """Whether each output has an input of its own. (With k = 1, which `groups` does not say.)"""
        return self.groups > 1 and self.groups == self.result[3] == self.channels

    @property
    def group(self) -> list[str]:
        """The loop over the groups, if there are several; then images are [n, h, w, g, k], else [n, h, w, k].
        Of a depthwise layer the outputs are the groups: [n, h, w, o]."""
        return ["g"] if self.groups > 1 and not self.is_depthwise else []

    @property
    def depth(self) -> list[str]:
        """What an image's innermost dimensions are, behind its pixels."""
        return ["o"] if self.is_depthwise else [*self.group, "k"]

    @property
    def image_map(self) -> list[str]:
        """Where the contraction reads an image."""
        return ["n", self.rows, self.columns, *self.depth]

    @property
    def window_map(self) -> list[str]:
        """Where it reads the gathered windows."""
        return ["n", "y", "x", *self.depth[:-1], "r", "s", self.depth[-1]]

    @property
    def weight_map(self) -> list[str]:
        """Where it reads the weights."""
        return ["r", "s", "o"] if self.is_depthwise else ["r", "s", "k", *self.group, "o"]

    @property
    def reductions(self) -> list[str]:
        """The loops that sum."""
        return ["r", "s"] if self.is_depthwise else ["r", "s", "k"]

    def is_product(self, form: str) -> bool:
        """Whether it is written as a product of two matrices."""
        return form == "im2col" and not self.group and not self.is_depthwise

    def grouped(self, weight: np.ndarray) -> np.ndarray:
        """Weights [O, kh, kw, k] as [kh, kw, k, g, O/G], or [kh, kw, k, O] where there is one group, or [kh,
        kw, O]."""
        if self.is_depthwise:
            return weight[..., 0].transpose(1, 2, 0)
        outputs = len(weight)
        split = weight.reshape(self.groups, outputs // self.groups, *weight.shape[1:])
        stored = split.transpose(2, 3, 4, 0, 1)
        return stored if self.groups > 1 else stored[:, :, :, 0]

    def padded(self, x: SSAValue, number: float) -> SSAValue:
        """The image [n, h, w, ...] with its padding around it."""
        top, left, bottom, right = self.pads
        rest = [0] * (len(shape_of(x)) - 3)
        return b.surrounded(x, [0, top, left, *rest], [0, bottom, right, *rest], number)


Contract = Callable[[Sequence[SSAValue], Sequence[SSAValue], b.Body, SSAValue | None], SSAValue]
"""From the packed activations, the packed weights, what happens to an element of each, and what the sums
start with (None: 0) to the sums."""


# --- Real numbers -----------------------------------------------------------------------------------------


def real_conv(op: ops.Conv2d, x: SSAValue, weight: np.ndarray, form: str) -> SSAValue:
    """[n, h, w, O] in f32."""
    at = Geometry.of(op)
    image = at.padded(x, 0.0)
    if at.group:
        n, h, w, channels = shape_of(image)
        split = (n, h, w, at.groups, channels // at.groups)
        image = b.expand(image, [[0], [1], [2], [3, 4]], split)
    if form == "im2col":
        image = gathered(image, at)
    stored = b.constant(weight.reshape(len(weight), -1) if at.is_product(form) else at.grouped(weight), f32)
    return _contract([image], [stored], at, f32, form, "real_conv2d", _multiply_add)


def real_dense(x: SSAValue, weight: np.ndarray) -> SSAValue:
    """[..., O] in f32 of x [..., K], weight [O, K]."""
    outer, rows = _rows(x)
    start = b.filled((shape_of(rows)[0], len(weight)), 0.0, f32)
    maps = [["n", "k"], ["k", "o"], ["n", "o"]]
    stored = b.constant(weight.T, f32)
    y = b.generic([rows, stored], [start], ["n", "o", "k"], maps, ["k"], _multiply_add, "real_dense")[0]
    return b.reshape(y, (*outer, len(weight)))


def _multiply_add(x: SSAValue, w: SSAValue, total: SSAValue) -> list[SSAValue]:
    return [arith.AddfOp(total, arith.MulfOp(x, w).result).result]


# --- Bits -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightPlane:
    """t_c of weights [O, ...]: sign and mask as booleans, the place c."""

    sign: np.ndarray
    mask: np.ndarray
    place: int

    @property
    def is_masked(self) -> bool:
        """Whether some weights are 0."""
        return not self.mask.all()


def weight_planes(weight: np.ndarray) -> list[WeightPlane]:
    """Weights of integers as sum_c 2^c t_c. Odd ones below 2^n in magnitude take n planes without zeros."""
    w = weight.astype(np.int64)
    largest = int(np.abs(w).max(initial=0))
    if largest and (w % 2 != 0).all():
        count = largest.bit_length()
        # (w + 2^n - 1) / 2 has the bit of t_c = +1 in place c.
        level = (w + (1 << count) - 1) >> 1
        everywhere = np.ones(w.shape, bool)
        return [WeightPlane(level >> c & 1 != 0, everywhere, c) for c in range(count)]
    planes = []
    for c in range(max(largest.bit_length(), 1)):
        mask = np.abs(w) >> c & 1 != 0
        planes.append(WeightPlane((w > 0) & mask, mask, c))
    return planes


@dataclass(frozen=True)
class Steps:
    """What the bits of an activation stand for: x = step q + lowest."""

    step: int
    lowest: int

    @staticmethod
    def of(element: Attribute) -> Steps:
        """Of a domain of one bit a plane."""
        match element:
            case Bipolar():
                return Steps(2, -1)
            case Spike():
                return Steps(1, 0)
            case Level():
                return Steps(1, element.lowest)
        raise AssertionError(element)


def binary_conv(op: ops.Conv2d, x: Planes, weight: np.ndarray, form: str) -> SSAValue:
    """[n, h, w, O] in i32."""
    at = Geometry.of(op)
    outside = op.pad_value.value.data
    planes = [_by_depth(plane, at) for plane in x.planes]
    numbers = _outside_bits(x, outside)
    images = [at.padded(*pair) for pair in zip(planes, numbers, strict=True)]
    is_product = at.is_product(form)
    if form == "im2col":
        images = [gathered(image, at) for image in images]

    def pack_weights(bits: np.ndarray) -> SSAValue:
        packed = pack_words(bits)
        return b.words(packed.reshape(len(packed), -1) if is_product else at.grouped(packed))

    def contract(
        inputs: Sequence[SSAValue], weights: Sequence[SSAValue], body: b.Body, start: SSAValue | None
    ) -> SSAValue:
        call = _call("conv2d", inputs, weights)
        return _contract(inputs, weights, at, i32, form, call, body, start)

    if isinstance(x.element, Ternary):
        return _counts(x, images, weight, pack_weights, contract)
    steps = Steps.of(x.element)
    borders = Borders.of(at.window, x.shape[1:3], at.result[1:3])
    if outside == steps.lowest or borders.inside:
        return _affine(_counts(x, images, weight, pack_weights, contract), x, weight)
    table = (outside - steps.lowest) * _missing(borders, weight)
    if (table % steps.step).any():
        sums = _affine(_counts(x, images, weight, pack_weights, contract), x, weight)
        return _corrected(sums, borders, table)
    start = _corrected(b.filled(at.result, 0), borders, -table // steps.step)
    return _affine(_counts(x, images, weight, pack_weights, contract, start), x, weight)


def binary_dense(x: Planes, weight: np.ndarray) -> SSAValue:
    """[..., O] in i32."""
    outer = x.shape[:-1]
    rows = [_rows(plane.words)[1] for plane in x.planes]
    count = shape_of(rows[0])[0]

    def contract(
        inputs: Sequence[SSAValue], weights: Sequence[SSAValue], body: b.Body, start: SSAValue | None
    ) -> SSAValue:
        start = b.filled((count, len(weight)), 0) if start is None else start
        maps = [*([["n", "k"]] * len(inputs)), *([["k", "o"]] * len(weights)), ["n", "o"]]
        names = ["n", "o", "k"]
        call = _call("dense", inputs, weights)
        return b.generic([*inputs, *weights], [start], names, maps, ["k"], body, call)[0]

    def pack_weights(bits: np.ndarray) -> SSAValue:
        return b.words(pack_words(bits).T)

    sums = _counts(x, rows, weight, pack_weights, contract)
    if not isinstance(x.element, Ternary):
        sums = _affine(sums, x, weight)
    return b.reshape(sums, (*outer, len(weight)))


def _outside_bits(x: Planes, outside: int) -> list[int]:
    """The word that stands outside the image, for every plane. Bits beyond the channels do not matter: those
    of the weights are 0 in sign and mask there, or the mask of x is."""
    if isinstance(x.element, Ternary):
        return [-1 if outside > 0 else 0, -1 if outside else 0]
    return [0] * len(x.planes)


def _by_depth(plane: Plane, at: Geometry) -> SSAValue:
    """Words [n, h, w, g, words of a group], without g where there is one; of a depthwise layer one for
    every bit."""
    groups = at.groups
    if groups == 1:
        return plane.words
    if at.is_depthwise:
        return b.elementwise([plane.bits], plane.shape, [i32], lambda v: [arith.ExtUIOp(v, i32).result])[0]
    *outer, channels = plane.shape
    shape = (*outer, groups, channels // groups)
    split = [[0], [1], [2], [3, 4]]
    by_words = (channels // groups) % WORD_BITS == 0
    return plane.moved(shape, by_words, lambda value, wanted: b.expand(value, split, wanted)).words


def gathered(image: SSAValue, at: Geometry) -> SSAValue:
    """The windows of an image [n, h, w, (g,) k]: [n, y, x, (g,) r, s, k]."""
    n, _, _, *rest = shape_of(image)
    _, height, width, _ = at.result
    shape = (n, height, width, *rest[:-1], at.window.height, at.window.width, rest[-1])
    names = at.window_map
    start = b.empty(shape, element_of(image))
    return b.generic([image], [start], names, [at.image_map, names], (), lambda value, _: [value])[0]


def _contract(
    images: Sequence[SSAValue],
    weights: Sequence[SSAValue],
    at: Geometry,
    kind: Attribute,
    form: str,
    library_call: str,
    body: b.Body,
    start: SSAValue | None = None,
) -> SSAValue:
    """Sums [n, y, x, O] over the window of images (gathered ones if form is "im2col") and weights
    `at.grouped`, from `start` [n, y, x, O] on or from 0."""
    if at.is_product(form):
        return _product(images, weights, at, kind, library_call, body, start)
    n, height, width, outputs = at.result
    result = ["n", "y", "x", *at.group, "o"]
    source = at.window_map if form == "im2col" else at.image_map
    maps = [*([source] * len(images)), *([at.weight_map] * len(weights)), result]
    channels = (at.groups, outputs // at.groups) if at.group else (outputs,)
    if start is None:
        start = b.filled((n, height, width, *channels), 0, kind)
    else:
        start = b.expand(start, [[0], [1], [2], [3, 4]], (n, height, width, *channels)) if at.group else start
    names = [*result, *at.reductions]
    sums = b.generic([*images, *weights], [start], names, maps, at.reductions, body, library_call)[0]
    return b.collapse(sums, [[0], [1], [2], [3, 4]]) if at.group else sums


def _product(
    windows: Sequence[SSAValue],
    weights: Sequence[SSAValue],
    at: Geometry,
    kind: Attribute,
    library_call: str,
    body: b.Body,
    start: SSAValue | None,
) -> SSAValue:
    """The same as a product of matrices: a row for each window, weights [O, K] as they are trained, so that
    both are read along the reduction."""
    pixels = [[0, 1, 2], [3]]
    rows = [b.collapse(window, [[0, 1, 2], [3, 4, 5]]) for window in windows]
    count, outputs = shape_of(rows[0])[0], at.result[3]
    start = b.filled((count, outputs), 0, kind) if start is None else b.collapse(start, pixels)
    maps = [*([["p", "k"]] * len(rows)), *([["o", "k"]] * len(weights)), ["p", "o"]]
    sums = b.generic([*rows, *weights], [start], ["p", "o", "k"], maps, ["k"], body, library_call)[0]
    return b.expand(sums, pixels, at.result)


def _call(kind: str, inputs: Sequence[SSAValue], weights: Sequence[SSAValue]) -> str:
    """The `library_call` of a contraction of bits: whether x has a mask, and whether the weights have one."""
    domain, masked = "ternary" if len(inputs) > 1 else "binary", "_masked" if len(weights) > 1 else ""
    return f"{domain}_{kind}{masked}"


def _counts(
    x: Planes,
    images: Sequence[SSAValue],
    weight: np.ndarray,
    pack_weights: Callable[[np.ndarray], SSAValue],
    contract: Contract,
    start: SSAValue | None = None,
) -> SSAValue:
    """Ternary x: the sums. Others: sum_bc 2^(b+c) popcount((q_b ^ s_c) & n_c). Each starts with the last."""
    sums = start
    for plane in weight_planes(weight):
        # The mask of x is all ones outside the image, where it must end with the channels.
        is_masked = plane.is_masked or (isinstance(x.element, Ternary) and weight.shape[-1] % WORD_BITS != 0)
        weights = [pack_weights(plane.sign), *([pack_weights(plane.mask)] if is_masked else [])]
        if isinstance(x.element, Ternary):
            sums = contract(images, weights, _ternary_body(is_masked, plane.place), sums)
            continue
        for place, image in enumerate(images):
            sums = contract([image], weights, _count_body(is_masked, plane.place + place), sums)
    assert sums is not None, "weights have a plane"
    return sums


def _count_body(is_masked: bool, place: int) -> b.Body:
    def body(x: SSAValue, *rest: SSAValue) -> list[SSAValue]:
        *weights, total = rest
        different = arith.XOrIOp(x, weights[0]).result
        if is_masked:
            different = arith.AndIOp(different, weights[1]).result
        return [arith.AddiOp(total, _shifted(maths.CtPopOp(different).result, place)).result]

    return body


def _ternary_body(is_masked: bool, place: int) -> b.Body:
    def body(sign: SSAValue, mask: SSAValue, *rest: SSAValue) -> list[SSAValue]:
        *weights, total = rest
        both = arith.AndIOp(mask, weights[1]).result if is_masked else mask
        different = arith.AndIOp(arith.XOrIOp(sign, weights[0]).result, both).result
        count = arith.SubiOp(maths.CtPopOp(both).result, _shifted(maths.CtPopOp(different).result, 1)).result
        return [arith.AddiOp(total, _shifted(count, place)).result]

    return body


def _shifted(value: SSAValue, places: int) -> SSAValue:
    return arith.ShLIOp(value, b.scalar(places)).result if places else value


def _affine(counts: SSAValue, x: Planes, weight: np.ndarray) -> SSAValue:
    """From counts to y, as above."""
    steps, planes = Steps.of(x.element), len(x.planes)
    axes = tuple(range(1, weight.ndim))
    positive = sum((p.sign & p.mask).sum(axes, dtype=np.int64) << p.place for p in weight_planes(weight))
    total = weight.sum(axes, dtype=np.int64)
    base = steps.lowest * total + steps.step * ((1 << planes) - 1) * positive
    table = b.constant(base.astype(np.int32), i32)

    def body(count: SSAValue, first: SSAValue) -> list[SSAValue]:
        return [arith.SubiOp(first, _shifted(count, steps.step.bit_length() - 1)).result]

    return b.elementwise([counts, table], shape_of(counts), [i32], body)[0]


def _missing(borders: Borders, weight: np.ndarray) -> np.ndarray:
    """The sum of the weights outside the image [row case, column case, O]."""
    outside = borders.outside_taps().astype(np.int64)
    missing = np.einsum("crs,orsk->co", outside, weight.astype(np.int64))
    return missing.reshape(borders.rows.count, borders.columns.count, len(weight))


def _corrected(sums: SSAValue, borders: Borders, cases: np.ndarray) -> SSAValue:
    """The sums [n, h, w, O] with the number added that `cases` [row case, column case, O] has for a place."""
    _, height, width, _ = shape_of(sums)
    table = b.constant(cases.astype(np.int32), i32)
    rows = b.position_table([borders.rows.case(y) for y in range(height)])
    columns = b.position_table([borders.columns.case(x) for x in range(width)])

    def body(value: SSAValue) -> list[SSAValue]:
        place = b.looked_up(rows, b.here(1)), b.looked_up(columns, b.here(2))
        return [arith.AddiOp(value, b.lookup(table, *place, b.here(3))).result]

    return b.elementwise([sums], shape_of(sums), [i32], body)[0]


def _rows(x: SSAValue) -> tuple[tuple[int, ...], SSAValue]:
    """The outer dimensions, and the tensor as a matrix."""
    *outer, depth = shape_of(x)
    return tuple(outer), b.reshape(x, (math.prod(outer), depth))
