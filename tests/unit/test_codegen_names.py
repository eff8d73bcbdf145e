# SPDX-License-Identifier: Apache-2.0
"""Names of libraries, and ONNX names inside C."""

import pytest

from bnncc.codegen.text import in_comment
from bnncc.diagnostics import BnnccError
from bnncc.plan.names import c_identifier, c_names, check_library_name, library_name


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("nets/Digits-v2.onnx", "Digits_v2"),
        ("model.v2.onnx", "model_v2"),
        ("net.mlir", "net"),
        ("3x3.onnx", "model_3x3"),
        ("int.onnx", "model_int"),
        ("...onnx", "model"),
        ("数字.onnx", "model"),
        ("_mine.onnx", "mine"),
        ("private.onnx", "model_private"),
        ("Signal.onnx", "model_Signal"),
        ("bnncc.onnx", "model_bnncc"),
        ("x" * 100 + ".onnx", "x" * 40),
    ],
)
def test_library_name(file: str, name: str):
    assert library_name(file) == name
    assert check_library_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "3x", "a-b", "_a", "int", "class", "string", "bnncc", "a b", "é", "x" * 41, "a\n"]
)
def test_names_that_c_refuses(name: str):
    with pytest.raises(BnnccError, match="cannot be the name of a C library") as caught:
        check_library_name(name)
    assert caught.value.location == "--name"


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("/conv1/Relu:0", "conv1_Relu_0"),
        ("input.1", "input_1"),
        ("3", "tensor_3"),
        ("float", "tensor_float"),
        ("arena", "tensor_arena"),
        ("uint8_t", "tensor_uint8_t"),
        ("INPUT", "tensor_INPUT"),
        ("memory_", "memory"),
        ("::", "tensor"),
        ("日本", "tensor"),
        ("a" * 39 + "/b", "a" * 39),
    ],
)
def test_c_identifier(name: str, spelled: str):
    assert c_identifier(name) == spelled


def test_c_names_are_told_apart():
    assert c_names(["x", "X", "x_2", "/x", "y"]) == ("x", "X_2", "x_2_2", "x_3", "y")


@pytest.mark.parametrize("text", ["*/", "/*", "/*/", "*//*", "a\\\nb", "??/", "???/", "\x00\x7f\r", "ü€"])
def test_nothing_ends_a_comment(text: str):
    safe = in_comment(text)
    assert safe.isascii() and safe.isprintable()
    assert not any(forbidden in safe for forbidden in ("*/", "/*", "\\", "??"))
