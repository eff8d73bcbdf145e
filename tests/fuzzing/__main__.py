# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.fuzzing`: damaged models by the thousand, none of which may hurt the compiler;
ONNX, or NIR files with --nir."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.fuzzing.mutations import Mutator
from tests.fuzzing.nir_mutations import NirMutator, judge_nir
from tests.fuzzing.workers import COMPILE_EVERY, judge, judge_all

PROGRESS = 1000
"""After so many models the command says how far it is."""


def save(number: int, folder: Path, is_nir: bool) -> Path:
    """The file of a number, for a person to look at."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"model_{number}.{'nir' if is_nir else 'onnx'}"
    if not is_nir:
        path.write_bytes(Mutator(number).model())
        return path
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "model.nir"
        NirMutator(number).write(made)
        path.write_bytes(made.read_bytes())
    return path


def main() -> int:
    """The command; 1 where a model did more than be refused."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="how many models (default: 20000)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--nir", action="store_true", help="NIR files instead of ONNX models")
    parser.add_argument("--save", type=Path, default=Path("build/fuzz"), help="a folder for models at fault")
    chosen = parser.parse_args()
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    numbers = range(chosen.first, chosen.first + chosen.count)
    for verdict in judge_all(numbers, chosen.jobs, judge_nir if chosen.nir else judge):
        outcomes[verdict.outcome] += 1
        slowest = max(slowest, verdict.seconds)
        if verdict.is_fault:
            path = save(verdict.number, chosen.save, chosen.nir)
            print(f"{path}: {verdict.outcome}\n{verdict.detail}", flush=True)
        if outcomes.total() % PROGRESS == 0:
            print(f"{outcomes.total()} models judged", file=sys.stderr, flush=True)
    listed = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    print(f"{chosen.count} models: {listed}; the slowest took {slowest:.1f} s up to the plan")
    print(f"one in {COMPILE_EVERY} of those that were planned was compiled to the end")
    return 0 if set(outcomes) <= {"compiled", "refused"} else 1


if __name__ == "__main__":
    sys.exit(main())
