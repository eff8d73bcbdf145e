# SPDX-License-Identifier: Apache-2.0
"""Compiling with what tuning found: the user's database, then the one that comes with bnncc."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from bnncc import targets
from bnncc.diagnostics import BnnccError
from bnncc.kernels.isa import Isa
from bnncc.kernels.kernel import TileParameters
from bnncc.kernels.space import candidates, layer_key
from bnncc.plan.budget import Goal
from bnncc.plan.kernel import KernelSpec
from bnncc.targets import Target
from bnncc.tuning.database import Database, Key

SHIPPED = targets.FOLDER / "tuned"
"""Databases that `python -m tests.bench.defaults` wrote, one for each family of targets (`Isa.name`): only
layers whose default is clearly beaten."""


def shipped(target: Target) -> Database | None:
    """What comes with bnncc for a target's family."""
    path = SHIPPED / f"{Isa.of(target).name}.json"
    return _read(path) if path.is_file() else None


@lru_cache(maxsize=8)
def _read(path: Path) -> Database:
    return Database(path)


def suits(target: Target, goal: Goal) -> bool:
    """Whether kernels that are chosen for a goal may be those of the shipped database, which knows of speed
    only: where there is no operating system, the default keeps the code short."""
    return goal == "speed" or (goal is None and not target.is_bare)


class Tuned:
    """The tile parameters that databases have for the layers of a target.

    known: how many layers the user's database has; used: how many of these took other parameters than the
    default's; shipped: how many layers took theirs from the database that comes with bnncc."""

    def __init__(self, path: Path | None, target: Target, goal: Goal = None):
        """path: of the user's database, which goes first. Raises BnnccError where there is no such file or it
        is damaged."""
        if path is not None and not path.is_file():
            raise BnnccError(
                "--tuning-db", f"there is no file {path}", "`bnncc tune MODEL --db FILE` makes one"
            )
        self.database = Database(path) if path is not None else None
        self.target = target
        self.known = self.used = self.shipped = 0
        self._shipped = shipped(target) if suits(target, goal) else None

    def __call__(self, spec: KernelSpec) -> TileParameters | None:
        """The parameters for a layer; None for the default, also where the templates do not know those of the
        database any more."""
        key = layer_key(spec, self.target)
        if self.database is not None and self.database.trials(key):
            self.known += 1
            parameters = self._of(self.database, key, spec)
            self.used += parameters is not None
            return parameters
        parameters = self._of(self._shipped, key, spec) if self._shipped else None
        self.shipped += parameters is not None
        return parameters

    def _of(self, database: Database, key: Key, spec: KernelSpec) -> TileParameters | None:
        parameters = database.best(key)
        return parameters if parameters and parameters in candidates(spec, self.target) else None

    def facts(self) -> dict[str, str]:
        """For the report: what was used."""
        parts = []
        if self.database is not None:
            parts.append(f"of {self.known} layers measured, {self.used} have another kernel than the default")
        if self.shipped:
            parts.append(f"{self.shipped} layers have kernels from the shipped database")
        return {"tuning": "; ".join(parts)} if parts else {}
