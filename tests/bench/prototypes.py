# SPDX-License-Identifier: Apache-2.0
"""The prototypes of single layers that ours are held against, from the folder that the environment variable
BNNCC_PROTOTYPES names: `binary_conv.py`, `binary_conv_bytes.py`, `three_word_avx512.py`, `pair_lookup.py`.

They run on random numbers of their own, and read activations that already have the form they want.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bnncc.targets import Target
from tests.bench.timing import Call

Modules = Mapping[str, Any]

MODULES = (
    "binary_conv",
    "binary_conv_bytes",
    "binary_reference",
    "packed_layers",
    "pair_lookup",
    "support",
    "three_word_avx512",
)

BYTE_LANES = {"x86-64-v2": 16, "x86-64-v3": 32, "x86-64-v4": 64}
"""Lanes of a vector of the prototypes for bytes, by target."""


def prototypes(folder: str | None) -> Callable[[Target, int, int, str], dict[str, Call]]:
    """What makes the prototypes' calls, by name, of a square 3x3 layer at stride 1; none without a folder.

    (target, size, channels, epilogue) -> calls, where epilogue is "one-pad", "zero-pad" or "float". "plain"
    counts word by word or byte by byte, "best" is the fastest form."""
    if folder is None:
        return lambda target, size, channels, epilogue: {}
    sys.path.insert(0, folder)
    modules = {name: importlib.import_module(name) for name in MODULES}

    def make(target: Target, size: int, channels: int, epilogue: str) -> dict[str, Call]:
        if target.popcount == "vector32":
            calls = {"plain": _words(modules, size, channels, epilogue)}
            if epilogue != "float":
                calls["best"] = _three_words(modules, size, channels, epilogue)
            return calls
        lanes = BYTE_LANES.get(target.name)
        if lanes is None or epilogue == "float":
            return {}
        calls = {"best": _pairs(modules, size, channels, epilogue, lanes)}
        if epilogue == "one-pad":
            calls["plain"] = _bytes(modules, size, channels, lanes)
        return calls

    return make


def _layer(modules: Modules, size: int, channels: int, epilogue: str) -> tuple[np.ndarray, ...]:
    """The padded activations, the weights and the limits."""
    x, w, limits, _ = modules["packed_layers"].layer_data(
        size, channels, 1, int(epilogue == "one-pad"), False
    )
    return modules["binary_reference"].pad_ones(x) > 0, w > 0, limits


def _words(modules: Modules, size: int, channels: int, epilogue: str) -> Call:
    words, support, pack = modules["binary_conv"], modules["support"], modules["binary_reference"].pack_bits
    x, w, limits = _layer(modules, size, channels, "one-pad" if epilogue == "float" else epilogue)
    library = support.load_kernels(
        words.schedule(words.conv3x3(size, size, channels // 32, channels, epilogue), 7, 2)
    )
    is_float = epilogue == "float"
    table = np.ones((words.CASES[epilogue], channels), np.float32) if is_float else limits
    results = (
        np.zeros(size * size * channels, np.float32)
        if is_float
        else np.zeros(size * size * channels // 16, np.uint16)
    )
    w = pack(w, np.uint32).reshape(-1, 16, 9, channels // 32).transpose(0, 2, 3, 1)
    return support.bind(library.conv, *map(support.aligned, (pack(x, np.uint32), w, table, results)))


def _three_words(modules: Modules, size: int, channels: int, epilogue: str) -> Call:
    three, support, pack = (
        modules["three_word_avx512"],
        modules["support"],
        modules["binary_reference"].pack_bits,
    )
    x, w, limits = _layer(modules, size, channels, epilogue)
    words, pixels = channels // 32, next(p for p in (7, 8, 4, 2, 1) if size % p == 0)
    a, b, c = np.moveaxis(pack(w, np.uint32).reshape(-1, 16, 3, 3, words).transpose(0, 2, 3, 4, 1), 2, 0)
    x = pack(x, np.uint32)
    u = x[:, :-1] ^ x[:, 1:]
    xs = np.stack((u, np.pad(u[:, :-1] ^ x[:, 2:], ((0, 0), (0, 1), (0, 0)))), axis=-1)
    library = support.load_kernels(three.conv(size, words, channels, pixels, len(limits), 1))
    results = np.zeros(size * size * channels // 16, np.uint16)
    arrays = (xs, np.stack((a ^ b, b ^ c, a ^ b ^ c), 3), limits, results)
    return support.bind(library.conv, *map(support.aligned, arrays))


def _bytes(modules: Modules, size: int, channels: int, lanes: int) -> Call:
    octets, support, pack = (
        modules["binary_conv_bytes"],
        modules["support"],
        modules["binary_reference"].pack_bits,
    )
    x, w, limits = _layer(modules, size, channels, "one-pad")
    kernel = octets.schedule(octets.conv3x3_bytes(size, size, channels // 8, channels, lanes, 24), 7)
    library = support.load_kernels(kernel, {"kind": "llvm", "mcpu": modules["pair_lookup"].BUILDS[lanes][0]})
    w = pack(w, np.uint8).reshape(channels // lanes, lanes, 3, -1).transpose(0, 2, 3, 1)
    results = np.zeros(size * size * channels // lanes, f"uint{lanes}")
    arrays = (pack(x, np.uint8), w, limits.astype(np.int16), results)
    return support.bind(library.conv, *map(support.aligned, arrays))


def _pairs(modules: Modules, size: int, channels: int, epilogue: str, lanes: int) -> Call:
    lookup, support, pack = modules["pair_lookup"], modules["support"], modules["binary_reference"].pack_bits
    x, w, limits = _layer(modules, size, channels, epilogue)
    mcpu, _, _, pairs, shared = lookup.BUILDS[lanes]
    row_pairs, blocks = (size + 1) // 2, channels // lanes
    if row_pairs % pairs or blocks % shared:
        pairs, shared = (7, 1) if row_pairs % 7 == 0 and lanes != 32 else (1, min(blocks, 2))
    x = pack(x, np.uint8).astype(np.uint16)
    right = np.pad(x[:, 1:], ((0, 0), (0, 1), (0, 0)))
    low, high = (x & 15) << 4 | (right & 15) << 8, x & 240 | (right & 240) << 4
    w = pack(w, np.uint8).reshape(blocks, lanes, 3, -1).transpose(0, 2, 3, 1)
    counts = np.bitwise_count(np.arange(16)[:, None] ^ np.arange(16)).astype(np.uint8)
    start = (-1 - limits).reshape(len(limits), blocks, lanes // 2, 2).swapaxes(2, 3).astype(np.uint16)
    kernel = lookup.conv(size, channels, lanes, pairs, shared, len(limits), 1)
    library = support.load_kernels(kernel, {"kind": "llvm", "mcpu": mcpu})
    arrays = (
        np.stack((low, high), axis=-1),
        counts[None] + 16 * counts[:, None],
        np.stack((w & 15, w >> 4), 3),
        start,
        np.zeros(size * size * channels // lanes, f"uint{lanes}"),
    )
    return support.bind(library.conv, *map(support.aligned, arrays))
