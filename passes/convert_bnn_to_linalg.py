# SPDX-License-Identifier: Apache-2.0
"""The network in upstream MLIR: func, linalg, tensor, arith, math and scf."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from bnncc.diagnostics import BnnccError
from bnncc.linalg.convert import convert_module
from bnncc.linalg.convolution import FORMS


@dataclass(frozen=True)
class ConvertBnnToLinalgPass(ModulePass):
    """Nothing of `bnn` is left. `form` "direct" writes a convolution as one contraction over a moving window,
    "im2col" as a matrix product of windows that are gathered first."""

    name = "convert-bnn-to-linalg"
    form: str = "direct"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Replace the functions of the module."""
        if self.form not in FORMS:
            raise BnnccError(
                self.name, f"there is no form '{self.form}'", f"the forms are {' and '.join(FORMS)}"
            )
        converted = convert_module(op, self.form)
        region = op.detach_region(op.body)
        op.add_region(converted.detach_region(converted.body))
        region.drop_all_references()
