# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.tuning`: how fast `bnncc tune` is, and how well it finds what there is.

- Trials a minute, by the clock and by the processor's time that they took, which is what they take on a
  machine that has nothing else to do.
- With the worst tile as the default, 64 trials and 60 seconds: what is found, in turns with the best known.
- From bad starts: how many trials until one is within 3 % of the best, by our order of trying and by
  MetaSchedule's evolutionary search over the same candidates (`tests/bench/search.py`).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnncc import targets
from bnncc.kernels.kernel import TileParameters
from bnncc.kernels.space import candidates, layer_key
from bnncc.plan.kernel import KernelSpec
from bnncc.tuning import tuner
from bnncc.tuning.database import Database
from bnncc.tuning.devices import Device, Emulated, Local
from bnncc.tuning.tuner import Limits, tune
from tests.bench.search import orders
from tests.kernels.contractions import Shape
from tests.tuning.layers import layer, steps

SHAPES = {
    "3x3 56x56x64": Shape((1, 56, 56, 64), 64),
    "3x3 28x28x128": Shape((1, 28, 28, 128), 128),
    "3x3 14x14x256": Shape((1, 14, 14, 256), 256),
    "3x3 14x14x128": Shape((1, 14, 14, 128), 128),
    "3x3 8x8x64": Shape((1, 8, 8, 64), 64),
}

CLOSE = 1.03


def quiet(_message: str) -> None:
    """Say nothing."""


def processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


@dataclass(frozen=True)
class Everything:
    """All candidates of a layer, measured. scores: by position; seconds: of a trial, by the clock and of the
    processor."""

    choices: Sequence[TileParameters]
    scores: Mapping[int, float]
    seconds: float
    processor_seconds: float

    @property
    def best(self) -> float:
        """The best there is."""
        return min(self.scores.values())


def measure_all(spec: KernelSpec, device: Device, target: targets.Target) -> Everything:
    """Every candidate, without a limit."""
    choices = candidates(spec, target)
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / "db.json")
        start, used = time.monotonic(), processor_seconds()
        tune(steps(spec), target, device, database, Limits(10_000), quiet)
        taken, used = time.monotonic() - start, processor_seconds() - used
        trials = database.trials(layer_key(spec, target), device.name)
    found = {
        choices.index(dict(trial.parameters)): trial.score for trial in trials if trial.score is not None
    }
    return Everything(choices, found, taken / len(trials), used / len(trials))


def tune_from_worst(spec: KernelSpec, device: Device, target: targets.Target, all_: Everything) -> str:
    """Tuning with the worst tile as the default, 64 trials and 60 seconds: what it found, of the best there
    is, measured again beside it."""
    ranked = sorted(range(len(all_.choices)), key=lambda i: -all_.scores.get(i, 0.0))
    shuffled = [all_.choices[ranked[0]], *(c for i, c in enumerate(all_.choices) if i != ranked[0])]
    best = all_.choices[ranked[-1]]
    real = tuner.candidates
    tuner.candidates = lambda spec, target: shuffled
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = tune(
                steps(spec), target, device, Database(Path(folder) / "db"), Limits(64, 60), quiet
            ).layers[0]
            parameters = found.parameters or shuffled[0]
            again = Database(Path(folder) / "again")
            tuner.candidates = lambda spec, target: [best, dict(parameters)]
            two = tune(steps(spec), target, device, again, Limits(2), quiet).layers[0].scores
            key = layer_key(spec, target)
            ratio = (
                1.0 if dict(parameters) == dict(best) else (again.trials(key)[1].score or 0) / (two[0] or 1)
            )
    finally:
        tuner.candidates = real
    return f"{len(found.scores)} trials, {ratio:.3f} of the best known"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what the head of this file says."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--target", default="native")
    parser.add_argument("--layer", choices=SHAPES, action="append", help="those only")
    chosen = parser.parse_args(arguments)
    target = targets.load(chosen.target)
    device: Device = Local(target) if target.runs_here() else Emulated(target)
    print(device.name)
    for name in chosen.layer or SHAPES:
        spec = layer(SHAPES[name])
        if len(candidates(spec, target)) < 2:
            print(f"{name}: nothing to choose")
            continue
        everything = measure_all(spec, device, target)
        print(
            f"{name}: {len(everything.choices)} candidates, {60 / everything.seconds:.0f} trials a minute by "
            f"the clock, {60 / everything.processor_seconds:.0f} by the processor's time; the default is "
            f"{everything.scores[0] / everything.best:.3f} of the best",
            flush=True,
        )
        print(f"  from the worst: {tune_from_worst(spec, device, target, everything)}", flush=True)
        for order, counts in orders(everything.choices, everything.scores, CLOSE).items():
            print(
                f"  order {order}: within 3 % after {statistics.median(counts):.0f} trials (median), "
                f"{statistics.mean(counts):.1f} (mean), {max(counts)} (most of {len(counts)} starts)",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
