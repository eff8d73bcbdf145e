# SPDX-License-Identifier: Apache-2.0
"""Values of a domain as upstream tensors: planes of bits, packed along the last dimension.

A tensor [..., C] of a domain is one or more planes, each i32 [..., ceil(C/32)] where bit b of word g is
channel 32 g + b and bits beyond C are 0; or, on the way, i1 [..., C]. A plane is converted when it is asked
for in the other form, once.

    bipolar    1 for +1
    spike      the value
    ternary    the sign, 1 for +1, then the mask, 1 where it is not 0
    level      bit b of value - lowest in plane b
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects.builtin import TensorType, i1, i32
from xdsl.ir import Attribute, SSAValue

from bnncc.dialect.types import Bipolar, Level, Spike, Ternary, shape_of
from bnncc.linalg import builders as b
from bnncc.linalg.scalars import number_of_bits
from bnncc.plan.bits import pack_words
from bnncc.plan.layout import WORD_BITS
from bnncc.plan.layout import words as words_for

PACK = "pack_bits"
"""The `library_call` of what makes words of bits."""


def plane_count(element: Attribute) -> int:
    """How many planes the values of a domain take."""
    match element:
        case Ternary():
            return 2
        case Level():
            return element.planes
        case _:
            return 1


def plane_type(shape: Sequence[int]) -> TensorType:
    """What a plane of a tensor of this shape is when it is packed."""
    return TensorType(i32, [*shape[:-1], words_for(shape[-1])])


def bits_of(array: np.ndarray, element: Attribute) -> list[np.ndarray]:
    """The planes of values that are known now, as booleans."""
    match element:
        case Bipolar():
            return [array > 0]
        case Spike():
            return [array != 0]
        case Ternary():
            return [array > 0, array != 0]
        case Level():
            return [(array.astype(np.int32) - element.lowest) >> p & 1 != 0 for p in range(element.planes)]
    raise AssertionError(element)


class Plane:
    """One bit for each element of a tensor of `shape`, in one form or in both."""

    def __init__(
        self,
        shape: Sequence[int],
        bits: SSAValue | None = None,
        words: SSAValue | None = None,
        known: np.ndarray | None = None,
    ):
        self.shape = tuple(shape)
        self._bits, self._words, self._known = bits, words, known

    @staticmethod
    def known(bits: np.ndarray) -> Plane:
        """From booleans."""
        return Plane(bits.shape, known=pack_words(bits))

    @staticmethod
    def full(shape: Sequence[int], bit: bool) -> Plane:
        """All bits alike."""
        row = pack_words(np.full(shape[-1], bit))
        everywhere = np.broadcast_to(row, (*shape[:-1], row.size))
        return Plane(shape, known=everywhere)

    @property
    def bits(self) -> SSAValue:
        """i1 of the tensor's shape."""
        if self._bits is None:
            self._bits = unpack(self.words, self.shape)
        return self._bits

    @property
    def words(self) -> SSAValue:
        """i32 [..., ceil(C/32)]."""
        if self._words is None:
            if self._known is not None:
                self._words = b.words(self._known)
            else:
                assert self._bits is not None
                self._words = pack(self._bits)
        return self._words

    @property
    def is_packed(self) -> bool:
        """Whether the words are there already."""
        return self._words is not None or self._known is not None

    def moved(
        self, shape: Sequence[int], by_words: bool, move: Callable[[SSAValue, Sequence[int]], SSAValue]
    ) -> Plane:
        """The bits at other places: `move` takes the tensor and the shape that it shall have.

        by_words: whether moving whole words does."""
        if by_words and self.is_packed:
            return Plane(shape, words=move(self.words, (*shape[:-1], words_for(shape[-1]))))
        return Plane(shape, bits=move(self.bits, shape))


def pack(bits: SSAValue) -> SSAValue:
    """i1 [..., C] as words."""
    *outer, channels = shape_of(bits)
    count = words_for(channels)
    width = WORD_BITS if count > 1 else channels
    whole = b.surrounded(bits, [0] * (len(outer) + 1), [*[0] * len(outer), count * width - channels], 0)
    rank = len(outer)
    groups = [[d] for d in range(rank)] + [[rank, rank + 1]]
    split = b.expand(whole, groups, (*outer, count, width))
    names = b.loops(rank + 2)

    def shift_in(bit: SSAValue, word: SSAValue) -> list[SSAValue]:
        place = arith.IndexCastOp(b.here(rank + 1), i32).result
        return [arith.OrIOp(word, arith.ShLIOp(arith.ExtUIOp(bit, i32).result, place).result).result]

    start = b.filled((*outer, count), 0)
    return b.generic([split], [start], names, [names, names[:-1]], names[-1:], shift_in, PACK)[0]


def unpack(words: SSAValue, shape: Sequence[int]) -> SSAValue:
    """The i1 tensor of this shape that was packed."""
    *outer, count = shape_of(words)
    rank, width = len(outer), WORD_BITS if count > 1 else shape[-1]
    names = b.loops(rank + 2)

    def shift_out(word: SSAValue, _: SSAValue) -> list[SSAValue]:
        place = arith.IndexCastOp(b.here(rank + 1), i32).result
        return [arith.TruncIOp(arith.ShRUIOp(word, place).result, i1).result]

    start = b.empty((*outer, count, width), i1)
    split = b.generic([words], [start], names, [names[:-1], names], (), shift_out)[0]
    whole = b.collapse(split, [[d] for d in range(rank)] + [[rank, rank + 1]])
    return b.extract(whole, [0] * (rank + 1), shape)


class Planes:
    """A value of a domain."""

    def __init__(self, element: Attribute, planes: Sequence[Plane]):
        assert len(planes) == plane_count(element)
        self.element, self.planes = element, tuple(planes)

    @staticmethod
    def of_words(element: Attribute, shape: Sequence[int], words: Sequence[SSAValue]) -> Planes:
        """From packed planes, as functions and loops hand them over."""
        return Planes(element, [Plane(shape, words=word) for word in words])

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape in elements."""
        return self.planes[0].shape

    def numbers(self, kind: Attribute) -> SSAValue:
        """The values as numbers of an arithmetic type, f32 or a signless integer."""
        bits = [plane.bits for plane in self.planes]
        return b.elementwise(
            bits, self.shape, [kind], lambda *values: [number_of_bits(self.element, values, kind)]
        )[0]

    def moved(
        self,
        shape: Sequence[int],
        by_words: bool,
        move: Callable[[SSAValue, Sequence[int]], SSAValue],
    ) -> Planes:
        """Each plane moved (`Plane.moved`)."""
        return Planes(self.element, [plane.moved(shape, by_words, move) for plane in self.planes])


Value = SSAValue | Planes
"""What a bnn value has become: a tensor of numbers, or planes."""
