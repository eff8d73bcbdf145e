# SPDX-License-Identifier: Apache-2.0
"""docs/dialect.md is what the dialect is, and its examples can be compiled."""

from __future__ import annotations

import re

import numpy as np
import pytest
from xdsl.dialects.func import FuncOp

from bnncc.dialect import BNN
from bnncc.dialect.parsing import parse_module
from bnncc.dialect.types import element_of, shape_of
from bnncc.reference import evaluate_block
from tests.dialect_page import EXAMPLES, FILE, page
from tests.mlir.support import values

RANDOM = np.random.default_rng(0)

TEXT = FILE.read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\S+)$.*?^```mlir\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))


def test_the_page_is_up_to_date() -> None:
    assert page() == TEXT, "write it again: python -m tests.dialect_page"
    assert set(EXAMPLES) == set(BNN.operations)


@pytest.mark.parametrize("name", SECTIONS)
def test_an_example_is_valid_and_computes_something(name: str) -> None:
    (main,) = parse_module(SECTIONS[name]).ops
    assert isinstance(main, FuncOp)
    assert name in {op.name for op in main.walk()}
    block = main.body.block
    inputs = [values(RANDOM, shape_of(value), element_of(value)) for value in block.args]
    results = evaluate_block(block, inputs)
    assert block.last_op is not None
    assert [result.shape for result in results] == [shape_of(value) for value in block.last_op.operands]
