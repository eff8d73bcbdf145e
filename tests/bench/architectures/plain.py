# SPDX-License-Identifier: Apache-2.0
"""Networks that are one chain of binary layers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn

from tests.bench.architectures.layers import BinaryConv2d, BinaryLinear, real_conv


def binarynet(channels: Sequence[int] = (128, 256, 512), hidden: int = 1024, classes: int = 10) -> nn.Module:
    """BinaryNet (Courbariaux et al. 2016) for images of 32x32: six convolutions, three dense layers."""
    made: list[nn.Module] = [real_conv(3, channels[0], 3), nn.BatchNorm2d(channels[0])]
    made += [BinaryConv2d(channels[0], channels[0]), nn.MaxPool2d(2), nn.BatchNorm2d(channels[0])]
    for before, width in itertools.pairwise(channels):
        made += [BinaryConv2d(before, width), nn.BatchNorm2d(width)]
        made += [BinaryConv2d(width, width), nn.MaxPool2d(2), nn.BatchNorm2d(width)]
    made += [nn.Flatten(), BinaryLinear(16 * channels[-1], hidden), nn.BatchNorm1d(hidden)]
    made += [BinaryLinear(hidden, hidden), nn.BatchNorm1d(hidden)]
    return nn.Sequential(*made, BinaryLinear(hidden, classes), nn.BatchNorm1d(classes))


def xnornet(
    channels: Sequence[int] = (96, 256, 384, 384, 256),
    hidden: int = 4096,
    pixels: int = 36,
    classes: int = 1000,
) -> nn.Module:
    """XNOR-Net (Rastegari et al. 2016) on AlexNet; its scales of weights, without those of activations.

    pixels: of the image that is flattened (36 of 224x224 pixels)."""
    a, b, c, d, e = channels
    made: list[nn.Module] = [nn.Conv2d(3, a, 11, 4, 2), nn.BatchNorm2d(a), nn.ReLU(), nn.MaxPool2d(3, 2)]
    made += [nn.BatchNorm2d(a), BinaryConv2d(a, b, 5, scaled=True), nn.MaxPool2d(3, 2)]
    for before, width in ((b, c), (c, d), (d, e)):
        made += [nn.BatchNorm2d(before), BinaryConv2d(before, width, scaled=True)]
    made += [
        nn.MaxPool2d(3, 2),
        nn.BatchNorm2d(e),
        nn.Flatten(),
        BinaryLinear(pixels * e, hidden, scaled=True),
    ]
    made += [nn.BatchNorm1d(hidden), BinaryLinear(hidden, hidden, scaled=True), nn.BatchNorm1d(hidden)]
    return nn.Sequential(*made, nn.ReLU(), nn.Linear(hidden, classes))


def cnv(channels: Sequence[int] = (64, 128, 256), hidden: int = 512, classes: int = 10) -> nn.Module:
    """CNV (Umuroglu et al. 2017, FINN) for images of 32x32: six convolutions without padding, three dense
    layers."""
    a, b, c = channels
    made: list[nn.Module] = []
    for before, width, pooled in ((3, a, False), (a, a, True), (a, b, False), (b, b, True), (b, c, False)):
        made += [_unpadded(before, width), nn.BatchNorm2d(width)]
        made += [nn.MaxPool2d(2)] if pooled else []
    made += [
        _unpadded(c, c),
        nn.BatchNorm2d(c),
        nn.Flatten(),
        BinaryLinear(c, hidden),
        nn.BatchNorm1d(hidden),
    ]
    made += [BinaryLinear(hidden, hidden), nn.BatchNorm1d(hidden), BinaryLinear(hidden, classes)]
    return nn.Sequential(*made)


def _unpadded(inputs: int, outputs: int) -> nn.Module:
    """The first layer sees real-valued images."""
    if inputs == 3:
        return nn.Conv2d(inputs, outputs, 3, bias=False)
    return BinaryConv2d(inputs, outputs, padding=0)
