# SPDX-License-Identifier: Apache-2.0
"""`bnncc targets`: list the targets."""

from __future__ import annotations

import argparse

from bnncc.cli.output import json_argument, print_result
from bnncc.diagnostics import ExitCode

HELP = "List the targets"


def arguments(sub: argparse.ArgumentParser) -> None:
    """Add those of the command."""
    json_argument(sub)


def execute(chosen: argparse.Namespace) -> int:
    """bnncc targets"""
    from bnncc import targets

    known = [targets.load(name) for name in targets.names()]
    rows = [{"name": t.name, "runs_here": t.runs_here(), "description": t.description} for t in known]
    width = max(len(target.name) for target in known)
    text = (
        f"{row['name']:<{width}}  {'*' if row['runs_here'] else ' '}  {row['description']}" for row in rows
    )
    print_result(chosen, lambda: {"targets": rows}, lambda: "\n".join((*text, "", "* runs on this machine")))
    return ExitCode.FINE
