# SPDX-License-Identifier: Apache-2.0
"""manifest.json: what the artifact is, for programs that read it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bnncc
from bnncc.codegen import stateful
from bnncc.codegen.calls import Network
from bnncc.codegen.header import ABI_VERSION, arena_bytes
from bnncc.codegen.text import port_type
from bnncc.execution.artifact import FORMAT, GENERATOR
from bnncc.plan.budget import FlashSizes
from bnncc.plan.memory import ALIGNMENT
from bnncc.plan.program import Buffer, Port, Program, Step
from bnncc.targets import FOR_TUNING, Target

Manifest = dict[str, Any]


def make_manifest(
    network: Network,
    target: Target,
    source: str,
    options: Mapping[str, Any],
    flash: FlashSizes | None = None,
    stack: int | None = None,
    optimize: str | None = None,
) -> Manifest:
    """All but the list of files. source: the model's file name; options: what the user chose; flash: how
    large the library is, if there is one; stack: the bytes that it needs of it, if known; optimize: what
    kernels were chosen for, "size", "speed" or a balance."""
    program = network.program
    return {
        "format": FORMAT,
        "generator": GENERATOR,
        "version": bnncc.__version__,
        "abi": ABI_VERSION,
        "name": program.name,
        "source": source,
        "target": {"name": target.name, **_facts(target)},
        "options": dict(options),
        "batch": batch_of(program),
        "inputs": [_port(port) for port in program.inputs],
        "outputs": [_port(port) for port in program.outputs],
        "arena": {
            "bytes": arena_bytes(program),
            "lower_bound_bytes": program.arena_lower_bound,
            "alignment_bytes": ALIGNMENT,
        },
        **_over_time(program),
        "weights_bytes": network.pool.bytes,
        "code_bytes": flash.code if flash else None,
        **({"threads": network.threads} if network.threads > 1 else {}),
        "stack_bytes": stack,
        "optimize": optimize or "balance",
        "steps": [_step(network, index) for index in range(len(program.steps))],
        "buffers": [_buffer(program, index, buffer) for index, buffer in enumerate(program.buffers)],
    }


def _facts(target: Target) -> dict[str, Any]:
    """What a library depends on, and how it is run."""
    return {key: value for key, value in target.facts().items() if key not in FOR_TUNING}


def list_files(directory: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file in a directory, by its path there."""
    result = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        data = path.read_bytes()
        result[path.relative_to(directory).as_posix()] = {
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    return result


def manifest_text(manifest: Manifest) -> str:
    """As it is written: keys in the order above, one value a line."""
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def batch_of(program: Program) -> int | None:
    """Samples of one call: the common extent of axis 0 of all inputs and outputs, None where they differ."""
    ports = (*program.inputs, *program.outputs, *(state.port for state in program.states))
    extents = {port.shape[0] if port.shape and not port.count else 0 for port in ports}
    return extents.pop() if len(extents) == 1 and 0 not in extents else None


def _over_time(program: Program) -> dict[str, Any]:
    """States, where they lie in the state memory (strides in elements), and loops."""
    facts: dict[str, Any] = {}
    if program.states:
        states = [
            {
                **_port(state.port),
                "output": state.output,
                "offset": program.offsets[state.port.buffer],
                "strides": list(stateful.strides(state)),
                **_ring(program, state.port.buffer),
            }
            for state in program.states
        ]
        facts = {"state": {"bytes": program.state_bytes, "alignment_bytes": ALIGNMENT}, "states": states}
    if program.loops:
        facts["loops"] = [asdict(loop) for loop in program.loops]
    return facts


def _ring(program: Program, buffer: int) -> dict[str, Any]:
    facts = stateful.ring_facts(program, buffer)
    return {"ring": facts} if facts else {}


def _port(port: Port) -> dict[str, Any]:
    return {
        "name": port.name,
        "c_name": port.c_name,
        "c_type": port_type(port),
        "dtype": port.dtype,
        "shape": list(port.shape),
        "buffer": port.buffer,
        **({"optional": True} if port.optional else {}),
        **({"count": port.count} if port.count else {}),
        **({"most": port.most} if port.most is not None else {}),
        **({"spikes": {"channels": port.channels, "shape": list(port.spikes)}} if port.spikes else {}),
    }


def _buffer(program: Program, index: int, buffer: Buffer) -> dict[str, Any]:
    place: dict[str, Any] = {"name": buffer.name, "place": buffer.place, "bytes": buffer.bytes}
    if index in program.offsets:
        place |= {"offset": program.offsets[index], **_ring(program, index)}
    if buffer.place == "part":
        place |= {"base": buffer.base, "stride": buffer.stride}
    if buffer.place in ("input", "output"):
        place["index"] = buffer.index
    return place


def _spiking(step: Step) -> dict[str, Any]:
    """Synaptic operations, and which outputs are spikes: their buffers and how they lie there [n, h, w, c],
    in elements."""
    facts: dict[str, Any] = {}
    if step.density is not None:
        facts["synaptic_operations"] = step.synaptic_operations
        facts["density"] = {"bits": step.density.bits, "measured": step.density.measured}
    if step.spikes:
        facts["spikes"] = [
            {
                "name": spikes.name,
                "buffer": step.writes[spikes.output],
                "element": (layout := step.kernel.outputs[spikes.output].layout).element.value,
                "shape": list(layout.shape),
                "strides": list(layout.strides),
                "offset": layout.offset,
                "recurrent": step.kernel.is_recurrent,
            }
            for spikes in step.spikes
        ]
    return facts


def _step(network: Network, index: int) -> dict[str, Any]:
    step, calls = network.program.steps[index], network.calls[index]
    kernel = network.kernels[step.kernel]
    distinct = {weights.symbol: weights.data.nbytes for weights in calls.weights}
    return {
        "name": step.name,
        "location": step.location,
        "operation": step.operation,
        "domains": step.domains,
        "macs": step.macs,
        "note": step.note,
        **_spiking(step),
        "kernel": kernel.symbol,
        "description": kernel.description,
        "schedule": dict(kernel.schedule),
        "kernel_when_zero": network.kernels[step.when_zero.kernel].symbol if step.when_zero else None,
        "weights_bytes": sum(distinct.values()),
        "reads": list(step.reads),
        "writes": list(step.writes),
        **({"pieces": calls.plain.pieces} if calls.plain.pieces > 1 else {}),
        **({"thread_scratch_bytes": calls.plain.own_scratch} if calls.plain.own_scratch else {}),
    }
