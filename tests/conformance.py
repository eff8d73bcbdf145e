# SPDX-License-Identifier: Apache-2.0
"""ONNX's own node tests: each compiled for this machine, run, and compared with the expected outputs.

A node test feeds every input of its node, also those that no network computes. The inputs named in SETTINGS
are bound as constants, as a trained network has them: target shapes, axes, pads, sizes and counts. Everything
else is fed when the network runs.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from bnncc.diagnostics import BnnccError
from bnncc.driver import Options, compile_model
from bnncc.execution.artifact import Artifact

NAMES = Path(__file__).parent / "conformance_names.txt"
"""A tier and a test's name on each line."""

SETTINGS: Mapping[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Expand": (1,),
    "Loop": (0, 1),  # how often it runs
    "Pad": (1, 3),
    "Range": (0, 1, 2),  # numbers that determine how long the result is
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
}
"""Operator -> inputs by position that determine the shapes of the results or name dimensions."""

TOLERANCE = {"rtol": 1e-3, "atol": 1e-7}
"""Of ONNX's own runner of these tests, for floats; integers must be equal."""

MARGIN = 64
"""Bytes before and behind the memory of a network that it must leave alone."""

GARBAGE = 0xA5
"""What all memory that a network writes holds before."""


@dataclass(frozen=True)
class Excuse:
    """Why a test need not pass, and a part of the diagnostic that it must end in."""

    reason: str
    says: str


EXCUSED: Mapping[str, Excuse] = {
    "test_nonzero_example": Excuse(
        "how many results there are depends on the data; a C library has arrays of fixed sizes",
        "is known only when the network runs",
    ),
    "test_loop13_seq": Excuse(
        "its result is a sequence of tensors, which no array of fixed size holds",
        "sequence",
    ),
    "test_reshape_allowzero_reordered": Excuse(
        "its tensors have no elements: there is nothing to compute",
        "must be at least 1",
    ),
}
"""Extended tests that need not pass."""


def names() -> list[tuple[str, str]]:
    """(tier, name) of every test; the tiers are "core" and "extended"."""
    lines = NAMES.read_text(encoding="utf-8").splitlines()
    return [(line.split()[0], line.split()[1]) for line in lines]


@cache
def node_tests() -> dict[str, Any]:
    """ONNX's node tests by name. Takes seconds: ONNX computes their expected outputs."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None)}


def check(name: str, target: str = "native", look: Callable[[Path], object] = Path.exists) -> list[str]:
    """Compile and run one test; what is wrong with its outputs. `look` is shown the shared library. Raises
    BnnccError if the test does not compile."""
    case = node_tests()[name]
    wrong = []
    with tempfile.TemporaryDirectory(prefix="bnncc-conformance-") as folder:
        for number, (inputs, outputs) in enumerate(case.data_sets):
            given = {v.name: _array(a) for v, a in zip(case.model.graph.input, inputs, strict=True)}
            model, fed = bind(case.model, given)
            path = Path(folder) / f"{name}_{number}.onnx"
            onnx.save(model, path)
            artifact = compile_model(path, path.with_suffix(""), Options(target=target, emit=("so",)))
            look(next(artifact.directory.glob("*.so")))
            got = run_guarded(artifact, fed)
            for value, expected in zip(case.model.graph.output, outputs, strict=True):
                wrong += difference(value.name, got[value.name], np.asarray(_array(expected)))
    return wrong


def bind(model: onnx.ModelProto, given: Mapping[str, Any]) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model with its SETTINGS as initializers, and the inputs that are left."""
    bound = {
        node.input[slot]
        for node in model.graph.node
        for slot in SETTINGS.get(node.op_type, ())
        if slot < len(node.input) and node.input[slot] in given
    }
    result = onnx.ModelProto()
    result.CopyFrom(model)
    kept = [value for value in model.graph.input if value.name not in bound]
    del result.graph.input[:]
    result.graph.input.extend(kept)
    result.graph.initializer.extend(numpy_helper.from_array(np.asarray(given[n]), n) for n in sorted(bound))
    return result, {name: np.asarray(array) for name, array in given.items() if name not in bound}


def run_guarded(artifact: Artifact, fed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run the network in memory full of garbage, and assert that it stays inside."""
    manifest = artifact.manifest
    inputs = [np.ascontiguousarray(fed[port["name"]]) for port in manifest["inputs"]]
    arena, around_arena = _guarded(manifest["arena"]["bytes"], manifest["arena"]["alignment_bytes"])
    outputs, margins = [], [around_arena]
    for port in manifest["outputs"]:
        dtype = np.dtype(port["dtype"])
        memory, around = _guarded(int(np.prod(port["shape"])) * dtype.itemsize, MARGIN)
        outputs.append(memory.view(dtype).reshape(port["shape"]))
        margins.append(around)
    shaped = [x.reshape(port["shape"]) for x, port in zip(inputs, manifest["inputs"], strict=True)]
    before = [x.copy() for x in shaped]
    artifact.bind(arena, shaped, outputs)()
    assert all((edge == GARBAGE).all() for edges in margins for edge in edges), "it writes beyond its memory"
    assert all(a.tobytes() == b.tobytes() for a, b in zip(before, shaped, strict=True)), (
        "it changes its inputs"
    )
    return dict(zip(artifact.output_names, outputs, strict=True))


def _guarded(size: int, alignment: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """So many aligned bytes, and those around them."""
    memory = np.full(size + 2 * MARGIN + alignment, GARBAGE, np.uint8)
    start = MARGIN + -(memory.ctypes.data + MARGIN) % alignment
    return memory[start : start + size], (memory[:start], memory[start + size :])


def _array(value: Any) -> Any:
    """Some tests hold tensors as they are stored."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def difference(name: str, got: np.ndarray, expected: np.ndarray) -> list[str]:
    """What is wrong with one output: nothing, or one line."""
    if (got.dtype, got.shape) != (expected.dtype, expected.shape):
        return [f"{name} is {got.dtype}{list(got.shape)}, expected {expected.dtype}{list(expected.shape)}"]
    if expected.dtype.kind == "f":
        right = np.isclose(got, expected, **TOLERANCE, equal_nan=True)
    else:
        right = got == expected
    return [] if right.all() else [f"{name}: {int(np.sum(~right))} of {expected.size} values differ"]


def summary(passed: Sequence[str], ran: Sequence[str]) -> list[str]:
    """One line a tier: how many of the tests that ran pass, and which need not and why."""
    lines = []
    for tier in ("core", "extended"):
        mine = [name for kind, name in names() if kind == tier and name in ran]
        if not mine:
            continue
        right = [name for name in mine if name in passed and name not in EXCUSED]
        lines.append(f"ONNX node tests, {tier}: {len(right)} of {len(mine)} pass")
        lines += [f"  {name} need not: {EXCUSED[name].reason}" for name in mine if name in EXCUSED]
    return lines


def excuse_problem(name: str) -> str:
    """ "" where an excused test ends in the diagnostic that its excuse names, else what it does instead."""
    excuse = EXCUSED[name]
    try:
        wrong = check(name)
    except BnnccError as error:
        return "" if excuse.says in str(error) else f"it says something else than '{excuse.says}': {error}"
    return f"its outputs are wrong: {wrong}" if wrong else "it passes: take the excuse away"
