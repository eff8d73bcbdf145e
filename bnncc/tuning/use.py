# SPDX-License-Identifier: Apache-2.0
"""Compiling with what tuning found."""

from __future__ import annotations

from pathlib import Path

from bnncc.diagnostics import BnnccError
from bnncc.kernels.kernel import TileParameters
from bnncc.kernels.space import candidates, layer_key
from bnncc.plan.kernel import KernelSpec
from bnncc.targets import Target
from bnncc.tuning.database import Database


class Tuned:
    """The tile parameters that a database has for the layers of a target. used: how many layers took some
    that are not the default's; known: how many are in the database."""

    def __init__(self, path: Path, target: Target):
        """Raises BnnccError where there is no such database or it is damaged."""
        if not path.is_file():
            raise BnnccError(
                "--tuning-db", f"there is no file {path}", "`bnncc tune MODEL --db FILE` makes one"
            )
        self.database, self.target = Database(path), target
        self.used = self.known = 0

    def __call__(self, spec: KernelSpec) -> TileParameters | None:
        """The parameters for a layer; None for the default, also where the templates do not know those of the
        database any more."""
        key = layer_key(spec, self.target)
        if not self.database.trials(key):
            return None
        self.known += 1
        parameters = self.database.best(key)
        if parameters is None or parameters not in candidates(spec, self.target):
            return None
        self.used += 1
        return parameters
