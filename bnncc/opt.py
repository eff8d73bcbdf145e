# SPDX-License-Identifier: Apache-2.0
"""`bnncc-opt`: reads a module of the `bnn` dialect, runs passes on it and prints it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from xdsl.dialects import get_all_dialects
from xdsl.dialects.builtin import Builtin
from xdsl.dialects.func import Func
from xdsl.utils.exceptions import ParseError, VerifyException
from xdsl.xdsl_opt_main import xDSLOptMain

from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.dialect.parsing import ELIDED, ELIDED_HINT
from bnncc.universe import UNIVERSE

UPSTREAM = ("arith", "linalg", "math", "memref", "tensor")
"""Dialects of MLIR that convert-bnn-to-linalg writes, and that call-library-kernels reads."""


class OptMain(xDSLOptMain):
    """xDSL's driver with our passes only."""

    def register_all_dialects(self) -> None:
        """builtin, func and bnn, and what linalg text is made of."""
        self.ctx.load_dialect(Builtin)
        self.ctx.load_dialect(Func)
        known = get_all_dialects()
        for name in UPSTREAM:
            self.ctx.register_dialect(name, known[name])
        for name, factory in UNIVERSE.all_dialects.items():
            self.ctx.register_dialect(name, factory)

    def register_all_passes(self) -> None:
        """The passes of the universe, by name."""
        for name, factory in UNIVERSE.all_passes.items():
            self.register_pass(name, factory)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit code."""
    try:
        driver = OptMain("bnncc-opt: optimiser driver of the bnn dialect", arguments)
    except ValueError as problem:  # passes or options that there are not
        return failed(problem)
    try:
        driver.run()
    except BnnccError as error:
        return failed(error, error.exit_code)
    except (OSError, ParseError, VerifyException) as problem:
        return failed(problem)
    return 0


def failed(problem: Exception, code: int = ExitCode.USER) -> int:
    """Tell what is wrong with what the user gave."""
    print(problem, file=sys.stderr)
    if ELIDED in str(problem):
        print(f"  hint: {ELIDED_HINT}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
