# SPDX-License-Identifier: Apache-2.0
"""What the published binary networks are built of, as PyTorch modules for inference.

Images are [N, C, H, W]. Weights are random: what is measured and compared is arithmetic, not accuracy.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Binarizer = Callable[[Tensor], Tensor]
"""Numbers to -1 and +1 (some to 0 at 0)."""


def sign(x: Tensor) -> Tensor:
    """As PyTorch has it: 0 at 0."""
    return torch.sign(x)


def positive_sign(x: Tensor) -> Tensor:
    """+1 at 0, as in Larq, BMXNet and FINN."""
    return torch.where(x >= 0, 1.0, -1.0)


class BinaryConv2d(nn.Module):
    """Convolution of binarized activations with binarized weights, without bias.

    scaled: weights carry the mean of |w| of their output channel. pad_value: what surrounds the image."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        padding: int | None = None,
        pad_value: float = 0.0,
        scaled: bool = False,
        binarize: Binarizer = positive_sign,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.stride, self.scaled, self.binarize = stride, scaled, binarize
        self.padding = kernel // 2 if padding is None else padding
        self.pad_value = pad_value

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H', W']."""
        weight = positive_sign(self.weight)
        if self.scaled:
            weight = weight * self.weight.abs().mean(dim=(1, 2, 3), keepdim=True)
        x, padding = self.binarize(x), self.padding
        if self.pad_value and padding:
            x, padding = functional.pad(x, [padding] * 4, value=self.pad_value), 0
        return functional.conv2d(x, weight, stride=self.stride, padding=padding)


class BinaryLinear(nn.Module):
    """Dense layer of binarized activations and weights, without bias."""

    def __init__(self, inputs: int, outputs: int, *, scaled: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.scaled = scaled

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs] to [N, outputs]."""
        weight = positive_sign(self.weight)
        if self.scaled:
            weight = weight * self.weight.abs().mean(dim=1, keepdim=True)
        return functional.linear(positive_sign(x), weight)


class Shift(nn.Module):
    """A trained bias for each channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(0.1 * torch.randn(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x + self.bias


def real_conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A real-valued convolution that keeps the extent (of stride 1), without bias."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def classifier(channels: int, classes: int) -> nn.Sequential:
    """Mean over the image, then a real-valued dense layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def settle(network: nn.Module, image: Tensor) -> nn.Module:
    """The network in evaluation mode, as if trained: batch normalisations know the statistics of their
    inputs, and have gains (some below 0) and biases of their own; PReLUs have a slope for each channel."""
    generator = torch.Generator().manual_seed(2)

    def random(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.momentum = None
                module.weight.copy_(1 + 0.3 * random(module.weight))
                module.weight[::9] *= -1
                module.bias.copy_(0.3 * random(module.bias))
            elif isinstance(module, nn.PReLU):
                module.weight.copy_(0.25 + 0.1 * random(module.weight))
        network.train()
        network(torch.cat([image, random(image)]))
    return network.eval()
