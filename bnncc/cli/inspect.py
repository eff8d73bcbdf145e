# SPDX-License-Identifier: Apache-2.0
"""`bnncc inspect`: show what the compiler makes of a model, layer by layer."""

from __future__ import annotations

import argparse

from bnncc.cli.compilation import model_argument, model_arguments, options_of
from bnncc.cli.output import json_argument, print_result
from bnncc.diagnostics import ExitCode
from bnncc.progress import Progress

HELP = "Show what the compiler makes of a model, layer by layer"


def arguments(sub: argparse.ArgumentParser) -> None:
    """Add those of the command."""
    model_argument(sub)
    model_arguments(sub)
    json_argument(sub)


def execute(chosen: argparse.Namespace) -> int:
    """bnncc inspect MODEL"""
    from bnncc import driver
    from bnncc.report import inspect

    with Progress() as progress:
        lowered = driver.lower_model(chosen.model, options_of(chosen), progress)
    rows, decisions = inspect.inspect_rows(lowered.program), driver.decisions(lowered)
    print_result(
        chosen,
        lambda: {
            "layers": inspect.as_dicts(rows),
            "arena": {
                "bytes": lowered.program.arena_bytes,
                "lower_bound_bytes": lowered.program.arena_lower_bound,
            },
            **({"decisions": decisions} if decisions else {}),
        },
        lambda: (
            inspect.render(rows)
            + inspect.render_memory(lowered.program)
            + inspect.render_decisions(decisions)
        ),
    )
    return ExitCode.FINE
