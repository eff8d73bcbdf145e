# SPDX-License-Identifier: Apache-2.0
"""Text to modules: a context with the dialects that bnncc uses, and a parser that verifies."""

from __future__ import annotations

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.dialects.func import Func
from xdsl.parser import Parser

from bnncc.dialect import BNN


def make_context() -> Context:
    """A context that knows builtin, func and bnn."""
    context = Context()
    for dialect in (Builtin, Func, BNN):
        context.load_dialect(dialect)
    return context


def parse_module(text: str, name: str = "<text>") -> ModuleOp:
    """Parse a module and verify it (the parser alone does not).

    Raises xDSL's ParseError or VerifyException."""
    module = Parser(make_context(), text, name).parse_module()
    module.verify()
    return module
