# SPDX-License-Identifier: Apache-2.0
"""Geometry of ONNX operators with a sliding window, in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bnncc.passes.onnx.node import Node, NotConvertible


@dataclass(frozen=True)
class Geometry:
    """A window over images: [h, w] each, pads [top, left, bottom, right].

    `extension` [bottom, right] is what ceil_mode reads beyond the pads."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    extension: tuple[int, int] = (0, 0)

    @property
    def all_pads(self) -> tuple[int, int, int, int]:
        """The pads, with what ceil_mode adds."""
        top, left, bottom, right = self.pads
        return top, left, bottom + self.extension[0], right + self.extension[1]


def geometry(node: Node, kernel: Sequence[int], image: Sequence[int]) -> Geometry:
    """The window of a node over spatial sizes `image` ([h, w] or [l]), whatever way it is written."""
    rank = len(image)
    strides = list(node.parameter("strides", [1] * rank))
    dilations = list(node.parameter("dilations", [1] * rank))
    pads = _pads(node, kernel, strides, dilations, image)
    if any(len(values) != rank for values in (kernel, strides, dilations)) or len(pads) != 2 * rank:
        raise NotConvertible(f"its window does not have {rank} dimensions")
    if min(pads) < 0:
        raise NotConvertible("its pads are negative")
    if rank == 1:  # a sequence is an image of one row
        kernel, strides, dilations = (1, *kernel), (1, *strides), (1, *dilations)
        pads, image = (0, pads[0], 0, pads[1]), (1, *image)
    begin, end = pads[:2], pads[2:]
    plain = Geometry(_pair(kernel), _pair(strides), _pair(dilations), (*_pair(begin), *_pair(end)))
    return replace(plain, extension=_extension(node, plain, image))


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _pads(
    node: Node, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], image: Sequence[int]
) -> list[int]:
    """Explicit pads [begins..., ends...], those of auto_pad worked out."""
    mode = node.parameter("auto_pad", "NOTSET")
    rank = len(image)
    if mode == "VALID":
        return [0] * (2 * rank)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        return list(node.parameter("pads", [0] * (2 * rank)))
    begins, ends = [], []
    for size, taps, stride, dilation in zip(image, kernel, strides, dilations, strict=True):
        span = (taps - 1) * dilation + 1
        total = max(0, (-(-size // stride) - 1) * stride + span - size)
        less, more = total // 2, total - total // 2
        begins.append(less if mode == "SAME_UPPER" else more)
        ends.append(more if mode == "SAME_UPPER" else less)
    return begins + ends


def _extension(node: Node, window: Geometry, image: Sequence[int]) -> tuple[int, int]:
    """How far the last window of a ceil_mode pool reaches beyond the pads."""
    if not node.parameter("ceil_mode", 0):
        return 0, 0
    result = (1, 1, *node.result_shape)[-2:] if len(node.result_shape) == 4 else (1, node.result_shape[-1])
    beyond = []
    for i in (0, 1):
        span = (window.kernel[i] - 1) * window.dilations[i] + 1
        reach = (result[i] - 1) * window.strides[i] + span
        beyond.append(max(0, reach - image[i] - window.pads[i] - window.pads[2 + i]))
    return beyond[0], beyond[1]
