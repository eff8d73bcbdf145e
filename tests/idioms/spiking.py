# SPDX-License-Identifier: Apache-2.0
"""Spiking neurons as PyTorch modules, in the arithmetic of the frameworks that export them, operation by
operation: a compiler that must be equal spike for spike has to be told apart from one that is nearly so.

Compared once with the frameworks themselves, snnTorch 1.0.0, SpikingJelly 2.0.0 and Norse 1.1.0, over 200
steps of 64 neurons: every spike and every state equal, bit for bit (`python -m tests.idioms.frameworks` does
it again where they are installed).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Above(torch.autograd.Function):
    """[x > 0] as numbers with a surrogate gradient, as snnTorch and Norse fire."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """The spikes."""
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Of a fast sigmoid."""
        return gradient / (1 + 25 * ctx.saved_tensors[0].abs()) ** 2


class NotBelow(Above):
    """[x >= 0] as numbers, as SpikingJelly fires."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """The spikes."""
        ctx.save_for_backward(x)
        return (x >= 0).to(x)


above: Callable[[Tensor], Tensor] = Above.apply  # type: ignore[assignment]
not_below: Callable[[Tensor], Tensor] = NotBelow.apply  # type: ignore[assignment]


class Cell(nn.Module):
    """One step of a layer of neurons: forward(x, *states) -> (output, *new states), all of the shape of x."""

    states: int = 1

    def constant(self, name: str, value: float | Tensor) -> None:
        """A parameter that is not trained, as a buffer."""
        self.register_buffer(name, torch.as_tensor(value))


class SnnTorch(Cell):
    """What snnTorch's neurons share: the reset follows a step later, or is taken back at once."""

    beta: Tensor
    threshold: Tensor
    graded: Tensor

    def __init__(self, reset: str = "subtract", delayed: bool = True, threshold: float = 1.0):
        super().__init__()
        self.reset, self.delayed = reset, delayed
        self.constant("beta", 0.875)
        self.constant("threshold", threshold)
        self.constant("graded", 1.0)

    def was_above(self, membrane: Tensor) -> Tensor:
        """Whether the membrane fired, the step before."""
        return above(membrane - self.threshold).clone().detach()

    def fired(self, membrane: Tensor, again: Tensor) -> tuple[Tensor, Tensor]:
        """(spikes, the membrane that is kept)."""
        spikes = above(membrane - self.threshold) * self.graded
        if self.delayed or self.reset == "none":
            return spikes, membrane
        owed = spikes / self.graded - again
        return spikes, membrane - owed * (self.threshold if self.reset == "subtract" else membrane)


class Leaky(SnnTorch):
    """snnTorch's Leaky."""

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        again, beta = self.was_above(v), self.beta.clamp(0, 1)
        if self.reset == "zero":
            u = beta * ((1 - again) * v) + x
        elif self.reset == "subtract":
            u = beta * v + x - again * self.threshold
        else:
            u = beta * v + x
        return self.fired(u, again)


class Lapicque(SnnTorch):
    """snnTorch's Lapicque, by resistance and capacitance."""

    def __init__(self, reset: str = "subtract"):
        super().__init__(reset)
        self.constant("r", 1.25)
        self.constant("c", 4.0)
        self.constant("dt", 1)

    def charged(self, x: Tensor, v: Tensor) -> Tensor:
        """The circuit."""
        r, c, dt = (getattr(self, name) for name in ("r", "c", "dt"))
        return x * r * (1 / (r * c)) * dt + (1 - (dt / (r * c))) * v

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        again = self.was_above(v)
        u = self.charged(x, v)
        if self.reset != "none":
            u = u - again * (self.threshold if self.reset == "subtract" else self.charged(x, v))
        return self.fired(u, again)


class Synaptic(SnnTorch):
    """snnTorch's Synaptic; RSynaptic where a layer hears itself. States: spikes if so, current, membrane."""

    alpha: Tensor

    def __init__(self, reset: str = "subtract", delayed: bool = True, recurrent: nn.Module | None = None):
        super().__init__(reset, delayed)
        self.constant("alpha", 0.75)
        self.recurrent = recurrent
        self.states = 2 if recurrent is None else 3

    def charged(self, x: Tensor, i: Tensor, v: Tensor, heard: Tensor | None) -> tuple[Tensor, Tensor]:
        """(current, membrane)."""
        i = self.alpha.clamp(0, 1) * i + x
        if heard is not None and self.recurrent is not None:
            i = i + self.recurrent(heard)
        return i, self.beta.clamp(0, 1) * v + i

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        *spikes, i, v = states
        heard = spikes[0] if spikes else None
        again = self.was_above(v)
        new, u = self.charged(x, i, v, heard)
        if self.reset == "subtract":
            u = u - again * self.threshold
        elif self.reset == "zero":
            u = u - again * self.charged(x, i, v, heard)[1]
            new = new - 0 * again
        fired, u = self.fired(u, again)
        return (fired, fired, new, u) if spikes else (fired, new, u)


class Alpha(SnnTorch):
    """snnTorch's Alpha. States: the exciting current, the inhibiting one, the membrane."""

    states = 3
    alpha: Tensor

    def __init__(self, reset: str = "zero"):
        super().__init__(reset)
        self.constant("alpha", 0.9)
        self.constant("beta", 0.8)

    def charged(self, x: Tensor, plus: Tensor, minus: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(exciting, inhibiting, membrane)."""
        alpha, beta = self.alpha.clamp(0, 1), self.beta.clamp(0, 1)
        plus, minus = alpha * plus + x, beta * minus - x
        gain = torch.log(alpha) / (torch.log(beta) - torch.log(alpha)) + 1
        return plus, minus, gain * (plus + minus)

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        plus, minus, v = states
        again = self.was_above(v)
        new = self.charged(x, plus, minus)
        off = (torch.zeros_like(x),) * 3
        if self.reset == "zero":
            off = self.charged(x, plus, minus)
        elif self.reset == "subtract":
            off = (self.threshold, self.beta.clamp(0, 1) * minus - x, -minus)
        p, m, u = (value - taken * again for value, taken in zip(new, off, strict=True))
        spikes, u = self.fired(u, again)
        return spikes, p, m, u


class RLeaky(SnnTorch):
    """snnTorch's RLeaky: a layer that hears its own spikes. States: spikes, membrane."""

    states = 2

    def __init__(self, recurrent: nn.Module, reset: str = "subtract", delayed: bool = True):
        super().__init__(reset, delayed)
        self.recurrent = recurrent

    def charged(self, x: Tensor, heard: Tensor, v: Tensor) -> Tensor:
        """The membrane."""
        return self.beta.clamp(0, 1) * v + x + self.recurrent(heard)

    def forward(self, x: Tensor, heard: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        again = self.was_above(v)
        u = self.charged(x, heard, v)
        if self.reset != "none":
            u = u - again * (self.threshold if self.reset == "subtract" else self.charged(x, heard, v))
        spikes, u = self.fired(u, again)
        return spikes, spikes, u


class OneToOne(nn.Module):
    """snnTorch's recurrence without a matrix."""

    def __init__(self, weight: float):
        super().__init__()
        self.register_buffer("v", torch.tensor(weight))

    def forward(self, x: Tensor) -> Tensor:
        """Scale."""
        return x * self.v  # type: ignore[operator]


class SpikingJelly(Cell):
    """SpikingJelly's IFNode (tau None), LIFNode and ParametricLIFNode (`learned`).

    v_reset None: reset by subtraction."""

    def __init__(
        self,
        tau: float | None = None,
        v_reset: float | None = 0.0,
        decay_input: bool = True,
        learned: bool = False,
        v_threshold: float = 1.0,
    ):
        super().__init__()
        self.tau, self.v_reset, self.decay_input, self.v_threshold = tau, v_reset, decay_input, v_threshold
        self.w = nn.Parameter(torch.tensor(0.4)) if learned else None

    def charged(self, x: Tensor, v: Tensor) -> Tensor:
        """The membrane before it fires."""
        rest = 0.0 if self.v_reset is None else self.v_reset
        if self.w is not None:
            share = self.w.sigmoid()
            return v + (x - (v - rest)) * share if self.decay_input else v - (v - rest) * share + x
        if self.tau is None:
            return v + x
        return v + (x - (v - rest)) / self.tau if self.decay_input else v - (v - rest) / self.tau + x

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        u = self.charged(x, v)
        spikes = not_below(u - self.v_threshold)
        if self.v_reset is None:
            return spikes, u - spikes * self.v_threshold
        return spikes, (1.0 - spikes) * u + spikes * self.v_reset


class SpikingJellyCurrent(Cell):
    """SpikingJelly's CUBALIFNode. States: current, membrane."""

    states = 2

    def forward(self, x: Tensor, i: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        i = i * 0.5 + x
        u = v * 0.75 + i
        spikes = not_below(u - 1.0)
        return spikes, i, (1.0 - spikes) * u + spikes * 0.0


class Norse(Cell):
    """Norse's LIFCell, LIFRecurrentCell with a matrix. States: spikes if recurrent, membrane, current."""

    def __init__(self, recurrent: nn.Module | None = None, tau_mem_inv: float = 200.0, dt: float = 1e-3):
        super().__init__()
        self.recurrent, self.dt = recurrent, dt
        self.states = 2 if recurrent is None else 3
        for name, value in (
            ("tau_syn_inv", 250.0),
            ("tau_mem_inv", tau_mem_inv),
            ("v_leak", 0.0),
            ("v_th", 0.5),
            ("v_reset", 0.0),
        ):
            self.constant(name, value)

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        *heard, v, i = states
        syn, mem, leak, threshold, reset = (
            getattr(self, name) for name in ("tau_syn_inv", "tau_mem_inv", "v_leak", "v_th", "v_reset")
        )
        i = i + x
        if heard and self.recurrent is not None:
            i = i + self.recurrent(heard[0])
        u = v + self.dt * mem * ((leak - v) + i)
        i = i + -self.dt * syn * i
        spikes = above(u - threshold)
        u = (1 - spikes.detach()) * u + spikes.detach() * reset
        return (spikes, spikes, u, i) if heard else (spikes, u, i)


class NorseBox(Cell):
    """Norse's LIFBoxCell: no synaptic current."""

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        u = v + 1e-3 * 200.0 * ((0.0 - v) + x)
        spikes = above(u - 0.25)
        return spikes, (1 - spikes) * u + spikes * 0.0


class NorseAdaptive(Cell):
    """Norse's LSNNRecurrentCell: a threshold that spikes raise. States: spikes, membrane, current, threshold
    (its own, which begins at 0 here)."""

    states = 4

    def __init__(self, recurrent: nn.Module):
        super().__init__()
        self.recurrent = recurrent
        self.constant("membrane_rate", 200.0)
        self.constant("current_rate", 250.0)
        self.constant("threshold_rate", 20.0)

    def forward(self, x: Tensor, heard: Tensor, v: Tensor, i: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        membrane, synapse, threshold = (
            getattr(self, f"{name}_rate") for name in ("membrane", "current", "threshold")
        )
        u = v + 1e-3 * membrane * ((0.0 - v) + i)
        current = i + -1e-3 * synapse * i
        level = b + 1e-3 * threshold * (0.5 - b)
        spikes = above(u - level)
        u = (1 - spikes) * u + spikes * 0.0
        return spikes, spikes, u, current + x + self.recurrent(heard), level + spikes * 0.25


class Adaptive(Cell):
    """The adaptive LIF of Bellec et al. (2018). States: membrane, adaptation."""

    states = 2

    def __init__(self, reset: str = "subtract"):
        super().__init__()
        self.reset = reset

    def forward(self, x: Tensor, v: Tensor, a: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        level = 0.5 + 0.25 * a
        u = 0.875 * v + x
        spikes = above(u - level)
        kept = u - spikes * level if self.reset == "subtract" else u * (1 - spikes)
        return spikes, kept, 0.9375 * a + spikes


class AdaptiveSpiking(Cell):
    """The adaptive spiking neuron (Zambrano et al., 2019), one step of 1 ms. States: current, its filter, the
    estimate of the signal, what spikes raise the threshold by."""

    states = 4

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        i, s, estimate, raised = states
        i = 0.98019867 * i + x
        s = 0.32967995 * i + 0.67032005 * s
        estimate = 0.98019867 * estimate
        level = 0.1 + raised
        spikes = (s - estimate > level / 2).float()
        jump = level * spikes
        return spikes, i, s, estimate + jump, 0.93550698 * (raised + 0.1 * jump)


class MultiSpike(Cell):
    """Sinabs' IAF: as many spikes as fit, the membrane not below its lowest."""

    def __init__(self, lowest: float | None = -1.0):
        super().__init__()
        self.lowest = lowest

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        u = v + x
        spikes = (u > 0) * torch.div(u, 0.75, rounding_mode="floor").float()
        u = u - spikes * 0.75
        return spikes, u if self.lowest is None else F.relu(u - self.lowest) + self.lowest


class LeakyReadout(Cell):
    """A leaky integrator, which does not fire."""

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        u = 0.875 * v + x
        return u, u


def dyadic(*shape: int, unit: int = 64, seed: int = 0) -> Tensor:
    """Weights whose sums are exact in float32: multiples of 1 / unit."""
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.round(numbers * 0.5 * unit) / unit


def matrix(size: int) -> nn.Linear:
    """Weights of a layer that hears itself."""
    layer = nn.Linear(size, size)
    with torch.no_grad():
        layer.weight.copy_(dyadic(size, size, seed=7) / 4)
        layer.bias.copy_(dyadic(size, seed=8) / 4)
    return layer


@dataclass(frozen=True)
class Idiom:
    """A neuron: how it is made for a layer of a size, and what `inspect` calls it."""

    make: Callable[[int], Cell]
    called: str = ""
    fires: bool = True
    is_dense: bool = False
    """Whether it is made for vectors only."""
    drive: float = 1.0
    """What weights are multiplied by, that it fires."""


NEURONS: dict[str, Idiom] = {
    "snntorch_leaky": Idiom(lambda n: Leaky(), "lif, subtract, >, delayed"),
    "snntorch_leaky_zero": Idiom(lambda n: Leaky("zero"), "lif, zero, >, delayed"),
    "snntorch_leaky_none": Idiom(lambda n: Leaky("none"), "lif, none, >"),
    "snntorch_leaky_at_once": Idiom(lambda n: Leaky("subtract", False), "lif, subtract, >"),
    "snntorch_leaky_zero_at_once": Idiom(lambda n: Leaky("zero", False), "lif, zero, >"),
    "snntorch_lapicque": Idiom(lambda n: Lapicque(), "lif, subtract, >, delayed", drive=4),
    "snntorch_lapicque_zero": Idiom(lambda n: Lapicque("zero"), "lif, zero, >, delayed", drive=4),
    "snntorch_synaptic": Idiom(lambda n: Synaptic(), "cuba_lif, subtract, >, delayed"),
    "snntorch_synaptic_zero": Idiom(lambda n: Synaptic("zero"), "cuba_lif, zero, >, delayed"),
    "snntorch_synaptic_at_once": Idiom(lambda n: Synaptic("subtract", False), "cuba_lif, subtract, >"),
    "snntorch_alpha": Idiom(lambda n: Alpha()),
    "snntorch_alpha_subtract": Idiom(lambda n: Alpha("subtract")),
    "snntorch_rleaky": Idiom(lambda n: RLeaky(matrix(n)), "recurrent_lif, subtract, >, delayed", True, True),
    "snntorch_rleaky_zero_one_to_one": Idiom(
        lambda n: RLeaky(OneToOne(-0.25), "zero"), "recurrent_lif, zero, >, delayed"
    ),
    "snntorch_rsynaptic": Idiom(
        lambda n: Synaptic(recurrent=matrix(n)), "recurrent_lif, subtract, >, delayed", True, True
    ),
    "spikingjelly_if": Idiom(lambda n: SpikingJelly(), "if, zero, >="),
    "spikingjelly_if_soft": Idiom(lambda n: SpikingJelly(v_reset=None), "if, subtract, >="),
    "spikingjelly_lif": Idiom(lambda n: SpikingJelly(2.0), "lif, zero, >=", drive=2),
    "spikingjelly_lif_value": Idiom(lambda n: SpikingJelly(2.0, v_reset=-0.25), "lif, value, >=", drive=4),
    "spikingjelly_lif_soft": Idiom(lambda n: SpikingJelly(2.0, v_reset=None), "lif, subtract, >=", drive=2),
    "spikingjelly_lif_undecayed": Idiom(lambda n: SpikingJelly(3.0, decay_input=False), "lif, zero, >="),
    "spikingjelly_plif": Idiom(lambda n: SpikingJelly(2.0, learned=True), "lif, zero, >=", drive=2),
    "spikingjelly_cuba": Idiom(lambda n: SpikingJellyCurrent(), "cuba_lif, zero, >="),
    "norse_lif": Idiom(lambda n: Norse(), "cuba_lif, zero, >"),
    "norse_lif_box": Idiom(lambda n: NorseBox(), "lif, zero, >"),
    "norse_lif_recurrent": Idiom(lambda n: Norse(matrix(n)), "recurrent_lif, zero, >", True, True),
    "norse_lsnn": Idiom(lambda n: NorseAdaptive(matrix(n)), "adaptive_lif, zero, >", True, True),
    "adaptive_lif": Idiom(lambda n: Adaptive(), "adaptive_lif, subtract, >"),
    "adaptive_lif_zero": Idiom(lambda n: Adaptive("zero"), "adaptive_lif, zero, >"),
    "adaptive_spiking": Idiom(lambda n: AdaptiveSpiking(), "adaptive_spiking, subtract, >"),
    "sinabs_iaf": Idiom(lambda n: MultiSpike(), "multi_spike_if, multi, floor"),
    "sinabs_iaf_unbounded": Idiom(lambda n: MultiSpike(None), "multi_spike_if, multi, floor"),
    "readout": Idiom(lambda n: LeakyReadout(), "leaky", fires=False),
}
"""Every neuron by its name."""
