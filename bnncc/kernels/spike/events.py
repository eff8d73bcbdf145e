# SPDX-License-Identifier: Apache-2.0
"""Events: the bits that are set in packed words, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from bnncc.kernels import emit
from bnncc.kernels.c_helpers import COUNT_ZEROS
from bnncc.kernels.emit import Buffer, Index, Value
from bnncc.kernels.isa import Isa
from bnncc.kernels.nest import each
from bnncc.plan.layout import WORD_BITS


@dataclass(frozen=True)
class Word:
    """A word whose bits are looked at together: its value, and the number that bit 0 stands for."""

    value: Value
    first: Index


@dataclass(frozen=True)
class EventIsa:
    """How a target walks over events: words of `bits`, numbers of events as `index` integers."""

    bits: int
    index: str
    is_c: bool

    @staticmethod
    def of(isa: Isa) -> EventIsa:
        """64-bit processors take words of 64 bits, and indices that need no sign extension."""
        is_wide = not isa.is_scalar and not isa.triple.startswith(("arm", "thumb", "riscv32"))
        return EventIsa(64, "int64", False) if is_wide else EventIsa(WORD_BITS, "int32", isa.is_scalar)

    @property
    def dtype(self) -> str:
        """The type of a word."""
        return f"uint{self.bits}"

    def widen(self, word: Value, shift: int = 0) -> Value:
        """A stored word of 32 bits, moved up."""
        wide = T.Cast(self.dtype, word) if self.bits != WORD_BITS else word
        return T.shift_left(wide, tirx.const(shift, self.dtype)) if shift else wide

    def each(self, word: Word, cell: Buffer) -> Iterator[Index]:
        """The number of every event of a word, in a loop; `cell` is a local that holds one word."""
        zero, one = (tirx.const(value, self.dtype) for value in (0, 1))
        T.buffer_store(cell, word.value, [0])
        first = emit.bind(as_index(word.first, self.index))
        with T.While(cell[0] != zero):
            bit = self._lowest(cell[0])
            number = emit.bind(first + T.Cast(self.index, bit))
            T.buffer_store(cell, cell[0] & (cell[0] - one), [0])
            yield number

    def words(self, plane: Buffer, start: Index, channels: int, first: Index) -> Iterator[Word]:
        """The words of `channels` bits that lie at `start`, bit 0 of them being number `first`; in a loop
        where they are many."""
        stored, parts = -(-channels // WORD_BITS), self.bits // WORD_BITS
        for number in each(stored // parts, "word"):
            yield self.word(plane, start + number * parts, parts, first + number * self.bits)
        if stored % parts:
            last = stored // parts
            yield self.word(plane, start + last * parts, stored % parts, first + last * self.bits)

    def word(self, plane: Buffer, place: Index, parts: int, first: Index) -> Word:
        """Of so many stored words."""
        value = self.widen(plane[place])
        for part in range(1, parts):
            value = value | self.widen(plane[place + part], part * WORD_BITS)
        return Word(value, first)

    def cell(self) -> Buffer:
        """A local for `each`."""
        return emit.local(self.dtype, 1, "word")

    def _lowest(self, word: Value) -> Value:
        if self.is_c:
            return T.call_extern("uint32", COUNT_ZEROS, word)
        return T.call_llvm_pure_intrin(self.dtype, f"llvm.cttz.i{self.bits}", word, tirx.const(True, "bool"))


def as_index(index: Index, dtype: str) -> Value:
    """An index in another type of integers."""
    return tirx.const(index, dtype) if isinstance(index, int) else T.Cast(dtype, index)
