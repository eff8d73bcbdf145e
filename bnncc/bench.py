# SPDX-License-Identifier: Apache-2.0
"""`bnncc bench`: how long a compiled network takes on this machine, whole and layer by layer."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from bnncc.data.arrays import random_input
from bnncc.execution import timing
from bnncc.execution.artifact import Artifact
from bnncc.execution.inputs import batches, checked
from bnncc.report.html import Measured
from bnncc.report.table import table
from bnncc.toolchain import mca

MOST_APART = 1.2
"""How many times what the network takes its layers may take one by one before that is explained."""


@dataclass(frozen=True)
class LayerTime:
    """One step: median microseconds, and how many multiply-accumulates it does."""

    node: str
    operation: str
    microseconds: float
    macs: int


@dataclass(frozen=True)
class Result:
    """Milliseconds of one inference (the compiled batch; of a network with states one step), and the layers
    if asked for. clock: whose time it is (`timing.clock_of`)."""

    name: str
    processor: str
    median: float
    minimum: float
    repeat: int
    layers: tuple[LayerTime, ...] = ()
    threads: int = 1
    clock: str = ""

    @property
    def where(self) -> str:
        """What was measured on."""
        number = "one thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.processor}, {number}"

    def render(self) -> str:
        """What `bnncc bench` prints."""
        head = (
            f"{self.name} on {self.where}, {self.clock}, {self.repeat} measurements\n"
            f"median {self.median:.4f} ms, minimum {self.minimum:.4f} ms\n"
        )
        if not self.layers:
            return head
        total = sum(layer.microseconds for layer in self.layers)
        rows = [
            (
                layer.node,
                layer.operation,
                f"{layer.microseconds:.1f}",
                f"{layer.microseconds / total:.1%}",
                f"{layer.macs / layer.microseconds / 1000:.1f}" if layer.macs else "",
            )
            for layer in self.layers
        ]
        header = ("node", "operation", "us", "share", "GMAC/s")
        outside = sum(layer.microseconds for layer in self.layers if not layer.macs) / total
        return (
            f"{head}\n{table(header, rows, right=(2, 3, 4))}\n\n"
            f"{outside:.1%} of this outside convolutions and dense layers\n{self._calls_note(total)}"
        )

    def _calls_note(self, total: float) -> str:
        """Why layers take more microseconds one by one than the network does, where they are so small."""
        together = self.median * 1000
        if total < MOST_APART * together:
            return ""
        each = (total - together) / len(self.layers)
        return (
            f"one by one the layers take {total:.1f} us, together {together:.1f}: being called from Python "
            f"adds about {each:.1f} us to each\n"
        )

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class LayerCount:
    """One step: instructions, and how many multiply-accumulates it does."""

    node: str
    operation: str
    instructions: int
    macs: int
    loop: mca.Loop | None = None
    """The kernel's inner loop, where there is a model of the processor."""


@dataclass(frozen=True)
class Counted:
    """Instructions of one inference (the compiled batch) as an emulator executed them: not cycles, which
    depend on the core's pipeline and memory. arena_bytes: of RAM; code_bytes, weights_bytes: of flash."""

    name: str
    target: str
    emulator: str
    instructions: int
    arena_bytes: int
    code_bytes: int
    weights_bytes: int
    layers: tuple[LayerCount, ...] = ()
    cycles_note: str = ""
    """Where cycles come from, or why there are none."""

    def render(self) -> str:
        """What `bnncc bench` prints."""
        head = (
            f"{self.name} on {self.target}, emulated by {self.emulator}: instructions, not cycles\n"
            f"{self.instructions:,} instructions; RAM: {self.arena_bytes:,} bytes for the arena; flash: "
            f"{self.code_bytes:,} bytes of code, {self.weights_bytes:,} of weights\n"
        )
        if not self.layers:
            return head
        rows = [
            (
                layer.node,
                layer.operation,
                f"{layer.instructions:,}",
                f"{layer.instructions / max(1, self.instructions):.1%}",
                f"{layer.macs / layer.instructions:.2f}" if layer.macs else "",
                f"{layer.loop.cycles:.1f} for {layer.loop.instructions}" if layer.loop else "",
            )
            for layer in self.layers
        ]
        header = ("node", "operation", "instructions", "share", "MACs/instruction", "cycles of the loop")
        if not any(layer.loop for layer in self.layers):
            header, rows = header[:-1], [row[:-1] for row in rows]
        columns = tuple(range(2, len(header)))
        return f"{head}\n{table(header, rows, right=columns)}\n{self.cycles_note}\n"

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


def count_artifact(
    artifact: Artifact, layers: bool = False, inputs: Mapping[str, np.ndarray] | None = None
) -> Counted:
    """Count the instructions of an artifact for another processor under its emulator; `inputs` as below."""
    emulator, manifest = artifact.emulator, artifact.manifest
    assert emulator is not None
    total, counts = emulator.count(_first_batch(artifact, inputs), layers)
    note, cycles = _cycles(artifact) if layers else ("", {})
    rows = tuple(
        LayerCount(
            step["location"] or step["name"],
            step["operation"],
            count,
            step["macs"],
            cycles.get(f"{artifact.name}_{step['kernel']}"),
        )
        for step, count in zip(manifest["steps"], counts, strict=False)
    )
    program = artifact.target.emulator[0]
    sizes = (manifest["arena"]["bytes"], manifest["code_bytes"], manifest["weights_bytes"])
    return Counted(artifact.name, artifact.target.name, program, total, *sizes, rows, note)


def _cycles(artifact: Artifact) -> tuple[str, Mapping[str, mca.Loop]]:
    """Where cycles come from or why there are none, and the inner loops of the kernels."""
    target = artifact.target
    if reason := mca.why_not(target):
        return reason, {}
    symbols = frozenset(f"{artifact.name}_{step['kernel']}" for step in artifact.manifest["steps"])
    found = mca.loops(artifact.directory / f"lib{artifact.name}_layers.a", target, symbols)
    note = (
        f"cycles: one iteration of a kernel's inner loop and its instructions, by llvm-mca for {target.mcpu}"
    )
    return (
        note if found else f"cycles are not estimated: llvm-mca has no model of {target.mcpu} that fits",
        found,
    )


def measured(result: Result | Counted) -> Measured:
    """A measurement of layers as the report shows it."""
    if isinstance(result, Counted):
        where = f"instructions on {result.target}, emulated by {result.emulator}; not cycles"
        return Measured("instructions", where, [layer.instructions for layer in result.layers])
    where = f"microseconds on {result.where}"
    return Measured("us", where, [layer.microseconds for layer in result.layers])


def _first_batch(artifact: Artifact, inputs: Mapping[str, np.ndarray] | None) -> list[np.ndarray]:
    """The first batch (of a network with states: of the first step) of the inputs; random ones if none."""
    if inputs is not None:
        has_states = artifact.is_stateful
        given = checked(artifact.manifest, inputs, steps=has_states, samples=True)
        first = next(batches(artifact.manifest, given, steps=has_states))
        return [np.ascontiguousarray(array[0]) for array in first] if has_states else first
    rng = np.random.default_rng(0)
    return [random_input(rng, port) for port in artifact.manifest["inputs"]]


def bench_artifact(
    artifact: Artifact, layers: bool = False, repeat: int = 20, inputs: Mapping[str, np.ndarray] | None = None
) -> Result:
    """Time the artifact in this process, pinned to a core for each of its threads where the system allows it.

    `inputs`: the first batch of them is taken; random ones otherwise. `repeat`: measurements, of which the
    median counts."""
    outputs = [np.zeros(port["shape"], port["dtype"]) for port in artifact.manifest["outputs"]]
    given = _first_batch(artifact, inputs)
    memory = [artifact.arena(), *([artifact.state_memory()] if artifact.is_stateful else [])]
    clock, clock_name = timing.clock_of(artifact.threads)
    with _few_cores(artifact.threads):
        run = artifact.bind(memory[0], given, outputs, *memory[1:])
        times = timing.measure(run, repeat, clock)
        medians = timing.layer_medians(artifact, memory, given, outputs, repeat, clock) if layers else ()
    rows = tuple(
        LayerTime(step["location"] or step["name"], step["operation"], 1000 * median, step["macs"])
        for step, median in zip(artifact.manifest["steps"], medians, strict=False)
    )
    facts = (artifact.manifest["name"], processor(), statistics.median(times), min(times), repeat)
    return Result(*facts, rows, artifact.threads, clock_name)


@dataclass(frozen=True)
class Comparison:
    """What several back ends make of one model, by name, the first of them the one that others are held
    against."""

    results: Mapping[str, Result | Counted]

    @property
    def costs(self) -> dict[str, float]:
        """Milliseconds, or instructions under an emulator."""
        return {
            name: result.median if isinstance(result, Result) else result.instructions
            for name, result in self.results.items()
        }

    def render(self) -> str:
        """What `bnncc bench` prints: the ratios, then each by itself."""
        costs = self.costs
        first, base = next(iter(costs.items()))
        counted = isinstance(next(iter(self.results.values())), Counted)
        unit, digits = ("instructions", 0) if counted else ("median ms", 4)
        rows = [(name, f"{cost:,.{digits}f}", f"{cost / base:.2f}") for name, cost in costs.items()]
        head = table(("back end", unit, f"of {first}"), rows, right=(1, 2))
        parts = [f"{name}: {result.render()}" for name, result in self.results.items()]
        return "\n".join([f"{head}\n", *parts])

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return {name: result.as_dict() for name, result in self.results.items()}


def compare(
    artifacts: Mapping[str, Artifact],
    layers: bool = False,
    repeat: int = 20,
    inputs: Mapping[str, np.ndarray] | None = None,
) -> Comparison:
    """Measure artifacts of one model; on this machine they take turns, as neighbours and clocks change."""
    if any(artifact.emulator is not None for artifact in artifacts.values()):
        return Comparison({name: count_artifact(a, layers, inputs) for name, a in artifacts.items()})
    turns = {name: [bench_artifact(a, layers, 1, inputs)] for name, a in artifacts.items()}
    for _ in range(repeat - 1):
        for name, artifact in artifacts.items():
            turns[name].append(bench_artifact(artifact, False, 1, inputs))
    return Comparison({name: _joined(results) for name, results in turns.items()})


def _joined(results: Sequence[Result]) -> Result:
    """One measurement of many of one run each; the layers are those of the first."""
    times = [result.median for result in results]
    return replace(results[0], median=statistics.median(times), minimum=min(times), repeat=len(times))


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            facts = dict(line.split(":", 1) for line in info if ":" in line)
    except OSError:
        return platform.processor() or platform.machine()
    named = {key.strip(): value.strip() for key, value in facts.items()}
    if "model name" not in named:
        return platform.machine()
    return f"{named['model name']} (family {named.get('cpu family')}, model {named.get('model')})"


class _few_cores:
    """Pins this thread, and those that it starts, to so many of the cores that it may use, the last ones."""

    def __init__(self, count: int):
        self.count = count

    def __enter__(self) -> None:
        self.before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        if self.before:
            os.sched_setaffinity(0, set(sorted(self.before)[-self.count :]))

    def __exit__(self, *_: object) -> None:
        if self.before:
            os.sched_setaffinity(0, self.before)
