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
    head = (
        f"{manifest['name']}, compiled from {manifest['source']} for {manifest['target']['name']} "
        f"by bnncc {manifest['version']}\n\n"
        f"{_memory(manifest)}"
        f"{_goal(manifest)}"
        f"{render_decisions(manifest['options'])}"
    )
    return f"{head}\n{render(inspect_rows(program))}\n{_calls(manifest)}\n"


def memory_line(manifest: Mapping[str, Any]) -> str:
    """What a library takes, on one line: flash (weights, code), then RAM."""
    sizes = "; ".join(f"{name} {size:,}" for name, size in _sizes(manifest).items())
    return f"bytes: {sizes}"


def _memory(manifest: Mapping[str, Any]) -> str:
    """The same, a line each."""
    remarks = {
        "weights": ", constant",
        "arena": f"; no plan needs less than {manifest['arena']['lower_bound_bytes']:,}"
        + _own_memory(manifest),
        "state": " for each stream",
        "stack": " at most, without what the C library takes",
    }
    return "".join(
        f"{name:<8} {size:>12,} bytes{remarks.get(name, '')}\n" for name, size in _sizes(manifest).items()
    )


def _own_memory(manifest: Mapping[str, Any]) -> str:
    """How much of the arena is one thread's own."""
    most = max(step.get("thread_scratch_bytes", 0) for step in manifest["steps"])
    return f", up to {most:,} of it for each of {manifest['threads']} threads" if most else ""


def _sizes(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Bytes by what takes them; what is not there or not known is left out."""
    sizes = {
        "weights": manifest["weights_bytes"],
        "code": manifest["code_bytes"],
        "arena": manifest["arena"]["bytes"],
        "state": manifest["state"]["bytes"] if "state" in manifest else None,
        "inputs": _port_bytes(manifest, "inputs"),
        "outputs": _port_bytes(manifest, "outputs"),
        "stack": manifest["stack_bytes"],
    }
    return {name: size for name, size in sizes.items() if size is not None}


def _port_bytes(manifest: Mapping[str, Any], ports: str) -> int:
    """Of all inputs, or of all outputs but those that the caller can do without."""
    wanted = [port for port in manifest[ports] if not port.get("optional")]
    return sum(manifest["buffers"][port["buffer"]]["bytes"] for port in wanted)


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
