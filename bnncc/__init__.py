# SPDX-License-Identifier: Apache-2.0
"""An ahead-of-time compiler for binary and spiking neural networks."""

__version__ = "0.1.0"
