# SPDX-License-Identifier: Apache-2.0
"""Binarised weights as training code writes them, by name: from latent weights [o, c, kh, kw] (or [o, c]) to
those that the layer uses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WeightForm = Callable[[Tensor], Tensor]


def per_output(latent: Tensor) -> Tensor:
    """[o, 1, ...]: the mean magnitude of every output channel."""
    return latent.abs().mean(dim=tuple(range(1, latent.dim())), keepdim=True)


def signs(latent: Tensor) -> Tensor:
    """BinaryNet."""
    return torch.sign(latent)


def xnor(latent: Tensor) -> Tensor:
    """XNOR-Net, Bi-Real Net: the sign times the mean magnitude, with the estimator's leftovers."""
    scale = latent.abs()
    for dimension in range(latent.dim() - 1, 0, -1):
        scale = scale.mean(dimension, keepdim=True)
    binary = scale.detach() * torch.sign(latent)
    clipped = torch.clamp(latent, -1.0, 1.0)
    return binary.detach() - clipped.detach() + clipped


def dorefa(latent: Tensor) -> Tensor:
    """DoReFa with one bit: one scale for the whole layer."""
    return torch.sign(latent) * latent.abs().mean()


def irnet(latent: Tensor) -> Tensor:
    """IR-Net: balanced, standardised, scaled by a power of two."""
    flat = latent.reshape(len(latent), -1)
    shape = (-1,) + (1,) * (latent.dim() - 1)
    balanced = latent - flat.mean(-1).view(shape)
    balanced = balanced / balanced.reshape(len(latent), -1).std(-1).view(shape)
    shift = torch.log(balanced.abs().reshape(len(latent), -1).mean(-1)) / torch.log(torch.tensor(2.0))
    return torch.sign(balanced) * torch.pow(torch.tensor(2.0), shift.round()).view(shape)


def adabin(latent: Tensor) -> Tensor:
    """AdaBin: mean + deviation * sign(w - mean), two levels that are not symmetric."""
    dims = tuple(range(1, latent.dim()))
    mean = latent.mean(dim=dims, keepdim=True)
    deviation = ((latent - mean) ** 2).mean(dim=dims, keepdim=True).sqrt()
    return mean + deviation * torch.sign(latent - mean)


def compared(latent: Tensor) -> Tensor:
    """By comparisons."""
    return torch.where(latent >= 0, 1.0, -1.0) * per_output(latent)


def clipped_sign(latent: Tensor) -> Tensor:
    """BinaryConnect: from a clipped latent weight, through {0, 1}."""
    return 2 * torch.round(torch.clamp((latent + 1) / 2, 0, 1)) - 1


WEIGHTS: dict[str, WeightForm] = {
    function.__name__: function for function in (signs, xnor, dorefa, irnet, adabin, compared, clipped_sign)
}
"""The forms by name."""
