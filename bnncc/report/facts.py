# SPDX-License-Identifier: Apache-2.0
"""What was decided for a network and what it costs, as plain data: report.json, shown by report.html."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnncc.plan import arena
from bnncc.plan.budget import live_bytes, port_bytes
from bnncc.plan.program import Program

Facts = dict[str, Any]


def report_facts(program: Program, manifest: Mapping[str, Any]) -> Facts:
    """The whole report of a program that was written with this manifest.

    layers: every call in order, halos and copies too; `ram_bytes` of the arena are in use there,
    `moved_bytes` are what it reads and writes, weights included. memory: what lies in the arena, from step
    `first` to `last`."""
    inputs, outputs = port_bytes(program)
    return {
        **{key: manifest[key] for key in ("name", "source", "version", "options")},
        "target": manifest["target"]["name"],
        "flash": {"code_bytes": manifest["code_bytes"], "weights_bytes": manifest["weights_bytes"]},
        "ram": {
            "arena_bytes": manifest["arena"]["bytes"],
            "arena_lower_bound_bytes": manifest["arena"]["lower_bound_bytes"],
            **({"state_bytes": program.state_bytes} if program.states else {}),
            "inputs_bytes": inputs,
            "outputs_bytes": outputs,
            "stack_bytes": manifest["stack_bytes"],
        },
        "layers": _layers(program, manifest),
        "memory": _memory(program),
    }


KEPT = ("name", "location", "operation", "domains", "macs", "note", "kernel", "description", "weights_bytes")
"""Of the manifest's steps."""

OF_SPIKES = ("synaptic_operations", "density")
"""The same, of steps that sum spikes."""


def _layers(program: Program, manifest: Mapping[str, Any]) -> list[Facts]:
    live, rows = live_bytes(program), []
    for index, step in enumerate(program.steps):
        known = manifest["steps"][index]
        row = {key: known[key] for key in KEPT} | {key: known[key] for key in OF_SPIKES if key in known}
        moved = sum(program.buffers[buffer].bytes for buffer in (*step.reads, *step.writes))
        rows.append({**row, "ram_bytes": live[index], "moved_bytes": moved + row["weights_bytes"]})
    return rows


def _memory(program: Program) -> list[Facts]:
    owner = arena.owners(program.steps, program.buffers)
    requests = arena.requests(program.steps, program.buffers, owner, program.loops)
    return [
        {
            "name": program.buffers[index].name,
            "offset": program.offsets[index],
            "bytes": request.bytes,
            "first": request.first,
            "last": request.last,
        }
        for index, request in sorted(requests.items())
        if index in program.offsets
    ]
