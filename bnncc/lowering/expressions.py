# SPDX-License-Identifier: Apache-2.0
"""From the element-wise operations of a fused region to epilogue expressions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from xdsl.dialects.builtin import IntegerType, f32, i1, i8, i16, i32
from xdsl.ir import BlockArgument, Operation, SSAValue

from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.dialect.sources import location_text
from bnncc.dialect.time import Scan
from bnncc.dialect.types import Bipolar, Level, Spike, Ternary, element_of, shape_of, ui8
from bnncc.plan import expression as ex
from bnncc.plan.kernel import Constant
from bnncc.plan.layout import Element

UNARY: dict[type[Operation], ex.UnaryKind] = {
    ops.Neg: "neg",
    ops.Abs: "abs",
    ops.Relu: "relu",
    ops.Sqrt: "sqrt",
    ops.Exp: "exp",
    ops.Log: "log",
    ops.Tanh: "tanh",
    ops.Sigmoid: "sigmoid",
    ops.Round: "round",
    ops.Floor: "floor",
    ops.Ceil: "ceil",
    ops.Erf: "erf",
}
BINARY: dict[type[Operation], ex.BinaryKind] = {
    ops.Add: "add",
    ops.Sub: "sub",
    ops.Mul: "mul",
    ops.Div: "div",
    ops.Max: "max",
    ops.Min: "min",
    ops.Pow: "pow",
}
ZERO = ex.Scalar(0.0)


class ExpressionBuilder:
    """Builds the expressions of one region.

    load: what reading a block argument gives. constants, arrays: the channel vectors met so far, after
    the `reserved` constants of the root.
    """

    def __init__(
        self,
        channels: int,
        root: Operation | None,
        load: Callable[[BlockArgument], ex.Expression],
        reserved: int,
        load_array: Callable[[np.ndarray], ex.Expression],
    ):
        self.channels = channels
        self.root = root
        self.load = load
        self.load_array = load_array
        self.reserved = reserved
        self.constants: list[Constant] = []
        self.arrays: list[np.ndarray] = []
        self._built: dict[SSAValue, ex.Expression] = {}

    def value(self, value: SSAValue) -> ex.Expression:
        """The expression of a value; for a ternary one, of its sign plane, and for a level made here how
        far it lies above the lowest one (see `planes`)."""
        if value not in self._built:
            self._built[value] = self._build(value)
        return self._built[value]

    def planes(self, value: SSAValue) -> tuple[ex.Expression, ...]:
        """What is stored of a value made in this region, plane by plane."""
        first = self.value(value)
        match element_of(value):
            case Level() as level if not level.is_byte:
                return tuple(ex.BitOf(first, b) for b in range(level.planes))
            case Ternary():
                op = value.owner
                assert isinstance(op, ops.Binarize)
                return first, ex.Compare("ne", self._real(op.input), ZERO)
        return (first,)

    def channel(self, array: np.ndarray) -> ex.Channel:
        """A constant vector [c], shared with an equal one met before."""
        vector = np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (self.channels,)))
        return ex.Channel(self._add_constant(vector))

    def _add_constant(self, array: np.ndarray) -> int:
        """The number that a constant of the kernel has: a vector [c], or a table."""
        for index, known in enumerate(self.arrays):
            if known.dtype == array.dtype and np.array_equal(known, array, equal_nan=True):
                return self.reserved + index
        element = Element.F32 if array.dtype == np.float32 else Element.I32
        self.constants.append(Constant(element, array.shape))
        self.arrays.append(array)
        return self.reserved + len(self.arrays) - 1

    def _build(self, value: SSAValue) -> ex.Expression:
        if isinstance(value, BlockArgument):
            return self.load(value)
        op = value.owner
        assert isinstance(op, Operation)
        if op is self.root:
            return ex.Accumulator()
        match op:
            case Scan():
                return self.value(op.inside(value))
            case ops.Constant():
                return self._constant(op)
            case ops.Cast():
                return self._cast(op)
            case ops.Binarize():
                kind = "ge" if op.zero.value.data == 1 else "gt"
                return ex.Compare(kind, self._real(op.input), ZERO)
            case ops.Threshold():
                thresholds = ops.vector_of(op.thresholds)
                compare = ex.Compare("ge", self.value(op.input), self.channel(thresholds))
                return self._flip(compare, ops.vector_of(op.signs))
            case ops.Flip():
                return self._flip(self.value(op.input), ops.vector_of(op.signs))
            case ops.Compare():
                kind: ex.CompareKind = op.kind.data  # type: ignore[assignment]
                return ex.Compare(kind, self.value(op.left), self.value(op.right))
            case ops.Select():
                return ex.Select(*(self.value(operand) for operand in op.operands))
            case ops.Clip():
                return self._clip(op)
            case ops.MulShift():
                left, right = (self.value(operand) for operand in op.operands)
                return ex.MulShift(left, right, op.shift.value.data)
            case ops.Lookup():
                return self._lookup(op)
            case ops.PRelu():
                x = self.value(op.input)
                scaled = ex.Binary("mul", x, self.value(op.slope))
                return ex.Select(ex.Compare("ge", x, ZERO), x, scaled)
            case _ if type(op) in UNARY:
                return ex.Unary(UNARY[type(op)], self.value(op.operands[0]))
            case _ if type(op) in BINARY:
                left, right = op.operands
                return ex.Binary(BINARY[type(op)], self.value(left), self.value(right))
            case _:
                raise unsupported(op, f"{op.name} cannot stand in an epilogue")

    def _constant(self, op: ops.Constant) -> ex.Expression:
        array = op.array
        if array.dtype == np.bool_ and array.size == 1:
            return ex.Compare("ne" if array.item() else "eq", ex.Scalar(1.0), ZERO)
        if array.dtype == np.bool_:
            return ex.Compare("ne", self._numbers(array.astype(np.float32)), ZERO)
        if array.dtype not in (np.float32, np.int32):
            raise unsupported(op, f"a constant of {array.dtype} cannot stand in an epilogue")
        return self._numbers(array)

    def _numbers(self, array: np.ndarray) -> ex.Expression:
        """Trained numbers, float32 or int32."""
        if array.size == 1 and array.dtype == np.float32:
            return ex.Scalar(float(array.reshape(-1)[0]))
        if array.size == 1:
            return ex.Integer(int(array.reshape(-1)[0]))
        if array.size == array.shape[-1]:
            return self.channel(array)
        return self.load_array(array)

    def _cast(self, op: ops.Cast) -> ex.Expression:
        source, target = element_of(op.input), element_of(op.result)
        if isinstance(source, Level):
            return self._from_level(op.input, source)
        x = self.value(op.input)
        if source == target:
            return x
        if target == Spike() and source == f32:
            return ex.Compare("gt", x, ZERO)
        if isinstance(target, Level) and source == f32:
            return ex.ToLevel(
                x if target.lowest == 0 else ex.Binary("sub", x, ex.Scalar(float(target.lowest)))
            )
        if target == f32 and isinstance(source, Bipolar):
            return ex.FromBit(x, -1.0, 1.0)
        if target == f32 and (isinstance(source, Spike) or source == i1):
            return ex.FromBit(x, 0.0, 1.0)
        if target == f32 and isinstance(source, Ternary):
            return self._ternary(op.input, x)
        if target == f32 and isinstance(source, IntegerType):
            return ex.ToFloat(x)
        if source == f32 and target in (i32, i8, ui8):
            return ex.ToInteger(x)
        if {source, target} == {i16, i32}:
            return x  # stored narrow, computed wide
        if target == i1 and source == f32:
            return ex.Compare("ne", x, ZERO)
        if {source, target} <= {i1, Spike()}:
            return x
        raise unsupported(op, f"no cast from {source} to {target} in an epilogue")

    def _from_level(self, value: SSAValue, level: Level) -> ex.Expression:
        """float32: what the level was made of, or what its byte or the sum of its planes says."""
        if isinstance(value.owner, ops.Cast):
            return self.value(value.owner.input)
        first = self.value(value)
        if level.is_byte:
            number = ex.ToFloat(first)
            return ex.Binary("add", number, ex.Scalar(float(level.lowest))) if level.lowest else number
        assert isinstance(first, ex.Operand)
        planes = (ex.Operand(first.index + b) for b in range(level.planes))
        bits: list[ex.Expression] = [ex.FromBit(plane, 0.0, float(1 << b)) for b, plane in enumerate(planes)]
        offset = [ex.Scalar(float(level.lowest))] if level.lowest else []
        return functools.reduce(lambda left, right: ex.Binary("add", left, right), [*bits, *offset])

    def _ternary(self, value: SSAValue, sign: ex.Expression) -> ex.Expression:
        if isinstance(value, BlockArgument):
            assert isinstance(sign, ex.Operand)
            return ex.Select(ex.Operand(sign.index + 1), ex.FromBit(sign), ZERO)
        assert isinstance(value.owner, ops.Binarize)
        return ex.Unary("sign", self._real(value.owner.input))

    def _real(self, value: SSAValue) -> ex.Expression:
        x = self.value(value)
        return ex.ToFloat(x) if element_of(value) == i32 else x

    def _flip(self, x: ex.Expression, signs: np.ndarray) -> ex.Expression:
        if (signs == 1).all():
            return x
        return ex.Flip(x, self.channel((signs == -1).astype(np.int32)).index)

    def _lookup(self, op: ops.Lookup) -> ex.Expression:
        """Where the entry lies in the rows of the table, put one after the other."""
        rows, first = op.rows, ops.vector_of(op.first)
        before = np.arange(len(rows), dtype=np.int32) * rows.shape[1] - first
        place = self.value(op.input)
        if before.any():
            place = ex.Binary("add", place, self._numbers(before))
        return ex.Lookup(place, self._add_constant(np.ascontiguousarray(rows)))

    def _clip(self, op: ops.Clip) -> ex.Expression:
        x = self.value(op.input)
        low, high = op.low.value.data, op.high.value.data
        if not math.isinf(low):
            x = ex.Binary("max", x, ex.Scalar(low))
        if not math.isinf(high):
            x = ex.Binary("min", x, ex.Scalar(high))
        return x


def unsupported(op: Operation, message: str) -> BnnccError:
    """The model asks for what is valid but no kernel computes yet."""
    shapes = ", ".join(str(shape_of(value)) for value in op.operands)
    given = f" (operand shapes {shapes})" if shapes else ""
    hint = "write this part of the model in another way; please report it, with the model if you may"
    return BnnccError(location_text(op), f"{message}{given}", hint)
