# SPDX-License-Identifier: Apache-2.0
"""`bnncc doctor`: check that what bnncc needs is installed."""

from __future__ import annotations

import argparse

from bnncc.cli.output import json_argument, print_result
from bnncc.diagnostics import ExitCode

HELP = "Check that what bnncc needs is installed"


def arguments(sub: argparse.ArgumentParser) -> None:
    """Add those of the command."""
    json_argument(sub)


def execute(chosen: argparse.Namespace) -> int:
    """bnncc doctor"""
    from bnncc import doctor

    findings = doctor.examine()
    print_result(chosen, lambda: doctor.as_dict(findings), lambda: doctor.render(findings))
    return ExitCode.FINE if doctor.healthy(findings) else ExitCode.FAILURE
