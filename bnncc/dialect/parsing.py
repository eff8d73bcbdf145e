# SPDX-License-Identifier: Apache-2.0
"""Modules as text: a context with the dialects that bnncc uses, a parser that verifies, a printer."""

from __future__ import annotations

from io import StringIO

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, DenseIntOrFPElementsAttr, ModuleOp
from xdsl.dialects.func import Func
from xdsl.ir import Attribute
from xdsl.parser import Parser
from xdsl.printer import Printer

from bnncc.dialect import BNN
from bnncc.dialect.network import verify_network

ELIDED = "__elided__"
"""What MLIR's --mlir-elide-elementsattrs-if-larger writes for a constant."""

ELIDED_HINT = "its large constants were left out: print it with --print-ir-whole"

MOST_ELEMENTS = 32
"""Of a constant that is written in any case: what fits in a few lines, such as biases of a small layer."""


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


def module_text(module: ModuleOp, whole: bool = True) -> str:
    """The module as MLIR text, with the ONNX nodes as locations; `parse_module` reads it back. Where it
    is not `whole`, large constants are left out."""
    stream = StringIO()
    printer = Printer if whole else _PrinterWithoutWeights
    printer(stream, print_debuginfo=True).print_op(module)
    return stream.getvalue() + "\n"


class _PrinterWithoutWeights(Printer):
    """Writes MLIR's own mark where a constant has more elements than a reader wants to see."""

    def print_attribute(self, attribute: Attribute) -> None:
        if (
            isinstance(attribute, DenseIntOrFPElementsAttr)
            and len(attribute) > MOST_ELEMENTS
            and not attribute.is_splat()
        ):
            self.print_string(f"dense_resource<{ELIDED}> : ")
            attribute = attribute.type
        super().print_attribute(attribute)
