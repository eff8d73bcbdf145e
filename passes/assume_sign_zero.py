# SPDX-License-Identifier: Apache-2.0
"""assume-sign-zero: the user says that sign(0) may count as +1 or -1, so no layer has to keep exact zeros."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from bnncc.dialect import operations as ops
from bnncc.passes.fold_thresholds import retype
from bnncc.passes.matching import apply_patterns, copy_source


@dataclass
class AssumeZero(RewritePattern):
    """binarize with zero = 0 has another zero."""

    zero: int

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ops.Binarize, rewriter: PatternRewriter) -> None:
        """Replace the binarize and the types behind it."""
        if op.zero.value.data != 0:
            return
        new = ops.Binarize(op.input, self.zero)
        new.location = op.location
        copy_source(op, new)
        users = [use.operation for use in op.result.uses]
        rewriter.replace(op, [new], [new.result])
        for user in users:
            retype(user, rewriter)


@dataclass(frozen=True)
class AssumeSignZeroPass(ModulePass):
    """Let sign(0) be `zero`, +1 or -1."""

    name = "assume-sign-zero"

    zero: int = 1

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        assert self.zero in (-1, 1), self.zero
        apply_patterns(op, AssumeZero(self.zero))
