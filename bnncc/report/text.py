# SPDX-License-Identifier: Apache-2.0
"""report.txt: what was decided for each layer and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnncc.plan.program import Program
from bnncc.report.inspect import inspect_rows, render, render_decisions
from bnncc.report.table import table


def report_text(program: Program, manifest: Mapping[str, Any]) -> str:
    """The whole report of a program that was written with this manifest."""
    arena = manifest["arena"]
    head = (
        f"{manifest['name']}, compiled from {manifest['source']} for {manifest['target']['name']} "
        f"by bnncc {manifest['version']}\n\n"
        f"weights  {manifest['weights_bytes']:>12,} bytes, constant\n"
        f"{_code(manifest)}"
        f"arena    {arena['bytes']:>12,} bytes; no plan needs less than {arena['lower_bound_bytes']:,}\n"
        f"{_stack(manifest)}"
        f"{_goal(manifest)}"
        f"{render_decisions(manifest['options'])}"
    )
    return f"{head}\n{render(inspect_rows(program))}\n{_calls(manifest)}\n"


def _code(manifest: Mapping[str, Any]) -> str:
    code = manifest["code_bytes"]
    return "" if code is None else f"code     {code:>12,} bytes\n"


def _stack(manifest: Mapping[str, Any]) -> str:
    stack = manifest["stack_bytes"]
    return "" if stack is None else f"stack    {stack:>12,} bytes at most, without what the C library takes\n"


def _goal(manifest: Mapping[str, Any]) -> str:
    """What kernels were chosen for, where that makes a difference."""
    if manifest["target"]["popcount"] not in ("none", "words"):
        return ""
    goals = {"balance": "a balance of size and speed: code takes a quarter of a layer's weights, or 1.5 KB"}
    goal = goals.get(manifest["optimize"], manifest["optimize"])
    return f"kernels  chosen for {goal} (--optimize, --flash)\n"


def _calls(manifest: Mapping[str, Any]) -> str:
    """Every call in order, halos and copies too, with its kernel."""
    rows = [
        (str(index), step["name"], step["operation"], step["kernel"])
        for index, step in enumerate(manifest["steps"])
    ]
    return table(("step", "node", "operation", "kernel"), rows, right=(0,))
