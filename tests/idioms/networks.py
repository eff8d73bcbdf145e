# SPDX-License-Identifier: Apache-2.0
"""Small networks in the idioms of the literature: a real stem, layers meant binary, a real classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.idioms.activations import BIPOLAR, UNIPOLAR, Activation
from tests.idioms.weights import WEIGHTS, WeightForm, per_output, xnor

SIZE = 8
"""Height and width of the input images."""


class BinaryConv(nn.Module):
    """A convolution (1-d or 2-d) with weights in one of the forms; `padding` may be a value other than 0."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        form: WeightForm,
        kernel: int = 3,
        pad_value: float = 0.0,
        **options: int,
    ):
        super().__init__()
        self.form, self.kernel, self.pad_value, self.options = form, kernel, pad_value, options
        self.dimensions = options.pop("dimensions", 2)
        shape = (outputs, inputs // options.get("groups", 1), *[kernel] * self.dimensions)
        self.weight = nn.Parameter(torch.randn(shape) * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Pad, convolve."""
        reach = (self.kernel - 1) * self.options.get("dilation", 1) // 2
        if self.pad_value:
            x, reach = F.pad(x, [reach] * (2 * self.dimensions), value=self.pad_value), 0
        convolve: Any = F.conv2d if self.dimensions == 2 else F.conv1d
        return convolve(x, self.form(self.weight), padding=reach, **self.options)


class TransposedConv(nn.Module):
    """A transposed convolution with binary weights."""

    def __init__(self, inputs: int, outputs: int, kernel: int, **options: Any):
        super().__init__()
        self.options = options
        groups = options.get("groups", 1)
        self.weight = nn.Parameter(torch.randn(inputs, outputs // groups, kernel, kernel))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return F.conv_transpose2d(x, torch.sign(self.weight), **self.options)


class BinaryLinear(nn.Module):
    """A dense layer with binary weights, over the last dimension of x."""

    def __init__(self, inputs: int, outputs: int, form: WeightForm):
        super().__init__()
        self.form = form
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * 0.5)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return F.linear(x, self.form(self.weight), self.bias)


class Act(nn.Module):
    """A function as a module."""

    def __init__(self, function: Activation):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return self.function(x)


class Learnable(nn.Module):
    """RSign: a trained offset for every channel before an activation."""

    def __init__(self, channels: int, function: Activation):
        super().__init__()
        self.offset = nn.Parameter(torch.randn(1, channels, 1, 1) * 0.3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Move, then binarise."""
        return self.function(x + self.offset.expand_as(x))


class RPReLU(nn.Module):
    """ReActNet's activation: moved, PReLU, moved."""

    def __init__(self, channels: int):
        super().__init__()
        self.before = nn.Parameter(torch.randn(1, channels, 1, 1) * 0.3)
        self.after = nn.Parameter(torch.randn(1, channels, 1, 1) * 0.3)
        self.prelu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """In this order."""
        return self.prelu(x + self.before.expand_as(x)) + self.after.expand_as(x)


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Add."""
        return self.layers(x) + x


class KMap(nn.Module):
    """XNOR-Net: sign(x) * sign(w) scaled by alpha of the weights and K of the input."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """The map of mean magnitudes, averaged over the window, times the binary convolution."""
        means = x.abs().mean(1, keepdim=True)
        k_map = F.conv2d(means, torch.full((1, 1, 3, 3), 1 / 9), padding=1)
        y = F.conv2d(torch.sign(x), torch.sign(self.weight), padding=1)
        return y * k_map * per_output(self.weight).view(1, -1, 1, 1)


class AdaBinActivation(nn.Module):
    """AdaBin: alpha * sign((x - beta) / alpha) + beta."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.tensor(0.75)), nn.Parameter(torch.tensor(0.25))

    def forward(self, x: Tensor) -> Tensor:
        """Two levels, beta - alpha and beta + alpha."""
        return self.alpha * torch.sign((x - self.beta) / self.alpha) + self.beta


class Hoyer(nn.Module):
    """Hoyer-regularised activations with a trained threshold for every channel."""

    def __init__(self, channels: int, in_place: bool):
        super().__init__()
        self.threshold = nn.Parameter(torch.randn(1, channels, 1, 1))
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        """0 or 1."""
        y = torch.clamp(x / self.threshold.abs(), 0.0, 1.0)
        if not self.in_place:
            return torch.where(y >= 0.5, 1.0, 0.0)
        out = y.clone()
        out[y >= 0.5] = 1.0
        out[y < 0.5] = 0.0
        return out


class Sequence(nn.Module):
    """A network over a sequence [n, c, length]."""

    def __init__(self, channels: int):
        super().__init__()
        self.stem = nn.Conv1d(3, channels, 5, padding=2)
        self.binary = BinaryConv(channels, channels, WEIGHTS["signs"], dimensions=1)
        self.norm = nn.BatchNorm1d(channels)
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Rows of the image one after the other are the sequence."""
        x = self.stem(x.flatten(2))
        return self.classifier(self.norm(self.binary(torch.sign(x))).mean(2))


class Tokens(nn.Module):
    """Binary dense layers over tokens [n, t, c] and heads [n, h, t, c]."""

    def __init__(self, channels: int):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.first = BinaryLinear(channels, channels, WEIGHTS["xnor"])
        self.second = BinaryLinear(SIZE, channels, WEIGHTS["signs"])
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Three dimensions, then four."""
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = self.first(torch.sign(x))
        x = x.transpose(1, 2).reshape(len(x), -1, SIZE, SIZE)
        return self.classifier(self.second(torch.sign(x)).mean((1, 2)))


class Perceptron(nn.Module):
    """BinaryNet's dense network."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(3 * SIZE * SIZE, width),
            nn.BatchNorm1d(width),
            nn.Hardtanh(),
            Act(BIPOLAR["sign"]),
            BinaryLinear(width, width, WEIGHTS["signs"]),
            nn.BatchNorm1d(width),
            nn.Hardtanh(),
            Act(BIPOLAR["greater_times_two"]),
            BinaryLinear(width, 10, WEIGHTS["xnor"]),
            nn.BatchNorm1d(10),
            nn.LogSoftmax(1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """One after the other."""
        return self.layers(x)


def convolutional(channels: int, *layers: nn.Module, outputs: int | None = None) -> nn.Module:
    """A real stem, the layers, and a real classifier over the mean of the image."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        *layers,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(outputs or channels, 10),
    )


def binarynet(c: int) -> nn.Module:
    """conv, pool, norm, hardtanh, sign and again."""
    sign = BIPOLAR["sign"]
    return convolutional(
        c,
        nn.Hardtanh(),
        Act(sign),
        BinaryConv(c, 2 * c, WEIGHTS["signs"]),
        nn.MaxPool2d(2, 2),
        nn.BatchNorm2d(2 * c),
        nn.Hardtanh(),
        Act(sign),
        BinaryConv(2 * c, c, WEIGHTS["signs"]),
        nn.BatchNorm2d(c),
    )


def two_layers(activation: nn.Module, form: WeightForm, c: int, **options: Any) -> nn.Module:
    """A residual block of one layer, and one layer after a pool."""
    return convolutional(
        c,
        Residual(activation, BinaryConv(c, c, form, **options), nn.BatchNorm2d(c)),
        nn.MaxPool2d(2),
        activation,
        BinaryConv(c, c + 8, form, kernel=1),
        nn.BatchNorm2d(c + 8),
        outputs=c + 8,
    )


def reactnet(c: int) -> nn.Module:
    """RSign, 3x3, RPReLU, RSign, two 1x1 side by side, RPReLU."""
    bireal = BIPOLAR["bireal"]
    return convolutional(
        c,
        Residual(Learnable(c, bireal), BinaryConv(c, c, xnor), nn.BatchNorm2d(c)),
        RPReLU(c),
        Residual(Learnable(c, bireal), BinaryConv(c, c, xnor, kernel=1), nn.BatchNorm2d(c)),
        RPReLU(c),
    )


def transposed(c: int, **options: int) -> nn.Module:
    """A decoder: a transposed convolution, then an ordinary one."""
    sign = BIPOLAR["sign"]
    return convolutional(
        c,
        Act(sign),
        TransposedConv(c, c, **options),
        nn.BatchNorm2d(c),
        Act(sign),
        BinaryConv(c, c, WEIGHTS["signs"]),
    )


@dataclass(frozen=True)
class Example:
    """A network, made by `make(channels)`, and how many rows of `inspect` have binary operands: one for each
    layer meant binary, or more where one layer is several contractions."""

    make: Callable[[int], nn.Module]
    binary: int


SIGN = BIPOLAR["sign"]
EXAMPLES: dict[str, Example] = {
    "binarynet": Example(binarynet, 2),
    "perceptron": Example(Perceptron, 2),
    "xnornet": Example(lambda c: convolutional(c, KMap(c, c), nn.BatchNorm2d(c), nn.ReLU(), KMap(c, c)), 2),
    "bireal": Example(lambda c: two_layers(Act(BIPOLAR["bireal"]), xnor, c), 2),
    "reactnet": Example(reactnet, 2),
    "irnet": Example(lambda c: two_layers(Act(SIGN), WEIGHTS["irnet"], c), 2),
    "adambnn": Example(lambda c: two_layers(Act(BIPOLAR["estimator_twice"]), xnor, c), 2),
    "dorefa": Example(lambda c: two_layers(Act(SIGN), WEIGHTS["dorefa"], c), 2),
    "compared": Example(lambda c: two_layers(Act(BIPOLAR["where_scalars"]), WEIGHTS["compared"], c), 2),
    "binaryconnect": Example(
        lambda c: two_layers(Act(BIPOLAR["hard_sigmoid_round"]), WEIGHTS["clipped_sign"], c), 2
    ),
    "bitorch": Example(lambda c: two_layers(Act(BIPOLAR["bitorch"]), WEIGHTS["signs"], c, pad_value=-1.0), 2),
    "padded_by_one": Example(
        lambda c: two_layers(Act(BIPOLAR["larq"]), WEIGHTS["signs"], c, pad_value=1.0), 2
    ),
    "adabin_weights": Example(lambda c: two_layers(Act(SIGN), WEIGHTS["adabin"], c), 4),
    "adabin": Example(lambda c: two_layers(AdaBinActivation(), WEIGHTS["adabin"], c), 4),
    "hoyer_where": Example(lambda c: two_layers(Hoyer(c, False), WEIGHTS["signs"], c), 2),
    "hoyer_in_place": Example(lambda c: two_layers(Hoyer(c, True), WEIGHTS["xnor"], c), 2),
    "dorefa_unipolar": Example(lambda c: two_layers(Act(UNIPOLAR["round_of_clip"]), WEIGHTS["dorefa"], c), 2),
    "grouped": Example(lambda c: two_layers(Act(SIGN), WEIGHTS["xnor"], c, groups=2), 2),
    "depthwise": Example(lambda c: two_layers(Act(SIGN), WEIGHTS["signs"], c, groups=c), 2),
    "dilated": Example(lambda c: two_layers(Act(SIGN), WEIGHTS["xnor"], c, dilation=2), 2),
    "sequence": Example(Sequence, 1),
    "tokens": Example(Tokens, 2),
    "upsampled": Example(lambda c: transposed(c, kernel=4, stride=2, padding=1), 5),
    "upsampled_odd": Example(lambda c: transposed(c, kernel=3, stride=2, padding=1, output_padding=1), 5),
    "upsampled_groups": Example(lambda c: transposed(c, kernel=2, stride=2, groups=2), 5),
    "transposed": Example(lambda c: transposed(c, kernel=3, stride=1, padding=1), 2),
}
"""Networks by name."""


def make_network(name: str, channels: int, seed: int = 0) -> nn.Module:
    """A network in evaluation mode with random parameters: batch norms of either sign, one scale being 0."""
    torch.manual_seed(seed)
    network = EXAMPLES[name].make(channels)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data[0] = 0
    return network.eval()
