# SPDX-License-Identifier: Apache-2.0
"""ONNX sequences outside of loops: every operator, against onnxruntime; what is not known is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import NodeProto, helper

import bnncc
from bnncc.diagnostics import BnnccError
from tests.models import make_model, write

node = helper.make_node
CONSTANTS = {"zero": np.array(0), "last": np.array(-1), "two": np.array(2), "sizes": np.array([1, 3])}

NETWORKS: dict[str, list[NodeProto]] = {
    "inserted": [
        node("SequenceEmpty", [], ["e"]),
        node("SequenceInsert", ["e", "x"], ["a"]),
        node("Neg", ["x"], ["n"]),
        node("SequenceInsert", ["a", "n", "zero"], ["b"]),
        node("Abs", ["x"], ["p"]),
        node("SequenceInsert", ["b", "p", "last"], ["c"]),
        node("ConcatFromSequence", ["c"], ["y"], axis=1, new_axis=1),
    ],
    "joined": [
        node("Neg", ["x"], ["n"]),
        node("SequenceConstruct", ["x", "n"], ["s"]),
        node("ConcatFromSequence", ["s"], ["y"], axis=-1),
    ],
    "erased": [
        node("Neg", ["x"], ["n"]),
        node("SequenceConstruct", ["x", "n", "x"], ["s"]),
        node("SequenceErase", ["s", "zero"], ["t"]),
        node("SequenceErase", ["t"], ["u"]),
        node("SequenceAt", ["u", "zero"], ["y"]),
    ],
    "split": [
        node("SplitToSequence", ["x"], ["s"], axis=1, keepdims=0),
        node("SequenceAt", ["s", "last"], ["l"]),
        node("SequenceAt", ["s", "two"], ["m"]),
        node("Sub", ["l", "m"], ["y"]),
    ],
    "split and joined": [
        node("SplitToSequence", ["x"], ["s"], axis=0, keepdims=0),
        node("ConcatFromSequence", ["s"], ["y"], axis=1, new_axis=1),
    ],
    "pieces": [
        node("SplitToSequence", ["x", "sizes"], ["s"], axis=1),
        node("SequenceAt", ["s", "last"], ["y"]),
    ],
    "pieces of a length": [
        node("SplitToSequence", ["x", "two"], ["s"], axis=0),
        node("Identity", ["s"], ["t"]),
        node("SequenceAt", ["t", "last"], ["y"]),
    ],
    "counted": [
        node("SplitToSequence", ["x"], ["s"], axis=0),
        node("SequenceLength", ["s"], ["n"]),
        node("Cast", ["n"], ["f"], to=1),
        node("Mul", ["x", "f"], ["y"]),
    ],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_sequences_are_resolved(name: str, tmp_path: Path):
    model = make_model(NETWORKS[name], {"x": [3, 4]}, ["y"], CONSTANTS)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    got = bnncc.compile(write(tmp_path, model), target="c", output=tmp_path / "lib").run({"x": x})["y"]
    np.testing.assert_array_equal(got, expected)


BAD: dict[str, tuple[list[NodeProto], str]] = {
    "position": (
        [node("SequenceConstruct", ["x"], ["s"]), node("SequenceAt", ["s", "two"], ["y"], "at")],
        r"model.onnx:at: SequenceAt: there is no position 2 in a sequence of 1",
    ),
    "empty": (
        [node("SequenceEmpty", [], ["s"]), node("ConcatFromSequence", ["s"], ["y"], "join", axis=0)],
        r"model.onnx:join: ConcatFromSequence: the sequence is empty",
    ),
    "tensor": (
        [node("ConcatFromSequence", ["x"], ["y"], "join", axis=0)],
        r"model.onnx:join: ConcatFromSequence: 'x' is a tensor, not a sequence",
    ),
    "output": ([node("SequenceConstruct", ["x"], ["y"], "s")], r"the output 'y' is a sequence of tensors"),
    "reader": (
        [node("SequenceConstruct", ["x"], ["s"]), node("Neg", ["s"], ["y"], "neg")],
        r"model.onnx:neg: Neg: it reads a sequence of tensors",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_sequence_cannot_be_is_refused(name: str, tmp_path: Path):
    nodes, message = BAD[name]
    with pytest.raises(BnnccError, match=message):
        bnncc.compile(write(tmp_path, make_model(nodes, {"x": [3, 4]}, ["y"], CONSTANTS)))
