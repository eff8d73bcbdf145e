# SPDX-License-Identifier: Apache-2.0
"""Binarised activations as training code writes them, by name. Each takes x and gives -1, (0,) +1 or 0, 1.

Custom autograd functions export as what their forward computes, so forwards alone are listed here."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Callable[[Tensor], Tensor]


def sign(x: Tensor) -> Tensor:
    """BinaryNet, XNOR-Net, IR-Net, ReCU."""
    return torch.sign(x)


def polynomial(x: Tensor) -> Tensor:
    """The piecewise polynomial of Bi-Real Net, as its authors wrote it."""
    mask1, mask2, mask3 = x < -1, x < 0, x < 1
    out1 = (-1) * mask1.type(torch.float32) + (x * x + 2 * x) * (1 - mask1.type(torch.float32))
    out2 = out1 * mask2.type(torch.float32) + (-x * x + 2 * x) * (1 - mask2.type(torch.float32))
    return out2 * mask3.type(torch.float32) + 1 * (1 - mask3.type(torch.float32))


def bireal(x: Tensor) -> Tensor:
    """sign - P + P: Bi-Real Net, ReActNet."""
    estimate = polynomial(x)
    return torch.sign(x).detach() - estimate.detach() + estimate


def estimator_last(x: Tensor) -> Tensor:
    """P + (sign - P) with a clip."""
    estimate = torch.clamp(x, -1.0, 1.0)
    return estimate + (torch.sign(x) - estimate).detach()


def estimator_twice(x: Tensor) -> Tensor:
    """(sign - P) + P where P is computed twice: AdamBNN with hardtanh."""
    return (torch.sign(x) - F.hardtanh(x)).detach() + F.hardtanh(x)


def estimator_tanh(x: Tensor) -> Tensor:
    """sign - tanh(k x) + tanh(k x): an annealed estimator."""
    return torch.sign(x).detach() - torch.tanh(2 * x).detach() + torch.tanh(2 * x)


def estimator_first(x: Tensor) -> Tensor:
    """(P + sign) - P."""
    estimate = torch.tanh(x)
    return (estimate + torch.sign(x)) - estimate


def estimator_of_where(x: Tensor) -> Tensor:
    """An estimator around the other convention of sign(0)."""
    binary = torch.where(x >= 0, 1.0, -1.0)
    estimate = x.clamp(-1, 1)
    return (binary - estimate).detach() + estimate


def straight_through(x: Tensor) -> Tensor:
    """x + (sign(x) - x): the identity as estimator, exact where |x| is small only."""
    estimate = x.clamp(-1, 1)
    return estimate - (estimate - torch.sign(x)).detach()


def bitorch(x: Tensor) -> Tensor:
    """where(sign == 0, 1, sign)."""
    signs = torch.sign(x)
    return torch.where(signs == 0, torch.tensor(1.0), signs)


def bitorch_in_place(x: Tensor) -> Tensor:
    """sign[sign == 0] = 1."""
    signs = torch.sign(x)
    signs[signs == 0] = 1
    return signs


def sign_plus_zero(x: Tensor) -> Tensor:
    """sign + (x == 0)."""
    return torch.sign(x) + (x == 0).float()


def larq(x: Tensor) -> Tensor:
    """sign(sign(x) + 0.1)."""
    return torch.sign(torch.sign(x) + 0.1)


def where_scalars(x: Tensor) -> Tensor:
    """where with two numbers."""
    return torch.where(x >= 0, 1.0, -1.0)


def where_tensors(x: Tensor) -> Tensor:
    """where with two tensors, the other way round."""
    return torch.where(x < 0, -torch.ones_like(x), torch.ones_like(x))


def greater_times_two(x: Tensor) -> Tensor:
    """2 (x > 0) - 1, so sign(0) = -1."""
    return (x > 0).float() * 2 - 1


def not_less(x: Tensor) -> Tensor:
    """1 - 2 (x < 0)."""
    return 1 - 2 * (x < 0).to(x.dtype)


def logical_not(x: Tensor) -> Tensor:
    """The negation of a comparison."""
    return torch.where(torch.logical_not(x < 0), 1.0, -1.0)


def two_comparisons(x: Tensor) -> Tensor:
    """(x > 0) - (x < 0), which is sign."""
    return (x > 0).float() - (x < 0).float()


def integers(x: Tensor) -> Tensor:
    """A comparison by way of integers."""
    return ((x >= 0).int() * 2 - 1).float()


def in_place(x: Tensor) -> Tensor:
    """out[x >= 0] = 1; out[x < 0] = -1."""
    out = x.clone()
    out[x >= 0] = 1
    out[x < 0] = -1
    return out


def masked_fill(x: Tensor) -> Tensor:
    """The same by masked_fill."""
    return x.masked_fill(x >= 0, 1.0).masked_fill(x < 0, -1.0)


def index_put(x: Tensor) -> Tensor:
    """The same by index_put of tensors."""
    out = torch.full_like(x, -1.0)
    return out.index_put((x >= 0,), torch.tensor(1.0))


def hard_sigmoid_round(x: Tensor) -> Tensor:
    """2 round(clip((x + 1) / 2, 0, 1)) - 1: BinaryConnect's deterministic form."""
    return 2 * torch.round(torch.clamp((x + 1) / 2, 0, 1)) - 1


def scaled(x: Tensor) -> Tensor:
    """A common factor on the activation."""
    return 0.75 * torch.sign(x)


BIPOLAR: dict[str, Activation] = {
    function.__name__: function
    for function in (
        sign, bireal, estimator_last, estimator_twice, estimator_tanh, estimator_first, estimator_of_where,
        straight_through, bitorch, bitorch_in_place, sign_plus_zero, larq, where_scalars, where_tensors,
        greater_times_two, not_less, logical_not, two_comparisons, integers, in_place, masked_fill, index_put,
        hard_sigmoid_round, scaled,
    )
}  # fmt: skip
"""Activations of two signs, some with 0 in between."""


def hoyer(x: Tensor) -> Tensor:
    """A Hoyer-regularised activation: by the trained threshold, clamped, compared."""
    y = torch.clamp(x / torch.tensor(0.75).abs(), 0.0, 1.0)
    return torch.where(y >= 0.5, 1.0, 0.0)


def hoyer_in_place(x: Tensor) -> Tensor:
    """The same by assignments to a clone."""
    y = torch.clamp(x / torch.tensor(0.75).abs(), 0.0, 1.0)
    out = y.clone()
    out[y >= 0.5] = 1.0
    out[y < 0.5] = 0.0
    return out


def hoyer_cast(x: Tensor) -> Tensor:
    """The same by a cast."""
    return (torch.clamp(x / torch.tensor(0.75).abs(), 0.0, 1.0) > 0.5).float()


def round_of_clip(x: Tensor) -> Tensor:
    """DoReFa with one bit: round(clip(x, 0, 1))."""
    return torch.round(torch.clamp(x, 0, 1))


def relu_of_sign(x: Tensor) -> Tensor:
    """max(sign(x), 0)."""
    return F.relu(torch.sign(x))


def heaviside(x: Tensor) -> Tensor:
    """(sign(x) + 1) / 2 of a larq-like sign."""
    return (torch.sign(torch.sign(x) + 0.1) + 1) / 2


UNIPOLAR: dict[str, Activation] = {
    function.__name__: function
    for function in (hoyer, hoyer_in_place, hoyer_cast, round_of_clip, relu_of_sign, heaviside)
}
"""Activations of 0 and 1."""
