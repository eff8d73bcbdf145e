# SPDX-License-Identifier: Apache-2.0
"""The `bnncc` command: a thin module for each subcommand.

Everything heavy is imported inside the function that needs it, so that `--help` answers at once.
Results go to stdout, progress and errors to stderr; the exit codes are `diagnostics.ExitCode`.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bnncc import __version__
from bnncc.cli import bench, compile, doctor, inspect, run, targets, tune, verify
from bnncc.diagnostics import BnnccError, ExitCode, did_you_mean

COMMANDS = (compile, run, verify, inspect, bench, tune, targets, doctor)
"""In the order of the help. Each has HELP, a sentence; `arguments`, which adds its own to a parser; and
`execute`, which runs the command and returns the exit code."""

EXIT_CODES = (
    "exit codes: 0 fine; 1 a result differs, or a budget breaks; 2 the input is wrong; 3 a tool is missing, "
    "a device failed, or the fault is ours; 130 interrupted"
)

DEBUG = "BNNCC_DEBUG"
INTERRUPTED = 130
BROKEN_PIPE = 141


def entry() -> None:
    """What the console script calls. Who ends it by `kill` or `timeout`, or closes its terminal, interrupts
    it: what it has written beside its place is removed, programs that it has started are ended."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Under `nohup` a closed terminal is ignored.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names may have letters that the terminal does not know; stderr spells such already.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Reads sys.argv where no arguments are given."""
    try:
        chosen, unknown = parser().parse_known_args(arguments)
        if unknown:
            chosen.parser.refuse(unknown)
    except SystemExit as stop:  # argparse has said what is wrong, or printed the help
        return int(stop.code or 0)
    try:
        code = chosen.command(chosen)
        sys.stdout.flush()
        return code
    except BnnccError as error:
        print("\n".join(f"bnncc: {block}" for block in error.blocks()), file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt as stop:
        print("; ".join(["bnncc: interrupted", *map(str, stop.args)]), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more: stdout must not be flushed again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        return _internal_error(error, chosen.debug)


def _internal_error(error: Exception, debug: bool) -> int:
    if debug or os.environ.get(DEBUG):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    what = " ".join(f"{type(error).__name__}: {error}".split())
    print(
        f"bnncc: internal error{where}: {what}\n"
        f"  hint: please report it, with the model if you may; {DEBUG}=1 prints the traceback",
        file=sys.stderr,
    )
    return int(ExitCode.FAILURE)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line like all other mistakes: where, what, and what to do."""

    def error(self, message: str) -> NoReturn:
        """Print a message of argparse's, and for a word that is none of a few the one meant, and exit."""
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        guess = did_you_mean(choice[1], re.findall(r"'(.*?)'", choice[2])) if choice else ""
        self._stop(message.removeprefix("argument "), guess)

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Print what is no argument of the command, and what may have been meant, and exit."""
        known = re.findall(r"--[a-z][a-z-]+", self.format_usage())
        guess = did_you_mean(unknown[0].partition("=")[0], known)
        self._stop(f"{unknown[0]}: {self.prog} has no such argument", guess)

    def _stop(self, message: str, guess: str = "") -> NoReturn:
        hint = f"{guess}`{self.prog} --help` lists what there is"
        self.exit(int(ExitCode.USER), f"bnncc: {message}\n  hint: {hint}\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="bnncc",
        description="Compile a binary or spiking neural network from ONNX or NIR to a C library.",
        epilog=EXIT_CODES,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"bnncc {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    common = _Parser(add_help=False, allow_abbrev=False)
    common.add_argument("--debug", action="store_true", help="print the traceback of an internal error")
    for command in COMMANDS:
        name, help = command.__name__.rpartition(".")[2], command.HELP
        sub = commands.add_parser(
            name,
            help=help,
            description=f"{help}.",
            epilog=EXIT_CODES,
            parents=[common],
            allow_abbrev=False,
        )
        sub.set_defaults(command=command.execute, parser=sub)
        command.arguments(sub)
    return top
