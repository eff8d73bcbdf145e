# SPDX-License-Identifier: Apache-2.0
"""Assignments by a mask, as PyTorch's dynamo exporter writes them, are Where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike
from onnx import ModelProto, NodeProto, helper

from bnncc.diagnostics import BnnccError
from bnncc.dialect import operations as ops
from bnncc.frontend.evaluate import evaluate_model
from bnncc.frontend.onnx import load_onnx
from tests.models import make_model, real, whole, write

node = helper.make_node

SHAPE = (1, 3, 4)
MASK = [node("GreaterOrEqual", ["x", "half"], ["mask"], "mask")]
PLACES = [
    node("NonZero", ["mask"], ["found"], "found"),
    node("Transpose", ["found"], ["places"], perm=[1, 0]),
]
ASSIGNED = [node("ScatterND", ["x", "places", "new"], ["y"], "assign")]
COUNT = [
    node("Reshape", ["mask", "flat"], ["bits"]),
    node("Cast", ["bits"], ["integers"], to=7),
    node("ReduceSum", ["integers"], ["count"], keepdims=1),
]
REPEATED = [*COUNT, node("Expand", ["value", "count"], ["many"]), node("Reshape", ["many", "flat"], ["new"])]
X = (np.arange(12, dtype=np.float32).reshape(SHAPE) - 6) / 4


def model(nodes: Sequence[NodeProto], **constants: ArrayLike) -> ModelProto:
    given = {"half": real(0.5), "value": real(7.0), "flat": whole([-1]), **constants}
    return make_model(nodes, {"x": SHAPE}, ["y"], given)


def operators(path: Path) -> list[str]:
    return [op.operator.data for op in load_onnx(path).walk() if isinstance(op, ops.Onnx)]


def test_one_number_for_what_the_mask_selects(tmp_path: Path) -> None:
    path = write(tmp_path, model([*MASK, *PLACES, *REPEATED, *ASSIGNED]))
    assert operators(path) == ["GreaterOrEqual", "Where"]
    expected = np.where(X >= 0.5, np.float32(7), X)
    np.testing.assert_array_equal(evaluate_model(path, {"x": X})["y"], expected)


def test_a_tensor_where_the_mask_selects(tmp_path: Path) -> None:
    gathered = [node("Neg", ["x"], ["z"]), node("GatherND", ["z", "places"], ["new"])]
    path = write(tmp_path, model([*MASK, *PLACES, *gathered, *ASSIGNED]))
    assert operators(path) == ["GreaterOrEqual", "Neg", "Where"]
    np.testing.assert_array_equal(evaluate_model(path, {"x": X})["y"], np.where(X >= 0.5, -X, X))


def test_places_that_are_known_stay_a_scatter(tmp_path: Path) -> None:
    path = write(tmp_path, model(ASSIGNED, places=whole([[0, 0, 0], [0, 2, 3]]), new=real([1, 2])))
    assert operators(path) == ["ScatterND"]


NEAR_MISSES = {
    "not the places of the mask's elements": (
        [*MASK, PLACES[0], node("Transpose", ["found"], ["places"], perm=[0, 1]), *REPEATED, *ASSIGNED],
        "the shape of its result",
    ),
    "a sum": (
        [
            *MASK,
            *PLACES,
            *REPEATED,
            helper.make_node("ScatterND", ["x", "places", "new"], ["y"], "add", reduction="add"),
        ],
        "the shape of its result",
    ),
    "a mask of rows": (
        [
            node("ReduceMax", ["x"], ["largest"], axes=[2], keepdims=0),
            node("GreaterOrEqual", ["largest", "half"], ["mask"]),
            *PLACES,
            *REPEATED,
            *ASSIGNED,
        ],
        "assignment by a mask bool",
    ),
    "elements of another mask": (
        [
            *MASK,
            *PLACES,
            node("Less", ["x", "half"], ["other"]),
            node("NonZero", ["other"], ["elsewhere"]),
            node("Transpose", ["elsewhere"], ["others"], perm=[1, 0]),
            node("GatherND", ["x", "others"], ["new"]),
            *ASSIGNED,
        ],
        "the shape of its result",
    ),
    "two numbers": ([*MASK, *PLACES, *ASSIGNED], "of float32.2. to float32"),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses_are_told(name: str, tmp_path: Path) -> None:
    nodes, message = NEAR_MISSES[name]
    constants = {"new": real([1, 2])} if name == "two numbers" else {}
    with pytest.raises(BnnccError, match=message):
        load_onnx(write(tmp_path, model(nodes, **constants)))
