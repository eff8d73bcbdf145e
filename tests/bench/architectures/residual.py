# SPDX-License-Identifier: Apache-2.0
"""Networks whose binary layers stand beside a real-valued path."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tests.bench.architectures.layers import (
    Binarizer,
    BinaryConv2d,
    Shift,
    classifier,
    real_conv,
    sign,
)


class Residual(nn.Module):
    """shortcut(x) + body(x)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.body, self.shortcut = body, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to what the body makes of it."""
        return self.body(x) + self.shortcut(x)


def smaller(inputs: int, outputs: int) -> nn.Sequential:
    """The shortcut around a layer of stride 2."""
    return nn.Sequential(nn.AvgPool2d(2), real_conv(inputs, outputs, 1), nn.BatchNorm2d(outputs))


def imagenet_stem(channels: int) -> list[nn.Module]:
    """7x7 convolution and pooling, a quarter of the extent."""
    return [real_conv(3, channels, 7, 2), nn.BatchNorm2d(channels), nn.MaxPool2d(3, 2, 1)]


def quicknet(
    channels: Sequence[int] = (64, 128, 256, 512), layers: Sequence[int] = (4, 4, 4, 4), classes: int = 1000
) -> nn.Module:
    """QuickNet (Bannink et al. 2021, "Larq Compute Engine"): padded with ones, ReLU before the normalisation,
    transitions of a blurred pool and a pointwise layer."""
    first, stem = channels[0], channels[0] // 4
    made: list[nn.Module] = [
        real_conv(3, stem, 3, 2),
        nn.BatchNorm2d(stem),
        nn.ReLU(),
        real_conv(stem, stem, 3, 2, groups=stem),
        nn.BatchNorm2d(stem),
        real_conv(stem, first, 1),
        nn.BatchNorm2d(first),
    ]
    for section, (width, count) in enumerate(zip(channels, layers, strict=True)):
        if section:
            before = channels[section - 1]
            made += [nn.ReLU(), nn.MaxPool2d(3, 1, 1), Blur(before)]
            made += [real_conv(before, width, 1), nn.BatchNorm2d(width)]
        for _ in range(count):
            conv = BinaryConv2d(width, width, pad_value=1.0)
            made.append(Residual(nn.Sequential(conv, nn.ReLU(), nn.BatchNorm2d(width))))
    return nn.Sequential(*made, nn.ReLU(), classifier(channels[-1], classes))


class Blur(nn.Module):
    """A binomial filter of 3x3 on each channel, stride 2."""

    def __init__(self, channels: int):
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        self.conv = real_conv(channels, channels, 3, 2, groups=channels)
        self.conv.weight = nn.Parameter(torch.outer(line, line).expand(channels, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Half the extent."""
        return self.conv(x)


def bi_realnet18(
    channels: Sequence[int] = (64, 128, 256, 512),
    classes: int = 1000,
    binarize: Binarizer = sign,
    layers: int = 4,
) -> nn.Module:
    """Bi-RealNet-18 (Liu et al. 2018): a shortcut around every binary layer."""
    made = imagenet_stem(channels[0])
    width = channels[0]
    for section, outputs in enumerate(channels):
        for layer in range(layers):
            stride = 2 if section and not layer else 1
            conv = BinaryConv2d(width, outputs, 3, stride, scaled=True, binarize=binarize)
            shortcut = smaller(width, outputs) if stride == 2 else None
            made.append(Residual(nn.Sequential(conv, nn.BatchNorm2d(outputs)), shortcut))
            width = outputs
    return nn.Sequential(*made, classifier(width, classes))


class ReActBlock(nn.Module):
    """3x3 at the same width, then 1x1, twice side by side where the width doubles; RSign is a shift before
    the sign, RPReLU a PReLU between two shifts."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.spatial = nn.Sequential(
            Shift(inputs),
            BinaryConv2d(inputs, inputs, 3, stride, scaled=True, binarize=sign),
            nn.BatchNorm2d(inputs),
        )
        self.shortcut = nn.AvgPool2d(2) if stride == 2 else nn.Identity()
        self.after_spatial = _rprelu(inputs)
        self.shift = Shift(inputs)
        self.pointwise = nn.ModuleList(
            nn.Sequential(BinaryConv2d(inputs, inputs, 1, scaled=True, binarize=sign), nn.BatchNorm2d(inputs))
            for _ in range(outputs // inputs)
        )
        self.after_pointwise = _rprelu(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        middle = self.after_spatial(self.spatial(x) + self.shortcut(x))
        shifted = self.shift(middle)
        parts = [pointwise(shifted) + middle for pointwise in self.pointwise]
        return self.after_pointwise(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))


def _rprelu(channels: int) -> nn.Sequential:
    return nn.Sequential(Shift(channels), nn.PReLU(channels), Shift(channels))


def reactnet_a(width: int = 32, repeated: int = 5, classes: int = 1000) -> nn.Module:
    """ReActNet-A (Liu et al. 2020) on the plan of MobileNet: `width` to 32 times `width` channels."""
    plan = [(1, 2, 1), (2, 4, 2), (4, 4, 1), (4, 8, 2), (8, 8, 1), (8, 16, 2)]
    plan += [(16, 16, 1)] * repeated + [(16, 32, 2), (32, 32, 1)]
    made: list[nn.Module] = [real_conv(3, width, 3, 2), nn.BatchNorm2d(width)]
    made += [ReActBlock(width * inputs, width * outputs, stride) for inputs, outputs, stride in plan]
    return nn.Sequential(*made, classifier(32 * width, classes))


class RescaledConv(nn.Module):
    """A binary layer whose outputs are scaled by what a small dense network makes of the means of its real
    inputs."""

    def __init__(self, inputs: int, outputs: int, stride: int, reduction: int = 8):
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = BinaryConv2d(inputs, outputs, 3, stride)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(inputs, inputs // reduction, 1),
            nn.ReLU(),
            nn.Conv2d(inputs // reduction, outputs, 1),
            nn.Sigmoid(),
        )
        self.after = nn.PReLU(outputs)
        # What the gate scales would be as large as the root of the sum's length; trained weights see to that.
        self.usual_scale = (9 * inputs) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        scale = self.gate(x) * self.usual_scale
        return self.after(self.conv(self.norm(x)) * scale)


def real_to_binary(
    channels: Sequence[int] = (64, 128, 256, 512), layers: int = 4, classes: int = 1000
) -> nn.Module:
    """Real-to-Binary (Martinez et al. 2020): ResNet-18, each output scaled by a gate on the real inputs."""
    made = imagenet_stem(channels[0])
    width = channels[0]
    for section, outputs in enumerate(channels):
        for layer in range(layers):
            stride = 2 if section and not layer else 1
            shortcut = smaller(width, outputs) if stride == 2 else None
            made.append(Residual(RescaledConv(width, outputs, stride), shortcut))
            width = outputs
    return nn.Sequential(*made, classifier(width, classes))
