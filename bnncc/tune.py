# SPDX-License-Identifier: Apache-2.0
"""`bnncc tune`: the layers of a model are measured on a device, and what is found is held against the
default network in the end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnncc import driver, targets
from bnncc.diagnostics import BnnccError
from bnncc.driver import Say
from bnncc.options import Options

if TYPE_CHECKING:
    from bnncc.execution.artifact import Artifact
    from bnncc.lowering import Lowered
    from bnncc.targets import Target
    from bnncc.tuning.database import Database
    from bnncc.tuning.devices import Device
    from bnncc.tuning.tuner import FormResult, Tuning

CHECKING = 2
"""Seconds that comparing a tuned network with its default takes about."""

FORMS_SHARE = 0.5
"""Part of the time that events and products may take, of networks that have them."""


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
    say, start = progress or driver.quiet, time.monotonic()
    _check(path, options)
    target = targets.load(options.target)
    from bnncc.tuning import confirm
    from bnncc.tuning.database import Database
    from bnncc.tuning.devices import open_device
    from bnncc.tuning.tuner import Limits, results, tune

    found = Database(Path(database))
    found.check_writable()
    before = found.size
    where = open_device(device or ("local" if target.runs_here() else "qemu"), target, flash)
    lowered = driver.lower_model(path, options, progress)
    runs = _runs_whole(where, target)
    forms, said = (), ""
    if driver.has_forms(options) and any(step.density for step in lowered.program.steps):
        deadline = start + (math.inf if seconds is None else seconds * FORMS_SHARE)
        lowered, forms, said = _Forms(path, options, target, where, found, say).tune(lowered, deadline, runs)
    networks = _Networks(lowered, path, options, Path(database))
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
    taken, check = time.monotonic() - start, f"{said}{check}"
    new = found.size - before
    return replace(tuning, check=check, layers=layers, seconds=taken, trials=new, forms=forms)


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


@dataclass(frozen=True)
class _Forms:
    """Whether the contractions of spikes of a network are events or products is decided on the device, before
    the tiles of either."""

    path: str | Path
    options: Options
    target: Target
    device: Device
    found: Database
    say: Say

    def tune(
        self, lowered: Lowered, deadline: float, runs: bool
    ) -> tuple[Lowered, tuple[FormResult, ...], str]:
        """The network with the forms that cost less, what was measured, and what the whole network says of
        it. lowered: the default one; deadline: of time.monotonic; runs: whether it runs whole there."""
        from bnncc.tuning import forms
        from bnncc.tuning.tuner import FormResult

        module = driver.read(self.path, self.options)
        events, products = (driver.lower_form(module, self.options, f) for f in ("events", "products"))
        pairs = forms.pairs(events, products)
        if not pairs:
            return lowered, (), ""
        forms.measure_forms(pairs, self.target, self.device, self.found, deadline, self.say)
        keys = {pair.events.location: forms.forms_key(pair.events.kernel, self.target) for pair in pairs}
        measured = {place: forms.crossover(self.found, key, self.device.name) for place, key in keys.items()}
        self.found.save()
        changed = driver.lower_model(self.path, replace(self.options, tuning_db=self.found.path))
        before, after = forms.taken(lowered.program), forms.taken(changed.program)
        flipped = [place for place in keys if before.get(place) != after.get(place)]
        said = ""
        if flipped and runs:
            said, is_better = self._compare(lowered, changed)
            if not is_better:
                for place in flipped:
                    forms.reject(self.found, keys[place], self.device.name)
                self.found.save()
                changed, after = lowered, before
        results = tuple(
            FormResult(place, bits, found.ratios, found.bits, before[place], after[place])
            for place, bits in forms.densities(lowered.program).items()
            if (found := measured.get(place)) is not None and place in before and place in after
        )
        return changed, results, said

    def _compare(self, lowered: Lowered, changed: Lowered) -> tuple[str, bool]:
        """What the whole network says of other forms, and whether it is the better for them."""
        from bnncc.tuning import confirm

        self.say("comparing the whole network")
        default, other = (driver.build(one, self.path, None, self.options) for one in (lowered, changed))
        ratio = confirm.ratio(default, other)
        what = "instructions" if default.emulator is not None else "time"
        kept = "" if ratio < 1 else ", so the default forms stay"
        return f"Events or products as measured: {ratio:.3f} of the network's {what}{kept}. ", ratio < 1


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
