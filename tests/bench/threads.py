# SPDX-License-Identifier: Apache-2.0
"""What threads gain: `python -m tests.bench.threads` prints a table.

Each layer as it runs within its network: the least and the median time of one thread over those
of several. One thread and several take turns. Layers that threads do not share are left out, and so are
all but the first with the same operation.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bnncc import driver
from bnncc.data.arrays import random_input
from bnncc.driver import Options
from bnncc.execution.artifact import Artifact
from tests.bench.architectures import exported
from tests.bench.output import add_markdown, show
from tests.bench.timing import processor


@dataclass
class Watch:
    """Notes when each layer of a run is done. times: seconds by layer, of the run that is on."""

    last: float = 0.0
    times: list[float] = field(default_factory=list)

    def done(self, _layer: int, _trip: int) -> None:
        """Called by the library; what it takes itself is not counted."""
        self.times.append(time.perf_counter() - self.last)
        self.last = time.perf_counter()


def layer_times(artifact: Artifact, counts: tuple[int, int], turns: int) -> dict[int, np.ndarray]:
    """Seconds [turns, layers + 1] by number of threads; the last column is the whole network, not watched."""
    rng = np.random.default_rng(3)
    inputs = [random_input(rng, port) for port in artifact.manifest["inputs"]]
    outputs = [np.zeros(port["shape"], port["dtype"]) for port in artifact.manifest["outputs"]]
    arena, watch = artifact.arena(), Watch()
    whole = artifact.bind(arena, inputs, outputs)
    watched = artifact.bind_watched(watch.done, arena, inputs, outputs)
    found: dict[int, list[list[float]]] = {count: [] for count in counts}
    for _ in range(turns):
        for count in counts:
            artifact.set_threads(count)
            whole()
            start = time.perf_counter()
            whole()
            seconds = time.perf_counter() - start
            watch.times, watch.last = [], time.perf_counter()
            watched()
            found[count].append([*watch.times, seconds])
    return {count: np.array(rows) for count, rows in found.items()}


def rows(artifact: Artifact, turns: int) -> list[list[str]]:
    """A line for each kind of layer that is shared, and one for the network."""
    times = layer_times(artifact, (1, artifact.threads), turns)
    names = {i: s["operation"] for i, s in enumerate(artifact.manifest["steps"]) if s.get("pieces", 1) > 1}
    kinds = {name: index for index, name in reversed(names.items())}
    names = {index: name for index, name in names.items() if kinds[name] == index} | {-1: "whole network"}
    lines = []
    for index, name in names.items():
        one, several = (times[count][:, index] * 1e6 for count in (1, artifact.threads))
        medians = statistics.median(one) / statistics.median(several)
        lines.append(
            [
                name,
                f"{one.min():.1f}",
                f"{several.min():.1f}",
                f"{one.min() / several.min():.2f}",
                f"{medians:.2f}",
            ]
        )
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", default="bi_realnet18")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=60)
    add_markdown(parser)
    chosen = parser.parse_args()
    print(f"{processor()}, {chosen.network}, {chosen.threads} threads, {chosen.turns} turns")
    with tempfile.TemporaryDirectory() as folder:
        options = Options(threads=chosen.threads)
        artifact = driver.compile_model(exported(chosen.network), Path(folder) / "out", options)
        header = ("us", "1 thread", f"{chosen.threads} threads", "faster", "by medians")
        show(header, rows(artifact, chosen.turns), chosen.markdown)


if __name__ == "__main__":
    main()
