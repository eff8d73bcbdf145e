# SPDX-License-Identifier: Apache-2.0
"""Contractions of spikes: at which density events cost more than products, measured on a device.

Both forms of a layer are what the compiler makes of the network with that form everywhere. They are measured
in one program on the same spikes, at each of the densities that kernels are made for; the ratio counts. A
record is kept like one of a layer of events, whatever density it is compiled for: with `events` 0 or 1, and
`density`, spikes of a thousand inputs, for parameters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bnncc.kernels.kernel import TileParameters
from bnncc.kernels.space import candidates, layer_key
from bnncc.plan import density
from bnncc.plan.density import CLASSES, Crossover, Form
from bnncc.plan.kernel import KernelSpec, RealConv, SpikeConv
from bnncc.plan.layout import Element
from bnncc.plan.program import Program, Step
from bnncc.plan.simulate import buffer_of, load
from bnncc.targets import Target
from bnncc.tuning.confirm import NOT_FASTER
from bnncc.tuning.database import Database, Key, Trial, margin_of
from bnncc.tuning.devices import Device
from bnncc.tuning.measure import Candidate, Outcome, Subject, measure_together
from bnncc.tuning.tuner import LEAST_SECONDS, Say, patiently
from bnncc.tuning.units import UNITS

FORMS = "events or products"
"""How the operation of a key ends."""

MILLE = 1000


@dataclass(frozen=True)
class Pair:
    """Both forms of one contraction, and how often a run of the network calls each."""

    events: Step
    products: Step
    calls: tuple[int, int] = (1, 1)


def pairs(events: Program, products: Program) -> list[Pair]:
    """The contractions of spikes that two plans of one network have in both forms; the most work first."""
    firsts, seconds = (_by_location(program) for program in (events, products))
    found = [
        Pair(one, seconds[location][0], (calls, seconds[location][1]))
        for location, (one, calls) in firsts.items()
        if is_events(one.kernel)
        and location in seconds
        and isinstance(seconds[location][0].kernel.root, RealConv)
    ]
    return sorted(found, key=lambda pair: -pair.events.macs * pair.calls[0])


def is_events(spec: KernelSpec) -> bool:
    """Whether this sums real weights over bits of spikes."""
    root = spec.root
    return isinstance(root, SpikeConv) and root.weight is Element.F32 and root.input.element is Element.BIT


def _by_location(program: Program) -> dict[str, tuple[Step, int]]:
    """The contractions of spikes that are the only ones of their node, and how often they are called."""
    found: dict[str, list[tuple[Step, int]]] = {}
    for index, step in enumerate(program.steps):
        if step.density is not None and step.macs:
            calls = math.prod(max(1, loop.trips) for loop in program.loops if index in loop)
            found.setdefault(step.location, []).append((step, calls))
    return {location: steps[0] for location, steps in found.items() if len(steps) == 1}


def forms_key(events: KernelSpec, target: Target) -> Key:
    """What a record of both forms is for: the layer of events, whatever its density."""
    assert isinstance(events.root, SpikeConv)
    key = layer_key(replace(events, root=replace(events.root, density=density.DEFAULT)), target)
    return {**key, "operation": f"{key['operation']}, {FORMS}"}


def measure_forms(
    found: Sequence[Pair],
    target: Target,
    device: Device,
    database: Database,
    deadline: float,
    say: Say,
) -> None:
    """Measure what the database does not have of this device, until a time of time.monotonic, and save."""
    for pair in found:
        key = forms_key(pair.events.kernel, target)
        known = {trial.parameters["density"] for trial in database.trials(key, device.name)}
        for share in CLASSES:
            left = deadline - time.monotonic()
            if round(share * MILLE) in known or left <= 0:
                continue
            say(f"{pair.events.location}: events and products, {share:.1%} of the inputs spike")
            seconds = max(LEAST_SECONDS, left)
            forms = _both(pair, share, target, database)
            outcomes = patiently(lambda: measure_together(forms, device, target, seconds), say)  # noqa: B023
            database.add(key, _trials(pair, share, outcomes, device))
            database.save()


def _both(pair: Pair, share: float, target: Target, database: Database) -> list[Candidate]:
    """Products and events on the same spikes, with the tiles that the compiler would take now."""
    spec, dense = pair.events.kernel, pair.products.kernel
    assert isinstance(spec.root, SpikeConv) and isinstance(dense.root, RealConv)
    spec = replace(spec, root=replace(spec.root, density=share))
    events = Subject.of(spec, pair.events.constants)
    planes = zip(spec.inputs, events.reads, strict=False)
    counts = sum(load(layout, read).astype(np.float32) * (1 << b) for b, (layout, read) in enumerate(planes))
    # Products may take more steps of time at once than events do.
    numbers = np.resize(np.asarray(counts), dense.root.input.shape)
    products = Subject.of(dense, pair.products.constants, 0, [buffer_of(dense.root.input, numbers)])
    return [(subject, _tile(subject.spec, target, database)) for subject in (products, events)]


def _tile(spec: KernelSpec, target: Target, database: Database) -> TileParameters:
    default, *others = candidates(spec, target)
    best = database.best(layer_key(spec, target))
    return best if best in others else default


def _trials(pair: Pair, share: float, outcomes: Sequence[Outcome], device: Device) -> list[Trial]:
    """Products first; scores are of all calls in a run of the network."""
    return [
        Trial(
            device.name,
            device.unit,
            {"events": events, "density": round(share * MILLE)},
            None if outcome.score is None else outcome.score * pair.calls[1 - events],
            outcome.problem,
        )
        for events, outcome in enumerate(outcomes)
    ]


def crossover(database: Database, key: Key, device: str | None = None) -> Crossover | None:
    """What a database says of a layer, on a device or on the one that says most; None where nothing."""
    trials = [trial for trial in database.trials(key, device) if not trial.problem]
    for unit in UNITS:
        for name in reversed(dict.fromkeys(trial.device for trial in trials if trial.unit == unit)):
            scores = {
                (trial.parameters["density"], trial.parameters["events"]): trial.score
                for trial in trials
                if trial.device == name
            }
            ratios = [
                (share, (scores.get((round(share * MILLE), 1)) or 0) / products)
                for share in CLASSES
                if (products := scores.get((round(share * MILLE), 0)))
            ]
            good = tuple((share, ratio) for share, ratio in ratios if ratio)
            return Crossover(good, margin_of(unit)) if good else None
    return None


def known(path: Path, target: Target, events: Callable[[], Program]) -> Mapping[str, Crossover]:
    """What a database says of the layers of a network, by location. events: its plan with events everywhere,
    asked for only where the database says something of such layers. Raises BnnccError."""
    if not path.is_file():
        return {}
    database = Database(path)
    if not any(is_forms(key) for key, _ in database.layers()):
        return {}
    steps = _by_location(events())
    found = {
        location: crossover(database, forms_key(step.kernel, target))
        for location, (step, _) in steps.items()
        if is_events(step.kernel)
    }
    return {location: one for location, one in found.items() if one is not None}


def is_forms(key: Key) -> bool:
    """Whether a record is of both forms of a layer, not of its tiles."""
    return str(key["operation"]).endswith(FORMS)


def taken(program: Program) -> dict[str, Form]:
    """The forms of a plan's contractions of spikes with real weights, by location."""
    steps = {location: step.kernel for location, (step, _) in _by_location(program).items()}
    events: dict[str, Form] = {location: "events" for location, spec in steps.items() if is_events(spec)}
    products: dict[str, Form] = {
        location: "products" for location, spec in steps.items() if isinstance(spec.root, RealConv)
    }
    return events | products


def densities(program: Program) -> dict[str, float]:
    """Set bits of an input of a plan's contractions of spikes, by location."""
    steps = (step for step, _ in _by_location(program).values())
    return {step.location: step.density.bits for step in steps if step.density is not None}


def reject(database: Database, key: Key, device: str) -> None:
    """Use none of what was measured of both forms on a device, as whole networks say otherwise."""
    for trial in database.trials(key, device):
        database.replace(key, replace(trial, problem=NOT_FASTER))
