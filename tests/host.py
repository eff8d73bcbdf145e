# SPDX-License-Identifier: Apache-2.0
"""The C compiler of this machine, found as bnncc finds it."""

from __future__ import annotations

from bnncc.targets import native
from bnncc.toolchain.c_compiler import find

CC = find(native()).compiler
"""The command: `$CC`, or what there is."""
