# SPDX-License-Identifier: Apache-2.0
"""`bnn.irdl.mlir`: the dialect for MLIR's own tools, which then parse its operations in generic form.

    bnncc-opt --print-op-generic --print-no-properties network.mlir | mlir-opt --irdl-file=bnn.irdl.mlir

Names and counts of operands, results and regions only. What IRDL cannot say: that bnn.yield ends a block
(regions, those of bnn.fused after the last pass, want `--mlir-very-unsafe-disable-verifier-on-parsing`, which
newer tools have), that operands of one group differ in type (bnn.concat), sizes of several groups under our
name (bnn.neuron, bnn.scan).

`python -m bnncc.dialect.irdl` writes the files that the package ships, one for MLIR 19 and one for newer
tools; a test holds them up to date.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from xdsl.builder import ImplicitBuilder
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.irdl.irdl import (
    AnyOp,
    DialectOp,
    OperandsOp,
    OperationOp,
    ParametersOp,
    RegionOp,
    RegionsOp,
    RegionType,
    ResultsOp,
    TypeOp,
    VariadicityArrayAttr,
    VariadicityAttr,
)
from xdsl.ir import Block, ParametrizedAttribute, Region
from xdsl.irdl import IRDLOperation, OptionalDef, VariadicDef
from xdsl.printer import Printer

from bnncc.dialect import BNN

HEAD = "// SPDX-License-Identifier: Apache-2.0\n// Made by `python -m bnncc.dialect.irdl`.\n"
FILE = Path(__file__).parent / "bnn.irdl.mlir"
LATEST = FILE.with_name("bnn-latest.irdl.mlir")
"""The same as MLIR 24 (IREE 3.13) spells it."""


def irdl_text(latest: bool = False) -> str:
    """The file's text, in generic form; latest: as newer tools than MLIR 19 read numbers of operands."""
    block = Block()
    with ImplicitBuilder(block):
        for attribute in BNN.attributes:
            _type(attribute)  # type: ignore[arg-type]
        for operation in BNN.operations:
            _operation(operation)  # type: ignore[arg-type]
    module = ModuleOp([DialectOp("bnn", Region([block]))])
    stream = StringIO()
    Printer(stream, print_generic_format=True).print_op(module)
    # MLIR 19 knows no names: as plain attributes it lets them pass; newer ones take them for the properties.
    text = re.sub(
        r'("irdl\.(?:parameters|operands|results|regions)".*)<(\{.*\})>', r"\1\2", stream.getvalue()
    )
    if latest:
        text = re.sub(r"(?<=variadicity_array )\[(.+?)\]", _bracketed, text)
    return f"{HEAD}{text}\n"


def _bracketed(kinds: re.Match[str]) -> str:
    return f"[{', '.join(f'<{kind}>' for kind in kinds[1].split(', '))}]"


def _type(attribute: type[ParametrizedAttribute]) -> None:
    definition = attribute.get_irdl_definition()
    names = [name for name, _ in definition.parameters]
    block = Block()
    with ImplicitBuilder(block):
        ParametersOp([AnyOp().output for _ in names], _strings(names))
    TypeOp(_short(definition.name), Region([block]))


def _operation(operation: type[IRDLOperation]) -> None:
    definition = operation.get_irdl_definition()
    block = Block()
    with ImplicitBuilder(block):
        for kind, found in ((OperandsOp, definition.operands), (ResultsOp, definition.results)):
            if found:
                values = [AnyOp().output for _ in found]
                kinds = VariadicityArrayAttr(ArrayAttr([_variadicity(d) for _, d in found]))
                kind(values, kinds, _strings([name for name, _ in found]))
        if definition.regions:
            regions = [RegionOp.build(operands=[[]], result_types=[RegionType()]) for _ in definition.regions]
            RegionsOp(
                [region.output for region in regions], _strings([name for name, _ in definition.regions])
            )
    OperationOp(_short(definition.name), Region([block]))


def _variadicity(definition: object) -> VariadicityAttr:
    if isinstance(definition, OptionalDef):
        return VariadicityAttr.OPTIONAL
    return VariadicityAttr.VARIADIC if isinstance(definition, VariadicDef) else VariadicityAttr.SINGLE


def _strings(names: Sequence[str]) -> ArrayAttr[StringAttr]:
    return ArrayAttr([StringAttr(name) for name in names])


def _short(name: str) -> str:
    return name.partition(".")[2]


if __name__ == "__main__":
    FILE.write_text(irdl_text(), encoding="utf-8")
    LATEST.write_text(irdl_text(latest=True), encoding="utf-8")
