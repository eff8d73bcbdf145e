# SPDX-License-Identifier: Apache-2.0
"""A module of the `bnn` dialect as one of func, linalg, tensor, arith, math and scf.

One function becomes one function. Arguments and results of ordinary numbers keep their types (unsigned
integers become signless ones); a value of a domain is as many tensors of packed words as it has planes
(`bits`). States of a step function are arguments and results like the others, as they are in `bnn`. Every
operation carries the location of the one that it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
from xdsl.builder import ImplicitBuilder
from xdsl.dialects import arith, func, scf
from xdsl.dialects.builtin import FunctionType, IndexType, ModuleOp, TensorType, f32, i1, i8, i32
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.dialect import time
from bnncc.dialect.sources import location_text
from bnncc.dialect.types import element_of, is_number, shape_of
from bnncc.linalg import builders as b
from bnncc.linalg import contractions, elementwise, layout, scalars, windows
from bnncc.linalg.bits import Plane, Planes, Value, bits_of, plane_count, plane_type
from bnncc.linalg.nodes import convert_node

ELEMENTWISE = (*ops.UNARY, *ops.BINARY, ops.Compare, ops.Clip, ops.PRelu, ops.MulShift, ops.BatchNorm)


def convert_module(module: ModuleOp, form: str = "direct") -> ModuleOp:
    """A new module; `form` (convolution.FORMS) says how convolutions are written.

    Raises BnnccError for an operation that upstream MLIR has nothing for."""
    converted = ModuleOp([])
    for op in module.ops:
        if isinstance(op, func.FuncOp):
            converted.body.block.add_op(convert_function(op, form))
    converted.verify()
    return converted


def convert_function(function: func.FuncOp, form: str) -> func.FuncOp:
    """The function with every operation converted; its attributes (the ONNX names) stay."""
    converter = Converter(form)
    block = Block()
    arguments = [
        converter.argument(block, argument, argument.name_hint) for argument in function.body.block.args
    ]
    with converter.inside(block):
        converter.block(function.body.block, arguments)
    last = block.last_op
    assert isinstance(last, func.ReturnOp)
    types = ([argument.type for argument in block.args], [value.type for value in last.operands])
    converted = func.FuncOp(function.sym_name.data, FunctionType.from_lists(*types), Region(block))
    converted.attributes.update(function.attributes)
    converted.location = function.location
    return converted


class Converter:
    """The values of one function so far."""

    def __init__(self, form: str):
        self.form = form
        self.values: dict[SSAValue, Value] = {}
        self.blocks: list[Block] = []
        """Where the builder stands, innermost last."""

    # --- Values -------------------------------------------------------------------------------------------

    def argument(self, block: Block, like: SSAValue, name: str | None = None) -> Value:
        """New arguments of a block that stand for a value."""

        def new(type_: Attribute) -> SSAValue:
            argument = block.insert_arg(type_, len(block.args))
            argument.name_hint = name
            return argument

        element, shape = element_of(like), shape_of(like)
        if is_number(element):
            return new(TensorType(b.signless(element), list(shape)))
        words = [new(plane_type(shape)) for _ in range(plane_count(element))]
        return Planes.of_words(element, shape, words)

    def number(self, value: SSAValue) -> SSAValue:
        """What a value of ordinary numbers has become."""
        found = self.values[value]
        assert isinstance(found, SSAValue), value
        return found

    def planes(self, value: SSAValue) -> Planes:
        """What a value of a domain has become."""
        found = self.values[value]
        assert isinstance(found, Planes), value
        return found

    def known(self, value: SSAValue) -> np.ndarray:
        """A trained weight."""
        assert isinstance(value.owner, ops.Constant), "weights are constants"
        return value.owner.array

    @contextmanager
    def inside(self, block: Block) -> Iterator[None]:
        """Build at the end of a block."""
        self.blocks.append(block)
        with ImplicitBuilder(block):
            yield
        self.blocks.pop()

    # --- Operations ---------------------------------------------------------------------------------------

    def block(self, block: Block, arguments: Sequence[Value]) -> list[Value]:
        """Convert a block's operations where the builder stands; what its terminator names."""
        self.values.update(zip(block.args, arguments, strict=True))
        for op in block.ops:
            if isinstance(op, ops.Yield):
                return [self.values[value] for value in op.values]
            if is_only_weight(op):
                continue
            if isinstance(op, func.ReturnOp):
                func.ReturnOp(*flat([self.values[value] for value in op.operands]))
                return []
            self.operation(op)
        raise AssertionError("a block ends in return or yield")

    def operation(self, op: Operation) -> None:
        """Convert one operation; what is built for it and has no location takes its."""
        block = self.blocks[-1]
        before = block.last_op
        results = self.results(op)
        made = block.first_op if before is None else before.next_op
        while made is not None:
            for inner in made.walk():
                if not location_text(inner):
                    inner.location = op.location
            made = made.next_op
        self.values.update(zip(op.results, results, strict=True))

    def results(self, op: Operation) -> Sequence[Value]:
        """What the results of an operation become."""
        match op:
            case ops.Constant():
                return [self.constant(op)]
            case ops.Fused() | time.Neuron():
                return self.block(op.block, [self.values[operand] for operand in op.operands])
            case time.Scan():
                return self.scan(op)
            case ops.Conv2d() | ops.Dense():
                return [self.contraction(op)]
            case ops.Transpose():
                return [layout.transpose(op, self.values[op.input])]
            case ops.Reshape():
                return [layout.reshape(op, self.values[op.input])]
            case ops.Pad():
                return [layout.pad(op, self.values[op.input])]
            case ops.Concat():
                return [layout.concat(op, [self.values[value] for value in op.inputs])]
            case ops.MaxPool():
                return [self.max_pool(op)]
            case ops.MeanPool():
                x = self.values[op.input]
                return [windows.mean_pool(op, x.numbers(f32) if isinstance(x, Planes) else x)]
            case ops.CountPool():
                return [self.count_pool(op)]
            case ops.ChannelMean():
                return [windows.channel_mean(op, self.number(op.input))]
            case ops.Softmax():
                return [windows.softmax(op, self.number(op.input))]
            case ops.Binarize():
                return [elementwise.binarize(op, self.number(op.input))]
            case ops.Threshold():
                return [elementwise.threshold(op, self.number(op.input))]
            case ops.Flip():
                return [elementwise.flip(op, self.planes(op.input))]
            case ops.Lookup():
                return [elementwise.lookup(op, self.number(op.input))]
            case ops.Cast():
                return [elementwise.cast(op, self.values[op.input])]
            case ops.Select():
                then, otherwise = self.values[op.then], self.values[op.otherwise]
                return [elementwise.select(op, self.number(op.condition), then, otherwise)]
            case _ if isinstance(op, ELEMENTWISE):
                return [elementwise.computed(op, [self.number(operand) for operand in op.operands])]
            case ops.Onnx():
                found = convert_node(op, self.number)
                if found is not None:
                    return [found]
                raise BnnccError(
                    location_text(op),
                    f"upstream MLIR has nothing for {op.operator.data}, which is no operation of bnn",
                    "TVM compiles it: --backend tvm, without --emit linalg",
                )
        raise BnnccError(location_text(op), f"{op.name} cannot be written in upstream MLIR")

    def constant(self, op: ops.Constant) -> Value:
        """Trained numbers, or planes of packed ones."""
        element = element_of(op.result)
        if not is_number(element):
            return Planes(element, [Plane.known(bits) for bits in bits_of(op.array, element)])
        if element != i1:
            return b.constant(op.array, element)
        bytes_ = b.constant(op.array.astype(np.int8), i8)
        return b.elementwise([bytes_], op.array.shape, [i1], lambda v: [arith.TruncIOp(v, i1).result])[0]

    def contraction(self, op: ops.Conv2d | ops.Dense) -> Value:
        """A convolution or a dense layer, of numbers or of bits."""
        weight, x = self.known(op.weight), self.values[op.input]
        if isinstance(x, Planes) and is_number(element_of(op.weight)):
            x = x.numbers(f32)
        match op, x:
            case ops.Conv2d(), Planes():
                return contractions.binary_conv(op, x, weight, self.form)
            case ops.Conv2d(), SSAValue():
                return self.as_stated(op, contractions.real_conv(op, x, weight.astype(np.float32), self.form))
            case _, Planes():
                return contractions.binary_dense(x, weight)
            case _, SSAValue():
                return self.as_stated(op, contractions.real_dense(x, weight.astype(np.float32)))
        raise AssertionError(x)

    def as_stated(self, op: ops.Conv2d | ops.Dense, sums: SSAValue) -> SSAValue:
        """Sums of int8 weights over spikes are integers; below 2^24 float32 holds them exactly."""
        wanted = element_of(op.result)
        if wanted == f32:
            return sums
        (found,) = b.elementwise(
            [sums], shape_of(op.result), [wanted], lambda x: [scalars.convert(x, f32, wanted)]
        )
        return found

    def count_pool(self, op: ops.CountPool) -> Value:
        """Counts of spikes, in planes."""
        count = windows.count_pool(op, self.planes(op.input).numbers(i32))
        return elementwise.split(count, i32, shape_of(op.result), element_of(op.result))

    def max_pool(self, op: ops.MaxPool) -> Value:
        """Levels are pooled as numbers."""
        x, element = self.values[op.input], element_of(op.input)
        if not isinstance(x, Planes) or len(x.planes) == 1:
            return windows.max_pool(op, x)
        pooled = windows.max_pool(op, x.numbers(i32))
        assert not isinstance(pooled, Planes)
        return elementwise.split(pooled, i32, shape_of(op.result), element)

    # --- Time ---------------------------------------------------------------------------------------------

    def scan(self, op: time.Scan) -> list[Value]:
        """scf.for over the steps; it carries the states and what was collected so far."""
        states = [self.values[value] for value in op.initial]
        stacks = [self.stack(value, filled=op.count is not None) for value in op.stacked]
        carried = flat([*states, *stacks])
        body = Block(arg_types=[IndexType(), *(value.type for value in carried)])
        step, *inside = body.args
        with self.inside(body):
            given = iter(inside)
            now = [self.like(value, given) for value in op.initial]
            collected = [self.like(value, given) for value in op.stacked]
            slices = [self.slice(value, step) for value in op.sequences]
            invariants = [self.values[value] for value in op.invariants]
            yielded = self.block(op.block, [*slices, *now, *invariants])
            new, parts = yielded[: len(states)], yielded[len(states) :]
            whole = [put(part, stack, step) for part, stack in zip(parts, collected, strict=True)]
            # Into the memory that the loop carries, so that it needs no new one in every step.
            kept = [b.copied(value, place) for value, place in zip(flat(new), inside, strict=False)]
            scf.YieldOp(*kept, *flat(whole))
        loop = scf.ForOp(b.index(0), self.trips(op), b.index(1), carried, Region(body))
        results = iter(loop.results)
        return [self.like(value, results) for value in op.results]

    def trips(self, op: time.Scan) -> SSAValue:
        """How often the body runs."""
        if op.count is None:
            return b.index(op.steps)
        count = self.number(op.count)
        return arith.IndexCastOp(b.lookup(count, *([b.index(0)] * len(shape_of(count)))), IndexType()).result

    def stack(self, value: SSAValue, filled: bool) -> Value:
        """Where a collected value is gathered; zeros to begin with, where `filled`."""
        element, shape = element_of(value), shape_of(value)
        make = partial(b.filled, value=0) if filled else b.empty
        if is_number(element):
            return make(shape, kind=b.signless(element))
        type_ = plane_type(shape)
        words = [make(type_.get_shape(), kind=type_.element_type) for _ in range(plane_count(element))]
        return Planes.of_words(element, shape, words)

    def like(self, value: SSAValue, given: Iterator[SSAValue]) -> Value:
        """Of an iterator over tensors those that stand for a value."""
        element = element_of(value)
        if is_number(element):
            return next(given)
        words = [next(given) for _ in range(plane_count(element))]
        return Planes.of_words(element, shape_of(value), words)

    def slice(self, sequence: SSAValue, step: SSAValue) -> Value:
        """What a sequence holds at a step."""
        found = self.values[sequence]
        shape = shape_of(sequence)[1:]
        if isinstance(found, Planes):
            words = [b.extract_at(plane.words, step) for plane in found.planes]
            return Planes.of_words(found.element, shape, words)
        return b.extract_at(found, step)


def is_only_weight(op: Operation) -> bool:
    """Whether these are the weights of contractions and nothing else, which store them in their own way."""
    if not isinstance(op, ops.Constant):
        return False
    uses = list(op.result.uses)
    return bool(uses) and all(isinstance(u.operation, ops.CONTRACTIONS) and u.index == 1 for u in uses)


def flat(values: Sequence[Value]) -> list[SSAValue]:
    """The tensors of values, planes one after the other."""
    tensors: list[SSAValue] = []
    for value in values:
        tensors += [plane.words for plane in value.planes] if isinstance(value, Planes) else [value]
    return tensors


def put(part: Value, stack: Value, step: SSAValue) -> Value:
    """The stack with a step's part in its place."""
    if isinstance(part, Planes):
        assert isinstance(stack, Planes)
        pairs = zip(part.planes, stack.planes, strict=True)
        words = [b.insert_at(one.words, all_.words, step) for one, all_ in pairs]
        return Planes.of_words(part.element, stack.shape, words)
    assert isinstance(stack, SSAValue)
    return b.insert_at(part, stack, step)
