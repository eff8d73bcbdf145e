# SPDX-License-Identifier: Apache-2.0
"""Weights as C text: both forms give back the same numbers, equal arrays are stored once."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

from bnncc import runtime, targets
from bnncc.codegen import weights
from bnncc.codegen.weights import WeightPool
from bnncc.toolchain import c_compiler

ARRAYS = {
    "float32": [0.0, -0.0, 1.5, -1e-45, 3.4028235e38, 0.1, 16777216, np.inf, -np.inf, np.nan],
    "int8": [-128, 127, 0],
    "uint8": [0, 255, 7],
    "int16": [-(2**15), 2**15 - 1],
    "uint16": [0, 65535],
    "int32": [-(2**31), 2**31 - 1, 0, -1],
    "uint32": [0, 2**32 - 1, 0x12345678],
    "int64": [-(2**62), 2**63 - 1],
    "uint64": [0, 2**64 - 1],
}


def pool() -> WeightPool:
    result = WeightPool("net")
    for dtype, values in ARRAYS.items():
        result.add(np.array(values, dtype), dtype)
    return result


@pytest.mark.parametrize("form", [weights.typed_definitions, weights.byte_definitions])
def test_both_forms_give_back_the_numbers(form, tmp_path: Path):
    text = form(pool()).replace("static const", "const")
    source, library = tmp_path / "weights.c", tmp_path / "weights.so"
    headers = "#include <math.h>\n#include <stdint.h>\n" + runtime.header_text("placement.h")
    source.write_text(f"{headers}\n{text}\n")
    tools = c_compiler.find(targets.native())
    tools.compile(source, tmp_path / "weights.o", ("-Wall", "-Wextra", "-Werror"))
    symbols = [stored.symbol for stored in pool().arrays]
    tools.link_shared([tmp_path / "weights.o"], library, symbols)
    loaded = ctypes.CDLL(str(library))
    for stored in pool().arrays:
        raw = (ctypes.c_char * stored.data.nbytes).in_dll(loaded, stored.symbol)
        assert ctypes.addressof(raw) % 64 == 0
        np.testing.assert_array_equal(np.frombuffer(raw.raw, stored.data.dtype), stored.data)


def test_equal_arrays_are_stored_once():
    store = WeightPool("net")
    first = store.add(np.arange(6, dtype=np.uint32).reshape(2, 3), "first")
    assert store.add(np.arange(6, dtype=np.uint32), "second") is first
    assert store.add(np.arange(6, dtype=np.int32), "third") is not first
    assert store.bytes == 48
    assert [stored.symbol for stored in store.arrays] == ["net_weights_0", "net_weights_1"]


def test_a_float_keeps_every_bit():
    values = np.random.default_rng(0).integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    finite = values[np.isfinite(values)]
    back = np.array([float(text.removesuffix("f")) for text in weights.literals(finite)], np.float32)
    np.testing.assert_array_equal(back.view(np.uint32), finite.view(np.uint32))
