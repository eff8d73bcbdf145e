# SPDX-License-Identifier: Apache-2.0
"""ONNX's own node tests: each compiled for this machine, run, and compared with the expected outputs.

    python -m tests.conformance [--jobs N] [NAME...]

A line for every test that fails, with the reason, then the counts. Where a network cannot be compiled
otherwise, inputs that a trained network has as constants are bound as such: shapes, axes, pads, bounds,
scales.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from bnncc.diagnostics import BnnccError
from bnncc.driver import Options, compile_model

NAMES = Path(__file__).parent / "conformance_names.txt"
"""A tier and a test's name on each line."""

EXCUSED: dict[str, str] = {}
"""Extended tests that need not pass, and why."""

TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}
BOUND = (np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.bool_))
"""Inputs of these types may be bound as constants."""


@dataclass(frozen=True)
class Result:
    """How a test went; `reason` is "" where it passed."""

    tier: str
    name: str
    reason: str
    bound: tuple[str, ...] = ()


def names() -> list[tuple[str, str]]:
    """(tier, name) of every test."""
    lines = NAMES.read_text(encoding="utf-8").split("\n")
    return [(line.split()[0], line.split()[1]) for line in lines if line]


@cache
def node_tests() -> dict[str, Any]:
    """ONNX's node tests by name."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None)}


def run(tier_and_name: tuple[str, str]) -> Result:
    """Compile and run one test."""
    tier, name = tier_and_name
    try:
        case = node_tests().get(name)
        if case is None:
            return Result(tier, name, "ONNX has no such test")
        attempts = []
        for bound in _bindings(case):
            try:
                reason = _difference(case, bound)
            except BnnccError as error:
                attempts.append(str(error).replace("\n", " "))
                continue
            return Result(tier, name, reason, bound)
        return Result(tier, name, attempts[-1] if attempts else "nothing to try")
    except Exception as error:  # a fault of ours: the other tests go on
        return Result(tier, name, f"{type(error).__name__}: {str(error)[:300]}".replace("\n", " "))


def _bindings(case: Any) -> list[tuple[str, ...]]:
    """Which inputs to bind, the fewest first: none, then all integers and booleans but the first input."""
    inputs = [_array(value) for value in case.data_sets[0][0]]
    values = [value.name for value in case.model.graph.input]
    integers = [
        name
        for position, (name, array) in enumerate(zip(values, inputs, strict=True))
        if isinstance(array, np.ndarray | np.generic)
        and array.dtype in BOUND
        and (position or len(values) == 1)
    ]
    small = [
        name for name, array in zip(values, inputs, strict=True) if np.size(array) <= 8 and name != values[0]
    ]
    choices = [(), tuple(integers), tuple(dict.fromkeys((*integers, *small))), tuple(values)]
    whole = isinstance(inputs[0], np.ndarray | np.generic) and inputs[0].dtype in BOUND if inputs else False
    if not whole:
        choices.pop()
    return list(dict.fromkeys(choices))


def _difference(case: Any, bound: Sequence[str]) -> str:
    """What is wrong with the outputs, or ""."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    with tempfile.TemporaryDirectory(prefix="bnncc-conformance-") as folder:
        for number, data in enumerate(case.data_sets):
            inputs, outputs = ([_array(value) for value in values] for values in data)
            given = dict(zip((value.name for value in case.model.graph.input), inputs, strict=True))
            if number == 0 or bound:
                path = Path(folder) / f"model{number}.onnx"
                onnx.save(_bind(case.model, given, bound), path)
                artifact = compile_model(path, Path(folder) / f"out{number}", Options(emit=("so",)))
            fed = {name: np.asarray(array) for name, array in given.items() if name not in bound}
            got = artifact.run(fed)
            for value, expected in zip(case.model.graph.output, outputs, strict=True):
                reason = _compare(value.name, got[value.name], np.asarray(expected))
                if reason:
                    return reason
    return ""


def _array(value: Any) -> Any:
    """Some tests hold tensors as they are stored."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _bind(model: onnx.ModelProto, given: dict[str, Any], bound: Sequence[str]) -> onnx.ModelProto:
    """The model with some inputs as initializers, and what is not said of the others' shapes."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    kept = [value for value in model.graph.input if value.name not in bound]
    del result.graph.input[:]
    result.graph.input.extend(kept)
    result.graph.initializer.extend(numpy_helper.from_array(np.asarray(given[name]), name) for name in bound)
    return result


def _compare(name: str, got: np.ndarray, expected: np.ndarray) -> str:
    if (got.dtype, got.shape) != (expected.dtype, expected.shape):
        return f"{name} is {got.dtype}{list(got.shape)}, expected {expected.dtype}{list(expected.shape)}"
    if expected.dtype.kind == "f":
        right = np.isclose(got, expected, **TOLERANCE, equal_nan=True)
    else:
        right = got == expected
    return "" if np.all(right) else f"{name}: {int(np.sum(~right))} of {expected.size} values differ"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests; 1 if one that must pass does not."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args(arguments)
    chosen = [(tier, name) for tier, name in names() if not options.names or name in options.names]
    with ProcessPoolExecutor(options.jobs) as processes:
        results = list(processes.map(run, chosen, chunksize=4))
    for result in results:
        if result.reason:
            excuse = " (excused)" if result.name in EXCUSED else ""
            print(f"{result.tier} {result.name}{excuse}: {EXCUSED.get(result.name, result.reason)}")
    for tier, group in itertools.groupby(results, key=lambda result: result.tier):
        group = list(group)
        passed = sum(not result.reason for result in group)
        print(f"{tier}: {passed} of {len(group)} pass")
    return int(any(result.reason and result.name not in EXCUSED for result in results))


if __name__ == "__main__":
    sys.exit(main())
