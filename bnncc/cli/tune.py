# SPDX-License-Identifier: Apache-2.0
"""`bnncc tune`: measure on a device which kernels are the fastest, layer by layer."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from bnncc.cli import argument_types as types
from bnncc.cli.compilation import model_argument, model_arguments, options_of
from bnncc.cli.output import json_argument, print_result
from bnncc.diagnostics import ExitCode
from bnncc.progress import Progress

HELP = "Measure on a device which kernels are the fastest, layer by layer"


def arguments(sub: argparse.ArgumentParser) -> None:
    """Add those of the command."""
    model_argument(sub)
    sub.add_argument(
        "--device",
        metavar="DEVICE",
        help="where to measure: local, qemu (counts instructions), ssh://[user@]host[:port], "
        "rpc://tracker:port?key=K or serial:///dev/ttyACM0?baud=B (default: local if this machine can run "
        "the target's code, else qemu)",
    )
    sub.add_argument(
        "--flash",
        metavar="COMMAND",
        dest="flash_command",
        type=shlex.split,
        default=[],
        help="what writes a program to the board at a serial port, {image} its ELF file, {port} the port "
        "(default: the target's)",
    )
    sub.add_argument(
        "--db",
        metavar="FILE",
        type=Path,
        required=True,
        help="the database; what it holds of this device is not measured again",
    )
    sub.add_argument(
        "--trials", metavar="N", type=types.positive, default=64, help="of each kind of layer (default: 64)"
    )
    sub.add_argument("--time", metavar="10m", type=types.duration, help="stop after so long: 90s, 10m, 1h")
    sub.add_argument("--report", metavar="FILE", type=Path, help="write a page that draws the search")
    model_arguments(sub)
    json_argument(sub)


def execute(chosen: argparse.Namespace) -> int:
    """bnncc tune MODEL --db FILE [--target T] [--device D] [--trials N] [--time T] [--report FILE]"""
    from dataclasses import asdict

    from bnncc import tune
    from bnncc.data import arrays

    try:
        with Progress() as progress:
            tuning = tune.tune_model(
                chosen.model,
                options_of(chosen),
                chosen.device,
                chosen.db,
                chosen.trials,
                chosen.time,
                progress,
                chosen.flash_command,
            )
    except KeyboardInterrupt as stop:
        if chosen.db.exists():
            message = f"{chosen.db} has what was found, and the same command goes on"
            raise KeyboardInterrupt(message) from stop
        raise
    from bnncc.tuning import report

    print_result(chosen, lambda: asdict(tuning), lambda: report.render(tuning))
    if chosen.report is not None:
        arrays.write_text(chosen.report, report.report_page(tuning))
    return ExitCode.FINE
