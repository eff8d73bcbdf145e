# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.defaults`: the tuning databases that come with bnncc (`targets/tuned`).

Recorded networks are tuned for a target, from the default kernels alone: by time where this machine runs
the target's code (and then compared as a whole), for microcontrollers by instructions under their emulator.
Of other processors instructions say too little: what is fastest on a Cortex-A53 is scheduled for it. What
is kept is the default's trial and the best one's, of layers where that is better by more than 2 %. Records
of other versions of the templates are dropped.

    python -m tests.bench.defaults --target native --target x86-64-v3 --time 10m
    python -m tests.bench.defaults --check          # drops what the templates do not know any more
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from bnncc import driver, targets
from bnncc.kernels.isa import Isa
from bnncc.kernels.space import TEMPLATES_VERSION
from bnncc.tune import tune_model
from bnncc.tuning import use
from bnncc.tuning.database import NOISE, Database, Key, Trial
from bnncc.tuning.forms import is_forms
from tests.cases import load_case

NETWORKS = (
    "digits_bnn_bop_legacy",
    "larq_quicknetsmall_full",
    "larq_bireal_block_stesign_onepad",
    "torch_reactnet_block_legacy",
    "brevitas_cnv_1w1a_qonnx_dynamo",
)
SMALL = NETWORKS[:1]
"""Those that a microcontroller has the memory for."""


def beaten(database: Database) -> Iterable[tuple[Key, Trial, Trial]]:
    """Key, default and best of the layers where that is clearly better."""
    for key, trials in database.layers():
        if is_forms(key):
            continue
        best = database.best(key)
        if best is None or key["templates"] != TEMPLATES_VERSION:
            continue
        device = next(trial.device for trial in trials if trial.parameters == best)
        default, *others = (trial for trial in trials if trial.device == device)
        fastest = next(trial for trial in others if trial.parameters == best)
        if default.score is None or (fastest.score or 0) < default.score * (1 - NOISE):
            yield key, default, fastest


def merge(path: Path, found: Database) -> int:
    """Put what is worth it into a file, in the place of older records of the same layers; how many layers it
    has then."""
    kept = Database(path.with_suffix(".new"))
    measured = {json.dumps(key) for key, _ in found.layers()}
    old = Database(path)
    for key, default, best in [
        *beaten(found),
        *(layer for layer in beaten(old) if json.dumps(layer[0]) not in measured),
    ]:
        kept.add(key, [default, best])
    kept.path = path
    if kept.size:
        kept.save()
    else:
        path.unlink(missing_ok=True)
    return kept.size // 2


def tune(target: targets.Target, networks: Sequence[str], seconds: float | None, trials: int) -> Database:
    """What is found for some networks, which share the time."""
    with tempfile.TemporaryDirectory() as folder:
        path, shipped = Path(folder) / "db.json", use.SHIPPED
        use.SHIPPED = Path(folder)
        try:
            for name in networks:
                model = load_case(name).write_model(Path(folder))
                options = driver.Options(target=target.name)
                share = seconds / len(networks) if seconds else None
                found = tune_model(model, options, None, path, trials, share)
                better = sum(layer.parameters is not None for layer in found.layers)
                print(
                    f"{target.name}, {name}: {found.trials} trials in {found.seconds:.0f} s, "
                    f"{better} layers better; {found.check}",
                    flush=True,
                )
        finally:
            use.SHIPPED = shipped
        return Database(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the databases that come with bnncc."""
    from bnncc.cli.argument_types import duration

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--time", type=duration, help="for each target")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--check", action="store_true", help="only drop what the templates do not know")
    chosen = parser.parse_args(arguments)
    use.SHIPPED.mkdir(exist_ok=True)
    for name in chosen.target:
        target = targets.load(name)
        if not (target.runs_here() or target.is_bare):
            parser.error(f"{name} must be measured where its code runs")
        networks = chosen.network or (NETWORKS if target.runs_here() else SMALL)
        found = tune(target, networks, chosen.time, chosen.trials)
        path = use.SHIPPED / f"{Isa.of(target).name}.json"
        print(f"{path.name}: {merge(path, found)} layers", flush=True)
    if chosen.check:
        for path in sorted(use.SHIPPED.glob("*.json")):
            print(f"{path.name}: {merge(path, Database(path))} layers", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
