# SPDX-License-Identifier: Apache-2.0
"""How one step of a contraction of bytes multiplies and adds, by what the processor has and how large the
weights are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.emit import Buffer, Index, Value
from bnncc.kernels.interleave import interleave
from bnncc.kernels.isa import Isa
from bnncc.kernels.nest import Channels, Level

PAIRS = {8: "ssse3.pmadd.ub.sw.128", 16: "avx2.pmadd.ub.sw", 32: "avx512.pmaddubs.w.512"}
"""Lanes of 16 bits -> the instruction that adds up the products of two bytes."""

FOURS = {4: "avx512.vpdpbusd.128", 8: "avx512.vpdpbusd.256", 16: "avx512.vpdpbusd.512"}
"""Lanes of 32 bits -> the instruction that adds the products of four bytes to a sum."""

WORDS = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}
"""Lanes of 32 bits -> the instruction that adds up the products of two halves."""

SHORT = (1 << 15) - 1
"""The largest sum in 16 bits."""

BYTE = 255
"""The largest activation."""

LARGEST_WEIGHT = 128
"""The largest magnitude of a weight."""

MOST_WIDENED = 4
"""PMADDUBSW is worth it where 16 bits hold the sum of so many steps."""


CENTRE = 128
"""What is subtracted from activations whose factors are signed."""


@dataclass(frozen=True)
class Method:
    """together: neighbouring bytes of a step. lane_bits: of a sum. weight: its stored type; those of 16 bits
    are multiplied without a loss by activations of 16 bits. neon: by which of NEON's instructions
    (`byte.neon`), "" if by others."""

    together: int
    lane_bits: int
    weight: str = "int8"
    neon: Literal["", "dot", "pairs"] = ""
    by_columns: bool = False
    """Whether the bytes of a step are neighbours in a column of one channel (`byte.columns`)."""

    @property
    def loads(self) -> tuple[int, ...]:
        """How many steps' activations may be loaded together, the most first."""
        return (4, 2, 1) if self.neon else (1,)

    @property
    def is_wide(self) -> bool:
        """Whether weights are stored in 16 bits."""
        return self.weight == "int16"

    def short_steps(self, weight_planes: int) -> int:
        """How many steps 16 bits hold the sum of, for weights below 2^weight_planes."""
        largest = min((1 << weight_planes) - 1, LARGEST_WEIGHT)
        return SHORT // (self.together * BYTE * largest)

    def pack(self, taps: np.ndarray, channels: Channels) -> np.ndarray:
        """int8 [O, steps, together] to the stored form, flat."""
        outputs = len(taps)
        if self.neon == "pairs" and self.together == 4:
            taps = taps.reshape(outputs, -1, 2)
        elif self.is_wide and self.together == 4:
            # Taps 0 and 2 are multiplied by one instruction, 1 and 3 by the next.
            taps = taps[:, :, [0, 2, 1, 3]].reshape(outputs, -1, 2)
        width = np.dtype(self.weight).itemsize * taps.shape[2]
        items = np.ascontiguousarray(taps.astype(self.weight)).view(f"<i{width}")[..., 0]
        return interleave(items, channels).view(self.weight)


def method_of(isa: Isa, run: Level, weight_planes: int) -> Method:
    """The best step for runs of this kind."""
    if isa.is_scalar:
        return Method(1, 32)
    if isa.has_byte_dot and _divides(run, 4):
        return Method(4, 32)
    pairs = Method(2, 16)
    if isa.has_byte_pairs and _divides(run, 2) and pairs.short_steps(weight_planes) >= MOST_WIDENED:
        return pairs
    if isa.has_signed_dot and _divides(run, 4):
        return Method(4, 32, neon="dot")
    one = Method(1, 16)
    if one.short_steps(weight_planes) >= MOST_WIDENED:
        return one
    if isa.is_neon and _divides(run, 4):
        return Method(4, 32, neon="pairs")
    together = 4 if isa.has_byte_pairs and _divides(run, 4) else 1
    return Method(together, 32, "int16")


def _divides(run: Level, together: int) -> bool:
    """Whether so many bytes of a run lie side by side."""
    return run.stride == 1 and run.extent >= together


def load_item(method: Method, buffer: Buffer, index: Index) -> Value:
    """The bytes of a step as one integer."""
    if method.together == 1:
        return T.Cast("int32" if method.is_wide else "int16", buffer[index])
    return T.reinterpret(f"int{8 * method.together}", emit.load(buffer, index, method.together))


def spread_item(method: Method, item: Value, lanes: int) -> list[Value]:
    """The item in all lanes, as the vectors that weights are multiplied by."""
    spread = emit.bind(emit.broadcast(item, lanes))
    if method.is_wide and method.together == 4:
        low = spread & emit.constant(0x00FF00FF, "int32", lanes)
        halves = T.reinterpret(f"uint16x{2 * lanes}", spread)
        high = T.shift_right(halves, emit.constant(8, "uint16", 2 * lanes))
        return [emit.bind(T.reinterpret(f"int16x{2 * lanes}", half)) for half in (low, high)]
    if method.together == 1:
        return [spread]
    return [T.reinterpret(f"uint8x{lanes * method.together}", spread)]


def load_weights(method: Method, buffer: Buffer, place: Index, lanes: int) -> list[Value]:
    """The weights of a step in so many channels: as many vectors as `spread_item` gives."""
    parts = 2 if method.is_wide and method.together == 4 else 1
    length = lanes * method.together // parts
    return [emit.bind(emit.load(buffer, place + part * length, length)) for part in range(parts)]


def add_products(method: Method, total: Buffer, items: list[Value], weights: list[Value], lanes: int) -> None:
    """Emit total += the products of the bytes of an item with the weights of each lane."""
    value = emit.load(total, 0, lanes)
    for item, weight in zip(items, weights, strict=True):
        value = _added(method, value, item, weight, lanes)
    emit.store(total, value, 0)


def _added(method: Method, old: Value, item: Value, weight: Value, lanes: int) -> Value:
    if method.together == 1:
        lane = "int32" if method.is_wide else "int16"
        return old + item * T.Cast(emit.vector_type(lane, lanes), weight)
    if method.is_wide:
        return old + T.call_llvm_pure_intrin(f"int32x{lanes}", f"llvm.x86.{WORDS[lanes]}", item, weight)
    if method.together == 2:
        return old + T.call_llvm_pure_intrin(f"int16x{lanes}", f"llvm.x86.{PAIRS[lanes]}", item, weight)
    return T.call_llvm_pure_intrin(f"int32x{lanes}", f"llvm.x86.{FOURS[lanes]}", old, item, weight)
