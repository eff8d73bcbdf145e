# SPDX-License-Identifier: Apache-2.0
"""`bnncc run`: run a compiled network, or a model, on arrays."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bnncc.cli import argument_types as types
from bnncc.cli.compilation import artifact_argument, artifact_of, input_argument, model_arguments
from bnncc.cli.output import json_argument, print_json
from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from bnncc.execution.artifact import Artifact

HELP = "Run a compiled network, or a model, on arrays"


def arguments(sub: argparse.ArgumentParser) -> None:
    """Add those of the command."""
    artifact_argument(sub)
    input_argument(sub)
    sub.add_argument(
        "--output", metavar="OUT.npz", type=Path, help="write the outputs (keys: their ONNX names)"
    )
    sub.add_argument(
        "--spikes",
        metavar="RASTER.npz",
        type=Path,
        help="write the spikes of every layer (keys: layers), uint8 [steps, samples, neurons...]",
    )
    sub.add_argument(
        "--plot",
        metavar="RASTER.png",
        type=Path,
        help="draw the spikes and the rate of every layer (needs matplotlib: pip install 'bnncc[plot]')",
    )
    events = sub.add_argument_group("events (arrays t, x, y, p) as the input of a network with states")
    events.add_argument(
        "--step-length",
        metavar="TIME",
        type=types.positive,
        help="of one step, in the unit of t; says that --input is events",
    )
    events.add_argument("--steps", metavar="N", type=types.positive, help="default: up to the last event")
    events.add_argument(
        "--start", metavar="TIME", type=int, help="of the first step (default: the first event's)"
    )
    model_arguments(sub)
    json_argument(sub)


def execute(chosen: argparse.Namespace) -> int:
    """bnncc run DIR|MODEL --input ... [--output OUT.npz]"""
    from bnncc.data import arrays
    from bnncc.execution import spikes
    from bnncc.report import drawing

    if chosen.plot:
        drawing.check_available()
    rasters: list[spikes.Raster] = []
    with Progress() as progress:
        artifact = artifact_of(chosen, progress)
        inputs = _run_inputs(chosen, artifact)
        progress("running")
        if chosen.spikes or chosen.plot:
            outputs, rasters = spikes.record(artifact, inputs)
        else:
            outputs = artifact.run(inputs)
    rows = [arrays.summarise(name, array) for name, array in outputs.items()]
    if chosen.output:
        arrays.write_arrays(chosen.output, outputs)
    if chosen.spikes:
        arrays.write_arrays(chosen.spikes, {raster.name: raster.spikes for raster in rasters})
    if chosen.plot:
        drawing.write(chosen.plot, rasters)
    if chosen.json:
        layers = {"spikes": [raster.summary() for raster in rasters]} if rasters else {}
        print_json({"outputs": rows} | layers)
        return ExitCode.FINE
    lines = list(map(arrays.render_summary, rows))
    print("\n".join([*lines, *([spikes.render(rasters)] if rasters else [])]))
    return ExitCode.FINE


def _run_inputs(chosen: argparse.Namespace, artifact: Artifact) -> Mapping[str, np.ndarray]:
    """Arrays by name, or events binned into steps."""
    from bnncc.data import arrays, spike_words

    if chosen.step_length is None:
        given = arrays.read_inputs(chosen.input, artifact.input_names)
        if {"t", "x", "y"} <= set(given) and "t" not in artifact.input_names:
            hint = "give --step-length, in the unit of t, to cut them into steps"
            raise BnnccError(str(chosen.input[0]), "these are events, not steps of an input", hint)
        return given
    if len(chosen.input) != 1:
        raise BnnccError("--input", "events are one file of arrays t, x, y and p")
    events = spike_words.read_events(arrays.read_arrays(Path(chosen.input[0])), chosen.input[0])
    return artifact.events_input(events, chosen.step_length, chosen.steps, chosen.start)
