# SPDX-License-Identifier: Apache-2.0
"""report.txt: what was decided for each layer and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from bnncc.plan.program import Program
from bnncc.report.inspect import inspect_rows, render
from bnncc.report.table import table


def report_text(
    program: Program, kernels: Sequence[str], weights_bytes: int, target: str, source: str, made_by: str
) -> str:
    """The whole report; `kernels` are the symbols of the steps' kernels, in order."""
    head = (
        f"{program.name}, compiled from {source} for {target} by {made_by}\n\n"
        f"weights  {weights_bytes:>12,} bytes, constant\n"
        f"arena    {program.arena_bytes:>12,} bytes, at least {program.arena_lower_bound:,} for any plan\n"
    )
    layers = render(inspect_rows(program))
    calls = [
        (str(index), step.name, kernel, step.when_zero is not None and "two kernels" or "")
        for index, (step, kernel) in enumerate(zip(program.steps, kernels, strict=True))
    ]
    return f"{head}\n{layers}\n{table(('step', 'node', 'kernel', ''), calls, right=(0,))}\n"
