# SPDX-License-Identifier: Apache-2.0
"""Transposed convolutions of ONNX as ordinary ones.

With stride 1 it is a convolution with the kernel turned round. With stride s, the outputs at s*j + r (one r
of 0 .. s-1 for each dimension) see every s-th tap of the kernel only: s*s small convolutions, whose results
interleave. No zeros are put between the pixels, so binary layers stay binary.

    y[s*j + r] = sum_m x[j + (r+p)//s - m] * w[(r+p)%s + s*m]        (p: the pad before; one dimension)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from bnncc.dialect import operations as ops
from bnncc.dialect.types import shape_of
from bnncc.passes.onnx.node import Conversion, Node, NotConvertible


@dataclass(frozen=True)
class Phase:
    """The outputs at stride * j + r of one dimension: every stride-th tap from `first` on, and the pads of
    the convolution with those taps turned round."""

    first: int
    before: int
    after: int


def conv_transpose(node: Node) -> SSAValue:
    """ConvTranspose: [n, C, h, w] with weights [C, O/G, kh, kw], or [n, C, l] with [C, O/G, k]."""
    x = node.image()
    rank = len(shape_of(x))
    weight = node.array(1, "weight")
    if weight.ndim != rank:
        raise NotConvertible(f"its weight is of rank {weight.ndim}, its input of rank {rank}")
    strides = _pair(node.parameter("strides", [1] * (rank - 2)))
    dilations = _pair(node.parameter("dilations", [1] * (rank - 2)))
    result = _pair(node.result_shape[2:])
    sizes = _pair(shape_of(x)[2:])
    kernel = _pair(weight.shape[2:])
    group = int(node.parameter("group", 1))
    pads = _pads(node)
    facts = zip(sizes, result, kernel, strides, dilations, pads, strict=True)
    phases = [_phases(*dimension) for dimension in facts]
    turned = _ordinary(weight.reshape(*weight.shape[:2], *kernel), group)
    image = node.to_image(x)
    parts = [
        _phase(node, image, turned, (vertical, horizontal), strides, dilations, group)
        for vertical in phases[0]
        for horizontal in phases[1]
    ]
    y = _interleave(node, parts, strides) if len(parts) > 1 else parts[0]
    if node.has_input(2):
        y = node.add(ops.Add(y, node.constant(node.array(2, "bias").reshape(-1))))
    return node.from_image(y, rank)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    """Numbers for two dimensions; a sequence is an image of one row."""
    first, *others = (int(v) for v in values)
    return (first, others[0]) if others else (1, first)


def _pads(node: Node) -> tuple[int, int]:
    """What is cut off before the result, in each dimension; what after it, follows from its size."""
    mode = node.parameter("auto_pad", "NOTSET")
    if mode not in ("NOTSET", "VALID") or node.parameter("output_shape", []):
        raise NotConvertible("its pads follow from its result, on which the versions of ONNX do not agree")
    pads = list(node.parameter("pads", [])) if mode == "NOTSET" else []
    return _pair(pads[: len(pads) // 2] or [0, 0]) if len(pads) != 2 else (0, pads[0])


def _phases(size: int, result: int, kernel: int, stride: int, dilation: int, pad: int) -> list[Phase]:
    """One phase for each remainder of the output's position by the stride."""
    if stride > 1 and (dilation > 1 or result % stride):
        what = f"dilation {dilation}" if dilation > 1 else f"a result of size {result}"
        raise NotConvertible(f"its stride is {stride} with {what}")
    phases = []
    for r in range(stride):
        shift, first = divmod(r + pad, stride)
        taps = len(range(first, kernel, stride))
        before = (taps - 1) * dilation - shift
        after = result // stride - size + shift
        if taps == 0 or before < 0 or after < 0:
            raise NotConvertible(f"kernel {kernel}, stride {stride} and pad {pad} leave pixels unused")
        phases.append(Phase(first, before, after))
    return phases


def _ordinary(weight: np.ndarray, group: int) -> np.ndarray:
    """[O, kh, kw, C/G] of [C, O/G, kh, kw]; the kernel is not turned yet."""
    channels, each, height, width = weight.shape
    grouped = weight.reshape(group, channels // group, each, height, width)
    return grouped.transpose(0, 2, 3, 4, 1).reshape(group * each, height, width, channels // group)


def _phase(
    node: Node,
    image: SSAValue,
    weight: np.ndarray,
    phase: tuple[Phase, Phase],
    strides: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> SSAValue:
    """The convolution that gives one of the interleaved images."""
    vertical, horizontal = phase
    taps = weight[:, vertical.first :: strides[0], horizontal.first :: strides[1]][:, ::-1, ::-1]
    pads = (vertical.before, horizontal.before, vertical.after, horizontal.after)
    constant = node.constant(np.ascontiguousarray(taps))
    return node.add(ops.Conv2d(image, constant, (1, 1), dilations, pads, group))


def _interleave(node: Node, parts: Sequence[SSAValue], strides: Sequence[int]) -> SSAValue:
    """[n, sy*h, sx*w, o] of sy*sx images [n, h, w, o], the horizontal phase running fastest."""
    n, height, width, channels = shape_of(parts[0])
    sy, sx = strides
    together = node.add(ops.Concat(parts, 3))
    rows = node.reshape(together, (n * height, width, sy, sx * channels))
    return node.reshape(node.transpose(rows, (0, 2, 1, 3)), (n, height * sy, width * sx, channels))


TRANSPOSED: dict[str, Conversion] = {"ConvTranspose": conv_transpose}
