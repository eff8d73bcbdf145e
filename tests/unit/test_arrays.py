# SPDX-License-Identifier: Apache-2.0
"""Arrays come in by name, leave whole, and are summed up in a line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from bnncc.data.arrays import read_arrays, read_inputs, render_summary, summarise, to_json, write_arrays
from bnncc.diagnostics import BnnccError

SQUARE = np.arange(4, dtype=np.float32).reshape(2, 2)


def test_an_input_is_named_on_the_command_line(tmp_path: Path):
    np.save(tmp_path / "a=b.npy", SQUARE)
    inputs = read_inputs([f"x={tmp_path / 'a=b.npy'}"], ["x", "y"])
    np.testing.assert_array_equal(inputs["x"], SQUARE)


def test_an_archive_names_its_inputs(tmp_path: Path):
    np.savez(tmp_path / "in.npz", x=SQUARE, y=SQUARE + 1)
    np.save(tmp_path / "z.npy", SQUARE + 2)
    inputs = read_inputs([str(tmp_path / "in.npz"), f"z={tmp_path / 'z.npy'}"], ["x", "y", "z"])
    assert {name: array[0, 0] for name, array in inputs.items()} == {"x": 0, "y": 1, "z": 2}
    with pytest.raises(BnnccError, match="archive of several arrays"):
        read_inputs([f"x={tmp_path / 'in.npz'}"], ["x"])


def test_the_only_input_needs_no_name(tmp_path: Path):
    np.save(tmp_path / "x.npy", SQUARE)
    assert list(read_inputs([str(tmp_path / "x.npy")], ["image"])) == ["image"]
    with pytest.raises(BnnccError, match="the network has 2 inputs"):
        read_inputs([str(tmp_path / "x.npy")], ["image", "state"])


@pytest.mark.parametrize("name", ["file", "args", "a/b:0", "../up", "Ünïcode", "x.npy"])
def test_any_name_of_an_output_survives(name: str, tmp_path: Path):
    write_arrays(tmp_path / "out.npz", {name: SQUARE, "other": SQUARE[0]})
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]
    found = read_arrays(tmp_path / "out.npz")
    np.testing.assert_array_equal(found[name], SQUARE)


def test_equal_arrays_make_equal_files(tmp_path: Path):
    for name in ("a.npz", "b.npz"):
        write_arrays(tmp_path / name, {"y": SQUARE})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path):
    (tmp_path / "out.npz").mkdir()
    with pytest.raises(BnnccError, match="cannot be written"):
        write_arrays(tmp_path / "out.npz", {"y": SQUARE})
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04"]))
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes, head: bytes):
    path = tmp_path_factory.mktemp("noise") / "noise.npy"
    path.write_bytes(head + content)
    try:
        read_arrays(path)
    except BnnccError as error:
        assert "\n" not in error.message


def test_a_summary_names_the_best_class():
    row = summarise("scores", np.array([[0, 3, 1], [2, 0, 0]], np.float32))
    assert row["argmax"] == [1, 0]
    assert render_summary(row) == "scores: float32 [2, 3]  min 0  mean 1  max 3  argmax 1, 0"
    assert "argmax" not in summarise("image", np.zeros((1, 8, 8), np.float32))
    assert json.loads(to_json(row)) == row


@given(arrays_of.arrays(np.float32, arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4)))
def test_every_array_has_a_summary(array: np.ndarray):
    row = summarise("y", array)
    assert row["shape"] == list(array.shape)
    assert "\n" not in render_summary(row)
    strict = json.loads(to_json(row), parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert strict["dtype"] == "float32"


def test_another_file_is_not_taken_for_a_pickle(tmp_path: Path):
    (tmp_path / "notes.npy").write_text("hello")
    with pytest.raises(BnnccError, match="begins like neither"):
        read_arrays(tmp_path / "notes.npy")
