# SPDX-License-Identifier: Apache-2.0
"""`python -m bnncc`: the same as `bnncc`."""

from bnncc.cli import entry

entry()
