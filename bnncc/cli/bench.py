# SPDX-License-Identifier: Apache-2.0
"""`bnncc bench`: time a compiled network, or a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from bnncc.cli import argument_types as types
from bnncc.cli.compilation import artifact_argument, artifact_of, input_argument, model_arguments, options_of
from bnncc.cli.output import json_argument, print_result
from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.progress import Progress

HELP = "Time a compiled network, or a model"


def arguments(sub: argparse.ArgumentParser) -> None:
    """Add those of the command."""
    artifact_argument(sub)
    input_argument(sub)
    sub.add_argument("--layers", action="store_true", help="time each layer too")
    sub.add_argument("--html", metavar="FILE", type=Path, help="write the report with what was measured")
    sub.add_argument(
        "--repeat", metavar="N", type=types.positive, default=20, help="timed runs (default: 20)"
    )
    model_arguments(sub)
    json_argument(sub)


def execute(chosen: argparse.Namespace) -> int:
    """bnncc bench DIR|MODEL [--layers] [--repeat N] [--backend tvm,mlir]"""
    from bnncc import bench
    from bnncc.data import arrays
    from bnncc.report.html import report_html

    if len(chosen.backend) > 1:
        return _compare_backends(chosen)
    layers = chosen.layers or chosen.html is not None
    with Progress() as progress:
        artifact = artifact_of(chosen, progress)
        inputs = arrays.read_inputs(chosen.input, artifact.input_names) if chosen.input else None
        progress("timing" if artifact.emulator is None else "counting instructions")
        if artifact.emulator is None:
            result = bench.bench_artifact(artifact, layers, chosen.repeat, inputs)
        else:
            result = bench.count_artifact(artifact, layers, inputs)
    if chosen.html is not None:
        page = report_html(artifact.report(), bench.measured(result))
        arrays.write_text(chosen.html, page)
    print_result(chosen, result.as_dict, result.render)
    return ExitCode.FINE


def _compare_backends(chosen: argparse.Namespace) -> int:
    """bnncc bench MODEL --backend tvm,mlir: in turns, as a table."""
    from dataclasses import replace

    from bnncc import bench, driver
    from bnncc.data import arrays

    if chosen.html is not None:
        raise BnnccError("--html", "the report is of one back end", "give --backend one name")
    options = options_of(chosen, several_backends=not chosen.model.is_dir())
    with Progress() as progress:
        artifacts = {
            name: driver.compile_model(chosen.model, None, replace(options, backend=name), progress)
            for name in chosen.backend
        }
        first = next(iter(artifacts.values()))
        inputs = arrays.read_inputs(chosen.input, first.input_names) if chosen.input else None
        progress("timing" if first.emulator is None else "counting instructions")
        result = bench.compare(artifacts, chosen.layers, chosen.repeat, inputs)
    print_result(chosen, result.as_dict, result.render)
    return ExitCode.FINE
