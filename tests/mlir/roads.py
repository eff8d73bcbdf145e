# SPDX-License-Identifier: Apache-2.0
"""Random networks on two roads: each compiled by TVM, and, as `--emit linalg` writes it, by LLVM.

    python -m tests.mlir.roads --count 1000

Where float32 has nothing to round, both must give the ONNX graph's outputs, bit for bit. The tools of LLVM
take the networks of several seeds at once, as most of their time goes into starting.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ModuleOp, StringAttr

from bnncc import driver
from bnncc.dialect.network import INPUTS, OUTPUTS, main_function, names_of
from bnncc.frontend.evaluate import ModelEvaluator
from bnncc.linalg.convolution import FORMS
from bnncc.options import Options, Road
from tests.mlir.support import Compiled
from tests.random_networks import draw, input_shape, is_exact

SAMPLES = 2
CHUNK = 20
"""How many networks go through the tools at once."""

LIBRARY_EVERY = 10
"""Of so many networks one goes through `--backend mlir`, too."""

ROUNDED = 1e-5
"""Of a real value, by which it may differ where float32 has something to round."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Network:
    """One of the random networks: what the passes made of it, inputs for it, and what its graph answers."""

    seed: int
    path: Path
    module: ModuleOp
    inputs: list[dict[str, np.ndarray]]
    answers: list[dict[str, np.ndarray]]
    is_exact: bool

    @staticmethod
    def of(seed: int, folder: Path) -> Network:
        """Drawn, written to a folder and evaluated. Time runs layer by layer, or, of odd seeds, all layers
        step by step."""
        drawn = draw(seed)
        model = drawn.model()
        path = folder / f"network_{seed}.onnx"
        path.write_bytes(model.SerializeToString())
        inputs = drawn.batches(SAMPLES, input_shape(model))
        graph = ModelEvaluator(path)
        values = [graph(x) for x in inputs]
        exact = all(is_exact(each, drawn.unimportant) for each in values)
        module = driver.front(path, Options(optimize="size" if seed % 2 else None))
        return Network(seed, path, module, inputs, values, exact)

    def by_library(self, backend: Road) -> list[Arrays]:
        """The answers of a library."""
        options = Options(backend=backend, emit=("so",))
        lowered = driver.lower_module(self.module.clone(), "network", options)
        artifact = driver.build(lowered, self.path, None, options)
        return [artifact.run(x) for x in self.inputs]

    def by_function(self, compiled: Compiled) -> list[Arrays]:
        """The answers of the function that the network has become in a module of several."""
        main = main_function(self.module)
        names, outputs = names_of(main, INPUTS), names_of(main, OUTPUTS)
        results = [compiled.run(self.symbol, [x[name] for name in names]) for x in self.inputs]
        return [dict(zip(outputs, result, strict=True)) for result in results]

    @property
    def symbol(self) -> str:
        """What its function is called there."""
        return f"network_{self.seed}"

    def differences(self, what: str, got: Sequence[Arrays], wanted: Sequence[Arrays]) -> Iterator[str]:
        """Outputs that are not the same; where something is rounded, not nearly the same."""
        for sample, (mine, theirs, graph) in enumerate(zip(got, wanted, self.answers, strict=True)):
            for name, array in mine.items():
                other = theirs[name].reshape(array.shape)
                same = array == other if self.is_exact else np.isclose(array, other, ROUNDED, rounding(graph))
                if not same.all():
                    yield f"{self.seed}: {what}: {(~same).sum()} of {same.size} of '{name}', batch {sample}"


def rounding(values: Arrays) -> float:
    """By how much real values of a graph may differ when sums are taken in another order: a clip may leave
    little of a sum whose terms were large."""
    largest = [np.abs(array).max(initial=0) for array in values.values() if array.dtype.kind == "f"]
    return ROUNDED * max(1.0, 0.1 * max(largest))


def functions_of(networks: Sequence[Network], folder: Path, form: str, scheduled: bool) -> Compiled:
    """All networks in one module, compiled by LLVM's tools."""
    functions = []
    for network in networks:
        function = main_function(network.module).clone()
        function.sym_name = StringAttr(network.symbol)
        functions.append(function)
    return Compiled(ModuleOp(functions), folder, form, scheduled)


@dataclass(frozen=True)
class Outcome:
    """How many networks had nothing to round, and what differed."""

    exact: int
    differences: list[str]


def compare(seeds: Sequence[int], folder: Path) -> Outcome:
    """The networks of these seeds on both roads; the form of convolutions and whether there is a schedule
    alternate from call to call."""
    networks = [Network.of(seed, folder) for seed in seeds]
    turn = seeds[0] // CHUNK
    compiled = functions_of(networks, folder, FORMS[turn % 2], scheduled=turn % 3 > 0)
    found: list[str] = []
    for network in networks:
        tvm, llvm = network.by_library("tvm"), network.by_function(compiled)
        found += network.differences("LLVM and TVM", llvm, tvm)
        if network.is_exact:
            found += network.differences("TVM and the graph", tvm, network.answers)
        if network.seed % LIBRARY_EVERY == 0:
            found += network.differences("--backend mlir and TVM", network.by_library("mlir"), tvm)
    return Outcome(sum(network.is_exact for network in networks), found)


def outcome_of(seeds: Sequence[int], folder: Path) -> Outcome:
    """The same; an exception is a difference, too."""
    try:
        return compare(seeds, folder)
    except Exception:
        return Outcome(0, [traceback.format_exc(limit=-6)[-3000:]])


def main() -> int:
    """The command; 1 where a network differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.mlir.roads", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many networks (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first")
    chosen = parser.parse_args()
    exact, failed = 0, 0
    for first in range(chosen.first, chosen.first + chosen.count, CHUNK):
        with tempfile.TemporaryDirectory(prefix="bnncc-roads-") as folder:
            outcome = outcome_of(range(first, first + CHUNK), Path(folder))
        exact += outcome.exact
        failed += len(outcome.differences)
        print("\n".join([f"{first} to {first + CHUNK - 1}: {outcome.exact} exact", *outcome.differences]))
        sys.stdout.flush()
    print(f"{chosen.count} networks, {exact} of them exact: {failed} differences")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
