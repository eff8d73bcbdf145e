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
from bnncc.dialect.types import Bipolar, Level, Spike, Ternary, shape_of
from bnncc.linalg import builders as b
from bnncc.linalg.bits import Plane, Planes
from bnncc.linalg.convolution import Geometry, convolved, gathered
from bnncc.plan.bits import pack_words
from bnncc.plan.borders import Borders
from bnncc.plan.layout import WORD_BITS

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
    return convolved([image], [stored], at, f32, form, "real_conv2d", _multiply_add)


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
        return convolved(inputs, weights, at, i32, form, call, body, start)

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
