# SPDX-License-Identifier: Apache-2.0
"""ONNX file -> module of `bnn.onnx` operations and constants.

Whatever depends on no input is evaluated here, so that shapes are known: trained weights arrive as the
numbers that the network multiplies with, however the exporter spelled them. Identity and Dropout vanish.
"""

from __future__ import annotations

import os
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from onnx.reference.op_run import RuntimeImplementationError
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, NameLoc, NoneAttr, StringAttr, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, BlockArgument, Operation, Region, SSAValue

from bnncc.diagnostics import BnnccError
from bnncc.dialect.network import INPUTS, OUTPUTS, set_growing
from bnncc.dialect.operations import Constant, Onnx
from bnncc.dialect.sources import note_loops, set_source
from bnncc.frontend.attributes import parameters_of
from bnncc.frontend.checks import WRITTEN_OUT, Node, raise_problems, unexpected
from bnncc.frontend.control_flow import import_control_flow
from bnncc.frontend.evaluate import evaluate_node, evaluation_error
from bnncc.frontend.kinds import Kind, dialect_type, kind_of
from bnncc.frontend.masked_assignments import check_mask
from bnncc.frontend.model import Model, read_model
from bnncc.frontend.sequences import import_sequence_node, is_about_sequences
from bnncc.frontend.shapes import attribute, check_result, result_kinds
from bnncc.frontend.writing import Listed, Tally

LARGEST_CONSTANT = 256 << 20
"""A node that would make more bytes than this out of constants is refused."""

LARGEST_CONSTANTS = 1 << 30
"""All nodes together must not make more bytes than this out of constants."""

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"})
"""Operators whose constant operands are trained numbers, which must be finite."""

RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
"""Operators that give another value every time, so they are never evaluated here."""


def load_onnx(path: str | os.PathLike[str], dims: Mapping[str, int] | None = None) -> ModuleOp:
    """The network in an ONNX file as `builtin.module { func.func @main }`.

    dims: sizes of symbolic dimensions of the inputs by name (`x.2` for dimension 2 of input x where the file
    gives no name); a leading one that is not given is the batch and 1. The function's attributes `bnn.inputs`
    and `bnn.outputs` hold the ONNX names. Raises BnnccError for whatever is wrong with the model."""
    problems: list[BnnccError] = []
    model = read_model(path, dims, problems)
    with unexpected(model.file, "importing the model"):
        return Importer(model, problems).run()


@dataclass(eq=False)
class Known:
    """A value that depends on no input.

    name: of the tensor in the file. nan: what is wrong with the initializers behind it, or ""."""

    array: np.ndarray
    name: str
    location: str
    nan: str = ""


Value = SSAValue | Known


class Importer:
    """Walks the nodes of a checked model once and builds the function.

    What is wrong with a node goes to `problems`, and the walk goes on without what depends on it."""

    def __init__(self, model: Model, problems: list[BnnccError]):
        self.model = model
        self.problems = problems
        self.broken = set(model.broken)
        """ONNX names of values that there are no more words about."""
        self.block = Block()
        self.values: MutableMapping[str, Value] = {}
        """By ONNX name."""
        self.kinds: MutableMapping[str, Kind] = {}
        """By ONNX name."""
        self.lists: MutableMapping[str, Listed] = {}
        """What sequences hold, by ONNX name."""
        self.growing: MutableMapping[str, str] = {}
        """Values whose first dimension an input says, by ONNX name; such are outputs only."""
        self.constants_made: dict[Known, Constant] = {}
        self.opsets, self.most_steps = model.opsets, model.most_steps
        self.loops: list[str] = []
        """Names of the loops that are loops in the module."""
        self.tally = Tally()
        self.folded = 0
        """Bytes of the constants that were evaluated here."""

    def define_inputs(self) -> None:
        """The arguments of the function, and the initializers."""
        model = self.model
        for name, kind in model.inputs.items():
            argument = self.block.insert_arg(dialect_type(kind), len(self.block.args))
            argument.name_hint = identifier(name)
            self.define(name, argument, kind)
        for name in model.initializers:
            with self.noting([name]):
                array = model.initializer(name)
                nan = unusable(name, array, not_nan)
                self.define_known(name, Known(array, name, f"{model.file}:{name}", nan))

    def run(self) -> ModuleOp:
        """The module, verified; raises all problems at once."""
        self.define_inputs()
        for node in self.model.nodes:
            results = [name for name in node.proto.output if name]
            if self.broken.intersection(node.reads):
                self.broken.update(results)
                continue
            with self.noting(results), unexpected(node.location, f"importing {node.operator}"):
                self.import_node(node)
        raise_problems(self.problems)
        self.check_outputs()
        results = [self.operand(name) for name in self.model.outputs]
        self.block.add_op(ReturnOp(*results))
        types = (list(self.block.arg_types), [result.type for result in results])
        function = FuncOp("main", types, Region(self.block))
        function.attributes[INPUTS] = strings(self.model.inputs)
        function.attributes[OUTPUTS] = strings(self.model.outputs)
        growing = {name: self.growing[name] for name in self.model.outputs if name in self.growing}
        set_growing(function, growing)
        note_loops(function, self.loops)
        module = ModuleOp([function])
        module.verify()
        return module

    @contextmanager
    def noting(self, results: Iterable[str]) -> Iterator[None]:
        """Keep a problem for later, and what should have come of it out of the way."""
        try:
            yield
        except BnnccError as problem:
            self.problems.append(problem)
            self.broken.update(results)

    def check_outputs(self) -> None:
        """Results that are known now have elements too."""
        for name in self.model.outputs:
            if name in self.lists:
                raise BnnccError(
                    f"{self.model.file}:{name}",
                    f"the output '{name}' is a sequence of tensors",
                    "join them into one tensor, by ConcatFromSequence",
                )
            if 0 in self.kinds[name].sizes:
                raise BnnccError(
                    f"{self.model.file}:{name}",
                    f"the output '{name}' would be empty, {self.kinds[name]}",
                    "a shape in the model is wrong, or the output is not needed",
                )

    def define(self, name: str, value: Value, kind: Kind) -> None:
        """Remember the value of a tensor of the file."""
        self.values[name] = value
        self.kinds[name] = kind

    def define_known(self, name: str, known: Known) -> None:
        """Remember a tensor that depends on no input."""
        try:
            kind = kind_of(known.array)
            dialect_type(kind)
        except KeyError:
            raise BnnccError(
                known.location,
                f"the constant '{known.name}' is of type {known.array.dtype}, which is not supported",
                "export the model in float32",
            ) from None
        self.define(name, known, kind)

    def operand(self, name: str) -> SSAValue:
        """The value of a tensor in the function; a constant comes into being when it is first read."""
        value = self.values[name]
        if isinstance(value, SSAValue):
            return value
        if value not in self.constants_made:
            op = self.constants_made[value] = Constant(value.array)
            set_source(op, value.name, range(value.array.ndim))
            self.append(op, value.location, value.name)
        return self.constants_made[value].result

    def append(self, op: Operation, location: str, name: str) -> None:
        """Put an operation at the end of the function."""
        op.location = NameLoc(StringAttr(location), NoneAttr())
        op.results[0].name_hint = identifier(name)
        self.block.add_op(op)

    def import_node(self, node: Node) -> None:
        """Forward, evaluate, or append one node."""
        self.refuse_training(node)
        if node.operator in WRITTEN_OUT:
            return import_control_flow(self, node)
        if is_about_sequences(self, node):
            return import_sequence_node(self, node)
        self.refuse_growing(node)
        if node.masked:
            check_mask(node, self.kinds)
        if node.domain == "" and node.proto.op_type in ("Identity", "Dropout"):
            return self.forward(node)
        constants = self.constants(node)
        kinds = result_kinds(node, self.model.opsets, self.kinds, constants)
        if node.domain == "" and node.proto.op_type in ("Shape", "Size"):
            return self.fold_shape(node)
        if not self.can_fold(node, constants) or not self.fold(node, kinds, constants):
            self.emit(node, kinds)
        return None

    def can_fold(self, node: Node, constants: Mapping[str, np.ndarray]) -> bool:
        """Whether a node depends on constants only, and always gives the same."""
        return (
            all(name in constants for name in node.proto.input if name) and node.proto.op_type not in RANDOM
        )

    def constants(self, node: Node) -> dict[str, np.ndarray]:
        """The values of those inputs that are known."""
        given = {name: self.values[name] for name in node.proto.input if name}
        return {name: value.array for name, value in given.items() if isinstance(value, Known)}

    def refuse_training(self, node: Node) -> None:
        """Operators that behave otherwise in training must be exported for inference."""
        proto = node.proto
        training = False
        if node.operator == "BatchNormalization":
            training = bool(attribute(proto, "training_mode", 0)) or any(proto.output[1:])
        elif node.operator == "Dropout" and len(proto.input) > 2:
            mode = self.values[proto.input[2]]
            training = not isinstance(mode, Known) or bool(mode.array.any())
        if training:
            raise BnnccError(
                node.location,
                f"{node.operator} is in training mode",
                "export the model for inference (PyTorch: model.eval() before the export)",
            )

    def refuse_growing(self, node: Node) -> None:
        """What is as long as an input says is handed out as it is: a library has fixed arrays."""
        for name in node.reads:
            if name in self.growing and node.operator != "Identity":
                raise BnnccError(
                    node.location,
                    f"{node.operator} reads '{name}', which has as many elements as the input "
                    f"'{self.growing[name]}' says",
                    "make it an output of the model as it is, or fix the number of steps",
                )

    def input_name(self, value: SSAValue) -> str:
        """What the model calls one of its inputs."""
        return next(name for name in self.model.inputs if self.values[name] is value)

    def body(self, prefix: str) -> Body | None:
        """An importer for the body of a loop."""
        return Body(self, prefix)

    def source_name(self, name: str) -> str:
        """What a value of this graph is called among all that are evaluated."""
        return name

    def forward(self, node: Node) -> None:
        """The first result is the first input; a second one is Dropout's mask, all true."""
        source, outputs = node.proto.input[0], node.proto.output
        if outputs[0]:
            self.define(outputs[0], self.values[source], self.kinds[source])
            if source in self.growing:
                self.growing[outputs[0]] = self.growing[source]
        if len(outputs) > 1:
            mask = np.ones(self.kinds[source].sizes, np.bool_)
            self.define_known(outputs[1], Known(mask, outputs[1], node.location))

    def fold_shape(self, node: Node) -> None:
        """Shape and Size of a tensor whose shape is known need no values."""
        # Nothing is read of the stand-in, and it takes no memory.
        stand_in = np.broadcast_to(np.zeros((), np.int8), self.kinds[node.proto.input[0]].sizes)
        (array,) = evaluate_node(node.proto, node.opset, [stand_in])
        self.define_known(node.proto.output[0], Known(array, node.proto.output[0], node.location))

    def fold(self, node: Node, kinds: Sequence[Kind], constants: Mapping[str, np.ndarray]) -> bool:
        """Evaluate a node that depends on constants only; False where nobody can."""
        proto = node.proto
        self.count_folded(node, sum(kind.bytes for kind in kinds))
        try:
            results = evaluate_node(
                proto, node.opset, [constants[name] if name else None for name in proto.input]
            )
        except (NotImplementedError, RuntimeImplementationError):
            return False
        except Exception as error:
            raise evaluation_error(node, error, of_file=True) from error
        nan = next((known.nan for known in self.known_inputs(node) if known.nan), "")
        for name, kind, array in zip(proto.output, kinds, results, strict=True):
            if name:
                # onnx.reference computes some results in a wider type than the operator's.
                self.define_known(name, Known(array.astype(kind.dtype, copy=False), name, node.location, nan))
        return True

    def count_folded(self, node: Node, size: int) -> None:
        """Refuse to make up more constants than a network could need."""
        self.folded += size
        if size > LARGEST_CONSTANT or self.folded > LARGEST_CONSTANTS:
            raise BnnccError(
                node.location,
                f"{node.operator} makes {size >> 20} MiB out of constants, {self.folded >> 20} MiB so far",
                f"at most {LARGEST_CONSTANT >> 20} and {LARGEST_CONSTANTS >> 20} MiB; a shape must be wrong",
            )

    def known(self, name: str) -> np.ndarray | None:
        """The value of a tensor that depends on no input of the model, else None."""
        value = self.values.get(name)
        return value.array if isinstance(value, Known) else None

    def define_constant(self, name: str, array: np.ndarray, location: str) -> None:
        """Remember a value that no tensor of the file holds."""
        self.define_known(name, Known(array, name, location))

    def known_inputs(self, node: Node) -> list[Known]:
        """Those inputs that depend on no input of the model."""
        given = (self.values[name] for name in node.proto.input if name)
        return [value for value in given if isinstance(value, Known)]

    def emit(self, node: Node, kinds: Sequence[Kind]) -> None:
        """Append the node as an operation of the dialect."""
        proto = node.proto
        self.check_weights(node)
        for name, kind in zip(proto.output, kinds, strict=True):
            check_result(node, name, kind)
        slots = [slot for slot, name in enumerate(proto.input) if name]
        try:
            parameters = parameters_of(proto)
        except ValueError as why:
            raise BnnccError(node.location, f"{node.operator}: {why}") from None
        op = Onnx(
            proto.op_type,
            [self.operand(proto.input[slot]) for slot in slots],
            [dialect_type(kind) for kind in kinds],
            parameters,
            node.domain,
            node.opset,
            slots,
        )
        self.append(op, node.location, proto.output[0])
        for name, kind, result in zip(proto.output, kinds, op.results, strict=True):
            if name:
                self.define(name, result, kind)
        if len(op.results) == 1:
            set_source(op, self.source_name(proto.output[0]), range(len(kinds[0].shape)))

    def check_weights(self, node: Node) -> None:
        """Trained numbers are finite."""
        if node.operator not in WEIGHTED:
            return
        for known in self.known_inputs(node):
            problem = known.nan or unusable(known.name, known.array, np.isfinite)
            if problem:
                raise BnnccError(
                    node.location,
                    f"{node.operator}: {problem}",
                    "the training diverged; train or export again",
                )


class Body(Importer):
    """The body of a loop: values of its own, and what it reads of the graph around it.

    The arguments of its block are slices, then states, then invariants."""

    def __init__(self, outer: Importer, prefix: str):
        """prefix: the name of the node whose body it is."""
        super().__init__(outer.model, outer.problems)
        self.prefix, self.tally = prefix, outer.tally
        self.own: dict[str, Value] = {}
        self.values = ChainMap(self.own, outer.values)
        self.kinds = ChainMap({}, outer.kinds)
        self.lists = ChainMap({}, outer.lists)
        self.growing = ChainMap({}, outer.growing)
        self.slices = 0
        self.invariants: dict[SSAValue, SSAValue] = {}
        """What it reads of the graph around it, and the arguments that these are."""

    def slice(self, type_: TensorType) -> BlockArgument:
        """One more argument that is another one in every step."""
        self.slices += 1
        return self.block.insert_arg(type_, self.slices - 1)

    def state(self, type_: TensorType) -> BlockArgument:
        """One more argument that is carried from step to step."""
        return self.block.insert_arg(type_, len(self.block.args) - len(self.invariants))

    def is_value(self, name: str, value: SSAValue) -> bool:
        """Whether a name stands for a value."""
        return self.values.get(name) is value

    def is_outer(self, name: str) -> bool:
        """Whether a value is of the graph around it."""
        return name not in self.own

    def operand(self, name: str) -> SSAValue:
        """A value in the body."""
        value = super().operand(name)
        block = value.owner if isinstance(value.owner, Block) else value.owner.parent
        if block is self.block:
            return value
        if value not in self.invariants:
            self.invariants[value] = self.block.insert_arg(value.type, len(self.block.args))
        return self.invariants[value]

    def body(self, prefix: str) -> Body | None:
        """Loops in loops are written out."""
        return None

    def source_name(self, name: str) -> str:
        """As if the body were written out: what it is in the first step."""
        return f"{self.prefix}/0/{name}"


def unusable(name: str, array: np.ndarray, usable: Callable[[np.ndarray], np.ndarray]) -> str:
    """How many floats of a tensor are not usable ("" if all are), told by an element-wise test."""
    if array.dtype.kind != "f" or usable(array).all():
        return ""
    counts = {"NaN": int(np.isnan(array).sum()), "infinite": int(np.isinf(array).sum())}
    listed = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"the tensor '{name}' holds {listed} of {array.size} values"


def not_nan(array: np.ndarray) -> np.ndarray:
    """True where a value is a number or infinite."""
    return ~np.isnan(array)


def strings(texts: Iterable[str]) -> ArrayAttr:
    """Names as an attribute."""
    return ArrayAttr([StringAttr(text) for text in texts])


def identifier(name: str) -> str | None:
    """An ONNX name as the name of an SSA value, or None where nothing is left of it."""
    cleaned = re.sub(r"[^A-Za-z0-9_$.-]+", "_", name).lstrip("0123456789_.-$")
    # xDSL numbers equal names apart by such an ending, and takes it off when it parses.
    return re.sub(r"(_[0-9]+)+$", "", cleaned) or None
