# SPDX-License-Identifier: Apache-2.0
"""`bnncc verify`: the compiled library against the graph of the model, whole and layer by layer.

The graph (ONNX or NIR) is evaluated node by node in float32. Where a value of the compiled network equals a
tensor of that graph (its `source`), the layers after it are fed the graph's own numbers, so that one rounding
does not follow another. Then for each layer:

* the folded arithmetic of `reference.py` is compared with the graph (did the passes keep the meaning?),
* the compiled layer is compared with `reference.py` on the same inputs (does the kernel compute it?).

Integers and bits must be identical. Real values must agree to float32 rounding. A bit that differs is
explained where the real value behind it lies within rounding of the threshold (`rounding.Ties`); anything
else fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import BlockArgument, Operation, SSAValue

from bnncc import driver, reference
from bnncc.arrays import random_input
from bnncc.artifact import Artifact
from bnncc.dialect import operations as ops
from bnncc.dialect.network import main_function
from bnncc.dialect.sources import get_source, location_text
from bnncc.dialect.time import Scan
from bnncc.dialect.types import element_of, numpy_type
from bnncc.driver import Options, Say
from bnncc.frontend.evaluate import ModelEvaluator
from bnncc.frontend.nir.evaluate import NirEvaluator
from bnncc.frontend.nir.file import is_nir
from bnncc.frontend.nir.rounding import NirTies
from bnncc.layers import LayerRunner
from bnncc.lowering import Lowered
from bnncc.passes.matching import ELEMENTWISE
from bnncc.report.table import table
from bnncc.rounding import Ties
from bnncc.streams import checked, sample_batches

ROUNDING = 2e-5
"""Allowed error of a real value, relative to the largest magnitude in its tensor: a few thousand float32
terms summed in another order stay well below."""

OUTPUT_ROUNDING = 1e-3
"""The same for the network's outputs, where the errors of many layers add up."""

STEPS = 8
"""Of a random sequence."""

ZEROS = 0.02
"""The share of exact zeros in every second random batch."""


Evaluator = ModelEvaluator | NirEvaluator


@dataclass(frozen=True)
class Row:
    """One comparison: `against` is "onnx" or "nir" (passes) or "reference" (kernel)."""

    layer: str
    operation: str
    against: str
    values: int
    differing: int
    explained: int
    error: float
    """Largest difference of a real value, relative to the largest magnitude of its tensor."""

    @property
    def passed(self) -> bool:
        """Whether every difference is explained."""
        return self.differing == self.explained


@dataclass(frozen=True)
class Report:
    """All comparisons: one row per layer and reference, summed over the samples, and one per output."""

    rows: tuple[Row, ...]
    outputs: tuple[Row, ...]
    samples: int

    @property
    def passed(self) -> bool:
        """Whether nothing differs without an explanation. An output may differ where a flip upstream does."""
        flips = any(row.explained for row in self.rows)
        return all(row.passed for row in self.rows) and (flips or all(row.passed for row in self.outputs))

    def render(self) -> str:
        """The table that `bnncc verify` prints."""
        cells = [
            (
                "" if row.passed else "FAIL",
                row.layer,
                row.operation,
                row.against,
                f"{row.values:,}",
                str(row.differing),
                str(row.explained),
                f"{row.error:.1e}" if row.error else "0",
            )
            for row in (*self.rows, *self.outputs)
        ]
        header = ("", "layer", "operation", "against", "values", "differ", "explained", "error")
        verdict = "every value agrees" if self.passed else "there are differences without an explanation"
        explained = sum(row.explained for row in self.rows)
        flips = f"; {explained} rounding flips, each explained" if explained else ""
        return f"{table(header, cells, right=(4, 5, 6, 7))}\n\n{self.samples} samples: {verdict}{flips}\n"

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "passed": self.passed,
            "samples": self.samples,
            "layers": [asdict(row) for row in self.rows],
            "outputs": [asdict(row) for row in self.outputs],
        }


def verify_model(
    path: str | Path,
    options: Options,
    inputs: Mapping[str, np.ndarray] | None = None,
    samples: int = 4,
    seed: int = 0,
    progress: Say | None = None,
) -> Report:
    """Compile, run, compare. `inputs` (stacked samples) or `samples` random ones from `seed`.

    Raises BnnccError for wrong inputs and models."""
    module = driver.front(path, options, progress)
    lowered = driver.lower_module(module, driver.name_of(path, options), options)
    artifact = driver.build(lowered, path, None, options, progress)
    graph = _evaluator(path, options)
    feed = (lambda batch: _graph_inputs(path, options, batch)) if options.camera else None
    if artifact.is_stateful:
        sequences = _sequences(artifact, inputs, samples, seed)
        return verify_sequences(lowered, artifact, graph, sequences, feed, progress)
    given = artifact.batches(inputs) if inputs is not None else _random_batches(artifact, samples, seed)
    return verify_library(lowered, artifact, graph, list(given), feed, progress)


def _evaluator(path: str | Path, options: Options) -> Evaluator:
    """What evaluates the graph of the file."""
    if is_nir(Path(path)):
        return NirEvaluator(path, options.time)
    return ModelEvaluator(path, dict(options.dims))


def verify_library(
    lowered: Lowered,
    artifact: Artifact,
    graph: Evaluator,
    batches: Sequence[Mapping[str, np.ndarray]],
    feed: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] | None = None,
    progress: Say | None = None,
) -> Report:
    """Compare what is compiled already. `feed` turns inputs of the library into those of the graph, where
    they are not the same."""
    say = progress or (lambda message: None)
    verifier = _Verifier(lowered, artifact, graph, feed)
    for number, batch in enumerate(batches):
        say(f"verifying sample {number + 1} of {len(batches)}")
        verifier.add(batch, artifact.run(batch))
    return verifier.report(len(batches))


def verify_sequences(
    lowered: Lowered,
    artifact: Artifact,
    graph: Evaluator,
    sequences: Sequence[Sequence[Mapping[str, np.ndarray]]],
    feed: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] | None = None,
    progress: Say | None = None,
) -> Report:
    """The same for a network with states: each sequence is the inputs of its steps. Every step begins with
    the states that the graph has then, so that one rounding does not follow another."""
    say = progress or (lambda message: None)
    verifier = _Verifier(lowered, artifact, graph, feed)
    ports = {port["name"]: port for port in artifact.manifest["states"]}
    for number, sequence in enumerate(sequences):
        states = {name: np.zeros(port["shape"], port["dtype"]) for name, port in ports.items()}
        stream = artifact.stream()
        for step, inputs in enumerate(sequence):
            say(f"verifying step {step + 1} of sample {number + 1} of {len(sequences)}")
            batch = {**inputs, **states}
            values = verifier.add(batch, stream.step(batch))
            states = {name: values[port["output"]] for name, port in ports.items()}
    return verifier.report(len(sequences))


class _Verifier:
    """Gathers comparisons."""

    def __init__(
        self,
        lowered: Lowered,
        artifact: Artifact,
        graph: Evaluator,
        feed: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] | None,
    ):
        self.lowered, self.graph, self.feed = lowered, graph, feed
        self.runner = LayerRunner(lowered, artifact)
        self.rows: dict[tuple[str, str, str], Row] = {}
        self.outputs: dict[tuple[str, str, str], Row] = {}

    def add(self, batch: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Compare the layers, and the outputs that were got, for one batch; the graph's tensors."""
        fed = self.feed(batch) if self.feed else batch
        comparison = _Comparison(self.lowered.module, self.graph, fed, batch)
        for row in comparison.rows():
            _merge(self.rows, row)
        for row in _layer_rows(self.lowered, self.runner, comparison.values):
            _merge(self.rows, row)
        for row in _output_rows(got, comparison):
            _merge(self.outputs, row)
        return comparison.graph

    def report(self, samples: int) -> Report:
        """Of all that was added."""
        return Report(tuple(self.rows.values()), tuple(self.outputs.values()), samples)


@dataclass(frozen=True)
class _Alone:
    """The folded arithmetic by itself. flipped: whether its first bit that is not the graph's lies within
    rounding of the threshold."""

    outputs: Mapping[str, np.ndarray]
    flipped: bool


class _Comparison:
    """One batch through the graph and through the reference, the latter anchored to the former.

    graph: every tensor of the model's graph. values: every value of the module's main block."""

    def __init__(
        self,
        module: ModuleOp,
        evaluator: Evaluator,
        fed: Mapping[str, np.ndarray],
        batch: Mapping[str, np.ndarray],
    ):
        """fed: the graph's inputs; batch: the module's."""
        self.values: dict[SSAValue, np.ndarray] = {}
        self.graph = evaluator(fed)
        self._evaluator = evaluator
        self._rows: list[Row] = []
        self._known: dict[Operation, np.ndarray] = {}
        self._module, self._batch = module, batch
        main = main_function(module)
        arguments = reference.check_inputs(main, batch)
        self.values.update(zip(main.body.block.args, arguments, strict=True))
        reference.evaluate(module, batch, self._observe)
        for op in main.body.block.ops:
            if isinstance(op, Scan):
                self._first_step(op)

    @property
    def against(self) -> str:
        """What the graph is called in a row."""
        return "nir" if isinstance(self._evaluator, NirEvaluator) else "onnx"

    def rows(self) -> list[Row]:
        """The reference's own arithmetic against the graph."""
        return self._rows

    def _first_step(self, op: Scan) -> None:
        """The values inside a loop, in its first step."""
        operands = [self.values[operand] for operand in op.operands]
        if op.count is not None:
            operands.pop()
        sequences = len(op.sequences)
        arguments = [*(array[0] for array in operands[:sequences]), *operands[sequences:]]
        self.values.update(zip(op.block.args, arguments, strict=True))

        def note(inner: Operation, results: list[np.ndarray]) -> None:
            if inner.parent is op.block:
                self.values.update(zip(inner.results, results, strict=True))

        reference.evaluate_block(op.block, arguments, note)

    @cached_property
    def ties(self) -> Ties | NirTies:
        """The decisions of the graph that hang on rounding."""
        if isinstance(self._evaluator, NirEvaluator):
            return NirTies(self._evaluator, self.graph)
        return Ties(self._evaluator, self.graph)

    def alone(self) -> _Alone:
        """The folded arithmetic from the inputs on, fed nothing of the graph's."""
        flips: list[bool] = []

        def watch(op: Operation, results: list[np.ndarray]) -> None:
            if op in self._known and (differs := _differs(results[0], self._known[op])).any():
                near, source = self._near(op), get_source(op)
                if near is None and _is_real(self._known[op]):
                    return  # no decision, but what follows from one
                if near is None:  # an operation between lost its source
                    flips.append(source is not None and self.ties.before(source[0]))
                else:
                    flips.append(not (differs & ~near).any())

        outputs = reference.evaluate(self._module, self._batch, watch)
        # What comes after the first flip may differ by as much as it likes.
        return _Alone(outputs, bool(flips) and flips[0])

    def _near(self, op: Operation) -> np.ndarray | None:
        """Where the graph's tensor that an operation stands for hangs on rounding."""
        source = get_source(op)
        near = self.ties.behind(source[0]) if source is not None else None
        return None if source is None or near is None else near.transpose(source[1])

    def _observe(self, op: Operation, results: list[np.ndarray]) -> list[np.ndarray]:
        anchored = self._anchored(op, results)
        parent = op.parent_op()
        if parent is not None and not isinstance(parent, ops.Fused):
            self.values.update(zip(op.results, anchored, strict=True))
        return anchored

    def _anchored(self, op: Operation, results: list[np.ndarray]) -> list[np.ndarray]:
        source = get_source(op)
        if source is None or isinstance(op, ops.Constant) or len(results) != 1:
            return results
        name, permutation = source
        if name not in self.graph or len(permutation) != self.graph[name].ndim:
            return results
        expected = self.graph[name].transpose(permutation)
        if expected.shape != results[0].shape:
            return results
        expected = expected.astype(numpy_type(element_of(op.results[0])))
        near = self._near(op) if (results[0] != expected).any() else None
        about = op.name.removeprefix("bnn.")
        self._rows.append(_compare(location_text(op), about, self.against, results[0], expected, near))
        self._known[op] = expected
        return [np.ascontiguousarray(expected)]


def _layer_rows(
    lowered: Lowered, runner: LayerRunner, values: Mapping[SSAValue, np.ndarray]
) -> Iterator[Row]:
    """Each compiled layer against the reference, fed the same values."""
    for op, first in runner.layers():
        operands = [values[operand] for operand in op.operands]
        inner: dict[SSAValue, np.ndarray] = {}

        def note(inner_op: Operation, results: list[np.ndarray], into: dict = inner) -> None:
            into.update(zip(inner_op.results, results, strict=True))

        if isinstance(op, ops.Fused):
            expected = reference.evaluate_fused(op, operands, note)
            inner.update(zip(op.block.args, operands, strict=True))
            made_by = [value.owner for value in op.results_inside]
        else:
            expected = reference.evaluate_operation(op, operands)
            made_by = [op] * len(expected)
        got = runner.run(op, operands)
        step = lowered.program.steps[first]
        for have, want, maker in zip(got, expected, made_by, strict=True):
            owner = maker if isinstance(maker, Operation) else op
            near = _near_threshold(owner, inner)
            yield _compare(step.location or step.name, step.operation, "reference", have, want, near)


def _output_rows(got: Mapping[str, np.ndarray], comparison: _Comparison) -> Iterator[Row]:
    """The network as a whole. Where an output differs from the graph's, a rounding flip inside may be the
    reason: then the folded arithmetic, fed nothing of the graph's, shows the flip and the same output."""
    wrong: dict[str, np.ndarray] = {}
    for name, array in got.items():
        expected = comparison.graph[name].reshape(array.shape)
        wrong[name] = ~_close(array, expected, OUTPUT_ROUNDING)
    folded = comparison.alone() if any(array.any() for array in wrong.values()) else None
    for name, array in got.items():
        explained = 0
        if folded is not None and folded.flipped:
            same = _close(array, folded.outputs[name].reshape(array.shape), OUTPUT_ROUNDING)
            explained = int((wrong[name] & same).sum())
        error = _relative(array, comparison.graph[name].reshape(array.shape))
        yield Row(name, "output", comparison.against, array.size, int(wrong[name].sum()), explained, error)


def _compare(
    layer: str,
    operation: str,
    against: str,
    got: np.ndarray,
    expected: np.ndarray,
    near: np.ndarray | None,
) -> Row:
    """One tensor; `near` tells where a decision behind it hangs on rounding."""
    differs = _differs(got, expected)
    explained = 0 if near is None else int((differs & near).sum())
    error = _relative(got, expected) if _is_real(expected) else 0.0
    return Row(layer, operation, against, expected.size, int(differs.sum()), explained, error)


def _near_threshold(op: Operation, inner: Mapping[SSAValue, np.ndarray]) -> np.ndarray | None:
    """Where a decision that the result of `op` was made from, in the same region, lies within rounding of its
    threshold; None where no real value was decided on (integers have no excuse)."""
    masks = [mask for decision in _decisions(op) if (mask := _near_decision(decision, inner)) is not None]
    return np.logical_or.reduce(np.broadcast_arrays(*masks)) if masks else None


def _decisions(op: Operation) -> Iterator[Operation]:
    """The operations behind this one that choose between values that lie apart."""
    waiting, seen = [op], {op}
    while waiting:
        op = waiting.pop()
        if isinstance(op, DECISIONS):
            yield op
        for operand in op.operands:
            if isinstance(operand.owner, Operation) and operand.owner not in seen:
                if isinstance(operand.owner, ELEMENTWISE) and operand.owner.parent is op.parent:
                    seen.add(operand.owner)
                    waiting.append(operand.owner)


DECISIONS = (ops.Binarize, ops.Round, ops.Floor, ops.Compare)


def _near_decision(op: Operation, inner: Mapping[SSAValue, np.ndarray]) -> np.ndarray | None:
    """Where what one operation decides on lies within rounding of the threshold."""
    if any(element_of(operand) != f32 for operand in op.operands) or op.operands[0] not in inner:
        return None
    value = inner[op.operands[0]]
    if isinstance(op, ops.Compare):
        value = value - inner[op.right]
    if isinstance(op, ops.Round):  # it decides between two integers halfway
        value = np.abs(value - np.floor(value)) - np.float32(0.5)
    if isinstance(op, ops.Floor):
        value = value - np.rint(value)
    operands = [term for operand in op.operands for term in _terms(operand)]
    terms = [inner[v].astype(np.float64) for v in operands if v in inner]
    if all((term == np.rint(term)).all() for term in terms):
        return None  # sums of integers are exact: no rounding excuses a tie
    scale = max([float(np.abs(term).max(initial=0.0)) for term in terms], default=1.0)
    return np.abs(value) <= ROUNDING * max(scale, 1e-30)


def _terms(value: SSAValue) -> Iterator[SSAValue]:
    """The value and those it was summed from, a few operations back."""
    yield value
    if not isinstance(value, BlockArgument) and isinstance(
        value.owner, ops.Add | ops.Sub | ops.Max | ops.Min
    ):
        for operand in value.owner.operands:
            yield from _terms(operand)


def _is_real(array: np.ndarray) -> bool:
    return np.issubdtype(array.dtype, np.floating)


def _differs(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where reals are not alike up to rounding, other values not equal."""
    return ~_close(got, expected) if _is_real(expected) else got != expected


def _close(got: np.ndarray, expected: np.ndarray, rounding: float = ROUNDING) -> np.ndarray:
    if got.dtype == np.bool_:
        return got == expected
    with np.errstate(invalid="ignore"):
        near = np.abs(got - expected) <= rounding * _scale(expected)
    return near | (got == expected) | (np.isnan(got) & np.isnan(expected))


def _scale(expected: np.ndarray) -> float:
    finite = expected[np.isfinite(expected)]
    return max(float(np.abs(finite).max(initial=0.0)), 1e-30)


def _relative(got: np.ndarray, expected: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        difference = np.abs(got.astype(np.float64) - expected)
    finite = difference[np.isfinite(difference)]
    return float(finite.max(initial=0.0)) / _scale(expected)


def _merge(rows: dict[tuple[str, str, str], Row], row: Row) -> None:
    """Add a row to those of the samples before."""
    key = (row.layer, row.operation, row.against)
    known = rows.get(key)
    if known is not None:
        row = Row(
            *key,
            known.values + row.values,
            known.differing + row.differing,
            known.explained + row.explained,
            max(known.error, row.error),
        )
    rows[key] = row


def _random_batches(artifact: Artifact, samples: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Normal reals, uniform integers. Every second batch holds exact zeros, so that what depends on sign(0)
    is tried too."""
    rng = np.random.default_rng(seed)
    for number in range(samples):
        batch = {port["name"]: random_input(rng, port) for port in artifact.manifest["inputs"]}
        if number % 2:
            for port in artifact.manifest["inputs"]:
                array = batch[port["name"]]
                if "most" not in port:
                    array[rng.random(array.shape) < ZEROS] = 0
        yield batch


def _sequences(
    artifact: Artifact, inputs: Mapping[str, np.ndarray] | None, samples: int, seed: int
) -> list[list[dict[str, np.ndarray]]]:
    """Inputs step by step: those given [T, N, ...], a sequence for each batch of samples, or random ones."""
    if inputs is None:
        batches = list(_random_batches(artifact, samples * STEPS, seed))
        return [batches[i : i + STEPS] for i in range(0, len(batches), STEPS)]
    names = [port["name"] for port in artifact.manifest["inputs"]]
    given = {name: array for name, array in checked(artifact, inputs, leading=1).items() if name in names}
    sequences = []
    for part in sample_batches(artifact, given):
        sequences.append([dict(zip(names, arrays, strict=True)) for arrays in zip(*part, strict=True)])
    return sequences


def _graph_inputs(
    path: str | Path, options: Options, batch: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What the ONNX graph is fed when the library takes camera inputs: the values after the prologue,
    read off the module before any pass moved them."""
    module = driver.read(path, options)
    found = dict(batch)

    def look(op: Operation, results: list[np.ndarray]) -> None:
        source = get_source(op)
        if source is not None and source[0] in batch and not isinstance(op, ops.Onnx):
            found[source[0]] = results[0]

    reference.evaluate(module, batch, look)
    return found
