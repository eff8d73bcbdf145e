# SPDX-License-Identifier: Apache-2.0
"""What a long command is doing, for somebody who watches a terminal; silent where nobody does."""

from __future__ import annotations

import sys
import time
from typing import TextIO

CLEAR_LINE = "\r\x1b[K"


class Progress:
    """A callback that shows its latest message on one line of stderr, and takes it away at the end."""

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        self._shown = self._stream.isatty()
        self._start = time.monotonic()

    def __call__(self, message: str) -> None:
        """Show the message instead of the one before."""
        if self._shown:
            elapsed = time.monotonic() - self._start
            self._stream.write(f"{CLEAR_LINE}{elapsed:5.1f} s  {message}")
            self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._shown:
            self._stream.write(CLEAR_LINE)
            self._stream.flush()
