# SPDX-License-Identifier: Apache-2.0
"""The integer threshold that a binary contraction may end in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnncc.plan.expression import Accumulator, Channel, Compare, Flip
from bnncc.plan.kernel import KernelSpec
from bnncc.plan.layout import Element


@dataclass(frozen=True)
class Threshold:
    """The only output is bits: accumulator `kind` constant[`index`], negated where constant[`flip`] is 1."""

    kind: str
    index: int
    flip: int | None

    @staticmethod
    def of(spec: KernelSpec) -> Threshold | None:
        """The threshold that `spec` ends in, if that is all it ends in."""
        if len(spec.outputs) != 1 or spec.outputs[0].layout.element is not Element.BIT:
            return None
        expression, flip = spec.outputs[0].expression, None
        if isinstance(expression, Flip):
            expression, flip = expression.value, expression.index
        match expression:
            case Compare("ge" | "gt" | "le" | "lt" as kind, Accumulator(), Channel(index)):
                is_integer = spec.constants[index].element is Element.I32
                return Threshold(kind, index, flip) if is_integer else None
            case _:
                return None

    def at_least(self, constants: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(signs, thresholds), int64 [O]: the bit is signs * value >= thresholds, signs being -1 or +1."""
        thresholds = constants[self.index].astype(np.int64) + (self.kind in ("gt", "le"))
        negated = np.full(thresholds.shape, self.kind in ("le", "lt"))
        if self.flip is not None:
            negated ^= constants[self.flip] != 0
        return np.where(negated, -1, 1), np.where(negated, 1 - thresholds, thresholds)
