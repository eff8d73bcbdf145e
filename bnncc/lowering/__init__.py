# SPDX-License-Identifier: Apache-2.0
"""From the dialect to the plan: buffers, layouts, kernels to be made, a static arena."""

from __future__ import annotations

from bnncc.lowering.lower import Lowered, lower

__all__ = ["Lowered", "lower"]
