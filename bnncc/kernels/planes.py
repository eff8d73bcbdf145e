# SPDX-License-Identifier: Apache-2.0
"""Counting the bits of many words by carry-save addition: straight-line code, planned without TVM.

A plane of weight w is a 32-bit word each bit of which counts 2^w. A full adder takes three planes of one
weight to a sum of that weight and a carry of the next, for each bit position by itself:

    sum = a ^ b ^ c        carry = (u | v) ^ sum        with u = a ^ b, v = b ^ c

What is counted here are differences a = x ^ w, and exclusive-or is linear: of u, v and sum the parts of x and
of w may be computed apart, once each. So not the words are stored but u, v, sum of every three of them (of
nine words, three adders and a fourth for their sums), and an adder of three words is left with two
operations. The words of a block become as many stored words; padding with zero words on both sides changes no
count.

The planes of all blocks are added three by three. The two or fewer that are left of each weight are merged in
pairs: a delta swap brings the bits of two planes together as 2-bit fields, which add up to nibbles and bytes.

Values may be TIR expressions, NumPy arrays of uint32 or anything else with these operators; an `Emitter`
names intermediate ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Value = Any
"""Something with the operators ^ | & + - << >> of uint32."""

BLOCKS = (9, 5, 3, 1)
"""Words that are stored together, largest first."""

PAIRS, NIBBLES, BYTES, HALVES = 0x55555555, 0x33333333, 0x0F0F0F0F, 0x00FF00FF
"""The lower half of every field of 2, 4, 8 and 16 bits."""


@dataclass(frozen=True)
class Emitter:
    """Names values: `bind` returns its argument under a name; `constant` makes a value of a number."""

    bind: Callable[[Value], Value] = lambda value: value
    constant: Callable[[int], Value] = np.uint32

    def __call__(self, value: Value) -> Value:
        """The value under a name."""
        return self.bind(value)

    def half(self, mask: int, value: Value, shift: int = 0) -> Value:
        """The fields of `mask`, from `shift` bits further up."""
        return self(self.constant(mask) & (value >> self.constant(shift) if shift else value))

    def folded(self, mask: int, shift: int, value: Value) -> Value:
        """Fields of 2*shift bits: the upper half of each added to its lower half."""
        return self(self.half(mask, value) + self.half(mask, value, shift))


@dataclass(frozen=True)
class Field:
    """A word whose fields (nibbles or bytes) count 2^weight each, none of them more than `most`."""

    weight: int
    word: Value
    most: int


# --- Stored sums -----------------------------------------------------------------------------


def blocks(count: int) -> Iterator[tuple[int, int]]:
    """(first word, size) of the blocks of `count` words."""
    first = 0
    while first < count:
        size = next(size for size in BLOCKS if size <= count - first)
        yield first, size
        first += size


def stored_block(words: Sequence[Value], emit: Emitter) -> list[Value]:
    """The stored words of one block: u and v of each adder; last, the sum of all words."""
    if len(words) == 1:
        return list(words)
    u, v, total = _linear(words[:3], emit)
    if len(words) == 3:
        return [u, v, total]
    if len(words) == 5:
        pair = emit(words[3] ^ words[4])
        return [u, v, emit(total ^ words[3]), pair, emit(total ^ pair)]
    u2, v2, total2 = _linear(words[3:6], emit)
    u3, v3, total3 = _linear(words[6:9], emit)
    return [u, v, u2, v2, u3, v3, *_linear([total, total2, total3], emit)]


def stored(words: Sequence[Value], emit: Emitter) -> list[Value]:
    """The stored words of all words; of arrays, those along the first axis."""
    result: list[Value] = []
    for first, size in blocks(len(words)):
        result += stored_block(words[first : first + size], emit)
    return result


def _linear(words: Sequence[Value], emit: Emitter) -> list[Value]:
    """u, v and the sum of three words."""
    a, b, c = words
    u, v = emit(a ^ b), emit(b ^ c)
    return [u, v, emit(u ^ c)]


# --- Adding them up --------------------------------------------------------------------------


class Planes:
    """Planes that wait, at most two of each weight."""

    def __init__(self, emit: Emitter):
        self.emit = emit
        self.waiting: dict[int, list[Value]] = {}

    def add(self, weight: int, plane: Value) -> None:
        """One more plane: three of a weight become a sum and a carry."""
        same = self.waiting.setdefault(weight, [])
        same.append(plane)
        if len(same) == 3:
            u, v, total = _linear(same, self.emit)
            self.waiting[weight] = [total]
            self.add(weight + 1, self._carry(u, v, total))

    def add_block(self, size: int, difference: Callable[[int], Value]) -> None:
        """The bits of a block; difference(i) is the exclusive-or of the two stored words i."""
        match size:
            case 1:
                self.add(0, difference(0))
            case 3:
                either, total = self._either(difference, 0), difference(2)
                self.add(1, self.emit(either ^ total))
                self.add(0, total)
            case 5:
                either, u, v = self._either(difference, 0), difference(2), difference(3)
                second, total = self.emit(u | v), difference(4)
                self.add(1, self.emit(either ^ self.emit(total ^ v)))
                self.add(1, self.emit(second ^ total))
                self.add(0, total)
            case 9:
                self.add(0, self._add_nine(difference))

    def _add_nine(self, difference: Callable[[int], Value]) -> Value:
        """Three adders and one for their sums, whose four carries are added: to one plane of weight 2 that
        waits, or to two that wait now, and one of weight 4. The sums drop out of the exclusive-or of two
        carries, so only (u | v) of each adder is computed. Returns the plane of weight 1."""
        emit = self.emit
        first, second = self._either(difference, 0), self._either(difference, 2)
        first_two = emit(first ^ second)
        u = difference(6)
        one_two = emit(first_two ^ u)
        third = self._either(difference, 4)
        two_three, all_three = emit(second ^ third), emit(first_two ^ third)
        v = difference(7)
        any_two = emit(one_two | emit(two_three ^ v))
        last, total = emit(u | v), difference(8)
        carries = emit(all_three ^ total)
        self.add(2, emit(any_two ^ carries))
        twos = self.waiting.setdefault(1, [])
        if not twos:
            twos += [emit(last ^ total), carries]
            return total
        waiting = twos.pop(0)
        u, v = emit(last ^ all_three), emit(carries ^ waiting)
        plane = emit(u ^ waiting)
        self.add(1, plane)
        self.add(2, self._carry(u, v, plane))
        return total

    def _either(self, difference: Callable[[int], Value], first: int) -> Value:
        return self.emit(difference(first) | difference(first + 1))

    def _carry(self, u: Value, v: Value, total: Value) -> Value:
        return self.emit(self.emit(u | v) ^ total)

    def bytes(self) -> list[Field]:
        """The planes merged: the count is the sum of all bytes, each times 2^weight."""
        nibbles = self._joined(self._nibbles(), 15)
        halves = [
            Field(field.weight, self.emit.folded(BYTES, 4, field.word), 2 * field.most) for field in nibbles
        ]
        return self._joined(halves, 255)

    def _nibbles(self) -> list[Field]:
        """Planes two by two, of adjacent weights if possible, as nibbles."""
        left = [(weight, plane) for weight in sorted(self.waiting) for plane in self.waiting[weight]]
        result = []
        while left:
            weight, plane = left.pop(0)
            partner = next(
                (i for step in (1, 0) for i, (other, _) in enumerate(left) if other == weight + step), None
            )
            if partner is None:
                word = self.emit.folded(NIBBLES, 2, self._pairs(plane))
                result.append(Field(weight, word, 4))
                continue
            other_weight, other = left.pop(partner)
            if other_weight == weight:
                result.append(Field(weight, self._sum_of_pairs(self._pairs(plane), self._pairs(other)), 8))
            else:
                result.append(Field(weight, self._swapped(plane, other), 12))
        return result

    def _pairs(self, plane: Value) -> Value:
        """2-bit fields: how many of the two bits are set."""
        return self.emit(plane - self.emit.half(PAIRS, plane, 1))

    def _sum_of_pairs(self, first: Value, second: Value) -> Value:
        """Nibbles: the sum of all 2-bit fields of two words."""
        emit = self.emit
        lower = emit(emit.half(NIBBLES, first) + emit.half(NIBBLES, second))
        return emit(lower + emit(emit.half(NIBBLES, first, 2) + emit.half(NIBBLES, second, 2)))

    def _swapped(self, low: Value, high: Value) -> Value:
        """Nibbles of low + 2*high: the odd bits of `low` and the even bits of `high` change places."""
        emit, one = self.emit, self.emit.constant(1)
        swap = emit.half(PAIRS, emit(high ^ (low >> one)))
        return self._sum_of_pairs(emit(low ^ (swap << one)), emit(high ^ swap))

    def _joined(self, fields: Sequence[Field], limit: int) -> list[Field]:
        """Fields added into each other as long as none exceeds the limit."""
        result: list[Field] = []
        for field in sorted(fields, key=lambda field: field.weight):
            for i, into in enumerate(result):
                shift = field.weight - into.weight
                most = into.most + (field.most << shift)
                if most <= limit:
                    result[i] = Field(into.weight, self.emit(into.word + self._shifted(field, shift)), most)
                    break
            else:
                result.append(field)
        return result

    def _shifted(self, field: Field, shift: int) -> Value:
        return field.word << self.emit.constant(shift) if shift else field.word


def count_differences(emit: Emitter, difference: Callable[[int], Value], count: int) -> list[Field]:
    """Words whose bytes add up to the number of bits that differ in `count` words; difference(i) is the
    exclusive-or of the stored words i."""
    planes = Planes(emit)
    for first, size in blocks(count):
        planes.add_block(size, lambda i, first=first: difference(first + i))
    return planes.bytes()


def total(emit: Emitter, fields: Sequence[Field]) -> Value:
    """The sum of all bytes of the fields (see `Planes.bytes`), in 16-bit halves first, as four bytes may sum
    to more than one holds."""
    result = None
    for field in fields:
        halves = emit.folded(HALVES, 8, field.word)
        part = halves << emit.constant(field.weight) if field.weight else halves
        result = part if result is None else emit(result + part)
    assert result is not None
    return emit.half(0xFFFF, emit(result + (result >> emit.constant(16))))
