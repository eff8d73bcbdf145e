# SPDX-License-Identifier: Apache-2.0
"""`bnncc inspect`: what the compiler makes of a model, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from bnncc.plan.kernel import FillHalo
from bnncc.plan.program import Program
from bnncc.report.table import table


@dataclass(frozen=True)
class Row:
    """One fused operation: the ONNX node behind it, what it is, its domains (activation x weight), its
    multiply-accumulates, and a remark (why a layer stayed real-valued, or how an exact zero is kept)."""

    node: str
    operation: str
    domains: str
    macs: int
    note: str


def inspect_rows(program: Program) -> list[Row]:
    """The layers of a lowered network in the order of execution; halos are left out."""
    return [
        Row(step.location, step.operation, step.domains, step.macs, step.note)
        for step in program.steps
        if not isinstance(step.kernel.root, FillHalo)
    ]


def render(rows: Sequence[Row]) -> str:
    """The rows as a table, and the sums below."""
    cells = [
        (row.node, row.operation, row.domains, f"{row.macs:,}" if row.macs else "", row.note) for row in rows
    ]
    text = table(("node", "operation", "domains", "MACs", "remark"), cells, right=(3,))
    binary = sum(row.macs for row in rows if is_binary(row))
    total = sum(row.macs for row in rows)
    share = f" ({binary / total:.1%})" if total else ""
    return f"{text}\n\n{total:,} MACs, {binary:,} of them binary{share}\n"


def render_decisions(decisions: Mapping[str, object]) -> str:
    """What was decided about the network that its file does not say, or what the user chose: a line each,
    after an empty one."""
    lines = [f"{name}: {value}" for name, value in decisions.items()]
    return "\n".join(["", *lines, ""]) if lines else ""


def as_dicts(rows: Sequence[Row]) -> list[dict[str, object]]:
    """The rows for `--json`."""
    return [asdict(row) for row in rows]


def is_binary(row: Row) -> bool:
    """Whether both operands of a contraction are of binary domains."""
    return bool(row.domains) and "f32" not in row.domains
