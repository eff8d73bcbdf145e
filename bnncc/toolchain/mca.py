# SPDX-License-Identifier: Apache-2.0
"""Cycles of inner loops by LLVM's machine code analyser, where it has a model of the processor.

llvm-mca knows pipelines, not memory: its cycles are those of a loop whose data is at hand. The loop of a
kernel is its innermost one with the most instructions.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bnncc.targets import Target
from bnncc.toolchain.llvm import tool

ITERATIONS = 100
COUNTING = ("cnt", "vcnt", "vpopcnt", "popcnt", "cpop", "vcpop")
"""How instructions begin that count bits."""

MISSING = "cycles are not estimated: llvm-mca and llvm-objdump are not installed (apt-get install llvm)"

_FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$")
_BRANCH = re.compile(r"^(b|cb|tb|j|loop)\S*\s(?:.*[\s,])?(?:0x)?([0-9a-f]+) <")


@dataclass(frozen=True)
class Loop:
    """One iteration: how many instructions, how many of them count bits, and the cycles that it takes in the
    long run."""

    instructions: int
    counts: int
    cycles: float


def why_not(target: Target) -> str:
    """Why there are no cycles for a target; empty where there may be."""
    if not target.mcpu or target.mcpu.startswith("generic"):
        return f"cycles are not estimated: llvm-mca has no model of '{target.name}'"
    return "" if has_tools() else MISSING


def has_tools() -> bool:
    """Whether LLVM's tools are installed."""
    return bool(tool("llvm-mca") and tool("llvm-objdump"))


def loops(archive: Path, target: Target, symbols: frozenset[str]) -> Mapping[str, Loop]:
    """The loop of each function of `symbols` in a library that has one; none where a tool fails."""
    objdump = tool("llvm-objdump")
    features = ",".join(target.features)
    options = ["-d", "--no-show-raw-insn", f"--triple={target.triple}", f"--mcpu={target.mcpu}"]
    text = _output([objdump, *options, *([f"--mattr={features}"] if features else []), str(archive)])
    found = {}
    for name, lines in _functions(text).items():
        if name in symbols and (body := _largest_loop(lines)):
            cycles = _cycles(body, target)
            if cycles is not None:
                counts = sum(instruction.startswith(COUNTING) for instruction in body)
                found[name] = Loop(len(body), counts, cycles)
    return found


def _output(command: list[str], text: str = "") -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _functions(text: str) -> dict[str, list[tuple[int, str]]]:
    """Of a disassembly: the (address, instruction) of every function."""
    functions: dict[str, list[tuple[int, str]]] = {}
    lines: list[tuple[int, str]] = []
    for line in text.splitlines():
        if match := _FUNCTION.match(line):
            lines = functions.setdefault(match[1], [])
        elif match := _INSTRUCTION.match(line):
            lines.append((int(match[1], 16), match[2].strip()))
    return functions


def _largest_loop(lines: list[tuple[int, str]]) -> list[str]:
    """The instructions of the largest loop that has no other inside; empty if there is none."""
    places = {address: index for index, (address, _) in enumerate(lines)}
    spans = []
    for index, (address, instruction) in enumerate(lines):
        match = _BRANCH.match(instruction)
        if match and int(match[2], 16) in places and int(match[2], 16) < address:
            spans.append((places[int(match[2], 16)], index))
    innermost = [
        (first, last)
        for first, last in spans
        if not any((a, b) != (first, last) and first <= a and b <= last for a, b in spans)
    ]
    if not innermost:
        return []
    first, last = max(innermost, key=lambda span: span[1] - span[0])
    return [instruction for _, instruction in lines[first : last + 1]]


def _cycles(body: list[str], target: Target) -> float | None:
    """Cycles of one iteration; None where the analyser has no model or does not know an instruction."""
    text = "\n".join(re.sub(r"(?:0x)?[0-9a-f]+ <.*>", ".", instruction) for instruction in body)
    features = ",".join(target.features)
    options = [f"-mtriple={target.triple}", f"-mcpu={target.mcpu}", f"-iterations={ITERATIONS}"]
    command = [tool("llvm-mca"), *options, *([f"-mattr={features}"] if features else [])]
    match = re.search(r"^Total Cycles:\s+(\d+)$", _output(command, text), re.MULTILINE)
    return int(match[1]) / ITERATIONS if match else None
