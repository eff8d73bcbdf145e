# SPDX-License-Identifier: Apache-2.0
"""Sliding windows over images [n, h, w, c]."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.irdl import IRDLOperation

from bnncc.dialect.checks import expect


class WindowOperation(IRDLOperation):
    """Shared by operations with a sliding window over [n, h, w, c]."""

    def verify_window(
        self,
        image: Sequence[int],
        result: Sequence[int],
        kernel: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int],
        pads: Sequence[int],
    ) -> None:
        """Check the attributes, and that the result's n, h and w follow from them and the image."""
        for label, values, length in (
            ("kernel sizes", kernel, 2),
            ("strides", strides, 2),
            ("dilations", dilations, 2),
            ("pads", pads, 4),
        ):
            expect(len(values) == length, f"{length} {label}", len(values))
        expect(len(image) == 4 and len(result) == 4, "rank 4", f"{len(image)} and {len(result)}")
        expect(
            min((*strides, *dilations, *kernel)) > 0,
            "strides, dilations and kernel sizes above 0",
            (strides, dilations, tuple(kernel)),
        )
        expect(min(pads) >= 0, "no negative pads", pads)
        expect(image[0] == result[0], f"{image[0]} images", result[0])
        top, left, bottom, right = pads
        for axis, total in ((0, top + bottom), (1, left + right)):
            span = (kernel[axis] - 1) * dilations[axis] + 1
            size = (image[1 + axis] + total - span) // strides[axis] + 1
            expect(result[1 + axis] == size, f"result size {size} in dimension {1 + axis}", result[1 + axis])


def window_shape(
    image: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    channels: int,
) -> tuple[int, int, int, int]:
    """[n, h, w, channels] that a window over `image` gives; sizes below 1 are the verifier's to tell."""
    top, left, bottom, right = pads
    totals = (top + bottom, left + right)
    height, width = (
        (image[1 + i] + totals[i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in (0, 1)
    )
    return image[0], height, width, channels
