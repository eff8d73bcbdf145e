# SPDX-License-Identifier: Apache-2.0
"""Instructions of spiking layers on small cores, counted by QEMU: `python -m tests.bench.spikes_on_cores`.

A synaptic operation is one addition of a weight for a spike. Decoding, writing back, and a score of
instructions around the call are counted too. dense 1024->256, int8 weights, int32 results.

Then LIF updates with integer membranes, 256 neurons, threshold, reset and packing of spikes included: with
one threshold and leak, with a threshold for each neuron, and with a leak for each.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bnncc import targets
from bnncc.kernels import build
from bnncc.plan.expression import Accumulator
from bnncc.plan.layout import Element
from tests.bench import fixed_neurons
from tests.kernels.contractions import dense, spike_spec
from tests.kernels.firmware import build_layer, expected_output, random_words

DENSITIES = (0.01, 0.05, 0.1, 0.2, 0.5)
CORES = ("cortex-m4", "cortex-m7", "cortex-m3", "cortex-m0plus", "rv32imc")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--core", action="append", help=f"default: {', '.join(CORES)}")
    arguments = parser.parse_args()
    spec = spike_spec(dense(1, 1024, 256), ((Element.I32, Accumulator()),), weight=Element.I8)
    rng = np.random.default_rng(0)
    weight = rng.integers(-128, 128, spec.constants[0].shape).astype(np.int8)
    print("instructions per synaptic operation")
    print(f"{'':16}" + "".join(f"{density:>9.0%}" for density in DENSITIES))
    for core in arguments.core or CORES:
        target = targets.load(core)
        with tempfile.TemporaryDirectory() as folder:
            artifact = build_layer(spec, (weight,), target, Path(folder) / "layer")
            cells = []
            for density in DENSITIES:
                words = random_words(spec, rng, density)
                (found,) = artifact.run({"x": words}).values()
                assert np.array_equal(found, expected_output(spec, (weight,), words)), core
                assert artifact.emulator is not None
                _, layers = artifact.emulator.count([words], layers=True)
                spikes = int(np.bitwise_count(words).sum())
                cells.append(f"{layers[-1] / (spikes * 256):9.2f}")
        description = build.make_kernel(spec, target).description
        print(f"{core:16}" + "".join(cells) + f"   {description}", flush=True)
    print_updates(arguments.core or CORES)


def print_updates(cores: Sequence[str]) -> None:
    """Instructions of an update."""
    kinds = [(bits, kind) for bits in ("int16", "int32") for kind in ("", "levels", "leaks")]
    print("instructions per LIF update")
    print(f"{'':16}" + "".join(f"{bits + ' ' + kind:>13}" for bits, kind in kinds))
    rng = np.random.default_rng(3)
    levels, leaks = (rng.uniform(low, high, 256).astype(np.float32) for low, high in ((30, 50), (0.5, 1)))
    for core in cores:
        cells = []
        for bits, kind in kinds:
            network = fixed_neurons.network(
                256, bits, levels if kind == "levels" else None, leaks if kind == "leaks" else 0.875
            )
            with tempfile.TemporaryDirectory() as folder:
                artifact = fixed_neurons.compiled(network, core, Path(folder) / "layer")
                currents = fixed_neurons.currents(bits, 1, 256)[0]
                cells.append(f"{fixed_neurons.instructions(artifact, currents) / 256:13.2f}")
        print(f"{core:16}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
