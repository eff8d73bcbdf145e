# SPDX-License-Identifier: Apache-2.0
"""ONNX operators evaluated by NumPy where `onnx.reference` is too slow for whole networks, or wrong.

Tensors are [n, c, spatial...]. Shapes, pads and counts follow the ONNX specification for any number of
spatial dimensions; sums are made in the type of the input, in another order than `onnx.reference`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_conv_transpose import ConvTranspose as AllGroupsConvTranspose
from onnx.reference.ops.op_resize import _interpolate_nd, _linear_coeffs

NEAREST_MARGIN = 1e-5
"""Added to the place of a pixel, which its scale in float32 may put a little too low."""


@dataclass(frozen=True)
class Window:
    """A window that slides over the spatial dimensions; one entry per dimension.

    `overhang` is what the last window reaches beyond the padded image (ceil_mode only)."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    head: tuple[int, ...]
    tail: tuple[int, ...]
    overhang: tuple[int, ...]
    result: tuple[int, ...]

    def pad(self, x: np.ndarray, value: float) -> np.ndarray:
        """The image with `value` around it, as far as any window reaches."""
        after = [tail + more for tail, more in zip(self.tail, self.overhang, strict=True)]
        if not any((*self.head, *after)):
            return x
        pads = [(0, 0), (0, 0), *zip(self.head, after, strict=True)]
        return np.pad(x, pads, constant_values=value)

    def taps(self, padded: np.ndarray) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """For each position in the kernel: what lies under it, [n, c, result...], for all windows."""
        for position in product(*map(range, self.kernel)):
            starts = [at * dilation for at, dilation in zip(position, self.dilations, strict=True)]
            steps = zip(starts, self.strides, self.result, strict=True)
            slices = [slice(start, start + (count - 1) * step + 1, step) for start, step, count in steps]
            yield position, padded[(..., *slices)]


def make_window(
    image: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str | None,
    ceil_mode: int | None = 0,
) -> Window:
    """The window that the attributes of a node describe, over spatial dimensions `image`."""
    rank = len(image)
    strides, dilations = list(strides or [1] * rank), list(dilations or [1] * rank)
    head, tail = list((pads or [0] * 2 * rank)[:rank]), list((pads or [0] * 2 * rank)[rank:])
    overhang, result = [0] * rank, [0] * rank
    for i in range(rank):
        span = (kernel[i] - 1) * dilations[i] + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            total = max(0, (-(-image[i] // strides[i]) - 1) * strides[i] + span - image[i])
            head[i] = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            tail[i] = total - head[i]
        elif auto_pad == "VALID":
            head[i] = tail[i] = 0
        padded = image[i] + head[i] + tail[i]
        result[i] = (padded - span) // strides[i] + 1
        if ceil_mode and (padded - span) % strides[i] and result[i] * strides[i] < image[i] + head[i]:
            # One more window, which starts inside the image or before it.
            overhang[i] = result[i] * strides[i] + span - padded
            result[i] += 1
    lists = (kernel, strides, dilations, head, tail, overhang, result)
    return Window(*(tuple(int(v) for v in values) for values in lists))


def convolve(x: np.ndarray, weight: np.ndarray, window: Window, groups: int) -> np.ndarray:
    """[n, o, result...] for an image [n, c, ...] and weights [o, c / groups, kernel...]."""
    padded = window.pad(x, 0)
    outputs, depth = weight.shape[:2]
    if depth == 1 and groups > 1:
        return convolve_depthwise(padded, weight, window)
    spans = [(size - 1) * step + 1 for size, step in zip(window.kernel, window.dilations, strict=True)]
    rank = len(spans)
    view = sliding_window_view(padded, spans, axis=tuple(range(2, 2 + rank)))
    starts = [slice(None, None, step) for step in window.strides]
    view = view[(slice(None), slice(None), *starts, *(slice(None, None, step) for step in window.dilations))]
    # [n, c, result..., kernel...] -> [n, result..., c, kernel...]
    view = np.moveaxis(view, 1, 1 + rank)
    pixels, taps, each = len(x) * prod(window.result), depth * prod(window.kernel), outputs // groups
    y = np.empty((pixels, outputs), x.dtype)
    for group in range(groups):
        part = (slice(None),) * (1 + rank) + (slice(group * depth, (group + 1) * depth),)
        rows = slice(group * each, (group + 1) * each)
        y[:, rows] = view[part].reshape(pixels, taps) @ weight[rows].reshape(each, taps).T
    return np.ascontiguousarray(np.moveaxis(y.reshape(len(x), *window.result, outputs), -1, 1))


def convolve_depthwise(padded: np.ndarray, weight: np.ndarray, window: Window) -> np.ndarray:
    """The case of one input channel per group, tap by tap."""
    repeats = len(weight) // padded.shape[1]
    if repeats > 1:
        padded = np.repeat(padded, repeats, axis=1)
    y = np.zeros((len(padded), len(weight), *window.result), padded.dtype)
    for position, values in window.taps(padded):
        y += values * weight[(slice(None), 0, *position)].reshape(-1, *[1] * len(window.result))
    return y


def along_channels(given: np.ndarray, rank: int) -> np.ndarray:
    """One number, or one for each channel, as it broadcasts to an image [n, c, ...]."""
    return given.reshape(-1, *[1] * (rank - 2))


def convolution(
    x: np.ndarray,
    weight: np.ndarray,
    auto_pad: str | None = None,
    dilations: Sequence[int] | None = None,
    group: int | None = None,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> np.ndarray:
    """`convolve` by the attributes of a node."""
    kernel = kernel_shape or weight.shape[2:]
    window = make_window(x.shape[2:], kernel, strides, dilations, pads, auto_pad)
    return convolve(x, weight, window, group or 1)


class Conv(OpRun):
    """`convolution` as a node."""

    def _run(
        self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, **attributes: Any
    ) -> tuple[np.ndarray]:
        # Sums of float16 are made in float32, as every framework does.
        wide = np.promote_types(x.dtype, np.float32) if x.dtype.kind == "f" else x.dtype
        y = convolution(x.astype(wide, copy=False), weight.astype(wide, copy=False), **attributes)
        if bias is not None:
            y += along_channels(bias, x.ndim)
        return (y.astype(x.dtype, copy=False),)


class ConvTranspose(AllGroupsConvTranspose):
    """Group by group (`onnx.reference` mixes up the channels of several)."""

    def _run(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray | None = None,
        group: int | None = None,
        **attributes: object,
    ) -> tuple[np.ndarray]:
        groups = group or 1
        parts = zip(np.split(x, groups, axis=1), np.split(weight, groups), strict=True)
        y = np.concatenate(
            [super(ConvTranspose, self)._run(*part, group=1, **attributes)[0] for part in parts], 1
        )
        if bias is not None:
            y += along_channels(bias, x.ndim)
        return (y.astype(x.dtype, copy=False),)


class MaxPool(OpRun):
    """The largest value under the window (the first of equals) and, if asked for, its index in the flattened
    tensor; outside the image there is none."""

    def _run(
        self,
        x: np.ndarray,
        auto_pad: str | None = None,
        ceil_mode: int | None = None,
        dilations: Sequence[int] | None = None,
        kernel_shape: Sequence[int] = (),
        pads: Sequence[int] | None = None,
        storage_order: int | None = None,
        strides: Sequence[int] | None = None,
    ) -> tuple[np.ndarray, ...]:
        window = make_window(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
        least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        padded = window.pad(x, least)
        y = np.full((*x.shape[:2], *window.result), least, x.dtype)
        if len(self.onnx_node.output) == 1:
            for _, values in window.taps(padded):
                np.maximum(y, values, out=y)
            return (y,)
        y_index = np.full(y.shape, -1, np.int64)
        places = window.taps(window.pad(flat_indices(x.shape, storage_order or 0), -1))
        for (_, values), (_, index) in zip(window.taps(padded), places, strict=True):
            better = (values > y) | ((y_index < 0) & (index >= 0))
            y[better], y_index[better] = values[better], index[better]
        return y, y_index


def flat_indices(shape: Sequence[int], storage_order: int) -> np.ndarray:
    """Of each element its index in the flattened tensor; order 1 counts along the columns of an image."""
    images = np.arange(prod(shape[:2])).reshape(*shape[:2], *[1] * (len(shape) - 2)) * prod(shape[2:])
    order = "F" if storage_order else "C"
    return images + np.arange(prod(shape[2:])).reshape(shape[2:], order=order)


class AveragePool(OpRun):
    """The mean of the values under the window: of those in the image, or with the padding counted as 0."""

    def _run(
        self,
        x: np.ndarray,
        auto_pad: str | None = None,
        ceil_mode: int | None = None,
        count_include_pad: int | None = None,
        dilations: Sequence[int] | None = None,
        kernel_shape: Sequence[int] = (),
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
    ) -> tuple[np.ndarray]:
        window = make_window(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
        total = np.zeros((*x.shape[:2], *window.result), x.dtype)
        for _, values in window.taps(window.pad(x, 0)):
            total += values
        counted = np.ones((1, 1, *x.shape[2:]), x.dtype)
        if count_include_pad:
            # What ceil_mode adds beyond the padding never counts.
            pads_only = [(0, 0), (0, 0), *zip(window.head, window.tail, strict=True)]
            outside = [(0, 0), (0, 0), *((0, more) for more in window.overhang)]
            counted = np.pad(np.pad(counted, pads_only, constant_values=1), outside)
        else:
            counted = window.pad(counted, 0)
        count = np.zeros((1, 1, *window.result), x.dtype)
        for _, values in window.taps(counted):
            count += values
        return (total / count,)


class BatchNormalization(OpRun):
    """y = scale * (x - mean) / sqrt(var + epsilon) + bias, as in inference whatever the version of the node.

    (`onnx.reference` trains in versions before 14.)"""

    def _run(
        self,
        x: np.ndarray,
        scale: np.ndarray,
        bias: np.ndarray,
        mean: np.ndarray,
        var: np.ndarray,
        epsilon: float = 1e-5,
        **_: object,
    ) -> tuple[np.ndarray]:
        scale, bias, mean, var = (along_channels(v, x.ndim) for v in (scale, bias, mean, var))
        y = scale * (x - mean) / np.sqrt(var + var.dtype.type(epsilon)) + bias
        return (y.astype(x.dtype),)


def flattened(x: np.ndarray, axis: int) -> np.ndarray:
    """[a, b], where b gathers the dimensions from `axis` on: what Softmax worked on before version 13."""
    axis += x.ndim if axis < 0 else 0
    return x.reshape(prod(x.shape[:axis]), -1)


class OldSoftmax(OpRun):
    """Softmax before version 13: over all the dimensions from `axis` on."""

    def _run(self, x: np.ndarray, axis: int = 1) -> tuple[np.ndarray]:
        rows = flattened(x, axis)
        y = np.exp(rows - rows.max(axis=1, keepdims=True))
        return ((y / y.sum(axis=1, keepdims=True)).reshape(x.shape),)


class OldHardmax(OpRun):
    """Hardmax before version 13: 1 at the first of the largest over all the dimensions from `axis` on."""

    def _run(self, x: np.ndarray, axis: int = 1) -> tuple[np.ndarray]:
        rows = flattened(x, axis)
        places = np.arange(rows.shape[1]) == rows.argmax(axis=1)[:, None]
        return (places.astype(x.dtype).reshape(x.shape),)


class LogSoftmax(OpRun):
    """x - max x - log(sum exp(x - max x)); the logarithm of `onnx.reference`'s softmax is infinite where that
    underflows."""

    def _run(self, x: np.ndarray, axis: int = -1) -> tuple[np.ndarray]:
        moved = x - x.max(axis=axis, keepdims=True)
        return (moved - np.log(np.exp(moved).sum(axis=axis, keepdims=True)),)


class OldLogSoftmax(LogSoftmax):
    """LogSoftmax before version 13: over all the dimensions from `axis` on."""

    def _run(self, x: np.ndarray, axis: int = 1) -> tuple[np.ndarray]:
        (rows,) = super()._run(flattened(x, axis))
        return (rows.reshape(x.shape),)


class GatherElements(OpRun):
    """y[i, j, k] = x[i, index[i, j, k], k] along `axis` 1; the indices may be fewer than x along the other
    dimensions, and x of any size (`onnx.reference` takes neither)."""

    def _run(self, x: np.ndarray, index: np.ndarray, axis: int = 0) -> tuple[np.ndarray]:
        axis %= x.ndim
        part = x[tuple(slice(None if i == axis else size) for i, size in enumerate(index.shape))]
        return (np.take_along_axis(part, np.where(index < 0, index + x.shape[axis], index), axis),)


class OneHot(OpRun):
    """values[1] where an index, counted from the end if below 0, is that of the new axis, else values[0]; the
    depth may be a vector of one number."""

    def _run(
        self, index: np.ndarray, depth: np.ndarray, values: np.ndarray, axis: int = -1
    ) -> tuple[np.ndarray]:
        count = int(depth.reshape(-1)[0])
        index = np.expand_dims(index.astype(np.int64), axis)
        places = np.arange(count).reshape([-1 if i == axis % index.ndim else 1 for i in range(index.ndim)])
        return (np.where(np.where(index < 0, index + count, index) == places, values[1], values[0]),)


class Pad(OpRun):
    """Negative pads cut off, before others are added (`onnx.reference` takes none)."""

    def _run(
        self,
        x: np.ndarray,
        pads: Sequence[int],
        value: np.ndarray | float | None = None,
        axes: Sequence[int] | None = None,
        mode: str | None = "constant",
    ) -> tuple[np.ndarray]:
        chosen = range(x.ndim) if axes is None else [int(axis) % x.ndim for axis in axes]
        widths = [(0, 0)] * x.ndim
        for axis, low, high in zip(chosen, pads[: len(chosen)], pads[len(chosen) :], strict=True):
            widths[axis] = (int(low), int(high))
        cut = (slice(max(0, -a), size - max(0, -b)) for (a, b), size in zip(widths, x.shape, strict=True))
        added = [(max(0, a), max(0, b)) for a, b in widths]
        more = {"constant_values": 0 if value is None else np.asarray(value).reshape(())}
        kind: Any = mode or "constant"
        return (np.pad(x[tuple(cut)], added, kind, **(more if kind == "constant" else {})),)


class OldPad(Pad):
    """Pad before version 11: all it knows is in attributes."""

    def _run(
        self, x: np.ndarray, mode: str | None = None, pads: Sequence[int] = (), value: float | None = None
    ) -> tuple[np.ndarray]:
        return super()._run(x, pads, value, mode=mode)


class Upsample(OpRun):
    """Resize by scales as it was before version 11: y[i] = x[floor(i / scale)], or linear between pixels that
    lie at whole multiples of the scale."""

    def _run(
        self,
        x: np.ndarray,
        scales: np.ndarray | Sequence[float],
        mode: str | None = None,
        **_: object,  # what `onnx.reference` takes from the newest Resize
    ) -> tuple[np.ndarray]:
        factors = np.asarray(scales, np.float64).reshape(-1)
        if (mode or "nearest") != "nearest":
            y = _interpolate_nd(
                x, _linear_coeffs, scale_factors=factors.tolist(), coordinate_transformation_mode="asymmetric"
            )
            return (y.astype(x.dtype),)
        for axis, (size, factor) in enumerate(zip(x.shape, factors, strict=True)):
            places = np.floor(np.arange(int(size * factor)) / factor + NEAREST_MARGIN).astype(np.int64)
            x = x.take(np.minimum(places, size - 1), axis)
        return (x,)


class OldUpsample(Upsample):
    """Upsample before version 9: its scales are an attribute."""

    def _run(self, x: np.ndarray, mode: str | None = None, scales: Sequence[float] = ()) -> tuple[np.ndarray]:
        return super()._run(x, scales, mode)
