# SPDX-License-Identifier: Apache-2.0
"""A whole spiking network, timed by density: `python -m tests.bench.spiking_network`.

conv 5x5 2->16, neurons, 2x2 average pool, conv 3x3 16->32, neurons, pool, dense 1152->10, neurons; 34x34, T =
20: the network of the cases bench_snn_*, if the environment variable BNNCC_CASES names the folder of cases.
It is compiled from its unrolled export, as it stands and without forms for spikes ("dense"); its kernels are
also called one after the other by hand (with random weights, where there are no cases). Microseconds of one
sample on one core, 16 random inputs in turn, the lower quartile of all turns, beside ONNX Runtime on the same
export; and beside the prototype snn_network.py, where BNNCC_PROTOTYPES names its folder.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np

from bnncc import driver, targets
from bnncc.kernels import build
from bnncc.lowering.geometry import transposed
from bnncc.plan import density, tables
from bnncc.plan.expression import (
    Accumulator,
    Binary,
    BitOf,
    Channel,
    Compare,
    Expression,
    FromBit,
    Operand,
    Scalar,
)
from bnncc.plan.kernel import Constant, KernelSpec, Map, Output, Pool, SpikeConv, Window
from bnncc.plan.layout import Element, Layout
from bnncc.plan.simulate import allocate
from bnncc.targets import Target
from tests.bench.timing import pin_to_one_core, processor
from tests.kernels.library import Library, aligned

DENSITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
STEPS = 20
INPUTS = 16
TURNS = 10
LEAK = 0.9


def packed(element: Element, *shape: int) -> Layout:
    """A row-major tensor of all steps."""
    n, h, w, c = shape
    return Layout.packed(element, (n, h, w, c))


def state_of(shape: tuple[int, int, int, int]) -> Layout:
    """Membranes of all neurons: one image for all steps."""
    one = Layout.packed(Element.F32, (1, *shape[1:]))
    return replace(one, shape=shape, strides=(0, *one.strides[1:]))


def layer(root: SpikeConv, outputs: int, shape: tuple[int, int, int, int], spikes: Element) -> KernelSpec:
    """A contraction and its neurons: v' = leak v + (sum + bias) - [v > 1], spike [v' - 1 > 0]."""
    state = state_of(shape)

    def fires(membrane: Expression) -> Expression:
        return Compare("gt", Binary("sub", membrane, Scalar(1.0)), Scalar(0.0))

    current = Binary("add", Accumulator(), Channel(1))
    leaked = Binary("add", Binary("mul", Scalar(LEAK), Operand(0)), current)
    membrane = Binary("sub", leaked, FromBit(fires(Operand(0)), 0.0, 1.0))
    spike = fires(membrane) if spikes is Element.BIT else FromBit(fires(membrane), 0.0, 1.0)
    window = root.window
    weight = Constant(Element.F32, (outputs, window.height, window.width, root.input.shape[3]))
    written = (Output(state, membrane), Output(Layout.packed(spikes, shape), spike))
    return KernelSpec(root, (state,), (weight, Constant(Element.F32, (outputs,))), written, ((0, 0),))


def count(image: Layout) -> KernelSpec:
    """Sums of four spikes, in planes."""
    n, h, w, c = image.shape
    planes = Layout.packed(Element.BIT, (n, h // 2, w // 2, c))
    outputs = tuple(Output(planes, BitOf(Accumulator(), plane)) for plane in range(3))
    return KernelSpec(Pool("count", image, Window(2, 2, 2, 2)), (), (), outputs)


def clear(state: Layout) -> KernelSpec:
    """Membranes of 0."""
    one = Layout.packed(Element.F32, (1, *state.shape[1:]))
    return KernelSpec(Map(), (), (), (Output(one, Scalar(0.0)),))


@dataclass
class Step:
    """A kernel on buffers: what it reads and writes, by name."""

    spec: KernelSpec
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    constants: tuple[np.ndarray, ...] = ()


def network(weights: dict[str, np.ndarray]) -> dict[str, list[Step]]:
    """The steps of each stage. Rows and columns that the pools drop are not computed."""
    image = transposed(Layout.packed(Element.F32, (STEPS, 2, 34, 34)), 4, (0, 2, 3, 1))
    conv1 = layer(SpikeConv(image, Window(5, 5)), 16, (STEPS, 28, 28, 16), Element.BIT)
    pool1 = count(conv1.outputs[1].layout)
    pooled = pool1.outputs[0].layout
    conv2 = layer(SpikeConv(pooled, Window(3, 3), (pooled,) * 2), 32, (STEPS, 12, 12, 32), Element.BIT)
    pool2 = count(conv2.outputs[1].layout)
    features = pool2.outputs[0].layout
    dense = layer(SpikeConv(features, Window(6, 6), (features,) * 2), 10, (STEPS, 1, 1, 10), Element.F32)
    quarter = np.float32(0.25)
    w1, w2, w3 = (weights[f"{name}.weight"] for name in ("conv1", "conv2", "fc"))
    w3 = w3.reshape(10, 32, 6, 6)
    ordered = [np.ascontiguousarray(w.transpose(0, 2, 3, 1)) for w in (w1, w2 * quarter, w3 * quarter)]
    bias = [weights[f"{name}.bias"] for name in ("conv1", "conv2", "fc")]
    p, q = ("p0", "p1", "p2"), ("q0", "q1", "q2")
    return {
        "clear": [
            Step(clear(s.operands[0]), (), (v,)) for s, v in ((conv1, "v1"), (conv2, "v2"), (dense, "v3"))
        ],
        "conv1": [Step(conv1, ("x", "v1"), ("v1", "s1"), (ordered[0], bias[0]))],
        "pool1": [Step(pool1, ("s1",), p)],
        "conv2": [Step(conv2, (*p, "v2"), ("v2", "s2"), (ordered[1], bias[1]))],
        "pool2": [Step(pool2, ("s2",), q)],
        "dense": [Step(dense, (*q, "v3"), ("v3", "y"), (ordered[2], bias[2]))],
    }


class Network:
    """Compiled for a target, on buffers of its own."""

    def __init__(self, weights: dict[str, np.ndarray], target: Target):
        stages = network(weights)
        steps = [step for stage in stages.values() for step in stage]
        kernels = {step.spec: build.make_kernel(step.spec, target) for step in steps}
        library = Library(list(kernels.values()), target)
        buffers: dict[str, np.ndarray] = {}
        self.stages: dict[str, list[Callable[[], None]]] = {}
        for name, stage in stages.items():
            self.stages[name] = []
            for step in stage:
                kernel, spec = kernels[step.spec], step.spec
                layouts = (*spec.inputs, *spec.operands, *(output.layout for output in spec.outputs))
                for buffer, layout in zip((*step.reads, *step.writes), layouts, strict=True):
                    buffers.setdefault(buffer, aligned(allocate(layout)))
                read, written = ([buffers[b] for b in names] for names in (step.reads, step.writes))
                constants = [aligned(array) for array in kernel.pack(step.constants)]
                scratch = [aligned(np.zeros(kernel.scratch_bytes, np.uint8))] if kernel.scratch_bytes else []
                self.stages[name].append(library.bind(kernel, *read, *constants, *written, *scratch))
        self.descriptions = {step.spec: kernels[step.spec].description for step in steps}
        self.buffers = buffers
        self.x, self.y = buffers["x"], buffers["y"]

    def run(self, x: np.ndarray, times: dict[str, list[float]] | None = None) -> np.ndarray:
        """The output spikes [T, 10]; the seconds of every stage are appended to `times`."""
        self.x[:] = x.reshape(-1)
        for name, calls in self.stages.items():
            start = time.perf_counter()
            for call in calls:
                call()
            if times is not None:
                times[name].append(time.perf_counter() - start)
        return self.y.reshape(STEPS, 10)


class Compiled:
    """The network as `bnncc compile` makes it, on buffers of its own. dense: without forms for spikes."""

    def __init__(self, model: Path, target: Target, dense: bool = False):
        options = driver.Options(target=target.name)
        with ExitStack() as stack:
            for place in (density, tables) if dense else ():
                name = "prefers_events" if place is density else "fit"
                stack.enter_context(mock.patch.object(place, name, lambda *_: False))
            lowered = driver.lower_model(model, options)
        self.artifact = driver.build(lowered, model, None, options)
        shapes = ((STEPS, 1, 2, 34, 34), (STEPS, 1, 10))
        self.x, self.y = (aligned(np.zeros(shape, np.float32)).reshape(shape) for shape in shapes)
        self._call = self.artifact.bind(self.artifact.arena(), [self.x], [self.y])

    def run(self, x: np.ndarray, times: list[float] | None = None) -> np.ndarray:
        """The output spikes [T, 10]; the seconds are appended to `times`."""
        self.x[:] = x.reshape(self.x.shape)
        start = time.perf_counter()
        self._call()
        if times is not None:
            times.append(time.perf_counter() - start)
        return self.y.reshape(STEPS, 10)


class Prototype:
    """The prototype on the same buffers for all inputs."""

    def __init__(self, folder: str, target: Target):
        sys.path.insert(0, folder)
        network, conv = (importlib.import_module(name) for name in ("snn_network", "spike_conv"))
        wide = target.vector_bits == 512
        self.network = network.Network(
            network.model_weights(), conv.V4 if wide else conv.V3, 16 if wide else 8
        )

    def run(self, x: np.ndarray, times: list[float] | None = None) -> np.ndarray:
        """As above."""
        self.network.x[:] = x.reshape(-1)
        start = time.perf_counter()
        for kernel, pointers in self.network.stages.values():
            kernel(*pointers)
        if times is not None:
            times.append(time.perf_counter() - start)
        return self.network.out.reshape(STEPS, 16)[:, :10]


def model_weights(folder: Path | None) -> dict[str, np.ndarray]:
    """Of the case, or random ones."""
    if folder is not None:
        import onnx

        model = onnx.load(folder / "bench_snn_conv_step" / "model.onnx")
        return {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    rng = np.random.default_rng(0)
    shapes = {"conv1": (16, 2, 5, 5), "conv2": (32, 16, 3, 3), "fc": (10, 1152)}
    weights = {
        f"{name}.weight": rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        for name, shape in shapes.items()
    }
    weights |= {f"{name}.bias": np.zeros(shape[0]) for name, shape in shapes.items()}
    return {name: array.astype(np.float32) for name, array in weights.items()}


def peer(folder: Path | None) -> Callable[[np.ndarray], object] | None:
    """The unrolled export in ONNX Runtime, one thread."""
    if folder is None:
        return None
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = folder / "bench_snn_conv_unrolled_T20" / "model.onnx"
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x.reshape(STEPS, 1, 2, 34, 34)})


def check(network: Network | Compiled | Prototype, folder: Path | None) -> None:
    """The recorded spikes, if there are any."""
    if folder is None:
        return
    case = folder / "bench_snn_conv_step"
    x = np.load(case / "input_0.npy")
    wanted = np.load(case / "output_0.npy").reshape(STEPS, 10)
    assert np.array_equal(network.run(x), wanted), "the spikes are not those recorded"


def rivals(folder: Path | None, target: Target) -> dict[str, Compiled | Prototype]:
    """What is timed beside the kernels called by hand."""
    if folder is None:
        return {}
    model = folder / "bench_snn_conv_unrolled_T20" / "model.onnx"
    found: dict[str, Compiled | Prototype] = {
        "compiled": Compiled(model, target),
        "dense": Compiled(model, target, dense=True),
    }
    if "BNNCC_PROTOTYPES" in os.environ:
        found["prototype"] = Prototype(os.environ["BNNCC_PROTOTYPES"], target)
    for network in found.values():
        check(network, folder)
    return found


def microseconds(times: list[float]) -> float:
    """The lower quartile: other processes only ever add to a time."""
    return statistics.quantiles(times, n=4)[0] * 1e6


def measure(
    networks: dict[str, tuple[Network, dict[str, Compiled | Prototype]]],
    other: Callable[[np.ndarray], object] | None,
    density_: float,
) -> None:
    """Print the times of all networks at one density."""
    rng = np.random.default_rng(1)
    inputs = [(rng.random(STEPS * 2 * 34 * 34) < density_).astype(np.float32) for _ in range(INPUTS)]
    stages = {name: {stage: [] for stage in hand.stages} for name, (hand, _) in networks.items()}
    times = {name: {rival: [] for rival in others} for name, (_, others) in networks.items()}
    peers: list[float] = []
    for _ in range(TURNS):
        for name, (hand, others) in networks.items():
            for x in inputs:
                hand.run(x, stages[name])
            for rival, network in others.items():
                for x in inputs:
                    network.run(x, times[name][rival])
        for x in inputs if other is not None else ():
            assert other is not None
            start = time.perf_counter()
            other(x)
            peers.append(time.perf_counter() - start)
    print(f"\ninput density {density_:.1%}")
    for name in networks:
        found = {stage: microseconds(seconds) for stage, seconds in stages[name].items()}
        text = "  ".join(f"{stage} {value:.1f}" for stage, value in found.items())
        print(f"  {name:12} by hand: {text}  all {sum(found.values()):.1f}")
        line = "  ".join(f"{rival} {microseconds(seconds):.1f}" for rival, seconds in times[name].items())
        if peers and line:
            ratio = microseconds(peers) / microseconds(times[name]["compiled"])
            line += f"  onnxruntime {microseconds(peers):.0f}, {ratio:.1f} times that of compiled"
        print(f"  {'':12} {line}", flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", action="append", help="default: native and x86-64-v3, if they run here")
    arguments = parser.parse_args()
    folder = Path(os.environ["BNNCC_CASES"]) if "BNNCC_CASES" in os.environ else None
    weights, other = model_weights(folder), peer(folder)
    networks = {}
    for name in arguments.target or ["native", "x86-64-v3"]:
        target = targets.load(name)
        if target.runs_here():
            hand = Network(weights, target)
            check(hand, folder)
            networks[name] = hand, rivals(folder, target)
    print(f"{processor()}, core {pin_to_one_core()}")
    for density_ in DENSITIES:
        measure(networks, other, density_)


if __name__ == "__main__":
    main()
