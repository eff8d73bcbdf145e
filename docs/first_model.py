# SPDX-License-Identifier: Apache-2.0
"""A first binary network: trained in half a minute on images made here, exported as halves.onnx.

pip install 'bnncc[torch]' brings what it needs.
"""

import torch
from torch import nn


class Binarize(torch.autograd.Function):
    """-1 or +1; the gradient passes straight through where |x| <= 1."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


class BinaryConv2d(nn.Conv2d):
    """A convolution whose input and weight are binarised first."""

    def forward(self, x):
        weight = Binarize.apply(self.weight)
        return nn.functional.conv2d(Binarize.apply(x), weight, None, self.stride, self.padding)


def main():
    """Is the left half of an image brighter than the right one? Train, and write halves.onnx."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        BinaryConv2d(32, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.MaxPool2d(2),
        BinaryConv2d(64, 64, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.Flatten(),
        nn.Linear(256, 2),
    )
    images = torch.randn(2000, 1, 8, 8)
    labels = (images[..., :4].sum((1, 2, 3)) > images[..., 4:].sum((1, 2, 3))).long()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(200):
        chosen = torch.randint(0, len(images), (100,))
        loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    right = (network(images).argmax(1) == labels).sum().item()
    print(f"{right} of {len(images)} right")
    names = {"input_names": ["image"], "output_names": ["score"]}
    torch.onnx.export(network, images[:1], "halves.onnx", dynamo=False, **names)


if __name__ == "__main__":
    main()
