# SPDX-License-Identifier: Apache-2.0
"""Layouts: strides, halos, views."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bnncc.lowering.geometry import (
    MAX_RANK,
    broadcast,
    canonical,
    channel_slice,
    inner_view,
    reshaped,
    transposed,
    turns,
)
from bnncc.plan.kernel import Window
from bnncc.plan.layout import Element, Halo, Layout, words


@pytest.mark.parametrize("element", Element)
def test_elements_are_called_as_they_are_stored(element: Element) -> None:
    kinds = {"f": "float", "i": "int", "u": "uint"}
    packed = {"bool": "bool", "bit": "uint32"}
    name = str(element.value)
    assert element.dtype == (packed.get(name) or kinds[name[0]] + name[1:])
    assert element.bytes == np.dtype(element.dtype).itemsize


def test_words_of_channels() -> None:
    assert [words(channels) for channels in (1, 31, 32, 33, 64, 65)] == [1, 1, 1, 2, 2, 3]


def test_halos() -> None:
    one, other = Halo(1, 5, 2, 7), Halo(4, 3, 6, 1)
    assert one.union(other) == other.union(one) == Halo(4, 5, 6, 7)
    assert not Halo()
    assert all(Halo(*(int(side == i) for i in range(4))) for side in range(4))


def test_packed_with_a_halo() -> None:
    layout = Layout.packed(Element.F32, (2, 4, 5, 3), Halo(1, 2, 3, 4))
    assert layout.strides == (8 * 11 * 3, 11 * 3, 3, 1)
    assert layout.offset == 11 * 3 + 2 * 3
    assert layout.extent == 2 * 8 * 11 * 3
    assert not layout.is_contiguous


def test_a_part_of_a_buffer_is_contiguous_too() -> None:
    part = channel_slice(Layout.packed(Element.F32, (2, 4, 5, 3)), 0, 1, 1)
    assert part is not None and part.offset == 60 and part.is_contiguous


@pytest.mark.parametrize("halo_bit", [0, 1])
def test_sums_and_their_neighbours_take_turns_row_by_row(halo_bit: int) -> None:
    layout = Layout.three_word((2, 3, 4, 64), Halo(1, 2, 1, 1), halo_bit)
    assert layout.strides == (140, 28, 2, 1) and layout.sums_apart == 14
    assert layout.offset == 28 + 2 * 2 and layout.extent == 280 and layout.bytes == 1120
    assert layout.stores_complements == bool(halo_bit) and layout.form != "plain"
    plain = Layout.packed(Element.BIT, (2, 3, 4, 64), Halo(1, 2, 1, 1))
    assert plain.sums_apart == 0 and not plain.stores_complements


def test_bits_are_packed_in_words_along_the_channels() -> None:
    layout = Layout.packed(Element.BIT, (1, 2, 3, 33))
    assert layout.depth == 2 and layout.strides == (12, 6, 2, 1) and layout.bytes == 48
    assert layout.is_contiguous


def test_ranks_become_four() -> None:
    assert canonical(()) == (1, 1, 1, 1)
    assert canonical((7,)) == (1, 1, 1, 7)
    assert canonical((2, 7)) == (2, 1, 1, 7)
    assert canonical((2, 5, 7)) == (2, 1, 5, 7)


def test_operands_align_at_the_right() -> None:
    matrix = Layout.packed(Element.F32, canonical((5, 7)))
    operand = broadcast(matrix, 2, 4)
    assert operand.shape == (1, 1, 5, 7) and operand.strides[2] == 7
    image = broadcast(Layout.packed(Element.F32, (2, 4, 5, 1)), 4, 4)
    assert image.shape == (2, 4, 5, 1)
    number = broadcast(Layout.packed(Element.F32, canonical(())), 0, 4)
    assert number.shape == (1, 1, 1, 1) and number.strides == (0, 0, 0, 1)


def test_transposed_views_keep_the_memory() -> None:
    layout = Layout.packed(Element.F32, (1, 3, 4, 5))
    view = transposed(layout, 4, (0, 2, 3, 1))
    assert view.shape == (1, 4, 5, 3) and view.strides == (60, 5, 1, 20)
    assert transposed(view, 4, (0, 3, 1, 2)) == layout


def test_reshaped_views() -> None:
    layout = Layout.packed(Element.F32, (1, 2, 3, 4))
    assert reshaped(layout, (1, 24)) == Layout.packed(Element.F32, (1, 1, 1, 24))
    assert reshaped(transposed(layout, 4, (0, 3, 1, 2)), (1, 24)) is None
    assert reshaped(Layout.packed(Element.F32, (1, 2, 3, 4), Halo(1, 1, 1, 1)), (1, 24)) is None
    pixel = transposed(Layout.packed(Element.F32, (1, 1, 1, 9)), 4, (0, 3, 1, 2))
    assert reshaped(pixel, (1, 9)) == Layout.packed(Element.F32, (1, 1, 1, 9))
    later = channel_slice(Layout.packed(Element.F32, (2, 2, 3, 4)), 0, 1, 1)
    assert later is not None
    turned = reshaped(later, (1, 24))
    assert turned is not None and turned.offset == 24


def test_packed_bits_are_reshaped_only_at_whole_words() -> None:
    assert reshaped(Layout.packed(Element.BIT, (1, 2, 2, 64)), (1, 256)) is not None
    assert reshaped(Layout.packed(Element.BIT, (1, 2, 2, 48)), (1, 192)) is None
    assert reshaped(Layout.packed(Element.BIT, (1, 1, 2, 48)), (1, 1, 1, 96)) is None
    assert reshaped(Layout.packed(Element.BIT, (1, 1, 1, 96)), (1, 1, 2, 48)) is None
    assert reshaped(Layout.packed(Element.BIT, (1, 2, 2, 48)), (1, 1, 4, 48)) is not None


def test_slices_of_packed_channels() -> None:
    bits = Layout.packed(Element.BIT, (1, 2, 2, 96))
    part = channel_slice(bits, 3, 32, 64)
    assert part is not None and part.offset == 1 and part.depth == 2
    assert channel_slice(bits, 3, 16, 64) is None
    assert channel_slice(bits, 3, 16, 80) is None
    assert channel_slice(bits, 3, 32, 20) is None
    rest = channel_slice(Layout.packed(Element.BIT, (1, 2, 2, 80)), 3, 64, 16)
    assert rest is not None and rest.offset == 2 and rest.depth == 1
    row = channel_slice(Layout.packed(Element.F32, (1, 4, 2, 3)), 1, 2, 2)
    assert row is not None and row.offset == 12 and row.shape == (1, 2, 2, 3)


def test_slices_of_channels_keep_their_halo() -> None:
    image = Layout.packed(Element.F32, (1, 4, 2, 3), Halo(1, 1, 1, 1))
    for axis, halo in ((3, image.halo), (2, Halo()), (1, Halo())):
        part = channel_slice(image, axis, 1, 1)
        assert part is not None and part.halo == halo
        assert part.offset == image.offset + image.strides[axis]


def test_what_lies_around_a_part_of_an_image_is_its_halo() -> None:
    view = inner_view(Layout.packed(Element.F32, (2, 6, 7, 3)), (2, 3, 2, 3), (0, 1, 3, 0))
    assert view.offset == 21 + 3 * 3 and view.strides == (126, 21, 3, 1)
    assert view.halo == Halo(1, 3, 2, 2)


def test_a_window_knows_its_valid_taps() -> None:
    window = Window(3, 3, stride_y=2, stride_x=2, top=1, left=1)
    assert window.valid_rows(0, 4) == (False, True, True)
    assert window.valid_rows(1, 4) == (True, True, True)
    assert window.valid_columns(1, 3) == (True, True, False)


TURNS = {
    "neighbours": ((2, 3, 4, 5, 6), (0, 1, 3, 2, 4), 1),
    "ones between": ((2, 1, 3, 1, 4), (3, 0, 2, 1, 4), 0),
    "as it is": ((2, 3, 4, 5, 6), (0, 1, 2, 3, 4), 1),
    "four runs": ((2, 3, 4, 5, 6), (4, 2, 3, 0, 1), 1),
    "five runs": ((2, 3, 4, 5, 6), (4, 2, 0, 3, 1), 4),
    "pixel shuffle": ((2, 3, 2, 2, 4, 5), (0, 1, 4, 2, 5, 3), 2),
}


@pytest.mark.parametrize(("shape", "order", "most"), TURNS.values(), ids=TURNS)
def test_turns(shape: tuple[int, ...], order: tuple[int, ...], most: int):
    """Of at most four dimensions each, no more of them than it takes, and together the transposition."""
    numbers = np.arange(math.prod(shape)).reshape(shape)
    found = turns(shape, order)
    assert len(found) <= max(most, 1) and all(len(part) <= MAX_RANK for part, _ in found)
    row = numbers.reshape(-1)
    for part, permutation in found:
        row = row.reshape(part).transpose(permutation).reshape(-1)
    np.testing.assert_array_equal(row, numbers.transpose(order).reshape(-1))
