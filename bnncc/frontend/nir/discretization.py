# SPDX-License-Identifier: Apache-2.0
"""How the differential equations of a NIR file become steps: what the file does not say.

One step of length dt, for a membrane v with time constant tau, resistance R and input I, v_leak its rest:

    euler   v' = (1 - dt/tau) v + (dt/tau) R I + (dt/tau) v_leak
    exp     v' = e^(-dt/tau) v + (dt/tau) R I + (1 - e^(-dt/tau)) v_leak

The decay and the two other coefficients are computed in float64 and rounded to float32 once; coefficients
that are 1, and terms that are 0, are left out. IF and I integrate without a leak: v' = v + dt R I. A synaptic
current follows the same rule with tau_syn and w_in in place of tau and R.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Any

from bnncc.diagnostics import BnnccError, did_you_mean, joined

RESETS = ("zero", "value", "subtract", "multi")
INTEGRATORS = ("euler", "exp")
CURRENTS = ("new", "old")
THRESHOLD = "threshold"
"""As `v_min`: minus the threshold of each neuron."""


@dataclass(frozen=True)
class TimeOptions:
    """What a user may say of a NIR file; None where nothing is said.

    dt: the length of a step in the unit of the file's time constants (seconds, by the specification).
    reset: what a spike does to the membrane: "zero" 0, "value" the file's v_reset, "subtract" minus the
    threshold, "multi" minus the threshold as often as it fits, as many spikes at once.
    integrator: "euler" or "exp". current: whether the membrane of CubaLIF and CubaLI sees the "new" current
    of the step or the "old" one. v_min: no membrane of a neuron that fires falls below this number, or, with
    "threshold", below minus its threshold. preset: the tool that wrote the file (PRESETS)."""

    dt: float | None = None
    reset: str | None = None
    integrator: str | None = None
    current: str | None = None
    v_min: float | str | None = None
    preset: str | None = None

    def given(self) -> dict[str, Any]:
        """Those that are set, by the name of the command-line option."""
        return {name.replace("_", "-"): value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Discretization:
    """All of it decided. fire: "gt" v > threshold, "ge" v >= threshold (a reset "multi" counts how often the
    threshold fits, whatever `fire` says). v_min: a number, "threshold", or None for no bound. pending: a
    membrane that stayed above the threshold after "subtract" is compared less the threshold."""

    dt: float
    reset: str = "value"
    integrator: str = "euler"
    current: str = "new"
    fire: str = "gt"
    v_min: float | str | None = None
    pending: bool = False

    def facts(self) -> dict[str, str]:
        """For the report, the header and the manifest."""
        bound = {None: "none", THRESHOLD: "-threshold"}.get(self.v_min, self.v_min)  # type: ignore[arg-type]
        fire = "floor(v / threshold) times" if self.reset == "multi" else FIRE_TEXT[self.fire]
        if self.pending:
            fire += "; less the threshold where v was above it already"
        return {
            "dt": f"{self.dt:g}",
            "integrator": self.integrator,
            "fire": fire,
            "reset": RESET_TEXT[self.reset],
            "current": self.current,
            "v-min": bound if isinstance(bound, str) else f"{bound:g}",
        }


FIRE_TEXT = {"gt": "v > threshold", "ge": "v >= threshold"}
RESET_TEXT = {
    "zero": "zero (v = 0)",
    "value": "value (v = v_reset of the file)",
    "subtract": "subtract (v -= threshold)",
    "multi": "multi (v -= spikes * threshold)",
}


@dataclass(frozen=True)
class Preset:
    """What a tool means by the files that it writes. dt: of its exporter (Sinabs counts time in steps)."""

    dt: float
    reset: str = "value"
    integrator: str = "euler"
    fire: str = "gt"
    v_min: str | None = None
    pending: bool = False
    """Of a reset "subtract"; see Discretization."""


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "snntorch": Preset(1e-4, pending=True),
        "norse": Preset(1e-3),
        "spikingjelly": Preset(1e-4, fire="ge"),
        "sinabs": Preset(1.0, reset="multi", integrator="exp", fire="ge", v_min=THRESHOLD),
        "rockpool": Preset(1e-3, reset="multi", integrator="exp", fire="ge"),
    }
)
"""By the name of the tool, as its importer reads NIR (rockpool: its LIFTorch; not IF of norse
and snntorch, not LIF of sinabs: see docs/spiking.md)."""


def discretization(options: TimeOptions) -> Discretization:
    """What the options say, then the preset, then the defaults. Raises BnnccError where they make no sense,
    or nothing says what dt is."""
    problems = list(_problems(options))
    if problems:
        raise joined(problems)
    preset = PRESETS[options.preset] if options.preset is not None else None
    dt = options.dt if options.dt is not None else preset and preset.dt
    if dt is None:
        raise missing_dt()
    base = Discretization(dt)
    if preset is not None:
        base = Discretization(dt, preset.reset, preset.integrator, "new", preset.fire, preset.v_min)
    reset = options.reset or base.reset
    return Discretization(
        float(dt),
        reset,
        options.integrator or base.integrator,
        options.current or base.current,
        base.fire,
        options.v_min if options.v_min is not None else base.v_min,
        preset is not None and preset.pending and reset == "subtract",
    )


def missing_dt() -> BnnccError:
    """A NIR file does not hold the length of a step."""
    listed = ", ".join(f"{name} {preset.dt:g}" for name, preset in PRESETS.items())
    return BnnccError(
        "--dt",
        "a NIR file does not say how long a step is",
        "give --dt in the unit of the file's time constants (for seconds 1e-4 or 1e-3, say), or --preset "
        f"with the tool that wrote it, which sets dt: {listed}",
    )


def _problems(options: TimeOptions) -> Iterator[BnnccError]:
    """What is wrong with single options."""
    if options.dt is not None and not (_is_number(options.dt) and options.dt > 0):
        yield BnnccError("--dt", f"'{options.dt}' is no positive number", "give the length of a step")
    for name, value, known in (
        ("reset", options.reset, RESETS),
        ("integrator", options.integrator, INTEGRATORS),
        ("current", options.current, CURRENTS),
        ("preset", options.preset, tuple(PRESETS)),
    ):
        if value is not None and value not in known:
            hint = f"{did_you_mean(str(value), known)}choose of {', '.join(known)}"
            yield BnnccError(f"--{name}", f"there is no {name} '{value}'", hint)
    if options.v_min is not None and options.v_min != THRESHOLD and not _is_number(options.v_min):
        hint = f"give a number, or '{THRESHOLD}' for minus the threshold of each neuron"
        yield BnnccError("--v-min", f"'{options.v_min}' is no number", hint)


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int beyond float64
        return False
