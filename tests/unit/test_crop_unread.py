# SPDX-License-Identifier: Apache-2.0
"""Rows and columns that nobody reads are left out, whatever lies around the image."""

from __future__ import annotations

import numpy as np
import pytest
from xdsl.dialects.builtin import f32
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region

from bnncc.dialect import operations as ops
from bnncc.dialect.types import shape_of, tensor
from bnncc.passes.crop_unread import Cropping
from bnncc.reference import evaluate_block

Pads = tuple[int, int, int, int]


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 0, 1, 2), (0, 2, 1, 1), (2, 1, 0, 0), (0, 0, 2, 2)])
@pytest.mark.parametrize("strides", [(2, 3), (3, 2)])
def test_a_pool_reads_less_of_a_layer(pads: Pads, strides: tuple[int, int]) -> None:
    """top, left, bottom, right: what the smaller layer still reads of each side."""
    rng = np.random.default_rng(4)
    block = Block(arg_types=[tensor((1, 9, 10, 3), f32)])
    weight = ops.Constant(rng.integers(-3, 4, (4, 3, 3, 3)).astype(np.float32))
    conv = ops.Conv2d(block.args[0], weight.result, (1, 1), (1, 1), pads)
    pool = ops.MaxPool(conv.result, (2, 2), strides)
    block.add_ops([weight, conv, pool, ReturnOp(pool.result)])
    types = ([block.args[0].type], [pool.result.type])
    function = FuncOp("main", types, Region(block))
    x = rng.integers(-5, 6, (1, 9, 10, 3)).astype(np.float32)
    (expected,) = evaluate_block(block, [x])
    rows, columns = ((count - 1) * step + 2 for count, step in zip(expected.shape[1:3], strides, strict=True))
    is_smaller = (rows, columns) != shape_of(conv.result)[1:3]
    assert Cropping(block).run() == is_smaller
    function.verify()
    (smaller,) = (op for op in block.ops if isinstance(op, ops.Conv2d))
    assert shape_of(smaller.result) == (1, rows, columns, 4)
    (got,) = evaluate_block(block, [x])
    np.testing.assert_array_equal(got, expected)
