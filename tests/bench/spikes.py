# SPDX-License-Identifier: Apache-2.0
"""Kernels of spikes, timed by density: `python -m tests.bench.spikes` prints a table for each target.

Times are medians in microseconds of one call on one core, what an empty kernel costs taken off; 16 random
inputs take turns, since a repeated input trains the branch predictor. Columns are densities: the part of bits
that are set (of counts: of the spikes that four of are pooled); kernels are those that are made for that
density. `dense` is the float32 convolution of the layer, at any density.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bnncc import targets
from bnncc.kernels import build
from bnncc.kernels.kernel import Kernel
from bnncc.plan.density import bits_of_count, nearest_class
from bnncc.plan.expression import Accumulator, Scalar
from bnncc.plan.kernel import KernelSpec, Map, Output, SpikeConv
from bnncc.plan.layout import Element, Layout
from bnncc.plan.simulate import allocate, store
from bnncc.targets import Target
from tests.bench.timing import pin_to_one_core, processor
from tests.kernels.contractions import Shape, dense, pointwise, real_spec, spike_spec
from tests.kernels.library import Library, aligned

DENSITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
INPUTS = 16
INTEGERS = ((Element.I32, Accumulator()),)
EMPTY = KernelSpec(Map(), (), (), (Output(Layout.packed(Element.F32, (1, 1, 1, 1)), Scalar(0.0)),))


@dataclass(frozen=True)
class Layer:
    """A line of the table. dense: the same layer in float32, if it is shown."""

    name: str
    spec: KernelSpec
    dense: KernelSpec | None = None


def layers() -> list[Layer]:
    """Dense layers of one and of many steps, convolutions."""

    def layer(name: str, shape: Shape, planes: int = 1) -> Layer:
        return Layer(name, spike_spec(shape, planes=planes), real_spec(shape))

    unpadded, same = (0, 0, 0, 0), Shape((1, 28, 28, 16), 32, (5, 5), pads=(2, 2, 2, 2))
    return [
        Layer("dense 1024->512 int8", spike_spec(dense(1, 1024, 512), INTEGERS, weight=Element.I8)),
        Layer("dense 4096->1024 int8", spike_spec(dense(1, 4096, 1024), INTEGERS, weight=Element.I8)),
        layer("dense 1024->512", dense(1, 1024, 512)),
        layer("dense 20 x 1024->512", dense(20, 1024, 512)),
        layer("dense 20 x 1152->10, counts", dense(20, 1152, 10), 3),
        layer("3x3 14x14 16->32, counts", Shape((1, 14, 14, 16), 32, pads=unpadded), 3),
        layer("3x3 28x28 64->64", Shape((1, 28, 28, 64), 64)),
        layer("3x3/2 28x28 64->64", Shape((1, 28, 28, 64), 64, stride=(2, 2))),
        layer("5x5 34x34 2->16", Shape((1, 34, 34, 2), 16, (5, 5), pads=unpadded)),
        layer("5x5 28x28 16->32", same),
        Layer("5x5 28x28 16->32 int8", spike_spec(same, INTEGERS, weight=Element.I8)),
        layer("1x1 14x14 128->128", pointwise(14, 128, 128)),
    ]


def expecting(spec: KernelSpec, density: float) -> KernelSpec:
    """The same where so many bits are expected to be set."""
    assert isinstance(spec.root, SpikeConv)
    bits = bits_of_count(density, 4) if spec.root.more else density
    return replace(spec, root=replace(spec.root, density=nearest_class(bits)))


def spikes(layouts: Sequence[Layout], density: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Planes of spikes, or of the sums of four."""
    count = (rng.random((4 if len(layouts) > 1 else 1, *layouts[0].shape)) < density).sum(axis=0)
    buffers = [allocate(layout) for layout in layouts]
    for plane, (layout, buffer) in enumerate(zip(layouts, buffers, strict=True)):
        store(layout, buffer, count >> plane & 1)
    return [aligned(buffer) for buffer in buffers]


def calls(kernel: Kernel, library: Library, density: float) -> list[Callable[[], None]]:
    """Calls of a kernel on INPUTS inputs."""
    rng, spec = np.random.default_rng(0), kernel.spec
    constants = []
    for constant in spec.constants:
        is_int8 = constant.element is Element.I8
        array = rng.integers(-127, 128, constant.shape) if is_int8 else rng.standard_normal(constant.shape)
        constants.append(array.astype(constant.element.dtype))
    packed = [aligned(array) for array in kernel.pack(tuple(constants))]
    written = [aligned(allocate(output.layout)) for output in spec.outputs]
    written += [aligned(np.zeros(kernel.scratch_bytes, np.uint8))] if kernel.scratch_bytes else []

    def reads() -> list[np.ndarray]:
        if spec.inputs and spec.inputs[0].element is Element.BIT:
            return spikes(spec.inputs, density, rng)
        return [aligned(rng.standard_normal(layout.extent).astype(np.float32)) for layout in spec.inputs]

    return [library.bind(kernel, *reads(), *packed, *written) for _ in range(INPUTS)]


def microseconds(functions: Sequence[Callable[[], None]], turns: int) -> float:
    """The median over turns of a mean call, of this thread's own time."""
    times = []
    start = time.thread_time()
    for function in functions:
        function()
    repeat = max(1, int(5e-4 / max(time.thread_time() - start, 1e-7)))
    for _ in range(turns):
        start = time.thread_time()
        for function in itertools.chain.from_iterable(itertools.repeat(functions, repeat)):
            function()
        times.append((time.thread_time() - start) / (repeat * len(functions)) * 1e6)
    return statistics.median(times)


def table(target: Target, turns: int) -> None:
    """Measure and print."""
    rows = layers()
    specs = [EMPTY, *(row.dense for row in rows if row.dense)]
    specs += [expecting(row.spec, density) for row in rows for density in DENSITIES]
    kernels = {spec: build.make_kernel(spec, target) for spec in specs}
    library = Library(list(kernels.values()), target)
    empty = microseconds(calls(kernels[EMPTY], library, 0), turns)

    def measured(spec: KernelSpec, density: float) -> float:
        return microseconds(calls(kernels[spec], library, density), turns) - empty

    print(f"\n{target.name}: microseconds, by density")
    print(f"{'':32}" + "".join(f"{density:>9.1%}" for density in DENSITIES) + f"{'dense':>9}")
    for row in rows:
        values = [measured(expecting(row.spec, density), density) for density in DENSITIES]
        values += [measured(row.dense, 0)] if row.dense else []
        print(f"{row.name:32}" + "".join(f"{value:9.2f}" for value in values), flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", action="append", help="default: native and x86-64-v3, if they run here")
    parser.add_argument("--turns", type=int, default=15)
    arguments = parser.parse_args()
    print(f"{processor()}, core {pin_to_one_core()}")
    for name in arguments.target or ["native", "x86-64-v3"]:
        target = targets.load(name)
        if target.runs_here():
            table(target, arguments.turns)
        else:
            print(f"\n{name}: skipped, this machine does not run it")


if __name__ == "__main__":
    main()
