# SPDX-License-Identifier: Apache-2.0
"""`bnncc-opt`: reads a module of the `bnn` dialect, runs passes on it and prints it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from xdsl.dialects.builtin import Builtin
from xdsl.dialects.func import Func
from xdsl.xdsl_opt_main import xDSLOptMain

from bnncc.diagnostics import BnnccError
from bnncc.universe import UNIVERSE


class OptMain(xDSLOptMain):
    """xDSL's driver with our dialect and our passes only."""

    def register_all_dialects(self) -> None:
        """builtin, func and bnn."""
        self.ctx.load_dialect(Builtin)
        self.ctx.load_dialect(Func)
        for name, factory in UNIVERSE.all_dialects.items():
            self.ctx.register_dialect(name, factory)

    def register_all_passes(self) -> None:
        """The passes of the universe, by name."""
        for name, factory in UNIVERSE.all_passes.items():
            self.register_pass(name, factory)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit code."""
    try:
        OptMain("bnncc-opt: optimiser driver of the bnn dialect", arguments).run()
    except BnnccError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
