# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.idioms.frameworks`: the neurons of tests/idioms/spiking.py beside the frameworks' own,
where these are installed.

    pip install --no-deps snntorch==1.0.0 spikingjelly==2.0.0 norse==1.1.0 nirtorch loguru

Spikes and states must be equal, bit for bit. The tests do without the frameworks, whose requirements are
other versions of what bnncc needs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from tests.idioms.spiking import NEURONS, Cell, OneToOne, matrix

SIZE, STEPS = 64, 200

Step = Callable[..., tuple[Tensor, ...]]
"""As a Cell: (x, *states) -> (output, *new states)."""


def snntorch() -> dict[str, Step]:
    """snnTorch's neurons, with our states in our order."""
    import snntorch as snn  # type: ignore[import-not-found]

    def same(neuron: Any) -> Step:
        return neuron

    def recurrent(neuron: Any, module: nn.Module) -> Step:
        neuron.recurrent = module

        def step(x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
            spikes, *rest = neuron(x, *states)
            return spikes, spikes, *rest

        return step

    return {
        "snntorch_leaky": same(snn.Leaky(0.875)),
        "snntorch_leaky_zero": same(snn.Leaky(0.875, reset_mechanism="zero")),
        "snntorch_leaky_none": same(snn.Leaky(0.875, reset_mechanism="none")),
        "snntorch_leaky_at_once": same(snn.Leaky(0.875, reset_delay=False)),
        "snntorch_leaky_zero_at_once": same(snn.Leaky(0.875, reset_mechanism="zero", reset_delay=False)),
        "snntorch_lapicque": same(snn.Lapicque(R=1.25, C=4.0)),
        "snntorch_lapicque_zero": same(snn.Lapicque(R=1.25, C=4.0, reset_mechanism="zero")),
        "snntorch_synaptic": same(snn.Synaptic(0.75, 0.875)),
        "snntorch_synaptic_zero": same(snn.Synaptic(0.75, 0.875, reset_mechanism="zero")),
        "snntorch_synaptic_at_once": same(snn.Synaptic(0.75, 0.875, reset_delay=False)),
        "snntorch_alpha": same(snn.Alpha(0.9, 0.8)),
        "snntorch_alpha_subtract": same(snn.Alpha(0.9, 0.8, reset_mechanism="subtract")),
        "snntorch_rleaky": recurrent(snn.RLeaky(0.875, linear_features=SIZE), matrix(SIZE)),
        "snntorch_rleaky_zero_one_to_one": recurrent(
            snn.RLeaky(0.875, V=-0.25, all_to_all=False, reset_mechanism="zero"), OneToOne(-0.25)
        ),
        "snntorch_rsynaptic": recurrent(snn.RSynaptic(0.75, 0.875, linear_features=SIZE), matrix(SIZE)),
    }


def spikingjelly() -> dict[str, Step]:
    """SpikingJelly's neurons."""
    from spikingjelly.activation_based import functional, neuron  # type: ignore[import-not-found]

    def membrane(node: Any) -> Step:
        def step(x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            functional.reset_net(node)
            node.v = v
            return node(x), node.v

        return step

    def cuba(x: Tensor, i: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        from spikingjelly.activation_based import surrogate  # type: ignore[import-not-found]

        return functional.cuba_lif_step(x, i, v, 0.5, 0.75, 1.0, 0.0, surrogate.Sigmoid())

    learned = neuron.ParametricLIFNode()
    with torch.no_grad():
        learned.w.fill_(0.4)
    return {
        "spikingjelly_if": membrane(neuron.IFNode()),
        "spikingjelly_if_soft": membrane(neuron.IFNode(v_reset=None)),
        "spikingjelly_lif": membrane(neuron.LIFNode(2.0)),
        "spikingjelly_lif_value": membrane(neuron.LIFNode(2.0, v_reset=-0.25)),
        "spikingjelly_lif_soft": membrane(neuron.LIFNode(2.0, v_reset=None)),
        "spikingjelly_lif_undecayed": membrane(neuron.LIFNode(3.0, decay_input=False)),
        "spikingjelly_plif": membrane(learned),
        "spikingjelly_cuba": cuba,
    }


def norse() -> dict[str, Step]:
    """Norse's neurons; recurrent ones hear through our matrix."""
    from norse.torch.functional import lif, lif_box, lsnn  # type: ignore[import-not-found]

    def numbers(**values: float) -> dict[str, Tensor]:
        return {name: torch.as_tensor(value) for name, value in values.items()}

    leaky = lif.LIFParameters(**numbers(tau_syn_inv=250.0, tau_mem_inv=200.0, v_th=0.5))
    box = lif_box.LIFBoxParameters(**numbers(tau_mem_inv=200.0, v_th=0.25))
    adaptive = lsnn.LSNNParameters(
        **numbers(tau_syn_inv=250.0, tau_mem_inv=200.0, tau_adapt_inv=20.0, v_th=0.5, beta=0.25)
    )
    heard_by, eye = without_bias(matrix(SIZE)), torch.eye(SIZE)

    def forward(x: Tensor, v: Tensor, i: Tensor) -> tuple[Tensor, ...]:
        z, state = lif.lif_feed_forward_step(x, lif.LIFFeedForwardState(v, i), leaky)
        return z, state.v, state.i

    def boxed(x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        z, state = lif_box.lif_box_feed_forward_step(x, lif_box.LIFBoxFeedForwardState(v), box)
        return z, state.v

    def recurrent(x: Tensor, z: Tensor, v: Tensor, i: Tensor) -> tuple[Tensor, ...]:
        z, state = lif.lif_step(x, lif.LIFState(z, v, i), eye, heard_by.weight, leaky)
        return z, z, state.v, state.i

    def long_short(x: Tensor, z: Tensor, v: Tensor, i: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        z, state = lsnn.lsnn_step(x, lsnn.LSNNState(z, v, i, b), eye, heard_by.weight, adaptive)
        return z, z, state.v, state.i, state.b

    return {
        "norse_lif": forward,
        "norse_lif_box": boxed,
        "norse_lif_recurrent": recurrent,
        "norse_lsnn": long_short,
    }


def without_bias(module: nn.Module) -> nn.Module:
    """The same, its biases 0, as Norse's recurrences have none."""
    with torch.no_grad():
        for name, values in module.named_parameters():
            if name.endswith("bias"):
                values.zero_()
    return module


FRAMEWORKS = {"snntorch": snntorch, "spikingjelly": spikingjelly, "norse": norse}


def difference(ours: Cell, theirs: Step) -> tuple[int, float, float]:
    """(spikes that differ, the largest difference of a state, the share of spikes) over STEPS."""
    generator = torch.Generator().manual_seed(5)
    mine = others = tuple(torch.zeros(1, SIZE) for _ in range(ours.states))
    wrong, most, rate = 0, 0.0, 0.0
    for _ in range(STEPS):
        x = torch.round(torch.randn(1, SIZE, generator=generator) * 128) / 64
        y, *mine = ours(x, *mine)
        z, *others = theirs(x, *others)
        wrong += int((y != z).sum())
        most = max(most, *(float((a - b).abs().max()) for a, b in zip(mine, others, strict=True)))
        rate += float(y.mean()) / STEPS
    return wrong, most, rate


def main() -> int:
    """Print a line for each neuron; 1 where one differs, 2 where a framework is not installed."""
    worst = 0
    for name, make in FRAMEWORKS.items():
        if find_spec(name) is None:
            print(f"{name} is not installed")
            worst = 2
            continue
        for neuron, theirs in make().items():
            with torch.no_grad():
                ours = NEURONS[neuron].make(SIZE)
                if name == "norse":
                    without_bias(ours)
                wrong, most, rate = difference(ours, theirs)
            worst = max(worst, int(wrong > 0 or most > 0))
            print(f"{neuron:32} {wrong} spikes differ, states by {most:g}; {rate:.0%} spike")
    return worst


if __name__ == "__main__":
    sys.exit(main())
