# SPDX-License-Identifier: Apache-2.0
"""`bnncc compile`: compile a model to a C library."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnncc.cli import argument_types as types
from bnncc.cli.compilation import model_argument, model_arguments, options_of
from bnncc.cli.output import json_argument, print_json
from bnncc.diagnostics import ExitCode
from bnncc.progress import Progress

if TYPE_CHECKING:
    from bnncc.options import Options

PACKAGES = ("cmake", "arduino", "platformio", "zephyr", "esp-idf")

HELP = "Compile a model to a C library"


def arguments(sub: argparse.ArgumentParser) -> None:
    """Add those of the command."""
    model_argument(sub)
    sub.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help="the directory to write (default: ./NAME)"
    )
    model_arguments(sub)
    sub.add_argument(
        "--emit",
        metavar="KIND,...",
        type=types.emits,
        default=("lib", "so"),
        help=f"what to write, of {','.join(types.EMITS)} (default: lib,so)",
    )
    sub.add_argument(
        "--print-ir-after",
        metavar="PASS",
        action="append",
        default=[],
        help="print the module after this pass, or after 'all', to stderr; may be repeated",
    )
    sub.add_argument(
        "--print-ir-whole",
        action="store_true",
        help="print large constants, too, so that what is printed can be read again",
    )
    sub.add_argument(
        "--package",
        choices=PACKAGES,
        help="write a folder that this build system takes in: sources, description, self-test",
    )
    sub.add_argument(
        "--profile",
        action="store_true",
        help="call NAME_on_layer, a function of yours, before and after every layer; bnncc_cycles.h has one",
    )
    for name, memory in (("ram", "the arena, inputs and outputs"), ("flash", "code and weights")):
        sub.add_argument(
            f"--{name}",
            metavar="BYTES",
            type=types.size,
            help=f"fail with exit code 1 if {memory} need more; 64k is 65536",
        )
    json_argument(sub)


def execute(chosen: argparse.Namespace) -> int:
    """bnncc compile MODEL [-o DIR] ..."""
    from bnncc import driver
    from bnncc.report.text import memory_line

    options = _options(chosen)
    output = chosen.output or Path(driver.name_of(chosen.model, options))
    with Progress() as progress:
        artifact = driver.compile_model(chosen.model, output, options, progress)
    if chosen.json:
        print_json(
            {"directory": str(output), "inputs": artifact.input_names, "outputs": artifact.output_names}
        )
    else:
        print(f"{output}: {', '.join(sorted(path.name for path in output.iterdir()))}")
        print(memory_line(artifact.manifest))
    return ExitCode.FINE


def _options(chosen: argparse.Namespace) -> Options:
    """Those that all commands have, and those of this one."""
    from bnncc.plan.budget import Budgets

    return replace(
        options_of(chosen),
        emit=chosen.emit,
        print_ir_after=tuple(chosen.print_ir_after),
        print_ir_whole=chosen.print_ir_whole,
        package=chosen.package,
        profile=chosen.profile,
        budgets=Budgets(chosen.ram, chosen.flash),
    )
