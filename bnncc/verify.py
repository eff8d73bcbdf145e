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
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import f32
from xdsl.ir import BlockArgument, Operation, SSAValue

from bnncc import driver, reference
from bnncc.checking import accuracy
from bnncc.checking.comparison import (
    ROUNDING,
    Comparison,
    Evaluator,
    RoundedEvaluator,
    Row,
    close,
    compare,
    relative_error,
)
from bnncc.data.arrays import random_input
from bnncc.data.samples import LABELS
from bnncc.dialect import operations as ops
from bnncc.dialect.sources import get_source
from bnncc.dialect.types import element_of
from bnncc.driver import Options, Say
from bnncc.execution.artifact import Artifact
from bnncc.execution.inputs import batches, checked
from bnncc.execution.layers import LayerRunner
from bnncc.frontend.evaluate import ModelEvaluator
from bnncc.frontend.nir.evaluate import NirEvaluator
from bnncc.frontend.nir.file import is_nir
from bnncc.lowering import Lowered
from bnncc.passes.matching import ELEMENTWISE
from bnncc.report.table import table

OUTPUT_ROUNDING = 1e-3
"""The same for the network's outputs, where the errors of many layers add up."""

STEPS = 8
"""Of a random sequence."""

ZEROS = 0.02
"""The share of exact zeros in every second random batch."""


@dataclass(frozen=True)
class Report:
    """All comparisons: one row per layer and reference, summed over the samples, and one per output."""

    rows: tuple[Row, ...]
    outputs: tuple[Row, ...]
    samples: int
    note: str = ""
    """What else there is to say."""

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
        note = f"{self.note}\n" if self.note else ""
        return (
            f"{table(header, cells, right=(4, 5, 6, 7))}\n\n{self.samples} samples: {verdict}{flips}\n{note}"
        )

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "passed": self.passed,
            "samples": self.samples,
            **({"note": self.note} if self.note else {}),
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
    """Compile, run, compare. `inputs` (stacked samples) or `samples` random ones from `seed`. An array
    `labels` beside the inputs, which says what is right, counts where something is quantised.

    Raises BnnccError for wrong inputs and models."""
    module = driver.front(path, options, progress)
    lowered = driver.lower_module(module, driver.name_of(path, options), options)
    artifact = driver.build(lowered, path, None, options, progress)
    labels: dict[str, np.ndarray] = {}
    if inputs is not None and LABELS in inputs and LABELS not in artifact.input_names:
        labels = {LABELS: inputs[LABELS]}
        inputs = {name: array for name, array in inputs.items() if name != LABELS}
    if options.rounded:
        return _verify_rounded(path, options, lowered, artifact, inputs, labels, samples, seed, progress)
    graph = _evaluator(path, options)
    feed = (lambda batch: _graph_inputs(path, options, batch)) if options.camera else None
    if artifact.is_stateful:
        sequences = _sequences(artifact, inputs, samples, seed)
        return verify_sequences(lowered, artifact, graph, sequences, feed, progress)
    given = list(_batches(artifact, inputs, samples, seed))
    return verify_library(lowered, artifact, graph, given, feed, progress)


def _verify_rounded(
    path: str | Path,
    options: Options,
    lowered: Lowered,
    artifact: Artifact,
    inputs: Mapping[str, np.ndarray] | None,
    labels: Mapping[str, np.ndarray],
    samples: int,
    seed: int,
    progress: Say | None,
) -> Report:
    """What is compiled against its own integers, and these against the network of the file."""
    graph = RoundedEvaluator(lowered.module)
    given: list[dict[str, np.ndarray]]
    if artifact.is_stateful:
        sequences = _sequences(artifact, inputs, samples, seed)
        report = verify_sequences(lowered, artifact, graph, sequences, None, progress)
        steps = [np.stack([step[name] for step in one]) for one in sequences for name in one[0]]
        names = list(sequences[0][0])
        together = {name: np.concatenate(steps[i :: len(names)], axis=1) for i, name in enumerate(names)}
    else:
        given = list(_batches(artifact, inputs, samples, seed))
        report = verify_library(lowered, artifact, graph, given, None, progress)
        together = {name: np.concatenate([batch[name] for batch in given]) for name in given[0]}
    plain = replace(options, quantize_weights=None, quantize_real=None, membrane=None, calibrate=None)
    found = accuracy.compare(driver.front(path, plain, progress), lowered.module, {**together, **labels})
    return replace(report, note=f"against the network of the file: {found.text()}")


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
        comparison = Comparison(self.lowered.module, self.graph, fed, batch)
        for row in comparison.rows():
            _merge(self.rows, row)
        for row in _layer_rows(self.lowered, self.runner, comparison):
            _merge(self.rows, row)
        for row in _output_rows(got, comparison):
            _merge(self.outputs, row)
        return comparison.graph

    def report(self, samples: int) -> Report:
        """Of all that was added."""
        return Report(tuple(self.rows.values()), tuple(self.outputs.values()), samples)


def _layer_rows(lowered: Lowered, runner: LayerRunner, comparison: Comparison) -> Iterator[Row]:
    """Each compiled layer against the reference, fed the same values."""
    for op, first in runner.layers():
        for values in comparison.values_around(op):
            yield from _rows_of_layer(
                lowered, runner, op, first, [values[operand] for operand in op.operands]
            )


def _rows_of_layer(
    lowered: Lowered, runner: LayerRunner, op: Operation, first: int, operands: Sequence[np.ndarray]
) -> Iterator[Row]:
    """One compiled layer, whose main step is `first`, for these operands."""
    inner: dict[SSAValue, np.ndarray] = {}

    def note(inner_op: Operation, results: list[np.ndarray]) -> None:
        inner.update(zip(inner_op.results, results, strict=True))

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
        yield compare(step.location or step.name, step.operation, "reference", have, want, near)


def _output_rows(got: Mapping[str, np.ndarray], comparison: Comparison) -> Iterator[Row]:
    """The network as a whole. Where an output differs from the graph's, a rounding flip inside may be the
    reason: then the folded arithmetic, fed nothing of the graph's, shows the flip and the same output."""
    wrong: dict[str, np.ndarray] = {}
    for name, array in got.items():
        expected = comparison.graph[name].reshape(array.shape)
        wrong[name] = ~close(array, expected, OUTPUT_ROUNDING)
    folded = comparison.alone() if any(array.any() for array in wrong.values()) else None
    for name, array in got.items():
        explained = 0
        if folded is not None and folded.flipped:
            same = close(array, folded.outputs[name].reshape(array.shape), OUTPUT_ROUNDING)
            explained = int((wrong[name] & same).sum())
        error = relative_error(array, comparison.graph[name].reshape(array.shape))
        yield Row(name, "output", comparison.against, array.size, int(wrong[name].sum()), explained, error)


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


def _batches(
    artifact: Artifact, inputs: Mapping[str, np.ndarray] | None, samples: int, seed: int
) -> Iterator[dict[str, np.ndarray]]:
    """The inputs that are given, in batches, or random ones."""
    if inputs is None:
        yield from _random_batches(artifact, samples, seed)
        return
    given = checked(artifact.manifest, inputs, steps=False, samples=True)
    for arrays in batches(artifact.manifest, given, steps=False):
        yield dict(zip(artifact.input_names, arrays, strict=True))


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
        drawn = list(_random_batches(artifact, samples * STEPS, seed))
        return [drawn[i : i + STEPS] for i in range(0, len(drawn), STEPS)]
    given = checked(artifact.manifest, inputs, steps=True, samples=True)
    return [
        [dict(zip(artifact.input_names, arrays, strict=True)) for arrays in zip(*part, strict=True)]
        for part in batches(artifact.manifest, given, steps=True)
    ]


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
