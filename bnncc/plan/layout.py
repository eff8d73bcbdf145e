# SPDX-License-Identifier: Apache-2.0
"""How a tensor lies in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

WORD_BITS = 32
"""Packed values are stored in uint32 words; channel c is bit c % 32 of word c // 32."""


Form = Literal["plain", "three-word", "three-word complement"]
"""What is stored of packed bits: the bits, or sums of neighbours, of the bits or of their complements (see
Layout)."""


class Element(StrEnum):
    """What one stored element is."""

    F32 = "f32"
    I32 = "i32"
    U8 = "u8"
    I8 = "i8"
    BOOL = "bool"
    """A byte, 0 or 1. Like the types below it, only opaque kernels and copies read and write it."""
    F16 = "f16"
    F64 = "f64"
    I16 = "i16"
    I64 = "i64"
    U16 = "u16"
    U32 = "u32"
    U64 = "u64"
    BIT = "bit"
    """One bit a value, packed along the channels in uint32 words. Of a bipolar tensor, 1 means +1
    and 0 means -1; of a mask (the second plane of a ternary tensor), 1 means non-zero. The bits of
    the last word beyond the channels are 0."""

    @property
    def dtype(self) -> str:
        """The NumPy and TVM name of the stored type."""
        return _DTYPES[self.value]

    @property
    def bytes(self) -> int:
        """Bytes of one stored element (of one word, for packed bits)."""
        return _BYTES[_DTYPES[self.value].lstrip("abcdefghijklmnopqrstuvwxyz") or "8"]


_DTYPES = {
    "f32": "float32",
    "i32": "int32",
    "u8": "uint8",
    "i8": "int8",
    "bit": "uint32",
    "bool": "bool",
    "f16": "float16",
    "f64": "float64",
    "i16": "int16",
    "i64": "int64",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
}
_BYTES = {"8": 1, "16": 2, "32": 4, "64": 8}


@dataclass(frozen=True)
class Halo:
    """Rows and columns around an image that belong to its buffer, so a convolution need not test."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0

    def union(self, other: Halo) -> Halo:
        """The smallest halo that contains both."""
        return Halo(
            max(self.top, other.top),
            max(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def __bool__(self) -> bool:
        return any((self.top, self.left, self.bottom, self.right))


@dataclass(frozen=True)
class Layout:
    """A four-dimensional tensor [n, h, w, c] seen through strides.

    Element [n, h, w, c] is at `offset + n*strides[0] + h*strides[1] + w*strides[2] + c*strides[3]`
    in units of the stored element. For packed bits the last dimension counts words: channel c is in
    word `... + (c // 32) * strides[3]`, and `strides[3]` is 1. A halo lies around the image within the
    same strides: pixel [-1, -1] exists if halo.top and halo.left are at least 1.

    A dense activation [n, k] is [n, 1, 1, k]. A transposed or sliced tensor is another Layout over
    the same buffer.

    Of packed bits in "three-word" form, whose halo holds zeros, sums of pixels side by side are stored, from
    which a convolution counts three taps by a full adder. With b[x] the words of pixel x, u[x] = b[x]^b[x+1]
    is where the plain form has b[x], and s[x] = b[x]^b[x+1]^b[x+2] lies `sums_apart` words after it: the two
    take turns, row by row. Those of the last pixel of a row, its halo included, mean nothing. Of complements,
    the halo's zeros stand for ones.
    """

    element: Element
    shape: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]
    offset: int = 0
    halo: Halo = Halo()
    form: Form = "plain"

    @staticmethod
    def three_word(shape: tuple[int, int, int, int], halo: Halo, halo_bit: int = 0) -> Layout:
        """Packed bits [n, h, w, c] in three-word form, each image surrounded by its halo, which has at least
        one column on the left: that of the first pixel's sums. halo_bit: what the halo stands for."""
        assert halo.left > 0
        plain = Layout.packed(Element.BIT, shape, halo)
        _, row, pixel, _ = plain.strides
        strides = (2 * plain.strides[0], 2 * row, pixel, 1)
        form: Form = "three-word complement" if halo_bit else "three-word"
        return Layout(Element.BIT, shape, strides, halo.top * 2 * row + halo.left * pixel, halo, form)

    @staticmethod
    def packed(element: Element, shape: tuple[int, int, int, int], halo: Halo = Halo()) -> Layout:
        """Row-major [n, h, w, c], each image surrounded by its halo, no gaps."""
        n, h, w, c = shape
        del n
        depth = words(c) if element is Element.BIT else c
        row = (w + halo.left + halo.right) * depth
        image = (h + halo.top + halo.bottom) * row
        offset = halo.top * row + halo.left * depth
        return Layout(element, shape, (image, row, depth, 1), offset, halo)

    @property
    def depth(self) -> int:
        """Stored elements per pixel: channels, or words of packed channels."""
        return words(self.shape[3]) if self.element is Element.BIT else self.shape[3]

    @property
    def sums_apart(self) -> int:
        """Words from u to s of a pixel in three-word form; 0 in the plain one."""
        return 0 if self.form == "plain" else self.strides[1] // 2

    @property
    def stores_complements(self) -> bool:
        """Whether a stored bit is 1 where the tensor's is 0."""
        return self.form == "three-word complement"

    @property
    def extent(self) -> int:
        """Stored elements from the start of the buffer to the end of the last halo pixel."""
        n, h, w, _ = self.shape
        corner = (n - 1, h - 1 + self.halo.bottom, w - 1 + self.halo.right, self.depth - 1)
        last = self.offset + sum(i * s for i, s in zip(corner, self.strides, strict=True))
        return 1 + last + self.sums_apart

    @property
    def bytes(self) -> int:
        """Bytes of the buffer that this layout needs."""
        return self.extent * self.element.bytes

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie row-major without halo or gaps."""
        return replace(self, offset=0) == Layout.packed(self.element, self.shape)


def words(channels: int) -> int:
    """uint32 words that hold one bit per channel."""
    return -(-channels // WORD_BITS)
