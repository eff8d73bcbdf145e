# SPDX-License-Identifier: Apache-2.0
"""Small networks of spiking neurons, and the ways in which exporters write their time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.idioms.spiking import NEURONS, Cell, dyadic

INPUTS, HIDDEN, OUTPUTS, SIZE, STEPS = 6, 8, 5, 6, 12
DYNAMO_SINCE = 18
"""The first operator set that the new exporter writes."""


class Network(nn.Module):
    """Layers with neurons behind each: forward(x, *states) -> (output, *new states), one step.

    layers "dense": two of vectors; "conv": a convolution, its spikes averaged two by two, a classifier;
    "binary": the same with weights of one magnitude for each output (B-SNN). Sums of products are exact."""

    def __init__(self, neuron: str, layers: str = "dense"):
        super().__init__()
        idiom = NEURONS[neuron]
        if layers == "dense":
            self.layers = nn.ModuleList([nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, OUTPUTS)])
            sizes: list[tuple[int, ...]] = [(HIDDEN,), (OUTPUTS,)]
        else:
            behind = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4 * 9, OUTPUTS))
            self.layers = nn.ModuleList([nn.Conv2d(2, 4, 3, padding=1), behind])
            sizes = [(4, SIZE, SIZE), (OUTPUTS,)]
        cells = [idiom.make(shape[0]) for shape in sizes]
        self.cells = nn.ModuleList(cells)
        self.image = (INPUTS,) if layers == "dense" else (2, SIZE, SIZE)
        self.shapes = [
            (1, *shape) for cell, shape in zip(cells, sizes, strict=True) for _ in range(cell.states)
        ]
        with torch.no_grad():
            for seed, (name, values) in enumerate(self.layers.named_parameters()):
                numbers = dyadic(*values.shape, seed=seed) + (0.125 if name.endswith("bias") else 0.0625)
                is_binary = layers == "binary" and values.ndim > 1
                values.copy_(idiom.drive * (signs(numbers) if is_binary else numbers))

    def zeros(self) -> tuple[Tensor, ...]:
        """The states before the first step."""
        return tuple(torch.zeros(shape) for shape in self.shapes)

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        given, new = list(states), []
        for layer, cell in zip(self.layers, self.cells, strict=True):
            assert isinstance(cell, Cell)
            x, *after = cell(layer(x), *(given.pop(0) for _ in range(cell.states)))
            new += after
        return x, *new


def signs(weight: Tensor) -> Tensor:
    """-1/4 or 1/4 for half of the outputs, -1/8 or 1/8 for the others."""
    scale = torch.full((len(weight), *[1] * (weight.ndim - 1)), 0.25)
    scale[::2] = 0.125
    return torch.where(weight < 0, -scale, scale)


class Unrolled(nn.Module):
    """All steps one after the other, every layer's states beginning as zeros like its current."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """x [T, 1, ...] -> spikes [T, 1, ...], the last states."""
        outputs, states = [], self.network.zeros()
        for t in range(len(x)):
            y, *states = self.network(x[t], *states)
            outputs.append(y)
        return torch.stack(outputs), *states


class Folded(nn.Module):
    """Layer after layer: what has no state takes all steps as one batch, as SpikingJelly's step mode m."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """x [T, 1, ...] -> spikes [T, 1, ...], the last states."""
        steps, last = len(x), []
        for layer, cell in zip(self.network.layers, self.network.cells, strict=True):
            assert isinstance(cell, Cell)
            folded = layer(x.flatten(0, 1))
            x = folded.view(steps, 1, *folded.shape[1:])
            states: Sequence[Tensor] = [torch.zeros_like(x[0]) for _ in range(cell.states)]
            outputs = []
            for t in range(steps):
                y, *states = cell(x[t], *states)
                outputs.append(y)
            x = torch.stack(outputs)
            last += states
        return x, *last


class Scanned(nn.Module):
    """The loop of torch.scan, which becomes a Scan."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """x [T, 1, ...] -> spikes [T, 1, ...], the last states."""
        from torch._higher_order_ops.scan import scan

        def step(states: list[Tensor], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            y, *new = self.network(x, *states)
            return [state.clone() for state in new], [y.clone()]

        last, (outputs,) = scan(step, list(self.network.zeros()), x)
        return outputs, *last


class While(nn.Module):
    """The loop of torch.while_loop, which becomes a Loop that ends by a condition; outputs are counted."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """x [T, 1, ...] -> the sum of all outputs [1, ...], the last states."""
        from torch._higher_order_ops.while_loop import while_loop

        def before_the_end(t: Tensor, total: Tensor, *states: Tensor) -> Tensor:
            return t < STEPS

        def step(t: Tensor, total: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
            now = torch.index_select(x, 0, t.reshape(1)).squeeze(0)
            y, *new = self.network(now, *states)
            return t + 1, total + y, *(state.clone() for state in new)

        start = (torch.zeros((), dtype=torch.int64), torch.zeros(1, OUTPUTS), *self.network.zeros())
        return tuple(while_loop(before_the_end, step, start))[1:]


LOOP = """
def forward(self, x{argument}):
    {starts}
    {before}
    for t in range({trips}):
        y, {states} = self.step(x[t], {states})
        {collect}
    return {result}, {states}
"""


class _Scripted(torch.jit.ScriptModule):
    """A loop around a traced step."""

    def __init__(self, network: Network, source: str):
        super().__init__()
        example = torch.zeros(1, *network.image)
        self.step = torch.jit.trace(network.eval(), (example, *network.zeros()), check_trace=False)
        self.define(source)


def looped(network: Network, trips: str = "x.size(0)", collect: str = "list") -> nn.Module:
    """A scripted loop, which the older exporter makes a Loop of.

    trips "x.size(0)", or "int(steps)": of another input. collect "list": outputs [T, 1, ...], carried as a
    sequence; "sum": added up."""
    names = [f"v{i}" for i in range(len(network.shapes))]
    listed = collect == "list"
    return _Scripted(
        network,
        LOOP.format(
            argument=", steps" if "steps" in trips else "",
            starts="; ".join(
                f"{name} = torch.zeros({list(shape)})"
                for name, shape in zip(names, network.shapes, strict=True)
            ).replace("; ", "\n    "),
            before="collected: List[Tensor] = []" if listed else f"collected = torch.zeros([1, {OUTPUTS}])",
            trips=trips,
            states=", ".join(names) + ("" if len(names) > 1 else ","),
            collect="collected.append(y)" if listed else "collected = collected + y",
            result="torch.stack(collected)" if listed else "collected",
        ),
    )


@dataclass(frozen=True)
class Form:
    """A way to write time: the module, and which exporters and operator sets write it."""

    make: Callable[[Network], nn.Module]
    legacy: tuple[int, ...] = (9, 11, 13, 17, 20)
    dynamo: tuple[int, ...] = (18, 20, 23)
    is_step: bool = False
    counts: bool = False
    """Whether the steps are another input."""
    sums: bool = False
    """Whether outputs are added up instead of collected."""

    def states(self, network: Network) -> dict[str, str]:
        """Output name by input name, where the module is one step."""
        return {f"v{i}_in": f"v{i}" for i in range(len(network.shapes))} if self.is_step else {}

    def inputs(self, network: Network, x: Tensor) -> dict[str, Any]:
        """What the module is exported with; x [T, 1, ...]."""
        if self.is_step:
            return {"x": x[0], **{f"v{i}_in": state for i, state in enumerate(network.zeros())}}
        return {"x": x, "steps": torch.tensor(len(x))} if self.counts else {"x": x}


FORMS: dict[str, Form] = {
    "step": Form(lambda network: network, is_step=True),
    "unrolled": Form(Unrolled),
    "folded": Form(Folded),
    "scan": Form(Scanned, legacy=()),
    "while": Form(While, legacy=(), sums=True),
    "loop": Form(looped, legacy=(11, 13, 17, 20), dynamo=()),
    "loop_summed": Form(lambda n: looped(n, collect="sum"), legacy=(9, 13, 20), dynamo=(), sums=True),
    "loop_counted": Form(lambda n: looped(n, "int(steps)"), legacy=(11, 17), dynamo=(), counts=True),
    "loop_counted_summed": Form(
        lambda n: looped(n, "int(steps)", "sum"), legacy=(9, 17), dynamo=(), counts=True, sums=True
    ),
}
"""The ways to write time."""


def spikes(network: Network, steps: int = STEPS, rate: float = 0.5) -> Tensor:
    """Inputs [T, 1, ...] of zeros and ones."""
    generator = torch.Generator().manual_seed(3)
    return (torch.rand(steps, 1, *network.image, generator=generator) < rate).float()
