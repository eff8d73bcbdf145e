# SPDX-License-Identifier: Apache-2.0
"""`bnncc verify`: compile, run and compare with the graph of the model, layer by layer."""

from __future__ import annotations

import argparse

from bnncc.cli import argument_types as types
from bnncc.cli.compilation import input_argument, model_argument, model_arguments, options_of
from bnncc.cli.output import json_argument, print_result
from bnncc.diagnostics import ExitCode
from bnncc.progress import Progress

HELP = "Compile, run and compare with the graph of the model, layer by layer"


def arguments(sub: argparse.ArgumentParser) -> None:
    """Add those of the command."""
    model_argument(sub)
    input_argument(sub)
    sub.add_argument(
        "--samples",
        metavar="N",
        type=types.positive,
        default=4,
        help="random samples, where there is no --input (default: 4)",
    )
    sub.add_argument("--seed", metavar="S", type=int, default=0, help="of the random samples (default: 0)")
    model_arguments(sub)
    json_argument(sub)


def execute(chosen: argparse.Namespace) -> int:
    """bnncc verify MODEL [--target T] [--input ...] [--samples N] [--seed S]"""
    from bnncc import verify
    from bnncc.data import arrays

    with Progress() as progress:
        inputs = arrays.read_inputs(chosen.input, _input_names(chosen)) if chosen.input else None
        report = verify.verify_model(
            chosen.model, options_of(chosen), inputs, chosen.samples, chosen.seed, progress
        )
    print_result(chosen, report.as_dict, report.render)
    return ExitCode.FINE if report.passed else ExitCode.DIFFERS


def _input_names(chosen: argparse.Namespace) -> list[str]:
    from bnncc import driver

    lowered = driver.lower_model(chosen.model, options_of(chosen))
    return [port.name for port in lowered.program.inputs]
