# SPDX-License-Identifier: Apache-2.0
"""What an ONNX graph computes, node by node, in the types of the file (float32 for most): the reference that
compiled networks are held against. No operator is fused with another and none is reordered."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.frontend import qonnx, replacements
from bnncc.frontend.checks import WRITTEN_OUT, Node, normal_domain
from bnncc.frontend.control_flow import Expansion
from bnncc.frontend.kinds import Kind, kind_of
from bnncc.frontend.model import Model, read_model
from bnncc.frontend.sequences import import_sequence_node, is_about_sequences
from bnncc.frontend.signatures import find_schema
from bnncc.frontend.writing import Listed, Tally


def evaluate_node(
    node: onnx.NodeProto, opset: int, inputs: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, ...]:
    """The outputs of one node, one for each that it lists.

    opset: version of the node's domain. inputs: by position, None for an optional one that is left out.
    Raises NotImplementedError for an operator that nobody can evaluate, else what NumPy raises."""
    return NodeEvaluator(node, opset)(inputs)


@dataclass
class NodeEvaluator:
    """One node, ready to be evaluated as often as one likes."""

    node: onnx.NodeProto
    opset: int
    _session: ReferenceEvaluator | None = field(default=None, init=False)

    def __call__(self, inputs: Sequence[np.ndarray | None]) -> tuple[np.ndarray, ...]:
        """As `evaluate_node`."""
        given = {f"input {i}": value for i, value in enumerate(inputs) if value is not None}
        if self._session is None:
            self._session = self._make_session(given)
        with np.errstate(all="ignore"):
            results = self._session.run(None, given)
        return tuple(np.asarray(result) for result in results)

    def _make_session(self, given: Mapping[str, np.ndarray]) -> ReferenceEvaluator:
        node = with_defaults(self.node, self.opset)
        node.input[:] = [f"input {i}" if f"input {i}" in given else "" for i in range(len(node.input))]
        node.output[:] = [f"output {i}" for i in range(len(node.output))]
        if normal_domain(node.domain):
            replaced = qonnx.evaluators(node.domain, node.op_type)
        else:
            node.domain = ""
            replaced = replacements.replacements(node.op_type, self.opset)
        graph = helper.make_graph(
            [node],
            "node",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), None)
                for name, value in given.items()
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output],
        )
        return ReferenceEvaluator(graph, opsets={node.domain: self.opset}, new_ops=replaced)


def with_defaults(node: onnx.NodeProto, opset: int) -> onnx.NodeProto:
    """A copy with those of the attributes that it leaves out whose defaults have changed since its version of
    the operator (`onnx.reference` takes those of the newest)."""
    complete = onnx.NodeProto()
    complete.CopyFrom(node)
    if normal_domain(node.domain):
        return complete
    present = {attribute.name for attribute in node.attribute}
    newest = default_values(node.op_type, onnx.defs.onnx_opset_version())
    for name, value in default_values(node.op_type, opset).items():
        if name not in present and newest.get(name) != value:
            complete.attribute.append(value)
    return complete


def default_values(operator: str, opset: int) -> dict[str, onnx.AttributeProto]:
    """The attributes of one of ONNX's own operators that have defaults, in one version."""
    schema = find_schema("", operator, opset)
    attributes = schema.attributes.items() if schema else ()
    return {name: entry.default_value for name, entry in attributes if entry.default_value.type}


class ModelEvaluator:
    """A whole model, read and checked once, to be evaluated for one set of inputs after the other."""

    def __init__(self, path: str | os.PathLike[str], dims: Mapping[str, int] | None = None):
        """Raises BnnccError as `read_model` does."""
        self.model: Model = read_model(path, dims)
        self._constants = {name: self.model.initializer(name) for name in self.model.initializers}
        self._evaluators: dict[Hashable, NodeEvaluator] = {}
        self.trace: list[tuple[Node, NodeEvaluator]] = []
        """The nodes of the last evaluation in order, each with what evaluates it."""

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """ONNX name -> value, for every tensor that the outputs depend on: inputs, initializers, results.

        What is in the body of a loop is there for every step, under the name that it has where the loop is
        written out: "<loop>/<step>/<name>". Raises BnnccError where the inputs are not what the model takes,
        or a node cannot be evaluated."""
        check_inputs(self.model, inputs)
        evaluation = Evaluation(self, {**self._constants, **inputs})
        for node in self.model.nodes:
            evaluation.import_node(node)
        self.trace = evaluation.trace
        return evaluation.values

    def evaluator(self, node: Node) -> NodeEvaluator:
        """What evaluates a node; nodes that differ in names alone share it."""
        proto = node.proto
        attributes = tuple(a.SerializeToString(deterministic=True) for a in proto.attribute)
        given = tuple(map(bool, proto.input))
        key = (proto.domain, proto.op_type, node.opset, attributes, given, len(proto.output))
        if key not in self._evaluators:
            self._evaluators[key] = NodeEvaluator(proto, node.opset)
        return self._evaluators[key]


class Endless(Tally):
    """What is evaluated may be as long as it likes."""

    def count(self, node: Node) -> None:
        """Any number."""


class Kinds(Mapping[str, Kind]):
    """The kinds of values."""

    def __init__(self, values: Mapping[str, np.ndarray]):
        self._values = values

    def __getitem__(self, name: str) -> Kind:
        return kind_of(self._values[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Evaluation:
    """One set of inputs on its way through a model: a graph all of whose values are known.

    So control flow, written out, runs as the values say."""

    def __init__(self, model: ModelEvaluator, values: dict[str, np.ndarray]):
        self.model, self.values = model, values
        self.opsets = model.model.opsets
        self.tally: Tally = Endless()
        self.growing: MutableMapping[str, str] = {}
        self.lists: MutableMapping[str, Listed] = {}
        self.trace: list[tuple[Node, NodeEvaluator]] = []

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Of every value so far."""
        return Kinds(self.values)

    def known(self, name: str) -> np.ndarray | None:
        """A value."""
        return self.values.get(name)

    def define_constant(self, name: str, array: np.ndarray, location: str) -> None:
        """Remember a value."""
        self.values[name] = array

    def import_node(self, node: Node) -> None:
        """Evaluate a node."""
        if node.operator in WRITTEN_OUT:
            return Expansion(self, node).run()
        if is_about_sequences(self, node):
            return import_sequence_node(self, node)
        evaluator = self.model.evaluator(node)
        try:
            results = evaluator([self.values[name] if name else None for name in node.proto.input])
        except Exception as error:
            raise evaluation_error(node, error) from error
        named = zip(node.proto.output, results, strict=True)
        self.values.update((name, value) for name, value in named if name)
        self.trace.append((node, evaluator))
        return None


def evaluate_model(
    path: str | os.PathLike[str], inputs: Mapping[str, np.ndarray], dims: Mapping[str, int] | None = None
) -> dict[str, np.ndarray]:
    """Every tensor of the model for these inputs, by its ONNX name (see ModelEvaluator)."""
    return ModelEvaluator(path, dims)(inputs)


def evaluation_error(node: Node, error: Exception, *, of_file: bool = False) -> BnnccError:
    """The diagnostic for a node that could not be evaluated.

    of_file: all that it reads stands in the file, so that its values are to blame, whatever the error."""
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    bad_values = of_file or isinstance(cause, ValueError | IndexError | ArithmeticError | MemoryError)
    hint = "if the model runs elsewhere, please report this"
    if isinstance(cause, IndexError) and not of_file:
        hint = "give inputs whose indices exist; `verify` draws numbers where it has no --input"
    return BnnccError(
        node.location,
        f"{node.operator} cannot be evaluated: {type(cause).__name__}: {cause}",
        hint,
        ExitCode.USER if bad_values else ExitCode.FAILURE,
    )


def check_inputs(model: Model, inputs: Mapping[str, np.ndarray]) -> None:
    """The arrays are those that the graph takes; raises BnnccError otherwise."""
    for name, expected in model.inputs.items():
        if name not in inputs:
            raise BnnccError(f"{model.file}:{name}", f"no value for the input '{name}', {expected}")
        found: Kind = kind_of(inputs[name])
        if found != expected:
            raise BnnccError(f"{model.file}:{name}", f"the input '{name}' is {found}, expected {expected}")
    for name in inputs:
        if name not in model.inputs:
            listed = ", ".join(model.inputs)
            raise BnnccError(
                f"{model.file}:{name}", f"the model has no input '{name}'", f"its inputs: {listed}"
            )
