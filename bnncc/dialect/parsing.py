# SPDX-License-Identifier: Apache-2.0
"""Modules as text: a context with the dialects that bnncc uses, a parser that verifies, a printer."""

from __future__ import annotations

from io import StringIO

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.dialects.func import Func
from xdsl.parser import Parser
from xdsl.printer import Printer

from bnncc.dialect import BNN
from bnncc.dialect.network import verify_network


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
    verify_network(module)
    return module


def module_text(module: ModuleOp) -> str:
    """The module as MLIR text, with the ONNX nodes as locations; `parse_module` reads it back."""
    stream = StringIO()
    Printer(stream, print_debuginfo=True).print_op(module)
    return stream.getvalue() + "\n"
