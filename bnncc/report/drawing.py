# SPDX-License-Identifier: Apache-2.0
"""A drawing of spikes: who fires when, and how many in every step. Needs matplotlib, an extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.execution.spikes import Raster

MOST_DOTS = 20_000
"""Spikes of a layer that are drawn one by one; of more, every so many-th."""

WIDTH, HEIGHT = 11.0, 2.2
"""Inches: of the drawing, and of one layer in it."""


def check_available() -> None:
    """Raise BnnccError where matplotlib is missing, before anything is computed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        hint = "install it: pip install 'bnncc[plot]'"
        raise BnnccError("--plot", "matplotlib is not installed", hint, ExitCode.FAILURE) from None


def draw(rasters: Sequence[Raster], sample: int = 0) -> Any:
    """A matplotlib Figure: of each layer the raster of one sample, and the rate of all samples over time."""
    check_available()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT * len(rasters) + 0.6), layout="constrained")
    places = figure.subplots(len(rasters), 2, squeeze=False, sharex=True, width_ratios=(3, 1))
    for (left, right), raster in zip(places, rasters, strict=True):
        steps = len(raster.spikes)
        times, neurons = np.nonzero(raster.spikes[:, sample].reshape(steps, -1))
        every = -(-len(times) // MOST_DOTS) or 1
        left.plot(times[::every], neurons[::every], ls="none", marker="|", ms=4, color="#24618e")
        shown = f" (one in {every} shown)" if every > 1 else ""
        left.set_title(f"{raster.name}{shown}", loc="left", fontsize=9)
        left.set_ylabel("neuron")
        left.set_ylim(-0.5, raster.spikes[0, sample].size - 0.5)
        rates = raster.spikes.reshape(steps, -1).mean(axis=1)
        right.step(np.arange(steps), rates, where="mid", color="#c26a1a")
        right.set_title(f"rate {raster.rate:.4f}", loc="left", fontsize=9)
        right.set_ylim(0, None)
    for place in places[-1]:
        place.set_xlabel("step")
    places[-1][0].set_xlim(-0.5, max(len(raster.spikes) for raster in rasters) - 0.5)
    return figure


def write(path: Path, rasters: Sequence[Raster]) -> None:
    """Draw into a file, of the kind that its name ends in. Raises BnnccError."""
    figure = draw(rasters)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as why:
        reason = " ".join(str(why).split())
        raise BnnccError(str(path), f"cannot be written: {reason}", "name a .png, .svg or .pdf") from None
