# SPDX-License-Identifier: Apache-2.0
"""The contractions of a module of upstream MLIR, for the schedule that goes with it (`plan.tiling`)."""

from __future__ import annotations

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import Operation
from xdsl.ir.affine import AffineDimExpr

from bnncc.linalg.bits import PACK
from bnncc.plan.tiling import Contraction, Packing


def parts_of(module: Operation) -> list[Contraction | Packing]:
    """What is worth a schedule among the linalg.generic with a `library_call`: what makes words, and
    contractions with several output channels, along which vectors lie."""
    calls = [op for op in module.walk() if isinstance(op, GenericOp) and op.library_call]
    found = [_packing(op) if _name(op) == PACK else _contraction(op) for op in calls]
    return [part for part in found if isinstance(part, Packing) or part.parallel[-1] > 1]


def _name(op: GenericOp) -> str:
    return op.library_call.data if op.library_call else ""


def _packing(op: GenericOp) -> Packing:
    return Packing(str(op.res[0].type), len(op.iterator_types))


def _contraction(op: GenericOp) -> Contraction:
    kinds = [attribute.data for attribute in op.iterator_types]
    count = kinds.index(IteratorType.REDUCTION)
    assert op.library_call is not None and all(kind is IteratorType.REDUCTION for kind in kinds[count:])
    result = op.res[0].type
    assert isinstance(result, TensorType)
    written = op.indexing_maps.data[-1].data.results
    places = [expression.position for expression in written if isinstance(expression, AffineDimExpr)]
    extents = [0] * count
    for place, extent in zip(places, result.get_shape(), strict=True):
        extents[place] = extent
    return Contraction(
        op.library_call.data,
        tuple(str(value.type) for value in op.operands),
        str(result),
        tuple(extents),
        len(kinds) - count,
        _row(op, count),
        str(result.element_type),
    )


def _row(op: GenericOp, count: int) -> int | None:
    """The loop over the pixels of a row, if neighbours are read side by side."""
    image = op.indexing_maps.data[0].data
    if count < 4:
        return None
    column = image.results[2]
    # With the loops of the window at 0, neighbours are one apart.
    at = [[int(i == 2) * step for i in range(image.num_dims)] for step in (0, 1)]
    return 2 if column.eval(at[1], []) - column.eval(at[0], []) == 1 else None
