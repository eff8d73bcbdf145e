# SPDX-License-Identifier: Apache-2.0
"""Layers to tune."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bnncc import targets
from bnncc.plan.kernel import KernelSpec, SpikeConv
from bnncc.plan.program import Step
from tests.kernels.contractions import Shape, binary_spec, spike_spec

SHAPE = Shape((1, 8, 8, 64), 32)
NATIVE, ARM = targets.native(), targets.load("cortex-a72")


def layer(shape: Shape = SHAPE) -> KernelSpec:
    """A 3x3 binary layer with a threshold."""
    return binary_spec(shape, pad_value=1)


def spikes(density: float, planes: int = 1) -> KernelSpec:
    """A 3x3 layer of spikes, or of counts, with so many set bits of an input on average."""
    spec = spike_spec(Shape((1, 6, 6, 96), 32), planes=planes)
    assert isinstance(spec.root, SpikeConv)
    return replace(spec, root=replace(spec.root, density=density))


def numbers(spec: KernelSpec, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Weights and thresholds."""
    rng = np.random.default_rng(seed)
    first = spec.constants[0]
    weight = rng.choice(np.array([-1, 1], first.element.dtype), first.shape)
    return (weight, *(rng.integers(-40, 40, c.shape).astype(np.int32) for c in spec.constants[1:]))


def steps(*specs: KernelSpec) -> list[Step]:
    """A network of these layers, side by side; the first has the most work."""
    return [
        Step(f"layer {i}", spec, (0,), (1,), numbers(spec), location=f"net.onnx:/{i}/Conv", macs=1000 - i)
        for i, spec in enumerate(specs)
    ]
