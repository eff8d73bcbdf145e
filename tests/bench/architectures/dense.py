# SPDX-License-Identifier: Apache-2.0
"""Networks whose layers add channels to what was there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tests.bench.architectures.layers import BinaryConv2d, classifier, real_conv
from tests.bench.architectures.residual import imagenet_stem


class DenseLayer(nn.Module):
    """x, and `growth` channels more that a binary layer makes of it."""

    def __init__(self, channels: int, growth: int):
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm2d(channels), BinaryConv2d(channels, growth))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C + growth, H, W]."""
        return torch.cat([x, self.body(x)], dim=1)


class ImproveLayer(nn.Module):
    """x, with what a binary layer makes of it added to the last `growth` channels."""

    def __init__(self, channels: int, growth: int):
        super().__init__()
        self.growth = growth
        self.body = nn.Sequential(nn.BatchNorm2d(channels), BinaryConv2d(channels, growth))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        kept, improved = x[:, : -self.growth], x[:, -self.growth :]
        return torch.cat([kept, improved + self.body(x)], dim=1)


def binary_densenet28(
    width: int = 64,
    layers: Sequence[int] = (6, 6, 6, 5),
    reductions: Sequence[float] = (2.7, 2.7, 2.2),
    classes: int = 1000,
) -> nn.Module:
    """BinaryDenseNet28 (Bethge et al. 2019): growth of 64 channels, real-valued transitions."""
    made = [*imagenet_stem(width), nn.BatchNorm2d(width), nn.ReLU()]
    channels = width
    for section, count in enumerate(layers):
        for _ in range(count):
            made.append(DenseLayer(channels, width))
            channels += width
        if section < len(reductions):
            # Kept a multiple of 32, as published.
            fewer = round(channels / reductions[section] / 32) * 32
            made += [nn.BatchNorm2d(channels), nn.MaxPool2d(2), nn.ReLU(), real_conv(channels, fewer, 1)]
            channels = fewer
    return nn.Sequential(*made, nn.BatchNorm2d(channels), nn.ReLU(), classifier(channels, classes))


def meliusnet22(
    width: int = 64,
    layers: Sequence[int] = (4, 5, 4, 4),
    kept: Sequence[float] = (160 / 320, 224 / 480, 256 / 480),
    classes: int = 1000,
) -> nn.Module:
    """MeliusNet22 (Bethge et al. 2020): dense and improvement blocks in turns, a stem in groups."""
    half = width // 2
    made: list[nn.Module] = []
    for inputs, outputs, stride, groups in ((3, half, 2, 1), (half, half, 1, 4), (half, width, 1, 8)):
        made += [real_conv(inputs, outputs, 3, stride, groups), nn.BatchNorm2d(outputs), nn.ReLU()]
    made.append(nn.MaxPool2d(3, 2, 1))
    channels = width
    for section, count in enumerate(layers):
        for _ in range(count):
            made.append(DenseLayer(channels, width))
            channels += width
            made.append(ImproveLayer(channels, width))
        if section < len(kept):
            fewer = round(channels * kept[section] / 32) * 32
            made += [nn.BatchNorm2d(channels), nn.MaxPool2d(2), nn.ReLU(), real_conv(channels, fewer, 1)]
            channels = fewer
    return nn.Sequential(*made, nn.BatchNorm2d(channels), nn.ReLU(), classifier(channels, classes))
