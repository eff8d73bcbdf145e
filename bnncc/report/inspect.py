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
    synaptic_operations: int | None = None
    """Additions of a weight for a spike, on average, of a layer that sums spikes."""
    spikes_measured: bool = False
    """Whether they were counted on samples."""


def inspect_rows(program: Program) -> list[Row]:
    """The layers of a lowered network in the order of execution; halos are left out."""
    return [
        Row(
            step.location,
            step.operation,
            step.domains,
            step.macs,
            step.note,
            step.synaptic_operations,
            step.density is not None and step.density.measured,
        )
        for step in program.steps
        if not isinstance(step.kernel.root, FillHalo)
    ]


def render(rows: Sequence[Row]) -> str:
    """The rows as a table, and the sums below."""
    cells = [
        (
            row.node,
            row.operation,
            row.domains,
            f"{row.macs:,}" if row.macs else "",
            "" if row.synaptic_operations is None else f"{row.synaptic_operations:,}",
            row.note,
        )
        for row in rows
    ]
    text = table(("node", "operation", "domains", "MACs", "SynOps", "remark"), cells, right=(3, 4))
    binary = sum(row.macs for row in rows if is_binary(row))
    total = sum(row.macs for row in rows)
    share = f" ({binary / total:.1%})" if total else ""
    of_bytes = sum(row.macs for row in rows if is_of_bytes(row))
    integers = f", {of_bytes:,} of 8 bits" if of_bytes else ""
    return f"{text}\n\n{total:,} MACs, {binary:,} of them binary{share}{integers}\n{_synaptic(rows)}"


def _synaptic(rows: Sequence[Row]) -> str:
    """What spikes save: synaptic operations against the multiply-accumulates of the same layers."""
    summing = [row for row in rows if row.synaptic_operations is not None]
    dense = sum(row.macs for row in summing)
    if not dense:
        return ""
    found = sum(row.synaptic_operations or 0 for row in summing)
    measured = sum(row.spikes_measured for row in summing)
    origin = {0: "spikes assumed: --calibrate counts them", len(summing): "spikes counted on samples"}
    where = origin.get(measured, f"spikes of {measured} of {len(summing)} layers counted on samples")
    return f"{found:,} synaptic operations for {dense:,} MACs of spikes ({found / dense:.1%}; {where})\n"


def render_memory(program: Program) -> str:
    """What of the arena is known before there are kernels, and that no plan could do with less."""
    least = program.arena_lower_bound
    return (
        f"arena: {program.arena_bytes:,} bytes; no plan needs less than {least:,}. "
        "Kernels that want memory of their own add it when they are made: see report.txt\n"
    )


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
    is_real = "f32" in row.domains or row.domains.endswith("i8")
    return bool(row.domains) and not is_real and not is_of_bytes(row)


def is_of_bytes(row: Row) -> bool:
    """Whether a contraction multiplies integers of 8 bits."""
    return row.domains.endswith((" x s8", " x s7", " x s6", " x s5", " x u7", " x u8"))
