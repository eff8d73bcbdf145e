# SPDX-License-Identifier: Apache-2.0
"""A convolution as one contraction over a moving window, or as a product of matrices: shapes and index maps.

What an element of an image, one of the weights and a sum become together is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.ir import Attribute, SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.operations import unpack
from bnncc.dialect.types import element_of, shape_of
from bnncc.linalg import builders as b
from bnncc.plan.kernel import Window

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


def gathered(image: SSAValue, at: Geometry) -> SSAValue:
    """The windows of an image [n, h, w, (g,) k]: [n, y, x, (g,) r, s, k]."""
    n, _, _, *rest = shape_of(image)
    _, height, width, _ = at.result
    shape = (n, height, width, *rest[:-1], at.window.height, at.window.width, rest[-1])
    names = at.window_map
    start = b.empty(shape, element_of(image))
    return b.generic([image], [start], names, [at.image_map, names], (), lambda value, _: [value])[0]


def convolved(
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
