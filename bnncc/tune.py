# SPDX-License-Identifier: Apache-2.0
"""`bnncc tune`: the layers of a model are measured on a device, and what is found is held against the
default network in the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnncc import driver, targets
from bnncc.diagnostics import BnnccError
from bnncc.driver import Say
from bnncc.options import Options

if TYPE_CHECKING:
    from bnncc.artifact import Artifact
    from bnncc.lowering import Lowered
    from bnncc.targets import Target
    from bnncc.tuning.devices import Device
    from bnncc.tuning.tuner import Tuning

CHECKING = 2
"""Seconds that comparing a tuned network with its default takes about."""


def tune_model(
    path: str | Path,
    options: Options,
    device: str | None,
    database: str | Path,
    trials: int = 64,
    seconds: float | None = None,
    progress: Say | None = None,
    flash: Sequence[str] = (),
) -> Tuning:
    """Measure candidates for the layers of a model on a device (`bnncc.tuning.devices.open_device`; None:
    this machine if it can run the target's code, else its emulator) and keep what is found in a file.

    trials: of each kind of layer; seconds: of all together; flash: the command that writes programs to a
    board at a serial port, if not the target's. Raises BnnccError."""
    say, start = progress or _quiet, time.monotonic()
    _check(path, options)
    target = targets.load(options.target)
    from bnncc.tuning import confirm
    from bnncc.tuning.database import Database
    from bnncc.tuning.devices import open_device
    from bnncc.tuning.tuner import Limits, results, tune

    found = Database(Path(database))
    found.check_writable()
    where = open_device(device or ("local" if target.runs_here() else "qemu"), target, flash)
    lowered = driver.lower_model(path, options, progress)
    networks = _Networks(lowered, path, options, Path(database))
    runs = _runs_whole(where, target)
    if runs:
        compiling = time.monotonic()
        networks.build(False)
        # In the end the network is compiled once more, and compared.
        compiling = time.monotonic() - compiling + CHECKING
    if seconds is not None:
        seconds -= time.monotonic() - start + (compiling if runs else 0)
    steps = lowered.program.steps
    tuning = tune(steps, target, where, found, Limits(trials, seconds), say)
    check = confirm.keep_what_holds(steps, target, where, found, networks.build if runs else None, say)
    problems = {layer.nodes: layer.problem for layer in tuning.layers}
    layers = tuple(
        replace(layer, problem=problems[layer.nodes]) for layer in results(steps, target, where, found)
    )
    return replace(tuning, check=check, layers=layers, seconds=time.monotonic() - start)


def _check(path: str | Path, options: Options) -> None:
    """Raise BnnccError for what cannot be tuned, before anything is loaded."""
    if not Path(path).exists():
        raise BnnccError(str(path), "no such file", "check the path of the model")
    if options.tuning_db is not None:
        raise BnnccError("--tuning-db", "what is measured is kept in --db", "leave --tuning-db out")
    if options.backend != "tvm":
        hint = "leave --backend out"
        raise BnnccError("--backend", f"kernels of {options.backend} have nothing to tune", hint)


def _runs_whole(device: Device, target: Target) -> bool:
    """Whether the device is where `bnncc run` runs whole networks, too."""
    from bnncc.tuning.devices import Emulated, Local

    return isinstance(device, Local) or (isinstance(device, Emulated) and not target.runs_here())


class _Networks:
    """Libraries of one network."""

    def __init__(self, lowered: Lowered, path: str | Path, options: Options, database: Path):
        self._lowered, self._path, self._options, self._database = lowered, path, options, database
        self._default: Artifact | None = None

    def build(self, tuned: bool) -> Artifact:
        """The default one, compiled once, or one with what the database has."""
        if tuned:
            options = replace(self._options, tuning_db=self._database)
            return driver.build(self._lowered, self._path, None, options)
        if self._default is None:
            self._default = driver.build(self._lowered, self._path, None, self._options)
        return self._default


def _quiet(_message: str) -> None:
    """Say nothing."""
